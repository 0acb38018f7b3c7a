"""What the conformance suite cannot see: MLflow's side of it."""

from __future__ import annotations

import builtins
import json
import os
import socket
import subprocess
import sys
import textwrap
import threading
import traceback
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pandas as pd
import pytest
import yaml

from tests.unit.registry.tiny import TABLE, write_tiny
from trunkline.errors import EngineError, IntegrityError, ModelReferenceError, ProjectError, TransientError
from trunkline.models.runtime import Scorer
from trunkline.registry.mlflow import MlflowRegistry
from trunkline.registry.mlflow_calls import Calls, one_login
from trunkline.registry.mlflow_model import save_model
from trunkline.registry.protocol import DatasetInput, InvalidRecord, ModelVersion
from trunkline.testing.registry_suite import EXAMPLE, FILES, a_run, write_bundle

# MLflow 3.17 uses a loader option that SQLAlchemy 2.1 deprecates; Python shows such warnings in tests only.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ml flow é+")


def uri_of(folder: Path) -> str:
    return f"sqlite:///{quote(str(folder))}/mlflow.db"


@pytest.fixture(scope="module")
def store(folder: Path) -> MlflowRegistry:
    return MlflowRegistry(folder / "mlflow.db")


def register(store: MlflowRegistry, name: str, bundle: Path, sha256: str = "aa") -> ModelVersion:
    run_id = store.log_run(a_run())
    return store.register(name, bundle, run_id=run_id, sha256=sha256, tags={"dataset": "d-1"}, example=EXAMPLE)


