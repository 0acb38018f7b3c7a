"""Slices as rules: what is tested, what is adjusted for, and how the rule comes out."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import binom

from benchmarks.gate_statistics import SETTINGS, measured_by, slices, truths
from tests.unit.gate.test_metrics import simulate
from trunkline.errors import ProjectError
from trunkline.gate.evidence import Evidence
from trunkline.gate.policy import GatePolicy
from trunkline.gate.quality import measure_quality
from trunkline.gate.rule import RuleResult
from trunkline.gate.slices import MOST_VALUES, SliceColumn
from trunkline.gate.verdict import judge
from trunkline.project.deploy import Deployment, DeploymentFile, policy_digest, read_deployment

Floats = npt.NDArray[np.float64]
LABELS = tuple(map(str, range(100)))


@pytest.mark.parametrize("setting", [SETTINGS[0], SETTINGS[4], SETTINGS[7]], ids=["binary", "classes", "numbers"])
def test_of_20_slices_that_lose_the_bound_none_is_said_to_lose_more(setting: object) -> None:
    """In 95% of trials; a slice whose scores are those of other rows is found in nearly all."""
    chosen = next(each for each in SETTINGS if each is setting)
    bound = truths(chosen, 1, 400_000)[measured_by(chosen.task)].loss
    assert slices(chosen, bound, 2_000, 60) <= binom.ppf(1 - 0.5e-4, 60, 0.05)
    assert slices(chosen, bound, 4_000, 10, disaster=True) >= 9


def judged(bound: float | None, champion: bool = True, **columns: npt.NDArray[np.int64]) -> list[RuleResult]:
    outcome, scores = simulate(1, len(next(iter(columns.values()))))
    cut = {name: SliceColumn(codes, LABELS, bound) for name, codes in columns.items()}
    quality = measure_quality(outcome, scores[0], scores[1] if champion else None, cut)
    policy = msgspec.convert({"slices": {name: {"may_lose": bound} for name in columns}}, GatePolicy)
    return list(judge(Evidence(quality), policy).rules)


def test_a_disaster_in_one_slice_is_named_in_numbers() -> None:
    outcome, (champion, _) = simulate(1, 6_000)
    codes = np.random.default_rng(0).integers(0, 12, 6_000)
    candidate = champion.copy()
    candidate[codes == 3] = 1 - champion[codes == 3]
    cut = {"carrier": SliceColumn(codes, LABELS, 0.05), "origin": SliceColumn(codes[::-1].copy(), LABELS)}
    quality = measure_quality(outcome, candidate, champion, cut)
    (rule,) = judge(Evidence(quality), msgspec.convert({"slices": {"carrier": {"may_lose": 0.05}}}, GatePolicy)).rules
    assert (rule.name, rule.status, rule.bound) == ("slices.carrier.may_lose", "fail", 0.05)
    assert rule.why.startswith("1 of 12 slices lose more, with 95% confidence; the clearest, of ")
    assert "after Holm over 12" in rule.why
    bad = [each for each in quality.slices if each.p is not None and each.p <= 0.05]
    assert [(each.column, each.value) for each in bad] == [("carrier", "3")]
    assert all(each.p is None for each in quality.slices if each.column == "origin")


def test_few_rows_do_not_block_and_are_tested_together() -> None:
    """Sixty values of some 8 rows each: none can be tested, all of them together can."""
    codes = np.r_[np.zeros(1_500, np.int64), 1 + np.arange(500) % 60]
    (rule,) = judged(0.2, tail=codes)
    assert rule.status == "pass"
    assert rule.why.startswith("none of 2 slices is shown to lose more; the closest to it, of ")
    outcome, (champion, _) = simulate(1, 2_000)
    candidate = np.where(codes > 0, 1 - champion, champion)
    quality = measure_quality(outcome, candidate, champion, {"tail": SliceColumn(codes, LABELS, 0.2)})
    (test,) = quality.slice_tests
    assert (test.slices, test.beyond, test.untested) == (2, 1, 0)
    (pool,) = [each for each in quality.slices if each.others]
    assert (pool.others, pool.rows) == (60, 500)


def test_values_beyond_those_that_are_shown_are_tested_and_shown_if_they_lose() -> None:
    outcome, (champion, _) = simulate(2, 12_000)
    codes = np.r_[np.repeat(np.arange(40), 290), np.full(400, 41)]
    codes = np.where(codes == 39, 0, codes)
    candidate = np.where(codes == 38, 1 - champion, champion)
    quality = measure_quality(outcome, candidate, champion, {"tail": SliceColumn(codes, LABELS, 0.1)})
    (test,) = quality.slice_tests
    assert (test.slices, test.beyond) == (40, 1)
    assert len(quality.slices) == MOST_VALUES + 1
    assert quality.slices[-1].value == "38"


def test_where_no_slice_can_be_tested_the_rule_says_how_many_rows_would() -> None:
    (rule,) = judged(0.1, tail=np.arange(60) % 5)
    assert (rule.status, rule.value) == ("undecided", None)
    assert "about " in rule.why
    assert " rows would have one that has (60 now)" in rule.why


def test_without_a_champion_nothing_is_lost() -> None:
    (rule,) = judged(0.1, champion=False, tail=np.arange(600) % 5)
    assert (rule.status, rule.why) == ("pass", "there is no champion to lose against")


def test_columns_share_one_family() -> None:
    codes = np.arange(2_000) % 4
    rules = judged(0.1, a=codes, b=np.arange(2_000) // 500)
    assert all("after Holm over 8" in rule.why for rule in rules)


def written(folder: Path, slices: str) -> Deployment:
    (folder / "m.yml").write_text(f"deployment: m\ngate:\n  looks: 9\n  slices:\n{slices}")
    return read_deployment(folder / "m.yml")


def test_slices_are_a_list_or_have_rules(tmp_path: Path) -> None:
    shown = written(tmp_path, "    [carrier, origin]\n").spec.gate.slice_rules
    assert {name: rule.may_lose for name, rule in shown.items()} == {"carrier": None, "origin": None}
    ruled = written(tmp_path, "    carrier: {may_lose: 0.02}\n    origin: {}\n").spec.gate.slice_rules
    assert {name: rule.may_lose for name, rule in ruled.items()} == {"carrier": 0.02, "origin": None}


@pytest.mark.parametrize(
    ("slices", "line", "says"),
    [
        ("    origin: {}\n    carrier: {may_loose: 0.02}\n", 6, "unknown key 'may_loose'. Did you mean 'may_lose'"),
        ("    carrier: {may_lose: much}\n", 4, "Expected 'float | null', got 'str'"),
        ("    carrier: {may_lose: -0.1}\n", 4, "may_lose must be 0 or more"),
        ("    carrier: {may_lose: .nan}\n", 4, "may_lose must be 0 or more"),
        ("    7\n", 4, "got 'int'"),
    ],
)
def test_mistakes_have_a_line(tmp_path: Path, slices: str, line: int, says: str) -> None:
    with pytest.raises(ProjectError, match=says) as caught:
        written(tmp_path, slices)
    assert caught.value.line in (line, line - 1)


def test_the_digest_is_of_the_rules_alone(tmp_path: Path) -> None:
    def digest(gate: object) -> str:
        spec = msgspec.convert({"deployment": "m", "gate": gate}, DeploymentFile)
        return policy_digest(Deployment("m", spec, tmp_path, 1))

    one = digest({"metrics": {"rmse": {"at_most": 3}}, "slices": {"a": {"may_lose": 0.1}}})
    assert one == digest({"slices": {"a": {"may_lose": 0.10}}, "metrics": {"rmse": {"at_most": 3.0}}})
    assert one != digest({"metrics": {"rmse": {"at_most": 3}}, "slices": {"a": {"may_lose": 0.2}}})
    assert one != digest({"metrics": {"rmse": {"at_most": 3}}, "slices": ["a"]})
