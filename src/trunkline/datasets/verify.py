"""Whether a dataset's files are what they were: the bytes of every file, and the rows of the open parts."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trunkline.datasets.findings import FILE as FINDINGS
from trunkline.datasets.findings import read_findings
from trunkline.datasets.manifest import FILE, Part, read_manifest
from trunkline.errors import DatasetError, EngineError, IntegrityError, ProjectError
from trunkline.project.files import content_digest
from trunkline.warehouse.protocol import ParquetWriter, Warehouse


@dataclass(frozen=True)
class Check:
    """One thing that was recomputed, of one file, and how it came out; `wrong` is empty where it is as recorded."""

    file: Path
    what: str
    wrong: str = ""

    @property
    def ok(self) -> bool:
        """Whether it is as recorded."""
        return not self.wrong


def verify(warehouse: Warehouse, folder: Path, sealed: Path, recorded: Mapping[str, Any] | None) -> Iterator[Check]:
    """Check the dataset in `folder` file by file. `recorded` is the manifest as the ledger has it.

    Of the sealed part the bytes are checked, and it is not opened: a check is no look.
    """
    path = folder / FILE
    try:
        manifest = read_manifest(folder)
    except (DatasetError, IntegrityError) as exc:
        yield Check(path, "manifest", exc.what)
        return
    differs = recorded is not None and _plain(manifest.to_json()) != _plain(recorded)
    yield Check(path, "manifest", "it is not the manifest that the ledger has" if differs else "")
    for part in manifest.parts.values():
        yield from _part(warehouse, part, folder / part.file if part.file else sealed)
    if (folder / FINDINGS).exists():
        yield _findings(folder)


def _findings(folder: Path) -> Check:
    try:
        read_findings(folder)
    except IntegrityError as exc:
        return Check(folder / FINDINGS, "findings", exc.what)
    return Check(folder / FINDINGS, "findings")


def _part(warehouse: Warehouse, part: Part, file: Path) -> Iterator[Check]:
    if not file.is_file():
        yield Check(file, "bytes", "the file is gone")
        return
    try:
        same = content_digest(file) == part.file_digest
    except ProjectError as exc:
        yield Check(file, "bytes", exc.what)
        return
    yield Check(file, "bytes", "" if same else "its bytes are not those that were written")
    if part.file and isinstance(warehouse, ParquetWriter):
        yield _rows(warehouse, part, file, same=same)


def _rows(warehouse: ParquetWriter, part: Part, file: Path, *, same: bool) -> Check:
    try:
        content = warehouse.content(file)
    except EngineError as exc:
        return Check(file, "rows", f"its rows cannot be read: {exc.what}")
    if content == part.content:
        return Check(file, "rows")
    told = "its rows are not those that were written"
    if same:  # the file is as it was: the engine sees other rows in it than the one that wrote it did
        told = f"this version of the engine reads other rows from it: content {content[:16]}, not {part.content[:16]}"
    return Check(file, "rows", told)


def _plain(manifest: Mapping[str, Any]) -> Any:
    """As JSON has it, without what differs between two builds of the same dataset: when, where, and files' bytes.

    The bytes are those of this build's own manifest; what is in them is in `content`.
    """
    told = {name: value for name, value in manifest.items() if name not in ("location", "created_at")}
    told["parts"] = {
        name: {key: value for key, value in part.items() if key not in ("file_digest", "bytes")}
        for name, part in manifest["parts"].items()
    }
    return json.loads(json.dumps(told, default=str))
