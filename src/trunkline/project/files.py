"""Files of the project: atomic writes, and content digests remembered by size and time stamp."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from trunkline.errors import EngineError, IntegrityError, ProjectError


@dataclass(frozen=True)
class FileState:
    """One file on disk: path relative to the project, size in bytes, BLAKE3 digest."""

    path: str
    size: int
    digest: str


def write_atomic(path: Path, text: str) -> None:
    """Write a file so that readers, and a kill at any moment, see the old or the new text and nothing between.

    Raises `EngineError` if the disk refuses.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as out:
                out.write(text)
                if path.exists():
                    os.fchmod(out.fileno(), path.stat().st_mode & 0o777)  # else only we could read it afterwards
            os.replace(name, path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name)
            raise
    except OSError as exc:
        hint = "make room or give write access, and run the same command again"
        raise EngineError(f"cannot write the file: {exc.strerror}", file=path, hint=hint) from exc


def append_whole(descriptor: int, content: bytes) -> None:
    """All of `content`, or nothing of it, to the end of a file that was opened with O_APPEND; others may do the same.

    Raises `OSError` if the disk refuses: half a line would make all that comes after it unreadable.
    """
    begin, written = None, 0
    try:
        while written < len(content):
            written += os.write(descriptor, content[written:])
            if begin is None:
                begin = os.lseek(descriptor, 0, os.SEEK_CUR) - written
    except OSError:
        if begin is not None:
            os.ftruncate(descriptor, begin)
        raise


def digests(root: Path, paths: Iterable[Path]) -> list[FileState]:
    """Size and content digest of each file; unchanged files (same size, inode time) are not read again."""
    cache_file = root / ".trunkline" / "cache" / "files.json"
    try:
        cache = json.loads(cache_file.read_text("utf-8"))
    except (FileNotFoundError, ValueError):
        cache = {}
    cache = cache if isinstance(cache, dict) else {}
    states = []
    changed = False
    for path in paths:
        name = path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)
        stat = path.stat()
        stamp = [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]
        known = cache.get(name)
        if not known or known[0] != stamp:
            cache[name] = known = [stamp, content_digest(path)]
            changed = True
        states.append(FileState(name, stat.st_size, known[1]))
    if changed:
        write_atomic(cache_file, json.dumps(cache))
    return states


def check_content(path: Path, digest: str) -> None:
    """Raise `IntegrityError` unless the file is there and holds what `digest` says. Always reads it."""
    if not path.is_file() or content_digest(path) != digest:
        raise IntegrityError(
            f"{path} is not the file that was made", hint="delete its folder and `trunkline run`: it is made again"
        )


def content_digest(path: Path) -> str:
    """The BLAKE3 digest of a file's bytes, in hex."""
    from blake3 import blake3

    total, buffer = blake3(max_threads=blake3.AUTO), memoryview(bytearray(4 << 20))
    try:
        with path.open("rb", buffering=0) as file:  # not mapped: mapped pages would count as our memory
            while size := file.readinto(buffer):
                total.update(buffer[:size])
        return total.hexdigest()
    except OSError as exc:
        raise ProjectError(f"cannot read the file: {exc.strerror}", file=path) from exc
