"""The `files` connector: which files are new, on this machine or in a store, and in which batches they are loaded."""

from __future__ import annotations

import gzip
import json
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path, PurePosixPath

from trunkline.errors import ContractError, SourceError
from trunkline.ingest import patterns, stores
from trunkline.ingest.patterns import Pattern
from trunkline.ingest.protocol import Batch, Piece, Reach, ReadFile, Since
from trunkline.ledger.ledger import LoadedFile
from trunkline.project.connectors import FilesOptions
from trunkline.project.durations import seconds
from trunkline.project.sizes import size
from trunkline.project.sources import SourceTable
from trunkline.warehouse.headers import is_url
from trunkline.warehouse.load import FileScan, Format

BATCH_BYTES = 8_000_000_000
"""Bytes of files, as they are, that one transaction of a long load holds at least."""

_COMPRESSIONS = (".gz", ".zst", ".zip")
_STREAMED = (".gz", ".zst")
_UNREAD = (".bz2", ".xz", ".7z", ".rar", ".tar", ".tgz", ".lz4", ".br", ".xls", ".xlsx", ".avro", ".orc")
_FORMATS: dict[str, Format] = {
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "csv",
    ".ndjson": "ndjson",
    ".jsonl": "ndjson",
    ".json": "json",
    ".parquet": "parquet",
    ".pq": "parquet",
}


