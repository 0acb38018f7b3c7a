"""Do the gate's intervals and rules hold what they say? By simulation, with bootstraps beside them.

    python benchmarks/gate_statistics.py [--trials 1000] [--rows 200 500 5000]

1. Each task's metrics on rows drawn anew `--trials` times, of two models whose true loss is known from 3 million rows:
   how often `may_lose` passes (and fails) where that true loss is just the bound, which may be 5%, and how often the
   95% intervals of metric and loss hold the truth.
2. The same of log loss and average precision by four other ways.
3. Power: how often two equally good models pass, by rows and bound.
4. Slices: how often any of 20 is said to lose too much where all lose just the bound (5% at most), and how often one
   that loses far more is found.
5. Calibration error: how often its limits hold.
6. How often a rule decides with the number of rows that an undecided one names.
7. How often the 95% intervals hold where a class has few rows.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import log

import numpy as np
import numpy.typing as npt

from trunkline.gate import measures
from trunkline.gate.calibration import calibrate
from trunkline.gate.evidence import Loss, MetricEvidence, Quality
from trunkline.gate.intervals import Measured, Spread
from trunkline.gate.metrics import areas_against_rest, delong
from trunkline.gate.needed import rows_needed
from trunkline.gate.policy import Goal, goodness
from trunkline.gate.quality import Standard, measure_quality
from trunkline.gate.slices import SliceColumn
from trunkline.models.task import Task

Floats = npt.NDArray[np.float64]
Outcome = npt.NDArray[np.generic]
Draw = Callable[[np.random.Generator, int], tuple[Outcome, Floats]]
"""Outcomes [n] and the scores of candidate and champion, [2, n] or [2, n, k]."""
BINARY, CLASSES = Task(), Task("multiclass", classes=("a", "b", "c", "d"))
NUMBER, SPREAD = Task("regression"), Task("quantile", quantiles=(0.1, 0.5, 0.9))


def binary(
    share: float, noise: tuple[float, float] = (0.6, 0.3), apart: float = 1.5, digits: int | None = None
) -> Draw:
    """Two models that see the same noisy sign of the outcome, each through noise of its own; the first is too sure."""

    apart = 1.5  # standard deviations

    def draw(of: np.random.Generator, n: int) -> tuple[Outcome, Floats]:
        outcome = of.random(n) < share
        sign = apart * outcome + of.normal(size=n)
        of_model = np.array(noise)[:, None]
        seen = sign + of_model * of.normal(size=(2, n))
        logit = apart * (seen - apart / 2) / (1 + of_model**2) * [[1.6], [1.0]] + log(share / (1 - share))
        score = 1 / (1 + np.exp(-np.clip(logit, -12, 12)))
        return outcome, score if digits is None else np.clip(score.round(digits), 0.001, 0.999)

    return draw


def classes(of: np.random.Generator, n: int) -> tuple[Outcome, Floats]:
    """Four classes, one of them rare."""
    place = of.choice(4, n, p=[0.1, 0.2, 0.3, 0.4])
    logits = (
        1.5 * np.eye(4)[place] + of.normal(size=(n, 4)) + of.normal(0, np.array([0.9, 0.6])[:, None, None], (2, n, 4))
    )
    score = np.exp(logits)
    return place, score / score.sum(axis=2, keepdims=True)


def numbers(errors: Callable[[np.random.Generator, int], Floats]) -> Draw:
    """Numbers whose errors are mostly the same for both models."""

    def draw(of: np.random.Generator, n: int) -> tuple[Outcome, Floats]:
        known = 3 * of.normal(size=n)
        return known + errors(of, n), known + of.normal(0, [[0.6], [0.3]], (2, n))

    return draw


def quantiles(of: np.random.Generator, n: int) -> tuple[Outcome, Floats]:
    """The champion's quantiles are right, the candidate's too low."""
    known = of.normal(size=n)
    z = np.array([-1.2815515655446004, 0.0, 1.2815515655446004])
    right = known[:, None] + z
    return known + of.normal(size=n), np.array([right - 0.15 + 0.2 * of.normal(size=(n, 1)), right])


@dataclass(frozen=True)
class Setting:
    """What rows are drawn from."""

    name: str
    task: Task
    draw: Draw


SETTINGS = (
    Setting("30% positive", BINARY, binary(0.3)),
    Setting("30% positive, candidate better", BINARY, binary(0.3, (0.3, 0.6))),
    Setting("10% positive", BINARY, binary(0.1)),
    Setting("20% positive, ten scores", BINARY, binary(0.2, digits=1)),
    Setting("four classes", CLASSES, classes),
    Setting("numbers, normal errors", NUMBER, numbers(lambda of, n: of.normal(size=n))),
    Setting("numbers, t(5) errors", NUMBER, numbers(lambda of, n: of.standard_t(5, n))),
    Setting("numbers, lognormal errors", NUMBER, numbers(lambda of, n: np.exp(0.7 * of.normal(size=n)))),
    Setting("quantiles", SPREAD, quantiles),
)


@dataclass(frozen=True)
class Truth:
    """A metric of both models on all rows there could be."""

    goal: Goal
    candidate: float
    champion: float

    @property
    def loss(self) -> float:
        """What the candidate truly loses."""
        return float(goodness(self.goal, self.champion) - goodness(self.goal, self.candidate))


def truths(setting: Setting, parts: int = 3, rows: int = 1_000_000) -> dict[str, Truth]:
    """Means over `parts` times so many rows."""
    found: dict[str, list[MetricEvidence]] = {}
    for part in range(parts):
        outcome, scores = setting.draw(np.random.default_rng([17, part]), rows)
        for metric in measured(setting.task, outcome, scores).metrics:
            found.setdefault(metric.name, []).append(metric)
    return {
        name: Truth(
            of[0].goal,
            float(np.mean([each.candidate.value for each in of])),
            float(np.mean([each.champion.value for each in of if each.champion])),
        )
        for name, of in found.items()
    }


def measured(task: Task, outcome: Outcome, scores: Floats, columns: Mapping[str, SliceColumn] | None = None) -> Quality:
    """The gate's own evidence."""
    return measure_quality(outcome, scores[0], scores[1], columns or {}, by=Standard(task))


