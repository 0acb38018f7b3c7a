"""Leakage probes: a quick run of benchmarks/leakage.py that can fail, and what can be set."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import leakage
from trunkline.context import StepContext
from trunkline.datasets.findings import Finding
from trunkline.errors import DatasetError
from trunkline.project import probes
from trunkline.project.declare import Dataset
from trunkline.project.split import by_key

LEAKS = {leak.what: leak for leak in leakage.LEAKS}


@pytest.fixture(scope="module")
def ctx() -> Iterator[StepContext]:
    with leakage.workplace() as opened:
        yield opened


@pytest.fixture(scope="module")
def flights() -> leakage.Data:
    return leakage.flights(6_000, 0)


@pytest.fixture(scope="module")
def cancer() -> leakage.Data:
    return leakage.cancer(0, 0)


def _warned(findings: list[Finding]) -> list[tuple[str, str | None]]:
    return [(finding.probe, finding.column) for finding in leakage.alarms(findings)]


def test_untouched_data_are_not_suspected(ctx: StepContext, flights: leakage.Data, cancer: leakage.Data) -> None:
    for data in (flights, cancer):
        findings = leakage.build(ctx, data)
        assert leakage.alarms(findings) == []
        assert {finding.probe for finding in findings} == set(probes.DEFAULTS)


# Several leaks in one dataset: each probe finds its own.
PLANTED = [
    (
        "cancer",
        {"missing for a share of one class": 0.4, "copies of a share of rows": 0.2, "keys in another spelling": 0.1},
    ),
    ("cancer", {"the label, in a share of rows": 1.0, "groups in another spelling": 0.2}),
    ("flights", {"times after the prediction": 0.01, "missing in a share of the training part": 0.6}),
    ("flights", {"values changed since a snapshot": 0.1}),
]


@pytest.mark.parametrize(("name", "whats"), PLANTED, ids=[", ".join(p[1]) for p in PLANTED])
def test_planted_leaks_are_found(
    ctx: StepContext, request: pytest.FixtureRequest, name: str, whats: dict[str, float]
) -> None:
    data, dice = request.getfixturevalue(name), np.random.default_rng(0)
    for number, (what, strength) in enumerate(whats.items()):
        planted = LEAKS[what].plant(data, strength, dice)
        assert planted is not None
        data = _renamed(planted, f"leak{number}") if len(whats) > 1 else planted
    findings = leakage.alarms(leakage.build(ctx, data))
    for number, what in enumerate(whats):
        column = f"`leak{number}`" if len(whats) > 1 else "`leak`"
        named = [f for f in findings if f.probe == LEAKS[what].probe and (not LEAKS[what].column or column in f.text)]
        assert named, (what, findings)


def _renamed(data: leakage.Data, name: str) -> leakage.Data:
    return replace(data, table=data.table.rename(columns={"leak": name}))


def test_a_leak_that_people_make_is_found_and_stops_the_build_if_asked(ctx: StepContext, flights: leakage.Data) -> None:
    asked: dict[str, Any] = {**dict.fromkeys(probes.DEFAULTS, "off"), "single_feature": "fail"}
    leaky = replace(flights, leaks=(), probes=asked)
    with pytest.raises(DatasetError, match="`departure_delay` alone predicts `late`, with an AUC of 0.9"):
        leakage.build(ctx, leaky)
    known = {"outcome": "fail", "ignore": ["departure_delay"]}
    (only,) = leakage.build(ctx, replace(leaky, probes={**asked, "single_feature": known}))
    assert (only.probe, only.outcome) == ("single_feature", "ok")
    assert only.bars is not None
    assert "departure_delay" not in only.bars.labels


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"single_featur": "off"}, "has no probe 'single_featur'. Did you mean 'single_feature'"),
    ({"adversarial": "of"}, "outcome='of'; outcome is one of warn, fail, off"),
    ({"adversarial": 3}, "3 is neither one of warn, fail, off nor a dict"),
    ({"adversarial": {"at_most": 7}}, "at_most=7; at_most is a number of 0 to 1"),
    ({"adversarial": {"atmost": 0.5}}, "atmost=0.5; it takes outcome, at_most, ignore, columns"),
    ({"adversarial": {"ignore": ["aa"]}}, "ignore 'aa', which is no feature. Did you mean 'aaa'"),
]


@pytest.mark.parametrize(("written", "message"), WRONG, ids=[str(w[0]) for w in WRONG])
def test_wrong_settings_are_refused_where_they_are_written(written: dict[str, Any], message: str) -> None:
    with pytest.raises(DatasetError) as caught:
        Dataset("mart", key="id", target="late", groups={"one": ["aaa"]}, split=by_key(), probes=written)
    assert message in caught.value.what
    assert Path(str(caught.value.file)).name == "test_probes.py"
