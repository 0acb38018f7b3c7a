"""`tune` and `compare`: many trainings on one dataset."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from trunkline.graph.step import digest
from trunkline.ledger.ledger import StepEnd
from trunkline.orchestration.local import Ended, Listener, execute
from trunkline.orchestration.planning import plan_for, run_selected
from trunkline.orchestration.session import Session
from trunkline.registry.protocol import RunRecord
from trunkline.training.apart import Apart, Study
from trunkline.training.records import Row, SearchResult, TrialRecord
from trunkline.training.steps import step_name
from trunkline.training.subject import Subject, find_subject


@dataclass(frozen=True)
class Tuned:
    """A finished search and, after it, the training with its best parameters."""

    result: SearchResult
    trained: list[Ended]


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


def tune(
    session: Session,
    model: str,
    *,
    trials: int,
    timeout: float | None,
    on_trial: Callable[[TrialRecord], None],
    listen: Listener,
) -> Tuned:
    """Search until the study has `trials` finished trials, keep the best parameters, train with them."""
    started = dt.datetime.now(dt.UTC)
    subject = subject_for(session, model, listen)
    study = f"{model}-{subject.manifest.dataset_id[:8]}-{subject.declared.code[:8]}"
    storage = session.context.state / "studies" / f"{model}.journal"
    result = _apart(session, subject).search(Study(study, storage, trials, timeout), on_trial)
    # the best parameters are the output of a step `tune:MODEL`: that is where training finds them
    best = {"params": dict(result.best_params), "value": result.best_value}
    _keep(session, f"tune:{model}", {**best, "trials": len(result.trials), "study": study}, started)
    _log_trials(session, subject, study, result)
    session.refresh()
    compiled, plan = plan_for(session, [step_name(model)])
    return Tuned(result, execute(session, compiled.graph, plan, listen))


def ladder(
    session: Session, model: str, *, vary: str | None, on_row: Callable[[Row], None], listen: Listener
) -> list[Row]:
    """Feature groups added up in declared order, times every choice of the parameter `vary`, on validation."""
    started = dt.datetime.now(dt.UTC)
    subject = subject_for(session, model, listen)
    last = session.past.get(f"tune:{model}")
    known = last.output["params"] if last else subject.declared.data["first"]
    rows = _apart(session, subject).compare(known, vary, on_row)
    _keep(session, f"compare:{model}", {"rows": [asdict(row) for row in rows]}, started)
    record = RunRecord(
        experiment=f"{session.context.experiment}/compare",
        name=f"{model} compare",
        tags={"trunkline.dataset_id": subject.manifest.dataset_id},
        children=tuple(_row_record(session, row) for row in rows),
    )
    session.context.registry().log_run(record)
    return rows


def _apart(session: Session, subject: Subject) -> Apart:
    return Apart(subject, session.context.seed, session.context.threads)


def _keep(session: Session, step: str, output: Mapping[str, Any], started: dt.datetime) -> None:
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


def _log_trials(session: Session, subject: Subject, study: str, result: SearchResult) -> None:
    children = tuple(_trial_record(session, subject, trial) for trial in result.trials)
    record = RunRecord(
        experiment=f"{session.context.experiment}/tune",
        name=study,
        params={f"best_{name}": value for name, value in result.best_params.items()},
        metrics={f"best_{subject.metric}": result.best_value},
        tags={"trunkline.dataset_id": subject.manifest.dataset_id},
        children=children,
    )
    session.context.registry().log_run(record)


def _trial_record(session: Session, subject: Subject, trial: TrialRecord) -> RunRecord:
    return RunRecord(
        experiment=f"{session.context.experiment}/tune",
        name=f"trial {trial.number} {trial.estimator or ''}".strip(),
        params=dict(trial.params),
        metrics={subject.metric: trial.value} if trial.value is not None else {},
        curves={f"{subject.metric}_by_step": trial.history},
        tags={"state": trial.state, **({"error": trial.error} if trial.error else {})},
        status="FAILED" if trial.state == "failed" else "FINISHED",
    )


def _row_record(session: Session, row: Row) -> RunRecord:
    return RunRecord(
        experiment=f"{session.context.experiment}/compare",
        name=f"{' + '.join(row.groups)} {row.variation}",
        params={"groups": ", ".join(row.groups), "features": row.features, "estimator": row.estimator},
        metrics={row.metric: row.value, f"{row.metric}_low": row.low, f"{row.metric}_high": row.high},
    )


def leaderboard(rows: Sequence[Row]) -> list[Row]:
    """The rows, best first by their metric's own nature."""
    from trunkline.training.metrics import metric_named

    up = metric_named(rows[0].metric).higher_is_better if rows else True
    return sorted(rows, key=lambda row: row.value, reverse=up)
