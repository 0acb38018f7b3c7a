"""Zip archives made readable. Nothing in an archive decides where anything is written, nor how much."""

from __future__ import annotations

import fnmatch
import shutil
import stat
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from trunkline.errors import EngineError, SourceError
from trunkline.warehouse.headers import most_unpacked

MOST_MEMBERS = 10_000
_SPARE = 1024**3  # bytes of the disk that are left alone
_ARCHIVES = (".zip", ".tar", ".7z", ".rar", ".tgz")
_BROKEN = (zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError, EOFError, ValueError, UnicodeError)


def unpack(archive: Path, folder: Path, *, members: str | None = None, limit: int | None = None) -> list[Path]:
    """The files of a zip archive below `folder`, in their order; with `members` those whose names match this glob.

    They are numbered: a member's own path is never used. Raises `SourceError` for an archive that is broken, encrypted,
    holds links or other archives, more than 10,000 files, or unpacks to more than `limit` bytes (without it: to more
    than a GiB and 200 times its size), `EngineError` when the disk has no room.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            chosen = _chosen(archive, opened, members)
            _check_size(archive, sum(info.file_size for info in chosen), folder, limit)
            return list(_unpacked(opened, chosen, folder))
    except _broken() as exc:
        raise SourceError(f"{archive} is not a readable zip archive: {exc}") from exc
    except OSError as exc:
        raise EngineError(f"cannot unpack {archive}: {exc.strerror or exc}", hint="is there room on the disk?") from exc


def _broken() -> tuple[type[Exception], ...]:
    """What Python's zipfile raises for archives that are broken in one way or another."""
    import lzma
    import zlib

    return (*_BROKEN, zlib.error, lzma.LZMAError)


def _chosen(archive: Path, opened: zipfile.ZipFile, members: str | None) -> list[zipfile.ZipInfo]:
    found = [info for info in opened.infolist() if not (info.is_dir() or _of_no_interest(info.filename))]
    if members:
        found = [info for info in found if fnmatch.fnmatchcase(info.filename, members)]
    if not found:
        which = f"that match {members!r}" if members else "at all"
        raise SourceError(f"{archive} holds no files {which}")
    if len(found) > MOST_MEMBERS:
        raise SourceError(
            f"{archive} holds {len(found):,} files; at most {MOST_MEMBERS:,} are read from one archive",
            hint="unpack it, and let `path` name the files; or name those that count by `members`",
        )
    for info in found:
        _check_member(archive, info)
    return found


def _check_member(archive: Path, info: zipfile.ZipInfo) -> None:
    name = info.filename
    if info.flag_bits & 0x1:
        raise SourceError(f"{archive}: {name!r} is encrypted", hint="unpack it, and let `path` name the files")
    if stat.S_ISLNK(info.external_attr >> 16):
        raise SourceError(f"{archive}: {name!r} is a link, and has no rows", hint="name those that count by `members`")
    if PurePosixPath(name.lower()).suffix in _ARCHIVES:
        raise SourceError(f"{archive}: {name!r} is an archive in an archive", hint="unpack the outer one")


def _check_size(archive: Path, unpacked: int, folder: Path, limit: int | None) -> None:
    packed = archive.stat().st_size
    if unpacked > most_unpacked(packed, limit):
        raise SourceError(
            f"{archive} of {packed:,} bytes would unpack to {unpacked:,}: it is not read",
            hint="a decompression bomb? If not, set `unpacked_limit` in the source",
        )
    folder.mkdir(parents=True, exist_ok=True)
    if unpacked > shutil.disk_usage(folder).free - _SPARE:
        raise EngineError(
            f"{archive} would unpack to {unpacked:,} bytes, for which the disk has no room",
            hint="make room, or pack its files as .gz, which are read as they are",
        )


def _of_no_interest(name: str) -> bool:
    """What file managers leave in archives."""
    return name.startswith("__MACOSX/") or PurePosixPath(name).name in (".DS_Store", "Thumbs.db", "desktop.ini")


def _unpacked(opened: zipfile.ZipFile, chosen: list[zipfile.ZipInfo], folder: Path) -> Iterator[Path]:
    for number, info in enumerate(chosen):
        name = PurePosixPath(info.filename.replace("\\", "/")).name.replace("\0", "")[-100:]
        place = folder / str(number) / (name if name not in ("", ".", "..") else "member")
        place.parent.mkdir(parents=True)
        with opened.open(info) as packed, place.open("wb") as unpacked:
            shutil.copyfileobj(packed, unpacked, 1 << 20)  # never more than it declares: zipfile stops there
        yield place
