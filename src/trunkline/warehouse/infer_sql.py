"""SQL that looks at a sample of texts and says which types all of them have. Text only.

A type is offered only if every value has its shape *and* casts: `2025-01-01 06:30` casts to a date, `007` to a number
and `yes` to a truth value, but what is meant is another thing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from trunkline.warehouse.load_sql import literal, quote

# Texts by which the makers of files say that there is no value.
NULL_TEXTS = ("na", "n/a", "#n/a", "nan", "null", "none", "nil", "-", "--", "?", "\\n", ".", "(null)")

# type → (the shape of every value as an expression, or "", and what a value must cast to); the first that fits is taken
SHAPES: Mapping[str, tuple[str, str]] = {
    "bigint": (r"^-?(0|[1-9]\d{0,18})$", "bigint"),
    "decimal(38,0)": (r"^-?[1-9]\d{18,37}$|^-?(0|[1-9]\d{0,18})$", "decimal(38,0)"),
    "double": (r"^-?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$", "double"),
    "boolean": (r"^(?i)(true|false|t|f|yes|no)$", "boolean"),
    "date": (r"^\d{4}-\d{1,2}-\d{1,2}$", "date"),
    "timestamptz": (r"^\d{4}-\d{1,2}-\d{1,2}[ T]\d{1,2}:\d{2}.*(Z|[+-]\d{2}(:?\d{2})?)$", "timestamptz"),
    "timestamp": (r"^\d{4}-\d{1,2}-\d{1,2}([ T]\d{1,2}:\d{2}(:\d{2}([.]\d+)?)?)?$", "timestamp"),
    "time": (r"^\d{1,2}:\d{2}(:\d{2}([.]\d+)?)?$", "time"),
    "json": (r"^\s*[\[{]", "json"),
}
_LEADING_ZERO = r"^-?0\d"


def tally(column: str, rows: str, declared: str | None = None) -> str:
    """A query of one row over `rows`, about the text column `column`.

    Its columns: rows, values, values that mean NULL by their text, then how many values are of each of `SHAPES`, then
    how many cast to the `declared` type (NULL without one).
    """
    name = quote(column)
    null = f"lower(trim({name})) in ({', '.join(literal(text) for text in NULL_TEXTS)})"
    counts = [f"count(*) filter ({_is('v', shape, type_)})" for shape, type_ in SHAPES.values()]
    fits = f"count(try_cast(v as {declared}))" if declared else "null"
    return (
        f"select count(*), count({name}), count(*) filter ({null}), {', '.join(counts)}, {fits} "
        f"from (select {name}, case when not coalesce({null}, false) then {name} end as v from {rows})"
    )


def _is(value: str, shape: str, type_: str) -> str:
    cast = f"json_valid({value})" if type_ == "json" else f"try_cast({value} as {type_}) is not null"
    zero = f" and not regexp_matches({value}, {literal(_LEADING_ZERO)})" if type_ == "double" else ""
    return f"regexp_matches({value}, {literal(shape)}){zero} and {cast}"


def null_texts(columns: Sequence[str], rows: str) -> str:
    """A query for the texts of these columns that mean NULL, as they are written."""
    nulls = ", ".join(literal(text) for text in NULL_TEXTS)
    each = [f"select distinct {quote(c)} as t from {rows} where lower(trim({quote(c)})) in ({nulls})" for c in columns]
    return f"select distinct t from ({' union all '.join(each)}) order by 1"


def json_keys(rows: str) -> str:
    """A query for the keys of the JSON objects `line` of `rows`, in the order in which they first appear: key, whether
    any of its values is an object or an array, whether any is a number with a fraction, whether all are texts."""
    kind = "json_type(j, '$.\"' || replace(replace(k, '\\', '\\\\'), '\"', '\\\"') || '\"')"
    return (
        "select k, bool_or(t in ('OBJECT', 'ARRAY')), bool_or(t = 'DOUBLE'), "
        "bool_and(coalesce(t, 'NULL') in ('VARCHAR', 'NULL')) from ("
        f"select k, n, i, {kind} as t from (select n, j, unnest(json_keys(j)) as k, "
        "generate_subscripts(json_keys(j), 1) as i from ("
        "select row_number() over () as n, case when json_valid(line) then line::json end as j from "
        f"{rows}) where json_type(j) = 'OBJECT')) group by k order by min(n), min(i)"
    )


def json_texts(keys: Sequence[str], rows: str) -> str:
    """The JSON objects `line` of `rows` as a subquery with one text column a key."""
    paths = [literal("$." + '"' + key.replace("\\", "\\\\").replace('"', '\\"') + '"') for key in keys]
    listed = ", ".join(f"json_extract_string(j, {p}) as {quote(key)}" for key, p in zip(keys, paths, strict=True))
    valid = f"select case when json_valid(line) then line::json end as j from {rows}"
    return f"(select {listed} from ({valid}) where json_type(j) = 'OBJECT')"
