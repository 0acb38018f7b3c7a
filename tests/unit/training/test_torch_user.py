"""A network of the user's: what goes wrong in it is told by their lines; sequences, images; and files without ONNX."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.unit.training.torch_cases import MULTICLASS, TASKS, fitted, made, of, served
from trunkline.errors import IntegrityError, TrainingError
from trunkline.estimators import Torch
from trunkline.models.bundle import Bundle
from trunkline.models.encoder import EncodedColumn, Encoder
from trunkline.models.runtime import Scorer
from trunkline.models.task import Task
from trunkline.models.torch import open_module
from trunkline.project import python
from trunkline.training.calibration import CalibratedModel
from trunkline.training.protocol import Exports, FitContext
from trunkline.training.run import TrainSpec, train
from trunkline.training.search.objectives import measure

NET = '''
import torch
from torch import nn

from ml.parts import Gated

SEEN = []


def plain(columns, width=8):
    SEEN.append(columns)
    return nn.Sequential(columns.standardised(), nn.Linear(columns.width, width), nn.ReLU(), nn.Linear(width, 1))


def breaks(columns):
    raise KeyError("no such column")


def nothing(columns):
    return None


def bare(columns):
    return nn.ReLU()


def three(columns):
    return nn.Linear(columns.width, 3)


class Breaks(nn.Module):
    def __init__(self, columns):
        super().__init__()
        self.layer = nn.Linear(columns.width + 1, 1)

    def forward(self, x):
        return self.layer(x)


class Later(nn.Module):
    def __init__(self, columns):
        super().__init__()
        self.layer = nn.Linear(columns.width, 1)

    def forward(self, x):
        if self.training:
            raise ValueError("not today")
        return self.layer(torch.nan_to_num(x))


def numpyish(raw, y):
    return float(((raw.detach() - y) ** 2).mean())


def no_optimizer(weights):
    return list(weights)


class Sequence(nn.Module):
    """The last state of a GRU over the numbers that are there."""

    def __init__(self, columns, width=16):
        super().__init__()
        self.place = columns["steps"].place
        self.gru, self.head = nn.GRU(2, width, batch_first=True), nn.Linear(width, columns.outputs or 1)

    def forward(self, x):
        steps = x[:, self.place]
        there = ~torch.isnan(steps)
        inputs = torch.stack([torch.nan_to_num(steps, nan=0.0), there.to(x.dtype)], 2)
        return self.head(self.gru(inputs)[0][:, -1])


class Pictures(nn.Module):
    def __init__(self, columns):
        super().__init__()
        self.place, self.shape = columns["picture"].place, columns["picture"].shape
        self.convolve = nn.Conv2d(self.shape[2], 8, 3, padding=1)
        self.head = nn.Linear(8, columns.outputs)

    def forward(self, x):
        picture = torch.nan_to_num(x[:, self.place]).unflatten(1, self.shape).permute(0, 3, 1, 2)
        return self.head(torch.relu(self.convolve(picture)).amax((2, 3)))


def steered(columns, width):
    return Gated(columns, width)
'''

PARTS = '''
import torch
from torch import nn


class Gated(nn.Module):
    """What it does depends on the data: no graph can tell it."""

    def __init__(self, columns, width):
        super().__init__()
        self.front, self.layers = columns.standardised(), nn.Linear(columns.width, width)
        self.head = nn.Linear(width, 1)

    def forward(self, x):
        hidden = self.layers(self.front(x))
        for _ in range(int(hidden.detach().abs().mean().item() > 1e9) + 1):
            hidden = torch.tanh(hidden)
        return self.head(hidden)
'''


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with networks in ml/."""
    root = tmp_path_factory.mktemp("project")
    (root / "ml").mkdir()
    (root / "ml" / "net.py").write_text(NET)
    (root / "ml" / "parts.py").write_text(PARTS)
    return root


@pytest.fixture(scope="module")
def net(project: Path) -> Any:
    """Its ml/net.py."""
    return python.load(project, project / "ml" / "net.py")