@dataclass
class Counts:
    """Of so many trials, how often."""

    trials: int = 0
    passed: int = 0
    failed: int = 0
    covered: int = 0
    covered_loss: int = 0

    def add(self, truth: Truth, found: MetricEvidence) -> None:
        """Count one trial."""
        loss = found.loss
        assert loss is not None
        self.trials += 1
        self.passed += loss.at_most <= truth.loss
        self.failed += loss.at_least > truth.loss
        self.covered += found.candidate.low <= truth.candidate <= found.candidate.high
        self.covered_loss += loss.low <= truth.loss <= loss.high


def simulate(setting: Setting, truth: Mapping[str, Truth], rows: int, trials: int) -> dict[str, Counts]:
    """Counts of every metric of the setting's task."""
    counts = {name: Counts() for name in truth}
    for trial in range(trials):
        outcome, scores = setting.draw(np.random.default_rng([rows, trial]), rows)
        for metric in measured(setting.task, outcome, scores).metrics:
            counts[metric.name].add(truth[metric.name], metric)
    return counts


WAYS = ("ours", "Student", "percentile", "BCa", "bootstrap-t")


def other_ways(rows: int, trials: int, resamples: int = 400) -> dict[str, dict[str, int]]:
    """How often the loss of log loss, and of average precision, passes at its true value, by each way."""
    setting = SETTINGS[2]
    truth = truths(setting)
    makers = {"log_loss": measures.log_loss, "average_precision": measures.average_precision}
    passed = {name: dict.fromkeys(WAYS, 0) for name in makers}
    for trial in range(trials):
        of = np.random.default_rng([rows, trial])
        outcome, scores = setting.draw(of, rows)
        drawn = of.integers(0, rows, (resamples, rows))
        for name, make in makers.items():
            candidate, champion = (make(outcome.astype(np.bool_), score) for score in scores)
            goal = truth[name].goal
            value, _ = candidate.lost(champion, goal)
            each = (champion.each - candidate.each) * (1 if goal == "higher" else -1)
            for way, limit in upper_limits(value, each, drawn).items():
                passed[name][way] += limit <= truth[name].loss
            passed[name]["ours"] += candidate.loss(champion, goal).at_most <= truth[name].loss
    return passed


def upper_limits(value: float, each: Floats, drawn: npt.NDArray[np.int64]) -> dict[str, float]:
    """One-sided 95% upper limits of a mean, from resamples of the rows, [b, n]."""
    from scipy.special import ndtr, ndtri, stdtrit

    n, error = len(each), Spread.of(each).error
    taken = each[drawn]
    means = taken.mean(axis=1) + (value - each.mean())
    errors = np.maximum(taken.std(axis=1, ddof=1) / n**0.5, 1e-300)
    centred = each - each.mean()
    a = float((centred**3).sum() / (6 * (centred**2).sum() ** 1.5))
    z0 = float(ndtri(np.clip((means < value).mean(), 0.002, 0.998)))
    level = float(ndtr(z0 + (z0 + 1.6449) / (1 - a * (z0 + 1.6449))))
    return {
        "Student": value + float(stdtrit(n - 1, 0.95)) * error,
        "percentile": float(np.quantile(means, 0.95)),
        "BCa": float(np.quantile(means, level)),
        "bootstrap-t": value - float(np.quantile((means - value) / errors, 0.05)) * error,
    }


