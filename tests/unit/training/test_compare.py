"""Comparisons: rows, tests of differences, ablations, importances; and that no fit is made twice."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.unit.training.lines import GROUPS, FittedLine, Line, data_of
from trunkline.errors import DatasetError, TrainingError
from trunkline.models.task import TaskKind
from trunkline.project.declare import Metric
from trunkline.training.experiments.ablation import left_out
from trunkline.training.experiments.cells import Store
from trunkline.training.experiments.compare import CompareSpec, compare
from trunkline.training.experiments.comparison import Comparison
from trunkline.training.experiments.leaderboard_svg import leaderboard_svg
from trunkline.training.experiments.permutation import importances, places
from trunkline.training.metrics import METRICS
from trunkline.training.protocol import FitContext, Matrix, TrainingData


@pytest.fixture(scope="module")
def binary() -> TrainingData:
    """Two classes, by ROC AUC."""
    return data_of("binary")


def build(trial: Any) -> Line:
    """Jitter 0 or much."""
    return Line(jitter=trial.suggest_categorical("jitter", [0.0, 0.3]))


def spec_in(folder: Path, **given: Any) -> CompareSpec:
    """Two variations on three groups."""
    folder.mkdir(exist_ok=True)
    spec = CompareSpec(build, GROUPS, {"exact": {"jitter": 0.0}, "shaken": {"jitter": 0.3}}, Store(folder))
    return replace(spec, **given)


@pytest.fixture(scope="module")
def found(binary: TrainingData, tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    """Everything asked for at once."""
    spec = spec_in(tmp_path_factory.mktemp("store"), seeds=(1, 2, 3), ablate="groups", repeats=4)
    return compare(spec, binary)


def test_the_ladder_has_a_row_for_each_rung_and_variation(found: Comparison) -> None:
    assert [(row.groups, row.features, row.variation) for row in found.ladder] == [
        (tuple(list(GROUPS)[:rung]), features, variation)
        for rung, features in ((1, 1), (2, 2), (3, 4))
        for variation in ("exact", "shaken")
    ]
    for row in found.rows:
        assert row.value == pytest.approx(np.mean(row.values))
        assert row.low < row.value < row.high
        assert row.history == ((1, 0.5),)
    exact, shaken = found.rows[:2]
    assert exact.spread == 0.0
    assert shaken.spread is not None  # one feature: a jitter changes no order, unless it turns it
    assert found.rows[5].spread is not None
    assert found.rows[5].spread > 0.001
    assert found.rows[found.best] is found.leaderboard()[0]


def test_each_rung_is_tested_against_the_one_below(found: Comparison) -> None:
    rungs = {(found.rows[c.row].name, found.rows[c.row].variation): c for c in found.contrasts if c.family == "rung"}
    assert len(rungs) == 4
    for contrast in rungs.values():
        assert contrast.value == pytest.approx(found.rows[contrast.row].value - found.rows[contrast.against].value)
        assert contrast.p <= contrast.adjusted <= 1
        assert contrast.low <= contrast.value <= contrast.high
    weak, noise = rungs["strong + weak", "exact"], rungs["strong + weak + noise", "exact"]
    assert weak.low > 0
    assert weak.adjusted < 0.001
    assert noise.low < 0 < noise.high
    assert noise.adjusted > 0.2
    reach = found.rows[weak.row].high - found.rows[weak.row].low
    assert weak.high - weak.low < 0.8 * reach  # the same rows: a difference is surer than either value


def test_variations_are_tested_against_the_best(found: Comparison) -> None:
    (contrast,) = [c for c in found.contrasts if c.family == "variation"]
    assert found.rows[contrast.against].variation == "exact"
    assert found.rows[contrast.row].variation == "shaken"
    assert contrast.value < 0


def test_an_ablation_shows_what_is_needed(found: Comparison) -> None:
    lost = {found.rows[c.row].left_out: c for c in found.contrasts if c.family == "left out"}
    assert list(lost) == list(GROUPS)
    assert {found.rows[c.row].variation for c in lost.values()} == {"exact"}
    assert {found.rows[c.against].features for c in lost.values()} == {4}
    assert lost["strong"].value < lost["weak"].value < 0
    assert lost["weak"].high < 0
    assert lost["noise"].low < 0 < lost["noise"].high


def test_importances_tell_signal_from_noise(found: Comparison) -> None:
    groups = [one for one in found.importances if one.by == "group"]
    columns = {one.name: one for one in found.importances if one.by == "column"}
    assert [one.name for one in groups][:2] == ["strong", "weak"]
    assert set(columns) <= {"strong", "weak", "first", "second"}
    assert columns["strong"].low > 0.1
    assert columns["weak"].low > 0
    assert columns["weak"].adjusted < 0.01
    for one in found.importances:
        if one.name in ("noise", "first", "second"):
            assert abs(one.value) < 0.005


TASKS: list[tuple[TaskKind, str | Metric | None, bool]] = [
    ("multiclass", None, False),
    ("multiclass", "macro_f1", True),
    ("regression", None, False),
    ("regression", "median_ae", False),
    ("quantile", None, False),
    ("regression", Metric("within", lambda y, s: float((abs(y - s) < 0.5).mean()), higher_is_better=True), True),
]


@pytest.mark.parametrize(("kind", "metric", "up"), TASKS, ids=lambda value: getattr(value, "name", str(value)))
def test_every_task_and_metric_is_compared(
    kind: TaskKind, metric: str | Metric | None, up: bool, tmp_path: Path
) -> None:
    spec = spec_in(tmp_path, variations={"exact": {}}, ablate="groups", repeats=2)
    found = compare(spec, data_of(kind, metric))
    better = 1 if up else -1
    assert found.higher_is_better is up
    assert found.best > 0  # not the strong column alone
    weak = found.contrast("rung", 1)
    assert weak is not None
    assert better * weak.value > 0
    lost = {found.rows[c.row].left_out: c for c in found.contrasts if c.family == "left out"}
    assert better * lost["strong"].value < 0
    assert lost["strong"].adjusted < 0.001
    strong = next(one for one in found.importances if one.name == "strong" and one.by == "group")
    assert strong.low > 0  # a loss, whichever way the metric goes
    assert found == replace(Comparison.from_json(found.to_json()))


# -- what was fitted is not fitted again


def counted(folder: Path, seconds: float = 0.0) -> Any:
    """A model function whose fits leave a file each."""
    folder.mkdir(exist_ok=True)
    return lambda trial: Line(0.1, seconds=seconds, count=str(folder))


def test_what_is_known_is_not_fitted_again(binary: TrainingData, tmp_path: Path) -> None:
    fits, store = tmp_path / "fits", tmp_path / "store"
    spec = spec_in(store, build=counted(fits), variations={"line": {}}, seeds=(1, 2), ablate="groups", repeats=2)
    first = compare(spec, binary)
    # three rungs and two ablations (all but the last group is a rung) with two seeds; once more for the importances
    assert (len(list(fits.iterdir())), first.known) == (11, 0)
    again = compare(spec, binary)
    assert (len(list(fits.iterdir())), again.known) == (11, 10)
    assert replace(again, known=0) == first
    more = compare(replace(spec, seeds=(1, 2, 3), repeats=0), binary)
    assert (len(list(fits.iterdir())), more.known) == (16, 10)


def test_a_damaged_line_and_lost_scores_are_fitted_anew(binary: TrainingData, tmp_path: Path) -> None:
    fits, store = tmp_path / "fits", tmp_path / "store"
    spec = spec_in(store, build=counted(fits), variations={"line": {}})
    first = compare(spec, binary)
    lines = store / "cells.jsonl"
    kept = [line for line in lines.read_bytes().split(b"\n") if line]
    (store / f"{json.loads(kept[0])['key']}.f64").write_bytes(b"")  # a full disk
    lines.write_bytes(b"\n".join(kept[:-1]) + b"\n" + kept[-1][:40])  # as a kill leaves it
    again = compare(spec, binary)
    assert (len(list(fits.iterdir())), again.known) == (5, 1)
    assert [row.value for row in again.rows] == [row.value for row in first.rows]
    assert compare(spec, binary).known == 3


def test_a_killed_comparison_goes_on(binary: TrainingData, tmp_path: Path) -> None:
    fits, store = tmp_path / "fits", tmp_path / "store"
    spec = spec_in(store, build=counted(fits, 0.2), variations={"line": {}}, seeds=tuple(range(4)))
    child = multiprocessing.get_context("fork").Process(target=compare, args=(spec, binary))
    child.start()
    deadline = time.monotonic() + 30
    while len(Store(store).read()) < 3 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert child.pid is not None
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    before = len(list(fits.iterdir()))
    found = compare(replace(spec, build=counted(fits)), binary)
    assert found.known >= 3
    assert len(list(fits.iterdir())) == before + 12 - found.known
    undisturbed = compare(replace(spec, build=counted(fits), store=spec_in(tmp_path / "other").store), binary)
    assert replace(found, known=0).contrasts == undisturbed.contrasts


def test_several_processes_find_the_same(binary: TrainingData, found: Comparison, tmp_path: Path) -> None:
    told: list[Mapping[str, Any]] = []
    spec = spec_in(tmp_path, seeds=(1, 2, 3), ablate="groups", repeats=4, jobs=2)
    together = compare(spec, binary, told.append)
    assert [row.values for row in together.rows] == [row.values for row in found.rows]
    assert together.contrasts == found.contrasts
    assert together.importances == found.importances
    cells = [what["cell"] for what in told if "cell" in what]
    assert told[0] == {"total": 24}
    assert len(cells) == 24
    assert not any(cell["known"] for cell in cells)


def test_what_goes_wrong_in_a_fit_is_told_as_it_is(binary: TrainingData, tmp_path: Path) -> None:
    spec = spec_in(tmp_path, build=lambda trial: Line(fails=True), variations={"line": {}})
    with pytest.raises(ArithmeticError, match="does not fit"):
        compare(spec, binary)


# -- with several processes this one fits nothing: those forked later would wait for threads that they lack


@pytest.fixture
def idle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is fitted here."""

    def fit(*given: Any) -> None:
        raise AssertionError("fitted in the process that forks")

    monkeypatch.setattr("trunkline.training.experiments.compare.fit", fit)


