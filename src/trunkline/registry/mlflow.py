"""Runs and model versions in MLflow 3: a local SQLite file or any server.

Only `MlflowClient` with explicit ids is used, never the active run. A version is registered as an MLflow 3 *logged
model* (its metrics, its source run) whose folder is a `python_function` model: our bundle as data and the name of the
module that loads it, so `mlflow.pyfunc.load_model("models:/name/7")` works and no pickle is written or read.

MLflow is imported when a registry is opened (1 to 2 s); making a new SQLite file takes another 1 to 2 s.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
import tempfile
import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import quote, unquote

from trunkline.errors import EngineError, ModelReferenceError, TransientError
from trunkline.project.lock import locked
from trunkline.registry.files import appearing, check_digests, digests
from trunkline.registry.mlflow_bulk import Row, insert_runs, known_runs, sql_store
from trunkline.registry.mlflow_calls import ABSENT, PATIENCE_SECONDS, THERE, Calls, let_in, quiet_process
from trunkline.registry.mlflow_model import inputs_of, save_model
from trunkline.registry.mlmodel import BUNDLE_PATH, batches, milliseconds
from trunkline.registry.protocol import DatasetInput, ModelVersion, RunRecord
from trunkline.registry.reference import (
    FILES_TAG,
    check_alias,
    check_model_name,
    check_tags,
    parse_reference,
    unknown_alias,
    unknown_model,
    unknown_version,
    version_uri,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel, Run
    from mlflow.entities.model_registry import ModelVersion as MlflowVersion
    from mlflow.entities.model_registry import RegisteredModel

_KEY_TAG = "trunkline.key"

# MLflow's SQL stores look a `models:/m-…` source up through the process-wide tracking URI; see `_global_uri`.
_GLOBAL_URI = threading.RLock()


class MlflowRegistry:
    """`Registry` on MLflow 3.

    `tracking_uri` is a SQLite file, as a path or as `sqlite:///FILE` (made if absent, artifacts in the folder
    `artifacts` beside it), `http(s)://…`, or anything else MLflow takes; `registry_uri` if versions live elsewhere than
    runs. `patience` is for how many seconds a call is tried again while nobody answers.

    Opening one sets MLflow's own settings for this process (no pickle, no telemetry, no log lines, and who logs in, if
    an address says that): MLflow reads them from the environment.
    """

    def __init__(
        self, tracking_uri: str | Path, registry_uri: str | None = None, *, patience: float = PATIENCE_SECONDS
    ) -> None:
        quiet_process()
        uri, file = _absolute(tracking_uri)
        self._call = Calls(uri, patience)
        self._uri = let_in(uri)
        self._registry_uri = let_in(_absolute(registry_uri)[0]) if registry_uri else self._uri
        self._artifacts = str(file.parent / "artifacts") if file else None
        self._client = self._call(partial(_open_client, self._uri, self._registry_uri, file))
        self._experiments: dict[str, str] = {}

    # Runs

    def log_run(self, run: RunRecord) -> str:
        """See `Registry.log_run`. Each run takes three calls, and one for each further 900 points of its curves."""
        if not run.key:
            return self._log_run(run, self._experiment(run.experiment), run.parent_run_id)
        alone = replace(run, children=(), artifacts=None)
        if alone == run:
            return self.log_runs([run])[0]
        known = self._known(run)
        if known is not None and "RUNNING" not in (known.info.status, run.status):
            return str(known.info.run_id)
        (run_id,) = self.log_runs([replace(alone, metrics={}, curves={}, status="RUNNING")])  # a point comes once
        self._log_artifacts(run_id, run)
        self.log_runs(
            [
                replace(child, experiment=run.experiment, key=f"{run.key}/{place}", parent_run_id=run_id)
                for place, child in enumerate(run.children)
            ]
        )
        return self.log_runs([alone])[0]

    def _log_run(self, run: RunRecord, experiment_id: str, parent_run_id: str | None) -> str:
        started, ended = milliseconds(run.started_at), milliseconds(run.ended_at)
        key = run.key or uuid.uuid4().hex  # by which it is found if nobody knows whether it was made
        tags = _tags(replace(run, key=key), parent_run_id)
        made = self._call.make(
            lambda: self._client.create_run(experiment_id, started, tags, run.name),
            lambda: self._find_key(experiment_id, key),
        )
        run_id: str = made.info.run_id
        self._log_points(run_id, run, ended)
        self._log_datasets(run_id, run.datasets)
        self._log_artifacts(run_id, run)
        for child in run.children:
            self._log_run(child, experiment_id, run_id)
        self._end(run_id, run.status, ended)
        return run_id

    def _log_datasets(self, run_id: str, datasets: Sequence[DatasetInput]) -> None:
        if datasets:
            self._call(lambda: self._client.log_inputs(run_id, inputs_of(datasets)))

    def _log_artifacts(self, run_id: str, run: RunRecord) -> None:
        if run.artifacts is not None:
            self._call(partial(self._client.log_artifacts, run_id, str(run.artifacts)))

    def _log_points(self, run_id: str, run: RunRecord, ended: int) -> None:
        from mlflow.entities import Metric, Param

        for params, points in batches(run):
            metrics = [Metric(name, value, ended, step) for name, step, value in points]
            listed = [Param(name, value) for name, value in params]
            self._call(partial(self._client.log_batch, run_id, metrics, listed))

    def _end(self, run_id: str, status: str, ended: int) -> None:
        if status == "RUNNING":
            self._call(lambda: self._client.update_run(run_id, status=status))
        else:
            self._call(lambda: self._client.set_terminated(run_id, status, ended))

    def log_runs(self, runs: Sequence[RunRecord]) -> list[str]:
        """See `Registry.log_runs`. One transaction where this process writes the database; else three calls a run."""
        store = sql_store(self._client)
        if store is None:
            return [self._send(run) for run in runs]
        wanted = [(self._run_id(run), run) for run in runs]
        known = self._call(lambda: known_runs(store, [run_id for run_id, _ in wanted]))
        new = [
            Row(run_id, self._experiment(run.experiment), run, _tags(run, run.parent_run_id))
            for run_id, run in wanted
            if run_id not in known
        ]
        first = {
            row.run_id: row for row in reversed(new)
        }  # one that comes twice at once is made, then brought up to date
        self._call(lambda: insert_runs(store, list(first.values())))
        for run_id, run in wanted:
            if run_id in first and first[run_id].run is run:
                self._log_datasets(run_id, run.datasets)
            else:
                self._update(self._call(partial(self._client.get_run, run_id)), run)
        return [run_id for run_id, _ in wanted]

    def _run_id(self, run: RunRecord) -> str:
        """An id that follows from the key: the database itself refuses to take a run twice."""
        return hashlib.sha256(f"{run.experiment}\n{run.key}".encode()).hexdigest()[:32] if run.key else uuid.uuid4().hex

    def _send(self, run: RunRecord) -> str:
        known = self._known(run)
        if known is None:
            alone = replace(run, children=(), artifacts=None)
            return self._log_run(alone, self._experiment(run.experiment), run.parent_run_id)
        self._update(known, run)
        return str(known.info.run_id)

    def _update(self, known: Run, run: RunRecord) -> None:
        """Bring a run that was recorded before up to date; one that is over stays as it is."""
        from mlflow.entities import RunTag

        if known.info.status != "RUNNING" and run.status != "RUNNING":
            return
        run_id, ended = known.info.run_id, milliseconds(run.ended_at)
        missing = {name: value for name, value in run.params.items() if name not in known.data.params}
        self._log_points(run_id, replace(run, params=missing), ended)
        self._log_datasets(run_id, run.datasets)
        tags = [RunTag(name, value) for name, value in run.tags.items()]
        self._call(lambda: self._client.log_batch(run_id, tags=tags))
        self._end(run_id, run.status, ended)

    def _known(self, run: RunRecord) -> Run | None:
        """The run of that key, if it was recorded before."""
        if not run.key:
            return None
        if sql_store(self._client) is not None:
            return self._call(lambda: self._client.get_run(self._run_id(run)), unless=ABSENT)
        experiment_id = self._experiment(run.experiment)
        return self._call(lambda: self._find_key(experiment_id, run.key))

    def _find_key(self, experiment_id: str, key: str) -> Run | None:
        found = self._client.search_runs([experiment_id], f"tags.`{_KEY_TAG}` = '{key}'", max_results=1)
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
        made = self._call(make, unless=THERE)
        # Another process may have made it between the two calls.
        experiment_id = made if made is not None else self._find_experiment(name)
        if experiment_id is None:
            raise TransientError(f"the MLflow experiment {name!r} came and went while it was looked up")
        return experiment_id

    # Versions

    def register(
        self,
        name: str,
        bundle_dir: Path,
        *,
        run_id: str,
        sha256: str,
        tags: Mapping[str, str],
        example: Mapping[str, object] | None,
    ) -> ModelVersion:
        """See `Registry.register`. The sha256 of each file is kept in the version's tags; `fetch` checks them."""
        check_model_name(name)
        run = self._call(lambda: self._client.get_run(run_id))
        logged = self._log_model(name, run, bundle_dir, sha256, example)
        self._call(lambda: self._client.create_registered_model(name), unless=THERE)
        files = json.dumps(digests(bundle_dir), sort_keys=True)
        create = partial(
            self._client.create_model_version,
            name,
            source=f"models:/{logged.model_id}",
            run_id=run_id,
            tags={**tags, "sha256": sha256, FILES_TAG: files},
            model_id=logged.model_id,
        )
        with self._global_uri():
            made = self._call.make(create, lambda: self._find_source(name, f"models:/{logged.model_id}"))
        return _version(made, run.data.metrics)

    def _find_source(self, name: str, source: str) -> MlflowVersion | None:
        """The version that was made of a logged model. `model_id` is not always told by MLflow."""
        found = self._client.search_model_versions(f"name='{name}'", 50, ["version_number DESC"])
        return next((version for version in found if version.source == source), None)

    def _log_model(
        self, name: str, run: Run, bundle_dir: Path, sha256: str, example: Mapping[str, object] | None
    ) -> LoggedModel:
        from mlflow.entities import LoggedModelOutput, Metric

        run_id, ended, key = run.info.run_id, run.info.end_time or milliseconds(None), uuid.uuid4().hex
        experiment_id, tags = run.info.experiment_id, {"sha256": sha256, _KEY_TAG: key}
        create = partial(self._client.create_logged_model, experiment_id, name, run_id)
        find = partial(self._client.search_logged_models, [experiment_id], f"tags.`{_KEY_TAG}` = '{key}'")
        logged = self._call.make(
            lambda: create(tags=tags, params=run.data.params, model_type="trunkline"),
            lambda: next(iter(find()), None),
        )
        with tempfile.TemporaryDirectory(prefix="trunkline-") as scratch:
            model_dir = save_model(Path(scratch), bundle_dir, logged, run_id, example)
            self._call(lambda: self._client.log_model_artifacts(logged.model_id, str(model_dir)))
        # The same numbers as the run's, at the same time and step: the run gets no second point, the model its first.
        metrics = [
            Metric(key, value, ended, 0, model_id=logged.model_id, run_id=run_id)
            for key, value in run.data.metrics.items()
        ]
        self._call(lambda: self._client.log_batch(run_id, metrics))
        self._call.make(
            lambda: self._client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, 0)]),
            lambda: self._made_by(run_id, logged.model_id),
        )
        self._call(lambda: self._client.finalize_logged_model(logged.model_id, "READY"))
        return logged

    def _made_by(self, run_id: str, model_id: str) -> Literal[True] | None:
        outputs = self._client.get_run(run_id).outputs
        made = outputs.model_outputs if outputs else []
        return True if any(model.model_id == model_id for model in made) else None

    def resolve(self, reference: str) -> ModelVersion:
        """See `Registry.resolve`."""
        parsed = parse_reference(reference)
        number = parsed.version
        if parsed.alias is not None:
            model = self._registered_model(parsed.name)
            if model is None:
                raise self._unknown_model(parsed.name)
            found = model.aliases.get(parsed.alias)
            if found is None:
                raise unknown_alias(parsed.name, parsed.alias, model.aliases, self._numbers(parsed.name))
            number = int(found)
        return self._get_version(parsed.name, number or 0)

    def versions(self, name: str) -> list[ModelVersion]:
        """See `Registry.versions`. One call for the versions of up to 200, and one for each run that made one."""
        check_model_name(name)
        found = self._search(name)
        metrics = {run_id: self._metrics(run_id) for run_id in {version.run_id for version in found}}
        return [_version(version, metrics[version.run_id]) for version in found]

    def fetch(self, version: ModelVersion, directory: Path) -> Path:
        """See `Registry.fetch`. Compares the sha256 of every file with the one in the version's tags."""
        expected = version.tags.get(FILES_TAG)
        if expected is None:
            raise ModelReferenceError(
                f"{version.uri} was not registered by Trunkline: it holds no bundle",
                hint="train and register a model with `trunkline train`",
            )
        number = str(version.version)
        source = self._call(lambda: self._client.get_model_version_download_uri(version.name, number))
        with appearing(directory) as filling:
            self._download(f"{source}/{BUNDLE_PATH}", filling)
            check_digests(filling, json.loads(expected), version.uri)
        return directory

    def artifacts(self, run_id: str, directory: Path) -> Path:
        """See `Registry.artifacts`."""
        run = self._call(lambda: self._client.get_run(run_id))
        with appearing(directory) as filling:
            self._download(run.info.artifact_uri, filling)
        return directory

    def _download(self, uri: str, filling: Path) -> None:
        """Fill a folder of `appearing`, beside which nothing stays."""
        from mlflow.artifacts import download_artifacts

        place = filling.with_name("download")
        place.mkdir()
        download = partial(download_artifacts, artifact_uri=uri, dst_path=str(place), tracking_uri=self._uri)
        os.replace(self._call(download), filling)  # that place, or a folder in it: as MLflow has it

    def tag(self, version: ModelVersion, tags: Mapping[str, str]) -> None:
        """See `Registry.tag`. One call for each."""
        check_tags(tags)
        self._get_version(version.name, version.version)
        number = str(version.version)
        for name, value in tags.items():
            self._call(partial(self._client.set_model_version_tag, version.name, number, name, value))

    def set_alias(self, name: str, alias: str, version: int) -> None:
        """See `Registry.set_alias`."""
        check_model_name(name)
        check_alias(alias)
        self._get_version(name, version)
        self._call(lambda: self._client.set_registered_model_alias(name, alias, str(version)))

    def alias(self, name: str, alias: str) -> ModelVersion | None:
        """See `Registry.alias`."""
        check_model_name(name)
        check_alias(alias)
        model = self._registered_model(name)
        number = model.aliases.get(alias) if model else None
        return self._get_version(name, int(number)) if number else None

    # Calls

    def _registered_model(self, name: str) -> RegisteredModel | None:
        return self._call(lambda: self._client.get_registered_model(name), unless=ABSENT)

    def _get_version(self, name: str, number: int) -> ModelVersion:
        found = self._call(lambda: self._client.get_model_version(name, str(number)), unless=ABSENT)
        if found is not None:
            return _version(found, self._metrics(found.run_id))
        if self._registered_model(name) is None:
            raise self._unknown_model(name)
        raise unknown_version(name, number, self._numbers(name))

    def _unknown_model(self, name: str) -> ModelReferenceError:
        known = self._call(lambda: self._client.search_registered_models(max_results=1000))
        return unknown_model(name, [model.name for model in known])

    def _search(self, name: str) -> list[MlflowVersion]:
        found: list[MlflowVersion] = []
        token: str | None = None
        while True:
            search = partial(self._client.search_model_versions, f"name='{name}'", 200, page_token=token)
            page = self._call(search)
            found.extend(page)
            token = page.token
            if not token:
                return sorted(found, key=lambda version: int(version.version))

    def _numbers(self, name: str) -> list[int]:
        return [int(version.version) for version in self._search(name)]

    def _metrics(self, run_id: str | None) -> Mapping[str, float]:
        """The run's metrics; none for a version without a run or whose run was removed for good."""
        if not run_id:
            return {}
        run = self._call(lambda: self._client.get_run(run_id), unless=ABSENT)
        return run.data.metrics if run is not None else {}

    @contextmanager
    def _global_uri(self) -> Iterator[None]:
        """MLflow's process-wide tracking URI set to ours and back, for a store that works in this process."""
        import mlflow

        if self._registry_uri.startswith(("http://", "https://")):
            yield
            return
        with _GLOBAL_URI:
            inherited = os.environ.get("MLFLOW_TRACKING_URI")
            previous = mlflow.get_tracking_uri() if mlflow.is_tracking_uri_set() else None
            mlflow.set_tracking_uri(self._uri)
            try:
                yield
            finally:
                mlflow.set_tracking_uri(previous)  # type: ignore[arg-type]  # None means unset
                if inherited is not None:
                    os.environ["MLFLOW_TRACKING_URI"] = inherited


