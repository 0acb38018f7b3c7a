"""What users write in `ml/*.py` and `sources/*.py`: datasets, models and sources, as plain records."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

from trunkline.errors import DatasetError, ProjectError, did_you_mean
from trunkline.project import probes
from trunkline.project.boundary import caller
from trunkline.project.split import GroupSplit, RollingSplit, Split, TimeSplit

__all__ = ["Checkpoint", "Choice", "Dataset", "MODEL_NAME", "Metric", "Model", "Source", "Trial", "model", "source"]

_TASKS = ("binary", "multiclass", "regression")
MODEL_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*")
"""What a model may be called: there is no dot, which MLflow's logged models refuse."""
_NAMED = "a name of letters, digits, '_' and '-' that does not begin with '-'"
_OBJECTIVES = ("latency_us", "size_kb", "train_seconds")
Choice = TypeVar("Choice", None, bool, int, float, str)


class Trial(Protocol):
    """The part of `optuna.Trial` that a model function may use, so the same function trains once and is searched."""

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        """A number of [low, high], on a grid of `step`, or searched on a logarithmic scale."""

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        """An integer of [low, high], both included."""

    def suggest_categorical(self, name: str, choices: Sequence[Choice]) -> Choice:
        """One of `choices`; the first one is the default."""


@dataclass(frozen=True)
class Dataset:
    """A training set: one dbt model at one snapshot, its key, time, target, feature groups and split.

    `groups` maps a group's name to its columns, in the order in which `compare` adds them up. `time` is when a row's
    prediction is made; splits by time need it, and rows are kept in its order. `task` is told by the target's type and
    values: booleans, 0 and 1, and text are classes, as are up to 50 different integers; other numbers are regressed on,
    as are lists of them.
    """

    relation: str
    _: KW_ONLY
    key: str
    time: str | None = None
    target: str
    groups: Mapping[str, Sequence[str]]
    split: Split
    task: Literal["binary", "multiclass", "regression"] | None = None
    probes: Mapping[str, str | Mapping[str, Any]] = field(default_factory=dict)
    name: str = ""
    file: Path = field(default_factory=lambda: caller()[0], compare=False, repr=False)
    line: int = field(default_factory=lambda: caller()[1], compare=False, repr=False)

    def __post_init__(self) -> None:
        if not self.name:
            object.__setattr__(self, "name", self.relation)
        if not self.groups or not any(self.groups.values()):
            raise self._error("has no features: `groups` is empty")
        seen: dict[str, str] = {}
        for group, columns in self.groups.items():
            if isinstance(columns, str):
                raise self._error(f"group {group!r} must be a list of column names")
            for column in columns:
                if column in seen:
                    raise self._error(f"column {column!r} is in group {seen[column]!r} and in group {group!r}")
                if column in (self.key, self.target):
                    raise self._error(f"column {column!r} is the key or the target: it cannot be a feature")
                seen[column] = group
        self._check_split()
        self._check_probes()

    def _check_probes(self) -> None:
        try:
            found = probes.settings(self.probes)
        except ValueError as exc:
            raise self._error(str(exc), "docs/leakage.md has the probes and what can be set") from None
        for probe, setting in found.items():
            for column in setting.ignore:
                if column not in self.features:
                    close = did_you_mean(column, self.features)
                    raise self._error(f"has probe {probe!r} ignore {column!r}, which is no feature.{close}")

    def _check_split(self) -> None:
        if not isinstance(self.split, Split):
            raise self._error(
                f"has split={self.split!r}", "one of tl.split: by_time, by_group, by_key, stratified, rolling"
            )
        if isinstance(self.split, TimeSplit | RollingSplit) and not self.time:
            name = "by_time" if isinstance(self.split, TimeSplit) else "rolling"
            raise self._error(
                f"has no `time`, and split.{name} parts by it",
                'name the column: time="ordered_at"; or tl.split.by_key()',
            )
        if isinstance(self.split, GroupSplit) and self.split.column in (self.key, self.target):
            raise self._error(
                f"is split by groups of {self.split.column!r}, which is its key or its target",
                "split.by_group wants the column that rows of one customer, patient or machine share",
            )
        if self.task not in (None, *_TASKS):
            raise self._error(f"has task={self.task!r}", f"one of {', '.join(_TASKS)}, or none: the target tells")

    def _error(self, what: str, hint: str | None = None) -> DatasetError:
        return DatasetError(f"dataset {self.name!r} {what}", file=self.file, line=self.line, hint=hint)

    @property
    def features(self) -> tuple[str, ...]:
        """All feature columns, group by group."""
        return tuple(column for columns in self.groups.values() for column in columns)

    def to_json(self) -> dict[str, Any]:
        """The declaration as plain data: what the dataset's fingerprint covers."""
        return {
            "name": self.name,
            "relation": self.relation,
            "key": self.key,
            "time": self.time,
            "target": self.target,
            "task": self.task,
            "groups": {group: list(columns) for group, columns in self.groups.items()},
            "split": self.split.to_json(),
            "probes": probes.plain(self.probes),
        }


