"""The report's page: it loads nothing, runs nothing, and says in tables what its drawings show."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest

from tests.unit.gate.test_markdown import HOSTILE
from tests.unit.gate.test_report import CURVES, EVIDENCE, FIRST, LOSS, QUALITY, REPORT, RICH, SERVED, named
from trunkline.datasets.sealed import Shown, Standing
from trunkline.gate.evidence import Curve, Estimate, Evidence, Loss
from trunkline.gate.policy import GatePolicy
from trunkline.gate.release import release
from trunkline.gate.report import Looks, Report, read, to_json
from trunkline.gate.report_html import to_html
from trunkline.gate.verdict import Verdict, judge

VOID = {"meta"}


class Page(HTMLParser):
    """Tags in order, with their attributes; fails where one is not closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.told: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.told.append(data)


@pytest.mark.parametrize("report", [REPORT, FIRST, RICH], ids=["report", "first", "rich"])
def test_the_page_is_whole_and_needs_nothing_else(report: Report) -> None:
    page = Page(to_html(report))
    assert not {"script", "img", "link", "iframe", "object", "base", "form"} & set(page.tags)
    policy = next(value for name, value in page.attributes if name == "content")
    assert policy == "default-src 'none'; style-src 'unsafe-inline'"
    assert all((value or "").startswith("#") for name, value in page.attributes if name in ("href", "src"))
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    drawings = [value for name, value in page.attributes if name == "aria-label"]
    assert len(drawings) == page.tags.count("svg")
    assert all(drawings)
    assert len([1 for name, value in page.attributes if (name, value) == ("scope", "col")]) > 5


def test_everything_that_was_found_is_drawn_and_told() -> None:
    page = Page(to_html(RICH))
    drawings = [value for name, value in page.attributes if name == "aria-label"]
    assert drawings == [
        "Metrics of candidate and champion",
        "ROC",
        "Precision and recall",
        "Errors by quantile",
        "Outcome by score",
        "Calibration",
        "roc_auc by slice",
        "Latency of requests of one row",
        "roc_auc of the verdicts so far",
    ]
    told = "".join(page.told)
    for words in (
        "The gate does not pass.",
        "look 7 of 100",
        "0.7712 (0.7655 to 0.7768)",
        "12 rarer values",
        "1 of 1,000 differ",
        "1.25 s",
        "1.03 (0.99 to 1.08)",
        "Not known: lock file",
        "The bundle's files take 4.51 MB.",
        "models:/delay/6: 0.7600 (0.7540 to 0.7660), refused",
        "models:/delay/8: 0.7712 (0.7655 to 0.7768), refused",
    ):
        assert words in told, words


def test_what_is_not_there_is_left_out() -> None:
    page = Page(to_html(FIRST))
    drawings = [value for name, value in page.attributes if name == "aria-label"]
    assert drawings == ["Metrics of candidate and champion", "Calibration"]
    assert "No server was measured." in page.told


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_changes_no_tag(text: str) -> None:
    plain, hostile = Page(to_html(named(RICH, "plain"))), Page(to_html(named(RICH, text)))
    # What stands between backticks is a name, so hostile text may be one more or one less.
    kept = [[tag for tag in page.tags if tag != "code"] for page in (plain, hostile)]
    assert kept[0] == kept[1]
    assert {name for name, _ in plain.attributes} == {name for name, _ in hostile.attributes}


def test_what_the_ladder_withholds_is_not_on_the_page() -> None:
    best = (Shown("5ha", "roc_auc", 0.8, 0.79, 0.81), Shown("5ha", "brier", 0.1, 0.09, 0.11))
    standing = Standing(80, 100, best)
    found = release(RICH.evidence, RICH.verdict, standing)
    looks = Looks(80, 100, True, found.withheld)
    shown = replace(RICH, evidence=found.evidence, verdict=found.verdict, looks=looks, earlier=())
    text = to_html(shown)
    for secret in ("0.7712", "0.0012", "0.1120", "0.7724", "0.058", "ROC<", "by slice"):
        assert secret not in text
    assert "Few looks are left" in text


@pytest.mark.parametrize("tiny", [5e-324, 1e-300, 1e300])
def test_a_page_is_drawn_of_any_number(tiny: float) -> None:
    """Whoever wrote the report, and however narrow the intervals and curves in it are."""
    narrow = Estimate(0.0, 0.0, tiny)
    quality = replace(
        RICH.evidence.quality,
        metrics=(replace(QUALITY.metrics[0], candidate=narrow, champion=narrow, loss=Loss(0.0, 0.0, tiny, 0.0, tiny)),),
        curves=tuple(Curve(curve.kind, curve.model, (0.0, tiny), (0.0, tiny)) for curve in CURVES),
        slices=(replace(QUALITY.slices[0], candidate=None, loss=LOSS), replace(QUALITY.slices[0], candidate=narrow)),
    )
    served = replace(SERVED, quantiles_ms=(5e-324, tiny, 1.0), p50_ms=tiny)
    report = replace(RICH, evidence=replace(RICH.evidence, quality=quality, latency=served, champion_latency=served))
    assert not re.search(r"\bnan\b", to_html(read(json.dumps(to_json(report)).encode())))


def test_numbers_that_are_none_are_drawn_nowhere() -> None:
    nan, inf = float("nan"), float("inf")
    odd = tuple(
        replace(found, candidate=replace(found.candidate, value=nan, low=-inf, high=inf)) for found in QUALITY.metrics
    )
    text = to_html(replace(REPORT, evidence=replace(EVIDENCE, quality=replace(QUALITY, metrics=odd))))
    assert "nan" not in text.split("<svg")[1].split("</svg>")[0].replace("nan (", "")
    empty = Evidence(replace(QUALITY, metrics=(), slices=(), calibration=None))
    Page(to_html(replace(REPORT, evidence=empty, verdict=judge(empty, GatePolicy()), phases=())))
    Page(to_html(replace(REPORT, verdict=Verdict(()))))
