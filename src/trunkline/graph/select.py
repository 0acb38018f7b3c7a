"""Selection by name, kind, `+up` and `down+`, like dbt's."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase

from trunkline.errors import UserError, did_you_mean
from trunkline.graph.graph import Graph


def select(graph: Graph, selectors: Iterable[str]) -> set[str]:
    """Names of the steps that any selector picks; no selector picks all.

    `NAME` (`flights`, `build:stg_flights`, globs as `stg_*`), `KIND` or `kind:KIND` (`train`), each with `+` before
    it for all it depends on and `+` after it for all that depends on it; `A,B` is the intersection of both.
    Raises `UserError` with the closest name when a selector picks nothing.
    """
    listed = list(selectors)
    if not listed:
        return set(graph.steps)
    chosen: set[str] = set()
    for selector in listed:
        parts = [_one(graph, part) for part in selector.split(",")]
        chosen |= set.intersection(*parts)
    return chosen


def _one(graph: Graph, selector: str) -> set[str]:
    up, down = selector.startswith("+"), selector.endswith("+")
    name = selector.strip("+").removeprefix("kind:")
    chosen = {s.name for s in graph if s.kind == name or fnmatchcase(s.name, name) or fnmatchcase(s.subject, name)}
    chosen |= {s.name for s in graph if s.subject.rpartition(".")[2] == name}
    chosen |= {s.name for s in graph for alias in s.aliases if fnmatchcase(alias, name) or alias.endswith(f".{name}")}
    if not chosen:
        known = [
            *graph.steps,
            *(s.subject for s in graph),
            *(a for s in graph for a in s.aliases),
            *sorted({s.kind for s in graph}),
        ]
        raise UserError(
            f"nothing is selected by {selector!r}.{did_you_mean(name, known)}", hint="`trunkline plan` lists all steps"
        )
    extra = (graph.ancestors(chosen) if up else set()) | (graph.descendants(chosen) if down else set())
    return chosen | extra
