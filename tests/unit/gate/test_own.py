"""A metric of the user's on the sealed part: its values, its mistakes, and what its process cannot do."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from trunkline.errors import TrainingError
from trunkline.gate import own
from trunkline.gate.own import own_metric
from trunkline.gate.quality import OwnMetric
from trunkline.project.confined import _NETWORK, _version
from trunkline.project.ml import declarations

MODEL = '''
import pathlib, socket, tempfile, time
import numpy as np
import trunkline as tl

BESIDE = pathlib.Path(__file__).parent

def tried(way):
    """1 where it worked."""
    try:
        way()
    except OSError:
        return 0
    return 1

def cost(y, score):
    if y.mean() > 1e6:
        return float("nan")
    if y.mean() == 77:
        time.sleep(300)
    if y.mean() > 1e5:
        return y[len(y)]
    return float(np.abs(y - score).mean())

def leaked(y, score):
    return sum([
        tried(lambda: (BESIDE / "labels.txt").write_text(str(y.tolist()))),
        10 * tried(lambda: (BESIDE.parent / "labels.txt").write_text("x")),
        100 * tried(lambda: (BESIDE / "metric.py").rename(BESIDE / "moved.py")),
        1000 * tried(lambda: socket.create_connection(("127.0.0.1", PORT), timeout=5).close()),
        10000 * tried(lambda: (BESIDE.parent / ".trunkline" / "vault" / "sealed").read_bytes()),
        100000 * (1 - tried(lambda: tempfile.TemporaryFile().close())),
    ])

rows = tl.Dataset("rows", key="id", target="y", groups={"one": ["x"]}, split=tl.split.by_key())

@tl.model(dataset=rows, metric=tl.Metric("cost", cost, higher_is_better=False))
def priced(trial):
    raise AssertionError("nobody trains here")

@tl.model(dataset=rows, metric=tl.Metric("leaked", leaked, higher_is_better=False))
def leaky(trial):
    raise AssertionError("nobody trains here")

@tl.model(dataset=rows, metric="rmse")
def plain(trial):
    raise AssertionError("nobody trains here")
'''


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("own")
    (folder / "ml").mkdir()
    (folder / ".trunkline" / "vault").mkdir(parents=True)
    (folder / ".trunkline" / "vault" / "sealed").write_bytes(b"labels")
    with socket.create_server(("127.0.0.1", 0)) as server:
        (folder / "ml" / "metric.py").write_text(MODEL.replace("PORT", str(server.getsockname()[1])))
        yield folder


def metric(root: Path, model: str) -> OwnMetric | None:
    (declared,) = [item for item in declarations(root) if item.kind == "model" and item.name == model]
    return own_metric(root, declared, classes=False, seed=3)


def test_it_is_measured_of_both_models_on_the_same_resamples(root: Path) -> None:
    found = metric(root, "priced")
    assert found is not None
    assert (found.name, found.goal) == ("cost", "lower")
    draw = np.random.default_rng(0)
    y = draw.normal(size=300)
    scores = [y + 0.1, y + draw.normal(size=300)]
    drawn = found.measure(y, scores)
    np.testing.assert_allclose(drawn.value, [0.1, np.abs(scores[1] - y).mean()], rtol=1e-6)
    assert drawn.resampled.shape == (400, 2)
    assert drawn.resampled[:, 0] == pytest.approx(0.1)
    assert 0.02 < drawn.resampled[:, 1].std() < 0.08
    again = found.measure(y, scores)
    np.testing.assert_array_equal(drawn.resampled, again.resampled)


def test_a_metric_of_trunklines_needs_no_process(root: Path) -> None:
    assert metric(root, "plain") is None


@pytest.mark.parametrize(
    ("size", "says"), [(3e6, "the metric 'cost' gave nan"), (2e5, "metric 'cost' failed: IndexError")]
)
def test_its_mistakes_are_told_with_file_and_line(root: Path, size: float, says: str) -> None:
    found = metric(root, "priced")
    assert found is not None
    with pytest.raises(TrainingError, match=says) as caught:
        found.measure(np.full(5, size), [np.full(5, size)])
    assert Path(caught.value.file or "").name == "metric.py"
    assert caught.value.line


def test_one_that_never_ends_is_stopped(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own, "_LONGEST", 2.0)
    found = metric(root, "priced")
    assert found is not None
    with pytest.raises(TrainingError, match="the metric 'cost' was not measured on 5 rows and 50 resamples") as caught:
        found.measure(np.full(5, 77.0), [np.full(5, 77.0)])
    assert Path(caught.value.file or "").name == "metric.py"


def test_it_can_keep_nothing_of_what_it_is_given(root: Path) -> None:
    found = metric(root, "leaky")
    assert found is not None
    drawn = found.measure(np.arange(4.0), [np.arange(4.0)])
    assert drawn.value.tolist() == [0.0 if _version() >= _NETWORK else 1000.0]
    assert sorted(path.name for path in (root / "ml").iterdir() if path.is_file()) == ["metric.py"]
