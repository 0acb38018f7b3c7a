"""Which rows that waited in the quarantine are older than what the table holds now."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from trunkline.ingest.protocol import Table
from trunkline.warehouse.protocol import SourceReader, Warehouse

if TYPE_CHECKING:
    from trunkline.ingest.resubmit import Held

T = TypeVar("T")
_KEYS = 2_000


def pages(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """The items, `size` at a time."""
    left = iter(items)
    while page := list(islice(left, size)):
        yield page


def newer(warehouse: Warehouse, reader: SourceReader, table: Table, rows: Sequence[Held]) -> set[str]:
    """Ids of rows whose key the table holds with a greater `order` value, or, without one, from a later load.

    Merged anew, such a row would put yesterday's values over today's. Keys are compared as the texts of their values.
    """
    key = table.contract.key
    if not key or not warehouse.columns(table.relation):
        return set()
    found: set[str] = set()
    for page in pages(rows, _KEYS):
        mine = _cast(reader, table, page)
        there = _held(warehouse, table, {keys[0] for keys, _ in mine.values() if keys[0] is not None})
        for row in page:
            keys, order = mine[row.quarantine_id]
            if keys in there and _later(there[keys], (row.load_id, order)):
                found.add(row.quarantine_id)
    return found


def _later(held: tuple[str, Any], waited: tuple[str, Any]) -> bool:
    """Of (load, order): by the order where both have one that compares, else by load: their ids sort by time."""
    if held[1] is not None and waited[1] is not None:
        try:
            return bool(held[1] > waited[1])
        except TypeError:
            pass  # a time with a zone and one without: the load decides
    return held[0] > waited[0]


def _cast(reader: SourceReader, table: Table, page: Sequence[Held]) -> dict[str, tuple[tuple[Any, ...], Any]]:
    """Each row's key, as texts, and order value, read as the load would read them."""
    contract = table.contract
    columns = {column.name.lower(): column for column in contract.columns}
    asked = [columns[name.lower()] for name in (*contract.key, *([contract.order] if contract.order else []))]

    def value(row: Held, names: tuple[str, ...]) -> Any:
        lower = {name.lower(): value for name, value in row.raw.items()}
        return next((lower[name.lower()] for name in names if name.lower() in lower), None)

    listed = [
        json.dumps([_text(value(row, (column.source_name, column.name))) for column in asked], ensure_ascii=False)
        for row in page
    ]
    casts = [f"try_cast(v[{i}] as {column.type}) as c{i}" for i, column in enumerate(asked, start=1)]
    count = len(contract.key)
    shown = [f"cast(c{i} as varchar)" if i <= count else f"c{i}" for i in range(1, len(asked) + 1)]
    texts = ", ".join("?" for _ in listed)
    found = reader.query(
        f"select {', '.join(shown)} from (select n, {', '.join(casts)} from "
        f"(select unnest(range(len(a))) as n, unnest([from_json(x, '[\"VARCHAR\"]') for x in a]) as v "
        f"from (select [{texts}]::varchar[] as a))) order by n",
        listed,
    )
    return {
        row.quarantine_id: (tuple(values[:count]), values[count] if contract.order else None)
        for row, values in zip(page, found, strict=True)
    }


def _text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value, default=str)


def _held(warehouse: Warehouse, table: Table, firsts: set[Any]) -> dict[tuple[Any, ...], tuple[str, Any]]:
    """The table's rows with one of these first keys: key as texts → (load, order value)."""
    if not firsts:
        return {}
    contract = table.contract
    keys = [f"cast({warehouse.quote(name)} as varchar)" for name in contract.key]
    order = warehouse.quote(contract.order) if contract.order else "null"
    listed = ", ".join("?" for _ in firsts)
    rows = warehouse.query(
        f"select {', '.join(keys)}, {warehouse.quote('_load_id')}, {order} from {warehouse.sql(table.relation)} "
        f"where {keys[0]} in ({listed})",
        sorted(firsts),
    )
    return {tuple(row[: len(keys)]): (str(row[len(keys)]), row[len(keys) + 1]) for row in rows}
