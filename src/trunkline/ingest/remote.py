"""Files of object stores and web servers, through DuckDB: the secret that opens a store, what is there, and copies.

Parquet is read where it is. Text is copied to this machine first, so that it is looked at as local files are: a line
that never ends, or an archive that was cut off, would otherwise be found in the middle of a load, or not at all.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trunkline.errors import EngineError, SourceError, TransientError
from trunkline.ingest.patterns import Pattern
from trunkline.ingest.protocol import ReadFile
from trunkline.warehouse import file_sql
from trunkline.warehouse.load_sql import literal, quote
from trunkline.warehouse.protocol import SourceReader

EXTENSIONS = {
    **dict.fromkeys(("s3", "gs", "gcs", "r2", "http", "https"), "httpfs"),
    **dict.fromkeys(("az", "azure", "abfss"), "azure"),
}
COPIED_BYTES = 256 * 1024 * 1024
"""Larger files of text are read where they are, in one stream."""

_AT_ONCE = 64 * 1024 * 1024  # bytes of small files that are fetched by one query
_BARE = ("type", "provider")
_REFUSED = re.compile(
    r"HTTP 40[13]|AccessDenied|InvalidAccessKeyId|SignatureDoesNotMatch|Authentication|AuthorizationFailure"
)
_ABSENT = re.compile(r"HTTP 404|NoSuchBucket|ContainerNotFound|BlobNotFound|No files found")
_PASSING = re.compile(
    r"HTTP (5\d\d|408|429)|onnect|resolve host|[Tt]imed? ?out|SlowDown|Failed to read|Failure when receiving|"
    r"reset by peer|SSL"
)


@dataclass(frozen=True)
class Found:
    """A file of a store. `changed` is when, as ISO 8601, if the store says so."""

    url: str
    size: int
    changed: str

    def read(self) -> ReadFile:
        """The file for the ledger: its size and its time stand for its content."""
        return ReadFile(self.url, f"{self.size}@{self.changed}", self.size)


@contextlib.contextmanager
def opened(reader: SourceReader, url: str, storage: Mapping[str, Any]) -> Iterator[None]:
    """The store at `url` within reach of `reader`, by what `storage` (no references any more) says of it.

    The secret is temporary and counts for this URL alone.
    """
    scheme = url.partition("://")[0].lower()
    if scheme not in EXTENSIONS:
        raise SourceError(
            f"{scheme}:// is no store that can be read",
            hint=f"URLs begin with {', '.join(EXTENSIONS)}",
        )
    reader.extension(EXTENSIONS[scheme])
    if not storage:
        yield
        return
    name = f"trunkline_{secrets.token_hex(6)}"
    try:
        if str(storage.get("provider")) == "credential_chain" and EXTENSIONS[scheme] == "httpfs":
            reader.extension("aws")
        reader.query(secret_sql(name, url, storage))
    except EngineError as exc:
        raise SourceError(f"`storage` is no secret that DuckDB knows: {_bare(exc.what, storage)}") from None
    try:
        yield
    finally:
        with contextlib.suppress(EngineError):  # the error that ended it is the one to tell
            reader.query(f"drop temporary secret if exists {quote(name)}")


def secret_sql(name: str, url: str, storage: Mapping[str, Any]) -> str:
    """CREATE SECRET for the part of `url` before its first wildcard.

    >>> secret_sql("x", "gs://lake/in/*.csv", {"type": "gcs", "key_id": "me", "secret": "s"})
    'create temporary secret "x" (type "gcs", key_id \\'me\\', secret \\'s\\', scope \\'gs://lake/in/\\')'
    """
    prefix = re.split(r"[*?\[{]", url, maxsplit=1)[0]
    scope = prefix if prefix == url else prefix[: prefix.rfind("/") + 1]
    listed = [f"{_word(key)} {_parameter(key, value)}" for key, value in storage.items() if value is not None]
    return f"create temporary secret {quote(name)} ({', '.join([*listed, f'scope {literal(scope)}'])})"


def _word(key: str) -> str:
    if not re.fullmatch(r"[A-Za-z_]+", key):
        raise SourceError(f"`storage`: {key!r} is no parameter of a secret")
    return key


def _parameter(key: str, value: Any) -> str:
    if key in _BARE:
        return quote(str(value))
    if isinstance(value, Mapping):
        return f"map {{{', '.join(f'{literal(str(k))}: {literal(str(v))}' for k, v in value.items())}}}"
    if isinstance(value, bool):
        return "true" if value else "false"
    return literal(str(value))


def _bare(text: str, storage: Mapping[str, Any]) -> str:
    values = [str(value) for key, value in storage.items() if key not in _BARE and len(str(value)) > 3]
    for value in sorted(values, key=len, reverse=True):
        text = text.replace(value, "***")
    return text


def listed(reader: SourceReader, pattern: Pattern) -> list[Found]:
    """What a pattern finds in a store, by URL. Raises `SourceError` when it is closed to us or has no such file,
    `TransientError` when it does not answer."""
    with judged(pattern.path):
        # of read_blob's columns only these are asked for, so that no content is read
        rows = reader.query(
            "select filename, size, cast(epoch_us(last_modified) as varchar) "
            f"from read_blob({literal(pattern.glob)}) order by filename"
        )
    found = [Found(str(url), int(size), str(changed or "")) for url, size, changed in rows]
    kept = set(pattern.wanted([file.url for file in found]))
    return [file for file in found if file.url in kept]


@contextlib.contextmanager
def judged(url: str) -> Iterator[None]:
    """What a store's refusal means: our mistake, or one that passes."""
    try:
        yield
    except TransientError:
        raise
    except EngineError as exc:
        if _REFUSED.search(exc.what):
            hint = "check `storage`: its type, key and region, and what the key may read"
            raise SourceError(f"{url}: access denied: {exc.what}", hint=hint) from None
        if _ABSENT.search(exc.what):
            raise SourceError(f"{url} is not there: {exc.what}", hint="check the names in `path`") from None
        if _PASSING.search(exc.what):
            hint = "the server cannot be reached now; run the same command again"
            raise TransientError(f"{url}: {exc.what}", hint=hint) from None
        raise