def power(rows: int, bounds: tuple[float, ...], trials: int) -> dict[float, int]:
    """How often two models of the same ROC AUC, 0.84, pass."""
    draw = binary(0.3, (0.4, 0.4))
    passed = dict.fromkeys(bounds, 0)
    for trial in range(trials):
        outcome, scores = draw(np.random.default_rng([rows, trial]), rows)
        areas = delong(outcome.astype(np.bool_), scores)
        limit = areas.measured(0).loss(areas.measured(1), "higher").at_most
        for bound in bounds:
            passed[bound] += limit <= bound
    return passed


def slices(setting: Setting, bound: float, rows: int, trials: int, *, disaster: bool = False) -> int:
    """In how many trials any of 20 slices of two columns is said to lose more than `bound`: the true loss of all.

    With `disaster`, in one of the slices, a tenth of its column, the candidate's scores are those of other rows.
    """
    found = 0
    for trial in range(trials):
        of = np.random.default_rng([rows, trial, 5])
        outcome, scores = setting.draw(of, rows)
        codes = of.integers(0, 10, (2, rows))
        if disaster:
            inside = np.flatnonzero(codes[0] == 0)
            scores[0, inside] = scores[0, of.permutation(inside)]
        labels = tuple(map(str, range(10)))
        columns = {name: SliceColumn(code, labels, bound) for name, code in zip("ab", codes, strict=True)}
        found += any(test.beyond for test in measured(setting.task, outcome, scores, columns).slice_tests)
    return found


def measured_by(task: Task) -> str:
    """The metric of slices."""
    return {"binary": "roc_auc", "multiclass": "log_loss", "regression": "rmse"}.get(task.kind, "pinball_loss")


def calibration(rows: int, trials: int, off: float) -> tuple[int, int, float, float]:
    """Trials whose upper and whose lower limit is wrong, the mean of both estimates; and the truth.

    Scores are uniform; the rate of positives is a share `off` closer to one half than they say.
    """
    truth = 0.25 * off  # of bins that lie on one side of one half, as ten do
    high = low = 0
    plain, beyond_chance = [], []
    for trial in range(trials):
        of = np.random.default_rng([rows, trial, 6])
        score = of.random(rows)
        found = calibrate(of.random(rows) < score + off * (0.5 - score), score)
        assert found.beyond_chance is not None
        assert found.at_most is not None
        assert found.at_least is not None
        high += found.at_most < truth
        low += found.at_least > truth
        plain.append(found.ece)
        beyond_chance.append(found.beyond_chance.value)
    return high, low, float(np.mean(plain)), float(np.mean(beyond_chance))


def decided(rows: int, bound: float, trials: int) -> tuple[int, int]:
    """The rows that an undecided rule names, and of so many trials with them how many decide.

    The rule is judged on the trial of `rows` whose loss is closest to the true one, so that it stays so.
    """
    setting = SETTINGS[0]
    truth = truths(setting, 1, 300_000)["log_loss"]
    losses = []
    for trial in range(200):
        loss = _lost(setting, np.random.default_rng([rows, trial, 7]), rows)
        losses.append((abs(loss.value - truth.loss), trial, loss))
    typical = min(losses)[2]
    needed = round(rows_needed(typical, bound, rows, "lower") or 0)
    found = (_lost(setting, np.random.default_rng([needed, trial, 8]), needed) for trial in range(trials))
    return needed, sum(loss.at_most <= bound or loss.at_least > bound for loss in found)


def _lost(setting: Setting, of: np.random.Generator, rows: int) -> Loss:
    outcome, scores = setting.draw(of, rows)
    candidate, champion = (measures.log_loss(outcome.astype(np.bool_), score) for score in scores)
    return candidate.loss(champion, "lower")


