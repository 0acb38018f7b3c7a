"""The tables, rows and sequences of changes of the load suite, and what brings them in."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from trunkline.ledger import schema as ledger_schema
from trunkline.testing import warehouse_cases as cases
from trunkline.warehouse.load import Column, Contract, FileScan, LoadCounts, LoadRequest, QueryScan, Scan
from trunkline.warehouse.protocol import Loader, Warehouse
from trunkline.warehouse.relation import Relation

Row = Mapping[str, Any]

# What a value of the type must not be, by the reason given; None stands for a value that is not there.
MISFITS: Sequence[tuple[Column, str | None, str]] = (
    (Column("v", "integer"), "x", "does not cast to integer"),
    (Column("v", "integer"), "1.5", "does not cast to integer"),
    (Column("v", "integer"), "2147483648", "does not cast to integer"),
    (Column("v", "date"), "2023-02-29", "does not cast to date"),
    (Column("v", "varchar(3)"), "four", "does not cast to varchar(3)"),
    (Column("v", "varchar"), "a\0b", "holds a NUL character"),
    (Column("v", "varchar", required=True), None, "is null"),
    (Column("v", "varchar", required=True), "NA", "is null"),
    (Column("v", "integer", required=True), "x", "does not cast to integer"),
    (Column("v", "varchar", accepted=("a", "it's")), "b", "is not one of a, it's"),
    (Column("v", "integer", accepted=("1", "2")), "3", "is not one of 1, 2"),
)
# Values that fit, though at first sight they might not.
FITS: Sequence[tuple[Column, str | None]] = (
    (Column("v", "integer", accepted=("1", "2")), " 1 "),
    (Column("v", "integer", accepted=("1", "2")), "2.0"),
    (Column("v", "boolean", accepted=("true",)), "T"),
    (Column("v", "varchar", accepted=("a",)), None),
    (Column("v", "varchar", accepted=("a", "it's")), "it's"),
    (Column("v", "varchar(3)"), "é☃x"),
)
# Type of the contract, what is in the table, what comes, the values afterwards, the type that the load reports ("": the
# table took it as it is).
WIDENINGS: Sequence[tuple[str, str, str, list[Any]]] = (
    ("integer", "7", "2147483648", [7, 2147483648]),
    ("integer", "7", "9223372036854775808", [7, 9223372036854775808]),
    ("bigint", "7", "9223372036854775808", [7, 9223372036854775808]),
    ("integer", "7", "1.5", [7, 1.5]),
    ("decimal(5,2)", "123.45", "1234567.89", [123.45, 1234567.89]),
    ("varchar(3)", "abc", "abcdef", ["abc", "abcdef"]),
)
TEXTS = (
    "it's",
    '"q"',
    "a\nb",
    "a\r\nb",
    "back\\slash",
    "\\n",
    "%s",
    "$1",
    "--",
    "é☃",
    "🦆",
    "'; drop table t; --",
    " x ",
    "\t",
)
LONG = "long_" * 40
NAMES = ("select", "Group", "a b", 'quo"te', "sch.ema", "ünïcode ☃", "semi;colon --", "r0", "c1", "_x", "x", "n", LONG)
DELETED = ("true", "T", "1", "yes", "y", "D", "delete", "Deleted", " true ")
KEPT = ("false", "0", "no", "", None, "maybe")


@dataclass(frozen=True)
class Table:
    """A table under test, its contract, and the quarantine beside it."""

    warehouse: Warehouse
    schema: str
    contract: Contract
    folder: Path
    name: str = "t"
    loads: list[str] = field(default_factory=list)

    def held_to(self, *columns: Column, **changes: Any) -> Table:
        """The same table under another contract."""
        return replace(self, contract=replace(self.contract, columns=columns or self.contract.columns, **changes))

    @property
    def relation(self) -> Relation:
        """Its name."""
        return Relation(self.schema, self.name)

    @property
    def sql(self) -> str:
        """Its name as SQL."""
        return self.warehouse.sql(self.relation)

    # -- loads

    def csv(self, rows: Sequence[Row], header: Sequence[str] = (), **changes: Any) -> LoadCounts:
        """Load a CSV file of `rows`; a value that is not there is an empty cell."""
        names = list(header or dict.fromkeys(name for row in rows for name in row))
        text = io.StringIO()
        writer = csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n")
        writer.writerow(names)
        writer.writerows([["" if row.get(name) is None else row[name] for name in names] for row in rows])
        file = self.folder / f"{self.name[:20].encode().hex()}-{len(self.loads)}-{len(list(self.folder.iterdir()))}.csv"
        file.write_text(text.getvalue(), "utf-8", newline="")
        return self.scan(FileScan((str(file),), "csv", null_values=("NA",)), **changes)

    def json(self, rows: Iterable[Row], **changes: Any) -> LoadCounts:
        """Load JSON objects that are handed over."""
        import pyarrow as pa

        assert isinstance(self.warehouse, Loader)
        lines = pa.table({"line": pa.array([json.dumps(row) for row in rows], pa.string())})
        with self.warehouse.reader().handed(lines) as handed:
            scan = QueryScan(f"select line from {handed}", "json", null_values=("NA",))
            return self.scan(scan, **changes)

    def arrow(self, rows: Any, **changes: Any) -> LoadCounts:
        """Load an Arrow table that is handed over."""
        assert isinstance(self.warehouse, Loader)
        with self.warehouse.reader().handed(rows) as handed:
            return self.scan(QueryScan(f"select * from {handed}"), **changes)

    def scan(self, scan: Scan, *, fail: type[BaseException] | None = None, **changes: Any) -> LoadCounts:
        """Load a scan in a transaction of its own, which ends in the exception `fail` if one is given."""
        request = self._request(scan, **changes)
        assert isinstance(self.warehouse, Loader)
        with self.warehouse.staged(request, cases.silent) as rows, self.warehouse.transaction():
            counts = rows()
            if fail is not None:
                raise fail("in the middle")
        self.loads.append(request.load_id)
        assert counts.read == counts.loaded + counts.quarantined
        return counts

    def _request(self, scan: Scan, **changes: Any) -> LoadRequest:
        kept = cases.made(self.warehouse, self.quarantine, ledger_schema.TABLES["quarantine"])
        load_id = f"load_{len(self.loads) + 1}"
        named = "s.t" if self.name == "t" else self.name
        request = LoadRequest(named, self.relation, self.contract, scan, kept, load_id, cases.AT)
        return replace(request, **changes)

    # -- what is there

    @property
    def quarantine(self) -> Relation:
        """Where rows that do not fit go."""
        return Relation(self.schema, "quarantine")

    def rows(self, *names: str) -> list[tuple[Any, ...]]:
        """The rows, sorted; all columns of the contract unless some are named."""
        listed = ", ".join(self.warehouse.quote(name) for name in names or [c.name for c in self.contract.columns])
        return sorted(self.warehouse.query(f"select {listed} from {self.sql}"), key=str)

    def extras(self) -> list[Any]:
        """`_extra` of all rows that have one, parsed."""
        found = self.warehouse.query(f"select _extra from {self.sql} where _extra is not null")
        return sorted((json.loads(row[0]) for row in found), key=str)

    def type_of(self, name: str) -> str:
        """A column's canonical type."""
        return {known.lower(): type_ for known, type_ in self.warehouse.columns(self.relation)}[name.lower()]

    def set_aside(self, name: str = "s.t") -> list[tuple[list[tuple[str | None, str | None, str]], dict[str, Any]]]:
        """The quarantined rows of the source table `name`: errors (column, value, reason) and the raw row."""
        quarantine = self.warehouse.sql(self.quarantine)
        found = self.warehouse.query(f"select errors, raw from {quarantine} where table_name = ?", [name])
        return sorted(
            (
                ([(e.get("column"), e.get("value"), e["reason"]) for e in json.loads(errors)], json.loads(raw))
                for errors, raw in found
            ),
            key=str,
        )

    def reasons(self) -> list[str]:
        """All reasons of all quarantined rows, sorted."""
        return sorted(reason for errors, _ in self.set_aside() for _, _, reason in errors)