@dataclass(frozen=True)
class Metric:
    """A metric of the user's own: `function(y, score)` of outcomes and scores (NumPy arrays), and its direction.

    `y` is 0 and 1, the place of the class, or the number; [n, k] where the target is a list. `score` is [n], or [n, k]
    with a column for each class, quantile or output.

    >>> cost = Metric("cost", lambda y, score: float(abs(y - score).mean()), higher_is_better=False)
    """

    name: str
    function: Callable[[Any, Any], float]
    _: KW_ONLY
    higher_is_better: bool
    file: Path = field(default_factory=lambda: caller()[0], compare=False, repr=False)
    line: int = field(default_factory=lambda: caller()[1], compare=False, repr=False)

    def __post_init__(self) -> None:
        if not (isinstance(self.name, str) and self.name.isidentifier()):
            raise self._error(f"name={self.name!r}", "a word of letters, digits and underscores, such as 'cost'")
        if not callable(self.function):
            raise self._error(f"function={self.function!r}", "a function of y and score that gives a number")
        if not isinstance(self.higher_is_better, bool):
            raise self._error(f"higher_is_better={self.higher_is_better!r}", "True or False")

    def _error(self, what: str, hint: str) -> ProjectError:
        return ProjectError(f"tl.Metric({what})", file=self.file, line=self.line, hint=hint)

    def to_json(self) -> dict[str, Any]:
        """Name and direction; the function is found again where the file is run."""
        return {"name": self.name, "higher_is_better": self.higher_is_better}


