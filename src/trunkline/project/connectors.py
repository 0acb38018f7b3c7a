"""What `config.meta.trunkline` of a source or a source table may say: one record a connector.

Secrets are references only (`project/secrets.py`): `env:NAME`, `file:PATH`.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

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
    given. `storage` is what DuckDB's CREATE SECRET takes (`type: s3`, `key_id: env:…`), for a store that needs it.
    """

    connector: Literal["files"]
    path: str
    format: Literal["csv", "ndjson", "json", "parquet"] | None = None
    delimiter: str | None = None
    since: str | None = None
    storage: dict[str, Any] = {}


class SqlOptions(TableOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`connector: sql`. `dsn` is a reference to a URL (`postgresql://…`, `mysql://…`, `sqlite:///…`).

    The rows are those of `table` (default: the source table's name) or of `query`. With a `cursor` only rows beyond its
    greatest value so far are read, less a `lag` ("15 minutes", or a number), in transactions of about `batch_rows`.
    `changed` is a query whose answer tells whether a `replace-when-changed` table must be read. `through` names the way
    for databases that DuckDB does not scan itself.
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


class PythonOptions(TableOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`connector: python`. `function` is `sources/orders.py:orders`, a generator under `@tl.source`."""

    connector: Literal["python"]
    function: str
    arguments: dict[str, Any] = {}


class DltOptions(TableOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`connector: dlt`. `source` is `sources/github.py:github` or `package.module:function`, called with `arguments`.

    A table is the resource of its name, unless `resource` names another.
    """

    connector: Literal["dlt"]
    source: str
    arguments: dict[str, Any] = {}
    resource: str | None = None


class RestOptions(TableOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`connector: rest`. `client` and `endpoint` are dlt's, https://dlthub.com/docs/dlt-ecosystem/verified-sources/rest_api.

    `requests_per_second` holds the source to a pace.
    """

    connector: Literal["rest"]
    client: dict[str, Any]
    endpoint: dict[str, Any] | str = ""
    resource: dict[str, Any] = {}
    requests_per_second: float | None = None


class FivetranOptions(TableOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`connector: fivetran`: either `sdk`, the folder of an unmodified `connector.py`, or a managed `connection`.

    `configuration` of a connector are texts, secrets by reference. `python` is the interpreter of the environment that
    has Fivetran's SDK.
    """

    connector: Literal["fivetran"]
    sdk: str | None = None
    configuration: dict[str, str] = {}
    python: str | None = None
    connection: str | None = None
    api_key: str | None = None
    api_secret: str | None = None
    api_url: str = "https://api.fivetran.com"
    wait: str = "6 hours"


Options = FilesOptions | SqlOptions | PythonOptions | DltOptions | RestOptions | FivetranOptions

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
