"""`tune` and `compare`: many trainings on one dataset."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from trunkline.errors import TrainingError, did_you_mean
from trunkline.graph.step import digest
from trunkline.ledger.ledger import StepEnd
from trunkline.orchestration.local import Ended, Listener, execute
from trunkline.orchestration.planning import plan_for, run_selected
from trunkline.orchestration.session import Session
from trunkline.registry.protocol import RunRecord
from trunkline.training.boundary import build_with
from trunkline.training.compare import Row, compare
from trunkline.training.inputs import Inputs, load_inputs
from trunkline.training.optuna import SearchResult, SearchSpec, TrialRecord, search
from trunkline.training.steps import step_name
from trunkline.training.trial import DefaultTrial


@dataclass(frozen=True)
class Tuned:
    """A finished search and, after it, the training with its best parameters."""

    result: SearchResult
    trained: list[Ended]


def inputs_for(session: Session, model: str, listen: Listener) -> Inputs:
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
    return load_inputs(session.project.root, model, dataset_id)


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
    inputs = inputs_for(session, model, listen)
    study = f"{model}-{inputs.manifest.dataset_id[:8]}-{inputs.declared.code[:8]}"
    spec = SearchSpec(
        build=inputs.model.build,
        study_name=study,
        storage=session.context.state / "studies" / f"{model}.journal",
        trials=trials,
        first=inputs.model.first,
        seed=session.context.seed,
        threads=session.context.threads,
        timeout=timeout,
    )
    result = search(spec, inputs.data, on_trial=on_trial)
    # the best parameters are the output of a step `tune:MODEL`: that is where training finds them
    best = {"params": dict(result.best_params), "value": result.best_value}
    _keep(session, f"tune:{model}", {**best, "trials": len(result.trials), "study": study}, started)
    _log_trials(session, inputs, study, result)
    session.refresh()
    compiled, plan = plan_for(session, [step_name(model)])
    return Tuned(result, execute(session, compiled.graph, plan, listen))


def ladder(
    session: Session, model: str, *, vary: str | None, on_row: Callable[[Row], None], listen: Listener
) -> list[Row]:
    """Feature groups added up in declared order, times every choice of the parameter `vary`, on validation."""
    started = dt.datetime.now(dt.UTC)
    inputs = inputs_for(session, model, listen)
    variations = _variations(session, inputs, vary)
    rows = compare(
        inputs.model.build,
        inputs.data,
        inputs.manifest.groups,
        variations,
        seed=session.context.seed,
        threads=session.context.threads,
        on_row=on_row,
    )
    _keep(session, f"compare:{model}", {"rows": [asdict(row) for row in rows]}, started)
    record = RunRecord(
        experiment=f"{session.context.experiment}/compare",
        name=f"{model} compare",
        tags={"trunkline.dataset_id": inputs.manifest.dataset_id},
        children=tuple(_row_record(session, row) for row in rows),
    )
    session.context.registry().log_run(record)
    return rows


def _variations(session: Session, inputs: Inputs, vary: str | None) -> dict[str, Mapping[str, Any]]:
    last = session.past.get(f"tune:{inputs.model.name}")
    known = dict(last.output["params"]) if last else dict(inputs.model.first)
    if vary is None:
        return {build_with(inputs.model.build, known)[0].name: known}
    trial = DefaultTrial(known)
    inputs.model.build(trial)
    parameter = trial.space.get(vary)
    if parameter is None or parameter.choices is None:
        names = [name for name, space in trial.space.items() if space.choices is not None]
        raise TrainingError(
            f"model {inputs.model.name!r} has no categorical parameter {vary!r}.{did_you_mean(vary, names)}",
            file=inputs.model.file,
            line=inputs.model.line,
            hint=f"categorical parameters: {', '.join(names) or 'none'}",
        )
    return {str(c): known if trial.params[vary] == c else {vary: c} for c in parameter.choices}


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


def _log_trials(session: Session, inputs: Inputs, study: str, result: SearchResult) -> None:
    children = tuple(_trial_record(session, inputs, trial) for trial in result.trials)
    record = RunRecord(
        experiment=f"{session.context.experiment}/tune",
        name=study,
        params={f"best_{name}": value for name, value in result.best_params.items()},
        metrics={f"best_{inputs.data.metric}": result.best_value},
        tags={"trunkline.dataset_id": inputs.manifest.dataset_id},
        children=children,
    )
    session.context.registry().log_run(record)


def _trial_record(session: Session, inputs: Inputs, trial: TrialRecord) -> RunRecord:
    return RunRecord(
        experiment=f"{session.context.experiment}/tune",
        name=f"trial {trial.number} {trial.estimator or ''}".strip(),
        params=dict(trial.params),
        metrics={inputs.data.metric: trial.value} if trial.value is not None else {},
        curves={f"{inputs.data.metric}_by_step": trial.history},
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