class Files:
    """New files into one table: appended, merged, or all of them again where the table is replaced."""

    exclusive = True

    def __init__(self, reach: Reach) -> None:
        self.notes: list[str] = []
        self._reach = reach
        self._table = reach.tables[0]
        self._options = reach.tables[0].options
        self._pattern = Pattern(self._options["path"], self._options["since"])

    def batches(self, since: Since) -> Iterator[Batch]:
        """What is new, in the order of the paths. A table that is made anew gets all its rows in one batch."""
        with self._store() as store:
            wanted = self._filled(store.files(), since)
            known = since.files.get(self._table.source, {})
            anew = since.refresh or self._contract_changed(since, known, wanted)
            if anew or self._table.load.startswith("replace"):
                new = [] if not anew and _holds_exactly(known, wanted) else wanted
                yield from self._batch(store, new, anew=True)
                return
            for part in _parts(self._new(known, wanted)):
                yield from self._batch(store, part, anew=False)

    def _store(self) -> stores.Store:
        if not self._pattern.remote:
            files = [ReadFile(path, digest, size) for path, digest, size in self._reach.config["files"]]
            return stores.Here(self._reach.root, files)
        settled = self._options["settled"]
        storage = self._reach.secret(self._options["storage"])
        return stores.There(self._reach.reader(), self._pattern, storage, seconds(settled) if settled else 0.0)

    def _batch(self, store: stores.Store, files: Sequence[ReadFile], *, anew: bool) -> Iterator[Batch]:
        if not files:
            return
        folder = self._reach.scratch / "files"
        try:
            self._reach.progress(f"looking at {len(files):,} files")
            places = store.within_reach(files, folder, self._suffix)
            self.notes += [
                f"{place} is too large to be copied here: whether it was cut off cannot be told"
                for place in places.values()
                if is_url(place) and _plain_name(place).endswith(_STREAMED)
            ]
            runs = self._runs(places, folder)
            yield Batch(tuple(self._pieces(runs, files, anew)), check=lambda: store.check(files))
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _pieces(
        self, runs: Sequence[tuple[Format, Sequence[str]]], files: Sequence[ReadFile], anew: bool
    ) -> Iterator[Piece]:
        options = self._options
        for index, (format_, paths) in enumerate(runs):
            scan = FileScan(
                tuple(paths),
                format_,
                tuple(options["null_values"]),
                options["delimiter"],
                beneath=str(self._reach.scratch / "files"),
                unpacked_limit=self._limit,
            )
            first = index == 0
            yield Piece(self._table.source, scan, tuple(files) if first else (), replace=anew and first)

    @property
    def _limit(self) -> int | None:
        told = self._options["unpacked_limit"]
        return size(told) if told else None

    def _suffix(self, name: str) -> str:
        """How a file of a store is read: "zip", or its format."""
        return "zip" if _plain_name(name).endswith(".zip") else format_of(name, self._options["format"])

    def _runs(self, files: Mapping[str, str], folder: Path) -> list[tuple[Format, list[str]]]:
        """Paths by format; for a table with a key, where the last row of a key counts, in the order of the files."""
        found = readable(files, folder, self._options["format"], members=self._options["members"], limit=self._limit)
        if not self._table.contract.key:
            found = sorted(found)
        return [(format_, [path for _, path in run]) for format_, run in groupby(found, itemgetter(0))]

    def _filled(self, files: Sequence[ReadFile], since: Since) -> list[ReadFile]:
        """The files that hold something: one that is empty may be filled yet, and is not held to be loaded."""
        filled = [file for file in files if file.size > 0 and not self._empty(file)]
        if len(filled) < len(files):
            self.notes.append(f"{len(files) - len(filled):,} empty files were passed over")
        if files and not filled and self._table.source not in since.tables:
            raise SourceError(f"{files[0].path} is empty: not even a header line", hint="write its header")
        return filled

    def _empty(self, file: ReadFile) -> bool:
        """Whether a compressed file holds no byte."""
        if self._pattern.remote or file.size > 100 or not file.path.lower().endswith(".gz"):
            return False
        try:
            with gzip.open(self._reach.root / file.path) as packed:
                return not packed.read(1)
        except (OSError, EOFError):
            return False  # it says so when it is read

    def _contract_changed(self, since: Since, known: Mapping[str, LoadedFile], wanted: Sequence[ReadFile]) -> bool:
        """Whether the table's rows were held to another contract; such a table is made anew from its files.

        Raises `ContractError` if rows would be lost: the table is appended to, and one of its files is not there.
        """
        if self._table.source not in since.contracts or since.same_contract(self._table):
            return False
        gone = sorted(set(known) - {file.path for file in wanted})
        if gone and not self._table.load.startswith("replace"):  # a replaced table never held on to its files
            raise ContractError(
                f"the contract of {self._table.source} has changed, but its file {gone[0]} is no longer there to "
                "reload",
                hint="bring the file back, or undo the change",
            )
        return True

    def _new(self, known: Mapping[str, LoadedFile], wanted: Sequence[ReadFile]) -> list[ReadFile]:
        """Files that no load has read yet; where rows are merged, also those that were changed since."""
        changed = [file for file in wanted if file.path in known and known[file.path].digest != file.digest]
        if changed and self._table.load != "merge":
            file = changed[0]
            raise SourceError(
                f"{file.path} has changed since load {known[file.path].load_id}; "
                "appending it would load its old rows twice",
                hint="give new data a new file name, or set `load: replace`, or `load: merge` with a key",
            )
        again = {file.path for file in changed}
        return [file for file in wanted if file.path not in known or file.path in again]


def _holds_exactly(known: Mapping[str, LoadedFile], wanted: Sequence[ReadFile]) -> bool:
    """Whether the last load of a replaced table read just these files."""
    latest = max((file.load_id for file in known.values()), default=None)
    held = {file.path: file.digest for file in known.values() if file.load_id == latest}
    return held == {file.path: file.digest for file in wanted}


def _parts(files: Sequence[ReadFile]) -> Iterator[list[ReadFile]]:
    """The files of a long load by transactions."""
    part: list[ReadFile] = []
    total = 0
    for file in files:
        part.append(file)
        total += file.size
        if total >= BATCH_BYTES:
            yield part
            part, total = [], 0
    if part:
        yield part


