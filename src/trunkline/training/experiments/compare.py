"""A ladder of feature groups times variations times seeds: what each is worth, and whether that is more than chance."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from trunkline.errors import TrainingError
from trunkline.training.boundary import build_with
from trunkline.training.experiments.ablation import ablations, left_out
from trunkline.training.experiments.cells import Cell, Recipe, Store, fit
from trunkline.training.experiments.comparison import Ablate, Comparison, Contrast, Family, Importance, Row
from trunkline.training.experiments.contrasts import holm, pooled
from trunkline.training.experiments.filling import fill
from trunkline.training.experiments.permutation import MOST_ROWS, importances, places
from trunkline.training.metrics import Difference, paired_difference
from trunkline.training.protocol import Build, TrainingData

__all__ = ["CompareSpec", "compare"]

_Tell = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True)
class CompareSpec:
    """What to compare. `groups` are added up in their order; `variations` are label -> parameters.

    `ablate` leaves out one group, or one column, of the full set with its best variation. `repeats` above 0 shuffles
    as often for the importances of the best model. Fits are kept in `store` and never made twice.
    """

    build: Build
    groups: Mapping[str, Sequence[str]]
    variations: Mapping[str, Mapping[str, Any]]
    store: Store
    seeds: tuple[int, ...] = (0,)
    threads: int = 1
    device: str = "cpu"
    ablate: Ablate | None = None
    repeats: int = 0
    jobs: int = 1

    @property
    def features(self) -> tuple[str, ...]:
        """All features, group by group."""
        return tuple(dict.fromkeys(feature for columns in self.groups.values() for feature in columns))


def compare(spec: CompareSpec, data: TrainingData, tell: _Tell = lambda what: None) -> Comparison:
    """Fit what is not known yet, and test the differences on the same validation rows.

    Tells how many fits there will be, each fit, each row when its last seed is done, and how far the shuffling is.
    Raises TrainingError for the user's code or parameters, and for nothing to compare; DatasetError for a feature that
    is no input: both before anything is fitted.
    """
    ladder = _ladder(spec)
    _check(spec, data, ladder)
    tell({"total": (len(ladder) + _leaving(spec, ladder)) * len(spec.seeds)})
    bench = _Bench(spec, data, tell)
    rows = bench.rows(ladder)
    full = [place for place, recipe in enumerate(ladder) if recipe.features == spec.features][-len(spec.variations) :]
    best = _best(rows, range(len(rows)), data)
    tests = [*_rungs(ladder), *_pairs(full)]
    if spec.ablate:
        top = _best(rows, full, data)
        more = ablations(ladder[top], spec.groups, spec.ablate)
        tests += [("left out", len(rows) + number, top) for number in range(len(more))]
        ladder += more
        rows += bench.rows(more)
    return Comparison(
        metric=data.metric.name,
        higher_is_better=data.metric.higher_is_better,
        seeds=spec.seeds,
        rows=tuple(rows),
        contrasts=tuple(_told(bench.contrasts(ladder, tests), _best(rows, full, data))),
        importances=bench.importances(ladder[best]) if spec.repeats else (),
        best=best,
        measured=len(data.validation),
        shuffled=min(len(data.validation), MOST_ROWS) if spec.repeats else 0,
        known=bench.known,
    )


def _ladder(spec: CompareSpec) -> list[Recipe]:
    names = list(spec.groups)
    found = []
    for rung in range(1, len(names) + 1):
        features = dict.fromkeys(feature for name in names[:rung] for feature in spec.groups[name])
        for label, params in spec.variations.items():
            found.append(Recipe(tuple(names[:rung]), tuple(features), label, params))
    return found


def _leaving(spec: CompareSpec, ladder: Sequence[Recipe]) -> int:
    """How many ablations are no rung of the ladder: the one without the last group is."""
    if spec.ablate is None:
        return 0
    there, parts = {recipe.features for recipe in ladder}, left_out(spec.features, spec.groups, spec.ablate).values()
    return sum(tuple(name for name in spec.features if name not in part) not in there for part in parts)


def _check(spec: CompareSpec, data: TrainingData, ladder: Sequence[Recipe]) -> None:
    if not ladder:
        raise TrainingError("there are no feature groups to compare", hint="declare `groups` in the dataset")
    for params in spec.variations.values():
        build_with(spec.build, params)
    data.signature.subset(spec.features)


def _best(rows: Sequence[Row], among: Sequence[int], data: TrainingData) -> int:
    return max(among, key=lambda place: data.metric.signed(rows[place].value))


_Test = tuple[Family, int, int]


def _rungs(ladder: Sequence[Recipe]) -> Iterator[_Test]:
    """Every row against the one below it: the same variation, a group fewer."""
    place = {(len(recipe.groups), recipe.variation): number for number, recipe in enumerate(ladder)}
    for (rung, variation), number in place.items():
        if rung > 1:
            yield "rung", number, place[rung - 1, variation]


def _pairs(full: Sequence[int]) -> Iterator[_Test]:
    """All pairs of variations: which one is the best is told by the same rows, so no pair may be left uncounted."""
    for one, other in itertools.combinations(full, 2):
        yield "variation", one, other


def _told(contrasts: Sequence[Contrast], best: int) -> Iterator[Contrast]:
    """Of the variations those against the best one, which stands second."""
    for found in contrasts:
        if found.family != "variation" or best == found.against:
            yield found
        elif best == found.row:
            turned = Difference(-found.value, -found.high, -found.low, found.p)
            yield Contrast(found.family, found.against, found.row, *turned, found.adjusted)


@dataclass
class _Bench:
    """Fits the cells of a comparison, and knows those that are there. `known` counts the ones found.

    `seen` are those that were told: rows may have a cell in common.
    """

    spec: CompareSpec
    data: TrainingData
    tell: _Tell
    known: int = 0
    kept: dict[str, dict[str, Any]] = field(init=False)
    seen: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.kept = self.spec.store.read()

    def rows(self, recipes: Sequence[Recipe]) -> list[Row]:
        """The rows of recipes, fitted by several processes where there are `jobs`."""
        cells = {cell.key: cell for recipe in recipes for cell in self._cells(recipe)}
        todo = [cell for cell in cells.values() if not self._there(cell)]
        if self.spec.jobs > 1 and todo:  # not even one here: its threads would be missing in processes forked later
            fill(self.spec.build, self.data, todo, self.spec.store, self.spec.jobs, self._filled)
        return [self.row(recipe) for recipe in recipes]

    def row(self, recipe: Recipe) -> Row:
        """The row of a recipe, over all seeds."""
        cells = [self._cell(cell) for cell in self._cells(recipe)]
        row = Row(
            groups=recipe.groups,
            features=len(recipe.features),
            variation=recipe.variation,
            estimator=cells[0]["estimator"],
            metric=self.data.metric.name,
            value=float(np.mean([cell["value"] for cell in cells])),
            low=float(np.mean([cell["low"] for cell in cells])),
            high=float(np.mean([cell["high"] for cell in cells])),
            seconds=sum(cell["seconds"] for cell in cells),
            values=tuple(cell["value"] for cell in cells),
            left_out=recipe.left_out,
            history=tuple((step, value) for step, value in cells[0]["history"]),
        )
        self.tell({"row": asdict(row)})
        return row

    def _cells(self, recipe: Recipe) -> list[Cell]:
        return [Cell(recipe, seed, self.spec.threads, self.spec.device) for seed in self.spec.seeds]

    def _cell(self, cell: Cell) -> dict[str, Any]:
        if not self._there(cell):
            _, found, scores = fit(self.spec.build, self.data, cell)
            self._new(cell, self.spec.store.add(cell.key, found, scores))
        elif cell.key not in self.seen:
            self.known += 1
            self._say(cell, known=True)
        return self.kept[cell.key]

    def _there(self, cell: Cell) -> bool:
        return cell.key in self.kept and self.spec.store.has_scores(self.kept[cell.key])

    def _filled(self, cell: Cell) -> None:
        self._new(cell, self.spec.store.read()[cell.key])

    def _new(self, cell: Cell, found: dict[str, Any]) -> None:
        self.kept[cell.key] = found
        self._say(cell, known=False)

    def _say(self, cell: Cell, *, known: bool) -> None:
        self.seen.add(cell.key)
        found = self.kept[cell.key]
        told = {"name": cell.recipe.name, "seed": cell.seed, "value": found["value"], "seconds": found["seconds"]}
        self.tell({"cell": told | {"known": known}})

    def contrasts(self, recipes: Sequence[Recipe], tests: Sequence[_Test]) -> list[Contrast]:
        """The differences of pairs of rows, adjusted for how many tests their family has."""
        found = []
        for family in dict.fromkeys(family for family, _, _ in tests):
            pairs = [(row, against) for kind, row, against in tests if kind == family]
            made = [self._difference(recipes[row], recipes[against]) for row, against in pairs]
            adjusted = holm([difference.p for difference in made])
            found += [
                Contrast(family, *pair, *difference, p)
                for pair, difference, p in zip(pairs, made, adjusted, strict=True)
            ]
        return found

    def _difference(self, one: Recipe, other: Recipe) -> Difference:
        pairs = list(zip(self._cells(one), self._cells(other), strict=True))
        first = paired_difference(
            self.data.metric,
            self.data.validation.y,
            *(self.spec.store.scores(self.kept[cell.key]) for cell in pairs[0]),
        )
        return pooled(first, [self.kept[a.key]["value"] - self.kept[b.key]["value"] for a, b in pairs])

    def importances(self, recipe: Recipe) -> tuple[Importance, ...]:
        """Those of the model of the first seed, which is fitted once more unless they are known."""
        cell = self._cells(recipe)[0]
        key = f"{cell.key} shuffled {self.spec.repeats}"
        if key not in self.kept:
            self.tell({"shuffled": 0.0})
            fitted, _, _ = fit(self.spec.build, self.data, cell)
            part = self.data.select(recipe.features)
            groups = {name: self.spec.groups[name] for name in recipe.groups}
            made = importances(
                fitted,
                part.validation,
                part.metric,
                places(part.encoder.places, groups),
                repeats=self.spec.repeats,
                seed=cell.seed,
                tell=lambda done: self.tell({"shuffled": done}),
            )
            self.kept[key] = {"importances": [asdict(one) for one in made]}
            self.spec.store.add(key, self.kept[key])
        return tuple(Importance(**one) for one in self.kept[key]["importances"])
