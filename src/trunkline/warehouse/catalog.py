"""The local file behind a DuckDB target, told from the dbt profile alone: nothing here loads DuckDB."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

_KINDS = ("ducklake:sqlite:", "ducklake:duckdb:", "ducklake:", "sqlite:", "")


def alias_of(attachment: Mapping[str, Any]) -> str:
    """The name a database of the profile is attached by."""
    return str(attachment.get("alias") or Path(str(attachment["path"])).stem)


def local_file(root: Path, path: str) -> Path | None:
    """The local file of a catalog or database; None for one on a server or in memory."""
    prefix = next(kind for kind in _KINDS if path.startswith(kind))
    rest = path[len(prefix) :]
    return None if ":" in rest or "=" in rest else root / rest


def attachments(settings: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The databases the profile attaches."""
    return [item for item in settings.get("attach") or [] if isinstance(item, Mapping)]


def database_name(settings: Mapping[str, Any]) -> str:
    """The target's own database: as declared, else DuckDB's default name."""
    path = str(settings.get("path") or ":memory:")
    return str(settings.get("database") or (Path(path).stem if path != ":memory:" else "memory"))


def catalog_file(settings: Mapping[str, Any], root: Path) -> Path | None:
    """The file every commit to the target's database changes; None if there is no such local file."""
    name, path = database_name(settings), str(settings.get("path") or ":memory:")
    for attachment in attachments(settings):
        if alias_of(attachment) == name:
            return local_file(root, str(attachment["path"]))
    return None if path == ":memory:" else root / path


def moved(settings: Mapping[str, Any]) -> bool:
    """Whether the profile says itself how a DuckLake's metadata is attached: by another name, or in another schema."""
    return any(
        item.get("secret") or any(str(name).lower().startswith("metadata") for name in item.get("options") or {})
        for item in attachments(settings)
    )


def stamp(settings: Mapping[str, Any], root: Path) -> list[int] | None:
    """Size, times and inode of the catalog file and its log: equal stamps mean that nothing was committed between.

    None where that cannot be told.
    """
    file = catalog_file(settings, root)
    if file is None or not file.is_file():
        return None
    found: list[int] = []
    for part in (file, file.with_name(f"{file.name}-wal"), file.with_name(f"{file.name}.wal")):
        if part.exists():
            stat = part.stat()
            found += [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]
    return found
