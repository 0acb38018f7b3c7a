"""Batch scoring of a project: which model, which rows, which table."""

from __future__ import annotations

import re
from typing import Any

from trunkline.errors import DatasetError, ProjectError, did_you_mean
from trunkline.models.bundle import Bundle
from trunkline.orchestration.publishing import content_function, target_schema
from trunkline.orchestration.session import Session
from trunkline.orchestration.versions import Resolved, named
from trunkline.project.ml import declarations
from trunkline.serving.batch import BatchRequest, BatchResult, score_here, score_in_warehouse
from trunkline.warehouse.protocol import Tagged
from trunkline.warehouse.relation import Relation


def score(
    session: Session, model: str | None, *, on: str | None, into: str | None, where: str | None, in_warehouse: bool
) -> tuple[BatchRequest, BatchResult]:
    """Score the rows of `on` (default: the dbt model of the version's dataset) into `into`.

    Raises `UserError`s for what does not fit; nothing is written then.
    """
    name, resolved = named(session.project, session.context, model)
    if isinstance(session.context.warehouse, Tagged):
        session.context.warehouse.tag(f"trunkline:score:{name}")
    bundle = Bundle.open(resolved.bundle, expect_sha256=resolved.sha256)
    dataset = _dataset(session, resolved, bundle)
    request = BatchRequest(
        source=_relation(session, on or dataset["relation"]),
        key=dataset["key"],
        output=_output(session, into or f"{re.sub(r'[^A-Za-z0-9_]', '_', name)}_scores"),
        reference=resolved.reference,
        condition=where,
    )
    if request.source == request.output:
        raise ProjectError(f"{request.output} cannot take the scores of its own rows", hint="name another with --into")
    if not in_warehouse:
        return request, score_here(request, bundle, session.context)
    function = content_function(session, bundle, resolved.reference)
    return request, score_in_warehouse(request, bundle, function, session.context)


def _dataset(session: Session, resolved: Resolved, bundle: Bundle) -> dict[str, Any]:
    """Relation and key of the dataset that the version was trained on: as declared now, else as the ledger has it."""
    name = str(bundle.metadata.get("dataset") or "")
    for item in declarations(session.project.root):
        if item.kind == "dataset" and item.name == name:
            return dict(item.data)
    for row in session.context.ledger.read("datasets", "where dataset_id = ?", [resolved.dataset_id]):
        return dict(row["manifest"])
    raise DatasetError(
        f"{resolved.reference} was trained on dataset {name!r}, which the project does not declare and the ledger "
        "does not know: what is the key of its rows?",
        hint="declare the dataset in ml/*.py, or score with the target it was trained on (--target)",
    )


def _relation(session: Session, name: str) -> Relation:
    """`schema.table`, or the table of a dbt model by its name."""
    schema, _, table = name.rpartition(".")
    if schema:
        return Relation(schema, table)
    nodes = session.compile(("ingest", "build", "test")).nodes
    tables = {node.name: node.relation for node in nodes if node.relation is not None and node.kind != "test"}
    if (found := tables.get(name)) is None:
        raise DatasetError(
            f"no dbt model is called {name!r}.{did_you_mean(name, tables)}",
            hint=f"write SCHEMA.TABLE, or one of: {', '.join(sorted(tables)) or 'none'}",
        )
    return Relation(*found)


def _output(session: Session, name: str) -> Relation:
    schema, _, table = name.rpartition(".")
    return Relation(schema or target_schema(session.project), table)
