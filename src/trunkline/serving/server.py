"""Runs the application under granian: one supervising process, one or more workers.

Workers are spawned, not forked, so that nothing the supervisor has open (a warehouse, threads) reaches them. The
supervisor respawns a worker that dies, and calls `flush` every few seconds, which is where the prediction log is
drained into the warehouse; the workers never open the warehouse.
"""

from __future__ import annotations

import asyncio
import errno
import gc
import http.client
import json
import logging
import multiprocessing
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, cast

from granian import Granian
from granian.constants import HTTPModes, Interfaces
from granian.server.common import AbstractServer

from trunkline.errors import EngineError, TrunklineError
from trunkline.models.bundle import Bundle
from trunkline.serving.app import Application, Service

_log = logging.getLogger(__name__)

_Server = AbstractServer[Any]
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True)
class ServerConfig:
    """A service and where it answers. `port` 0 takes a free one; `sha256` of the service, if given, must match."""

    service: Service
    host: str = "127.0.0.1"
    port: int = 8000
    workers: int = 1
    flush_seconds: float = 3.0


@dataclass
class _Outcome:
    """What went wrong in the background; raised when the server has stopped."""

    errors: list[Exception] = field(default_factory=list)


def serve(
    config: ServerConfig,
    *,
    flush: Callable[[], None] | None = None,
    on_ready: Callable[[str], None] | None = None,
) -> None:
    """Serves until SIGINT or SIGTERM; to be called in the main thread, prints nothing.

    `on_ready(url)` is called in a thread when `/health` answers; if it raises, the server stops and the error is
    raised here. `flush` is called in a thread every `flush_seconds` and once more after the workers have ended and
    written everything; if it raises in between, it is logged and tried again, if the last call raises, it is raised
    here. Raises `EngineError` if the port is taken or the workers do not start, `IntegrityError` for a bundle that is
    not what it should be.
    """
    bundle = Bundle.open(config.service.bundle, expect_sha256=config.service.sha256)  # an error here has a clear text
    address, port = _free_address(config.host, config.port)
    config = replace(config, port=port, service=replace(config.service, sha256=bundle.sha256))
    outcome, stopped = _Outcome(), threading.Event()
    url = f"http://{_visible(config.host)}:{port}"
    with _signals_restored(), _spawning():
        server = _granian(config, address)
        threads = [threading.Thread(target=_announce, args=(url, on_ready, server, stopped, outcome), daemon=True)]
        if flush:
            threads.append(threading.Thread(target=_flush_often, args=(flush, config.flush_seconds, stopped)))
        for thread in threads:
            thread.start()
        try:
            _run(server, config)
        finally:
            stopped.set()
            for thread in threads:
                thread.join()
            if flush:
                flush()
    if outcome.errors:
        raise outcome.errors[0]


def _granian(config: ServerConfig, address: str) -> _Server:
    # uvloop is used where it is installed (granian's "auto").
    return Granian(
        target="trunkline.serving",
        address=address,
        port=config.port,
        interface=Interfaces.RSGI,
        workers=config.workers,
        http=HTTPModes.http1,
        websockets=False,
        log_enabled=False,
        respawn_failed_workers=True,
        workers_kill_timeout=10,
    )


def _run(server: _Server, config: ServerConfig) -> None:
    loader = partial(load_application, config.service, os.getpid())
    try:
        server.serve(target_loader=loader, wrap_loader=False)
    except SystemExit as exc:
        hint = "the last output of the worker, above, says why"
        raise EngineError("the server's worker died right after its start, more than once", hint=hint) from exc
    except OSError as exc:
        raise EngineError(f"the server cannot listen at {config.host}:{config.port}: {exc}") from exc


class _WorkerApplication(Application):
    """The application as the last thing of a worker process."""

    def __rsgi_del__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__rsgi_del__(loop)
        # A spawned process would now take its interpreter down under granian's own threads, which then abort it. A
        # forked one ends like this.
        os._exit(0)


def load_application(service: Service, server_pid: int) -> Callable[..., Any]:
    """Runs in each worker, before it listens."""
    threading.Thread(target=_end_with_server, args=(server_pid,), daemon=True).start()
    try:
        application = _WorkerApplication.load(service)
    except TrunklineError as exc:
        _log.error("%s", exc.what)  # the supervisor says that the worker ended
        raise SystemExit(1) from None
    gc.collect()
    gc.freeze()  # what is loaded stays: no later collection walks it in the middle of a request
    return cast("Callable[..., Any]", application)  # granian looks for `__rsgi__` on it


def _end_with_server(server_pid: int) -> None:
    """Ends this worker, orderly, when its supervisor was killed and can no longer end it."""
    while os.getppid() == server_pid:
        time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGTERM)


def _flush_often(flush: Callable[[], None], seconds: float, stopped: threading.Event) -> None:
    while not stopped.wait(seconds):
        try:
            flush()
        except Exception:  # noqa: BLE001  # the spool keeps the predictions; the next call, or the last one, takes them
            _log.warning("the prediction log could not be drained, it is tried again", exc_info=True)


def _announce(
    url: str,
    on_ready: Callable[[str], None] | None,
    server: _Server,
    stopped: threading.Event,
    outcome: _Outcome,
) -> None:
    if on_ready is None:
        return
    while not _answers(url):
        if stopped.wait(0.02):
            return
    try:
        on_ready(url)
    except Exception as exc:  # noqa: BLE001  # raised by `serve`
        outcome.errors.append(exc)
        server.signal_handler_interrupt()  # type: ignore[no-untyped-call]


def _answers(url: str) -> bool:
    """Whether `url` is answered, and by a worker of this very process."""
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=2)
    try:
        connection.request("GET", "/health")
        health = json.loads(connection.getresponse().read())
        return isinstance(health, dict) and health.get("server_pid") == os.getpid()
    except (OSError, http.client.HTTPException, ValueError):
        return False
    finally:
        connection.close()


def _free_address(host: str, port: int) -> tuple[str, int]:
    """IP address of `host` and `port`, or a free port for 0. Raises `EngineError` if it cannot be had.

    Asked without SO_REUSEPORT, which granian sets: two servers would otherwise share a port in silence.
    """
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            return str(address[0]), int(probe.getsockname()[1])
    except socket.gaierror as exc:
        raise EngineError(f"host {host!r} is not known here", hint="127.0.0.1, or 0.0.0.0 for all networks") from exc
    except OSError as exc:
        if exc.errno == errno.EADDRINUSE:
            hint = "stop what listens there, or choose another port (0 takes a free one)"
            raise EngineError(f"port {port} of {host} is taken", hint=hint) from exc
        raise EngineError(f"the server cannot listen at {host}:{port}: {exc.strerror}") from exc


def _visible(host: str) -> str:
    """`host` as a URL on this machine needs it."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"[{host}]" if ":" in host else host


@contextmanager
def _signals_restored() -> Iterator[None]:
    """Granian takes the signals over and keeps them."""
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _spawning() -> Iterator[None]:
    """Granian starts its workers by the start method that is set for the process."""
    before = multiprocessing.get_start_method(allow_none=True)
    multiprocessing.set_start_method("spawn", force=True)
    try:
        yield
    finally:
        multiprocessing.set_start_method(before, force=True)
