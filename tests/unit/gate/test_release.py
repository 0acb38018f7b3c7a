"""What is shown of a look: all of it, or by the Ladder, and then the same in every place."""

from __future__ import annotations

from dataclasses import replace
from math import isnan

import pytest

from tests.unit.gate.test_report import EVIDENCE, POLICY, QUALITY, REPORT
from trunkline.datasets.sealed import Shown, Standing
from trunkline.gate.evidence import Estimate
from trunkline.gate.release import WITHHELD, release
from trunkline.gate.report import Looks, to_json
from trunkline.gate.report_markdown import to_markdown
from trunkline.gate.verdict import judge

VERDICT = judge(EVIDENCE, POLICY)


def shown(value: float, metric: str = "roc_auc") -> Shown:
    return Shown("5ha", metric, value, value - 0.0056, value + 0.0056)


def test_with_many_looks_left_everything_is_shown() -> None:
    for standing in (None, Standing(75, 100, (shown(0.9),))):
        found = release(EVIDENCE, VERDICT, standing)
        assert (found.evidence, found.verdict, found.withheld) == (EVIDENCE, VERDICT, ())
        assert found.to_json()["metrics"]["roc_auc"] == {"value": 0.7712, "low": 0.7655, "high": 0.7768, "own": True}


# EVIDENCE has roc_auc 0.7712 with a standard error of 0.0029
@pytest.mark.parametrize(("best", "withheld"), [(0.7690, True), (0.7680, False), (0.8000, True)])
def test_a_score_is_shown_if_it_climbs(best: float, withheld: bool) -> None:
    found = release(EVIDENCE, VERDICT, Standing(76, 100, (shown(0.5), shown(best), shown(0.6))))
    assert found.withheld == (("roc_auc",) if withheld else ())
    (auc, brier) = found.evidence.quality.metrics
    assert auc.candidate == (
        Estimate(best, best - 0.0056, best + 0.0056) if withheld else Estimate(0.7712, 0.7655, 0.7768)
    )
    assert brier == QUALITY.metrics[1]  # the first of its kind
    assert found.to_json()["metrics"]["roc_auc"]["own"] is not withheld


def test_lower_is_better_for_some() -> None:
    best = shown(0.10, metric="brier")
    assert release(EVIDENCE, VERDICT, Standing(99, 100, (best,))).withheld == ("brier",)
    best = shown(0.13, metric="brier")
    assert release(EVIDENCE, VERDICT, Standing(99, 100, (best,))).withheld == ()


def test_what_is_withheld_is_told_nowhere() -> None:
    standing = Standing(80, 100, (shown(0.8), shown(0.1, metric="brier")))
    found = release(EVIDENCE, VERDICT, standing)
    looks = Looks(80, 100, True, found.withheld)
    report = replace(REPORT, evidence=found.evidence, verdict=found.verdict, looks=looks)
    text, data = to_markdown(report), to_json(report)
    for secret in ("0.7712", "0.0012", "0.112", "0.7724", "0.058"):  # score, loss, brier, champion, calibration
        assert secret not in text
        assert secret not in str(data)
    assert "This is look 80 of 100 at the sealed test part. Few are left" in text
    assert "Withheld scores: `roc_auc`, `brier`." in text
    assert WITHHELD in text
    assert isnan(found.evidence.quality.calibration.ece)
    assert [rule.status for rule in found.verdict.rules] == [rule.status for rule in VERDICT.rules]
