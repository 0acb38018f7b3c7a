"""What the open parts of a dataset look like, column by column: missing values, distributions, and what they say of the
target. All of it is computed by queries over the parts' files; of the sealed part there is what the manifest counts."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from trunkline.datasets.findings import Finding, read_findings
from trunkline.datasets.manifest import Manifest
from trunkline.datasets.summary import Kind, Summary, kind_of, place, scan, summaries
from trunkline.project.files import check_content
from trunkline.warehouse.load_sql import literal, quote
from trunkline.warehouse.protocol import SourceReader

OPEN = ("train", "validation")
MOST_PLOTS = 400  # columns; of the others there are the numbers
_BINS, _FEW_VALUES, _TOP, _LONGEST = 30, 24, 10, 200
_TRUE = ("1", "1.0", "true", "True", "yes", "Y", "t")


@dataclass(frozen=True)
class Bar:
    """One bin, or one value: its rows in train and validation, and the mean outcome of its rows in train.

    `low` and `high` are the bounds of a bin; of a number that is a value of its own they are the same.
    """

    rows: tuple[int, int]
    outcome: float | None = None
    low: float | None = None
    high: float | None = None
    text: str | None = None


@dataclass(frozen=True)
class Plot:
    """A column's distribution. `bins` are ranges, `values` numbers that are few, `top` the most frequent texts.

    `other` are the rows (train, validation) that no bar shows. `clipped`: the bars at both ends hold what is beyond.
    `overlap` is the share of the two distributions that coincides: 1 for the same, 0 for nothing in common.
    """

    shape: Literal["bins", "values", "top"]
    bars: tuple[Bar, ...]
    other: tuple[int, int] = (0, 0)
    clipped: bool = False
    overlap: float | None = None


@dataclass(frozen=True)
class Column:
    """One column: its group if it is a feature, its role otherwise, a summary of each open part, and its plot, where
    there is something to draw."""

    name: str
    type: str
    group: str
    role: str
    summary: Mapping[str, Summary]
    plot: Plot | None = None
    note: str = ""

    @property
    def kind(self) -> Kind:
        """What it holds."""
        return kind_of(self.type)


@dataclass(frozen=True)
class Profile:
    """A dataset, looked at. `outcome` says what a bar's outcome is; empty if the target has no average."""

    manifest: Manifest
    columns: tuple[Column, ...]
    findings: tuple[Finding, ...]
    outcome: str

    def to_json(self) -> dict[str, Any]:
        """Columns and findings as plain data."""
        return {
            "columns": [
                {"name": c.name, "type": c.type, "group": c.group, "role": c.role}
                | {part: _numbers(summary) for part, summary in c.summary.items()}
                | ({"overlap": c.plot.overlap} if c.plot else {})
                for c in self.columns
            ],
            "findings": [asdict(finding) for finding in self.findings],
        }


def profile(
    reader: SourceReader, manifest: Manifest, folder: Path, tell: Callable[[str, float | None], None]
) -> Profile:
    """Look at the dataset whose parts are in `folder`. `tell` is told how far it is.

    Raises `IntegrityError` if a part is not the file the dataset was made with.
    """
    files = {}
    for part in OPEN:
        files[part] = folder / str(manifest.parts[part].file)
        check_content(files[part], manifest.parts[part].file_digest)
    tell("counting", 0.0)
    found = {part: summaries(reader, files[part], manifest.schema) for part in OPEN}
    value, words = _outcome(manifest)
    columns = []
    for number, (name, type_) in enumerate(manifest.schema):
        tell(f"drawing {name}", number / len(manifest.schema))
        both = {part: found[part][name] for part in OPEN}
        (group, role), plot, note = _place(manifest, name), None, ""
        if name == manifest.key:
            both = {part: replace(summary, distinct=summary.rows) for part, summary in both.items()}
            note = "The key: each row has a value of its own."
        elif number >= MOST_PLOTS:
            note = f"Only the first {MOST_PLOTS} columns are drawn."
        else:
            plot, note = _plot(reader, _Drawn(files, name, type_, both, value if name != manifest.target else None))
        columns.append(Column(name, type_, group, role, both, plot, note))
    return Profile(manifest, tuple(columns), read_findings(folder), words)


