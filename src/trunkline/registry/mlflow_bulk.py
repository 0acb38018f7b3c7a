"""Many finished runs into MLflow's own SQL store in one transaction. A home of mlflow.

MLflow's client takes three calls and six commits a run, 20 ms of work and as many waits for the disk; a search ends
trials faster than that. The rows here are those that MLflow's `create_run`, `log_batch` and `update_run` write
(mlflow 3.17, `store/tracking/sqlalchemy_store.py`), checked by its own validators.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trunkline.registry.mlmodel import batches, milliseconds
from trunkline.registry.protocol import RunRecord

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.store.tracking.dbmodels.models import SqlRun

__all__ = ["Row", "insert_runs", "known_runs", "sql_store"]


@dataclass(frozen=True)
class Row:
    """A run that is not there yet, with its id, the experiment's, and all its tags."""

    run_id: str
    experiment_id: str
    run: RunRecord
    tags: dict[str, str]


def sql_store(client: MlflowClient) -> Any | None:
    """The store, if it is a database that this process writes to; None where a server stands between."""
    if "mlflow.store.tracking.sqlalchemy_store" not in sys.modules:  # a second's work, for nothing
        return None
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    store = client._tracking_client.store
    return store if isinstance(store, SqlAlchemyStore) else None


def known_runs(store: Any, run_ids: Collection[str]) -> set[str]:
    """Those of `run_ids` that are there."""
    from mlflow.store.tracking.dbmodels.models import SqlRun

    with store.ManagedSessionMaker() as session:
        found = session.query(SqlRun.run_uuid).filter(SqlRun.run_uuid.in_(run_ids)).all()
    return {run_id for (run_id,) in found}


def insert_runs(store: Any, rows: Sequence[Row]) -> None:
    """Add the runs with all they have, or none of them. Raises MlflowException."""
    locations = {row.experiment_id: store.get_experiment(row.experiment_id).artifact_location for row in rows}
    made = [_entities(store, row, locations[row.experiment_id]) for row in rows]
    with store.ManagedSessionMaker(read_only=False) as session:
        session.add_all(made)


def _entities(store: Any, row: Row, artifacts: str) -> SqlRun:
    from mlflow.entities import LifecycleStage
    from mlflow.store.tracking.dbmodels.models import SqlParam, SqlRun, SqlTag
    from mlflow.utils.uri import append_to_uri_path
    from mlflow.utils.validation import _validate_param, _validate_tag

    run, over = row.run, row.run.status != "RUNNING"
    made = SqlRun(
        run_uuid=row.run_id,
        name=run.name,
        experiment_id=int(row.experiment_id),
        artifact_uri=append_to_uri_path(artifacts, row.run_id, "artifacts"),
        source_type="UNKNOWN",
        source_name="",
        source_version="",
        entry_point_name="",
        user_id=row.tags.get("mlflow.user", "unknown"),
        status=run.status,
        start_time=milliseconds(run.started_at),
        end_time=milliseconds(run.ended_at) if over else None,
        lifecycle_stage=LifecycleStage.ACTIVE,
    )
    params = {name: value for given, _ in batches(run) for name, value in given}
    for name, value in params.items():
        _validate_param(name, value)
    tags = {**row.tags, "mlflow.runName": run.name}
    for name, value in tags.items():
        _validate_tag(name, value)
    made.params = [SqlParam(key=name, value=value) for name, value in params.items()]
    made.tags = [SqlTag(key=name, value=value) for name, value in tags.items()]
    _measure(store, made, run, milliseconds(run.ended_at))
    return made


def _measure(store: Any, made: SqlRun, run: RunRecord, ended: int) -> None:
    from mlflow.store.tracking.dbmodels.models import SqlLatestMetric, SqlMetric
    from mlflow.utils.validation import _validate_metric

    def columns(name: str, step: int, value: float) -> dict[str, Any]:
        is_nan, kept = store.sanitize_metric_value(value)
        return {"key": name, "value": kept, "timestamp": ended, "step": step, "is_nan": is_nan}

    points = list(dict.fromkeys(point for _, given in batches(run) for point in given))
    for name, step, value in points:
        _validate_metric(name, value, ended, step)
    made.metrics = [SqlMetric(**columns(*point)) for point in points]
    made.latest_metrics = [SqlLatestMetric(**columns(*point)) for point in _latest(points)]


def _latest(points: Iterable[tuple[str, int, float]]) -> Iterable[tuple[str, int, float]]:
    """The point of the highest step, by name."""
    latest: dict[str, tuple[str, int, float]] = {}
    for point in points:
        if point[0] not in latest or point[1:] >= latest[point[0]][1:]:
            latest[point[0]] = point
    return latest.values()
