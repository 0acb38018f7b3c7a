"""What a load is, as plain records: where rows come from, the contract they are held to, and what became of them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from trunkline.warehouse.relation import Relation

Policy = Literal["fail", "quarantine", "evolve"]
Format = Literal["csv", "ndjson", "json", "parquet"]
REST = "$rest"


@dataclass(frozen=True)
class Column:
    """One column of a contract. `type` is SQL; a NULL in a `required` one does not fit, nor a text that is not
    `accepted` (empty: all are). `source` is what the source calls it, if that is another name."""

    name: str
    type: str
    required: bool = False
    accepted: tuple[str, ...] = ()
    source: str = ""

    @property
    def source_name(self) -> str:
        """What the source calls it."""
        return self.source or self.name

    def to_json(self) -> list[Any]:
        """`[name, type]`, and what else is asked of it, if anything is."""
        more = {"required": self.required, "accepted": list(self.accepted), "source": self.source}
        told = {key: value for key, value in more.items() if value}
        return [self.name, self.type, told] if told else [self.name, self.type]

    @classmethod
    def from_json(cls, data: list[Any]) -> Column:
        """What `to_json` wrote."""
        more = data[2] if len(data) > 2 else {}
        return cls(
            data[0], data[1], more.get("required", False), tuple(more.get("accepted", ())), more.get("source", "")
        )


@dataclass(frozen=True)
class Contract:
    """What rows are held to.

    With a `key` rows are merged: of rows with one key the last counts, and replaces the one in the table. `deleted`
    names the source's column that marks a row as deleted there: its key is removed, unless that column is in the
    contract, then the row is kept with its mark. `order` names the column whose greatest value is the last; without it
    the row that came last is.

    `policy` decides about a column that the source lacks, and about a value that does not fit: `fail` ends the load,
    `quarantine` sets the rows aside, `evolve` takes a missing column as NULL and widens the table's type where SQL has
    a wider one of the same kind (what fits nowhere is set aside).
    """

    columns: tuple[Column, ...]
    key: tuple[str, ...] = ()
    deleted: str | None = None
    order: str | None = None
    policy: Policy = "quarantine"

    def to_json(self) -> list[list[Any]]:
        """The columns as plain data, for the ledger."""
        return [column.to_json() for column in self.columns]

    @property
    def types(self) -> tuple[tuple[str, str], ...]:
        """(name, type) of each column."""
        return tuple((column.name, column.type) for column in self.columns)

    @property
    def mark(self) -> Column | None:
        """The column in which rows that are gone at the source are marked, and kept. None: they are removed."""
        marked = (self.deleted or "").lower()
        return next((column for column in self.columns if column.source_name.lower() == marked), None)


@dataclass(frozen=True)
class FileScan:
    """Files that the warehouse reads by itself: local paths or URLs. `null_values` are texts that mean NULL.

    `secret` is what DuckDB's CREATE SECRET takes, for URLs that need one. Files below the folder `beneath` are called
    by the rest of their path; a compressed one may unpack to `unpacked_limit` bytes (without it, see `headers.py`).
    """

    files: tuple[str, ...]
    format: Format
    null_values: tuple[str, ...] = ()
    delimiter: str | None = None
    secret: Mapping[str, Any] = field(default_factory=dict, repr=False)
    beneath: str = ""
    unpacked_limit: int | None = None


@dataclass(frozen=True)
class QueryScan:
    """Rows of a query that the loader's `reader()` runs: over an attached database, or rows handed to it.

    With `shape` "json" the query has one text column `line`, a JSON object a row. Such an object may have a key
    `$op`: "upsert" (as without one), "update" (columns that the object lacks keep their value) or "delete".

    With "apart" such objects, without `$op`, have been taken apart: a column for each column of the contract (and the
    one that marks deleted rows), of texts, nested values as JSON, or of a type that casts as its text does; and
    `$rest`, a JSON object of the keys outside the contract, NULL if there are none.

    `clean`: no text has a NUL character in it.
    """

    sql: str
    shape: Literal["columns", "json", "apart"] = "columns"
    null_values: tuple[str, ...] = ()
    clean: bool = False


Scan = FileScan | QueryScan


@dataclass(frozen=True)
class LoadRequest:
    """Rows of `scan` into `target`, cast to `contract`; rows that do not fit into `quarantine`.

    `name` is what the source table is called in messages. `replace` makes the target anew, with the types of the
    contract; `truncate` removes all rows that are there first, or marks them as deleted where the contract keeps such
    a mark.
    """

    name: str
    target: Relation
    contract: Contract
    scan: Scan
    quarantine: Relation
    load_id: str
    loaded_at: dt.datetime
    replace: bool = False
    truncate: bool = False


@dataclass(frozen=True)
class LoadCounts:
    """What one load did, in rows. `read == loaded + quarantined`, always; of the loaded, `deleted` took a key away.

    `evolved` are columns whose type in the table was widened, with the type they have now.
    """

    read: int
    loaded: int
    quarantined: int
    deleted: int = 0
    evolved: tuple[tuple[str, str], ...] = ()

    def __add__(self, other: LoadCounts) -> LoadCounts:
        return LoadCounts(
            self.read + other.read,
            self.loaded + other.loaded,
            self.quarantined + other.quarantined,
            self.deleted + other.deleted,
            (*self.evolved, *other.evolved),
        )