@dataclass(frozen=True)
class Few:
    """A metric where a class has so few `rows` of 1,000, and a share of them is right. Two models mostly agree."""

    name: str
    rows: int
    share: float

    def covered(self, trials: int) -> tuple[int, int]:
        """In how many trials the interval of the metric, and that of the loss, holds the truth.

        The models are drawn alike, so the loss is none, and the metric's true value the mean of all trials.
        """
        found = [self._trial(np.random.default_rng([self.rows, trial, 9])) for trial in range(trials)]
        truth = float(np.mean([candidate.value for candidate, _ in found]))
        estimates = [candidate.estimate() for candidate, _ in found]
        losses = [candidate.loss(champion, "higher") for candidate, champion in found]
        covered = sum(estimate.low <= truth <= estimate.high for estimate in estimates)
        return covered, sum(loss.low <= 0 <= loss.high for loss in losses)

    def _trial(self, of: np.random.Generator, n: int = 1_000) -> tuple[Measured, Measured]:
        inside, known = np.arange(n) < self.rows, of.random(n) < self.share
        right = [np.where(of.random(n) < 0.1, of.random(n) < self.share, known) for _ in range(2)]
        if self.name in ("macro_f1", "roc_auc_ovr"):
            place = np.where(inside, 0, 1 + np.arange(n) % 2)
            first, second = (np.eye(3)[np.where(inside & ~one, 1, place)] for one in right)
            if self.name == "macro_f1":
                return measures.macro_f1(place, first), measures.macro_f1(place, second)
            areas = areas_against_rest(place, [first, second])
            return areas.measured(0), areas.measured(1)
        first, second = (of.random(n) * 0.9 + (inside & one) for one in right)
        if self.name == "roc_auc":
            areas = delong(inside, np.array([first, second]))
            return areas.measured(0), areas.measured(1)
        return measures.average_precision(inside, first), measures.average_precision(inside, second)


FEW = (
    *(Few(name, rows, 0.9) for name in ("average_precision", "roc_auc") for rows in (5, 10, 20, 50)),
    *(Few(name, rows, 0.8) for name in ("macro_f1", "roc_auc_ovr") for rows in (5, 10, 20)),
)


def main() -> None:
    """Prints a table for each question."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=1_000)
    parser.add_argument("--rows", type=int, nargs="+", default=[200, 500, 5_000])
    options = parser.parse_args()
    trials: int = options.trials
    print(f"{trials:,} trials; passes and fails where the true loss is the bound: 5% at most; intervals: 95%")
    print(f"{'':32}{'metric':18}{'rows':>6}{'passes':>9}{'fails':>8}{'interval':>10}{'of loss':>9}")
    for setting in SETTINGS:
        truth = truths(setting)
        for rows in options.rows:
            for name, found in simulate(setting, truth, rows, trials).items():
                shares = [found.passed, found.failed, found.covered, found.covered_loss]
                widths = zip(shares, (9, 8, 10, 9), strict=True)
                told = "".join(f"{share / found.trials:>{width}.1%}" for share, width in widths)
                print(f"{setting.name:32}{name:18}{rows:>6}{told}", flush=True)
    print("\npasses where the true loss is the bound, 10% positive, by")
    for rows in (200, 1_000):
        for name, passed in other_ways(rows, trials).items():
            print(
                f"  {name:18}{rows:>6}  " + ", ".join(f"{way} {passed[way] / trials:.1%}" for way in WAYS), flush=True
            )
    bounds = (0.003, 0.01, 0.02)
    print("\nROC AUC of two equally good models: passes with may_lose " + ", ".join(map(str, bounds)))
    fewer = max(trials // 5, 1)
    for rows in (1_000, 5_000, 20_000, 50_000):
        shares_passed = [f"{passed / fewer:.0%}" for passed in power(rows, bounds, fewer).values()]
        print(f"  {rows:>6} rows: " + ", ".join(shares_passed), flush=True)
    print("\nany of 20 slices of 2,000 and 10,000 rows said to lose too much: all lose the bound; one is a disaster")
    for setting in (SETTINGS[1], SETTINGS[0], SETTINGS[4], SETTINGS[6], SETTINGS[8]):
        lost = truths(setting)[measured_by(setting.task)].loss
        rates = [
            f"{slices(setting, lost, rows, count, disaster=disaster) / count:.1%}"
            for rows in (2_000, 10_000)
            for disaster, count in ((False, trials), (True, fewer))
        ]
        print(f"  {setting.name:32}" + ", ".join(rates), flush=True)
    print("\ncalibration error: upper limit wrong, lower limit wrong, mean as it is, mean beyond chance, truth")
    for rows in (200, 1_000, 10_000):
        for off in (0.0, 0.05, 0.2):
            high, low, plain, beyond_chance = calibration(rows, trials, off)
            wrong = f"{high / trials:.1%}, {low / trials:.1%}"
            print(f"  {rows:>6} rows: {wrong}, {plain:.4f}, {beyond_chance:.4f}, {off / 4:.4f}")
    print("\nwith the rows that an undecided rule names it decides")
    for bound in (0.03, 0.1):
        needed, count = decided(200, bound, trials)
        print(f"  bound {bound}: {needed:,} rows, {count / trials:.0%}")
    print("\nfew rows of a class, of 1,000: the interval of the metric holds, that of the loss")
    for few in FEW:
        shares_covered = ", ".join(f"{count / trials:.1%}" for count in few.covered(trials))
        print(f"  {few.name:18}{few.rows:>4}, {few.share:.0%} of them right: {shares_covered}", flush=True)


if __name__ == "__main__":
    main()
