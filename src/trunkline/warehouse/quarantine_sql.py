"""SQL over the quarantine's JSON, which warehouses take apart in ways of their own. Text only.

A quarantined row has one error a column: `[{"column": …, "value": …, "reason": …}, …]`.
"""

from __future__ import annotations

_ERRORS = '[{"column":"VARCHAR","value":"VARCHAR","reason":"VARCHAR"}]'

_EXPLODED = {
    "duckdb": (
        'select q.quarantine_id, q.load_id, q.table_name, q.file, q.line, q.quarantined_at, e."column" as col, '
        'e."value" as val, e.reason as reason from (select *, '
        f"unnest(from_json(errors, '{_ERRORS}')) as e"
        " from {table} where {where}) q"
    ),
    "snowflake": (
        "select q.quarantine_id, q.load_id, q.table_name, q.file, q.line, q.quarantined_at, "
        "get_path(e.value, 'column')::varchar as col, get_path(e.value, 'value')::varchar as val, "
        "get_path(e.value, 'reason')::varchar as reason "
        "from (select * from {table} where {where}) q, lateral flatten(input => q.errors) e"
    ),
}


def exploded(warehouse: str, table: str, where: str = "true") -> str:
    """A query with one row an error: the quarantined row's columns, and `col`, `val`, `reason`.

    `warehouse` is `Warehouse.name`, `table` the quoted name of the quarantine; `where` is about its columns.
    """
    return _EXPLODED[warehouse].replace("{table}", table).replace("{where}", where)