@pytest.mark.usefixtures("idle")
def test_even_a_single_fit_is_made_by_another_process(binary: TrainingData, tmp_path: Path) -> None:
    one = spec_in(tmp_path, groups={"all": ["strong", "weak"]}, variations={"line": {"jitter": 0.0}}, jobs=2)
    assert compare(one, binary).known == 0
    assert compare(one, binary).known == 1


@pytest.mark.usefixtures("idle")
def test_what_goes_wrong_in_another_process_is_told_here(binary: TrainingData, tmp_path: Path) -> None:
    fails = spec_in(tmp_path, build=lambda trial: Line(fails=True), variations={"line": {}}, jobs=2)
    with pytest.raises(TrainingError, match="with line: ArithmeticError: the line does not fit") as caught:
        compare(fails, binary)
    assert "lines.py" in str(caught.value)


@pytest.mark.usefixtures("idle")
def test_a_fit_whose_process_dies_is_tried_once_more(binary: TrainingData, tmp_path: Path) -> None:
    mark = tmp_path / "died"
    spec = spec_in(tmp_path / "store", build=lambda trial: Dying(count=str(mark)), variations={"line": {}}, jobs=2)
    assert compare(spec, binary).known == 0
    assert mark.exists()
    with pytest.raises(TrainingError, match="the process that fitted it died, and once more"):
        compare(spec_in(tmp_path / "other", build=lambda trial: Dying(), variations={"line": {}}, jobs=2), binary)


