"""Can a classifier tell one part from another, and by which feature? A home of lightgbm.

Parts of a split by time or by group differ by nature, so the same question is asked within the training part, divided
as the split divides: only what goes beyond that is a finding. Where the seasons already tell two stretches apart a
classifier has nothing left to say, so each feature is asked alone as well. Features that do nothing but tell the time
are named and left out, for they would hide everything else. The sample holds features alone, of the sealed part too: no
label is read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from trunkline.datasets.findings import Finding
from trunkline.datasets.probes_subject import NUMBERS, TIMES, Subject, bars, listed, share
from trunkline.warehouse.protocol import ArrowReader

if TYPE_CHECKING:
    import numpy.typing as npt
    import pyarrow as pa

    Floats = npt.NDArray[np.float64]

_SAMPLE = 4_000  # rows a part
_FAR = 1e300  # beyond any number
_FEWEST = 40  # rows of each side
_TREES, _LEAVES, _FOLDS = 30, 15, 2
_CATEGORIES = 200  # the most that are told apart one by one
_BEYOND = 3.0  # times fewer rows in the wrong order than within the training part
_TELLS_TIME = 0.95  # rank correlation with the time
_NAMED = 0.1  # of the gain, to be named
_ALONE = 0.8  # of what the bound is above one half: so much better than within the training part may a feature be alone
_HINT = "Is it computed in another way, or filled from another source, since some day?"


@dataclass(frozen=True)
class _Answer:
    """The cross-validated AUC, its standard error, each number's AUC `alone`, and each feature's share of the gain."""

    auc: float
    error: float
    gains: Mapping[str, float]
    alone: Mapping[str, float]


@dataclass(frozen=True)
class _Sample:
    """Rows of all parts: features as numbers, and which are categories. `order` is the time, or the group's number."""

    x: Floats
    names: tuple[str, ...]
    categories: frozenset[str]
    part: npt.NDArray[np.str_]
    order: Floats | None

    def without(self, left_out: Sequence[str]) -> _Sample:
        """The sample without these features."""
        kept = [index for index, name in enumerate(self.names) if name not in left_out]
        names = tuple(self.names[index] for index in kept)
        return _Sample(self.x[:, kept], names, self.categories, self.part, self.order)


def adversarial(subject: Subject) -> list[Finding]:
    """Can training be told from validation, and both from test?"""
    probe = "adversarial"
    if not isinstance(subject.warehouse, ArrowReader):
        return [subject.skipped(probe, f"the {subject.warehouse.name} warehouse hands no sample over")]
    names = [name for name in subject.single(probe) if name != subject.manifest.time]
    sample = _sample(subject, names)
    clocks = _clocks(sample) if subject.manifest.time else []
    sample = sample.without(clocks)
    if not sample.names:
        return [subject.skipped(probe, "no feature is left to tell parts by")]
    own = "; the parts follow each other in time, and these features only tell the time: " + listed(clocks)
    told = own if clocks else ""
    train = sample.part == "train"
    natural = None if subject.random else _within(subject, sample, train)
    questions = {
        "training and validation": (train, sample.part == "validation"),
        "the open parts and test": (sample.part != "test", sample.part == "test"),
    }
    return [
        finding
        for what, (left, right) in questions.items()
        for finding in [_asked(subject, what, _tell(subject, sample, left, right), natural, told)]
    ]


def _asked(subject: Subject, what: str, answer: _Answer | None, natural: _Answer | None, told: str) -> Finding:
    probe = "adversarial"
    if answer is None:
        return subject.skipped(probe, f"{what} cannot be compared: fewer than {_FEWEST} rows in one of them")
    bound = subject.settings[probe].at_most
    allowed = max(bound, 1 - (1 - natural.auc) / _BEYOND) if natural else bound
    beside = f" (two stretches of the training part: {natural.auc:.2f})" if natural else ""
    plot = bars(f"what tells {what} apart: share of the gain", answer.gains, None)
    if answer.auc - 2 * answer.error <= allowed:
        name, more = _alone(answer, natural)
        if natural and more > _ALONE * (bound - 0.5):
            text = (
                f"`{name}` alone tells {what} apart with an AUC of {answer.alone[name]:.2f}, and two stretches of the "
                f"training part with one of {natural.alone[name]:.2f}{told}. {_HINT}"
            )
            return subject.found(probe, text, answer.auc, column=name, bars=plot)
        text = f"a classifier tells {what} apart with an AUC of {answer.auc:.2f}{beside}: no more than is natural{told}"
        return subject.ok(probe, text, answer.auc, plot)
    names = [name for name in plot.labels if answer.gains[name] >= _NAMED] or list(plot.labels[:1])
    text = (
        f"a classifier tells {what} apart with an AUC of {answer.auc:.2f}{beside}, by {listed(names)} "
        f"({share(sum(answer.gains[name] for name in names))} of what it goes by){told}. {_HINT}"
    )
    return subject.found(probe, text, answer.auc, column=names[0], bars=plot)


