"""Slices: the metric where a column has each of its values, and whether some slice loses more than it may.

Without a rule a column's slices are shown: its most frequent values one by one, the others together. With a rule every
value that has enough rows is tested, however many there are, and all the others together, so that a disaster in many
small slices is seen. The p-values of all slices of all columns with a rule are adjusted together (Holm 1979): if no
slice loses more than it may, the chance that any is said to is 5% at most.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from trunkline.gate.evidence import Estimate, Loss, SliceEvidence, SliceTest
from trunkline.gate.intervals import Floats, Ints
from trunkline.models.holm import holm

__all__ = [
    "Compare",
    "Compared",
    "LEVEL",
    "MOST_VALUES",
    "SMALLEST_CLASS",
    "SMALLEST_SLICE",
    "SliceColumn",
    "Slices",
    "sliced",
]

SMALLEST_CLASS = 20
"""A slice with fewer positives, or fewer negatives, shows no AUC: its interval would cover most of what is possible."""
SMALLEST_SLICE = 2 * SMALLEST_CLASS
"""A slice with fewer rows shows no metric of another task."""
MOST_VALUES = 30
"""Values of a slice column that are shown: the most frequent ones, and of others those that lose too much."""
LEVEL = 0.05
"""The chance that any slice of a gate is wrongly said to lose too much."""

_Rows = npt.NDArray[np.intp]


@dataclass(frozen=True)
class SliceColumn:
    """A column's values by code: `labels[codes[i]]` is the value of row i; the label None means missing.

    `may_lose` is the bound of its rule, if it has one.
    """

    codes: Ints
    labels: tuple[str | None, ...]
    may_lose: float | None = None


@dataclass(frozen=True)
class Compared:
    """The metric of both models on the rows of a slice, and the p-value of its loss against a bound."""

    candidate: Estimate
    champion: Estimate | None = None
    loss: Loss | None = None
    p: float | None = None


Compare = Callable[[npt.NDArray[Any], Sequence[Floats], float | None], Compared]


@dataclass(frozen=True)
class Slices:
    """What is shown, and how each column with a rule came out."""

    shown: tuple[SliceEvidence, ...] = ()
    tests: tuple[SliceTest, ...] = ()


def sliced(
    columns: Mapping[str, SliceColumn],
    outcome: npt.NDArray[Any],
    scores: Sequence[Floats],
    compare: Compare,
    *,
    binary: bool,
) -> Slices:
    """The slices of all columns; they are tested if there are two models."""
    found = {
        name: [*_Column(name, column, outcome, scores, compare, binary).slices()] for name, column in columns.items()
    }
    tested = [each for of_column in found.values() for each in of_column if each.p is not None]
    adjusted = dict(zip(map(id, tested), holm([each.p or 0.0 for each in tested]), strict=True))
    final = {name: [replace(each, p=adjusted.get(id(each))) for each in of_column] for name, of_column in found.items()}
    ruled = [name for name, column in columns.items() if column.may_lose is not None and len(scores) > 1]
    return Slices(
        tuple(each for of_column in final.values() for each in _shown(of_column)),
        tuple(_tested(name, found[name], final[name], len(outcome), len(tested)) for name in ruled),
    )


def _shown(slices: list[SliceEvidence]) -> Iterator[SliceEvidence]:
    """Frequent values first, as they come."""
    for place, each in enumerate(slices):
        if place < MOST_VALUES or each.others or (each.p is not None and each.p <= LEVEL):
            yield each


def _tested(name: str, before: list[SliceEvidence], slices: list[SliceEvidence], rows: int, family: int) -> SliceTest:
    """`before` are the same slices with the p-values as they were, by which the clearest is told where many are 1."""
    tests = [(was.p, each) for was, each in zip(before, slices, strict=True) if was.p is not None]
    if not tests:
        return SliceTest(name, 0, family, 0, untested=rows, needed=_needed(slices, rows))
    _, clearest = min(tests, key=lambda test: test[0])
    return SliceTest(
        column=name,
        slices=len(tests),
        family=family,
        beyond=sum(each.p is not None and each.p <= LEVEL for _, each in tests),
        loss=clearest.loss.value if clearest.loss else None,
        rows=clearest.rows,
        p=clearest.p,
        untested=rows - sum(each.rows for _, each in tests),
    )


def _needed(slices: list[SliceEvidence], rows: int) -> int | None:
    """Rows of the test part with which one slice would have enough, if they are spread as they are now."""
    shares = [
        each.rows / SMALLEST_SLICE
        if each.positives is None
        else min(each.positives, each.rows - each.positives) / SMALLEST_CLASS
        for each in slices
    ]
    best = max(shares, default=0.0)
    return round(rows / best) if best else None


@dataclass(frozen=True)
class _Column:
    name: str
    column: SliceColumn
    outcome: npt.NDArray[Any]
    scores: Sequence[Floats]
    compare: Compare
    binary: bool

    def slices(self) -> Iterator[SliceEvidence]:
        """Frequent values first; with a rule all that have enough rows, and those that have not together."""
        values = self._values()
        ruled = self.column.may_lose is not None and len(self.scores) > 1
        few = [(code, rows) for code, rows in values if not self._enough(rows)] if ruled else values[MOST_VALUES:]
        together = {code for code, _ in few}
        for place, (code, rows) in enumerate(values):
            if code not in together or (ruled and place < MOST_VALUES):
                yield self._slice(SliceEvidence(self.name, self.column.labels[code], 0, None), rows)
        if few:
            pool = np.sort(np.concatenate([rows for _, rows in few]))
            yield self._slice(SliceEvidence(self.name, None, 0, None, others=len(few)), pool)

    def _values(self) -> list[tuple[int, _Rows]]:
        """Codes with their rows."""
        codes = self.column.codes
        counts = np.bincount(codes, minlength=len(self.column.labels))
        rows = np.split(np.argsort(codes, kind="stable"), np.cumsum(counts)[:-1])
        return [(int(code), rows[code]) for code in np.argsort(-counts, kind="stable") if counts[code]]

    def _enough(self, rows: _Rows) -> bool:
        if not self.binary:
            return len(rows) >= SMALLEST_SLICE
        positives = int(self.outcome[rows].sum())
        return min(positives, len(rows) - positives) >= SMALLEST_CLASS

    def _slice(self, which: SliceEvidence, rows: _Rows) -> SliceEvidence:
        inside = self.outcome[rows]
        found = replace(which, rows=len(rows), positives=int(inside.sum()) if self.binary else None)
        if not self._enough(rows):
            least = f"{SMALLEST_CLASS} rows of one class" if self.binary else f"{SMALLEST_SLICE} rows"
            return replace(found, note=f"too small: fewer than {least}")
        compared = self.compare(inside, [score[rows] for score in self.scores], self.column.may_lose)
        return replace(
            found, candidate=compared.candidate, champion=compared.champion, loss=compared.loss, p=compared.p
        )
