"""The plan: which steps are stale, and why. A pure function of graph, past results and selection."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass
from typing import Any

from trunkline.graph.graph import Graph
from trunkline.graph.step import Fingerprint, Step, fingerprint

POLLED = "its source is asked each time"


@dataclass(frozen=True)
class Past:
    """The last success of a step: its fingerprint's value and parts, and what it left behind."""

    fingerprint: str
    parts: Mapping[str, Any]
    output: Mapping[str, Any]


@dataclass(frozen=True)
class Planned:
    """One step with its fingerprint and, when it must run, the reason. `reason` None means it is fresh."""

    step: Step
    fingerprint: Fingerprint
    reason: str | None
    selected: bool


@dataclass(frozen=True)
class Plan:
    """All steps in order. `run` executes exactly the stale and selected ones."""

    entries: tuple[Planned, ...]

    @property
    def stale(self) -> tuple[Planned, ...]:
        """What has to run."""
        return tuple(entry for entry in self.entries if entry.reason and entry.selected)

    @property
    def polls(self) -> Plan:
        """The part that asks sources what they have: it comes first, for the rest depends on the answers."""
        return Plan(tuple(entry for entry in self.stale if entry.step.polled))


def make_plan(
    graph: Graph,
    past: Mapping[str, Past],
    *,
    selected: Set[str],
    exists: Callable[[Step, Past], bool],
    force: bool = False,
    asked: Set[str] = frozenset(),
) -> Plan:
    """Compare every step's fingerprint with that of its last success.

    `exists` says whether what a success left behind is still there. A step whose input is stale is stale: what it
    needs is about to change. A polled step runs unless it was `asked` already, and makes nothing stale by that alone.
    """
    values: dict[str, str] = {}
    stale: set[str] = set()
    entries = []
    for step in graph:
        print_ = fingerprint(step, values)
        values[step.name] = print_.value
        last = past.get(step.name)
        if step.polled:
            reason = None if step.name in asked else POLLED if last else "never ran"
            stale |= set() if last else {step.name}
            entries.append(Planned(step, print_, reason, step.name in selected))
            continue
        reason = "asked for by --force" if force and step.name in selected else _reason(step, print_, last, exists)
        if reason is None and any(need in stale for need in step.needs):
            reason = _upstream(step, stale)
        if reason:
            stale.add(step.name)
        entries.append(Planned(step, print_, reason, step.name in selected))
    return Plan(tuple(entries))


def _reason(step: Step, now: Fingerprint, last: Past | None, exists: Callable[[Step, Past], bool]) -> str | None:
    if last is None:
        return "never ran"
    if last.fingerprint != now.value:
        return _difference(now, last.parts)
    return None if exists(step, last) else "its output is gone"


def _difference(now: Fingerprint, before: Mapping[str, Any]) -> str:
    parts = now.to_json()
    if parts["code"] != before.get("code"):
        return "code changed"
    if parts["config"] != before.get("config"):
        return "configuration changed"
    libraries = _changed(parts["versions"], before.get("versions") or {})
    if libraries:
        return f"library changed: {', '.join(libraries)}"
    return f"input changed: {', '.join(_changed(parts['inputs'], before.get('inputs') or {})) or 'fewer inputs'}"


def _changed(now: Mapping[str, str], before: Mapping[str, str]) -> list[str]:
    return [name for name, value in now.items() if before.get(name) != value]


def _upstream(step: Step, stale: set[str]) -> str:
    return f"runs again after {', '.join(need for need in step.needs if need in stale)}"
