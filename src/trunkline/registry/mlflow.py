"""Runs and model versions in MLflow 3: a local SQLite file or any server.

Only `MlflowClient` with explicit ids is used, never the active run. A version is registered as an MLflow 3 *logged
model* (its metrics, its source run) whose folder is a `python_function` model: our bundle as data and the name of the
module that loads it, so `mlflow.pyfunc.load_model("models:/name/7")` works and no pickle is written or read.

MLflow is imported when a registry is opened (1 to 2 s); making a new SQLite file takes another 1 to 2 s.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from trunkline.errors import EngineError, IntegrityError, ModelReferenceError
from trunkline.project.lock import locked
from trunkline.registry.files import appearing, check_digests, digests
from trunkline.registry.mlflow_calls import ABSENT, PATIENCE_SECONDS, THERE, Calls, let_in, one_login, quiet_process
from trunkline.registry.mlflow_model import save_model
from trunkline.registry.mlflow_runs import KEY_TAG, Runs, digest_of
from trunkline.registry.mlmodel import BUNDLE_PATH, milliseconds
from trunkline.registry.protocol import ModelVersion, RunRecord
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
        registry_uri = _absolute(registry_uri)[0] if registry_uri else uri
        one_login(uri, registry_uri)
        self._uri, self._registry_uri = let_in(uri), let_in(registry_uri)
        self._client = self._call(partial(_open_client, self._uri, self._registry_uri, file))
        self._runs = Runs(self._client, self._call, str(file.parent / "artifacts") if file else None)

    def log_run(self, run: RunRecord) -> str:
        """See `Registry.log_run`. Each run takes four calls, and one for each further 900 points of its curves."""
        return self._runs.log_run(run)

    def log_runs(self, runs: Sequence[RunRecord]) -> list[str]:
        """See `Registry.log_runs`. One transaction where this process writes the database; else four calls a run."""
        return self._runs.log_runs(runs)

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
        files = self._call(lambda: digests(bundle_dir))
        logged = self._logged_model(name, run, sha256)
        if logged.status != "READY":
            self._complete(logged, run, bundle_dir, files, example)
        self._call.unless(THERE, lambda: self._client.create_registered_model(name))
        create = partial(
            self._client.create_model_version,
            name,
            source=f"models:/{logged.model_id}",
            run_id=run_id,
            tags={**tags, "sha256": sha256, FILES_TAG: json.dumps(files, sort_keys=True)},
            model_id=logged.model_id,
        )
        with self._global_uri():
            made = self._call.make(create, lambda: self._find_source(name, f"models:/{logged.model_id}"))
        return _version(made, run.data.metrics)

    def _find_source(self, name: str, source: str) -> MlflowVersion | None:
        """The version that was made of a logged model. `model_id` is not always told by MLflow."""
        found = self._client.search_model_versions(f"name='{name}'", 50, ["version_number DESC"])
        return next((version for version in found if version.source == source), None)

    def _logged_model(self, name: str, run: Run, sha256: str) -> LoggedModel:
        """The logged model of this bundle and run: that of a registration which was cut off half-way, or a new one."""
        run_id, experiment_id = run.info.run_id, run.info.experiment_id
        key = digest_of(f"{name}\n{sha256}\n{run_id}")
        create = partial(self._client.create_logged_model, experiment_id, name, run_id)
        tags = {"sha256": sha256, KEY_TAG: key}

        def find() -> LoggedModel | None:
            found = self._client.search_logged_models([experiment_id], f"tags.`{KEY_TAG}` = '{key}'")
            return next(iter(found), None)

        def make() -> LoggedModel:
            return create(tags=tags, params=run.data.params, model_type="trunkline")

        return self._call(find) or self._call.make(make, find)

    def _complete(
        self,
        logged: LoggedModel,
        run: Run,
        bundle_dir: Path,
        files: Mapping[str, str],
        example: Mapping[str, object] | None,
    ) -> None:
        """A logged model gets its files, its metrics, and its run."""
        from mlflow.entities import LoggedModelOutput, Metric

        run_id, model_id, ended = run.info.run_id, logged.model_id, run.info.end_time or milliseconds(None)

        def upload() -> None:
            with tempfile.TemporaryDirectory(prefix="trunkline-") as scratch:
                model_dir = save_model(Path(scratch), bundle_dir, logged, run_id, example)
                if digests(model_dir / BUNDLE_PATH) != files:
                    raise IntegrityError(f"the bundle {bundle_dir} changed while it was being registered")
                self._client.log_model_artifacts(model_id, str(model_dir))

        self._call(upload)
        # The same numbers as the run's, at the same time and step: the run gets no second point, the model its first.
        points = [
            Metric(key, value, ended, 0, model_id=model_id, run_id=run_id) for key, value in run.data.metrics.items()
        ]
        self._call(lambda: self._client.log_batch(run_id, points))
        self._call(
            lambda: (
                self._made_by(run_id, model_id) or self._client.log_outputs(run_id, [LoggedModelOutput(model_id, 0)])
            )
        )
        self._call(lambda: self._client.finalize_logged_model(model_id, "READY"))

    def _made_by(self, run_id: str, model_id: str) -> bool:
        outputs = self._client.get_run(run_id).outputs
        return any(model.model_id == model_id for model in (outputs.model_outputs if outputs else []))

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
        expected, number = _files(version), str(version.version)
        source = self._call(lambda: self._client.get_model_version_download_uri(version.name, number))
        with appearing(directory) as filling:
            self._download(f"{source}/{BUNDLE_PATH}", filling)
            check_digests(filling, expected, version.uri)
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
        return self._call.unless(ABSENT, lambda: self._client.get_registered_model(name))

    def _get_version(self, name: str, number: int) -> ModelVersion:
        found = self._call.unless(ABSENT, lambda: self._client.get_model_version(name, str(number)))
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
        run = self._call.unless(ABSENT, lambda: self._client.get_run(run_id))
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


def _files(version: ModelVersion) -> dict[str, str]:
    """The sha256 of each file, as it was registered."""
    told = version.tags.get(FILES_TAG)
    if told is None:
        raise ModelReferenceError(
            f"{version.uri} was not registered by Trunkline: it holds no bundle",
            hint="train and register a model with `trunkline train`",
        )
    try:
        files = json.loads(told)
    except ValueError:
        files = None
    if not isinstance(files, dict):
        raise IntegrityError(
            f"the tag {FILES_TAG} of {version.uri} does not say what its files were",
            hint="do not use this version; train and register the model again (trunkline train)",
        )
    return files


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
