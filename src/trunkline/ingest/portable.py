"""A type as one that every warehouse has."""

from __future__ import annotations

_PORTABLE = {
    "TINYINT": "bigint",
    "SMALLINT": "bigint",
    "INTEGER": "bigint",
    "UTINYINT": "bigint",
    "USMALLINT": "bigint",
    "UINTEGER": "bigint",
    "UBIGINT": "decimal(20,0)",
    "HUGEINT": "decimal(38,0)",
    "UHUGEINT": "decimal(38,0)",
    "FLOAT": "double",
    "TIMESTAMP WITH TIME ZONE": "timestamptz",
    "TIMESTAMP_S": "timestamp",
    "TIMESTAMP_MS": "timestamp",
    "TIMESTAMP_NS": "timestamp",
    "UUID": "varchar",
    "BLOB": "varchar",
}
_KEPT = ("BIGINT", "DOUBLE", "BOOLEAN", "VARCHAR", "DATE", "TIME", "TIMESTAMP", "JSON")


def portable(type_: str) -> str:
    """A canonical type as one that every warehouse has. Nested ones are JSON."""
    upper = type_.upper()
    if upper.startswith(("STRUCT", "MAP", "UNION")) or upper.endswith("]"):
        return "json"
    if upper.startswith("ENUM"):
        return "varchar"
    if upper.startswith("DECIMAL") or upper in _KEPT:
        return upper.lower().replace(" ", "")
    return _PORTABLE.get(upper, "varchar")
