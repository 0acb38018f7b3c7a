"""How a dataset is parted. Used as `tl.split.by_time(…)`."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from trunkline.errors import DatasetError

__all__ = ["TimeSplit", "by_time"]


@dataclass(frozen=True)
class TimeSplit:
    """Parts by the dataset's time column: train < `validation` <= validation < `test` <= test (ISO dates or times)."""

    validation: str
    test: str

    def to_json(self) -> dict[str, str]:
        """The split as plain data."""
        return {"by": "time", "validation": self.validation, "test": self.test}


def by_time(*, validation: str, test: str) -> TimeSplit:
    """Split by time: rows before `validation` train, rows from `test` on are sealed, the rest validate.

    >>> by_time(validation="2013-09-01", test="2013-11-01")
    TimeSplit(validation='2013-09-01', test='2013-11-01')
    """
    bounds = []
    for name, text in (("validation", validation), ("test", test)):
        try:
            bounds.append(dt.datetime.fromisoformat(text))
        except (TypeError, ValueError) as exc:
            raise DatasetError(
                f"split.by_time({name}={text!r}) is not an ISO date or time", hint="write it like '2013-09-01'"
            ) from exc
    if (bounds[0].tzinfo is None) != (bounds[1].tzinfo is None) or bounds[0] >= bounds[1]:
        raise DatasetError(f"split.by_time: validation={validation!r} must come before test={test!r}")
    return TimeSplit(validation, test)
