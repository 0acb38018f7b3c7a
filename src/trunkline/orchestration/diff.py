"""The same project on two targets: schema, row counts and an order-independent hash of every table, side by side."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from trunkline.errors import EngineError, UserError
from trunkline.graph.select import select
from trunkline.ingest.steps import tables_of
from trunkline.orchestration.compile import Compiled
from trunkline.orchestration.differing_rows import Found, Pair, find
from trunkline.orchestration.session import Session
from trunkline.warehouse.compare_sql import TOLERANCE, Form, Hashed, form_of, kind_of
from trunkline.warehouse.protocol import Warehouse
from trunkline.warehouse.relation import Relation

# Columns that differ by their nature: when and by which load a row came, and dbt's own bookkeeping of a snapshot.
AUDIT = frozenset({"_load_id", "_loaded_at"})
SNAPSHOT = frozenset({"dbt_scd_id", "dbt_updated_at", "dbt_valid_from"})
VALID_TO = "dbt_valid_to"  # of a snapshot: whether a row is the current one matters, not when it ceased to be


@dataclass(frozen=True)
class Table:
    """One table of the project and where each target keeps it. `key` are columns that may be known to be unique."""

    name: str
    kind: str
    left: Relation
    right: Relation
    key: tuple[str, ...] = ()


@dataclass(frozen=True)
class TableDiff:
    """What was found out about one table. `rows` is None on the side that has no such table.

    `schema` are the columns that differ: (name, left's type, right's type), None where a side lacks it; `differ` the
    common columns whose values are not equal, `equal` the others. `left_out` were not compared, `presence` only by NULL
    or not NULL.
    """

    name: str
    kind: str
    rows: tuple[int | None, int | None]
    schema: tuple[tuple[str, str | None, str | None], ...] = ()
    equal: tuple[str, ...] = ()
    differ: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    presence: tuple[str, ...] = ()
    found: Found = field(default_factory=Found)

    @property
    def verdict(self) -> str:
        """`equal`, `equal within 1e-09`, or what differs."""
        if None in self.rows:
            return "in neither" if self.rows == (None, None) else "missing"
        wrong = {"schema": self.schema, "rows": self.rows[0] != self.rows[1], "values": self.differ}
        named = [name for name, differs in wrong.items() if differs]
        if named or self.found.rows:
            return "differs: " + ", ".join(named or ["values"])
        return f"equal within {TOLERANCE:g}" if self.found.close else "equal"

    @property
    def same(self) -> bool:
        """Whether both targets hold the same table."""
        return self.verdict.startswith(("equal", "in neither"))

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {**asdict(self), "verdict": self.verdict, "same": self.same}


Tell = Callable[[str, float | None], None]
Ask = Callable[[Callable[[Warehouse, int], Any]], tuple[Any, Any]]


def diff(left: Session, right: Session, selectors: Sequence[str], *, rows: int, tell: Tell) -> list[TableDiff]:
    """Compare every selected table, both targets at once; `rows` differing rows are looked for in each.

    Raises `UserError` when nothing is selected, or when neither target has any of it.
    """
    tables = _tables(left, right, selectors)
    found = []
    with _both(left.context.warehouse, right.context.warehouse) as ask:
        for number, table in enumerate(tables):
            tell(f"diff {table.name}", number / len(tables))
            found.append(_compare(table, ask, rows))
    if all(table.rows == (None, None) for table in found):
        names = left.project.target.name, right.project.target.name
        raise UserError(f"neither {names[0]} nor {names[1]} has any of these tables", hint="`trunkline run` makes them")
    return found


@contextmanager
def _both(left: Warehouse, right: Warehouse) -> Iterator[Ask]:
    """A way to do the same on both warehouses at once: each keeps to a thread of its own."""
    with ThreadPoolExecutor(1, "left") as one, ThreadPoolExecutor(1, "right") as other:

        def ask(do: Callable[[Warehouse, int], Any]) -> tuple[Any, Any]:
            futures: tuple[Future[Any], Future[Any]] = one.submit(do, left, 0), other.submit(do, right, 1)
            return futures[0].result(), futures[1].result()

        yield ask


# -- which tables


def _tables(left: Session, right: Session, selectors: Sequence[str]) -> list[Table]:
    ours, theirs = left.compile(), right.compile()
    chosen = select(ours.graph, selectors)
    filled = {source for name in chosen if name.startswith("ingest:") for source in tables_of(ours.graph.steps[name])}
    keys = _keys(ours)
    found = []
    other_sources = {source.key: source for source in right.project.sources}
    for source in left.project.sources:
        if source.key in filled and source.key in other_sources:
            there = other_sources[source.key]
            relations = [Relation(s.schema, s.name, s.database) for s in (source, there)]
            found.append(Table(source.key, "source", relations[0], relations[1], keys.get(source.key, ())))
    nodes, twins = ({node.unique_id: node for node in side.nodes} for side in (ours, theirs))
    for step in ours.graph:
        if step.kind != "build" or step.name not in chosen:
            continue
        node, twin = nodes[step.config["unique_id"]], twins.get(step.config["unique_id"])
        if node.kind in ("model", "seed", "snapshot") and node.relation and twin and twin.relation:
            known = keys.get(node.unique_id, ())
            found.append(Table(node.name, node.kind, Relation(*node.relation), Relation(*twin.relation), known))
    if not found:
        raise UserError("no table is selected", hint="tables are sources and dbt nodes: `trunkline plan ingest build`")
    return found


def _keys(compiled: Compiled) -> dict[str, tuple[str, ...]]:
    """Columns that a `unique` test or a dataset promises to be a key, by dbt's id; of sources by source.table."""
    names = {node.name: node.unique_id for node in compiled.nodes if node.relation}
    keys: dict[str, tuple[str, ...]] = {}
    for node in compiled.nodes:
        if node.unique and node.tested:
            is_source = node.tested.startswith("source.")
            tested = ".".join(node.tested.split(".")[2:]) if is_source else node.tested
            keys[tested] = (*keys.get(tested, ()), node.unique.strip('"'))
    for item in compiled.declared:
        if item.kind == "dataset" and item.data["relation"] in names:
            tested = names[item.data["relation"]]
            keys[tested] = (item.data["key"], *keys.get(tested, ()))
    return keys


