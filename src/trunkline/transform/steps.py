"""dbt nodes as steps: one for each model, seed, snapshot or function, and one for the tests of each. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from trunkline.graph.step import Step, digest
from trunkline.transform.nodes import Node


def build_step_name(node: Node) -> str:
    """The name of the step that builds a node."""
    return f"build:{node.name}"


def dbt_steps(nodes: Iterable[Node], ingest_step: Callable[[str], str | None], versions: dict[str, str]) -> list[Step]:
    """Build and test steps. `ingest_step` gives the step that fills a dbt source (by unique id), None if not ours.

    A node is built after the tests of what it selects from have passed, as in `dbt build`.
    """
    listed = list(nodes)
    by_id = {node.unique_id: node for node in listed}
    own: dict[str, list[Node]] = {}
    joined: dict[str, list[Node]] = {}
    for node in listed:
        if node.kind == "test" and node.tested:
            groups = own if set(node.depends_on) <= {node.tested, *_above(node.tested, by_id)} else joined
            groups.setdefault(node.tested, []).append(node)
    steps = [_build(node, by_id, own, ingest_step, versions) for node in listed if node.kind != "test"]
    steps += [_test(test_step_name(tested), group, by_id, ingest_step) for tested, group in own.items()]
    # a test that also reads models beside or below the tested one must not hold up those very models
    steps += [_test(f"{test_step_name(tested)}.joined", group, by_id, ingest_step) for tested, group in joined.items()]
    return steps


def _above(unique_id: str, by_id: dict[str, Node]) -> set[str]:
    found: set[str] = set()
    todo = [unique_id]
    while todo:
        node = by_id.get(todo.pop())
        for parent in node.depends_on if node else ():
            if parent not in found:
                found.add(parent)
                todo.append(parent)
    return found


def test_step_name(tested: str) -> str:
    """The name of the step that runs the tests of a node or source (by dbt's unique id)."""
    kind, _, rest = tested.partition(".")
    return f"test:{rest.partition('.')[2] if kind == 'source' else tested.rpartition('.')[2]}"


def _build(
    node: Node,
    by_id: dict[str, Node],
    tests: dict[str, list[Node]],
    ingest_step: Callable[[str], str | None],
    versions: dict[str, str],
) -> Step:
    needs = _steps_of(node.depends_on, by_id, ingest_step)
    after = tuple(test_step_name(parent) for parent in node.depends_on if parent in tests)
    return Step(
        build_step_name(node),
        "build",
        needs=needs,
        after=after,
        code=node.code,
        config={"unique_id": node.unique_id, "selector": node.selector, "relation": node.relation},
        versions=versions,
        where=node.file,
    )


def _test(name: str, group: list[Node], by_id: dict[str, Node], ingest_step: Callable[[str], str | None]) -> Step:
    parents = dict.fromkeys(parent for node in group for parent in node.depends_on)
    config = {"unique_ids": sorted(n.unique_id for n in group), "selectors": sorted(n.selector for n in group)}
    return Step(
        name,
        "test",
        needs=_steps_of(parents, by_id, ingest_step),
        code=digest(sorted(node.code for node in group)),
        config=config,
        where=group[0].file,
    )


def _steps_of(ids: Iterable[str], by_id: dict[str, Node], ingest_step: Callable[[str], str | None]) -> tuple[str, ...]:
    names: list[str] = []
    for unique_id in ids:
        name = build_step_name(by_id[unique_id]) if unique_id in by_id else ingest_step(unique_id)
        if name and name not in names:
            names.append(name)
    return tuple(names)
