"""SQL by which two relations on two warehouses are compared without moving their rows.

Every value becomes a text that is the same on each engine, every text a number (60 bits of its MD5), and a column is
the sum of its numbers: no order, no duplicates lost. A row is the number of its columns' numbers, so that values that
changed places are noticed. NULL has a number of its own. Text only: nothing here opens a connection.

Floating-point values are hashed by ten significant digits, worked out in IEEE arithmetic that every engine does
alike; whole numbers up to 2**53 exactly. Values a rounding error apart may still fall on two sides of a digit: who
finds two sums different looks at the rows.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

TOLERANCE = 1e-9  # what ten significant digits can tell apart

_INTEGER = re.compile(r"U?(TINY|SMALL|BIG|HUGE)?INT(EGER)?|(DECIMAL|NUMERIC)\(\d+, ?0\)")
_DECIMAL = re.compile(r"(?:DECIMAL|NUMERIC)\((\d+), ?(\d+)\)")
_NUMBERS, _TIMES = ("integer", "decimal", "double"), ("date", "timestamp", "timestamptz")
_TEXTS = re.compile(r"(VARCHAR|UUID|ENUM)\b")
_DIGITS, _WIDEST, _LARGEST_WHOLE = 9, 38, "9007199254740992"
_TINY = 250  # below 1e-250 a value is scaled up first, so that no power of ten overflows


@dataclass(frozen=True)
class Form:
    """How a column's values are written down to be compared. `scale` is that of decimals."""

    kind: str
    scale: int = 0

    @property
    def exact(self) -> bool:
        """Whether equal values always have equal numbers."""
        return self.kind != "double"

    def shown(self, text: object) -> object:
        """A compared text as people read it: moments and times of day are microseconds in it."""
        if self.kind not in ("moment", "time") or not str(text).lstrip("-").isdigit():
            return text
        try:
            at = dt.datetime(1970, 1, 1) + dt.timedelta(microseconds=int(str(text)))
        except OverflowError:  # a year that Python does not know
            return f"{text} microseconds"
        return at.time().isoformat() if self.kind == "time" else at.isoformat(" ").removesuffix(" 00:00:00")


@dataclass(frozen=True)
class Dialect:
    """What two warehouses say differently. `{0}` is the argument."""

    number: str
    microseconds: str


DIALECTS: Mapping[str, Dialect] = {
    # the last 60 bits: they fit a signed 64-bit integer. (DuckDB's md5_number_lower reads the bytes backwards.)
    "duckdb": Dialect("cast('0x' || substr(md5({0}), 18, 15) as bigint)", "epoch_us({0})"),
    "snowflake": Dialect(f"mod(md5_number_lower64({{0}}), {2**60})", "date_part(epoch_microsecond, {0})"),
}


def kind_of(type_: str) -> str:
    """The family of a canonical type: what is one family is not a difference between warehouses."""
    text = type_.upper()
    if _INTEGER.fullmatch(text):
        return "integer"
    if text.startswith(("DECIMAL", "NUMERIC")):
        return "decimal"
    if text in ("DOUBLE", "FLOAT", "REAL"):
        return "double"
    if text.startswith("TIMESTAMP"):
        return "timestamptz" if text.endswith(("WITH TIME ZONE", "TZ")) else "timestamp"
    if _TEXTS.match(text):
        return "text"
    return {"BOOLEAN": "boolean", "DATE": "date", "TIME": "time", "JSON": "json"}.get(text, "other")


def form_of(left: str, right: str) -> Form:
    """How a column of these two canonical types is compared. Form `null` tells only NULL from not NULL."""
    kinds = {kind_of(left), kind_of(right)}
    if kinds <= set(_NUMBERS):
        return _number_form(left, right)
    if kinds <= set(_TIMES):
        return Form("moment")
    if len(kinds) == 1 and kinds <= {"text", "boolean", "time"}:
        return Form(kinds.pop())
    return Form("null")


def _number_form(left: str, right: str) -> Form:
    sizes = [_size(left), _size(right)]
    if any(size is None for size in sizes):
        return Form("double")
    found = [size for size in sizes if size is not None]
    scale = max(scale for _, scale in found)
    if scale == 0:
        return Form("integer")
    fits = all(digits - own + scale <= _WIDEST for digits, own in found)
    return Form("decimal", scale) if fits else Form("double")


def _size(type_: str) -> tuple[int, int] | None:
    """Digits and scale of an exact number; None for floating point. Whole numbers count as BIGINT."""
    decimal = _DECIMAL.fullmatch(type_.upper())
    if decimal and int(decimal[2]):
        return int(decimal[1]), int(decimal[2])
    return None if kind_of(type_) == "double" else (19, 0)


