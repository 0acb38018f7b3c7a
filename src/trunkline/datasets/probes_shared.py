"""Probes for what is in more than one part: rows, keys, groups. Counted in the warehouse, by hashes of rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from trunkline.datasets.findings import Bars, Finding
from trunkline.datasets.probes_subject import NUMBERS, Subject, share
from trunkline.errors import did_you_mean

_SAMPLE = 200_000  # rows; of a larger dataset those whose rows have such hashes, twins included
_GRAIN = 1000.0  # numbers closer than a thousandth of their standard deviation are near; exact ones round alike
_PARTS = {"train": "t", "validation": "v", "test": "s"}
_FEWEST, _PAIRS = 5, 20  # twins; pairs of twins, of which labels are compared
_ALIKE, _CROWD = 0.9, 4.0
_FOLLOWS = 1.5  # times as many as within the training part are no accident


def shared_rows(subject: Subject) -> list[Finding]:
    """Are there rows with the same features in more than one part? Texts that differ in case or blanks and numbers
    that differ by a rounding count as the same.

    Few features with few values meet by chance: as often within the training part as across, with other labels, or
    many at a time. Copies do not.
    """
    probe = "shared_rows"
    names = subject.features(probe)
    if not names:
        return [subject.skipped(probe, "no feature is left to ask")]
    twins = _twins(subject, names)
    bound = subject.settings[probe].at_most
    plot = Bars(
        "share of rows whose twin is in",
        ("the training part, of its own", "training, of validation", "training or validation, of test"),
        (round(twins.within, 4), round(twins.validation, 4), round(twins.test, 4)),
        bound,
    )
    worst, part = max((twins.validation, "validation"), (twins.test, "test"))
    said = (
        f"{share(worst)} of the {part} rows have the same features as a row of an earlier part "
        f"({twins.rows:,} such rows in validation and test, {twins.exact:,} of them exactly the same)"
    )
    if twins.rows < _FEWEST or worst <= bound:
        return [subject.ok(probe, f"rows are not repeated across parts: {said}", worst, plot)]
    if worst > _FOLLOWS * twins.within or twins.copies:
        why = "their labels agree as those of copies do" if twins.copies else "far more than within the training part"
        hint = "Remove duplicates in the dbt model, or split by what copies have in common (tl.split.by_group)."
        return [subject.found(probe, f"{said}: {why}. {hint}", worst, bars=plot)]
    return [subject.ok(probe, f"{said}, as is to be expected of few features with few values", worst, plot)]


@dataclass(frozen=True)
class _Twins:
    """Shares of the parts' rows that have a twin in an earlier part; `within`: of training rows, in the same part."""

    within: float
    validation: float
    test: float
    rows: int
    exact: int
    copies: bool


def _twins(subject: Subject, names: Sequence[str]) -> _Twins:
    near = ", ".join(_near(subject, names))
    exact = ", ".join(subject.quote(name) for name in names)
    target = subject.quote(subject.manifest.target)
    hashed = (
        f"select {subject.part} as part, cast({target} as varchar) as y, hash({near}) as h, hash({exact}) as e "
        f"from ({subject.source.parted_sql()}) p"
    )
    every = max(1, round(subject.rows("train", "validation", "test") / _SAMPLE))
    in_part = ", ".join(f"count(case when part = '{part}' then 1 end) as {short}" for part, short in _PARTS.items())
    groups = (
        f"select {in_part}, min(y) as low, max(y) as high, count(distinct e) as exacts from ({hashed}) r "
        f"where mod(abs(mod(h, 1000003)), {every}) = 0 group by h"
    )
    pair = "t + v + s = 2 and greatest(t, v, s) = 1"
    crossing = "case when t > 0 then v else 0 end"
    sealed = "case when t + v > 0 then s else 0 end"
    row = subject.warehouse.query(
        "select sum(t), sum(v), sum(s), sum(case when t > 1 then t else 0 end), "
        f"sum({crossing}), sum({sealed}), sum(case when exacts = 1 then {crossing} + {sealed} else 0 end), "
        f"sum(case when {pair} then 1 else 0 end), sum(case when {pair} and low = high then 1 else 0 end), "
        f"avg(case when (t > 0 and v > 0) or (t + v > 0 and s > 0) then t + v + s end) "
        f"from ({groups}) g"
    )[0]
    train, validation, test, within, crossed, looked, exact_rows, pairs, agreeing = (float(n or 0) for n in row[:9])
    crowd = float(row[9] or 0)
    return _Twins(
        within / max(1.0, train),
        crossed / max(1.0, validation),
        looked / max(1.0, test),
        int(crossed + looked) * every,
        int(exact_rows) * every,
        crowd < _CROWD and _agree(subject, pairs, agreeing),
    )


def _agree(subject: Subject, pairs: float, agreeing: float) -> bool:
    """Whether pairs of twins have the same label far more often than two rows have."""
    if pairs < _PAIRS:
        return False
    labels = subject.manifest.parts["train"].labels
    rows = sum(labels.values())
    chance = sum((count / rows) ** 2 for count in labels.values()) if rows else 0.0
    return chance < 1 and (agreeing / pairs - chance) / (1 - chance) > _ALIKE