class Dying(Line):
    """Ends its process; with a file `count`, the first time only."""

    def fit(self, data: TrainingData, context: FitContext) -> FittedLine:
        """As Line's, if it comes to that."""
        if not self.count or not Path(self.count).exists():
            if self.count:
                Path(self.count).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return replace(Line(), jitter=self.jitter).fit(data, context)


# -- what cannot be compared is refused before anything is fitted


@pytest.mark.parametrize(
    ("given", "error", "match"),
    [
        ({"variations": {"a": {}, "b": {"jiter": 0.3}}}, TrainingError, "Did you mean 'jitter'"),
        ({"groups": {}}, TrainingError, "no feature groups"),
        ({"groups": {"strong": ["stong"]}}, DatasetError, "Did you mean 'strong'"),
        ({"groups": {"all": ["strong", "weak"]}, "ablate": "groups"}, TrainingError, "only one group"),
    ],
    ids=["parameter", "no groups", "feature", "one group"],
)
def test_a_wrong_question_is_refused_at_once(
    given: dict[str, Any], error: type[Exception], match: str, binary: TrainingData, tmp_path: Path
) -> None:
    fits = tmp_path / "fits"
    if "variations" not in given:
        given = {**given, "build": counted(fits), "variations": {"line": {}}}
    with pytest.raises(error, match=match):
        compare(spec_in(tmp_path / "store", **given), binary)
    assert not fits.exists() or not list(fits.iterdir())


