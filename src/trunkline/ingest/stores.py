"""Where files lie: on this machine, or in an object store. Both tell what is there and bring it within reach."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from trunkline.errors import SourceError, TransientError
from trunkline.ingest import remote
from trunkline.ingest.patterns import Pattern
from trunkline.ingest.protocol import ReadFile
from trunkline.project.files import digests
from trunkline.warehouse.protocol import SourceReader

Kind = Callable[[str], str]
"""How a file of a name is read: "zip", or its format."""


class Store(Protocol):
    """Where the files of one source lie. Entered before it is asked, left when the load is done."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def files(self) -> list[ReadFile]:
        """What is there, by path."""
        ...

    def within_reach(self, files: Sequence[ReadFile], folder: Path, kind: Kind) -> dict[str, str]:
        """Where each can be read, by its name for people; copies are made in `folder`.

        Raises `SourceError` or `TransientError` for a file that is not as it was.
        """
        ...

    def check(self, files: Sequence[ReadFile]) -> None:
        """Raise if one of them was changed since it was brought within reach."""
        ...


class Here:
    """Files of this machine, with the content that the plan has seen."""

    def __init__(self, root: Path, files: Sequence[ReadFile]) -> None:
        self._root = root
        self._files = list(files)
        self._stamps: dict[str, tuple[int, int, int]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def files(self) -> list[ReadFile]:
        """As planned."""
        return self._files

    def within_reach(self, files: Sequence[ReadFile], folder: Path, kind: Kind) -> dict[str, str]:
        """Where they are. Their digests are compared; who has not touched a file pays nothing for that."""
        paths = {file.path: self._root / file.path for file in files}
        self._stamps = {name: self._stamp(name) for name in paths}
        for file, state in zip(files, digests(self._root, paths.values()), strict=True):
            if state.digest != file.digest:
                raise SourceError(f"{file.path} was changed after this run began", hint="run the same command again")
        return {name: str(path) for name, path in paths.items()}

    def check(self, files: Sequence[ReadFile]) -> None:
        """By size, time and inode."""
        for file in files:
            if self._stamp(file.path) != self._stamps[file.path]:
                raise SourceError(
                    f"{file.path} was changed while it was read, and nothing of this load was kept",
                    hint="write files under another name and rename them when they are whole; or set `settled`",
                )

    def _stamp(self, name: str) -> tuple[int, int, int]:
        try:
            stat = (self._root / name).stat()
        except OSError as exc:
            raise SourceError(
                f"{name} cannot be read any more: {exc.strerror}", hint="run the same command again"
            ) from exc
        return stat.st_size, stat.st_mtime_ns, stat.st_ino


class There:
    """Files of an object store, listed when the load begins; those changed within `settled` seconds are left out."""

    def __init__(self, reader: SourceReader, pattern: Pattern, storage: Mapping[str, Any], settled: float) -> None:
        self._reader = reader
        self._pattern = pattern
        self._storage = storage
        self._settled = settled
        self._open = ExitStack()
        self._found: dict[str, remote.Found] = {}

    def __enter__(self) -> Self:
        self._open.enter_context(remote.opened(self._reader, self._pattern.path, self._storage))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def files(self) -> list[ReadFile]:
        """As listed now."""
        everything = remote.listed(self._reader, self._pattern)
        if not everything:
            raise SourceError(f"no file matches {self._pattern.path!r}", hint="check the names in `path`")
        latest = (dt.datetime.now(dt.UTC).timestamp() - self._settled) * 1_000_000
        kept = [file for file in everything if not self._settled or int(file.changed or 0) <= latest]
        self._found = {file.url: file for file in kept}
        return [file.read() for file in kept]

    def within_reach(self, files: Sequence[ReadFile], folder: Path, kind: Kind) -> dict[str, str]:
        """Copies of text and archives, but of large text; Parquet where it is."""
        kinds = {file.path: kind(file.path) for file in files}
        found = [self._found[file.path] for file in files]
        for file in found:
            if kinds[file.url] == "zip" and file.size > remote.COPIED_BYTES:
                raise SourceError(
                    f"{file.url} is an archive of {file.size:,} bytes: too many to be fetched",
                    hint="pack its files as .gz, or fetch it and let `path` name it here",
                )
        copied = [file for file in found if kinds[file.url] != "parquet" and file.size <= remote.COPIED_BYTES]
        places = remote.copies(self._reader, copied, folder)
        return {file.url: places.get(file.url, file.url) for file in found}

    def check(self, files: Sequence[ReadFile]) -> None:
        """By size and time, listed once more."""
        now = {file.url: file for file in remote.listed(self._reader, self._pattern)}
        for file in files:
            if now.get(file.path) != self._found[file.path]:
                raise TransientError(f"{file.path} was changed while it was read", hint="run the same command again")
