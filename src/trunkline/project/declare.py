"""What users write in `ml/*.py` and `sources/*.py`: datasets, models and sources, as plain records."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from trunkline.errors import DatasetError, ProjectError
from trunkline.project.split import TimeSplit

__all__ = ["Checkpoint", "Choice", "Dataset", "Model", "Source", "Trial", "model", "source"]

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

    `groups` maps a group's name to its columns, in the order in which `compare` adds them up.
    """

    relation: str
    _: KW_ONLY
    key: str
    time: str
    target: str
    groups: Mapping[str, Sequence[str]]
    split: TimeSplit
    name: str = ""
    file: Path = field(default_factory=lambda: _caller()[0], compare=False, repr=False)
    line: int = field(default_factory=lambda: _caller()[1], compare=False, repr=False)

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

    def _error(self, what: str) -> DatasetError:
        return DatasetError(f"dataset {self.name!r} {what}", file=self.file, line=self.line)

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
            "groups": {group: list(columns) for group, columns in self.groups.items()},
            "split": self.split.to_json(),
        }


@dataclass(frozen=True)
class Model:
    """A model function with what it is trained on and how it is measured."""

    name: str
    build: Callable[[Trial], Any]
    dataset: Dataset
    metric: str
    first: Mapping[str, Any]
    file: Path
    line: int

    def to_json(self) -> dict[str, Any]:
        """The declaration as plain data, without the function."""
        return {"name": self.name, "dataset": self.dataset.name, "metric": self.metric, "first": dict(self.first)}


def model(
    *, dataset: Dataset, metric: str = "roc_auc", first: Mapping[str, Any] | None = None, name: str | None = None
) -> Callable[[Callable[[Trial], Any]], Model]:
    """Declare the decorated function as a model.

    The function gets a trial and returns an estimator. `metric` is maximised or minimised by its own nature;
    `first` holds the parameters to begin with (else the first choice, or the middle of the range).
    """
    if not isinstance(dataset, Dataset):
        file, line = _caller()
        raise ProjectError(f"@tl.model(dataset=…) wants a tl.Dataset, not {dataset!r}", file=file, line=line)

    def declare(build: Callable[[Trial], Any]) -> Model:
        code = build.__code__
        return Model(
            name=name or build.__name__,
            build=build,
            dataset=dataset,
            metric=metric,
            first=dict(first or {}),
            file=Path(code.co_filename),
            line=code.co_firstlineno,
        )

    return declare


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
        file, line = _caller()
        raise ProjectError(f"@tl.source wants a function, not {rows!r}", file=file, line=line)
    code = rows.__code__
    return Source(rows, rows.__name__, Path(code.co_filename), code.co_firstlineno)


def _caller() -> tuple[Path, int]:
    """File and line of the user's code that is running now: the nearest frame outside this package."""
    frame = sys._getframe(1)
    here = Path(__file__).parent.parent
    while frame.f_back is not None:
        name = frame.f_code.co_filename
        if not name.startswith("<") and here not in Path(name).parents:
            break
        frame = frame.f_back
    return Path(frame.f_code.co_filename), frame.f_lineno
