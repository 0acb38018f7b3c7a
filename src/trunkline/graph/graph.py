"""A graph of steps: order, ancestors, descendants."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter

from trunkline.errors import ProjectError
from trunkline.graph.step import Step


@dataclass(frozen=True)
class Graph:
    """Steps by name, in an order in which each comes after all it depends on."""

    steps: Mapping[str, Step]

    @classmethod
    def of(cls, steps: Iterable[Step]) -> Graph:
        """Order the steps. Raises `ProjectError` for a cycle. Steps that name no known step are kept out of order."""
        by_name = {step.name: step for step in steps}
        sorter = TopologicalSorter(
            {s.name: [n for n in (*s.needs, *s.after) if n in by_name] for s in by_name.values()}
        )
        try:
            order = list(sorter.static_order())
        except CycleError as exc:
            raise ProjectError(f"the steps depend on each other in a circle: {' -> '.join(exc.args[1])}") from exc
        return cls({name: by_name[name] for name in order})

    def __iter__(self) -> Iterator[Step]:
        return iter(self.steps.values())

    def ancestors(self, names: Iterable[str]) -> set[str]:
        """Everything the named steps depend on, themselves left out unless they depend on each other."""
        return self._reach(names, {s.name: (*s.needs, *s.after) for s in self})

    def descendants(self, names: Iterable[str]) -> set[str]:
        """Everything that depends on the named steps."""
        below: dict[str, list[str]] = {name: [] for name in self.steps}
        for step in self:
            for need in (*step.needs, *step.after):
                below.setdefault(need, []).append(step.name)
        return self._reach(names, below)

    def _reach(self, names: Iterable[str], edges: Mapping[str, Iterable[str]]) -> set[str]:
        found: set[str] = set()
        todo = list(names)
        while todo:
            for other in edges.get(todo.pop(), ()):
                if other in self.steps and other not in found:
                    found.add(other)
                    todo.append(other)
        return found
