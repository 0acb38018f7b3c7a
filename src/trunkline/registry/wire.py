"""Runs as plain data, for files that outlive the process. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import datetime
from typing import Any

from trunkline.errors import IntegrityError
from trunkline.registry.protocol import DatasetInput, RunRecord

__all__ = ["from_plain", "plain"]

_TIMES = ("started_at", "ended_at")


def plain(run: RunRecord) -> dict[str, Any]:
    """The run and its children as plain data, without the place of its artifacts."""
    data = asdict(replace(run, children=(), artifacts=None))
    for name in _TIMES:
        data[name] = data[name].isoformat() if data[name] else None
    return {**data, "children": [plain(child) for child in run.children]}


def from_plain(data: Mapping[str, Any]) -> RunRecord:
    """The run that `plain` gave, also after a way through JSON. Raises `IntegrityError` for what it did not give."""
    try:
        return _run(data)
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise IntegrityError("what was kept of a run is damaged, or of another version of Trunkline") from exc


def _run(data: Mapping[str, Any]) -> RunRecord:
    made = {
        **{name: datetime.fromisoformat(data[name]) if data[name] else None for name in _TIMES},
        **{name: dict(data[name]) for name in ("params", "metrics", "tags")},
        "curves": {name: tuple((step, value) for step, value in curve) for name, curve in data["curves"].items()},
        "children": tuple(from_plain(child) for child in data["children"]),
        "datasets": tuple(DatasetInput(**one) for one in data.get("datasets", ())),
    }
    return RunRecord(**{**data, **made})
