"""What every `Estimator` must do, as pytest tests. Our own tests are this suite times our estimators.

Each test runs for each task that the estimator claims, on a few hundred rows.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import pytest

from trunkline.errors import TrainingError
from trunkline.models.runtime import Scorer
from trunkline.models.task import TaskKind
from trunkline.testing import estimator_cases
from trunkline.testing.estimator_cases import Checkpointed, Cut
from trunkline.training.parity import verify
from trunkline.training.protocol import Estimator, FitContext, Fitted, Matrix, Pruned, TrainingData


@dataclass
class Fit:
    """One fit, what it reported, and its export, made once."""

    model: Fitted
    data: TrainingData
    told: list[tuple[int, float]] = field(default_factory=list)

    @cached_property
    def onnx(self) -> bytes:
        """The export."""
        return self.model.to_onnx()

    @cached_property
    def score(self) -> Any:
        """Scores of the validation part."""
        return self.model.predict(self.data.validation.x)


def fit(estimator: Estimator, data: TrainingData, **context: Any) -> Fit:
    """Fit with seed 7, listening to what is reported."""
    told: list[tuple[int, float]] = []
    given = {"seed": 7, "report": lambda step, value: told.append((step, value)), **context}
    return Fit(estimator.fit(data, FitContext(**given)), data, told)


class EstimatorSuite:
    """Subclass, say which `tasks` it claims, and override `estimator`; `weighted` too, if it takes class weights.

    Its settings should be quick: 600 rows of six columns, a second at most for all fits of a test. Early stopping is
    looked at where it reports more than once, and checkpoints where it saves any.
    """

    tasks: ClassVar[tuple[TaskKind, ...]] = ("binary",)

    def estimator(self, kind: TaskKind) -> Estimator:
        """The estimator under test, for a task of that kind."""
        raise NotImplementedError("override `estimator`")

    def weighted(self, kind: TaskKind) -> Estimator | None:
        """The same with balanced class weights; None for an estimator that takes none."""
        return None

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """One test a task."""
        if "kind" in metafunc.fixturenames:
            metafunc.parametrize("kind", self.tasks, scope="class")

    @pytest.fixture(scope="class")
    @classmethod
    def data(cls, kind: TaskKind) -> TrainingData:
        """Sound rows."""
        return estimator_cases.case(kind)

    @pytest.fixture(scope="class")
    @classmethod
    def sound(cls, kind: TaskKind, data: TrainingData) -> Fit:
        """One fit for all tests that only look at it."""
        return fit(cls().estimator(kind), data)

    @pytest.fixture(scope="class")
    @classmethod
    def strained(cls, kind: TaskKind) -> Fit:
        """One fit on hard rows."""
        return fit(cls().estimator(kind), estimator_cases.hard(kind))

    # -- what it is

    def test_settings_are_plain_data(self, kind: TaskKind) -> None:
        """Every setting can be written down, and two of the same settings say the same."""
        estimator = self.estimator(kind)
        settings = estimator.settings()
        assert json.loads(json.dumps(settings, allow_nan=False)) == settings
        assert self.estimator(kind).settings() == settings
        assert estimator.name.isprintable()
        assert 0 < len(estimator.name) <= 60

    # -- what it learns

    def test_it_learns(self, sound: Fit) -> None:
        """It is better than a model that knows the target alone."""
        metric, y = sound.data.metric, sound.data.validation.y
        assert metric.signed(metric.of(y, sound.score)) > metric.signed(
            metric.of(y, estimator_cases.constant_score(sound.data))
        )

    def test_scores_are_those_of_the_task(self, kind: TaskKind, sound: Fit) -> None:
        """float64 [n] or [n, k]: probabilities that sum to 1, quantiles in order."""
        rows, width = len(sound.data.validation), sound.data.task.width
        assert sound.score.dtype == np.float64
        assert sound.score.shape == ((rows,) if width is None else (rows, width))
        assert np.isfinite(sound.score).all()
        if kind in ("binary", "multiclass"):
            assert ((sound.score >= 0) & (sound.score <= 1)).all()
        if kind == "multiclass":
            np.testing.assert_allclose(sound.score.sum(axis=1), 1, atol=1e-5)
        if kind == "quantile":
            assert (np.diff(sound.score, axis=1) >= 0).all()

    def test_one_row_scores_as_in_a_batch(self, sound: Fit) -> None:
        """A score is that of its row, whatever comes with it."""
        x = sound.data.validation.x[:8]
        singly = np.concatenate([sound.model.predict(x[place : place + 1]) for place in range(len(x))])
        np.testing.assert_allclose(singly, sound.score[:8], rtol=1e-4, atol=1e-5)

    def test_the_same_seed_gives_the_same_model(self, kind: TaskKind, data: TrainingData, sound: Fit) -> None:
        """Bit by bit, and the rows are left as they were; the export of one task is compared too."""
        before = (data.train.x.copy(), data.train.y.copy(), data.validation.x.copy())
        again = fit(self.estimator(kind), data)
        assert again.score.tobytes() == sound.score.tobytes()
        assert again.told == sound.told
        if kind == self.tasks[0]:
            assert again.onnx == sound.onnx
        for old, new in zip(before, (data.train.x, data.train.y, data.validation.x), strict=True):
            np.testing.assert_array_equal(old, new)

    def test_two_threads_do_as_well(self, kind: TaskKind, data: TrainingData, sound: Fit) -> None:
        """More threads give a model that is as good: looked at for one task."""
        if kind != self.tasks[0]:
            return
        told, alone = fit(self.estimator(kind), data, threads=2).score, sound.score
        metric, y = data.metric, data.validation.y
        np.testing.assert_allclose(metric.of(y, told), metric.of(y, alone), rtol=0.1)

    # -- what it exports

    def test_the_export_is_the_model(self, sound: Fit, capfd: pytest.CaptureFixture[str]) -> None:
        """ONNX Runtime gives the same scores, for missing and unseen values too; and nothing is printed."""
        assert sound.onnx
        assert capfd.readouterr() == ("", "")
        scorer = Scorer.of(sound.data.encoder, sound.onnx, task=sound.data.task)
        verify(scorer, sound.model, sound.data.validation.x, sound.data.task)
        assert b".py" not in sound.onnx, "an export tells nothing of the machine it was made on"

    # -- what it tells

    def test_reports_rise_in_steps(self, sound: Fit) -> None:
        """Steps count up from 1 or above, and values are the metric's."""
        steps, values = zip(*sound.told, strict=True)
        assert steps[0] >= 1
        assert list(steps) == sorted(set(steps))
        assert all(math.isfinite(value) for value in values)

    def test_a_reporter_ends_the_fit(self, kind: TaskKind, data: TrainingData) -> None:
        """Pruned passes, at the first report."""
        heard = []

        def report(step: int, value: float) -> None:
            heard.append(step)
            raise Pruned

        with pytest.raises(Pruned):
            self.estimator(kind).fit(data, FitContext(report=report))
        assert len(heard) == 1

    @pytest.mark.parametrize("rising", [False, True], ids=["falling", "rising"])
    def test_the_best_by_a_metric_of_ones_own_is_kept(self, kind: TaskKind, data: TrainingData, rising: bool) -> None:
        """Whichever way the metric goes, the model is at least as good as the best that was told."""
        mine = estimator_cases.beside(data, rising=rising)
        found = fit(self.estimator(kind), mine)
        metric = mine.metric
        best = max(metric.signed(value) for _, value in found.told)
        kept = metric.signed(metric.of(data.validation.y, found.score))
        assert kept >= best - 1e-4 * abs(best)

    # -- how it goes on

    @pytest.mark.parametrize("cut", [1, 2])
    def test_a_cut_fit_goes_on_bit_by_bit(self, kind: TaskKind, data: TrainingData, sound: Fit, cut: int) -> None:
        """Cut after a checkpoint and begun again, it is the model of the undisturbed fit."""
        kept = Checkpointed(cut)
        try:
            fit(self.estimator(kind), data, checkpoints=kept)
        except Cut:
            resumed = fit(self.estimator(kind), data, checkpoints=Checkpointed(files=kept.files))
            assert resumed.score.tobytes() == sound.score.tobytes()
            assert not resumed.told or resumed.told[-1] == sound.told[-1]
        else:
            assert len(kept.steps) < cut

    def test_checkpoints_change_nothing(self, kind: TaskKind, data: TrainingData, sound: Fit) -> None:
        """A fit that saves is the fit that does not."""
        assert fit(self.estimator(kind), data, checkpoints=Checkpointed()).score.tobytes() == sound.score.tobytes()

    # -- what it is told to weigh

    def test_balanced_classes_raise_the_rare_one(self, kind: TaskKind, data: TrainingData, sound: Fit) -> None:
        """With weights, the rarest class gets higher probabilities in sum."""
        weighted = self.weighted(kind)
        if weighted is None or kind not in ("binary", "multiclass"):
            pytest.skip("no class weights here")
        rare = int(np.bincount(data.train.y.astype(int)).argmin())
        told = fit(weighted, data).score
        plain, raised = (score if kind == "binary" else score[:, rare] for score in (sound.score, told))
        assert rare == 1 or kind == "multiclass"
        assert raised.mean() > plain.mean()

    # -- what it bears

    def test_hard_columns_are_borne(self, kind: TaskKind, strained: Fit) -> None:
        """No value, one value, infinite and very wide values, unseen categories: it learns, and one export agrees."""
        data = strained.data
        assert np.isfinite(strained.score).all()
        assert data.metric.signed(data.metric.of(data.validation.y, strained.score)) > data.metric.signed(
            data.metric.of(data.validation.y, estimator_cases.constant_score(data))
        )
        if kind == self.tasks[0]:
            scorer = Scorer.of(data.encoder, strained.onnx, task=data.task)
            verify(scorer, strained.model, data.validation.x, data.task)

    @pytest.mark.parametrize("columns", ["numbers", "categories", "vector"])
    def test_columns_of_one_kind_will_do(self, kind: TaskKind, columns: str) -> None:
        """No feature of a kind is no fault."""
        found = fit(self.estimator(kind), estimator_cases.of_one_kind(kind, columns))
        assert np.isfinite(found.score).all()

    def test_a_label_that_is_no_number_is_refused(self, kind: TaskKind, data: TrainingData) -> None:
        """TrainingError, not a model of nonsense."""
        y = data.train.y.copy()
        y[3] = np.nan
        with pytest.raises(TrainingError):
            fit(self.estimator(kind), estimator_cases.with_labels(data, y))

    @pytest.mark.parametrize("y", [0.0, 1.0])
    def test_one_class_only(self, kind: TaskKind, data: TrainingData, y: float) -> None:
        """One label in all rows: a model all the same, or a TrainingError."""
        self._borne(kind, estimator_cases.with_labels(data, np.full_like(data.train.y, y)))

    def test_one_row(self, kind: TaskKind, data: TrainingData) -> None:
        """One training row: a model all the same, or a TrainingError."""
        self._borne(kind, estimator_cases.with_labels(data, data.train.y, rows=1))

    def test_a_part_that_does_not_fit(self, kind: TaskKind, data: TrainingData) -> None:
        """Rows that are streamed: a model all the same, or a TrainingError."""
        assert not isinstance(estimator_cases.streamed(kind).train, Matrix)
        self._borne(kind, estimator_cases.streamed(kind))

    def _borne(self, kind: TaskKind, data: TrainingData) -> None:
        try:
            found = fit(self.estimator(kind), data)
        except TrainingError:
            return
        assert np.isfinite(found.score).all()