def _tags(run: RunRecord, parent_run_id: str | None) -> dict[str, str]:
    """A run's tags and those that say where it belongs."""
    tags = {**run.tags, "mlflow.source.name": "trunkline"}
    if commit := run.tags.get("trunkline.git_commit"):
        tags["mlflow.source.git.commit"] = commit
    if parent_run_id is not None:
        tags["mlflow.parentRunId"] = parent_run_id
    if run.key:
        tags[_KEY_TAG] = run.key
    return tags


def _absolute(uri: str | Path) -> tuple[str, Path | None]:
    """`uri` with an absolute path, and that path, if it is a SQLite file; else `uri` and None."""
    if isinstance(uri, Path):
        uri = f"sqlite:///{quote(str(uri.absolute()))}"
    if not uri.startswith("sqlite:///"):
        return uri, None
    path, mark, options = uri.removeprefix("sqlite:///").partition("?")
    file = Path(unquote(path)).absolute()
    if found := set("%?#") & set(str(file)):
        # It would quote or unquote them once too often and write artifacts to another folder.
        raise EngineError(f"MLflow cannot work in {file}: there is a {min(found)!r} in the path")
    return f"sqlite:///{file}{mark}{options}", file


def _open_client(uri: str, registry_uri: str, file: Path | None) -> MlflowClient:
    from mlflow import MlflowClient

    if file is not None:
        _create_store(file)
        _check_store(file)
    return MlflowClient(uri, registry_uri)


