"""compile(project) → graph: every room's pure steps, joined."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from trunkline.datasets.steps import Upstream, dataset_step
from trunkline.datasets.steps import step_name as dataset_step_name
from trunkline.errors import DatasetError, TrunklineError, did_you_mean
from trunkline.graph.graph import Graph
from trunkline.graph.step import Step
from trunkline.ingest import files
from trunkline.ingest.steps import ingest_step, polled, resubmission_name, tables_of
from trunkline.ingest.steps import step_name as ingest_step_name
from trunkline.project import python
from trunkline.project.files import digests
from trunkline.project.load import Project
from trunkline.project.ml import Declared, declarations
from trunkline.project.sources import SourceUnit, own_code, units
from trunkline.training.placement import of_fingerprint
from trunkline.training.steps import train_step
from trunkline.transform.nodes import Node, load_nodes
from trunkline.transform.steps import build_step_name, dbt_steps

KINDS = ("ingest", "build", "test", "dataset", "train")
_LIBRARIES = ("lightgbm", "xgboost", "scikit-learn", "torch", "tabm", "onnx", "onnxmltools", "skl2onnx")


@dataclass(frozen=True)
class Compiled:
    """A project's graph, with what it was compiled from."""

    graph: Graph
    nodes: tuple[Node, ...]
    declared: tuple[Declared, ...]


def compile_project(
    project: Project,
    *,
    parse: Callable[[], dict[str, Any]],
    best: Mapping[str, Mapping[str, Any]],
    kinds: Collection[str] = KINDS,
    versions: Mapping[str, str],
) -> Compiled:
    """The project's graph, as far as steps of `kinds` need it. Raises `UserError`s with file and line for what can
    be told without running anything.

    `parse` asks dbt (called only when needed); `best` is each model's best known parameters; `versions` the last load
    of each ingest step, by name.
    """
    steps = [_ingest(project, unit, versions) for unit in units(project.sources)]
    if set(kinds) <= {"ingest"}:
        return Compiled(Graph.of(steps), (), ())
    nodes = load_nodes(project, parse)
    steps += _dbt_steps(project, nodes, {source: step.name for step in steps for source in tables_of(step)})
    if set(kinds) <= {"ingest", "build", "test"}:
        return Compiled(Graph.of(steps), nodes, ())
    declared = declarations(project.root)
    upstream = Graph.of(steps)
    steps += [_dataset(project, item, nodes, upstream) for item in declared if item.kind == "dataset"]
    steps += [_train(project, item, best.get(item.name)) for item in declared if item.kind == "model"]
    return Compiled(Graph.of(steps), nodes, declared)


def read_ahead(project: Project) -> None:
    """Read the files of sources whose digests `compile_project` will ask for: it finds them in the cache then.

    What goes wrong here goes wrong there too, and is told there.
    """
    with suppress(TrunklineError, OSError):
        for unit in units(project.sources):
            if not polled(unit):
                digests(project.root, files.find(project.root, unit.tables[0]))


def _ingest(project: Project, unit: SourceUnit, versions: Mapping[str, str]) -> Step:
    step = source_step(project, unit, versions)
    names = [resubmission_name(table.key) for table in unit.tables]
    again = {name: versions[name] for name in names if name in versions}
    return replace(step, config={**step.config, "resubmitted": again}) if again else step


def source_step(project: Project, unit: SourceUnit, versions: Mapping[str, str] = MappingProxyType({})) -> Step:
    """The step that fills a unit; `versions` are the last loads of steps, by name."""
    if not polled(unit):
        return ingest_step(unit, digests(project.root, files.find(project.root, unit.tables[0])))
    file = own_code(project.root, unit)
    code = python.digest(project.root, python.closure(project.root, file)) if file else ""
    return ingest_step(unit, code=code, version=versions.get(ingest_step_name(unit.name), ""))


def _dbt_steps(project: Project, nodes: tuple[Node, ...], ingests: Mapping[str, str]) -> list[Step]:
    def fills(unique_id: str) -> str | None:
        return ingests.get(".".join(unique_id.split(".")[2:]))

    return dbt_steps(nodes, fills, _versions("dbt-core", f"dbt-{project.target.type}"))


def _train(project: Project, declared: Declared, best: Mapping[str, Any] | None) -> Step:
    return train_step(
        declared.data,
        dataset_step_name(declared.data["dataset"]),
        code=declared.code,
        versions=_versions(*_LIBRARIES),
        params=best,
        run={"seed": project.config.training.seed, **of_fingerprint(project.config.training)},
        where=f"{project.root / declared.file}:{declared.line}",
    )


def _dataset(project: Project, declared: Declared, nodes: tuple[Node, ...], graph: Graph) -> Step:
    where = f"{project.root / declared.file}:{declared.line}"
    relation = declared.data["relation"]
    tables = {node.name: node for node in nodes if node.relation is not None}
    if relation not in tables:
        raise DatasetError(
            f"dataset {declared.name!r}: no dbt model is called {relation!r}.{did_you_mean(relation, tables)}",
            file=project.root / declared.file,
            line=declared.line,
            hint=f"dbt models: {', '.join(sorted(tables)) or 'none'}",
        )
    build = build_step_name(tables[relation])
    above = graph.ancestors([build]) | {build}
    ingests = [graph.steps[name] for name in sorted(above) if graph.steps[name].kind == "ingest"]
    sources = tuple(source for step in ingests for source in tables_of(step))
    tests = tuple(step.name for step in graph if step.kind == "test" and set(step.needs) <= above)
    table = tables[relation].relation
    assert table is not None  # only nodes with a relation are in `tables`
    return dataset_step(declared.data, Upstream(build, table, sources), tests, where)


def _versions(*names: str) -> dict[str, str]:
    from importlib import metadata  # with zipfile, email and sockets: for those that need it

    found = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "absent"
    return found
