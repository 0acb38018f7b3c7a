from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from trunkline.errors import ProjectError
from trunkline.project.config import Training, read_config
from trunkline.training.networks.device import best_device
from trunkline.training.placement import Placement, device_for, of_fingerprint, place, reachable


def _training(tmp_path: Path, text: str) -> Training:
    (tmp_path / "trunkline.yml").write_text(text)
    return read_config(tmp_path).training


def _no_head() -> dict[str, str]:
    raise AssertionError("no Ray is to be started")


def test_training_is_inline_unless_told_otherwise(tmp_path: Path) -> None:
    assert place(Training(), tmp_path, _no_head) == Placement()
    assert of_fingerprint(Training()) == {}


def test_the_file_says_where_and_with_how_much(tmp_path: Path) -> None:
    training = _training(
        tmp_path, "training: {on: ray, ray: {workers: 3, cpus_per_worker: 2, gpus_per_worker: 1, restarts: 0}}"
    )
    found = place(training, tmp_path, lambda: {"address": "10.0.0.1:4", "token": "t0k"})
    assert found == Placement(
        on="ray",
        address="10.0.0.1:4",
        token="t0k",
        workers=3,
        cpus=2,
        gpus=1,
        storage=str(tmp_path / "ray"),
        restarts=0,
    )
    assert "t0k" not in repr(found)


def test_a_storage_is_where_nodes_that_do_not_see_the_project_find_it(tmp_path: Path) -> None:
    training = _training(tmp_path, "training: {on: ray, ray: {address: 'head:6379', storage: 's3://bucket/ray'}}")
    found = place(training, tmp_path, _no_head)
    assert (found.storage, found.shared, found.address, found.token) == ("s3://bucket/ray", False, "head:6379", "")


def test_an_address_on_the_command_line_means_that_cluster() -> None:
    training = Training().placed("head.example:6379")
    assert (training.on, training.ray.address) == ("ray", "head.example:6379")


def test_the_command_line_wins(tmp_path: Path) -> None:
    training = _training(tmp_path, "training: {on: ray, ray: {workers: 2}}")
    assert training.placed(None) is training
    assert training.placed("inline").on == "inline"


def test_only_what_changes_the_model_is_in_the_fingerprint(tmp_path: Path) -> None:
    training = _training(tmp_path, "training: {ray: {workers: 2}}")
    assert of_fingerprint(training) == {}
    assert of_fingerprint(training.placed("ray")) == {"workers": 2}
    assert of_fingerprint(Training().placed("ray")) == {}


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("training:\n  on: cluster\n", 2, "training.on"),
        ("training:\n  ray:\n    workers: 0\n", 3, "training.ray.workers"),
        ("training:\n  ray:\n    adress: x:1\n", 3, "Did you mean 'address'"),
        ("training:\n  ray: {address: somewhere}\n", 2, "training.ray.address"),
        ("training:\n  ray: {address: 'ray://head:10001'}\n", 2, "training.ray.address"),
        ("training: {device: gpu}\n", 1, "training.device"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(tmp_path: Path, text: str, line: int, what: str) -> None:
    with pytest.raises(ProjectError, match=what) as caught:
        _training(tmp_path, text)
    assert (caught.value.file, caught.value.line) == (tmp_path / "trunkline.yml", line)


def test_a_device_that_is_named_is_taken() -> None:
    assert device_for("cpu") == "cpu"
    assert device_for("cuda:1") == "cuda:1"


def test_whether_somebody_answers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        assert reachable(address)
    assert not reachable(address)


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_is_one_that_every_library_takes(seed: int, tmp_path: Path) -> None:
    with pytest.raises(ProjectError, match="trunkline.yml"):
        _training(tmp_path, f"training: {{seed: {seed}}}")
    assert _training(tmp_path, f"training: {{seed: {2**32 - 1}}}").seed == 2**32 - 1


def test_looking_for_a_gpu_starts_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTORCH_NVML_BASED_CUDA_CHECK", "")  # so that it is given back as it was
    monkeypatch.delenv("PYTORCH_NVML_BASED_CUDA_CHECK")
    asked: list[str | None] = []

    def look() -> bool:
        asked.append(os.environ.get("PYTORCH_NVML_BASED_CUDA_CHECK"))
        return False

    monkeypatch.setattr("torch.cuda.is_available", look)
    assert best_device() == "cpu"
    assert asked == ["1"]  # else CUDA is started here, and in no process that is forked later