def test_a_run_is_what_mlflow_shows(store: MlflowRegistry, folder: Path, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    (tmp_path / "report.md").write_text("# yes", "utf-8")
    many = {f"p{i}": i for i in range(130)}
    trials = (a_run(name="trial 0", params={"width": 64}), a_run(name="trial 1", status="FAILED"))
    curves = {"epoch_loss": [(step, 1 / (step + 1)) for step in range(1200)]}
    run_id = store.log_run(a_run(params=many, curves=curves, children=trials, artifacts=tmp_path))

    client = MlflowClient(uri_of(folder))
    run = client.get_run(run_id)
    assert run.info.run_name == "mlp"
    assert (run.info.status, run.info.end_time - run.info.start_time) == ("FINISHED", 60_000)
    assert run.data.params == {name: str(value) for name, value in many.items()}
    assert run.data.metrics == {"roc_auc": 0.7821, "log_loss": 0.35, "epoch_loss": 1 / 1200}
    assert run.data.tags.items() >= {"dataset": "d-1", "git_commit": "abc"}.items()
    history = sorted((point.step, point.value) for point in client.get_metric_history(run_id, "epoch_loss"))
    assert history == curves["epoch_loss"]
    assert [file.path for file in client.list_artifacts(run_id)] == ["report.md"]
    children = client.search_runs([run.info.experiment_id], f"tags.`mlflow.parentRunId` = '{run_id}'")
    assert {(child.info.run_name, child.info.status) for child in children} == {
        ("trial 0", "FINISHED"),
        ("trial 1", "FAILED"),
    }
    assert not (Path.cwd() / "mlruns").exists()


def test_a_run_with_a_key_and_artifacts_is_recorded_once(store: MlflowRegistry, folder: Path, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    (tmp_path / "report.md").write_text("# yes", "utf-8")
    read = tuple(DatasetInput(f"d {part}", part * 30, "/data/d.parquet", part) for part in ("training", "validation"))
    look = a_run(key="look-1", artifacts=tmp_path, children=(a_run(name="slice"),), datasets=read, ended_at=None)
    run_id = store.log_run(look)
    assert store.log_run(look) == run_id
    client = MlflowClient(uri_of(folder))
    run = client.get_run(run_id)
    assert (run.info.status, run.data.params["width"], run.data.tags["git_commit"]) == ("FINISHED", "256", "abc")
    assert len(client.get_metric_history(run_id, "roc_auc")) == 1
    assert len(client.get_metric_history(run_id, "epoch_loss")) == 20
    assert [file.path for file in client.list_artifacts(run_id)] == ["report.md"]
    assert sorted(one.tags[0].value for one in run.inputs.dataset_inputs) == ["training", "validation"]
    below = client.search_runs([run.info.experiment_id], f"tags.`mlflow.parentRunId` = '{run_id}'")
    assert [(child.info.run_name, child.info.status) for child in below] == [("slice", "FINISHED")]


@pytest.mark.parametrize("behind_a_server", [False, True], ids=["database", "server"])
def test_runs_recorded_at_once_are_what_mlflow_shows(
    store: MlflowRegistry, folder: Path, monkeypatch: pytest.MonkeyPatch, behind_a_server: bool
) -> None:
    from mlflow import MlflowClient

    if behind_a_server:  # the way through MLflow's own calls, to the same store
        monkeypatch.setattr("trunkline.registry.mlflow_runs.sql_store", lambda client: None)
    key = f"study-{behind_a_server}"
    (study,) = store.log_runs([a_run(name="study", key=key, status="RUNNING", metrics={}, curves={})])
    client = MlflowClient(uri_of(folder))
    assert (client.get_run(study).info.status, client.get_run(study).info.end_time) == ("RUNNING", None)
    many = {f"p{i}": i for i in range(130)}
    curve = [(step, 1 / (step + 1)) for step in range(1200)]
    trials = [
        a_run(
            name=f"trial {i}", key=f"{key}/{i}", parent_run_id=study, params=many, curves={"loss": curve}, status=status
        )
        for i, status in enumerate(["FINISHED", "FAILED"])
    ]
    ids = store.log_runs(trials)
    assert store.log_runs([a_run(key=f"{key}/0", metrics={"roc_auc": 0.1})]) == ids[:1]  # it is over
    found = client.search_runs([client.get_run(study).info.experiment_id], f"tags.`mlflow.parentRunId` = '{study}'")
    assert {(run.info.run_name, run.info.status) for run in found} == {("trial 0", "FINISHED"), ("trial 1", "FAILED")}
    run = client.get_run(ids[0])
    assert run.info.end_time - run.info.start_time == 60_000
    assert run.info.artifact_uri.endswith(f"artifacts/{ids[0]}/artifacts")
    assert run.data.params == {name: str(value) for name, value in many.items()}
    assert run.data.metrics == {"roc_auc": 0.7821, "log_loss": 0.35, "loss": 1 / 1200}
    assert run.data.tags.items() >= {"dataset": "d-1", "trunkline.key": f"{key}/0", "mlflow.runName": "trial 0"}.items()
    assert sorted((point.step, point.value) for point in client.get_metric_history(ids[0], "loss")) == curve
    end = a_run(name="study", key=key, metrics={"best": 0.8}, curves={}, params={"new": 1}, tags={"best_trial": "0"})
    assert store.log_runs([end]) == [study]
    run = client.get_run(study)
    assert (run.info.status, run.data.metrics["best"], run.data.tags["best_trial"]) == ("FINISHED", 0.8, "0")
    assert run.data.params["width"] == "256"
    store.log_runs([a_run(key=key, status="RUNNING", metrics={}, curves={})])  # the search goes on
    assert client.get_run(study).info.status == "RUNNING"


def test_a_batch_with_one_bad_run_records_none(store: MlflowRegistry) -> None:
    good, bad = a_run(key="batch/0"), a_run(key="batch/1", params={"x" * 300: 1})
    with pytest.raises(EngineError):
        store.log_runs([good, bad])
    from mlflow import MlflowClient

    client: MlflowClient = store._client
    experiment = client.get_experiment_by_name("suite")
    assert experiment is not None
    assert client.search_runs([experiment.experiment_id], "tags.`trunkline.key` LIKE 'batch/%'") == []


def test_a_version_is_a_logged_model_of_its_run(store: MlflowRegistry, folder: Path, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    version = register(store, "linked", write_bundle(tmp_path / "bundle", FILES))
    client = MlflowClient(uri_of(folder))
    source = client.get_model_version("linked", "1").source
    logged = client.get_logged_model(source.removeprefix("models:/"))
    assert (logged.source_run_id, logged.status.value) == (version.run_id, "READY")
    assert {metric.key: metric.value for metric in logged.metrics}.items() >= {"roc_auc": 0.7821}.items()
    run = client.get_run(version.run_id)
    assert [model.model_id for model in run.outputs.model_outputs] == [logged.model_id]
    assert len(client.get_metric_history(version.run_id, "roc_auc")) == 1


def test_the_model_folder_holds_data_and_no_pickle(store: MlflowRegistry, folder: Path, tmp_path: Path) -> None:
    store_of_models = folder / "artifacts" / "models"
    before = set(store_of_models.iterdir()) if store_of_models.exists() else set()
    register(store, "plain", write_bundle(tmp_path / "bundle", FILES))
    (made,) = set(store_of_models.iterdir()) - before
    files = {path.relative_to(made / "artifacts").as_posix() for path in made.rglob("*") if path.is_file()}
    assert files == {
        "MLmodel",
        "conda.yaml",
        "python_env.yaml",
        "requirements.txt",
        "input_example.json",
        "serving_input_example.json",
        *(f"data/bundle/{name}" for name in FILES),
    }
    described = yaml.safe_load((made / "artifacts" / "MLmodel").read_text("utf-8"))
    assert described["flavors"]["python_function"]["loader_module"] == "trunkline.models.pyfunc"
    columns = {column["name"]: column["type"] for column in json.loads(described["signature"]["inputs"])}
    assert columns == {"distance": "any", "carrier": "string", "holiday": "boolean", "departure": "any"}
    assert "trunkline==" in (made / "artifacts" / "requirements.txt").read_text("utf-8")


@pytest.fixture
def global_uri(folder: Path) -> Iterator[None]:
    import mlflow

    mlflow.set_tracking_uri(uri_of(folder))
    yield
    mlflow.set_tracking_uri(None)


@pytest.mark.usefixtures("global_uri")
def test_mlflow_loads_and_scores_it(store: MlflowRegistry, tmp_path: Path) -> None:
    import mlflow

    bundle = write_tiny(tmp_path / "bundle")
    register(store, "tiny", bundle.path, bundle.sha256)
    offline = Scorer(bundle).score(TABLE)

    model = mlflow.pyfunc.load_model("models:/tiny/1")
    frame = TABLE.to_pandas()
    np.testing.assert_array_equal(model.predict(frame)["score"], offline)
    whole = pd.DataFrame({"distance": [100, 250], "carrier": ["UA", "AA"], "holiday": [True, False], "more": [1, 2]})
    np.testing.assert_array_equal(model.predict(whole)["score"], offline[:2])
    with pytest.raises(Exception, match="distance"):
        model.predict(frame.drop(columns="distance"))


def test_registering_leaves_mlflows_global_uri_alone(store: MlflowRegistry, tmp_path: Path) -> None:
    import mlflow

    mlflow.set_tracking_uri("sqlite:///elsewhere.db")
    try:
        register(store, "apart", write_bundle(tmp_path / "bundle", FILES))
        assert mlflow.get_tracking_uri() == "sqlite:///elsewhere.db"
        assert os.environ["MLFLOW_TRACKING_URI"] == "sqlite:///elsewhere.db"
    finally:
        mlflow.set_tracking_uri(None)
    register(store, "apart", tmp_path / "bundle")
    assert not mlflow.is_tracking_uri_set()


@pytest.mark.parametrize("harm", ["changed", "removed", "added"])
def test_a_tampered_bundle_is_not_fetched(store: MlflowRegistry, folder: Path, tmp_path: Path, harm: str) -> None:
    before = set((folder / "artifacts" / "models").iterdir())
    version = register(store, "tampered", write_bundle(tmp_path / "bundle", FILES))
    (made,) = set((folder / "artifacts" / "models").iterdir()) - before
    stored = made / "artifacts" / "data" / "bundle"
    if harm == "changed":
        (stored / "model.onnx").write_bytes(FILES["model.onnx"][:-1] + b"!")
    elif harm == "removed":
        (stored / "model.onnx").unlink()
    else:
        (stored / "extra.pkl").write_bytes(b"!")
    with pytest.raises(IntegrityError, match="extra.pkl" if harm == "added" else "model.onnx"):
        store.fetch(version, tmp_path / "got")
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_a_version_made_by_others_has_no_bundle(store: MlflowRegistry, folder: Path, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(uri_of(folder))
    client.create_registered_model("foreign")
    client.create_model_version("foreign", source=str(folder / "artifacts" / "models" / "x"))
    version = store.resolve("models:/foreign/1")
    assert (version.sha256, version.metrics) == ("", {})
    with pytest.raises(ModelReferenceError, match="not registered by Trunkline"):
        store.fetch(version, tmp_path / "got")


@pytest.mark.parametrize("told", ["{", "[]", "null"])
def test_a_list_of_files_that_is_none_is_not_believed(store: MlflowRegistry, tmp_path: Path, told: str) -> None:
    version = register(store, "listless", write_bundle(tmp_path / "bundle", FILES))
    with pytest.raises(IntegrityError, match="does not say what its files were"):
        store.fetch(replace(version, tags={**version.tags, "trunkline.files": told}), tmp_path / "got")


@pytest.mark.parametrize("cut", ["log_inputs", "set_terminated"])
def test_a_kill_loses_no_inputs_of_a_run(
    store: MlflowRegistry, folder: Path, monkeypatch: pytest.MonkeyPatch, cut: str
) -> None:
    from mlflow import MlflowClient

    read = (DatasetInput("flights train", "ab" * 18, "/data/d.parquet", "training"),)
    run = a_run(key=f"cut-{cut}", datasets=read)

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(store._client, cut, killed)
        with pytest.raises(KeyboardInterrupt):
            store.log_runs([run])
    (run_id,) = store.log_runs([run])
    shown = MlflowClient(uri_of(folder)).get_run(run_id)
    assert [one.dataset.name for one in shown.inputs.dataset_inputs] == ["flights train"]
    assert (shown.info.status, shown.data.metrics["roc_auc"]) == ("FINISHED", 0.7821)
    assert len(MlflowClient(uri_of(folder)).get_metric_history(run_id, "epoch_loss")) == 20


@pytest.mark.parametrize("behind_a_server", [False, True], ids=["database", "server"])
def test_a_run_that_somebody_deleted_blocks_nothing(
    store: MlflowRegistry, folder: Path, monkeypatch: pytest.MonkeyPatch, behind_a_server: bool
) -> None:
    from mlflow import MlflowClient

    if behind_a_server:
        monkeypatch.setattr("trunkline.registry.mlflow_runs.sql_store", lambda client: None)
    client = MlflowClient(uri_of(folder))
    for status in ("FINISHED", "RUNNING"):
        run = a_run(key=f"deleted-{status}-{behind_a_server}", status=status)
        client.delete_run(store.log_run(run))
        run_id = store.log_run(replace(run, status="FINISHED", metrics={"roc_auc": 0.9}))
        assert client.get_run(run_id).info.lifecycle_stage == "active"
        assert client.get_run(run_id).info.status == "FINISHED"


@pytest.mark.parametrize("cut", ["log_model_artifacts", "log_outputs", "finalize_logged_model", "create_model_version"])
def test_a_kill_doubles_no_logged_model(
    store: MlflowRegistry, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cut: str
) -> None:
    from mlflow import MlflowClient

    bundle, name = write_bundle(tmp_path / "bundle", FILES), f"cut-{cut}"
    run_id = store.log_run(a_run(key=name))

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(store._client, cut, killed)
        with pytest.raises(KeyboardInterrupt):
            store.register(name, bundle, run_id=run_id, sha256="aa", tags={}, example=EXAMPLE)
    version = store.register(name, bundle, run_id=run_id, sha256="aa", tags={}, example=EXAMPLE)
    client = MlflowClient(uri_of(folder))
    run = client.get_run(run_id)
    (logged,) = client.search_logged_models([run.info.experiment_id], f"name = '{name}'")
    assert (logged.status.value, len(run.outputs.model_outputs), version.version) == ("READY", 1, 1)
    assert len(client.get_metric_history(run_id, "roc_auc")) == 1
    store.fetch(version, tmp_path / "got")


def test_a_bundle_that_changes_while_it_is_stored_makes_no_version(
    store: MlflowRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = write_bundle(tmp_path / "bundle", FILES)

    def changed(*given: object) -> Path:
        (bundle / "model.onnx").write_bytes(b"not what was trained")
        return save_model(*given)  # type: ignore[arg-type]  # handed on as they are

    monkeypatch.setattr("trunkline.registry.mlflow.save_model", changed)
    with pytest.raises(IntegrityError, match="changed while it was being registered"):
        register(store, "changing", bundle)
    assert store.versions("changing") == []


def test_what_is_beneath_mlflow_is_translated(tmp_path: Path) -> None:
    """A broken artifact folder, a driver that is not here, a database and an object store that do not answer."""
    (tmp_path / "page").mkdir()
    (tmp_path / "page" / "report.md").write_text("# yes", "utf-8")
    store = MlflowRegistry(tmp_path / "mlflow.db")
    (tmp_path / "artifacts").write_text("a file", "utf-8")
    with pytest.raises(EngineError, match="refused: .*Not a directory"):
        store.log_run(a_run(key="run", artifacts=tmp_path / "page"))
    run_id = store.log_run(a_run())
    bundle = write_bundle(tmp_path / "bundle", FILES)
    with pytest.raises(EngineError, match="Not a directory"):
        store.register("delay", bundle, run_id=run_id, sha256="aa", tags={}, example=EXAMPLE)


class _Said(Exception):
    """As a library would say it."""


@pytest.mark.parametrize(
    ("library", "name", "expected"),
    [
        ("sqlalchemy.exc", "OperationalError", TransientError),
        ("sqlalchemy.exc", "ArgumentError", EngineError),
        ("botocore.exceptions", "HTTPClientError", TransientError),
        ("botocore.exceptions", "NoCredentialsError", EngineError),
        ("boto3.exceptions", "S3UploadFailedError", EngineError),
        ("builtins", "ConnectionResetError", TransientError),
        ("builtins", "ModuleNotFoundError", EngineError),
        ("builtins", "KeyError", None),
    ],
)
def test_errors_of_libraries_are_known_by_their_class(
    library: str, name: str, expected: type[EngineError] | None
) -> None:
    uri = "postgresql://ann:sec/ret@db/mlflow"
    kind = getattr(builtins, name) if library == "builtins" else type(name, (_Said,), {"__module__": library})

    def action() -> None:
        raise kind(f"no way to {uri}")

    with pytest.raises(expected or kind) as caught:
        Calls(uri, 0)(action)
    assert type(caught.value) is (expected or kind)
    assert expected is None or "ret" not in str(caught.value)


@pytest.mark.parametrize(
    ("code", "by_the_server", "invalid"),
    [
        ("INVALID_PARAMETER_VALUE", True, True),
        ("INVALID_PARAMETER_VALUE", False, True),
        ("BAD_REQUEST", True, True),
        ("BAD_REQUEST", False, False),  # a proxy's, or of a database that is damaged
        ("PERMISSION_DENIED", True, False),
        ("UNAUTHENTICATED", True, False),
        ("INTERNAL_ERROR", True, False),
    ],
)
def test_only_what_mlflow_calls_invalid_is_never_taken(code: str, by_the_server: bool, invalid: bool) -> None:
    from mlflow.exceptions import MlflowException, RestException
    from mlflow.protos.databricks_pb2 import ErrorCode

    def action() -> None:
        if by_the_server:
            raise RestException({"error_code": code, "message": "no"})
        raise MlflowException("no", error_code=ErrorCode.Value(code))

    with pytest.raises(EngineError) as caught:
        Calls("https://mlflow.example", 0)(action)
    assert type(caught.value) is (InvalidRecord if invalid else EngineError)


@pytest.mark.usefixtures("nobody")
def test_two_servers_with_different_logins_are_refused() -> None:
    with pytest.raises(ProjectError, match="different logins") as caught:
        MlflowRegistry("https://ann:one@mlflow.example", "https://bob:two@models.example")
    assert "one@" not in str(caught.value)
    one_login("https://ann:one@mlflow.example", "https://ann:one@models.example")
    one_login("https://ann:one@mlflow.example", "https://models.example")


def test_a_deleted_experiment_says_how_to_restore_it(store: MlflowRegistry, folder: Path) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(uri_of(folder))
    client.delete_experiment(client.create_experiment("gone"))
    with pytest.raises(EngineError, match="'gone' is deleted") as caught:
        store.log_run(a_run(experiment="gone"))
    assert "mlflow experiments restore" in str(caught.value.hint)


def test_a_value_too_long_for_mlflow_is_refused_not_cut(store: MlflowRegistry) -> None:
    with pytest.raises(EngineError, match="length"):
        store.log_run(a_run(params={"columns": "x" * 10_000}))


def test_a_file_that_is_no_store_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_bytes(b"this is no database at all, is it?" * 100)
    with pytest.raises(EngineError, match="cannot be read"):
        MlflowRegistry(tmp_path / "mlflow.db")


def test_a_store_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file", "utf-8")
    with pytest.raises(EngineError, match="cannot make the folder"):
        MlflowRegistry(tmp_path / "state" / "mlflow.db")


@pytest.mark.parametrize("mark", "%?#")
def test_a_folder_that_mlflow_would_misread_is_refused(tmp_path: Path, mark: str) -> None:
    with pytest.raises(EngineError, match=f"there is a '[{mark}]' in the path"):
        MlflowRegistry(tmp_path / f"a{mark}41b" / "mlflow.db")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a login in an address sets is gone afterwards."""
    for name in ("USERNAME", "PASSWORD", "TOKEN"):
        monkeypatch.setenv(f"MLFLOW_TRACKING_{name}", "")


@pytest.mark.usefixtures("nobody")
def test_nobody_home_is_transient() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        uri = f"http://ann:secret@127.0.0.1:{free.getsockname()[1]}"
        registry = MlflowRegistry(uri, patience=0)
        with pytest.raises(TransientError) as caught:
            registry.resolve("models:/delay/7")
    assert "is the server up? MLFLOW_TRACKING_URI=http://127.0.0.1" in str(caught.value.hint)
    assert "secret" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.usefixtures("nobody")
@pytest.mark.parametrize(
    ("status", "error", "says"),
    [
        (400, EngineError, "refused"),
        (401, EngineError, "does not let us in: as 'ann'"),
        (403, EngineError, r"does not let us do this \(as 'ann'\)"),
        (429, TransientError, "does not answer"),
        (500, TransientError, "does not answer"),
        (503, TransientError, "does not answer"),
    ],
)
def test_a_servers_refusal_is_ours(status: int, error: type[EngineError], says: str) -> None:
    class Refusing(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Refusing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            registry = MlflowRegistry(f"http://ann:s%40cret@127.0.0.1:{server.server_port}", patience=0)
            with pytest.raises(error, match=says) as caught:
                registry.resolve("models:/delay/7")
        finally:
            server.shutdown()
    assert type(caught.value) is error
    assert "cret" not in "".join(traceback.format_exception(caught.value))


def test_two_processes_make_one_store_and_say_nothing(tmp_path: Path) -> None:
    write_bundle(tmp_path / "bundle", FILES)
    script = textwrap.dedent(
        f"""
        import os, sys
        from pathlib import Path
        from trunkline.registry.mlflow import MlflowRegistry
        from trunkline.testing.registry_suite import EXAMPLE, a_run
        assert "mlflow" not in sys.modules
        registry = MlflowRegistry(Path({str(tmp_path / "state" / "mlflow.db")!r}))
        run_id = registry.log_run(a_run())
        bundle = Path({str(tmp_path / "bundle")!r})
        version = registry.register("delay", bundle, run_id=run_id, sha256="aa", tags={{}}, example=EXAMPLE)
        registry.fetch(version, Path({str(tmp_path)!r}) / f"got-{{version.version}}")
        assert os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] == "false"
        """
    )
    both = [
        subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        for _ in range(2)
    ]
    assert [process.communicate(timeout=120)[0].decode() for process in both] == ["", ""]
    assert [process.returncode for process in both] == [0, 0]
    assert {path.name for path in tmp_path.iterdir()} == {"bundle", "state", "got-1", "got-2"}
    assert {path.name for path in (tmp_path / "state").iterdir()} == {"mlflow.db", "mlflow.db.lock", "artifacts"}
