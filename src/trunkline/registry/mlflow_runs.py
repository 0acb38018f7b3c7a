"""Runs in MLflow: recorded whole, once by their key, and brought up to date. A home of mlflow."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from trunkline.errors import EngineError, TransientError
from trunkline.registry.mlflow_bulk import Row, insert_runs, known_runs, sql_store
from trunkline.registry.mlflow_calls import ABSENT, THERE, Calls
from trunkline.registry.mlflow_model import inputs_of
from trunkline.registry.mlmodel import batches, milliseconds
from trunkline.registry.protocol import RunRecord

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

__all__ = ["KEY_TAG", "Runs", "digest_of"]

KEY_TAG = "trunkline.key"
"""The tag by which what was made is found again."""


class Runs:
    """The runs of the MLflow that `client` reaches, by `call`. The artifacts of a new experiment go to `artifacts`."""

    def __init__(self, client: MlflowClient, call: Calls, artifacts: str | None) -> None:
        self._client, self._call, self._artifacts = client, call, artifacts
        self._experiments: dict[str, str] = {}

    def log_run(self, run: RunRecord) -> str:
        """See `Registry.log_run`. Each run takes four calls, and one for each further 900 points of its curves."""
        run = _keyed(run)
        alone = replace(run, children=(), artifacts=None)
        if alone != run and self._is_open(run):
            (run_id,) = self.log_runs([_begun(alone)])
            if run.artifacts is not None:
                self._call(partial(self._client.log_artifacts, run_id, str(run.artifacts)))
            self.log_runs(
                [
                    replace(child, experiment=run.experiment, key=f"{run.key}/{place}", parent_run_id=run_id)
                    for place, child in enumerate(run.children)
                ]
            )
        return self.log_runs([alone])[0]

    def log_runs(self, runs: Sequence[RunRecord]) -> list[str]:
        """See `Registry.log_runs`. One transaction where this process writes the database; else four calls a run."""
        keyed = [_keyed(run) for run in runs]
        store = sql_store(self._client)
        whole = self._insert(store, keyed) if store is not None else {}
        return [_run_id(run) if whole.get(_run_id(run)) is run else self._send(run) for run in keyed]

    def _insert(self, store: object, runs: Sequence[RunRecord]) -> dict[str, RunRecord]:
        """Add the runs that are not there; those that are whole then, by their id.

        A run with datasets is only begun: MLflow takes those by a call of their own, and a kill may come before it.
        """
        first = {_run_id(run): run for run in reversed(runs)}  # of those that come twice
        known = self._call(lambda: known_runs(store, list(first)))
        new = {run_id: run for run_id, run in first.items() if run_id not in known}
        rows = [
            Row(run_id, self._experiment(run.experiment), _begun(run) if run.datasets else run, _tags(run))
            for run_id, run in reversed(new.items())
        ]
        self._call(lambda: insert_runs(store, rows))
        return {run_id: run for run_id, run in new.items() if not run.datasets}

    def _send(self, run: RunRecord) -> str:
        """Make a run, or bring it up to date; one that is over stays as it is, unless it goes on."""
        known = self._known(run) or self._create(run)
        if "RUNNING" in (known.info.status, run.status):
            self._update(known, run)
        return str(known.info.run_id)

    def _create(self, run: RunRecord) -> Run:
        experiment_id = self._experiment(run.experiment)
        started = milliseconds(run.started_at)
        return self._call.make(
            lambda: self._client.create_run(experiment_id, started, _tags(run), run.name),
            lambda: self._find_key(experiment_id, run.key),
        )

    def _update(self, known: Run, run: RunRecord) -> None:
        from mlflow.entities import Metric, Param, RunTag

        run_id, ended = known.info.run_id, milliseconds(run.ended_at)
        missing = {name: value for name, value in run.params.items() if name not in known.data.params}
        for params, points in batches(replace(run, params=missing)):
            metrics = [Metric(name, value, ended, step) for name, step, value in points]
            listed = [Param(name, value) for name, value in params]
            self._call(partial(self._client.log_batch, run_id, metrics, listed))
        if run.datasets:
            self._call(lambda: self._client.log_inputs(run_id, inputs_of(run.datasets)))
        tags = [RunTag(name, value) for name, value in run.tags.items() if known.data.tags.get(name) != value]
        if tags:
            self._call(lambda: self._client.log_batch(run_id, tags=tags))
        if run.status == "RUNNING":
            self._call(lambda: self._client.update_run(run_id, status=run.status))
        else:
            self._call(lambda: self._client.set_terminated(run_id, run.status, ended))

    def _is_open(self, run: RunRecord) -> bool:
        known = self._known(run)
        return known is None or "RUNNING" in (known.info.status, run.status)

    def _known(self, run: RunRecord) -> Run | None:
        """The run of that key, if it was recorded before; one that somebody deleted is there again."""
        if sql_store(self._client) is None:
            experiment_id = self._experiment(run.experiment)
            return self._call(lambda: self._find_key(experiment_id, run.key))  # a deleted one is not found: made anew
        known = self._call.unless(ABSENT, lambda: self._client.get_run(_run_id(run)))
        if known is not None and known.info.lifecycle_stage == "deleted":
            self._call(lambda: self._client.restore_run(_run_id(run)))
        return known

    def _find_key(self, experiment_id: str, key: str) -> Run | None:
        found = self._client.search_runs([experiment_id], f"tags.`{KEY_TAG}` = '{key}'", max_results=1)
        return found[0] if found else None

    def _experiment(self, name: str) -> str:
        if name not in self._experiments:
            self._experiments[name] = self._find_experiment(name) or self._make_experiment(name)
        return self._experiments[name]

    def _find_experiment(self, name: str) -> str | None:
        found = self._call(lambda: self._client.get_experiment_by_name(name))
        if found is None:
            return None
        if found.lifecycle_stage != "active":
            raise EngineError(
                f"the MLflow experiment {name!r} is deleted",
                hint=f"mlflow experiments restore --experiment-id {found.experiment_id}",
            )
        return str(found.experiment_id)

    def _make_experiment(self, name: str) -> str:
        make = partial(self._client.create_experiment, name, artifact_location=self._artifacts)
        made = self._call.unless(THERE, make)
        # Another process may have made it between the two calls.
        experiment_id = made if made is not None else self._find_experiment(name)
        if experiment_id is None:
            raise TransientError(f"the MLflow experiment {name!r} came and went while it was looked up")
        return experiment_id


def _keyed(run: RunRecord) -> RunRecord:
    """A key of its own for a run without one: by it the run is found where nobody knows whether it was made."""
    return run if run.key else replace(run, key=uuid.uuid4().hex)


def _run_id(run: RunRecord) -> str:
    """An id that follows from the key: the database itself refuses to take a run twice."""
    return digest_of(f"{run.experiment}\n{run.key}")


def digest_of(text: str) -> str:
    """What is called by `text`, as an id."""
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _begun(run: RunRecord) -> RunRecord:
    return replace(run, metrics={}, curves={}, datasets=(), status="RUNNING")  # a point comes once


def _tags(run: RunRecord) -> dict[str, str]:
    """A run's tags and those that say where it belongs."""
    tags = {**run.tags, "mlflow.source.name": "trunkline", KEY_TAG: run.key}
    if commit := run.tags.get("trunkline.git_commit"):
        tags["mlflow.source.git.commit"] = commit
    if run.parent_run_id is not None:
        tags["mlflow.parentRunId"] = run.parent_run_id
    return tags