# -- changes, one by one


@dataclass(frozen=True)
class Model:
    """What a table by key holds after changes were applied one by one: the meaning of `$op`, in Python."""

    columns: tuple[str, ...]
    key: str
    rows: dict[Any, dict[str, Any]] = field(default_factory=dict)

    def apply(self, change: Row) -> None:
        """One change."""
        key, op = change[self.key], change.get("$op", "upsert")
        if op == "delete":
            self.rows.pop(key, None)
            return
        kept = self.rows.get(key, {}) if op == "update" else {}
        self.rows[key] = {name: change.get(name, kept.get(name)) for name in self.columns}

    def listed(self) -> list[tuple[Any, ...]]:
        """The rows as `Table.rows` has them."""
        return sorted((tuple(row[name] for name in self.columns) for row in self.rows.values()), key=str)


def changes(max_size: int = 60) -> st.SearchStrategy[list[dict[str, Any]]]:
    """Changes of a table (id integer, a integer, b varchar): several of each key."""
    value = st.one_of(st.none(), st.integers(0, 9))
    word = st.one_of(st.none(), st.sampled_from(["x", "é", ""]))
    told = st.fixed_dictionaries({}, optional={"a": value, "b": word})
    key = st.integers(1, 6)
    op = st.sampled_from([{}, {"$op": "upsert"}, {"$op": "update"}, {"$op": "update"}, {"$op": "delete"}])
    one = st.builds(lambda key, op, told: {"id": key, **op, **told}, key, op, told)
    return st.lists(one, min_size=1, max_size=max_size)


# -- damage

DAMAGED = (
    Column("id", "integer", required=True),
    Column("amount", "double"),
    Column("day", "date"),
    Column("kind", "varchar", accepted=("a", "b")),
)
_CELLS: Mapping[str, tuple[Sequence[Any], Sequence[Any]]] = {  # what fits as it is, and what does not
    "id": (("0", "7", "-12", "2147483647"), (None, "x", "1.5", "99999999999")),
    "amount": (("1.25", "-0.5", "1e3", None), ("1,5", "one")),
    "day": (("2024-02-29", None), ("2023-02-29", "yesterday")),
    "kind": (("a", "b", None), ("c", "A")),
}


def damaged() -> st.SearchStrategy[list[tuple[dict[str, Any], bool]]]:
    """Rows for `DAMAGED`, and whether each fits."""
    row = st.fixed_dictionaries(
        {
            name: st.one_of(st.sampled_from([(v, True) for v in good]), st.sampled_from([(v, False) for v in bad]))
            for name, (good, bad) in _CELLS.items()
        }
    )
    return st.lists(
        row.map(lambda cells: ({n: v for n, (v, _) in cells.items()}, all(ok for _, ok in cells.values()))),
        min_size=1,
        max_size=25,
    )


def cast(row: Row) -> tuple[Any, ...]:
    """A row of `damaged` that fits, as the table has it."""
    return (
        int(row["id"]),
        None if row["amount"] is None else float(row["amount"]),
        None if row["day"] is None else dt.date.fromisoformat(row["day"]),
        row["kind"],
    )
