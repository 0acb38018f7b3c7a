"""What `tune` and `compare` share: the dataset they train on, and how what they found is kept."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

from trunkline.graph.step import digest
from trunkline.ledger.ledger import StepEnd
from trunkline.orchestration.local import Listener
from trunkline.orchestration.planning import plan_for, run_selected
from trunkline.orchestration.session import Session
from trunkline.training.steps import step_name
from trunkline.training.subject import Subject, find_subject


def subject_for(session: Session, model: str, listen: Listener) -> Subject:
    """The model's dataset, built first if it is stale. Raises the error of the step that failed."""
    compiled, _ = plan_for(session, [step_name(model)])
    upstream = compiled.graph.ancestors([step_name(model)])
    ended, _ = run_selected(session, sorted(upstream), listen, poll=False)
    for end in ended:
        if end.error:
            raise end.error
    if ended:
        session.refresh()
    dataset = next(need for need in compiled.graph.steps[step_name(model)].needs)
    dataset_id = str(session.past[dataset].output["dataset_id"])
    return find_subject(session.project.root, model, dataset_id)


def keep(session: Session, step: str, output: Mapping[str, Any], started: dt.datetime) -> None:
    """Record a step that no graph has: what it left behind is there for later commands."""
    end = StepEnd(
        step=step,
        kind=step.partition(":")[0],
        status="done",
        fingerprint=digest(output),
        parts={},
        output=output,
        error=None,
        started_at=started,
        finished_at=dt.datetime.now(dt.UTC),
    )
    session.context.ledger.finish_steps(session.context.run_id, [end])
