"""Sums over the processes that fit one model together, before their framework has connected them.

LightGBM offers no sum to its callers, yet what is made of the target (the order of categories, balanced weights) must
be the same everywhere. So for a moment rank 0 listens where LightGBM will, and adds what the others send.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from trunkline.errors import TransientError

if TYPE_CHECKING:
    import numpy.typing as npt

    from trunkline.training.protocol import Peers

__all__ = ["total"]

_PATIENCE = 120.0  # seconds; LightGBM's own
_PAUSE = 0.05  # seconds between two attempts to connect
_HEAD = struct.Struct("<QI")  # bytes of the content, rank


def total(values: Sequence[npt.NDArray[np.float64]], peers: Peers | None) -> list[npt.NDArray[np.float64]]:
    """The arrays, each the sum of those of all peers, added in the order of their ranks; without peers, as they are.

    All peers bring as many arrays of the same shapes. `peers.settings` holds `machines`, "host:port,host:port,…" by
    rank. Raises TransientError for peers that do not come within two minutes, or go.
    """
    if peers is None or peers.world == 1 or not values:
        return [np.asarray(array, np.float64) for array in values]
    flat = np.concatenate([np.asarray(array, np.float64).ravel() for array in values])
    host, _, port = peers.settings["machines"].split(",")[0].rpartition(":")
    try:
        found = _gather(flat, peers, int(port)) if peers.rank == 0 else _send(flat, peers, host, int(port))
    except OSError as exc:
        raise TransientError(f"the {peers.world} processes of the training lost each other: {exc}") from exc
    ends = np.cumsum([np.size(array) for array in values])[:-1]
    return [part.reshape(np.shape(array)) for part, array in zip(np.split(found, ends), values, strict=True)]


def _gather(mine: npt.NDArray[np.float64], peers: Peers, port: int) -> npt.NDArray[np.float64]:
    """Rank 0: take from each and add. It listens no more when it answers, so none can meet a listener of the past."""
    parts, others = {0: mine}, []
    with socket.create_server(("", port), backlog=peers.world) as server:
        server.settimeout(_PATIENCE)
        while len(parts) < peers.world:
            connection = server.accept()[0]
            connection.settimeout(_PATIENCE)
            content, rank = _receive(connection)
            parts[rank] = np.frombuffer(content, np.float64)
            others.append(connection)
    found: npt.NDArray[np.float64] = np.sum([parts[rank] for rank in sorted(parts)], axis=0)
    for connection in others:
        with connection:
            connection.sendall(_HEAD.pack(found.nbytes, 0) + found.tobytes())
            connection.recv(1)  # until it has closed: only then is the port free again
    return found


def _send(mine: npt.NDArray[np.float64], peers: Peers, host: str, port: int) -> npt.NDArray[np.float64]:
    with _connect(host, port) as connection:
        connection.sendall(_HEAD.pack(mine.nbytes, peers.rank) + mine.tobytes())
        return np.frombuffer(_receive(connection)[0], np.float64)


def _connect(host: str, port: int) -> socket.socket:
    until = time.monotonic() + _PATIENCE
    while True:
        try:
            return socket.create_connection((host, port), timeout=_PATIENCE)
        except ConnectionRefusedError:  # rank 0 does not listen yet
            if time.monotonic() > until:
                raise
            time.sleep(_PAUSE)


def _receive(connection: socket.socket) -> tuple[bytes, int]:
    size, rank = _HEAD.unpack(_exactly(connection, _HEAD.size))
    return _exactly(connection, size), rank


def _exactly(connection: socket.socket, size: int) -> bytes:
    content = bytearray()
    while len(content) < size:
        piece = connection.recv(min(size - len(content), 1 << 20))
        if not piece:
            raise ConnectionError("one of them went away")
        content += piece
    return bytes(content)
