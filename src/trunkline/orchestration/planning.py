"""A session's plan for a selection."""

from __future__ import annotations

from collections.abc import Sequence

from trunkline.graph.plan import Plan, make_plan
from trunkline.graph.select import select
from trunkline.orchestration.compile import KINDS, Compiled
from trunkline.orchestration.outputs import existence
from trunkline.orchestration.session import Session


def plan_for(
    session: Session, selectors: Sequence[str], *, kinds: Sequence[str] = (), force: bool = False
) -> tuple[Compiled, Plan]:
    """The project's graph and the plan for what `selectors` pick, among steps of `kinds` if given."""
    compiled = session.compile(kinds or KINDS)
    chosen = select(compiled.graph, selectors)
    if kinds:
        chosen = {name for name in chosen if compiled.graph.steps[name].kind in kinds}
    exists = existence(session.state.relations, session.project.state)
    return compiled, make_plan(compiled.graph, session.past, selected=chosen, exists=exists, force=force)
