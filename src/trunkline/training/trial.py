"""A trial without a search: answers each `suggest_*` with the parameter given for it, or with a middle value."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trunkline.errors import TrainingError, did_you_mean
from trunkline.training.protocol import Choice

__all__ = ["DefaultTrial", "Parameter"]


@dataclass(frozen=True)
class Parameter:
    """One dimension of the search space, as the model function declared it."""

    low: float = 0.0
    high: float = 0.0
    step: float | None = None
    log: bool = False
    whole: bool = False
    choices: tuple[Any, ...] | None = None

    def __str__(self) -> str:
        if self.choices is not None:
            return f"one of {list(self.choices)}"
        return f"{'an integer' if self.whole else 'a number'} of {self.low:g} to {self.high:g}"

    def middle(self) -> Any:
        """The first choice; else the middle of the range, of its logarithm if `log`, on the grid of `step`."""
        if self.choices is not None:
            return self.choices[0]
        value = math.sqrt(self.low * self.high) if self.log else (self.low + self.high) / 2
        if self.step is not None and not self.log:
            value = self.low + self.step * round((value - self.low) / self.step)
        value = min(max(value, self.low), self.high)
        return round(value) if self.whole else value

    def takes(self, value: Any) -> bool:
        """Whether `value` is of this dimension."""
        if self.choices is not None:
            return any(value is choice or (type(value) is type(choice) and value == choice) for choice in self.choices)
        kind = int if self.whole else (int, float)
        return isinstance(value, kind) and not isinstance(value, bool) and self.low <= value <= self.high


class DefaultTrial:
    """Stands in for `optuna.Trial` in a single training. `params` and `space` record what was asked for."""

    def __init__(self, given: Mapping[str, Any] | None = None) -> None:
        self.given = dict(given or {})
        self.params: dict[str, Any] = {}
        self.space: dict[str, Parameter] = {}

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        """The given value, or the middle of [low, high]."""
        self._check_range(name, low, high, log)
        return float(self._answer(name, Parameter(low, high, step, log)))

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        """The given value, or the middle of [low, high]."""
        self._check_range(name, low, high, log)
        return int(self._answer(name, Parameter(low, high, step, log, whole=True)))

    def suggest_categorical(self, name: str, choices: Sequence[Choice]) -> Choice:
        """The given value, or the first of `choices`."""
        if not choices:
            raise TrainingError(f"parameter {name!r} has no choices")
        for choice in choices:
            if not (choice is None or isinstance(choice, bool | int | float | str)):
                raise TrainingError(
                    f"parameter {name!r} has the choice {choice!r}, a {type(choice).__name__}, which no study can keep",
                    hint="choose among names, and look up what they stand for: {'wide': (64, 64), …}[name]",
                )
        answer: Choice = self._answer(name, Parameter(choices=tuple(choices)))
        return answer

    def report(self, value: float, step: int) -> None:
        """Nothing to do: estimators report by themselves."""

    def should_prune(self) -> bool:
        """Never: there are no other trials to compare with."""
        return False

    def set_user_attr(self, key: str, value: Any) -> None:
        """Nothing to do: there is no study to keep it."""

    def refuse_unused(self) -> None:
        """Raise TrainingError if a parameter was given that the model function never asked for."""
        for name in self.given:
            if name not in self.space:
                known = f"this trial asked for: {', '.join(self.space)}" if self.space else "it asks for none"
                raise TrainingError(
                    f"the model function has no parameter {name!r}.{did_you_mean(name, self.space)}", hint=known
                )

    def _answer(self, name: str, parameter: Parameter) -> Any:
        self.space[name] = parameter
        value = self.given[name] if name in self.given else parameter.middle()
        if not parameter.takes(value):
            raise TrainingError(f"parameter {name!r} is {value!r}, but must be {parameter}")
        self.params[name] = value
        return value

    def _check_range(self, name: str, low: float, high: float, log: bool) -> None:
        if low > high:
            raise TrainingError(f"parameter {name!r} has the range {low:g} to {high:g}, which is empty")
        if log and low <= 0:
            raise TrainingError(f"parameter {name!r} is logarithmic, so its range must begin above 0, not at {low:g}")
