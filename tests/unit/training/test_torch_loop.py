"""The training loop: checkpoints, seeds, losses that are no number, precision, clipping, and peers."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.unit.training.torch_cases import TASKS, Kept, fitted, made, until
from trunkline.datasets.torch import Tensors
from trunkline.errors import IntegrityError, TrainingError
from trunkline.estimators import MLP, TabM, Torch
from trunkline.models.task import Task
from trunkline.training.checkpoints import FolderCheckpoints
from trunkline.training.networks.device import compiler_told, compiles
from trunkline.training.networks.peers import common_batches, evened
from trunkline.training.networks.state import pack, unpack
from trunkline.training.protocol import FitContext, Pruned, TrainingData


def normed(columns: Any) -> nn.Module:
    """With running statistics and dropout: state that weights and moments do not hold."""
    width = columns.width
    return nn.Sequential(columns.standardised(), nn.BatchNorm1d(width), nn.Dropout(0.3), nn.Linear(width, 1))


def momentum(weights: Any) -> torch.optim.Optimizer:
    """An optimizer of the user's."""
    return torch.optim.SGD(weights, lr=0.05, momentum=0.9)


CASES = {
    "mlp": MLP(width=16, dropout=0.3, epochs=5, batch_size=64, patience=5, clip=0.5),
    "tabm": TabM(k=2, width=8, number_embedding=2, bins=4, epochs=5, batch_size=64, patience=5),
    "torch": Torch(module=normed, optimizer=momentum, epochs=5, batch_size=64, patience=5, schedule="constant"),
    "best-long-ago": MLP(width=16, lr=1.0, dropout=0.3, epochs=5, batch_size=64, patience=5),
}


def weights(model: Any) -> dict[str, Any]:
    """Everything the fitted network knows."""
    return {name: tensor.tolist() for name, tensor in model.module.state_dict().items()}


@pytest.mark.parametrize("name", CASES)
def test_a_fit_that_was_killed_goes_on_to_the_bit(name: str) -> None:
    data, kept = made(Task()), Kept()
    whole, heard = fitted(CASES[name], data)
    with pytest.raises(Pruned):
        fitted(CASES[name], data, checkpoints=kept, report=until(4))
    assert kept.steps == [1, 2, 3]
    torch.rand(5)  # the process's own chance is another one
    resumed, told = fitted(CASES[name], data, checkpoints=kept)
    assert told == heard[3:]
    assert weights(resumed) == weights(whole)
    again, told = fitted(CASES[name], data, checkpoints=kept)  # killed after the last epoch: there is nothing to do
    assert told == []
    assert weights(again) == weights(whole)


@pytest.mark.parametrize("name", ["tabm", "torch"])
def test_the_same_seed_gives_the_same_network(name: str) -> None:
    data = made(TASKS["multiclass" if name == "tabm" else "regression"])
    short = replace(CASES[name], epochs=2)
    first, second, other = (fitted(short, data, seed=seed)[0] for seed in (1, 1, 2))
    assert weights(first) == weights(second) != weights(other)


def test_a_checkpoint_of_something_else_is_refused() -> None:
    with pytest.raises(IntegrityError, match="does not hold a fit"):
        fitted(CASES["mlp"], made(Task()), checkpoints=Kept({"state.json": b"{}", "state.safetensors": b"x"}))


def test_a_state_comes_back_as_it_was() -> None:
    shared = torch.arange(3.0)
    state = {"a": shared, 3: [shared, (True, None, -float("inf"), "x")], "step": torch.tensor(2.0), "none": {}}
    back = unpack(pack(state))
    assert back[3][1] == state[3][1]  # type: ignore[index]
    assert back["none"] == {}
    assert torch.equal(back["a"], shared)
    assert torch.equal(back[3][0], shared)
    assert back["step"].shape == ()
    with pytest.raises(TypeError, match="a set"):
        pack({"a": {1}})


def test_the_folder_holds_the_last_checkpoint_whole(tmp_path: Path) -> None:
    kept = FolderCheckpoints(tmp_path / "checkpoints" / "key")
    assert kept.load() is None
    kept.save(9, {"a": b"1", "b": b"2"})
    kept.save(10, {"a": b"3"})
    (kept.folder / ".new-1").mkdir()  # a process died as it wrote
    (kept.folder / ".new-1" / "a").write_bytes(b"half")
    assert kept.load() == {"a": b"3"}
    kept.save(11, None)  # another rank's
    assert kept.load() == {"a": b"3"}


def test_a_quick_fit_writes_no_checkpoint(tmp_path: Path) -> None:
    data = made(Task())
    fitted(CASES["mlp"], data, checkpoints=FolderCheckpoints(tmp_path / "a"))
    assert not (tmp_path / "a").exists()
    eager = FolderCheckpoints(tmp_path / "b", pause=0.0)
    fitted(CASES["mlp"], data, checkpoints=eager)
    assert [place.name for place in eager.folder.iterdir()] == ["step-5"]


def far(data: TrainingData) -> TrainingData:
    """With one value that no network bears."""
    x = data.train.x.copy()
    x[17, 0] = 3e38
    return replace(data, train=replace(data.train, x=x))


def raw(columns: Any) -> nn.Module:
    """A network that scales nothing."""
    return nn.Sequential(Filled(), nn.Linear(columns.width, 1))