@dataclass(frozen=True)
class Hashed:
    """One side of a comparison: a relation, and columns (as SQL) with the form each is compared in."""

    warehouse: str
    relation: str
    columns: Sequence[tuple[str, Form]]

    def summary(self) -> str:
        """One row: the number of rows, the sum of the rows' numbers, then each column's sum; sums as text."""
        sums = ", ".join(_sum(f"n{i}") for i in range(len(self.columns)))
        return f"select count(*), {_sum('r')}{', ' if sums else ''}{sums} from ({self._rows()}) q"

    def buckets(self, key: Sequence[int], count: int) -> str:
        """Rows spread over `count` buckets by the columns at `key`: bucket, number of rows, sum of their numbers."""
        return f"select b, count(*), {_sum('r')} from ({self._bucketed(key, count)}) q group by b"

    def rows(self, key: Sequence[int], count: int, chosen: Sequence[int]) -> str:
        """The rows of the chosen buckets, column by column: the text that is compared, or the double itself."""
        values = ", ".join(f"t{i}" if form.exact else f"c{i}" for i, (_, form) in enumerate(self.columns))
        listed = ", ".join(map(str, chosen))
        return f"select {values} from ({self._bucketed(key, count)}) q where b in ({listed})"

    def _bucketed(self, key: Sequence[int], count: int) -> str:
        by = self._number(_joined(f"n{i}" for i in key)) if key else "r"
        return f"select q.*, cast(mod({by}, {count}) as integer) as b from ({self._rows()}) q"

    def _rows(self) -> str:
        """The relation with `c0…` (values), `t0…` (texts), `n0…` (numbers) and `r` (the row's number)."""
        numbers = [f"{self._number(f'''coalesce('v' || t{i}, 'n')''')} as n{i}" for i, _ in enumerate(self.columns)]
        row = self._number(_joined(f"n{i}" for i, _ in enumerate(self.columns)))
        values = ", ".join(self._value(i, name, form) for i, (name, form) in enumerate(self.columns)) or "1 as c"
        sql = f"select {values} from {self.relation}"
        doubles = [i for i, (_, form) in enumerate(self.columns) if not form.exact]
        for layer in (_magnitude, _exponent, _mantissa):
            sql = _layer(sql, [layer(i) for i in doubles])
        sql = _layer(sql, [f"{_digits(i)} as t{i}" for i in doubles])
        sql = _layer(sql, numbers)
        return _layer(sql, [f"{row} as r"])

    def _value(self, i: int, name: str, form: Form) -> str:
        if not form.exact:
            return f"cast({name} as double) as c{i}"
        texts = {
            "integer": f"cast({name} as varchar)",
            "decimal": f"cast(cast({name} as decimal({_WIDEST}, {form.scale})) as varchar)",
            "boolean": f"case when {name} then 'true' when not {name} then 'false' end",
            "text": f"cast({name} as varchar)",
            "moment": _moment(DIALECTS[self.warehouse].microseconds.format(name), name),
            "time": f"cast(datediff('microsecond', cast('00:00:00' as time), {name}) as varchar)",
            "null": f"case when {name} is not null then 'not null' end",
        }
        return f"{texts[form.kind]} as t{i}"

    def _number(self, text: str) -> str:
        return DIALECTS[self.warehouse].number.format(text)


def _layer(sql: str, columns: Sequence[str]) -> str:
    return f"select q.*, {', '.join(columns)} from ({sql}) q" if columns else sql


def _sum(name: str) -> str:
    return f"cast(sum(cast({name} as bigint)) as varchar)"


def _joined(names: Iterable[str]) -> str:
    return " || '|' || ".join(f"cast({name} as varchar)" for name in names) or "''"


def _moment(microseconds: str, name: str) -> str:
    """An infinite date has no microseconds, and is not NULL."""
    return f"coalesce(cast({microseconds} as varchar), case when {name} is not null then 'infinity' end)"


def _magnitude(i: int) -> str:
    """The absolute value where it has digits, else 1; a tiny one scaled up."""
    finite = f"abs(c{i}) <= cast('1.7976931348623157e308' as double)"
    scaled = f"case when abs(c{i}) < cast('1e-{_TINY}' as double) then abs(c{i}) * cast('1e{_TINY}' as double)"
    return f"case when c{i} <> 0 and {finite} then {scaled} else abs(c{i}) end else 1 end as a{i}"


def _exponent(i: int) -> str:
    """The power of ten, or one beside it: a logarithm is not exact."""
    return f"floor(ln(a{i}) / 2.302585092994046) as e{i}"


def _mantissa(i: int) -> str:
    """Ten digits as a whole number. Powers of ten up to 22 are exact, so ordinary values are scaled exactly rounded."""
    scaled = f"a{i} * power(10, {_DIGITS} - e{i}) else a{i} / power(10, e{i} - {_DIGITS})"
    return f"floor(case when e{i} < {_DIGITS} then {scaled} end + 0.5) as m{i}"


def _digits(i: int) -> str:
    """`-1234500000e2`: sign, ten digits, exponent, brought to one form where the exponent was one too low."""
    over = f"m{i} >= 10000000000"
    mantissa = f"cast(cast(case when {over} then floor(m{i} / 10) else m{i} end as bigint) as varchar)"
    tiny = f"case when abs(c{i}) < cast('1e-{_TINY}' as double) then {_TINY} else 0 end"
    exponent = f"cast(cast(e{i} + case when {over} then 1 else 0 end - {tiny} as bigint) as varchar)"
    whole = f"c{i} = floor(c{i}) and abs(c{i}) >= 10000000000 and abs(c{i}) <= {_LARGEST_WHOLE}"
    return (
        f"case when c{i} is null then null when c{i} = 0 then '0' when c{i} = cast('NaN' as double) then 'nan' "
        f"when abs(c{i}) = cast('inf' as double) then case when c{i} > 0 then 'inf' else '-inf' end "
        f"when {whole} then cast(cast(c{i} as bigint) as varchar) "
        f"else case when c{i} < 0 then '-' else '' end || {mantissa} || 'e' || {exponent} end"
    )
