"""Parameters to compare: those known to be good, or every choice of some of them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from trunkline.errors import TrainingError, did_you_mean
from trunkline.project.declare import Model
from trunkline.training.boundary import build_estimator, build_with
from trunkline.training.trial import DefaultTrial, Parameter

__all__ = ["near", "variations"]

_MOST = 64


class _Near(DefaultTrial):
    """Answers with what was given where that fits, else as ever: another branch may ask otherwise under one name."""

    def _answer(self, name: str, parameter: Parameter) -> Any:
        if name in self.given and not parameter.takes(self.given[name]):
            del self.given[name]
        return super()._answer(name, parameter)


def near(build: Callable[[Any], Any], wanted: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of a trial with all that is `wanted`, and of what is `known` the part it asks for.

    Raises TrainingError for something wanted that it does not ask for, or that is out of its range.
    """
    trial = _Near({**known, **wanted})
    build_estimator(build, trial)
    given = {**trial.params, **wanted}
    return build_with(build, given)[1]


def variations(model: Model, known: Mapping[str, Any], vary: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Label -> parameters: those `known` alone; or one for each combination of the choices of the parameters `vary`.

    All others stay as they are where a combination asks for them. Raises TrainingError for a parameter that is not
    categorical, and for more than 64 combinations.
    """
    if not vary:
        estimator, params = build_with(model.build, known)
        return {estimator.name: params}
    trial = DefaultTrial(known)
    build_estimator(model.build, trial)
    choices = [_choices(model, trial, name) for name in dict.fromkeys(vary)]
    combined = list(itertools.product(*choices))
    if len(combined) > _MOST:
        raise TrainingError(
            f"{' x '.join(vary)} are {len(combined)} combinations, more than {_MOST}", hint="vary fewer parameters"
        )
    found = {}
    for combination in combined:
        wanted = dict(zip(dict.fromkeys(vary), combination, strict=True))
        label = ", ".join(str(choice) if len(wanted) == 1 else f"{name}={choice}" for name, choice in wanted.items())
        found[label] = near(model.build, wanted, known)
    return found


def _choices(model: Model, trial: DefaultTrial, name: str) -> tuple[Any, ...]:
    parameter = trial.space.get(name)
    if parameter is None or parameter.choices is None:
        names = [each for each, space in trial.space.items() if space.choices is not None]
        raise TrainingError(
            f"model {model.name!r} has no categorical parameter {name!r}.{did_you_mean(name, names)}",
            file=model.file,
            line=model.line,
            hint=f"categorical parameters: {', '.join(names) or 'none'}",
        )
    return parameter.choices
