"""What a dataset's leakage probes are told: what follows from a finding, and from which value on. The probes themselves
are in `datasets/probes.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from trunkline.errors import did_you_mean

OUTCOMES = ("warn", "fail", "off")


@dataclass(frozen=True)
class Setting:
    """One probe's. `at_most` is the largest value that is no finding; `ignore` are features it leaves out.

    `columns` are those of the dbt model that name who or what a row is about, for `shared_groups`.
    """

    at_most: float
    outcome: str = "warn"
    ignore: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()


# Why these: docs/leakage.md has what benchmarks/leakage.py measured with them.
DEFAULTS: Mapping[str, Setting] = {
    "single_feature": Setting(0.98),
    "missing_with_label": Setting(0.95),
    "shared_rows": Setting(0.01),
    "shared_keys": Setting(0.001),
    "shared_groups": Setting(0.0),
    "after_prediction": Setting(0.0),
    "adversarial": Setting(0.75),
    "as_of_change": Setting(0.01),
}


def settings(written: Mapping[str, Any] | None) -> dict[str, Setting]:
    """The setting of every probe. Raises `ValueError` that says what is wrong with what was `written`.

    >>> settings({"adversarial": "off"})["adversarial"].outcome
    'off'
    """
    found = dict(DEFAULTS)
    for probe, value in (written or {}).items():
        if probe not in DEFAULTS:
            raise ValueError(f"has no probe {probe!r}.{did_you_mean(probe, DEFAULTS)} There are: {', '.join(DEFAULTS)}")
        try:
            found[probe] = _setting(DEFAULTS[probe], {"outcome": value} if isinstance(value, str) else value)
        except ValueError as exc:
            raise ValueError(f"has probe {probe!r} set wrongly: {exc}") from None
    return found


def plain(written: Mapping[str, Any]) -> dict[str, Any]:
    """What was written, as plain data."""
    return {
        probe: value
        if isinstance(value, str)
        else {name: list(item) if isinstance(item, tuple) else item for name, item in value.items()}
        for probe, value in written.items()
    }


def _setting(default: Setting, written: object) -> Setting:
    if not isinstance(written, Mapping):
        raise ValueError(f"{written!r} is neither one of {', '.join(OUTCOMES)} nor a dict")
    changes: dict[str, Any] = {}
    for name, value in written.items():
        if name == "outcome" and value in OUTCOMES:
            changes[name] = value
        elif name == "at_most" and isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1:
            changes[name] = float(value)
        elif name in ("ignore", "columns") and isinstance(value, list | tuple):
            changes[name] = tuple(str(item) for item in value)
        else:
            raise ValueError(f"{name}={value!r}; {_WANTED.get(name, 'it takes ' + ', '.join(_WANTED))}")
    return replace(default, **changes)


_WANTED = {
    "outcome": f"outcome is one of {', '.join(OUTCOMES)}",
    "at_most": "at_most is a number of 0 to 1",
    "ignore": "ignore is a list of features",
    "columns": "columns is a list of columns",
}