# -- one table


@dataclass(frozen=True)
class _Columns:
    """The columns of both sides, matched by name: (name, left's name, right's name, form) of those in common."""

    common: tuple[tuple[str, str, str, Form], ...]
    schema: tuple[tuple[str, str | None, str | None], ...]
    left_out: tuple[str, ...]


def _compare(table: Table, ask: Ask, rows: int) -> TableDiff:
    relations = table.left, table.right
    try:
        types = ask(lambda warehouse, side: warehouse.columns(relations[side]))
        if all(types):
            return _values(table, _match(table, *types), ask, rows)
        counts = ask(lambda warehouse, side: _count(warehouse, relations[side]) if types[side] else None)
        return TableDiff(table.name, table.kind, counts)
    except EngineError as exc:
        raise type(exc)(f"cannot compare {table.name}: {exc.what}", hint=exc.hint) from exc


def _count(warehouse: Warehouse, relation: Relation) -> int:
    return int(warehouse.query(f"select count(*) from {warehouse.sql(relation)}")[0][0])


def _match(table: Table, left: Sequence[tuple[str, str]], right: Sequence[tuple[str, str]]) -> _Columns:
    apart = AUDIT | (SNAPSHOT if table.kind == "snapshot" else frozenset())
    ours, theirs = ({name.lower(): (name, type_) for name, type_ in side} for side in (left, right))
    common: list[tuple[str, str, str, Form]] = []
    schema: list[tuple[str, str | None, str | None]] = []
    for name, (own, type_) in ours.items():
        other, other_type = theirs.get(name, (own, None))
        if other_type is None or kind_of(type_) != kind_of(other_type):
            schema.append((own, type_, other_type))
        if other_type is not None and name not in apart:
            form = Form("null") if table.kind == "snapshot" and name == VALID_TO else form_of(type_, other_type)
            common.append((name, own, other, form))
    schema += [(own, None, type_) for name, (own, type_) in theirs.items() if name not in ours]
    return _Columns(tuple(common), tuple(schema), tuple(sorted(apart & ours.keys() & theirs.keys())))


def _values(table: Table, columns: _Columns, ask: Ask, rows: int) -> TableDiff:
    relations = table.left, table.right
    names, forms = [c[0] for c in columns.common], [c[3] for c in columns.common]

    def hashed(warehouse: Warehouse, side: int) -> Hashed:
        listed = [(warehouse.quote((own, other)[side]), form) for _, own, other, form in columns.common]
        return Hashed(warehouse.name, warehouse.sql(relations[side]), listed)

    pair = Pair(names, forms, *ask(hashed), ask=lambda *sql: ask(lambda warehouse, side: warehouse.query(sql[side])))
    (left,), (right,) = pair.both(lambda side: side.summary())
    counts = int(left[0]), int(right[0])
    apart = [i for i, (a, b) in enumerate(zip(left[2:], right[2:], strict=True)) if a != b]
    found = Found()
    if counts[0] != counts[1] or left[1] != right[1]:
        undecided = counts[0] == counts[1] and not any(forms[i].exact for i in apart)
        if rows or undecided:
            key = next(([i] for k in table.key for i, name in enumerate(names) if name == k.lower()), [])
            found = find(pair, key, max(counts), max(rows, 1))
    differ = _differing(found, apart, columns, equal_counts=counts[0] == counts[1])
    return TableDiff(
        name=table.name,
        kind=table.kind,
        rows=counts,
        schema=columns.schema,
        equal=tuple(name for name in names if name not in differ),
        differ=tuple(name for name in names if name in differ),
        left_out=columns.left_out,
        presence=tuple(name for name, form in zip(names, forms, strict=True) if form.kind == "null"),
        found=Found(found.rows[:rows], found.close, found.complete),
    )


def _differing(found: Found, apart: Sequence[int], columns: _Columns, *, equal_counts: bool) -> Collection[str]:
    """Sums that differ are differing columns where each row has its twin, unless they are of floating point and every
    row was looked at."""
    if not equal_counts:
        return found.columns
    sums = {columns.common[i][0] for i in apart if columns.common[i][3].exact or not found.complete}
    return sums | found.columns