@dataclass(frozen=True)
class Model:
    """A model function with what it is trained on and how it is measured. `metric` None is the task's own."""

    name: str
    build: Callable[[Trial], Any]
    dataset: Dataset
    metric: str | Metric | None
    first: Mapping[str, Any]
    file: Path
    line: int
    quantiles: tuple[float, ...] = ()
    objectives: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The declaration as plain data, without functions."""
        return {
            "name": self.name,
            "dataset": self.dataset.name,
            "metric": self.metric.to_json() if isinstance(self.metric, Metric) else self.metric,
            "first": dict(self.first),
            "quantiles": list(self.quantiles),
            "objectives": list(self.objectives),
        }


def model(
    *,
    dataset: Dataset,
    metric: str | Metric | None = None,
    quantiles: Sequence[float] = (),
    objectives: Sequence[str] = (),
    first: Mapping[str, Any] | None = None,
    name: str | None = None,
) -> Callable[[Callable[[Trial], Any]], Model]:
    """Declare the decorated function as a model.

    The function gets a trial and returns an estimator. `metric` is maximised or minimised by its own nature; left out,
    it is the task's: roc_auc, log_loss, rmse or pinball_loss. `quantiles` of a numeric target are learned in place of
    its mean. `objectives` are weighed beside the metric in a search: latency_us, size_kb, train_seconds. `first` holds
    the parameters to begin with (else the first choice, or the middle of the range).
    """
    if not isinstance(dataset, Dataset):
        raise _refused(f"dataset={dataset!r}", "a tl.Dataset")
    if not isinstance(metric, str | Metric | None):
        raise _refused(f"metric={metric!r}", 'a name such as "roc_auc", or tl.Metric("name", function, …)')
    if name is not None and not MODEL_NAME.fullmatch(name):
        raise _refused(f"name={name!r}", _NAMED)
    levels = _levels(quantiles)
    _check_objectives(objectives)

    def declare(build: Callable[[Trial], Any]) -> Model:
        code = build.__code__
        if name is None and not MODEL_NAME.fullmatch(build.__name__):
            what = f"{build.__name__!r} cannot name a model"
            hint = f'{_NAMED}: @tl.model(name="…", …)'
            raise ProjectError(what, file=code.co_filename, line=code.co_firstlineno, hint=hint)
        return Model(
            name=name or build.__name__,
            build=build,
            dataset=dataset,
            metric=metric,
            first=dict(first or {}),
            file=Path(code.co_filename),
            line=code.co_firstlineno,
            quantiles=levels,
            objectives=tuple(objectives),
        )

    return declare


def _levels(quantiles: Sequence[float]) -> tuple[float, ...]:
    """Rising quantiles within (0, 1)."""
    wanted = "numbers between 0 and 1 that rise, such as (0.1, 0.5, 0.9)"
    if isinstance(quantiles, str) or not isinstance(quantiles, Sequence):
        raise _refused(f"quantiles={quantiles!r}", wanted)
    if not all(isinstance(level, float) and 0 < level < 1 for level in quantiles):
        raise _refused(f"quantiles={quantiles!r}", wanted)
    if list(quantiles) != sorted(set(quantiles)):
        raise _refused(f"quantiles={quantiles!r}", wanted)
    return tuple(quantiles)


def _check_objectives(objectives: Sequence[str]) -> None:
    if isinstance(objectives, str):
        raise _refused(f"objectives={objectives!r}", f"a list, such as [{objectives!r}]")
    for index, objective in enumerate(objectives):
        if objective not in _OBJECTIVES:
            close = did_you_mean(str(objective), _OBJECTIVES)
            raise _refused(f"objectives=[…, {objective!r}]", f"of {', '.join(_OBJECTIVES)}.{close}")
        if objective in objectives[:index]:
            raise _refused(f"objectives={list(objectives)!r}", "each one once")


def _refused(what: str, wanted: str) -> ProjectError:
    file, line = caller()
    return ProjectError(f"@tl.model({what}) wants {wanted}", file=file, line=line)


@dataclass(frozen=True)
class Checkpoint:
    """Yielded by a source: all rows before it can be kept now, and `state` says from where to go on after them.

    `state` is plain JSON data. The source gets the last one that was kept as its argument `since`.
    """

    state: Any


@dataclass(frozen=True)
class Source:
    """A generator function that fills one table, declared with `@tl.source`. It can still be called."""

    rows: Callable[..., Iterable[Any]]
    name: str
    file: Path
    line: int

    def __call__(self, *arguments: Any, **named: Any) -> Iterable[Any]:
        """What the function gives."""
        return self.rows(*arguments, **named)


def source(rows: Callable[..., Iterable[Any]]) -> Source:
    """Declare the decorated generator function as a source of rows.

    It yields dicts, lists of dicts, Arrow tables or record batches, or DataFrames; and a `tl.Checkpoint` wherever the
    rows so far can be kept. Its arguments come from sources.yml; one called `since` gets the last checkpoint's state,
    None at first.

    >>> @source
    ... def orders(since):
    ...     for number in range((since or {"after": 0})["after"], 3):
    ...         yield {"order_id": number}
    ...     yield Checkpoint({"after": 3})
    >>> list(orders(None))[0]
    {'order_id': 0}
    """
    if not callable(rows) or not hasattr(rows, "__code__"):
        file, line = caller()
        raise ProjectError(f"@tl.source wants a function, not {rows!r}", file=file, line=line)
    code = rows.__code__
    return Source(rows, rows.__name__, Path(code.co_filename), code.co_firstlineno)