def test_an_ablation_of_very_many_columns_is_refused() -> None:
    with pytest.raises(TrainingError, match="101 columns"):
        left_out([f"c{number}" for number in range(101)], {}, "columns")


def test_columns_are_left_out_one_at_a_time(binary: TrainingData, tmp_path: Path) -> None:
    found = compare(spec_in(tmp_path, variations={"exact": {}}, ablate="columns"), binary)
    assert [row.left_out for row in found.rows if row.left_out] == ["strong", "weak", "first", "second"]
    assert {row.features for row in found.rows if row.left_out} == {3}


# -- shuffling


def test_a_column_of_several_places_is_shuffled_whole() -> None:
    named = places({"a": slice(0, 2), "b": slice(2, 3), "c": slice(3, 6)}, {"one": ["a", "c"], "none": []})
    assert named == {"group": {"one": [0, 1, 3, 4, 5]}, "column": {"a": [0, 1], "b": [2], "c": [3, 4, 5]}}
    random = np.random.default_rng(0)
    pair = random.normal(size=(500, 1)) * [1, -1]  # as one they tell nothing: their sum is 0 in every row
    x = np.column_stack([pair, random.normal(size=500)]).astype(np.float32)
    y = x[:, 2]
    fitted = FittedLine(np.array([0.0, 1.0, 1.0, 1.0]), data_of("regression").task)
    rows, metric = Matrix(x, y), METRICS["rmse"]
    apart = importances(fitted, rows, metric, {"column": {"a": [0], "b": [2]}}, repeats=2, seed=0)
    whole = importances(fitted, rows, metric, {"column": {"a": [0, 1], "b": [2]}}, repeats=2, seed=0)
    assert {one.name: one.value > 0.1 for one in apart} == {"a": True, "b": True}
    assert {one.name: one.value > 1e-6 for one in whole} == {"a": False, "b": True}
    assert rows.x is x
    assert (x[:, 2] == y).all()  # nothing was changed


# -- the drawing


def test_the_drawing_has_every_row_and_test(found: Comparison) -> None:
    svg = ElementTree.fromstring(leaderboard_svg(found))
    space = "{http://www.w3.org/2000/svg}"
    dots = [circle for circle in svg.iter(f"{space}circle") if circle.get("class") == "d"]
    rings = [circle for circle in svg.iter(f"{space}circle") if circle.get("class") == "o"]
    assert len(dots) == len(found.ladder) + len(found.contrasts) + len(found.importances)
    assert len(rings) == 3 * len(found.ladder)
    assert all(0 <= float(circle.get("cx", "")) <= 900 for circle in [*dots, *rings])
    texts = [text.text for text in svg.iter(f"{space}text")]
    assert "+ weak · exact" in texts
    assert "without noise" in texts
    named = replace(found.rows[0], variation="<b>&", groups=("<i>",))
    ElementTree.fromstring(leaderboard_svg(replace(found, rows=(named, *found.rows[1:]))))