def copies(reader: SourceReader, files: Sequence[Found], folder: Path) -> dict[str, str]:
    """Copies of small files in `folder`: by URL, where each is now. Their paths end as their URLs do.

    Raises `TransientError` for a file that was changed since it was listed.
    """
    places: dict[str, str] = {}
    for group in _groups(files):
        sizes = {file.url: file.size for file in group}
        urls = ", ".join(literal(file_sql.escaped(url)) for url in sizes)
        with judged(group[0].url):
            rows = reader.query(f"select filename, content from read_blob([{urls}])")
        for url, content in rows:
            if len(content) != sizes.get(str(url)):
                raise TransientError(f"{url} was changed while it was read", hint="run the same command again")
            places[str(url)] = _copy(folder, str(url), content)
        if lost := sizes.keys() - places.keys():
            raise TransientError(f"{sorted(lost)[0]} is gone", hint="run the same command again")
    return places


def _groups(files: Sequence[Found]) -> Iterator[list[Found]]:
    group: list[Found] = []
    for file in files:
        if group and sum(other.size for other in group) + file.size > _AT_ONCE:
            yield group
            group = []
        group.append(file)
    if group:
        yield group


def _copy(folder: Path, url: str, content: bytes) -> str:
    """Write a copy, below `folder` under its URL, so that it is known by it and its folders keep their names; what is
    no name for a file gets one."""
    scheme, _, rest = url.partition("?")[0].partition("://")
    parts = [part if _is_name(part) else f"_{_digest(part)}" for part in rest.split("/")]
    for place in (f"{folder}/{scheme}://{'/'.join(parts)}", f"{folder}/{_digest(url)}/{parts[-1]}"):
        try:
            Path(place).parent.mkdir(parents=True, exist_ok=True)
            with open(place, "xb") as file:
                file.write(content)
            return place
        except (FileExistsError, NotADirectoryError):
            continue  # a store may have both `a` and `a/b`, which a disk has not
        except OSError as exc:
            raise EngineError(f"cannot copy {url}: {exc.strerror or exc}", hint="is there room on the disk?") from exc
    raise SourceError(f"{url} was found twice")


def _is_name(part: str) -> bool:
    return part not in ("", ".", "..") and "\0" not in part and len(part.encode()) < 200


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
