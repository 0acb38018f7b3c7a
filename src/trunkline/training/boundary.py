"""Calling the user's model function: what goes wrong in it is shown in the user's lines, without ours."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, cast

from trunkline.errors import TrainingError, TrunklineError, UserError
from trunkline.project.boundary import told, user_place
from trunkline.project.hidden import CLOSED
from trunkline.training.protocol import Estimator, Pruned
from trunkline.training.trial import DefaultTrial

__all__ = ["build_estimator", "build_with", "plain_settings"]


def build_with(build: Callable[[Any], Any], params: Mapping[str, Any] | None) -> tuple[Estimator, dict[str, Any]]:
    """The estimator for `params` (defaults where none is given), and the parameters it was made with.

    Raises TrainingError for an unknown parameter or a value outside its range, and as `build_estimator` does.
    """
    trial = DefaultTrial(params)
    estimator = build_estimator(build, trial)
    trial.refuse_unused()
    return estimator, trial.params


def build_estimator(
    build: Callable[[Any], Any], trial: Any, *, let_pass: tuple[type[Exception], ...] = (Pruned,)
) -> Estimator:
    """Call the model function. Raises TrainingError, pointing into the user's file, for whatever goes wrong in it."""
    try:
        estimator = build(trial)
    except let_pass:
        raise
    except Exception as exc:
        raise _told(build, exc) from exc
    if not all(hasattr(estimator, part) for part in ("fit", "name", "settings")):
        file, line = _home(build)
        raise TrainingError(
            f"{_name(build)}() returned {_shown(estimator)}, which is no estimator",
            file=file,
            line=line,
            hint="return one of trunkline.estimators, such as MLP(...) or LightGBM(...)",
        )
    return cast("Estimator", estimator)


def plain_settings(estimator: Estimator) -> dict[str, Any]:
    """Its settings, which its bundle holds as JSON. Raises TrainingError where they are none: asked before a fit."""
    try:
        settings = estimator.settings()
        json.dumps(settings, allow_nan=False)
    except TrunklineError:
        raise
    except Exception as exc:  # of the user's estimator, whatever it is
        file, line = user_place(exc)
        what = f"the settings of {estimator.name} cannot be written down: {told(exc)}"
        hint = "settings() gives plain data: numbers, text, lists"
        raise TrainingError(what, file=file, line=line, hint=hint) from exc
    return settings


def _told(build: Callable[[Any], Any], exc: Exception) -> TrainingError:
    file, line = user_place(exc, _home(build))
    if isinstance(exc, UserError):  # refused by an estimator or a trial: the message is already for the user
        return TrainingError(exc.what, file=exc.file or file, line=exc.line or line, hint=exc.hint)
    hint = CLOSED if isinstance(exc, PermissionError) else None
    return TrainingError(f"{_name(build)}() failed with {told(exc)}", file=file, line=line, hint=hint)


def _home(build: Callable[[Any], Any]) -> tuple[str | None, int | None]:
    code = getattr(build, "__code__", None)
    return (code.co_filename, code.co_firstlineno) if code else (None, None)


def _name(build: Callable[[Any], Any]) -> str:
    return getattr(build, "__name__", type(build).__name__)


def _shown(value: object) -> str:
    return "None" if value is None else f"a {type(value).__name__}"
