"""What every `Registry` must do, as pytest tests. Our own tests are this suite times our adapters."""

from __future__ import annotations

import json
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from trunkline.errors import EngineError, ModelReferenceError
from trunkline.registry.protocol import DatasetInput, ModelVersion, Registry, RunRecord

FILES = {
    "bundle.json": b"{}",
    "encoder.json": b'{"columns": []}',
    "model.onnx": bytes(range(256)) * 40,
    "signature.json": json.dumps(
        {
            "inputs": [
                {"name": "distance", "kind": "number", "nullable": True, "example": 733},
                {"name": "carrier", "kind": "category", "nullable": True, "example": "UA"},
                {"name": "holiday", "kind": "boolean", "nullable": False, "example": False},
                {"name": "departure", "kind": "datetime", "nullable": True, "example": "2013-11-01T08:00:00+00:00"},
            ],
            "target": "late",
            "task": "binary",
        }
    ).encode(),
}
EXAMPLE = {"distance": 733, "carrier": "UA", "holiday": False, "departure": "2013-11-01T08:00:00+00:00"}


def a_run(**changes: object) -> RunRecord:
    """A run with everything a training has."""
    ended = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
    values: dict[str, object] = {
        "experiment": "suite",
        "name": "mlp",
        "params": {"width": 256, "lr": 0.001, "family": "mlp"},
        "metrics": {"roc_auc": 0.7821, "log_loss": 0.35},
        "curves": {"epoch_loss": [(step, 1.0 / (step + 1)) for step in range(20)]},
        "tags": {"dataset": "d-1", "git_commit": "abc"},
        "started_at": ended - timedelta(minutes=1),
        "ended_at": ended,
    }
    return RunRecord(**{**values, **changes})  # type: ignore[arg-type]  # a test's keyword arguments


