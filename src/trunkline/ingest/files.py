"""The `files` connector: which files a pattern means, their format, and archives made readable."""

from __future__ import annotations

import glob
import shutil
import zipfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Literal

from trunkline.errors import SourceError
from trunkline.project.sources import SourceTable

Format = Literal["csv", "ndjson", "parquet"]

_COMPRESSIONS = (".gz", ".zst", ".zip")
_FORMATS: dict[str, Format] = {
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "csv",
    ".ndjson": "ndjson",
    ".jsonl": "ndjson",
    ".json": "ndjson",
    ".parquet": "parquet",
    ".pq": "parquet",
}


def find(root: Path, table: SourceTable) -> list[Path]:
    """The files of a source, sorted by path. Raises `SourceError` at the source's line when there is none."""
    pattern = table.options.path
    found = [Path(p) for p in glob.glob(str(root / pattern), recursive=True)]
    files = sorted(path for path in found if path.is_file())
    if not files:
        nearby = (
            sorted(p.name for p in (root / pattern).parent.glob("*"))[:8]
            if "*" not in str(Path(pattern).parent)
            else []
        )
        seen = f"that folder holds: {', '.join(nearby)}" if nearby else f"looked in {(root / pattern).parent}"
        raise SourceError(
            f"source {table.key}: no file matches {pattern!r}", file=table.file, line=table.path_line, hint=seen
        )
    return files


def format_of(name: str, declared: str | None) -> Format:
    """The format of a file: as declared, else told by its suffix. Raises `SourceError` for an unknown one."""
    path = PurePosixPath(name.lower())
    while path.suffix in _COMPRESSIONS:
        path = path.with_suffix("")
    known: dict[str | None, Format] = {"csv": "csv", "ndjson": "ndjson", "parquet": "parquet"}
    if declared in known:
        return known[declared]
    if path.suffix not in _FORMATS:
        raise SourceError(f"{name}: the suffix tells no format", hint="say `format: csv`, `ndjson` or `parquet`")
    return _FORMATS[path.suffix]


def readable(files: Sequence[Path], scratch: Path, declared: str | None) -> dict[Format, list[str]]:
    """The files by format, as the warehouse can read them: members of zip archives are unpacked into `scratch`.

    The caller removes `scratch`. Raises `SourceError` for a broken archive.
    """
    by_format: dict[Format, list[str]] = {}
    for file in files:
        if file.suffix.lower() == ".zip":
            for member in _unzip(file, scratch):
                by_format.setdefault(format_of(member.name, declared), []).append(str(member))
        else:
            by_format.setdefault(format_of(file.name, declared), []).append(str(file))
    return by_format


def _unzip(archive: Path, scratch: Path) -> list[Path]:
    members: list[Path] = []
    try:
        with zipfile.ZipFile(archive) as opened:
            for info in opened.infolist():
                if info.is_dir() or info.filename.startswith("__MACOSX/"):
                    continue
                # numbered, flat: a member's own path is never used, so it cannot lead out of the folder
                place = (
                    scratch / archive.name / str(len(members)) / PurePosixPath(info.filename.replace("\\", "/")).name
                )
                place.parent.mkdir(parents=True, exist_ok=True)
                with opened.open(info) as packed, place.open("wb") as unpacked:
                    shutil.copyfileobj(packed, unpacked, 1 << 20)
                members.append(place)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as exc:
        raise SourceError(f"{archive} is not a readable zip archive: {exc}") from exc
    if not members:
        raise SourceError(f"{archive} holds no files")
    return members
