"""The page's sections on what can be proven: the server's speed, parity, leakage, provenance. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from trunkline.datasets.drawing import text
from trunkline.gate.evidence import WAYS
from trunkline.gate.latency_svg import latency_svg
from trunkline.gate.page import card, coded, html_table, key, prose
from trunkline.gate.report import Report
from trunkline.gate.report_proof import SHARED, farthest, scores_told, server_listings, size

__all__ = ["leakage", "parity", "provenance", "server"]

_SIGNS = {"ok": "✓ fine", "warn": "! look at this", "fail": "✗ wrong", "skipped": "not looked at"}


def server(report: Report) -> Iterator[str]:
    """Latency, throughput, start and memory of both servers."""
    evidence = report.evidence
    if evidence.latency is None:
        yield card("<p>No server was measured.</p>")
        return
    drawn = latency_svg(evidence.latency, evidence.champion_latency, report.verdict)
    if drawn:
        taken = evidence.latency.others_cores >= SHARED
        note = "What others took of the machine is in the drawing; rules leave it out." if taken else ""
        said = f'<p class="small">{note}</p>' if note else ""
        yield card(key("candidate", "champion", "bound", alone=report.champion is None) + drawn + said)
    for one in server_listings(evidence):
        yield card(f'<p class="small">{text(one.say, 600)}</p>{html_table(one.head, one.rows, one.align)}')


def parity(report: Report) -> Iterator[str]:
    """How many rows differ, and the first that does."""
    found = report.evidence.parity
    if found is None:
        return
    ways = " and ".join(WAYS[way] for way in found.ways)
    mark = "fail" if found.differ else "pass"
    of_size = " of the score's size" if found.relative else ""
    said = f'<p>{ways} against offline score: <span class="tag {mark}">{found.differ:,} of {found.rows:,} differ</span>'
    said += f" (by more than {found.tolerance:g}{of_size}; {farthest(found)}).</p>"
    if found.left_out:
        said += f'<p class="small">Not compared: {text(found.left_out, 400)}</p>'
    if found.example is not None:
        numbers = ", ".join(f"{name} {coded(value)}" for name, value in scores_told(found.example))
        rows = [[coded(name), coded(repr(value))] for name, value in found.example.row.items()]
        said += f"<p>First difference: {numbers}, for this row:</p>{html_table(['column', 'value'], rows, 'll')}"
    yield card(said)


def leakage(report: Report) -> Iterator[str]:
    """What the probes found, and how many sealed rows were seen in training."""
    found = report.evidence.leakage
    if found is None:
        return
    mark = "fail" if found.seen else "pass"
    said = f'<p><span class="tag {mark}">{found.seen:,} of {found.keys:,}</span> sealed rows are in the data that the'
    said += " candidate was trained on"
    if found.seen_by_champion is not None:
        said += f", {found.seen_by_champion:,} in the champion's"
    rows = [
        [
            text(sign.probe),
            f'<span class="tag {text(sign.outcome)}">{_SIGNS.get(sign.outcome, "?")}</span>',
            coded(sign.column) if sign.column else "",
            prose(sign.text),
        ]
        for sign in sorted(found.signs, key=lambda sign: sign.outcome in ("ok", "skipped"))
    ]
    yield card(f"{said}.</p>{html_table(['probe', '', 'column', 'found'], rows, 'llll')}")


def provenance(report: Report) -> Iterator[str]:
    """What the candidate came from."""
    found = report.evidence.provenance
    if found is None:
        return
    missing = ", ".join(text(name) for name in found.missing)
    said = f'<p>Not known: <span class="tag warn">{missing}</span></p>' if found.missing else ""
    rows = [[text(name), coded(value)] for name, value in found.known.items()]
    said += html_table(["what", "which"], rows, "ll") if rows else ""
    yield card(f'{said}<p class="small">The bundle\'s files take {size(found.bundle_bytes)}.</p>')
