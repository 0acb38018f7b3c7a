"""What a plan needs to know of the warehouse: the last success of every step, and which tables there are.

Opening a warehouse costs more than everything else in a run that has nothing to do. So what was read is kept with the
stamp of the commit it was read at; while the stamp stays, nothing was committed and nothing is opened.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from trunkline.graph.plan import Past
from trunkline.project.files import write_atomic
from trunkline.project.load import Project
from trunkline.warehouse.protocol import commit_stamp

_FORMAT = 1


@dataclass(frozen=True)
class State:
    """The ledger's last successes by step, and (schema, name) of all tables and views."""

    past: Mapping[str, Past]
    relations: frozenset[tuple[str, str]]


def known_state(project: Project, read: Callable[[], State]) -> State:
    """The state as kept, if nothing was committed since; else as `read` from the warehouse, and kept."""
    file = project.state / "cache" / f"state-{project.target.name}.json"
    stamp = _stamp(project)
    kept = _kept(file, stamp)
    if kept is not None:
        return kept
    state = read()
    if stamp is not None and stamp == _stamp(project):  # nobody committed while we read
        past = {name: asdict(last) for name, last in state.past.items()}
        data = {"format": _FORMAT, "stamp": stamp, "past": past, "relations": sorted(state.relations)}
        write_atomic(file, json.dumps(data))
    return state


def _stamp(project: Project) -> list[int] | None:
    return commit_stamp(project.target.type, project.target.settings, project.root)


def _kept(file: Path, stamp: list[int] | None) -> State | None:
    if stamp is None:
        return None
    try:
        data: dict[str, Any] = json.loads(file.read_text("utf-8"))
        if data["format"] != _FORMAT or data["stamp"] != stamp:
            return None
        past = {name: Past(**last) for name, last in data["past"].items()}
        return State(past, frozenset((schema, name) for schema, name in data["relations"]))
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None  # not there or damaged: it is only a copy
