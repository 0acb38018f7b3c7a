"""Columns of a part in numbers: what is missing, how many values differ, where they lie."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from trunkline.warehouse.load_sql import literal, quote
from trunkline.warehouse.protocol import SourceReader

Kind = Literal["number", "time", "boolean", "text", "list", "bytes"]
_COLUMNS_A_QUERY = 64
_QUANTILES = (0.01, 0.5, 0.99)
COUNTED = 1_000_000  # rows
_SAMPLED = 20_000  # rows, evenly spaced: quantiles of more would cost more than all the rest


@dataclass(frozen=True)
class Summary:
    """One column of one part. `distinct` is exact up to `COUNTED` rows, above an estimate that may be 20% off.

    Numbers and times have `low`, `high`, `mean` over their finite values, and `first` (1%), `median`, `last` (99%) over
    an even sample of them; times are seconds since 1970 in UTC. `odd` values are infinite or no number. Booleans
    have the share of true as `mean`.
    """

    kind: Kind
    rows: int
    missing: int
    distinct: int
    odd: int = 0
    low: float | None = None
    first: float | None = None
    median: float | None = None
    last: float | None = None
    high: float | None = None
    mean: float | None = None

    @property
    def different(self) -> str:
        """`distinct` in words."""
        return f"{'about ' if self.rows > COUNTED else ''}{self.distinct:,}"

    @property
    def missing_share(self) -> float:
        """Of the rows."""
        return self.missing / self.rows if self.rows else 0.0


def kind_of(type_: str) -> Kind:
    """What a canonical type holds."""
    name = type_.upper()
    if name.endswith("]") or name == "BLOB":
        return "bytes" if name == "BLOB" else "list"
    if name == "BOOLEAN":
        return "boolean"
    if name == "DATE" or name.startswith("TIMESTAMP"):
        return "time"
    if name.startswith(("DECIMAL", "DOUBLE", "FLOAT")) or name.endswith("INT") or name == "INTEGER":
        return "number"
    return "text"


def place(column: str, kind: Kind) -> str:
    """SQL for where a number or a time lies, as a finite double; NULL for what lies nowhere."""
    name = quote(column)
    value = f"epoch({name})" if kind == "time" else f"cast({name} as double)"
    finite = f"isfinite({name})" if kind == "time" else f"isfinite(cast({name} as double))"
    return f"case when {finite} then {value} end"


def scan(file: Path) -> str:
    """SQL for the rows of a Parquet file."""
    return f"read_parquet({literal(str(file))})"


def summaries(reader: SourceReader, file: Path, schema: Sequence[tuple[str, str]]) -> dict[str, Summary]:
    """Every column of a part."""
    found: dict[str, Summary] = {}
    rows = int(reader.query(f"select count(*) from {scan(file)}")[0][0])
    for start in range(0, len(schema), _COLUMNS_A_QUERY):
        chunk = [(name, kind_of(type_)) for name, type_ in schema[start : start + _COLUMNS_A_QUERY]]
        listed = ", ".join(_aggregates(name, kind, exact=rows <= COUNTED) for name, kind in chunk)
        records = reader.query(f"select {listed} from {scan(file)}")[0]
        quantiles = _quantiles(reader, file, [column for column in chunk if column[1] in ("number", "time")], rows)
        for (name, kind), record in zip(chunk, records, strict=True):
            found[name] = _summary(kind, rows, record, quantiles.get(name) or (None, None, None))
    return found


def _aggregates(column: str, kind: Kind, *, exact: bool) -> str:
    name = quote(column)
    fields = {"filled": f"count({name})"}
    fields["differing"] = f"count(distinct {name})" if exact else f"approx_count_distinct({name})"
    if kind in ("number", "time"):
        value = place(column, kind)
        fields |= {
            "low": f"min({value})",
            "high": f"max({value})",
            "mean": f"avg({value})",
            "finite": f"count({value})",
        }
    if kind == "boolean":
        fields["mean"] = f"avg(cast({name} as double))"
    return "{" + ", ".join(f"{key!r}: {sql}" for key, sql in fields.items()) + "}"


def _quantiles(
    reader: SourceReader, file: Path, columns: Sequence[tuple[str, Kind]], rows: int
) -> dict[str, list[float] | None]:
    """Those of some rows, the same in every run: the parts are in order of time, so every n-th row is a fair sample."""
    if not columns:
        return {}
    listed = ", ".join(f"quantile_cont({place(name, kind)}, {list(_QUANTILES)})" for name, kind in columns)
    every = max(1, rows // _SAMPLED)
    sample = f"read_parquet({literal(str(file))}, file_row_number = true) where file_row_number % {every} = 0"
    return {
        name: value for (name, _), value in zip(columns, reader.query(f"select {listed} from {sample}")[0], strict=True)
    }


def _summary(kind: Kind, rows: int, record: Mapping[str, Any], quantiles: Sequence[float | None]) -> Summary:
    filled = int(record["filled"])
    distinct = min(int(record["differing"]), filled, 2 if kind == "boolean" else filled)
    basic = Summary(kind, rows, rows - filled, distinct, mean=record.get("mean"))
    if kind not in ("number", "time"):
        return basic
    first, median, last = quantiles
    ends = {"low": record["low"], "high": record["high"], "first": first, "median": median, "last": last}
    return replace(basic, odd=filled - int(record["finite"]), **ends)