class Filled(nn.Module):
    """0 where missing."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nan_to_num(x, nan=0.0)


def test_a_loss_that_is_no_number_ends_the_fit_with_advice() -> None:
    with pytest.raises(TrainingError, match=r"in epoch 1, step \d+") as caught:
        fitted(Torch(module=raw, loss="mse", batch_size=64), far(made(Task("regression"))))
    assert caught.value.hint is not None
    assert "lower lr" in caught.value.hint
    assert "column 'up', which reaches" in caught.value.hint


def test_an_infinite_input_is_named() -> None:
    data = made(Task("regression"))
    data.train.x[5, 1] = np.inf
    with pytest.raises(TrainingError) as caught:
        fitted(Torch(module=raw, batch_size=64), data)
    assert caught.value.hint is not None
    assert "column 'gap', which is infinite" in caught.value.hint


def test_a_clipped_gradient_moves_the_weights_no_further_than_it_may() -> None:
    def slow(weights: Any) -> torch.optim.Optimizer:
        return torch.optim.SGD(weights, lr=1.0)

    estimator = Torch(module=raw, optimizer=slow, clip=1e-4, epochs=1, batch_size=50, schedule="constant")
    model, _ = fitted(estimator, made(Task()))
    start = fitted(replace(estimator, clip=1e-12), made(Task()))[0]
    moved = [a - b for a, b in zip(model.module.parameters(), start.module.parameters(), strict=True)]  # type: ignore[attr-defined]
    assert 1e-6 < torch.cat([m.flatten() for m in moved]).norm().item() <= 8 * 1e-4 * 1.01


def test_bfloat16_learns_and_scores_in_float32() -> None:
    data = made(Task())
    full, half = (
        fitted(replace(CASES["mlp"], precision=precision, lr=0.02), data)[0] for precision in ("float32", "bfloat16")
    )
    a, b = (model.predict(data.validation.x) for model in (full, half))
    assert not np.array_equal(a, b)
    assert np.abs(a - b).mean() < 0.05
    assert {weight.dtype for weight in half.module.parameters()} == {torch.float32}  # type: ignore[attr-defined]


def test_what_is_compiled_does_not_depend_on_a_clock() -> None:
    settings, cpu, gpu = MLP(), torch.device("cpu"), torch.device("cuda")
    assert not compiles(settings, cpu, 10**9)
    assert not compiles(settings, gpu, 100)
    assert compiles(settings, gpu, 10**6)
    assert compiles(replace(settings, compile=True), cpu, 1)
    assert not compiles(replace(settings, compile=False), gpu, 10**6)


@pytest.mark.parametrize("device", ["cuda:7", "gpu"])
def test_a_device_that_is_not_there_is_an_error(device: str) -> None:
    with pytest.raises(TrainingError, match=device) as caught:
        fitted(CASES["mlp"], made(Task()), device=device)
    assert caught.value.hint is not None
    assert "auto" in caught.value.hint


@pytest.mark.parametrize("batch_size", [1, 2, 3, 4])
@pytest.mark.parametrize("rows", range(4, 14))
def test_ranks_have_equally_many_batches(rows: int, batch_size: int) -> None:
    count = common_batches(rows, 2, batch_size)
    seen = []
    for size in (rows // 2, rows - rows // 2):
        x = torch.arange(size, dtype=torch.float32)
        have = list(zip(x[:, None].split(batch_size), x.split(batch_size), strict=True))
        got = list(evened((Tensors(*batch) for batch in have), len(have), count))
        assert torch.equal(torch.cat([batch.y for batch in got]), x)
        assert all(torch.equal(batch.x[:, 0], batch.y) and len(batch.y) for batch in got)
        seen.append(len(got))
    assert seen == [count, count]


def test_two_processes_fit_one_network(tmp_path: Path) -> None:
    """Over gloo: rows shared unevenly, one rank alone with missing values, killed and taken up, pruned together."""
    script = Path(__file__).with_name("torch_peers_case.py")
    ranks = [
        subprocess.Popen([sys.executable, str(script), str(rank), str(tmp_path)], stdout=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    try:
        told = [json.loads(rank.communicate(timeout=120)[0]) for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    assert told[0]["weights"] == told[1]["weights"] == told[0]["resumed"] == told[1]["resumed"]
    assert told[0]["auc"] > 0.85
    assert [rank["pruned"] for rank in told] == [True, True]
    assert told[0]["reports"] == [1, 2, 3]
    assert told[1]["reports"] == []
    assert told[0]["saved"] == told[1]["saved"] == [1, 2]
    assert told[0]["flags"] == told[1]["flags"] == [False, True, False]
    assert told[0]["balanced"] == told[1]["balanced"]
    assert told[0]["left"] == "RuntimeError"  # the other one has ended: no fault of the user's network


def test_no_row_is_left_alone_in_the_last_batch() -> None:
    """Normalisation over a batch of one row is an error of torch's."""
    data = made(Task())
    assert len(data.train) % 133 == 1
    model, _ = fitted(Torch(module=normed, epochs=1, batch_size=133), data)
    assert np.isfinite(model.predict(data.validation.x)).all()


def test_a_fit_reports_to_whom_it_may_concern() -> None:
    model = MLP(width=8, epochs=1).fit(made(Task()), FitContext())
    assert len(model.predict(made(Task()).validation.x)) == 200


def test_a_compiler_that_fails_is_told_with_the_way_out() -> None:
    failed = type("InductorError", (RuntimeError,), {"__module__": "torch._inductor.exc"})
    with (
        pytest.raises(TrainingError, match="torch.compile cannot compile the network: no C") as caught,
        compiler_told(),
    ):
        raise failed("no C++ compiler\nmore of it")
    assert caught.value.hint == "compile=False fits it as it is"
    with pytest.raises(RuntimeError, match="another"), compiler_told():
        raise RuntimeError("another")
