"""The gate's report: one record, and the same as JSON, which may be read again from a stranger. Pure.

`report_markdown` and `report_html` render it for people.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import msgspec

from trunkline.errors import UserError
from trunkline.gate import wire
from trunkline.gate.evidence import Evidence
from trunkline.gate.verdict import Verdict

__all__ = ["Earlier", "Identity", "LARGEST", "Looks", "Phase", "Report", "SCHEMA", "json_schema", "read", "to_json"]

SCHEMA = "trunkline.gate/2"
LARGEST = 1 << 20
"""Bytes of a report that `read` takes."""

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}")


@dataclass(frozen=True)
class Identity:
    """A model version by its reference and the digest of its bundle."""

    reference: str
    sha256: str


@dataclass(frozen=True)
class Phase:
    """A part of the gate's work and how long it took."""

    name: str
    seconds: float


@dataclass(frozen=True)
class Looks:
    """Which look at the sealed part this is, of how many; whether the Ladder shows its scores, what it withholds."""

    number: int
    budget: int
    ladder: bool
    withheld: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"look {self.number} of {self.budget}"


@dataclass(frozen=True)
class Earlier:
    """An earlier verdict of the same deployment, as it was shown: metrics as value, low and high; ISO time in UTC."""

    reference: str
    passed: bool
    decided_at: str
    metrics: Mapping[str, tuple[float, float, float]]


@dataclass(frozen=True)
class Report:
    """Everything that is said about one look at the test part.

    `provenance` names what the verdict rests on: dataset, look, git commit, whatever the caller knows. `earlier` are
    the verdicts before this one, the oldest first.
    """

    deployment: str
    candidate: Identity
    champion: Identity | None
    verdict: Verdict
    evidence: Evidence
    phases: tuple[Phase, ...] = ()
    provenance: Mapping[str, str] = field(default_factory=dict)
    looks: Looks | None = None
    earlier: tuple[Earlier, ...] = ()


def to_json(report: Report) -> dict[str, object]:
    """The report as plain data with the schema's name; numbers that are not finite become None."""
    data = cast("dict[str, object]", wire.plain(report))
    return {"schema": SCHEMA, "passed": report.verdict.passed, **data}


def read(data: bytes) -> Report:
    """The report in `data`, the bytes of a gate.json from wherever: whoever wrote it, rendering it is safe.

    What it says is another matter: only the ledger and the registry know whether the gate said so. Raises `UserError`
    for more than 1 MiB and for what is no report.
    """
    if len(data) > LARGEST:
        raise _wrong(f"it has {len(data):,} bytes, and {LARGEST:,} is the limit")
    try:
        found = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError) as exc:
        raise _wrong(f"no JSON: {type(exc).__name__}") from exc
    if not isinstance(found, dict) or found.get("schema") != SCHEMA:
        raise _wrong(f"its schema is not {SCHEMA}")
    try:
        report = wire.record(Report, found)
    except wire.WireError as exc:
        raise _wrong(str(exc)) from exc
    if not _NAME.fullmatch(report.deployment):
        raise _wrong("the deployment's name may only hold letters, digits, '_', '-', '.'")
    if found.get("passed") is not report.verdict.passed:
        raise _wrong("`passed` is not what its rules say")
    return report


def _wrong(why: str) -> UserError:
    return UserError(f"this is no report of the gate: {why}", hint="`trunkline gate` writes it as gate.json")


def json_schema() -> dict[str, Any]:
    """The JSON Schema of `to_json`'s data, which is shipped as `gate/schema.json`."""
    made = wire.schema(Report)
    top = made["$defs"].pop("Report")
    top["properties"] = {"schema": {"const": SCHEMA}, "passed": {"type": "boolean"}, **top["properties"]}
    top["properties"]["deployment"]["pattern"] = f"^{_NAME.pattern}$"
    top["required"] = ["schema", "passed", *top["required"]]
    del made["$ref"]
    return {"title": f"Trunkline's gate report, {SCHEMA}", **made, **top}