def _near(subject: Subject, names: Sequence[str]) -> list[str]:
    """Features as SQL, rounded so that near ones are the same."""
    doubles = [name for name in names if subject.kind(name) in ("double", "decimal")]
    spreads: dict[str, float] = {}
    if doubles:
        asked = ", ".join(f"stddev_samp(cast({_finite(subject, name)} as double))" for name in doubles)
        row = subject.warehouse.query(f"select {asked} from ({subject.source.parted_sql()}) p")[0]
        spreads = {name: float(value) for name, value in zip(doubles, row, strict=True) if value}
    found = []
    for name in names:
        column = subject.quote(name)
        if name in spreads:
            found.append(f"floor(cast({column} as double) * {_GRAIN / spreads[name]!r} + 0.5)")
        elif subject.kind(name) == "text":
            found.append(_folded(column))
        else:
            found.append(column)
    return found


def _finite(subject: Subject, name: str) -> str:
    column = subject.quote(name)
    if subject.kind(name) not in NUMBERS:
        return column
    return f"case when abs(cast({column} as double)) < cast('1e150' as double) then {column} end"


def _folded(column: str) -> str:
    """A text without blanks and case."""
    return f"lower(replace({column}, ' ', ''))"


def shared_keys(subject: Subject) -> list[Finding]:
    """Are there keys that differ in case or blanks only, in different parts? (Equal keys stop the build.)"""
    probe = "shared_keys"
    key = subject.manifest.key
    if subject.kind(key) != "text":
        return [subject.ok(probe, f"every key in `{key}` is there once", 0.0)]
    folded = f"count(distinct hash({_folded(subject.quote(key))}))"
    total, differing = subject.warehouse.query(f"select count(*), {folded} from ({subject.source.parted_sql()}) p")[0]
    if total == differing:
        return [subject.ok(probe, "keys differ in more than case and blanks", 0.0)]
    across, rows, example = _spread(subject, subject.source.parted_sql(), subject.quote(key), "varies > 1")
    value = across / max(1, rows)
    if value <= subject.settings[probe].at_most:
        return [subject.ok(probe, f"keys differ in more than case and blanks: {across:,} rows excepted", value)]
    text = (
        f"{across:,} rows have a key in `{key}` that a row of another part has in another spelling (case, blanks), "
        f"such as {example!r}: are they the same thing twice?"
    )
    return [subject.found(probe, text, value, column=key)]


def shared_groups(subject: Subject) -> list[Finding]:
    """Are there groups (customers, patients, machines) with rows in more than one part?"""
    probe = "shared_groups"
    split = subject.manifest.split
    columns = subject.settings[probe].columns or ((split["column"],) if split["by"] == "group" else ())
    if not columns:
        hint = 'name the column of the customer, patient or machine: probes={"shared_groups": {"columns": […]}}'
        return [subject.skipped(probe, f"it is not known which rows belong together: {hint}")]
    return [_shared_group(subject, column) for column in columns]


def _shared_group(subject: Subject, column: str) -> Finding:
    probe, source = "shared_groups", subject.source
    if column not in source.types:
        close = did_you_mean(column, source.types)
        raise source.error(f"the dbt model has no column {column!r}, which probe 'shared_groups' names.{close}")
    value = source.quote(column)
    rows = f"select {value}, {source.part_sql()} as {subject.part} from {source.sql}"
    across, total, example = _spread(subject, rows, f"cast({value} as varchar)", "1 = 1")
    measured = across / max(1, total)
    if measured <= subject.settings[probe].at_most:
        return subject.ok(probe, f"no group of `{column}` is in two parts ({across:,} rows excepted)", measured)
    text = (
        f"{share(measured)} of the validation and test rows belong to a group of `{column}` that an earlier part has "
        f"too, such as {example!r}: a model can know them again. Split with tl.split.by_group({column!r}), unless the "
        "same ones are met again when it is used."
    )
    return subject.found(probe, text, measured, column=column)


def _spread(subject: Subject, rows: str, column: str, which: str) -> tuple[int, int, str]:
    """Rows of validation and test whose (folded) value is in an earlier part too, all rows of those parts, a value."""
    in_part = ", ".join(f"count(case when {subject.part} = '{part}' then 1 end) as {part}_rows" for part in _PARTS)
    groups = (
        f"select {in_part}, count(distinct {column}) as varies, min({column}) as example "
        f"from ({rows}) p where {column} is not null and {subject.part} is not null group by {_folded(column)}"
    )
    across = (
        f"case when {which} and train_rows > 0 then validation_rows else 0 end"
        f" + case when {which} and train_rows + validation_rows > 0 then test_rows else 0 end"
    )
    row = subject.warehouse.query(
        f"select sum({across}), sum(validation_rows + test_rows), min(case when {across} > 0 then example end) "
        f"from ({groups}) g"
    )[0]
    return int(row[0] or 0), int(row[1] or 0), str(row[2])
