"""What a comparison of feature groups and variations leaves behind, as records. Light: no framework is loaded here."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

__all__ = ["Ablate", "Comparison", "Contrast", "Family", "Importance", "Row", "row_of", "signed"]

Ablate = Literal["groups", "columns"]
Family = Literal["rung", "variation", "left out"]
_By = Literal["group", "column"]


@dataclass(frozen=True)
class Row:
    """One model of the comparison, fitted once a seed: means over the seeds, on the validation part.

    `low` and `high` are the 95% interval that other validation rows would make; `values` are those of the seeds.
    `left_out` is the group or the column that an ablation does without; empty on the ladder.
    """

    groups: tuple[str, ...]
    features: int
    variation: str
    estimator: str
    metric: str
    value: float
    low: float
    high: float
    seconds: float
    values: tuple[float, ...] = ()
    left_out: str = ""
    history: tuple[tuple[int, float], ...] = ()

    @property
    def name(self) -> str:
        """The features it has, in words."""
        return f"all but {self.left_out}" if self.left_out else " + ".join(self.groups)

    @property
    def spread(self) -> float | None:
        """The standard deviation over the seeds; None for one seed, which shows none."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None


@dataclass(frozen=True)
class Contrast:
    """Two rows of a comparison, by their places, on the same validation rows with the same seeds.

    `value` is the metric of `row` less that of `against`; its 95% interval is of other rows and, where there are
    several seeds, of other seeds. `p` is two-sided, `adjusted` is it after Holm (1979) over the family's tests.
    """

    family: Family
    row: int
    against: int
    value: float
    low: float
    high: float
    p: float
    adjusted: float


@dataclass(frozen=True)
class Importance:
    """What the best model loses where the values of one group, or of one column, are shuffled among the rows.

    `value` is above 0 where the metric gets worse; the interval is of other rows and other shuffles.
    """

    by: _By
    name: str
    value: float
    low: float
    high: float
    p: float
    adjusted: float


@dataclass(frozen=True)
class Comparison:
    """All rows (the ladder, then the ablations), what they were tested for, and the place of the ladder's best.

    `measured` is how many validation rows there were, `shuffled` how many of them the importances were told from, and
    `known` how many fits were there from an earlier comparison.
    """

    metric: str
    higher_is_better: bool
    seeds: tuple[int, ...]
    rows: tuple[Row, ...]
    contrasts: tuple[Contrast, ...]
    importances: tuple[Importance, ...]
    best: int
    measured: int
    shuffled: int
    known: int

    @property
    def ladder(self) -> tuple[Row, ...]:
        """The rows that leave nothing out."""
        return tuple(row for row in self.rows if not row.left_out)

    def leaderboard(self) -> tuple[Row, ...]:
        """The ladder's rows, best first."""
        return tuple(sorted(self.ladder, key=lambda row: row.value, reverse=self.higher_is_better))

    def contrast(self, family: Family, row: int) -> Contrast | None:
        """The test of one row within a family."""
        return next((found for found in self.contrasts if (found.family, found.row) == (family, row)), None)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Comparison:
        """The comparison of `to_json`'s data."""
        read = {
            "seeds": tuple(data["seeds"]),
            "rows": tuple(row_of(row) for row in data["rows"]),
            "contrasts": tuple(Contrast(**found) for found in data["contrasts"]),
            "importances": tuple(Importance(**found) for found in data["importances"]),
        }
        return cls(**{**data, **read})


def row_of(data: Mapping[str, Any]) -> Row:
    """A row of plain data."""
    pairs: Sequence[Sequence[Any]] = data["history"]
    history = tuple((int(step), float(value)) for step, value in pairs)
    return Row(**{**data, "groups": tuple(data["groups"]), "values": tuple(data["values"]), "history": history})


def signed(value: float) -> str:
    """A difference, with its sign: +0.0123, -3.1e-05."""
    return f"{value:+.4f}" if value == 0 or 5e-5 <= abs(value) < 100 else f"{value:+.2g}"