def test_the_function_is_told_what_the_columns_are(net: Any) -> None:
    data = made(MULTICLASS)
    fitted(Torch(module=net.Sequence, epochs=1), sequences()[0])
    with pytest.raises(TrainingError):  # two outputs too few, and that is seen before anything is fitted
        fitted(Torch(module=net.plain, arguments={"width": 4}), data)
    columns = net.SEEN[-1]
    assert (columns.width, columns.outputs, columns.task) == (3, 3, MULTICLASS)
    assert [(column.name, column.kind, column.cardinality) for column in columns] == [
        ("up", "number", 0),
        ("gap", "number", 0),
        ("kind", "category", 4),
    ]
    assert (columns.numbers, columns.categories) == ((0, 1), (2,))
    with pytest.raises(TrainingError, match="Did you mean 'kind'"):
        columns["kid"]


@pytest.mark.parametrize(
    ("module", "says", "line"),
    [
        ("breaks", "failed while it built the network with KeyError: 'no such column'", "raise KeyError"),
        ("Breaks", "failed on its first rows with RuntimeError", "return self.layer(x)"),
        ("Later", "failed in epoch 1 with ValueError: not today", "raise ValueError"),
    ],
)
def test_what_the_users_code_raises_is_shown_with_their_lines(net: Any, module: str, says: str, line: str) -> None:
    with pytest.raises(TrainingError) as caught:
        fitted(Torch(module=getattr(net, module)), made(Task()))
    assert f"ml.net:{module} {says}" in caught.value.what
    assert caught.value.file == Path(net.__file__)
    assert line in Path(net.__file__).read_text().splitlines()[(caught.value.line or 0) - 1]
    assert line in caught.value.what
    assert "trunkline" not in str(caught.value).replace(str(Path(net.__file__).parent), "")


@pytest.mark.parametrize(
    ("module", "task", "says"),
    [
        ("nothing", "binary", "gave a NoneType, which is no torch.nn.Module"),
        ("bare", "binary", "without weights to learn"),
        ("three", "binary", r"outputs of shape \[b, 3\]; a binary task needs \[b\]: the log-odds of 1"),
        ("plain", "multiclass", r"shape \[b, 1\]; a multiclass task needs \[b, 3\]: a logit for each of 3 classes"),
        ("plain", "quantile", r"needs \[b, 3\]: a value for each of 3 quantiles"),
    ],
)
def test_a_network_that_does_not_fit_the_task_is_refused(net: Any, module: str, task: str, says: str) -> None:
    with pytest.raises(TrainingError, match=says) as caught:
        fitted(Torch(module=getattr(net, module)), made(TASKS[task]))
    assert caught.value.hint
    assert caught.value.file == Path(net.__file__)


def test_a_network_has_an_answer_where_values_are_missing(net: Any) -> None:
    net.linear = lambda columns: net.nn.Linear(columns.width, 1)
    with pytest.raises(TrainingError, match="missing values, which are NaN") as caught:
        fitted(Torch(module=net.linear), made(Task()))
    assert caught.value.hint is not None
    assert "columns.standardised()" in caught.value.hint


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"loss": "numpyish"}, "ml.net:numpyish gives a float: nothing can be learned"),
        ({"optimizer": "no_optimizer"}, "gave a list, which is no torch.optim.Optimizer"),
        ({"answer": "three_wide"}, r"gives scores of shape \[b, 3\]; a binary task needs \[b\]"),
    ],
)
def test_functions_that_cannot_serve_are_refused(net: Any, settings: dict[str, str], says: str) -> None:
    net.three_wide = lambda raw: raw[:, None].expand(-1, 3)
    given = {name: getattr(net, value) for name, value in settings.items()}
    with pytest.raises(TrainingError, match=says):
        fitted(Torch(module=net.plain, **given), made(Task()))


def test_class_weights_need_a_loss_of_rows(net: Any) -> None:
    def whole(raw: Any, y: Any) -> Any:
        return ((raw - y) ** 2).mean()

    with pytest.raises(TrainingError, match="class_weights weigh rows"):
        fitted(Torch(module=net.plain, loss=whole, class_weights="balanced"), made(Task()))