def _create_store(file: Path) -> None:
    """A new SQLite store: made under another name by one process at a time, and renamed when it is whole.

    MLflow runs its 50 migrations one by one; a process killed among them leaves a file that no later one can open.
    """
    from mlflow import MlflowClient

    if file.exists():
        return
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise EngineError(f"cannot make the folder of the MLflow store {file}: {exc}") from exc
    with locked(file.with_name(f"{file.name}.lock")):
        if file.exists():
            return
        for left in file.parent.glob(f".{file.name}.*"):  # by a process that was killed here
            shutil.rmtree(left, ignore_errors=True)
        with tempfile.TemporaryDirectory(prefix=f".{file.name}.", dir=file.parent) as scratch:
            made = Path(scratch) / file.name
            MlflowClient(f"sqlite:///{made}")
            os.replace(made, file)


def _check_store(file: Path) -> None:
    """Raise `EngineError` unless SQLite can read `file`: MLflow would try for two minutes before it says so."""
    try:
        with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as connection:
            connection.execute("select count(*) from sqlite_master").fetchall()
    except sqlite3.Error as exc:
        raise EngineError(
            f"the MLflow store {file} cannot be read: {exc}", hint="restore it from a backup, or move it away"
        ) from exc


def _version(made: MlflowVersion, metrics: Mapping[str, float]) -> ModelVersion:
    number = int(made.version)
    return ModelVersion(
        name=made.name,
        version=number,
        uri=version_uri(made.name, number),
        sha256=made.tags.get("sha256", ""),
        run_id=made.run_id or "",
        tags=dict(made.tags),
        metrics=dict(metrics),
        created_at=datetime.fromtimestamp(made.creation_timestamp / 1000, UTC),
    )
