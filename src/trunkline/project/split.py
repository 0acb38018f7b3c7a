"""How a dataset is parted. Used as `tl.split.by_time(…)`.

Splits are plain records; `datasets/splits.py` says them as SQL. A row's part depends on the row alone (and, where
exact proportions are asked for, on the rows of its class), never on the order or the engine it is read in.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any

from trunkline.errors import DatasetError
from trunkline.project import durations
from trunkline.project.boundary import caller

__all__ = [
    "GroupSplit",
    "KeySplit",
    "RollingSplit",
    "Split",
    "StratifiedSplit",
    "TimeSplit",
    "by_group",
    "by_key",
    "by_time",
    "rolling",
    "stratified",
]


@dataclass(frozen=True)
class TimeSplit:
    """train < `validation` <= validation < `test` <= test (ISO dates or times); `gap` before each is in no part."""

    validation: str
    test: str
    gap: str = "0d"

    def to_json(self) -> dict[str, Any]:
        """The split as plain data."""
        return {"by": "time", "validation": self.validation, "test": self.test, "gap": self.gap}


@dataclass(frozen=True)
class GroupSplit:
    """Shares of the values of `column`, by a hash of the value: rows with one value are in one part."""

    column: str
    validation: float = 0.15
    test: float = 0.15
    salt: str = ""

    def to_json(self) -> dict[str, Any]:
        """The split as plain data."""
        shares = {"validation": self.validation, "test": self.test, "salt": self.salt}
        return {"by": "group", "column": self.column, **shares}


@dataclass(frozen=True)
class KeySplit:
    """Shares of the rows, by a hash of the key."""

    validation: float = 0.15
    test: float = 0.15
    salt: str = ""

    def to_json(self) -> dict[str, Any]:
        """The split as plain data."""
        return {"by": "key", "validation": self.validation, "test": self.test, "salt": self.salt}


@dataclass(frozen=True)
class StratifiedSplit:
    """Exact shares of the rows of each class of `by` (None: the target), by a hash of the key."""

    validation: float = 0.15
    test: float = 0.15
    by: str | None = None
    salt: str = ""

    def to_json(self) -> dict[str, Any]:
        """The split as plain data."""
        shares = {"validation": self.validation, "test": self.test, "salt": self.salt}
        return {"by": "stratified", "stratify": self.by, **shares}


@dataclass(frozen=True)
class RollingSplit:
    """`folds` origins, each validated on the `horizon` after it; from `test` on rows are sealed."""

    folds: int
    horizon: str
    test: str
    gap: str = "0d"
    window: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The split as plain data."""
        spans = {"horizon": self.horizon, "gap": self.gap, "window": self.window}
        return {"by": "rolling", "folds": self.folds, "test": self.test, **spans}


Split = TimeSplit | GroupSplit | KeySplit | StratifiedSplit | RollingSplit


def by_time(*, validation: str, test: str, gap: str = "0d") -> TimeSplit:
    """Split by time: rows before `validation` train, rows from `test` on are sealed, the rest validate.

    Rows within `gap` before `validation` or before `test` are in no part: for labels that are known only later.

    >>> by_time(validation="2013-09-01", test="2013-11-01", gap="1 day")
    TimeSplit(validation='2013-09-01', test='2013-11-01', gap='1 day')
    """
    here = "split.by_time"
    first, last = _moment(here, "validation", validation), _moment(here, "test", test)
    span = _span(here, "gap", gap)
    if (first.tzinfo is None) != (last.tzinfo is None):
        raise _error(f"{here}: one of validation={validation!r} and test={test!r} has a time zone", "give both one")
    if first >= last - span:
        after = f" by more than gap={gap!r}" if span else ""
        raise _error(
            f"{here}: validation={validation!r} must come before test={test!r}{after}",
            "train < validation < test: move one of the dates",
        )
    return TimeSplit(validation, test, gap)


def by_group(column: str, *, validation: float = 0.15, test: float = 0.15, salt: str = "") -> GroupSplit:
    """Split so that all rows with one value of `column` (a customer, a patient) are in one part.

    `validation` and `test` are shares of the values, drawn by a hash; another `salt` draws others.

    >>> by_group("customer_id", test=0.2)
    GroupSplit(column='customer_id', validation=0.15, test=0.2, salt='')
    """
    if not isinstance(column, str) or not column:
        raise _error(f"split.by_group wants the name of a column, not {column!r}", 'split.by_group("customer_id")')
    _shares("split.by_group", validation, test, salt)
    return GroupSplit(column, validation, test, salt)


def by_key(*, validation: float = 0.15, test: float = 0.15, salt: str = "") -> KeySplit:
    """Split by chance: each row's part is drawn by a hash of its key, and never changes as rows are added.

    >>> by_key(validation=0.1, test=0.1)
    KeySplit(validation=0.1, test=0.1, salt='')
    """
    _shares("split.by_key", validation, test, salt)
    return KeySplit(validation, test, salt)


def stratified(
    *, validation: float = 0.15, test: float = 0.15, by: str | None = None, salt: str = ""
) -> StratifiedSplit:
    """Split by chance with exact shares in each class of the target, or of the column `by`: for rare classes.

    >>> stratified(by="country")
    StratifiedSplit(validation=0.15, test=0.15, by='country', salt='')
    """
    _shares("split.stratified", validation, test, salt)
    return StratifiedSplit(validation, test, by, salt)


def rolling(*, folds: int, horizon: str, test: str, gap: str = "0d", window: str | None = None) -> RollingSplit:
    """Rolling origins for time series: each fold trains on what is before it and is validated on the `horizon` after.

    The last fold's `horizon` ends `gap` before `test`; each earlier one ends `gap` before the next begins. `window`
    limits how far back a fold trains.

    >>> rolling(folds=4, horizon="4 weeks", test="2013-11-01", gap="2d").folds
    4
    """
    here = "split.rolling"
    if not isinstance(folds, int) or isinstance(folds, bool) or folds < 1:
        raise _error(f"{here}(folds={folds!r}): how many folds there are is a number from 1 on", "folds=4")
    _moment(here, "test", test)
    _span(here, "gap", gap)
    for name, text in (("horizon", horizon), ("window", window)):
        if text is not None and not _span(here, name, text):
            raise _error(f"{here}({name}={text!r}) is no time at all", f"{name}='4 weeks'")
    return RollingSplit(folds, horizon, test, gap, window)


def _moment(where: str, name: str, text: str) -> dt.datetime:
    try:
        return dt.datetime.fromisoformat(text)
    except (TypeError, ValueError):
        raise _error(f"{where}({name}={text!r}) is not an ISO date or time", "write it like '2013-09-01'") from None


def _span(where: str, name: str, text: str) -> dt.timedelta:
    try:
        return durations.span(text)
    except (AttributeError, TypeError, ValueError):
        raise _error(f"{where}({name}={text!r}) is no span of time", f"write it like {name}='7 days'") from None


def _shares(where: str, validation: float, test: float, salt: str) -> None:
    for name, share in (("validation", validation), ("test", test)):
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share < 1:
            raise _error(f"{where}({name}={share!r}) is no share of the rows", f"a number between 0 and 1: {name}=0.15")
    if validation + test >= 1:
        raise _error(
            f"{where}: validation={validation} and test={test} leave nothing to train on", "0.15 each is usual"
        )
    if not isinstance(salt, str):
        raise _error(f"{where}(salt={salt!r}) is no text", 'any text: salt="2"')


def _error(what: str, hint: str) -> DatasetError:
    file, line = caller()
    return DatasetError(what, file=file, line=line, hint=hint)
