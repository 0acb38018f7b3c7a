"""What a resource of dlt (`DltResource`) says of itself, held against sources.yml: its load, deletions and order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import Any

from trunkline.errors import SourceError
from trunkline.ingest import encode
from trunkline.ingest.protocol import Batch, Table


def heeded(table: Table, resource: Any) -> str | None:
    """Heed what the resource's hints say of a merge: rows that `hard_delete` marks become deletions, and the column of
    `dedup_sort` is given, whose greatest value is the last of a key's rows.

    What sources.yml says itself comes first; with `hints: ignore`, and for other loads, nothing is heeded. Raises
    `SourceError` for hints that would have the rows written otherwise than sources.yml has it.
    """
    if resource.has_dynamic_table_name or table.options.get("hints") == "ignore":
        return None
    hints: Mapping[str, Any] = resource.compute_table_schema()
    columns: Mapping[str, Any] = hints.get("columns") or {}
    _agree(table, resource, str(hints.get("write_disposition") or "append"), columns)
    if table.load != "merge":
        return None
    _deleting(table, resource, columns)
    return _order(table, columns)


def ordered(batches: Iterator[Batch], orders: Mapping[str, str]) -> Iterator[Batch]:
    """The batches, with the order that `heeded` gave for a table. `orders` is filled before the first of them."""
    with closing(batches):  # type: ignore[type-var]  # generators
        for batch in batches:
            pieces = (replace(piece, order=orders.get(piece.table)) for piece in batch.pieces)
            yield replace(batch, pieces=tuple(pieces))


def _agree(table: Table, resource: Any, wanted: str, columns: Mapping[str, Any]) -> None:
    """Raises `SourceError` where a resource is to be merged or replaced, and sources.yml would double its rows."""
    if table.load != "append" or wanted not in ("merge", "replace"):
        return
    key = [name for name, column in columns.items() if column.get("primary_key") or column.get("merge_key")]
    said = f"`load: merge` and `key: [{', '.join(key) or '…'}]`" if wanted == "merge" else "`load: replace`"
    raise SourceError(
        f"{table.source}: the resource {resource.name!r} has write_disposition {wanted!r}; appended, its rows would be "
        "there twice after the next load",
        hint=f"say {said} in sources.yml, or `hints: ignore` to append all the same",
    )


def _deleting(table: Table, resource: Any, columns: Mapping[str, Any]) -> None:
    """Add a step for the column that dlt deletes by: true, or any value where it is not boolean, takes the row away.

    https://dlthub.com/docs/general-usage/merge-loading#delete-records
    """
    marker = next((name for name, column in columns.items() if column.get("hard_delete")), None)
    if marker is not None and table.contract.deleted is None:
        resource.add_map(partial(_with_deletions, marker))


def _with_deletions(marker: str, item: Any) -> Any:
    """An item whose marked rows say so by `$op`. Arrow and DataFrames stay what they are while there are none."""
    if isinstance(item, Mapping):
        return {**item, "$op": "delete"} if _marked(item.get(marker)) else item
    found = list(encode.tables(item) or ())
    if any(_any_marked(rows, marker) for rows in found):
        return [_with_deletions(marker, row) for rows in found for row in rows.to_pylist()]
    return found[0] if len(found) == 1 else found or item  # a stream of Arrow has been read


def _marked(value: Any) -> bool:
    return value if isinstance(value, bool) else value is not None


def _any_marked(rows: Any, marker: str) -> bool:
    return marker in rows.schema.names and any(_marked(value) for value in rows.column(marker).unique().to_pylist())


def _order(table: Table, columns: Mapping[str, Any]) -> str | None:
    """The column of the contract that dlt sorts by before it takes the first row of a key."""
    sort = next(((name, column["dedup_sort"]) for name, column in columns.items() if column.get("dedup_sort")), None)
    if sort is None or table.contract.order is not None:
        return None
    name, direction = sort
    if direction != "desc":
        raise SourceError(
            f"{table.source}: the resource keeps the row with the least {name!r} of those with one key (dedup_sort "
            f"{direction!r}); here the greatest is kept, or the last",
            hint="say dedup_sort `desc`, or `hints: ignore` to keep the last",
        )
    for column in table.contract.columns:
        if column.source_name.lower() == name.lower():
            return column.name
    raise SourceError(
        f"{table.source}: the resource sorts by {name!r} (dedup_sort), which is no column of the contract",
        hint=f"declare {name!r}, or say `hints: ignore` to keep the last row of a key",
    )
