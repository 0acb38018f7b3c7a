"""What was found out about a dataset, in plain words, with what it takes to draw it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from trunkline.errors import IntegrityError
from trunkline.project.files import write_atomic

FILE = "findings.json"
Outcome = Literal["ok", "warn", "fail", "skipped"]


@dataclass(frozen=True)
class Bars:
    """A bar chart: one value a label. `bound` is drawn as a line."""

    title: str
    labels: tuple[str, ...]
    values: tuple[float, ...]
    bound: float | None = None


@dataclass(frozen=True)
class Finding:
    """The answer of one probe. `text` says it to somebody who does not know the probe; `value` was held to `bound`."""

    probe: str
    outcome: Outcome
    text: str
    column: str | None = None
    value: float | None = None
    bound: float | None = None
    bars: Bars | None = None


def write_findings(folder: Path, findings: Sequence[Finding]) -> None:
    """Keep them beside the dataset's parts."""
    write_atomic(folder / FILE, json.dumps([asdict(finding) for finding in findings], indent=1))


def read_findings(folder: Path) -> tuple[Finding, ...]:
    """Those of the dataset in `folder`; none if none were kept. Raises `IntegrityError` if the file is damaged."""
    try:
        data = json.loads((folder / FILE).read_text("utf-8"))
        return tuple(Finding(**{**item, "bars": _bars(item["bars"])}) for item in data)
    except FileNotFoundError:
        return ()
    except (ValueError, KeyError, TypeError) as exc:
        hint = "delete its folder and `trunkline run`: it is made again"
        raise IntegrityError(f"{folder / FILE} is damaged: {exc}", hint=hint) from exc


def _bars(data: Mapping[str, Any] | None) -> Bars | None:
    if data is None:
        return None
    return Bars(str(data["title"]), tuple(data["labels"]), tuple(data["values"]), data["bound"])