def _place(manifest: Manifest, name: str) -> tuple[str, str]:
    """The group of a column, and its role; a time that is a feature, too, has both."""
    roles = {manifest.key: "key", manifest.time: "time", manifest.target: "target"}
    group = next((group for group, columns in manifest.groups.items() if name in columns), "")
    return group, roles.get(name, "" if group else "used by the split")


def _outcome(manifest: Manifest) -> tuple[str | None, str]:
    """The target as a number, in SQL, and what its mean is in words."""
    target = quote(manifest.target)
    if manifest.task == "regression":
        return f"cast({target} as double)", f"mean {manifest.target}"
    labels = manifest.parts["train"].labels
    if manifest.task != "binary" or not labels:
        return None, ""
    positive = next((label for label in labels if label in _TRUE), min(labels, key=lambda label: labels[label]))
    kind, words = kind_of(dict(manifest.schema)[manifest.target]), f"share of {manifest.target}"
    if kind == "boolean":
        return f"cast({target} as double)", words
    same = f"cast({target} as double) = {float(positive)!r}" if kind == "number" else f"{target} = {literal(positive)}"
    return f"cast({same} as double)", f"{words} = {positive}"


# -- distributions


@dataclass(frozen=True)
class _Drawn:
    """A column to draw: the open parts' files, and the target as SQL."""

    files: Mapping[str, Path]
    name: str
    type: str
    summary: Mapping[str, Summary]
    outcome: str | None

    def counted(self, value: str) -> str:
        """SQL for rows in train and validation, and the mean outcome in train, of every `value` that is not null."""
        parts = " union all ".join(
            f"select {value} as v, {number} as part, {self.outcome or 'null'} as y from {scan(self.files[part])}"
            for number, part in enumerate(OPEN)
        )
        return (
            "select v, count(*) filter (where part = 0) as n0, count(*) filter (where part = 1) as n1, "
            f"avg(y) filter (where part = 0) as y from ({parts}) where v is not null group by v"
        )

    @property
    def filled(self) -> tuple[int, int]:
        """Rows with a value, in train and validation."""
        train, validation = (self.summary[part] for part in OPEN)
        return train.rows - train.missing, validation.rows - validation.missing


def _plot(reader: SourceReader, drawn: _Drawn) -> tuple[Plot | None, str]:
    """The distribution, or why there is none."""
    both = [drawn.summary[part] for part in OPEN]
    if not any(drawn.filled):
        return None, "Every value is missing."
    kind = kind_of(drawn.type)
    if kind in ("list", "bytes"):
        return None, _sizes(reader, drawn, kind)
    if kind in ("text", "boolean"):
        rows, differing = sum(drawn.filled), max(summary.distinct for summary in both)
        if kind == "text" and differing > 1000 and differing > max(drawn.filled) / 2:
            return None, f"About {differing:,} different values in {rows:,} rows: too many to draw."
        return _top(reader, drawn), ""
    if max(summary.distinct for summary in both) <= _FEW_VALUES and kind == "number":
        plot = _values(reader, drawn)
        if len(plot.bars) <= 2 * _FEW_VALUES:
            return plot, ""
    return _histogram(reader, drawn)


def _sizes(reader: SourceReader, drawn: _Drawn, kind: Kind) -> str:
    """How long the lists are, or how large the contents."""
    size = f"{'len' if kind == 'list' else 'octet_length'}({quote(drawn.name)})"
    files = " union all ".join(f"select {size} as n from {scan(drawn.files[part])}" for part in OPEN)
    least, most = reader.query(f"select min(n), max(n) from ({files})")[0]
    between = f"{least:,}" if least == most else f"{least:,} to {most:,}"
    return f"Lists of {between} numbers." if kind == "list" else f"Contents of {between} bytes, such as images."


