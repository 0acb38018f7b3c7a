"""A model as a SQL function of the warehouse, remembered in the ledger so that every connection has it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trunkline.context import StepContext
from trunkline.errors import EngineError, ProjectError
from trunkline.ledger.ids import new_id
from trunkline.models.place import bundle_folder
from trunkline.project.load import Project
from trunkline.warehouse.protocol import FunctionHost, FunctionRecall, PythonFunction, turn
from trunkline.warehouse.relation import Relation

if TYPE_CHECKING:
    from trunkline.models.bundle import Bundle
    from trunkline.models.runtime import Scorer
    from trunkline.models.task import Task
    from trunkline.orchestration.session import Session

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True)
class Publication:
    """A model that is a SQL function. `arguments` are (name, portable SQL type), in order, `returns` is such a type."""

    function: Relation
    arguments: tuple[tuple[str, str], ...]
    reference: str
    sha256: str
    returns: str = "DOUBLE"
    task: Task | None = None  # not known of what an earlier command published


def publish(session: Session, model: str | None, name: str | None, schema: str | None) -> Publication:
    """Make the function `name` (default: `predict_` and the model's name) call the model, in place of what it called.

    Readers see the old function or the new one. Raises `ProjectError` for a name that cannot be a function's.
    """
    from trunkline.models.bundle import Bundle
    from trunkline.orchestration.versions import named

    project, ctx = session.project, session.context
    called, resolved = named(project, ctx, model)
    function = Relation(schema or target_schema(project), name or f"predict_{re.sub(r'[^A-Za-z0-9_]', '_', called)}")
    _check(project, function)
    bundle = Bundle.open(resolved.bundle, expect_sha256=resolved.sha256)
    return _create(project, ctx, bundle, resolved.reference, function)


def content_function(session: Session, bundle: Bundle, reference: str) -> Relation:
    """The function of this very bundle, in Trunkline's own schema, made unless it is there: its name is its digest."""
    project, ctx = session.project, session.context
    function = Relation("trunkline", f"predict_{bundle.sha256[:16]}")
    if not any(known.function == function for known in publications(ctx)):
        _create(project, ctx, bundle, reference, function)
    return function


def tried(project: Project, ctx: StepContext, bundle: Bundle, reference: str, rows: Path) -> list[Any]:
    """What the bundle gives for the rows of a Parquet file as a SQL function, in their order. Nothing is published.

    Raises `EngineError` where the warehouse cannot run it.
    """
    from trunkline.models.function import arguments, over_arrow, returns
    from trunkline.models.runtime import Scorer

    function = Relation("trunkline", f"try_{bundle.sha256[:16]}")
    task, takes = bundle.signature.task, arguments(bundle.signature)
    warehouse = ctx.warehouse
    if not isinstance(warehouse, FunctionHost):
        raise EngineError(f"the {warehouse.name} warehouse runs no Python functions")
    known = Publication(function, takes, reference, bundle.sha256, returns(task), task)
    if isinstance(warehouse, FunctionRecall):  # it runs here, and takes no files
        made = PythonFunction(function, takes, known.returns, source="", handler="")
    else:
        made = _packed(project, bundle, known)
    return warehouse.try_function(made, over_arrow(bundle.signature.names, lambda: Scorer(bundle)), rows)


def publications(ctx: StepContext) -> list[Publication]:
    """What each function is now."""
    rows = ctx.ledger.read(
        "publications",
        "qualify row_number() over (partition by schema_name, function_name order by publication_id desc) = 1",
    )
    return [_publication(row) for row in rows]


def _publication(row: Mapping[str, Any]) -> Publication:
    listed = row["arguments"]
    several = listed if isinstance(listed, Mapping) else {"arguments": listed, "returns": "DOUBLE"}
    return Publication(
        Relation(row["schema_name"], row["function_name"]),
        tuple((name, type_) for name, type_ in several["arguments"]),
        row["reference"],
        row["sha256"],
        several["returns"],
    )


def recall(project: Project, ctx: StepContext) -> None:
    """Give this connection the functions that were published on others, where it needs them. No bundle is read before
    its function is called; then its digest is checked, and it is fetched if this checkout lacks it."""
    if not isinstance(ctx.warehouse, FunctionRecall):
        return
    from trunkline.models.function import over_arrow

    for known in publications(ctx):
        names = [name for name, _ in known.arguments]
        function = PythonFunction(known.function, known.arguments, known.returns, source="", handler="")
        ctx.warehouse.recall_function(function, over_arrow(names, _opener(project, ctx, known)))


def _opener(project: Project, ctx: StepContext, known: Publication) -> Callable[[], Scorer]:
    def opened() -> Scorer:
        from trunkline.models.bundle import Bundle
        from trunkline.models.runtime import Scorer
        from trunkline.orchestration.versions import resolve

        place = bundle_folder(project.state, known.sha256)
        if not place.is_dir():
            place = resolve(project, ctx, known.reference).bundle
        return Scorer(Bundle.open(place, expect_sha256=known.sha256))

    return opened


def _create(project: Project, ctx: StepContext, bundle: Bundle, reference: str, function: Relation) -> Publication:
    from trunkline.models.function import arguments, over_arrow, returns

    warehouse = ctx.warehouse
    if not isinstance(warehouse, FunctionHost):
        raise EngineError(f"the {warehouse.name} warehouse runs no Python functions")
    task, takes = bundle.signature.task, arguments(bundle.signature)
    known = Publication(function, takes, reference, bundle.sha256, returns(task), task)
    ctx.ledger.prepare()
    ctx.progress(f"making {function}")
    with turn(warehouse):
        call = over_arrow(bundle.signature.names, _opener(project, ctx, known))
        warehouse.create_function(_packed(project, bundle, known), call)
        with warehouse.transaction():
            ctx.ledger.add("publications", [_row(known, ctx)])
    return known


def _packed(project: Project, bundle: Bundle, known: Publication) -> PythonFunction:
    """With all that a warehouse's own Python needs: the bundle and the code that scores it in one file."""
    from trunkline.models.packed import HANDLER, PACKAGES, handler_source, pack

    archive = pack(bundle, project.state / "functions", known.function.name)
    return PythonFunction(
        relation=known.function,
        arguments=known.arguments,
        returns=known.returns,
        source=handler_source(archive, reference=known.reference, sha256=known.sha256),
        handler=HANDLER,
        packages=PACKAGES,
        files=(archive,),
    )


def _row(known: Publication, ctx: StepContext) -> dict[str, object]:
    takes = [list(argument) for argument in known.arguments]
    return {
        "publication_id": new_id("publication"),
        "schema_name": known.function.schema,
        "function_name": known.function.name,
        "arguments": takes if known.returns == "DOUBLE" else {"arguments": takes, "returns": known.returns},
        "reference": known.reference,
        "sha256": known.sha256,
        "who": ctx.who,
        "published_at": ctx.now(),
    }


def _check(project: Project, function: Relation) -> None:
    for name in (function.schema, function.name):
        if not _PLAIN.fullmatch(name):
            raise ProjectError(
                f"{name!r} cannot name a function or its schema", hint="use letters, digits and '_', no digit first"
            )
    for folder in project.dbt_paths["function-paths"]:
        for file in folder.rglob(f"{function.name}.py"):
            raise ProjectError(
                f"{function.name!r} is already a function of the project", file=file, hint="give another --name"
            )


def target_schema(project: Project) -> str:
    """The schema that the target's profile names."""
    return str(project.target.settings.get("schema") or "main")
