"""The report's files: Markdown for the pull request, HTML for people who want to see, JSON for machines."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

from trunkline.gate.report import LARGEST, Report, to_json
from trunkline.gate.report_html import to_html
from trunkline.gate.report_markdown import to_markdown
from trunkline.gate.report_slices import worst_first

__all__ = ["Files", "write"]

_MOST_SLICES = 500


@dataclass(frozen=True)
class Files:
    """Where the three lie."""

    markdown: Path
    html: Path
    json: Path


def write(report: Report, directory: Path) -> Files:
    """Write `report.md`, `report.html` and `gate.json` to `directory`, which is made."""
    directory.mkdir(parents=True, exist_ok=True)
    files = Files(directory / "report.md", directory / "report.html", directory / "gate.json")
    files.markdown.write_text(to_markdown(report), "utf-8")
    files.html.write_text(to_html(report), "utf-8")
    files.json.write_bytes(_fitting(report))
    return files


def _fitting(report: Report) -> bytes:
    """The JSON, small enough for `read`: if need be with the slices alone that lose most, and no earlier verdicts;

    then without the values of the row whose scores differ.
    """
    written = _json(report)
    for shorter in (_few_slices, _no_row):
        if len(written) <= LARGEST:
            break
        report = shorter(report)
        written = _json(report)
    return written


def _few_slices(report: Report) -> Report:
    quality = report.evidence.quality
    worst = worst_first(quality.slices)[:_MOST_SLICES]
    evidence = replace(report.evidence, quality=replace(quality, slices=tuple(worst)))
    return replace(report, evidence=evidence, earlier=())


def _no_row(report: Report) -> Report:
    parity = report.evidence.parity
    if parity is None or parity.example is None:
        return report
    bare = replace(parity, example=replace(parity.example, row={}))
    return replace(report, evidence=replace(report.evidence, parity=bare))


def _json(report: Report) -> bytes:
    return json.dumps(to_json(report), allow_nan=False, ensure_ascii=False).encode() + b"\n"
