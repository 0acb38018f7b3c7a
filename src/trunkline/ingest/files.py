"""The `files` connector: which files a pattern means, their format, and archives made readable."""

from __future__ import annotations

import glob
import shutil
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from trunkline.errors import ContractError, SourceError
from trunkline.ingest.protocol import Batch, Piece, Reach, ReadFile, Since
from trunkline.ledger.ledger import LoadedFile
from trunkline.project.connectors import FilesOptions
from trunkline.project.sources import SourceTable
from trunkline.warehouse.load import FileScan, Format

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


class Files:
    """New files into one table: appended, merged, or all of them again where the table is replaced."""

    exclusive = True

    def __init__(self, reach: Reach) -> None:
        self._reach = reach
        self._table = reach.tables[0]
        self._wanted = [ReadFile(path, digest, size) for path, digest, size in reach.config["files"]]

    def batches(self, since: Since) -> Iterator[Batch]:
        """One batch: what is new."""
        known = since.files.get(self._table.source, {})
        anew = since.refresh or self._contract_changed(since, known)
        if anew or self._table.load.startswith("replace"):
            new = [] if not anew and self._holds_exactly(known) else self._wanted
            anew = True
        else:
            new = self._new(known)
        if not new:
            return
        options = self._table.options
        by_format = readable([self._reach.root / file.path for file in new], self._reach.scratch, options["format"])
        pieces = [
            Piece(
                self._table.source,
                FileScan(tuple(paths), format_, tuple(options["null_values"]), options["delimiter"]),
                files=tuple(new) if index == 0 else (),
                replace=anew and index == 0,
            )
            for index, (format_, paths) in enumerate(sorted(by_format.items()))
        ]
        yield Batch(tuple(pieces))

    def _contract_changed(self, since: Since, known: Mapping[str, LoadedFile]) -> bool:
        """Whether the table's rows were held to another contract; such a table is made anew from its files.

        Raises `ContractError` if rows would be lost: the table is appended to, and one of its files is not there.
        """
        last = since.contracts.get(self._table.source)
        if last is None or last == [column.to_json() for column in self._table.contract.columns]:
            return False
        gone = sorted(set(known) - {file.path for file in self._wanted})
        if gone and not self._table.load.startswith("replace"):  # a replaced table never held on to its files
            raise ContractError(
                f"the contract of {self._table.source} has changed, but its file {gone[0]} is no longer there to "
                "reload",
                hint="bring the file back, or undo the change",
            )
        return True

    def _holds_exactly(self, known: Mapping[str, LoadedFile]) -> bool:
        """Whether the last load of a replaced table read just these files."""
        latest = max((file.load_id for file in known.values()), default=None)
        held = {file.path: file.digest for file in known.values() if file.load_id == latest}
        return held == {file.path: file.digest for file in self._wanted}

    def _new(self, known: Mapping[str, LoadedFile]) -> list[ReadFile]:
        """Files that no load has read yet."""
        for file in self._wanted:
            if file.path in known and known[file.path].digest != file.digest:
                raise SourceError(
                    f"{file.path} has changed since load {known[file.path].load_id}; "
                    "appending it would load its old rows twice",
                    hint="give new data a new file name, or set `load: replace`, or `load: merge` with a key",
                )
        return [file for file in self._wanted if file.path not in known]


def find(root: Path, table: SourceTable) -> list[Path]:
    """The files of a source, sorted by path. Raises `SourceError` at the source's line when there is none."""
    assert isinstance(table.options, FilesOptions)  # asked of files only
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
            f"source {table.key}: no file matches {pattern!r}", file=table.file, line=table.options_line, hint=seen
        )
    return files


def format_of(name: str, declared: str | None) -> Format:
    """The format of a file: as declared, else told by its suffix. Raises `SourceError` for an unknown one."""
    path = PurePosixPath(name.lower())
    while path.suffix in _COMPRESSIONS:
        path = path.with_suffix("")
    known: dict[str | None, Format] = {"csv": "csv", "ndjson": "ndjson", "json": "json", "parquet": "parquet"}
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
