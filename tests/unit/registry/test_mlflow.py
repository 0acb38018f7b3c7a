"""What the conformance suite cannot see: MLflow's side of it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import textwrap
import threading
import traceback
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pandas as pd
import pytest
import yaml

from tests.unit.registry.tiny import TABLE, write_tiny
from trunkline.errors import EngineError, IntegrityError, ModelReferenceError, TransientError
from trunkline.models.runtime import Scorer
from trunkline.registry.mlflow import MlflowRegistry
from trunkline.registry.protocol import DatasetInput, ModelVersion
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
        monkeypatch.setattr("trunkline.registry.mlflow.sql_store", lambda client: None)
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
