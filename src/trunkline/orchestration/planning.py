"""A session's plan for a selection."""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import TYPE_CHECKING

from trunkline.graph.plan import Plan, make_plan
from trunkline.graph.select import select
from trunkline.orchestration.compile import KINDS, Compiled
from trunkline.orchestration.outputs import existence
from trunkline.orchestration.session import Session

if TYPE_CHECKING:
    from trunkline.orchestration.local import Ended, Listener


def plan_for(
    session: Session,
    selectors: Sequence[str],
    *,
    kinds: Sequence[str] = (),
    force: bool = False,
    asked: Set[str] = frozenset(),
) -> tuple[Compiled, Plan]:
    """The project's graph and the plan for what `selectors` pick, among steps of `kinds` if given.

    `asked` are polled steps that have run already.
    """
    compiled = session.compile(kinds or KINDS)
    chosen = select(compiled.graph, selectors)
    if kinds:
        chosen = {name for name in chosen if compiled.graph.steps[name].kind in kinds}
    exists = existence(session.state.relations, session.project.state)
    plan = make_plan(compiled.graph, session.past, selected=chosen, exists=exists, force=force, asked=asked)
    return compiled, plan


def run_selected(
    session: Session,
    selectors: Sequence[str],
    listen: Listener,
    *,
    kinds: Sequence[str] = (),
    force: bool = False,
    refresh: bool = False,
    poll: bool = True,
) -> tuple[list[Ended], Plan]:
    """Run what is stale among the selected: first the sources that are asked each time, then what the answers leave.

    `refresh` loads the selected sources from the beginning; without `poll` sources that have been read once are not
    asked. What ended, and the plan of the second part.
    """
    known = frozenset() if poll else frozenset(session.past)
    compiled, plan = plan_for(session, selectors, kinds=kinds, force=force, asked=known)
    ended: list[Ended] = []
    polls = plan.polls
    if polls.entries:
        from trunkline.orchestration.local import execute

        ended = execute(session, compiled.graph, polls, listen, refresh=refresh)
        session.refresh()
        asked = known | {entry.step.name for entry in polls.entries}
        compiled, plan = plan_for(session, selectors, kinds=kinds, force=force, asked=asked)
    if plan.stale:
        from trunkline.orchestration.local import execute

        failed = frozenset(end.name for end in ended if end.error)
        ended += execute(session, compiled.graph, plan, listen, refresh=refresh, failed=failed)
    if not kinds or "train" in kinds:
        session.catch_up()
    return ended, plan