def test_settings_name_functions_and_are_plain(net: Any) -> None:
    estimator = Torch(module=net.plain, arguments={"width": 4}, loss=net.numpyish, class_weights={1: 2.0})
    told = estimator.settings()
    assert (told["module"], told["loss"], told["optimizer"]) == ("ml.net:plain", "ml.net:numpyish", None)
    assert json.loads(json.dumps(told)) == told
    with pytest.raises(TrainingError, match="arguments must be JSON"):
        Torch(module=net.plain, arguments={"width": {1, 2}})
    with pytest.raises(TrainingError, match="module must be a function"):
        Torch(module="ml.net:plain")  # type: ignore[arg-type]
    with pytest.raises(TrainingError, match="must be one of 'mse', 'mae', 'huber'"):
        Torch(module=net.plain, loss="rmse")


def sequences() -> tuple[Any, np.ndarray]:
    """Up to twelve numbers a row; the target is the sum of those that are there."""
    random = np.random.default_rng(1)
    steps = random.normal(size=(900, 12)).astype(np.float32)
    lengths = random.integers(1, 13, len(steps))
    steps[np.arange(12) >= lengths[:, None]] = np.nan
    encoder = Encoder([EncodedColumn("steps", "vector", shape=(12,))], {})  # type: ignore[arg-type]
    return of(encoder, Task("regression"), steps, np.nansum(steps, 1).astype(np.float32)), lengths


def test_a_sequence_is_learned_and_exported(net: Any) -> None:
    data, _ = sequences()
    model, _ = fitted(Torch(module=net.Sequence, lr=0.02, epochs=10, patience=10, batch_size=64), data)
    score = model.predict(data.validation.x)
    assert data.metric.of(data.validation.y, score) < 0.5 * data.validation.y.std()
    np.testing.assert_allclose(served(model.to_onnx(), data.validation.x[:50]), score[:50], atol=1e-4)


def test_pictures_are_learned_and_exported(net: Any) -> None:
    """Which way a line runs, on 8 x 8 pictures in one colour."""
    random = np.random.default_rng(2)
    y = random.integers(0, 3, 600)
    pictures = (random.random((600, 8, 8, 1)) * 0.3).astype(np.float32)
    for row, way in enumerate(y):
        at = random.integers(1, 7)
        places = {0: (at, slice(None)), 1: (slice(None), at), 2: (np.arange(8), np.arange(8))}
        pictures[row][places[way]] = 1.0
    encoder = Encoder([EncodedColumn("picture", "image", shape=(8, 8, 1), mean=0.3, std=0.3)], {})  # type: ignore[arg-type]
    data = of(encoder, MULTICLASS, pictures.reshape(600, -1), y.astype(np.float32))
    model, _ = fitted(Torch(module=net.Pictures, lr=0.05, epochs=12, patience=12, batch_size=64), data)
    score = model.predict(data.validation.x)
    assert (score.argmax(1) == data.validation.y).mean() > 0.9
    np.testing.assert_allclose(served(model.to_onnx(), data.validation.x[:20]), score[:20], atol=1e-5)


@pytest.fixture(scope="module")
def told(net: Any) -> tuple[Any, Any, dict[str, bytes]]:
    """A network that no graph can tell, fitted, and its files."""
    data = made(Task("regression"))
    model, _ = fitted(Torch(module=net.steered, arguments={"width": 6}, epochs=2, lr=0.01, batch_size=64), data)
    assert isinstance(model, Exports)
    return data, model, dict(model.files())


def reopened(project: Path, data: Any, files: dict[str, bytes]) -> Any:
    """By whoever loads it."""
    return open_module(
        files["model.safetensors"], files["module.json"], data.encoder, data.task, root=project
    ).score_matrix(data.validation.x)


