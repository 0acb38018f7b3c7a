"""What the records of estimators share: where each is implemented, and checks of their settings."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from trunkline.errors import TrainingError
from trunkline.training.protocol import Fitted, TrainingData

__all__ = [
    "CALIBRATIONS",
    "IMPLEMENTATIONS",
    "calibrated",
    "choice",
    "implementation",
    "number",
    "sound",
    "weighted",
    "whole",
]

CALIBRATIONS = (None, "sigmoid", "isotonic", "temperature")
"""How probabilities can be corrected: see `calibration.py`."""

# Where each estimator is implemented, and what to install if its framework is not there.
IMPLEMENTATIONS = {
    "mlp": ("trunkline.training.networks.torch:fit_mlp", "pip install 'trunkline[torch]'"),
    "tabm": ("trunkline.training.networks.tabm:fit_tabm", "pip install 'trunkline[torch]'"),
    "torch": ("trunkline.training.networks.torch:fit_torch", "pip install 'trunkline[torch]'"),
    "lightgbm": ("trunkline.training.trees.lightgbm:fit_lightgbm", "pip install --force-reinstall trunkline"),
    "xgboost": ("trunkline.training.trees.xgboost:fit_xgboost", "pip install 'trunkline[xgboost]'"),
    "sklearn": ("trunkline.training.scikit.sklearn:fit_sklearn", "pip install --force-reinstall trunkline"),
}


def implementation(name: str) -> Callable[..., Fitted]:
    """The function that fits the estimator of that name. Raises TrainingError for a framework that is not installed."""
    path, install = IMPLEMENTATIONS[name]
    module, _, function = path.partition(":")
    try:
        return cast("Callable[..., Fitted]", getattr(importlib.import_module(module), function))
    except ModuleNotFoundError as exc:
        raise TrainingError(f"the estimator {name!r} needs {exc.name}, which is not installed", hint=install) from exc


def whole(record: object, field: str, *, at_least: int) -> None:
    """Refuse a setting that is no integer, or too small a one."""
    value = getattr(record, field)
    if isinstance(value, bool) or not isinstance(value, int) or value < at_least:
        raise TrainingError(f"{type(record).__name__}({field}={value!r}): {field} must be an integer >= {at_least}")


def number(
    record: object,
    field: str,
    *,
    at_least: float | None = None,
    above: float | None = None,
    below: float | None = None,
    at_most: float | None = None,
) -> None:
    """Refuse a setting that is no finite number within its bounds."""
    value = getattr(record, field)
    bounds = {">=": at_least, ">": above, "<": below, "<=": at_most}
    wanted = " and ".join(f"{sign} {bound:g}" for sign, bound in bounds.items() if bound is not None)
    fits = (
        not isinstance(value, bool)
        and isinstance(value, int | float)
        and (at_least is None or value >= at_least)
        and (above is None or value > above)
        and (below is None or value < below)
        and (at_most is None or value <= at_most)
        and abs(value) < float("inf")
    )
    if not fits:
        raise TrainingError(f"{type(record).__name__}({field}={value!r}): {field} must be a number {wanted}")


def choice(record: object, field: str, choices: Sequence[object]) -> None:
    """Refuse a setting that is none of its choices; True is not 1."""
    value = getattr(record, field)
    if not any(value is known or (type(value) is type(known) and value == known) for known in choices):
        raise TrainingError(
            f"{type(record).__name__}({field}={value!r}): {field} must be one of {', '.join(map(repr, choices))}"
        )


def weighted(record: Any) -> None:
    """Refuse `class_weights` and `calibrate` of a form that no task knows."""
    given = record.class_weights
    if not (given in (None, "balanced") or isinstance(given, Mapping)):
        raise TrainingError(
            f"{type(record).__name__}(class_weights={given!r}): class_weights must be 'balanced', or a mapping from a"
            " class to its weight"
        )
    choice(record, "calibrate", CALIBRATIONS)


def sound(data: TrainingData) -> None:
    """Refuse a training part whose target is not a number somewhere. Raises TrainingError."""
    import numpy as np

    bad = int((~np.isfinite(data.train.y)).sum())
    if bad:
        raise TrainingError(
            f"the target {data.signature.target!r} is not a finite number in {bad} of {len(data.train)} training rows",
            hint="leave such rows out in the dbt model",
        )


def calibrated(fitted: Fitted, data: TrainingData, method: str | None) -> Fitted:
    """The fitted model with its probabilities corrected on the validation part; as it is, if `method` is None."""
    if method is None:
        return fitted
    from trunkline.training.calibration import calibrate  # loads numpy

    return calibrate(fitted, data, method)
