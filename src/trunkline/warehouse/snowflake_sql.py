"""The SQL that Snowflake is sent. Text only: nothing here opens a connection.

Names that are plain identifiers are folded to upper case, as Snowflake folds them unquoted, so that dbt's models and
ours name the same things. A load's statements are in `snowflake_load_sql.py` and `snowflake_merge_sql.py`.
"""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Sequence

from trunkline.warehouse import literals
from trunkline.warehouse.protocol import PythonFunction
from trunkline.warehouse.relation import Relation

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_$]*\Z")
_CLONE = re.compile(r"[^.]__(\d{14})_[0-9a-f]{6}\Z")  # as `clone_name` writes it
_SIZED = re.compile(r"(\w+(?: \w+)*)\s*\(\s*(\d+)\s*(?:,\s*(\d+)\s*)?\)\Z")

# Canonical type → Snowflake's. TIMESTAMP_TZ, not _LTZ, is what other loaders write; both are instants.
_TYPES = {
    **dict.fromkeys(("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT"), "NUMBER(38,0)"),
    **dict.fromkeys(("UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "UHUGEINT"), "NUMBER(38,0)"),
    **dict.fromkeys(("FLOAT", "DOUBLE"), "FLOAT"),
    **dict.fromkeys(("VARCHAR", "UUID"), "VARCHAR"),
    "BOOLEAN": "BOOLEAN",
    "DATE": "DATE",
    "TIME": "TIME",
    "TIMESTAMP": "TIMESTAMP_NTZ",
    "TIMESTAMP WITH TIME ZONE": "TIMESTAMP_TZ",
    "JSON": "VARIANT",
    "BLOB": "BINARY",
}
_OTHER_NAMES = {
    **dict.fromkeys(("INT", "INT4", "SIGNED"), "INTEGER"),
    **dict.fromkeys(("INT8", "LONG"), "BIGINT"),
    **dict.fromkeys(("INT2", "SHORT"), "SMALLINT"),
    "INT1": "TINYINT",
    **dict.fromkeys(("REAL", "FLOAT4"), "FLOAT"),
    **dict.fromkeys(("FLOAT8", "DOUBLE PRECISION"), "DOUBLE"),
    **dict.fromkeys(("TEXT", "STRING", "CHAR", "BPCHAR", "CHARACTER VARYING"), "VARCHAR"),
    "BOOL": "BOOLEAN",
    **dict.fromkeys(("DATETIME", "TIMESTAMP WITHOUT TIME ZONE", "TIMESTAMP_NTZ"), "TIMESTAMP"),
    **dict.fromkeys(("TIMESTAMPTZ", "TIMESTAMP_TZ", "TIMESTAMP_LTZ"), "TIMESTAMP WITH TIME ZONE"),
    **dict.fromkeys(("DECIMAL", "NUMERIC", "NUMBER"), "DECIMAL(18,3)"),
    **dict.fromkeys(("VARIANT", "OBJECT", "ARRAY"), "JSON"),
}

AUDIT = (("_load_id", "VARCHAR"), ("_loaded_at", "TIMESTAMP WITH TIME ZONE"), ("_extra", "JSON"))


def fold(name: str) -> str:
    """The name as Snowflake keeps it: a plain identifier in upper case, anything else as it is."""
    return name.upper() if _PLAIN.match(name) else name


def unfold(name: str) -> str:
    """The name as a project writes it: lower case, unless it is no plain upper-case identifier."""
    return name.lower() if _PLAIN.match(name) and name == name.upper() else name


def quote(name: str) -> str:
    """A SQL identifier, folded and quoted."""
    return '"' + fold(name).replace('"', '""') + '"'


def exact(name: str) -> str:
    """The name of a result's column, as Snowflake tells it, as SQL."""
    return '"' + name.replace('"', '""') + '"'


def tagged(own: str, text: str) -> str:
    """A query tag after the user's own; one that is a JSON object gets a key `trunkline` (as the dbt macros do)."""
    try:
        fields = json.loads(own) if own.startswith("{") else None
    except ValueError:
        fields = None
    if isinstance(fields, dict):
        return json.dumps({**fields, "trunkline": text.removeprefix("trunkline:")})
    return f"{own} {text}".strip()


def bare(*parts: str) -> str:
    """A name for PUT, GET and IMPORTS, which read stages more strictly than SQL: quoted only where it must be."""
    return ".".join(fold(part) if _PLAIN.match(part) else quote(part) for part in parts)


def literal(text: str) -> str:
    """A SQL string literal. Snowflake reads backslashes as escapes."""
    return "'" + text.replace("\\", "\\\\").replace("'", "''") + "'"


def scalar(value: object) -> str:
    """A value as SQL. Raises `TypeError` for what is no SQL scalar."""
    return literals.scalar(value, literal, timestamp)


def timestamp(at: dt.datetime) -> str:
    """An aware time as SQL."""
    return f"cast({literal(at.astimezone(dt.UTC).isoformat(sep=' '))} as timestamp_tz)"


def inline(sql: str, values: Sequence[object]) -> str:
    """`sql` with each `?` outside quotes replaced by a value. Raises `ValueError` if the numbers do not match."""
    return literals.inline(sql, values, scalar, r"'(?:[^'\\]|''|\\.)*'")


def canonical(type_: str) -> str:
    """A contract's type in canonical spelling: `int` is INTEGER, `numeric(9, 2)` DECIMAL(9,2)."""
    text = " ".join(type_.upper().split())
    sized = _SIZED.match(text)
    if sized is None:
        return _OTHER_NAMES.get(text, text)
    base, size, scale = sized.groups()
    base = base.strip()
    if base in ("DECIMAL", "NUMERIC", "NUMBER"):
        return f"DECIMAL({size},{scale or 0})"
    return _OTHER_NAMES.get(base, base)


def column_type(type_: str) -> str:
    """The Snowflake type of a column of a contract's type. Nested types are VARIANT."""
    name = canonical(type_)
    if name.startswith("DECIMAL("):
        return name.replace("DECIMAL", "NUMBER")
    return _TYPES.get(name, "VARIANT")


def told_type(data_type: str, precision: int | None, scale: int | None) -> str:
    """The canonical type of a column as `information_schema.columns` tells it."""
    if data_type in ("NUMBER", "DECIMAL", "FIXED"):
        return "BIGINT" if not scale else f"DECIMAL({precision or 38},{scale})"
    known = {"TEXT": "VARCHAR", "FLOAT": "DOUBLE", "BINARY": "BLOB", "TIMESTAMP_NTZ": "TIMESTAMP"}
    return known.get(data_type, _OTHER_NAMES.get(data_type, data_type))


def stored_type(type_: str) -> str:
    """What `told_type` says of a column that was made with `column_type(type_)`."""
    name = column_type(type_)
    sized = re.match(r"NUMBER\((\d+),(\d+)\)", name)
    return told_type("NUMBER", int(sized[1]), int(sized[2])) if sized else told_type(name, None, None)


def create_table(name: str, columns: Sequence[tuple[str, str]], *, verb: str = "create table if not exists") -> str:
    """CREATE TABLE with the columns of a contract."""
    listed = ", ".join(f"{quote(column)} {column_type(type_)}" for column, type_ in columns)
    return f"{verb} {name} ({listed})"


def copy_into(table: str, stage: str) -> str:
    """COPY the Parquet files of a stage into a table, all of them or none."""
    return (
        f"copy into {table} from {stage} file_format = (type = parquet) "
        "match_by_column_name = case_insensitive on_error = abort_statement"
    )


# -- functions


def create_function(
    name: str, function: PythonFunction, imports: Sequence[str], verb: str = "create or replace function"
) -> str:
    """CREATE FUNCTION … LANGUAGE PYTHON with the source in it.

    https://docs.snowflake.com/en/sql-reference/sql/create-function
    """
    arguments = ", ".join(f"{quote(argument)} {column_type(type_)}" for argument, type_ in function.arguments)
    parts = [
        f"{verb} {name}({arguments})",
        f"returns {column_type(function.returns)}",
        "language python",
        "immutable" if function.deterministic else "volatile",
        "runtime_version = '3.11'",
        f"packages = ({', '.join(literal(package) for package in function.packages)})",
        *([f"imports = ({', '.join(literal(file) for file in imports)})"] if imports else []),
        f"handler = {literal(function.handler)}",
        f"as {literal(function.source)}",
    ]
    return "\n".join(parts)


def clone_name(relation: Relation, at: dt.datetime, suffix: str) -> str:
    """What the clone that keeps a relation's state is called."""
    return f"{relation.name}__{at:%Y%m%d%H%M%S}_{suffix}"


def cloned_at(name: str) -> dt.datetime | None:
    """When a clone of that name was made; None for what is no clone's name."""
    found = _CLONE.search(name)
    return dt.datetime.strptime(found[1], "%Y%m%d%H%M%S").replace(tzinfo=dt.UTC) if found else None