def _within(subject: Subject, sample: _Sample, train: npt.NDArray[np.bool_]) -> _Answer | None:
    """The same question about two stretches (or sets of groups) of the training part, in the split's proportions."""
    if sample.order is None:
        return None
    among = sample.order[train]
    share_left = subject.rows("train") / max(1, subject.rows("train", "validation"))
    cut = np.quantile(among, min(max(share_left, 0.5), 0.9))
    return _tell(subject, sample, train & (sample.order < cut), train & (sample.order >= cut))


def _tell(
    subject: Subject, sample: _Sample, left: npt.NDArray[np.bool_], right: npt.NDArray[np.bool_]
) -> _Answer | None:
    """Cross-validated: every row is scored by trees that have not seen it."""
    import lightgbm

    counts = int(left.sum()), int(right.sum())
    if min(counts) < _FEWEST:
        return None
    rows = left | right
    x, y = sample.x[rows], right[rows].astype(np.float64)
    fold = np.random.default_rng(subject.seed).permutation(len(y)) % _FOLDS
    categories = [index for index, name in enumerate(sample.names) if name in sample.categories]
    params = {
        "objective": "binary",
        "num_leaves": _LEAVES,
        "learning_rate": 0.15,
        "min_data_in_leaf": max(5, min(50, min(counts) // 20)),
        "max_bin": 63,
        "seed": subject.seed,
        "num_threads": 1,  # so few rows gain nothing by two, which wait for each other
        "deterministic": True,
        "force_row_wise": True,
        "verbosity": -1,
    }
    aucs, gains = [], np.zeros(len(sample.names))
    for number in range(_FOLDS):
        seen = fold != number
        data = lightgbm.Dataset(x[seen], y[seen], categorical_feature=categories, params=params)
        booster = lightgbm.train(params, data, num_boost_round=_TREES)
        aucs.append(_auc(y[~seen], np.asarray(booster.predict(x[~seen]))))
        gains += booster.feature_importance("gain")
    shares = gains / max(float(gains.sum()), 1e-12)
    auc = float(np.mean(aucs))
    error = float(np.sqrt(auc * (1 - auc) / min(counts)))
    alone = {name: _auc_alone(x[:, index], y) for index, name in enumerate(sample.names) if index not in categories}
    return _Answer(auc, error, dict(zip(sample.names, map(float, shares), strict=True)), alone)


def _auc(y: Floats, score: Floats) -> float:
    """By ranks; ties count half."""
    ranks = _ranks(score)
    positives = float(y.sum())
    negatives = len(y) - positives
    if not positives or not negatives:
        return 0.5
    return float((ranks[y > 0].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def _auc_alone(values: Floats, y: Floats) -> float:
    """Of one number, either way round; missing ones are at the end where they tell more."""
    ends = [np.nan_to_num(values, nan=end, posinf=_FAR / 2, neginf=-_FAR / 2) for end in (-_FAR, _FAR)]
    return max(abs(_auc(y, filled) - 0.5) for filled in ends) + 0.5


def _alone(answer: _Answer, natural: _Answer | None) -> tuple[str, float]:
    """The number that tells the parts apart most beyond what it tells within the training part, and by how much."""
    beyond = {name: value - natural.alone[name] for name, value in answer.alone.items()} if natural else {}
    name = max(beyond, key=lambda each: beyond[each], default="")
    return name, beyond.get(name, 0.0)


def _ranks(values: Floats) -> Floats:
    """From 1 on, ties in the middle."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    ranks: Floats = (ends - (counts - 1) / 2)[inverse]
    return ranks


def _clocks(sample: _Sample) -> list[str]:
    """Features that rise or fall with the time."""
    if sample.order is None:
        return []
    time = _ranks(sample.order)
    found = []
    for index, name in enumerate(sample.names):
        there = ~np.isnan(sample.x[:, index])
        if name in sample.categories or there.sum() < _FEWEST:
            continue
        values = _ranks(sample.x[there, index])
        if values.std() and abs(float(np.corrcoef(values, time[there])[0, 1])) > _TELLS_TIME:
            found.append(name)
    return found


def _sample(subject: Subject, names: Sequence[str]) -> _Sample:
    """Up to 4,000 rows a part, the same ones in every run."""
    wanted = [f"({subject.sampled(part, _SAMPLE)})" for part in ("train", "validation", "test")]
    columns = ", ".join(f"{_value(subject, name)} as x{index}" for index, name in enumerate(names))
    order = f"{_order(subject)} as o"
    listed_columns = ", ".join(filter(None, (columns, order, f"{subject.part} as part")))
    rows = " union all ".join(f"select * from {each} q" for each in wanted)
    assert isinstance(subject.warehouse, ArrowReader)  # asked by `adversarial`
    key = subject.quote(subject.manifest.key)
    # in the key's order: trees must not depend on the one in which threads found the rows
    with subject.warehouse.read_arrow(f"select {listed_columns} from ({rows}) r order by {key}") as reader:
        table = reader.read_all()
    return _matrix(subject, table, names)


def _matrix(subject: Subject, table: pa.Table, names: Sequence[str]) -> _Sample:
    columns, categories = [], set()
    for index, name in enumerate(names):
        values = table.column(index)
        if subject.kind(name) in (*NUMBERS, *TIMES, "boolean"):
            columns.append(_numbers(values))
        else:
            codes, few = _codes(values)
            columns.append(codes)
            categories.update([name] if few else [])
    order = _numbers(table.column(len(names)))
    part = np.asarray(table.column(len(names) + 1).to_pylist())
    x = np.column_stack(columns) if columns else np.empty((table.num_rows, 0))
    return _Sample(x, tuple(names), frozenset(categories), part, None if np.isnan(order).all() else order)


def _numbers(values: pa.ChunkedArray) -> Floats:
    import pyarrow as pa

    numbers: Floats = values.cast(pa.float64(), safe=False).to_numpy()
    return numbers


def _codes(values: pa.ChunkedArray) -> tuple[Floats, bool]:
    """Categories by their number; of too many, how many rows each has. Missing is NaN."""
    import pyarrow as pa

    encoded = values.cast(pa.string()).combine_chunks().dictionary_encode()
    codes = _numbers(pa.chunked_array([encoded.indices]))
    there = ~np.isnan(codes)
    counts = np.bincount(codes[there].astype(np.int64), minlength=1)
    if len(counts) <= _CATEGORIES:
        return codes, True
    often = np.full(len(codes), np.nan)
    often[there] = counts[codes[there].astype(np.int64)]
    return often, False


def _value(subject: Subject, name: str) -> str:
    column, kind = subject.quote(name), subject.kind(name)
    if kind in TIMES:
        return f"cast({subject.moment(column)} as double)"
    if kind in NUMBERS:
        return f"cast({column} as double)"
    if kind == "boolean":
        return f"cast(case when {column} then 1 when not {column} then 0 end as double)"
    return f"cast({column} as varchar)"


def _order(subject: Subject) -> str:
    """What the split goes by, as a number: the time, or a hash of the group."""
    split = subject.manifest.split
    if split["by"] == "group":
        # four hexadecimal digits as a number, in SQL that all engines have
        hashed = f"md5('order:' || cast({subject.quote(split['column'])} as varchar))"
        digits = [f"(position(substr({hashed}, {place}, 1) in '0123456789abcdef') - 1)" for place in (1, 2, 3)]
        return f"cast({digits[0]} * 256 + {digits[1]} * 16 + {digits[2]} as double)"
    time = subject.manifest.time
    return f"cast({subject.moment(subject.quote(time))} as double)" if time else "cast(null as double)"
