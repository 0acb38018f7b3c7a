"""The vault: where the sealed test part lies encrypted, and its key.

The key is not in the project: it comes from `TRUNKLINE_VAULT_KEY` (32 bytes, base64) or from a file of mode 0600
under the user's configuration folder, made on first use. Training code is never handed it: it runs in a process of its
own, to which key and vault are refused (`project/apart.py`).
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import os
import stat
from collections.abc import Mapping
from pathlib import Path

from trunkline.errors import UserError
from trunkline.project.hidden import KEY, key_folder, vault_folder
from trunkline.warehouse.protocol import SEALED_KEY_BYTES


def sealed_file(state: Path, name: str, dataset_id: str) -> Path:
    """Where the sealed part of a dataset lies."""
    return vault_folder(state) / name / f"{dataset_id[:16]}.parquet"


def vault_key(environ: Mapping[str, str]) -> bytes:
    """The key, made if there is none yet. Raises `UserError` for a malformed or a readable-by-others key."""
    text = environ.get(KEY)
    if text:
        return _decode(text, KEY)
    path = key_folder(environ) / "vault.key"
    if not path.exists():
        _make(path)
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise UserError(f"{path} can be read by others", hint=f"chmod 600 {path}")
    return _decode(path.read_text("ascii").strip(), str(path))


def _make(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="ascii") as out:
        out.write(base64.b64encode(os.urandom(SEALED_KEY_BYTES)).decode())
    try:
        with contextlib.suppress(FileExistsError):  # two first uses at once: the first key stays
            os.link(temporary, path)
    finally:
        os.unlink(temporary)


def _decode(text: str, origin: str) -> bytes:
    try:
        key = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as exc:
        raise UserError(f"{origin} is not base64", hint="make one with `openssl rand -base64 32`") from exc
    if len(key) != SEALED_KEY_BYTES:
        raise UserError(f"{origin} holds {len(key)} bytes, not {SEALED_KEY_BYTES}", hint="`openssl rand -base64 32`")
    return key