def find(root: Path, table: SourceTable) -> list[Path]:
    """The files of a source, sorted by path. Raises `SourceError` at the source's line when there is none."""
    assert isinstance(table.options, FilesOptions)  # asked of files only
    options = table.options
    try:
        files = patterns.local(root, Pattern(options.path, options.since))
        if not files:
            raise _nothing(root, options.path, f"source {table.key}: no file matches {options.path!r}")
    except SourceError as exc:
        raise SourceError(
            exc.what.replace(f"{root}/", ""), file=table.file, line=table.options_line, hint=exc.hint
        ) from exc
    if options.settled:
        latest = time.time() - seconds(options.settled)
        files = [file for file in files if file.stat().st_mtime <= latest]
    return files


def _nothing(root: Path, path: str, what: str) -> SourceError:
    folder = (root / path).parent
    nearby = sorted(p.name for p in folder.glob("*"))[:8] if not {"*", "{"} & set(str(Path(path).parent)) else []
    return SourceError(what, hint=f"that folder holds: {', '.join(nearby)}" if nearby else f"looked in {folder}")


def _plain_name(name: str) -> str:
    """A file's name, of a URL without what is asked of the server."""
    return (name.partition("?")[0] if "://" in name else name).lower()


def format_of(name: str, declared: str | None) -> Format:
    """The format of a file: as declared, else told by its suffix. Raises `SourceError` for an unknown one."""
    path = PurePosixPath(_plain_name(name))
    while path.suffix in _COMPRESSIONS:
        path = path.with_suffix("")
    if path.suffix in _UNREAD:
        raise SourceError(f"{name}: {path.suffix} files are not read", hint="write it as .csv.gz, .csv.zst or .parquet")
    known: dict[str | None, Format] = {"csv": "csv", "ndjson": "ndjson", "json": "json", "parquet": "parquet"}
    if declared in known:
        return known[declared]
    if path.suffix not in _FORMATS:
        raise SourceError(f"{name}: the suffix tells no format", hint="say `format: csv`, `ndjson` or `parquet`")
    return _FORMATS[path.suffix]


def readable(
    files: Mapping[str, str],
    folder: Path,
    declared: str | None,
    *,
    members: str | None = None,
    limit: int | None = None,
) -> list[tuple[Format, str]]:
    """Format and path of each file, as the warehouse can read it: `files` are their paths by name; members of zip
    archives are unpacked into `folder`. The caller removes it. Raises `SourceError` for a broken archive.
    """
    found: list[tuple[Format, str]] = []
    for name, path in files.items():
        paths = [path]
        if _plain_name(name).endswith(".zip"):
            from trunkline.ingest import archives

            unpacked = archives.unpack(Path(path), _beside(folder, name), members=members, limit=limit)
            paths = [str(place) for place in unpacked]
        for place in paths:
            format_ = format_of(name if place == path else place, declared)
            if format_ == "json" and declared is None:
                format_ = _documents_or_lines(place)
            found.append((format_, place))
    return found


def _beside(folder: Path, name: str) -> Path:
    """A folder for an archive's files that is called as the archive is."""
    place = folder / "unpacked" / name.strip("/").replace("://", "/").replace("..", "_")
    return place if len(str(place)) < 2000 else folder / str(abs(hash(name)))


def _documents_or_lines(path: str) -> Format:
    """What a file called .json holds: "ndjson" if its first line is an object by itself, else "json", a document."""
    if is_url(path):
        raise SourceError(
            f"{path}: a large .json file may hold lines or one document", hint="say `format: ndjson` or `format: json`"
        )
    try:
        with gzip.open(path) if path.lower().endswith(".gz") else open(path, "rb") as file:
            line = file.readline(1 << 24).removeprefix(b"\xef\xbb\xbf").strip()
            while not line and (more := file.readline(1 << 24)):
                line = more.strip()
    except (OSError, EOFError) as exc:
        raise SourceError(f"cannot read {path}: {exc}") from exc
    try:
        return "ndjson" if isinstance(json.loads(line), dict) else "json"
    except (ValueError, RecursionError):
        return "json"
