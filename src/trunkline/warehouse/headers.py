"""Text files looked at before DuckDB reads them: their first record, and what DuckDB would not tell.

While it keeps rows that it refuses, DuckDB reads a large file from many places at once without checking that they fit
together: a line longer than its buffer vanishes, and a line break within quotes may be taken for the end of a row. It
also reads a gzip or zstd file that was cut off as if it were whole. So each file is read once beforehand, at the speed
of memory; that costs a few per cent of a load.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from trunkline.errors import SourceError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Bits = npt.NDArray[np.uint64]

MAX_LINE = 16 * 1024 * 1024
"""Bytes of the longest line, or quoted record, that is read."""

_CHUNK = 1024 * 1024
_ONE_STRETCH = 8 * 1024 * 1024  # what DuckDB reads in one piece, whatever is in it: at least as much as a line may have
_HEADER = 1024 * 1024
_BREAK = re.compile(rb"\r\n?|\n")
_PACKED = (".gz", ".zst")
_BINARY = ((b"\x1f\x8b", ".gz"), (b"\x28\xb5\x2f\xfd", ".zst"), (b"PK\x03\x04", ".zip"), (b"PAR1", ".parquet"))
_BOMB_BYTES, _BOMB_RATIO = 1024**3, 200  # text that is more than 200 times smaller when packed is nobody's data


@dataclass(frozen=True)
class Look:
    """A text file from outside. `first` is its first record, "" if it holds nothing; `orderly`, that each line break
    ends a record, so that reading may begin at any; `nuls`, that there are NUL bytes in it."""

    first: str
    orderly: bool
    nuls: bool


def look(file: str, *, quoted: bool, limit: int | None = None) -> Look | None:
    """What a local file is like; None for a URL, which only DuckDB can open. `quoted`: quotes hold line breaks, as in
    CSV. A compressed file may unpack to `limit` bytes.

    Raises `SourceError` for a file that is not there, not UTF-8 at its beginning, cut off, a decompression bomb, or
    that has a line of more than `MAX_LINE` bytes.
    """
    if is_url(file):
        return None
    looking = _Looking(Path(file), quoted)
    for chunk in _chunks(Path(file), limit):
        looking.take(chunk)
    return looking.end()


def most_unpacked(packed: int, limit: int | None) -> int:
    """The bytes to which a compressed file of `packed` bytes may unpack: `limit`, if the user has set one."""
    return limit or max(_BOMB_BYTES, _BOMB_RATIO * packed)


def opening(file: str, limit: int | None = None) -> str:
    """The first character of a local text file that is not blank, "" if there is none or it is a URL.

    Raises `SourceError` if the file is compressed and cut off, or unpacks to more than `limit` bytes.
    """
    if is_url(file):
        return ""
    found = b""
    for chunk in _chunks(Path(file), limit):
        found = found or chunk.removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
        if found and Path(file).suffix.lower() not in _PACKED:
            break
    return found.decode("latin-1")


def is_url(file: str) -> bool:
    """Whether only DuckDB can open it."""
    return not file.startswith("/") and "://" in file


class _Looking:
    def __init__(self, path: Path, quoted: bool) -> None:
        self._path = path
        self._quoted = quoted
        self._head = b""
        self._read = 0  # bytes so far
        self._open = 0  # of them after the last record's end
        self._odd = False  # an odd number of quotes so far: we are within quotes
        self._orderly = True
        self._nuls = False

    def take(self, chunk: bytes) -> None:
        """The next bytes."""
        if len(self._head) < _HEADER:
            self._head += chunk[: _HEADER - len(self._head)]
            _check_text(self._path, self._head)
        self._nuls = self._nuls or b"\0" in chunk
        first, last = self._ends(chunk)
        begun = self._open + (first if first >= 0 else len(chunk))
        start = self._read - self._open
        self._read += len(chunk)
        self._open = len(chunk) - last - 1 if last >= 0 else begun
        if max(begun, self._open) > MAX_LINE:
            quote = ", and is a quote opened there that is never closed?" if self._quoted else "?"
            raise SourceError(
                f"{self._path}: the line at byte {start:,} is longer than {MAX_LINE >> 20} MiB",
                hint=f"is it the file you mean{quote}",
            )

    def _ends(self, chunk: bytes) -> tuple[int, int]:
        """Where the first and the last record of the chunk end; -1 if none does."""
        if self._quoted and (self._odd or b'"' in chunk):
            within = _within(chunk, self._odd)
            self._odd = within.odd
            if within.breaks:
                self._orderly = False
                return within.ends
        end = b"\n" if b"\n" in chunk else b"\r"
        return chunk.find(end), chunk.rfind(end)

    def end(self) -> Look:
        """What was found."""
        first = _first_record(self._path, self._head, self._quoted)
        return Look(first, self._orderly or self._read < _ONE_STRETCH, self._nuls)


@dataclass(frozen=True)
class _Within:
    """Quotes of a chunk: whether line breaks lie within them, the first and last that do not, and how it ends."""

    breaks: bool
    ends: tuple[int, int]
    odd: bool


def _within(chunk: bytes, odd: bool) -> _Within:
    """Bit by bit, 64 at once: a byte is within quotes where the number of quotes up to it is odd (Langdale and Lemire,
    Parsing gigabytes of JSON per second, 2019)."""
    import numpy as np

    text = np.frombuffer(chunk, dtype=np.uint8)
    quotes, ends = _bits(text == 34), _bits(text == 10)
    inside = quotes
    for shift in (1, 2, 4, 8, 16, 32):
        inside = inside ^ (inside << np.uint64(shift))
    after = np.bitwise_xor.accumulate((inside >> np.uint64(63)).astype(np.uint8)) ^ np.uint8(odd)
    before = np.concatenate([[np.uint8(odd)], after[:-1]]).astype(np.uint64)
    inside = inside ^ (np.uint64(0) - before)
    if not (inside & ends).any():
        return _Within(False, (-1, -1), bool(after[-1]))
    outside = np.flatnonzero(np.unpackbits((ends & ~inside).view(np.uint8), bitorder="little"))
    found = (int(outside[0]), int(outside[-1])) if len(outside) else (-1, -1)
    return _Within(True, found, bool(after[-1]))


def _bits(flags: npt.NDArray[np.bool_]) -> Bits:
    import numpy as np

    packed = np.packbits(flags, bitorder="little")
    return np.pad(packed, (0, -len(packed) % 8)).view(np.uint64)


# -- the first record


def _check_text(path: Path, head: bytes) -> None:
    wide = head[:2] in (b"\xff\xfe", b"\xfe\xff") or (len(head) > 3 and head[1:200:2].strip(b"\0") == b"")
    if wide:
        raise SourceError(
            f"{path} is UTF-16, not UTF-8", hint=f"iconv -f UTF-16 -t UTF-8 {path.name} > utf8-{path.name}"
        )
    for magic, kind in _BINARY:
        if head.startswith(magic):
            raise SourceError(f"{path} is no text but a {kind} file", hint=f"let its name end in {kind}")


def _first_record(path: Path, head: bytes, quoted: bool) -> str:
    """The first line, in CSV up to the first line break outside quotes."""
    head = head.removeprefix(b"\xef\xbb\xbf")
    if not head.strip():
        return ""
    end, quotes = 0, 0
    while found := _BREAK.search(head, end):
        quotes += head.count(b'"', end, found.start())
        if not quoted or quotes % 2 == 0:
            break
        end = found.end()
    record = head[: found.start()] if found else head
    if found is None and len(head) >= _HEADER and quoted:
        raise SourceError(
            f"{path}: its first line, the header, is longer than {_HEADER >> 20} MiB", hint="is it the file you mean?"
        )
    try:
        text = record.decode("utf-8", "strict" if quoted else "replace")
    except UnicodeDecodeError as exc:
        raise SourceError(
            f"{path}: its header is not UTF-8", hint=f"iconv -f LATIN1 -t UTF-8 {path.name} > utf8-{path.name}"
        ) from exc
    if quoted and not text.strip():
        raise SourceError(f"{path}: its first line is empty", hint="the header belongs there")
    return text


# -- bytes


def _chunks(path: Path, limit: int | None) -> Iterator[bytes]:
    kind = path.suffix.lower()
    packed = {".gz": _gunzipped, ".zst": _unzstd}
    try:
        if kind in packed:
            yield from _bounded(path, packed[kind](path), limit)
            return
        with path.open("rb", buffering=0) as file:
            while chunk := file.read(_CHUNK):
                yield chunk
    except OSError as exc:
        raise SourceError(f"cannot read {path}: {exc.strerror or exc}") from exc


def _bounded(path: Path, chunks: Iterator[bytes], limit: int | None) -> Iterator[bytes]:
    unpacked, packed = 0, path.stat().st_size
    most = most_unpacked(packed, limit)
    for chunk in chunks:
        unpacked += len(chunk)
        if unpacked > most:
            raise SourceError(
                f"{path} of {packed:,} bytes unpacks to more than {unpacked - len(chunk):,}: it is not read further",
                hint="a decompression bomb? If not, set `unpacked_limit` in the source",
            )
        yield chunk


def _gunzipped(path: Path) -> Iterator[bytes]:
    """The bytes of a gzip file of any number of members, checksums compared."""
    engine, ended = zlib.decompressobj(wbits=31), True
    with path.open("rb", buffering=0) as file:
        rest = b""
        while rest or (rest := file.read(_CHUNK)):
            try:
                chunk = engine.decompress(rest, _CHUNK)
            except zlib.error as exc:
                raise SourceError(f"{path} is not a whole gzip file: {exc}") from exc
            ended, rest = engine.eof, engine.unconsumed_tail
            if chunk:
                yield chunk
            if ended:
                rest = engine.unused_data or file.read(_CHUNK)
                if not rest.strip(b"\0"):  # padding after the last member
                    return
                engine = zlib.decompressobj(wbits=31)
    if not ended:
        raise SourceError(f"{path} is cut off: the gzip file ends in the middle", hint="is it still being written?")


def _unzstd(path: Path) -> Iterator[bytes]:
    import pyarrow as pa

    try:
        with pa.OSFile(str(path)) as file, pa.CompressedInputStream(file, "zstd") as stream:
            while chunk := stream.read(_CHUNK):
                yield chunk
    except OSError as exc:
        raise SourceError(f"{path} is not a whole zstd file: {exc}", hint="is it still being written?") from exc
