"""The registry on a team's MLflow server: PostgreSQL, an object store, logins, and a line that breaks."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from pyarrow import fs

from tests.contract import servers
from tests.contract.tracking import Line, Tracking, line, tracking
from trunkline.errors import EngineError, IntegrityError, TransientError
from trunkline.registry.files import digests, identity
from trunkline.registry.mlflow import MlflowRegistry
from trunkline.registry.outbox import Outbox, deliver, unsent
from trunkline.registry.parcels import Parcel, ToRegister, keep, register, send, settle, waiting
from trunkline.registry.protocol import DatasetInput, Registry
from trunkline.testing.registry_suite import EXAMPLE, FILES, RegistrySuite, a_run, write_bundle


@pytest.fixture(scope="module")
def server(postgres: servers.Postgres, store: servers.ObjectStore) -> Iterator[Tracking]:
    with tracking(postgres, store, "tracking") as started:
        yield started


@pytest.fixture(scope="module", autouse=True)
def _logged_in(server: Tracking) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_USERNAME", server.user)
        patch.setenv("MLFLOW_TRACKING_PASSWORD", server.password)
        yield


@pytest.fixture(scope="module")
def registry(server: Tracking) -> MlflowRegistry:
    return MlflowRegistry(server.uri)


@pytest.fixture
def broken(server: Tracking) -> Iterator[Line]:
    with line(server.uri) as made:
        yield made


class TestMlflowServer(RegistrySuite):
    @pytest.fixture
    def registry(self, server: Tracking, registry: MlflowRegistry) -> Registry:
        return registry


def test_a_run_and_its_version_are_what_the_server_shows(
    server: Tracking, registry: MlflowRegistry, store: servers.ObjectStore, tmp_path: Path, fresh: str
) -> None:
    from mlflow import MlflowClient

    (tmp_path / "artifacts").mkdir()
    (tmp_path / "artifacts" / "report.md").write_text("# yes", "utf-8")
    read = (
        DatasetInput("flights train", "ab" * 32, "s3://team/flights/train.parquet", "training"),
        DatasetInput("flights validation", "cd" * 32, "s3://team/flights/validation.parquet", "validation"),
    )
    trials = (a_run(name="trial 0"), a_run(name="trial 1", status="FAILED"))
    run = a_run(experiment=fresh, key=fresh, children=trials, artifacts=tmp_path / "artifacts", datasets=read)
    run_id = registry.log_run(run)
    assert registry.log_run(run) == run_id
    client = MlflowClient(server.uri)
    shown = client.get_run(run_id)
    inputs = {one.dataset.name: (one.dataset.digest, one.tags[0].value) for one in shown.inputs.dataset_inputs}
    assert inputs == {
        "flights train": (("ab" * 32)[:36], "training"),
        "flights validation": (("cd" * 32)[:36], "validation"),
    }
    assert [file.path for file in client.list_artifacts(run_id)] == ["report.md"]
    everything = client.search_runs([shown.info.experiment_id])
    assert {(one.info.run_name, one.info.status) for one in everything} == {
        ("mlp", "FINISHED"),
        ("trial 0", "FINISHED"),
        ("trial 1", "FAILED"),
    }
    assert len(everything) == 3

    version = registry.register(
        fresh, write_bundle(tmp_path / "bundle", FILES), run_id=run_id, sha256="ab" * 32, tags={}, example=EXAMPLE
    )
    (logged,) = client.search_logged_models([shown.info.experiment_id])
    files = list(_stored(store, f"{store.bucket}/tracking/"))
    assert sum(logged.model_id in path and path.endswith("data/bundle/model.onnx") for path in files) == 1
    from mlflow.models import get_model_info

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", server.uri)
        signature = get_model_info(version.uri).signature
    assert [column.name for column in signature.inputs] == ["distance", "carrier", "holiday", "departure"]
    assert [column.name for column in signature.outputs] == ["score"]


def test_studies_go_on_and_end_over_the_network(server: Tracking, registry: MlflowRegistry, fresh: str) -> None:
    from mlflow import MlflowClient

    (study,) = registry.log_runs([a_run(name="study", key=fresh, status="RUNNING", metrics={}, curves={})])
    curve = [(step, 1 / (step + 1)) for step in range(1200)]
    many = {f"p{i}": i for i in range(130)}
    (trial,) = registry.log_runs([a_run(key=f"{fresh}/0", parent_run_id=study, params=many, curves={"loss": curve})])
    client = MlflowClient(server.uri)
    assert client.get_run(study).info.status == "RUNNING"
    assert registry.log_runs([a_run(key=f"{fresh}/0", metrics={"roc_auc": 0.1})]) == [trial]  # it is over
    shown = client.get_run(trial)
    assert shown.data.params == {name: str(value) for name, value in many.items()}
    assert shown.data.metrics == {"roc_auc": 0.7821, "log_loss": 0.35, "loss": 1 / 1200}
    assert shown.data.tags["mlflow.parentRunId"] == study
    assert sorted((point.step, point.value) for point in client.get_metric_history(trial, "loss")) == curve
    end = a_run(name="study", key=fresh, metrics={"best": 0.8}, curves={}, params={"new": 1}, tags={"best_trial": "0"})
    assert registry.log_runs([end]) == [study]
    shown = client.get_run(study)
    assert (shown.info.status, shown.data.metrics, shown.data.tags["best_trial"]) == ("FINISHED", {"best": 0.8}, "0")
    assert shown.data.params.items() >= {"width": "256", "new": "1"}.items()


CREATING = ("experiments/create", "runs/create", "logged-models", "model-versions/create", "runs/outputs")


def test_lost_answers_double_nothing(server: Tracking, broken: Line, tmp_path: Path, fresh: str) -> None:
    """Each request that makes something is carried out, and its answer never comes."""
    from mlflow import MlflowClient

    far = MlflowRegistry(broken.uri)
    bundle = write_bundle(tmp_path / "bundle", FILES)
    broken.lose_answers |= {*CREATING, "registered-models/create", "runs/log-batch", "runs/update"}
    run_id = far.log_run(a_run(experiment=fresh))
    version = far.register(fresh, bundle, run_id=run_id, sha256="ab" * 32, tags={}, example=EXAMPLE)
    assert {*CREATING} <= {*broken.lost}
    client = MlflowClient(server.uri)
    experiment = client.get_experiment_by_name(fresh).experiment_id
    assert [run.info.run_id for run in client.search_runs([experiment])] == [run_id]
    assert len(client.search_logged_models([experiment])) == 1
    assert [one.version for one in far.versions(fresh)] == [version.version] == [1]
    assert len(client.get_run(run_id).outputs.model_outputs) == 1
    assert len(client.get_metric_history(run_id, "roc_auc")) == 1
    broken.lose_answers.add("set-tag")
    far.tag(version, {"trunkline.gate.delay": "{}"})
    assert far.resolve(version.uri).tags["trunkline.gate.delay"] == "{}"


def test_what_was_trained_meanwhile_is_registered_once(broken: Line, tmp_path: Path, fresh: str) -> None:
    far = MlflowRegistry(broken.uri, patience=0.3)
    bundle = write_bundle(tmp_path / "bundle", FILES)
    (tmp_path / "page").mkdir()
    (tmp_path / "page" / "comparison.html").write_text("<p>yes</p>", "utf-8")
    sha256 = identity(digests(bundle))
    wanted = ToRegister(fresh, bundle, sha256, {"dataset": "d-1"}, EXAMPLE, {"model": fresh, "sha256": sha256})
    trained = Parcel(a_run(experiment=fresh, key=f"train-{fresh}"), wanted)
    compared = a_run(experiment=fresh, name="compare", key=fresh, children=(a_run(),), artifacts=tmp_path / "page")

    broken.cut = True
    with pytest.raises(TransientError):
        register(tmp_path, far, trained)
    keep(tmp_path, trained)
    keep(tmp_path, Parcel(compared))
    (tmp_path / "page" / "comparison.html").unlink()  # a later comparison has swept it away
    send(tmp_path, far)
    assert [one.model for one in waiting(tmp_path)] == [fresh, ""]

    broken.cut, broken.lose_answers = False, {"model-versions/create", "runs/create"}
    send(tmp_path, far)
    send(tmp_path, far)
    assert waiting(tmp_path) == []
    keep(tmp_path, trained)  # its number is known, and the ledger is not told of it yet
    send(tmp_path, far)
    rows: list[dict[str, object]] = []
    settle(tmp_path, lambda row: rows.append(dict(row)))
    settle(tmp_path, lambda row: rows.append(dict(row)))
    (version,) = far.versions(fresh)
    assert rows == [{"model": fresh, "sha256": sha256, "reference": version.uri, "registry_run_id": version.run_id}]
    assert version.tags.items() >= {"dataset": "d-1", "sha256": sha256}.items()
    assert register(tmp_path, far, trained) == (version, False)
    from mlflow import MlflowClient

    client = MlflowClient(broken.uri)
    experiment = client.get_experiment_by_name(fresh).experiment_id
    runs = {run.info.run_name: run.info.run_id for run in client.search_runs([experiment])}
    assert len(client.search_runs([experiment])) == 3
    assert [file.path for file in client.list_artifacts(runs["compare"])] == ["comparison.html"]
    assert list((tmp_path / "parcels").glob("*")) == [tmp_path / "parcels" / ".lock"]


def test_an_outage_is_waited_for_once(broken: Line) -> None:
    import time

    far = MlflowRegistry(broken.uri, patience=1.0)
    broken.cut = True
    waited = []
    for _ in range(3):
        begun = time.monotonic()
        with pytest.raises(TransientError, match="does not answer"):
            far.versions("delay")
        waited.append(time.monotonic() - begun)
    assert waited[0] >= 1.0 > max(waited[1:])
    broken.cut = False
    assert far.versions("nobody-has-this") == []


def test_a_file_swapped_in_the_object_store_is_not_fetched(
    registry: MlflowRegistry, store: servers.ObjectStore, tmp_path: Path, fresh: str
) -> None:
    before = set(_stored(store, f"{store.bucket}/tracking/"))
    run_id = registry.log_run(a_run())
    bundle = write_bundle(tmp_path / "bundle", FILES)
    version = registry.register(fresh, bundle, run_id=run_id, sha256="ab" * 32, tags={}, example=EXAMPLE)
    made = set(_stored(store, f"{store.bucket}/tracking/")) - before
    (swapped,) = [path for path in made if path.endswith("data/bundle/model.onnx")]
    with _bucket(store).open_output_stream(swapped) as out:
        out.write(b"not what was trained")
    with pytest.raises(IntegrityError, match=r"model\.onnx"):
        registry.fetch(version, tmp_path / "got")
    assert not (tmp_path / "got").exists()


def test_who_may_not_is_told_what_to_do(
    server: Tracking, registry: MlflowRegistry, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fresh: str
) -> None:
    registry.log_run(a_run(experiment=fresh))
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", server.stranger)
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", server.strangers_password)
    with pytest.raises(EngineError, match=f"does not let us do this.*'{server.stranger}'") as caught:
        registry.log_run(a_run(experiment=fresh))
    assert "EDIT" in str(caught.value.hint)
    outbox = Outbox(tmp_path / "s.jsonl", lambda: registry)
    for number in range(3):
        outbox.add(a_run(experiment=fresh, key=f"{fresh}/{number}"))
    assert outbox.close(patience=5) == 3  # who may read and not write loses no run of a search
    assert "does not let us do this" in deliver(tmp_path, registry)["s"].what
    assert [(one.waits, one.refused) for one in unsent(tmp_path)] == [(3, 0)]
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "wrong-and-secret")
    keep(tmp_path, Parcel(a_run(experiment=fresh, key=fresh)))
    with pytest.raises(EngineError, match="does not let us in: as 'stranger'") as caught:
        registry.versions("delay")
    assert "MLFLOW_TRACKING_PASSWORD" in str(caught.value.hint)
    assert "wrong-and-secret" not in "".join(traceback.format_exception(caught.value))
    assert not isinstance(caught.value, TransientError)
    send(tmp_path, registry)
    (left,) = waiting(tmp_path)
    assert (left.refused, "does not let us in" in left.held) == ("", True)  # it was not this one that was refused
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", server.user)
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", server.password)
    send(tmp_path, registry)
    assert waiting(tmp_path) == []
    assert deliver(tmp_path, registry) == {}
    assert unsent(tmp_path) == []


def test_a_login_in_the_address_is_used_and_never_shown(
    server: Tracking, broken: Line, monkeypatch: pytest.MonkeyPatch, fresh: str
) -> None:
    from mlflow import MlflowClient

    for name in ("USERNAME", "PASSWORD"):
        monkeypatch.setenv(f"MLFLOW_TRACKING_{name}", "")
    login = f"{server.user}:{quote(server.password, safe='')}"
    far = MlflowRegistry(broken.uri.replace("://", f"://{login}@"), patience=0)
    run_id = far.log_run(a_run(experiment=fresh))
    run = MlflowClient(server.uri).get_run(run_id)
    told = [str(run.to_dictionary())]
    broken.cut = True
    with pytest.raises(TransientError) as caught:
        far.versions("delay")
    told += traceback.format_exception(caught.value)
    assert server.password not in "".join(told)
    assert quote(server.password, safe="") not in "".join(told)


def _bucket(store: servers.ObjectStore) -> fs.S3FileSystem:
    return fs.S3FileSystem(
        access_key=store.key_id, secret_key=store.secret, endpoint_override=store.endpoint, scheme="http"
    )


def _stored(store: servers.ObjectStore, folder: str) -> Iterator[str]:
    found = _bucket(store).get_file_info(fs.FileSelector(folder, recursive=True, allow_not_found=True))
    return (one.path for one in found if one.is_file)