class RegistrySuite:
    """Subclass and override the fixture `registry`. One registry may serve all tests: names are fresh in each."""

    @pytest.fixture
    def registry(self) -> Registry:
        """The registry under test."""
        raise NotImplementedError("override the fixture `registry`")

    @pytest.fixture
    def name(self) -> str:
        """A model name that no other test uses."""
        return f"delay-{uuid.uuid4().hex[:12]}"

    @pytest.fixture
    def bundle(self, tmp_path: Path) -> Path:
        """A folder with a bundle's files."""
        return write_bundle(tmp_path / "a_bundle", FILES)

    def test_versions_count_from_one_and_carry_what_was_given(
        self, registry: Registry, name: str, bundle: Path
    ) -> None:
        assert registry.versions(name) == []
        first = _register(registry, name, bundle, sha256="aa" * 32)
        second = _register(registry, name, bundle, sha256="bb" * 32)
        assert (first.version, second.version) == (1, 2)
        assert (first.uri, second.uri) == (f"models:/{name}/1", f"models:/{name}/2")
        assert (first.sha256, second.sha256) == ("aa" * 32, "bb" * 32)
        assert first.run_id != second.run_id
        assert dict(first.tags).items() >= {"dataset": "d-1", "load_ids": "l-1,l-2"}.items()
        assert first.metrics == {**first.metrics, "roc_auc": 0.7821, "log_loss": 0.35}
        assert abs(datetime.now(UTC) - first.created_at) < timedelta(minutes=5)
        assert registry.versions(name) == [first, second]

    def test_many_versions_are_in_order(self, registry: Registry, name: str, bundle: Path) -> None:
        run_id = registry.log_run(a_run())
        for _ in range(11):
            registry.register(name, bundle, run_id=run_id, sha256="aa", tags={}, example=None)
        assert [version.version for version in registry.versions(name)] == list(range(1, 12))

    def test_resolve_finds_versions_and_aliases(self, registry: Registry, name: str, bundle: Path) -> None:
        first, second = _register(registry, name, bundle), _register(registry, name, bundle)
        registry.set_alias(name, "champion", 1)
        registry.set_alias(name, "challenger", 2)
        assert registry.resolve(f"models:/{name}/2") == second
        assert registry.resolve(f"models:/{name}@champion").version == first.version
        assert registry.resolve(f"models:/{name}@challenger").run_id == second.run_id

    def test_an_alias_moves(self, registry: Registry, name: str, bundle: Path) -> None:
        _register(registry, name, bundle)
        assert registry.alias(name, "champion") is None
        registry.set_alias(name, "champion", 1)
        _register(registry, name, bundle)
        registry.set_alias(name, "champion", 2)
        champion = registry.alias(name, "champion")
        assert champion is not None
        assert champion.version == 2

    def test_alias_of_an_unknown_model_is_none(self, registry: Registry, name: str) -> None:
        assert registry.alias(name, "champion") is None

    def test_fetch_gives_back_exactly_the_files(
        self, registry: Registry, name: str, bundle: Path, tmp_path: Path
    ) -> None:
        version = _register(registry, name, bundle)
        for path in bundle.iterdir():
            path.write_bytes(b"changed after it was registered")
        target = tmp_path / "below" / "fetched"
        assert registry.fetch(version, target) == target
        assert read_bundle(target) == FILES
        assert [path.name for path in target.parent.iterdir()] == ["fetched"]

    def test_fetch_takes_an_empty_folder_and_refuses_a_full_one(
        self, registry: Registry, name: str, bundle: Path, tmp_path: Path
    ) -> None:
        version = _register(registry, name, bundle)
        target = tmp_path / "fetched"
        target.mkdir()
        registry.fetch(version, target)
        with pytest.raises(EngineError, match="something already"):
            registry.fetch(version, target)
        assert read_bundle(target) == FILES

    def test_fetch_of_each_version_differs(self, registry: Registry, name: str, bundle: Path, tmp_path: Path) -> None:
        first = _register(registry, name, bundle)
        other = write_bundle(tmp_path / "other", {**FILES, "model.onnx": b"other"})
        second = _register(registry, name, other)
        assert read_bundle(registry.fetch(first, tmp_path / "1"))["model.onnx"] == FILES["model.onnx"]
        assert read_bundle(registry.fetch(second, tmp_path / "2"))["model.onnx"] == b"other"

    @pytest.mark.parametrize(
        "reference",
        [
            "",
            "delay",
            "delay/7",
            "models:/",
            "models:/delay",
            "models:/delay/",
            "models:/delay/0",
            "models:/delay/07",
            "models:/delay/-1",
            "models:/delay/1.0",
            "models:/delay/latest",
            "models:/delay@",
            "models:/delay@latest",
            "models:/delay@v7",
            "models:/delay@a b",
            "models:/delay@champion\n",
            "models:/de lay/7",
            "models:/../7",
            "models://delay/7",
            "models:/a/b/7",
            "models:/m-0123456789abcdef0123456789abcdef",
            "MODELS:/delay/7",
            "runs:/abc/model",
            "models:/delay@champion/7",
            "models:/délay/7",
            "models:/delay/٧",
        ],
    )
    def test_a_malformed_reference_shows_the_two_forms(self, registry: Registry, reference: str) -> None:
        with pytest.raises(ModelReferenceError) as caught:
            registry.resolve(reference)
        assert "models:/delay/7" in str(caught.value.hint)
        assert "models:/delay@champion" in str(caught.value.hint)

    def test_an_unknown_model_names_the_close_match(self, registry: Registry, name: str, bundle: Path) -> None:
        _register(registry, name, bundle)
        misspelt = name.replace("delay", "dealy")
        for reference in (f"models:/{misspelt}/1", f"models:/{misspelt}@champion"):
            with pytest.raises(ModelReferenceError, match=f"no model '{misspelt}'.*Did you mean 'delay-"):
                registry.resolve(reference)

    def test_an_unknown_version_names_those_there_are(self, registry: Registry, name: str, bundle: Path) -> None:
        _register(registry, name, bundle)
        _register(registry, name, bundle)
        with pytest.raises(ModelReferenceError, match="no version 9; its versions are: 1, 2"):
            registry.resolve(f"models:/{name}/9")
        with pytest.raises(ModelReferenceError, match="no version 9; its versions are: 1, 2"):
            registry.set_alias(name, "champion", 9)
        assert registry.alias(name, "champion") is None

    def test_an_unknown_alias_names_those_there_are(self, registry: Registry, name: str, bundle: Path) -> None:
        _register(registry, name, bundle)
        with pytest.raises(ModelReferenceError, match="has no alias yet; its versions are: 1"):
            registry.resolve(f"models:/{name}@champion")
        registry.set_alias(name, "champion", 1)
        with pytest.raises(ModelReferenceError, match=r"its aliases are: champion; .*Did you mean 'champion'\?"):
            registry.resolve(f"models:/{name}@champoin")

    @pytest.mark.parametrize("bad", ["", "a b", "a/b", "../x", "-x", "x'y", "a\n", "naïve", "x" + chr(0)])
    def test_hostile_names_are_refused(self, registry: Registry, bundle: Path, bad: str) -> None:
        with pytest.raises(ModelReferenceError):
            registry.register(bad, bundle, run_id="none", sha256="", tags={}, example=None)
        with pytest.raises(ModelReferenceError):
            registry.versions(bad)
        with pytest.raises(ModelReferenceError):
            registry.set_alias("delay", bad, 1)

    def test_a_dot_is_in_no_name_of_a_model(self, registry: Registry, bundle: Path) -> None:
        with pytest.raises(ModelReferenceError, match="cannot name a model"):
            registry.register("delay.eu", bundle, run_id="none", sha256="", tags={}, example=None)
        with pytest.raises(ModelReferenceError):
            registry.resolve("models:/delay.eu/1")

    def test_registering_for_an_unknown_run_makes_no_version(self, registry: Registry, name: str, bundle: Path) -> None:
        with pytest.raises(EngineError):
            registry.register(name, bundle, run_id="0" * 32, sha256="aa", tags={}, example=None)
        assert registry.versions(name) == []

    def test_an_unknown_run_has_no_artifacts(self, registry: Registry, tmp_path: Path) -> None:
        with pytest.raises(EngineError):
            registry.artifacts("0" * 32, tmp_path / "got")
        assert not (tmp_path / "got").exists()

    def test_children_artifacts_and_long_curves_are_taken(self, registry: Registry, tmp_path: Path) -> None:
        (tmp_path / "artifacts").mkdir()
        (tmp_path / "artifacts" / "report.md").write_text("# yes", "utf-8")
        trials = tuple(a_run(name=f"trial {i}", status="FAILED" if i else "FINISHED") for i in range(3))
        many = {f"p{i}": i for i in range(230)}
        curve = {"loss": [(step, float(step)) for step in range(2100)]}
        run = a_run(params=many, curves=curve, children=trials, artifacts=tmp_path / "artifacts")
        assert registry.log_run(run) != registry.log_run(a_run())

    def test_many_runs_are_recorded_at_once_and_those_with_a_key_once(self, registry: Registry, name: str) -> None:
        (study,) = registry.log_runs([a_run(name="study", key=name, status="RUNNING")])
        many = [a_run(name=f"trial {i}", key=f"{name}/{i}", parent_run_id=study) for i in range(5)]
        ids = registry.log_runs(many)
        assert len({*ids, study}) == 6
        assert registry.log_runs([*many[3:], a_run(key=f"{name}/5", parent_run_id=study)])[:2] == ids[3:]
        assert registry.log_runs([a_run(name="study", key=name, metrics={"best": 0.8})]) == [study]
        assert registry.log_run(a_run(key=name)) == study
        assert registry.log_runs([a_run(), a_run()])[0] != registry.log_runs([a_run()])[0]  # no key: runs of their own

    def test_a_run_with_a_key_is_whole_and_there_once(self, registry: Registry, name: str, tmp_path: Path) -> None:
        (tmp_path / "report.md").write_text("# yes", "utf-8")
        read = (DatasetInput("flights train", "ab" * 32, "s3://team/flights/train.parquet", "training"),)
        children = (a_run(name="trial 0", experiment="elsewhere"), a_run(name="trial 1", status="FAILED"))
        run = a_run(key=name, children=children, artifacts=tmp_path, datasets=read)
        run_id = registry.log_run(run)
        assert registry.log_run(run) == run_id
        children_ids = registry.log_runs([a_run(key=f"{name}/{place}") for place in range(2)])  # they were there
        assert len({run_id, *children_ids}) == 3
        assert (registry.artifacts(run_id, tmp_path / "got") / "report.md").read_text("utf-8") == "# yes"
        assert registry.log_runs([a_run(key=f"{name}/1"), a_run(key=f"{name}/0")]) == children_ids[::-1]

    def test_tags_are_added_to_a_version_and_change(self, registry: Registry, name: str, bundle: Path) -> None:
        version = _register(registry, name, bundle)
        registry.tag(version, {"trunkline.gate.delay": '{"passed": false}', "note": "yes"})
        registry.tag(version, {"trunkline.gate.delay": '{"passed": true}'})
        tags = registry.resolve(version.uri).tags
        assert tags == {**version.tags, "trunkline.gate.delay": '{"passed": true}', "note": "yes"}

    @pytest.mark.parametrize("settled", ["sha256", "trunkline.files"])
    def test_what_says_which_bundle_it_is_stays(
        self, registry: Registry, name: str, bundle: Path, settled: str
    ) -> None:
        version = _register(registry, name, bundle)
        with pytest.raises(EngineError, match=f"'{settled}'.*cannot change"):
            registry.tag(version, {"note": "yes", settled: "ff" * 32})
        assert registry.resolve(version.uri) == version

    def test_a_version_that_is_not_there_takes_no_tags(self, registry: Registry, name: str, bundle: Path) -> None:
        version = _register(registry, name, bundle)
        with pytest.raises(ModelReferenceError, match="no version 9"):
            registry.tag(replace(version, version=9), {"note": "yes"})

    def test_threads_get_versions_of_their_own(self, registry: Registry, name: str, bundle: Path) -> None:
        _register(registry, name, bundle)
        with ThreadPoolExecutor(4) as pool:
            made = list(pool.map(lambda _: _register(registry, name, bundle), range(4)))
        assert sorted(version.version for version in made) == [2, 3, 4, 5]
        assert len({version.run_id for version in made}) == 4


def write_bundle(directory: Path, files: dict[str, bytes]) -> Path:
    """A folder with `files`."""
    directory.mkdir(parents=True)
    for name, data in files.items():
        (directory / name).write_bytes(data)
    return directory


def read_bundle(directory: Path) -> dict[str, bytes]:
    """The files of a folder."""
    return {path.relative_to(directory).as_posix(): path.read_bytes() for path in directory.rglob("*")}


def _register(registry: Registry, name: str, bundle: Path, sha256: str = "cc" * 32) -> ModelVersion:
    tags = {"dataset": "d-1", "load_ids": "l-1,l-2"}
    run_id = registry.log_run(a_run())
    return registry.register(name, bundle, run_id=run_id, sha256=sha256, tags=tags, example=EXAMPLE)