def _top(reader: SourceReader, drawn: _Drawn) -> Plot:
    value = f"left(cast({quote(drawn.name)} as varchar), {_LONGEST})"
    rows = reader.query(f"{drawn.counted(value)} order by n0 + n1 desc, v limit {_TOP}")
    bars = tuple(Bar((n0, n1), y, text=text) for text, n0, n1, y in rows)
    shown = [sum(bar.rows[part] for bar in bars) for part in (0, 1)]
    other = drawn.filled[0] - shown[0], drawn.filled[1] - shown[1]
    return Plot("top", bars, other, overlap=_overlap([*(bar.rows for bar in bars), other]))


def _values(reader: SourceReader, drawn: _Drawn) -> Plot:
    rows = reader.query(f"{drawn.counted(place(drawn.name, kind_of(drawn.type)))} order by v")
    bars = tuple(Bar((n0, n1), y, v, v) for v, n0, n1, y in rows)
    return Plot("values", bars, overlap=_overlap([bar.rows for bar in bars]))


def _histogram(reader: SourceReader, drawn: _Drawn) -> tuple[Plot | None, str]:
    low, high, clipped = _range([drawn.summary[part] for part in OPEN])
    if low is None or high is None or not math.isfinite(high - low):
        return None, "Its values cannot be drawn on a line."
    low, width, bins = _grid(drawn.type, low, high)
    x = place(drawn.name, kind_of(drawn.type))
    at = f"least(greatest(floor(({x} - {low!r}) / {width!r}), 0), {bins - 1})"
    bin_ = f"case when {x} is not null then cast({at} as integer) end"  # least and greatest pass over NULLs
    rows = {v: (n0, n1, y) for v, n0, n1, y in reader.query(drawn.counted(bin_))}
    bars = []
    for number in range(bins):
        n0, n1, y = rows.get(number, (0, 0, None))
        bars.append(Bar((n0, n1), y, low + number * width, low + (number + 1) * width))
    return Plot("bins", tuple(bars), clipped=clipped, overlap=_overlap([bar.rows for bar in bars])), ""


def _grid(type_: str, low: float, high: float) -> tuple[float, float, int]:
    """Where the bins begin, how wide they are, how many. Bins of whole numbers, and of dates, hold as many each."""
    step = {"BIGINT": 1.0, "DATE": 86_400.0}.get(type_)
    if step is None:
        return low, (high - low) / _BINS or 1.0, _BINS
    low = math.floor(low / step) * step
    values = math.floor((high - low) / step) + 1
    width = math.ceil(values / _BINS)
    return low, width * step, math.ceil(values / width)


def _range(both: Sequence[Summary]) -> tuple[float | None, float | None, bool]:
    """From where to where to draw. Where few values lie far out, it ends at what 1% are beyond."""
    lows, highs = [s.low for s in both if s.low is not None], [s.high for s in both if s.high is not None]
    if not lows or not highs:
        return None, None, False
    low, high = min(lows), max(highs)
    inner_low = min(s.first for s in both if s.first is not None)
    inner_high = max(s.last for s in both if s.last is not None)
    if inner_high > inner_low and high - low > 3 * (inner_high - inner_low):
        return inner_low, inner_high, True
    return low, high, False


def _overlap(rows: Sequence[tuple[int, int]]) -> float | None:
    totals = [sum(row[part] for row in rows) for part in (0, 1)]
    if not all(totals):
        return None
    return sum(min(row[0] / totals[0], row[1] / totals[1]) for row in rows)


def _numbers(summary: Summary) -> dict[str, Any]:
    """A summary for JSON, which knows neither infinity nor what is no number."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in asdict(summary).items()
        if name != "kind"
    }
