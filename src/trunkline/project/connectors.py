"""What `config.meta.trunkline` of a source or a source table may say: one record a connector.

Secrets are references only (`project/secrets.py`): `env:NAME`, `file:PATH`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Literal

import msgspec

from trunkline.project.durations import seconds
from trunkline.project.sizes import size

_SIGNED = re.compile(r"[?&](sig|signature|token|key|x-amz-signature|x-goog-signature|password)=", re.IGNORECASE)

Load = Literal["append", "merge", "replace", "replace-when-changed"]


class TableOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How rows enter a table, whatever the connector.

    `merge` needs a `key`; `deleted` names the column of the source that marks deleted rows; `policy` says what becomes
    of a missing column and of values that do not fit (`warehouse/load.py`, `Contract`).
    """

    load: Load = "append"
    key: tuple[str, ...] = ()
    deleted: str | None = None
    policy: Literal["fail", "quarantine", "evolve"] = "quarantine"
    null_values: tuple[str, ...] = ()


class FilesOptions(TableOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`connector: files`. `path` is a glob, relative to the project, absolute, or the URL of an object store.

    `{date:%Y-%m-%d}` in it stands for a date; `since` is the first that counts. Formats are told by the suffix unless
    given. `members` is a glob for the files of a zip archive that count. Files changed within the span `settled`
    ("10 minutes") are left for a later load. A compressed file may unpack to `unpacked_limit` bytes ("20 GB").

    `storage` is what DuckDB's CREATE SECRET takes (`type: s3`, `key_id: env:…`), for a store that needs it.
    """

    connector: Literal["files"]
    path: str
    format: Literal["csv", "ndjson", "json", "parquet"] | None = None
    delimiter: str | None = None
    since: str | None = None
    members: str | None = None
    settled: str | None = None
    unpacked_limit: str | None = None
    storage: dict[str, Any] = {}

    def __post_init__(self) -> None:
        for key, wrong in self._wrongs():
            raise ValueError(f"{wrong} - at `$.{key}`")  # as msgspec says where

    def _wrongs(self) -> Iterator[tuple[str, str]]:
        """What does not go together: the key, and what is wrong with it."""
        if _SIGNED.search(self.path):
            yield "path", "a secret has no place in the project's files: say it in `storage`, by reference"
        if self.path.lower().startswith("file://"):
            yield "path", "files of this machine are named by their path alone, without file://"
        if self.storage and "://" not in self.path:
            yield "storage", "`storage` is for stores, whose paths are URLs"
        if self.storage and not self.storage.get("type"):
            yield "storage", "`storage` needs a `type`: s3, gcs, r2, azure or http"
        if self.delimiter is not None and not 1 <= len(self.delimiter) <= 4:
            yield "delimiter", 'it has one to four characters; a tab is written "\\t", in double quotes'
        for key, parse in (("path", self._check_path), ("settled", self._settled), ("unpacked_limit", self._limit)):
            try:
                parse()
            except ValueError as exc:
                yield key, str(exc)

    def _check_path(self) -> None:
        from trunkline.project import dates

        dates.check(self.path, self.since)

    def _settled(self) -> None:
        if self.settled is not None:
            seconds(self.settled)

    def _limit(self) -> None:
        if self.unpacked_limit is not None:
            size(self.unpacked_limit)


class SqlOptions(TableOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`connector: sql`. `dsn` is a reference to a URL (`postgresql://…`, `mysql://…`, `sqlite:///…`).

    The rows are those of `table` (default: the source table's name) or of `query`. With a `cursor` only rows beyond its
    greatest value so far are read, from `start` on, less a `lag` ("15 minutes", or a number), in transactions of about
    `batch_rows`. `changed` is a query whose answer tells whether a `replace-when-changed` table must be read.

    `through` names the way for databases that DuckDB does not scan itself: `dlt` takes the URLs of SQLAlchemy, `adbc`
    a `driver` and what else its documentation asks for in `driver_options`.
    """

    connector: Literal["sql"]
    dsn: str
    table: str | None = None
    query: str | None = None
    cursor: str | None = None
    lag: str | int | None = None
    start: str | int | None = None
    batch_rows: int = 5_000_000
    changed: str | None = None
    statement_timeout: str = "30 minutes"
    through: Literal["native", "adbc", "dlt"] | None = None
    driver: str | None = None
    driver_options: dict[str, str] = {}

    def __post_init__(self) -> None:
        for key, wrong in self._wrongs():
            raise ValueError(f"{wrong} - at `$.{key}`")  # as msgspec says where

    def _wrongs(self) -> Iterator[tuple[str, str]]:
        """What does not go together: the key, and what is wrong with it."""
        if self.table and self.query:
            yield "query", "the rows are those of a `table` or of a `query`, not of both"
        if self.cursor and self.load.startswith("replace"):
            yield "cursor", f"`load: {self.load}` reads the whole table, a cursor only what is new"
        if not self.cursor and self.load == "append":
            yield "load", "appending needs a `cursor`, or each load would add the whole table: or say `load: replace`"
        for key in ("lag", "start"):
            if getattr(self, key) is not None and not self.cursor:
                yield key, f"`{key}` needs a `cursor`"
        if self.lag is not None and self.load == "append":
            yield "lag", "a `lag` reads rows again, and appending would add them twice: say `load: merge` with a `key`"
        if (self.changed is None) == (self.load == "replace-when-changed"):
            yield "changed", "`load: replace-when-changed` and `changed`, a query that tells of changes, go together"
        if (self.driver is None) == (self.through == "adbc"):
            yield "driver", "`through: adbc` and `driver`, such as `postgresql`, go together"
        if self.batch_rows < 1:
            yield "batch_rows", "it must be 1 or more"
        for key, value in (("lag", self.lag), ("statement_timeout", self.statement_timeout)):
            if isinstance(value, str) and not _number(value):
                try:
                    seconds(value)
                except ValueError as exc:
                    yield key, str(exc)


def _number(text: str) -> bool:
    return text.replace(".", "", 1).isdigit()


class PythonOptions(TableOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`connector: python`. `function` is `sources/orders.py:orders`, a generator under `@tl.source`.

    It is called with `arguments`, secrets by reference.
    """

    connector: Literal["python"]
    function: str
    arguments: dict[str, Any] = {}


class DltOptions(TableOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`connector: dlt`. `source` is `sources/github.py:github` or `package.module:function`, called with `arguments`.

    A table is the resource of its name, unless `resource` names another. A resource whose own `write_disposition`
    says merge or replace is not appended, unless `hints` are to be ignored.
    """

    connector: Literal["dlt"]
    source: str
    arguments: dict[str, Any] = {}
    resource: str | None = None
    hints: Literal["check", "ignore"] = "check"


class RestOptions(TableOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`connector: rest`. `client`, `endpoint` and `resource` are those of dlt's declared REST APIs,
    https://dlthub.com/docs/dlt-ecosystem/verified-sources/rest_api.

    An `endpoint` is a path (default: the source table's name), or more about it; credentials are references.
    `requests_per_second` holds the source to a pace. A request that fails for a passing reason is sent again, at most
    `retries` times, each time later; no answer within `timeout` seconds is such a reason.
    """

    connector: Literal["rest"]
    client: dict[str, Any]
    endpoint: dict[str, Any] | str = ""
    resource: dict[str, Any] = {}
    requests_per_second: float | None = None
    retries: int = 5
    timeout: float = 60.0

    def __post_init__(self) -> None:
        if not self.client.get("base_url"):
            raise ValueError("`client` needs a `base_url`")
        if self.requests_per_second is not None and self.requests_per_second <= 0:
            raise ValueError("`requests_per_second` must be more than 0")
        if self.retries < 0 or self.timeout <= 0:
            raise ValueError("`retries` must be 0 or more, `timeout` more than 0 seconds")
        for name, value in (self.client.get("headers") or {}).items():
            if name.lower().endswith(("-key", "-token", "cookie")) and not _is_reference(value):
                variable = name.upper().replace("-", "_")
                raise ValueError(f"the header `{name}` is a secret: say env:{variable}")


class FivetranOptions(TableOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`connector: fivetran`: either `sdk`, the folder of an unmodified `connector.py`, or a managed `connection`.

    `configuration` of a connector are texts, secrets by reference. `python` is the interpreter of the environment that
    has Fivetran's SDK. A connector that says nothing for as long as its `patience` is ended. `table` is what the
    connector calls a table, if that is another name; with a schema of its own, `schema.table`.

    A connection's sync is waited for as long as `wait`; `schedule: manual` leaves all of its syncs to Trunkline.
    """

    connector: Literal["fivetran"]
    sdk: str | None = None
    configuration: dict[str, str] = {}
    python: str | None = None
    patience: str = "30 minutes"
    table: str | None = None
    connection: str | None = None
    api_key: str | None = None
    api_secret: str | None = None
    api_url: str = "https://api.fivetran.com"
    schedule: Literal["manual"] | None = None
    wait: str = "6 hours"

    def __post_init__(self) -> None:
        if (self.sdk is None) == (self.connection is None):
            raise ValueError("say either `sdk`, the folder of a connector.py, or `connection`, the id of a managed one")
        for key in ("patience", "wait"):
            try:
                seconds(getattr(self, key))
            except ValueError as exc:
                raise ValueError(f"{exc} - at `$.{key}`") from exc
        if self.connection and not (self.api_key and self.api_secret):
            raise ValueError("a `connection` needs an `api_key` and its `api_secret`, both by reference")


Options = FilesOptions | SqlOptions | PythonOptions | DltOptions | RestOptions | FivetranOptions


def _is_reference(value: Any) -> bool:
    return isinstance(value, str) and (value.startswith(("env:", "file:")) or "env_var(" in value)


CONNECTORS: dict[str, type[Options]] = {
    "files": FilesOptions,
    "sql": SqlOptions,
    "rest": RestOptions,
    "dlt": DltOptions,
    "fivetran": FivetranOptions,
    "python": PythonOptions,
}
# What is read in one go, with one state, for all tables of a dbt source.
JOINT = ("dlt", "rest", "fivetran")