def test_what_onnx_cannot_tell_is_told_in_files(project: Path, told: Any) -> None:
    data, model, files = told
    with pytest.raises(TrainingError, match="cannot be told in ONNX"):
        model.to_onnx()
    assert set(files) == {"model.safetensors", "module.json"}
    record = json.loads(files["module.json"])
    assert record["factory"] == "ml/net.py:steered"
    assert record["arguments"] == {"width": 6}
    assert set(record["code"]) == {"ml/net.py", "ml/parts.py"}
    np.testing.assert_array_equal(reopened(project, data, files), model.predict(data.validation.x))
    assert model.files() == files


def test_a_training_keeps_it_in_a_bundle(project: Path, told: Any, tmp_path: Path) -> None:
    data, model, _ = told
    spec = TrainSpec("steered", lambda trial: model.settings)
    trained = train(spec, data, seed=3, out=tmp_path / "bundle")
    assert trained.parity < 1e-6
    bundle = Bundle.open(trained.bundle.path, expect_sha256=trained.bundle.sha256)
    assert bundle.is_module
    assert set(bundle.files()) == {
        "bundle.json", "encoder.json", "model.safetensors", "module.json", "signature.json",
    }  # fmt: skip
    found = Scorer(bundle, root=project).score_matrix(data.validation.x)
    np.testing.assert_allclose(found, model.predict(data.validation.x), rtol=1e-6)


def test_it_is_weighed_by_its_files(told: Any) -> None:
    data, model, files = told
    ended = measure(model.settings, data, ("size_kb", "latency_us"), FitContext(seed=3))
    _, size, latency = ended.values
    assert size == sum(map(len, files.values())) / 1000
    assert latency > 0


def test_it_cannot_be_calibrated(told: Any) -> None:
    _, model, _ = told
    with pytest.raises(TrainingError, match="is calibrated in its ONNX graph, and this one has none") as caught:
        CalibratedModel(model, ()).to_onnx()
    assert "leave `calibrate` out" in str(caught.value)


def changed(name: str) -> Callable[[Path], None]:
    """Change a file of the project."""
    return lambda root: (root / name).write_text((root / name).read_text() + "\n# changed\n")  # type: ignore[func-returns-value]


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (changed("ml/parts.py"), "ml/parts.py is not what this model was trained with"),
        (lambda root: (root / "ml" / "parts.py").unlink(), "which is not there"),
    ],
    ids=["changed", "gone"],
)
def test_code_that_is_another_is_refused(spoil: Any, says: str, project: Path, told: Any, tmp_path: Path) -> None:
    data, _, files = told
    (tmp_path / "ml").mkdir()
    for name in ("net.py", "parts.py"):
        (tmp_path / "ml" / name).write_bytes((project / "ml" / name).read_bytes())
    spoil(tmp_path)
    with pytest.raises(IntegrityError, match=says) as caught:
        reopened(tmp_path, data, files)
    assert caught.value.hint is not None
    assert "check" in caught.value.hint


@pytest.mark.parametrize(
    "record",
    [
        {"code": {}},
        {"factory": "../outside.py:build", "code": {"../outside.py": "0"}},
        {"format": 2},
        {"arguments": {"width": 7}},
    ],
    ids=["no-digest", "outside", "format", "other-weights"],
)
def test_a_record_that_was_tampered_with_is_refused(record: dict[str, Any], project: Path, told: Any) -> None:
    data, _, files = told
    (project.parent / "outside.py").write_text("raise SystemExit")
    spoilt = {**files, "module.json": json.dumps(json.loads(files["module.json"]) | record).encode()}
    with pytest.raises(IntegrityError):
        reopened(project, data, spoilt)


def test_a_network_that_cannot_be_found_again_says_where_to_put_it(net: Any) -> None:
    def inner(columns: Any) -> Any:
        return net.plain(columns)

    model, _ = fitted(Torch(module=inner, epochs=1), made(Task()))
    with pytest.raises(TrainingError, match="cannot be found again by name") as caught:
        model.files()  # type: ignore[attr-defined]
    assert caught.value.hint is not None
    assert "ml/net.py" in caught.value.hint
