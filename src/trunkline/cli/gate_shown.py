"""What `trunkline gate` shows: in a terminal, as JSON, and in a job of GitHub Actions."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from trunkline.cli.show import Show

if TYPE_CHECKING:
    from trunkline.gate.evidence import Evidence, MetricEvidence
    from trunkline.gate.verdict import Verdict
    from trunkline.orchestration.gating import Gated
    from trunkline.orchestration.verdicts import Row
    from trunkline.project.deploy import Deployment

_MARKS = {"pass": ("✓ pass", "green"), "fail": ("✗ fail", "red"), "undecided": ("? undecided", "yellow")}
_BARS = "▁▂▃▄▅▆▇█"
_MOST_METRICS = 4


def shown(show: Show, gated: Gated, root: Path) -> None:
    """Who was judged against whom, the scores, the server, each rule, and where the report lies."""
    report = gated.result.report
    looks = report.looks
    assert looks is not None  # the gate always counts
    against = f"against {gated.champion}" if gated.champion else "with no other champion to beat"
    show.line(f"{gated.candidate} {against}, {looks} at this sealed part")
    _metrics(show, gated, looks.withheld)
    if looks.ladder:
        show.line("  few looks are left: a score is shown if it beats the best one by a standard error (docs/vault.md)")
    _server(show, report.evidence)
    show.line()
    rules(show, gated.result.verdict)
    seconds = sum(phase.seconds for phase in report.phases)
    slowest = max(report.phases, key=lambda phase: phase.seconds, default=None)
    longest = f", {slowest.seconds:.1f} s of them for {slowest.name}" if slowest else ""
    word = click.style("passed", fg="green") if gated.result.passed else click.style("refused", fg="red")
    show.line(f"{click.style(word, bold=True)} in {seconds:.1f} s{longest}")
    show.line(f"report: {gated.result.html.relative_to(root)} (to look at), {gated.result.markdown.name}, gate.json")
    if gated.kept.why:
        show.line(f"the verdict is in the ledger; {gated.kept.why}", fg="yellow")


def _metrics(show: Show, gated: Gated, withheld: Sequence[str]) -> None:
    from trunkline.gate.numbers import shown as written
    from trunkline.gate.numbers import signed

    def cells(found: MetricEvidence) -> list[str]:
        own, size = found.candidate, found.candidate.value
        row = [found.name, written(own.value), f"{written(own.low, size)} to {written(own.high, size)}"]
        if gated.champion:
            row.append(written(found.champion.value) if found.champion else "")
            row.append(signed(found.loss.value, size) if found.loss else "")
        row.append("the best shown so far" if found.name in withheld else "")
        return row

    quality = gated.result.report.evidence.quality
    head = [
        "sealed test part",
        f"n={quality.rows:,}",
        "95% interval",
        *(["champion", "loss"] if gated.champion else []),
    ]
    show.table([*head, ""], [cells(found) for found in quality.metrics], right=(1, 3, 4) if gated.champion else (1,))


def _server(show: Show, evidence: Evidence) -> None:
    own, rival = evidence.latency, evidence.champion_latency
    if own is None:
        return
    told = f"  one row: p50 {own.p50_ms:.2f} ms, p99 {own.p99_ms:.2f} ms from the real server"
    if rival is not None:
        told += f" (champion: {rival.p50_ms:.2f}, {rival.p99_ms:.2f})"
    show.line(f"{told}; {own.requests_per_second:,.0f} requests/s")
    if evidence.parity is not None:
        show.line(f"  parity: {evidence.parity.differ:,} of {evidence.parity.rows:,} rows differ")


def rules(show: Show, verdict: Verdict) -> None:
    """Each rule and how it came out."""
    width = max((len(rule.name) for rule in verdict.rules), default=0)
    for rule in verdict.rules:
        mark, colour = _MARKS[rule.status]
        show.line(f"  {click.style(mark.ljust(11), fg=colour)} {rule.name.ljust(width)}  {rule.why}")
    if not verdict.rules:
        show.line("  no rule is set: what is asked of a candidate is written in deploy/*.yml (docs/gate.md)")


def to_json(gated: Gated, root: Path) -> dict[str, Any]:
    """The result for programs; all else is in the file `json`."""
    report = gated.result.report
    quality, latency, looks = report.evidence.quality, report.evidence.latency, report.looks
    assert looks is not None  # the gate always counts
    return {
        "passed": gated.result.passed,
        "candidate": gated.candidate,
        "champion": gated.champion,
        "look_id": gated.look_id,
        "looks": looks.number,
        "budget": looks.budget,
        "ladder": looks.ladder,
        "withheld": list(looks.withheld),
        "metrics": {m.name: [m.candidate.value, m.candidate.low, m.candidate.high] for m in quality.metrics},
        "latency": {"p50_ms": latency.p50_ms, "p99_ms": latency.p99_ms} if latency else None,
        "rules": [{"rule": r.name, "status": r.status, "why": r.why} for r in gated.result.verdict.rules],
        "seconds": round(sum(phase.seconds for phase in report.phases), 3),
        "report": str(gated.result.markdown.relative_to(root)),
        "html": str(gated.result.html.relative_to(root)),
        "json": str(gated.result.json.relative_to(root)),
        "registry_run": gated.kept.run_id,
    }


def history(show: Show, deployment: str, rows: Sequence[Row]) -> None:
    """The verdicts so far, the last first, and how the first metric went."""
    from trunkline.gate.numbers import shown as written

    if not rows:
        show.line(f"{deployment} has no verdict yet: trunkline gate {deployment}")
        return
    names = list(dict.fromkeys(name for row in reversed(rows) for name in row.metrics))[:_MOST_METRICS]
    cells = [
        [
            row.candidate,
            "passed" if row.passed else "refused",
            f"{row.decided_at:%Y-%m-%d %H:%M}",
            *(written(row.metrics[name][0]) if name in row.metrics else "–" for name in names),
            f"{row.served['p99_ms']:.2f}" if "p99_ms" in row.served else "–",
            row.report,
        ]
        for row in reversed(rows)
    ]
    right = tuple(range(3, 4 + len(names)))
    show.table(["version", "verdict", "decided (UTC)", *names, "p99 ms", "report"], cells, right=right)
    for name in names[:1]:
        values = [row.metrics[name][0] for row in rows if name in row.metrics]
        if len(values) > 1:
            low, high = written(min(values)), written(max(values))
            show.line(f"  {name} from the first to the last: {sparkline(values)}  ({low} to {high})")


def passed_before(show: Show, row: Row, files: Sequence[Path], environ: Mapping[str, str]) -> None:
    """A verdict that still holds: no look was taken. A job of GitHub Actions gets the summary of then."""
    decided = f"{row.decided_at:%Y-%m-%d %H:%M} UTC, look {row.look_id}"
    against = f"against {row.champion}" if row.champion else "with no champion to beat"
    show.line(f"  {click.style('passed', fg='green')} {against} on {decided}: the same bundle by the same rules")
    show.line("  not looked at again (`--again` does)", dim=True)
    for report in (file for file in files if file.name == "report.md"):
        summarize(report.read_text("utf-8"), environ)


def sparkline(values: Sequence[float]) -> str:
    """Numbers as bars of one character each.

    >>> sparkline([0.70, 0.72, 0.71, 0.78])
    '▁▃▂█'
    """
    low, span = min(values), (max(values) - min(values)) or 1.0
    return "".join(_BARS[min(int((value - low) / span * len(_BARS)), len(_BARS) - 1)] for value in values)


def told_to_job(show: Show, gated: Gated, spec: Deployment, root: Path, environ: Mapping[str, str]) -> None:
    """Tell the job of GitHub Actions that we run in, if we do: its summary, its outputs, a note at the file's line."""
    summarize(gated.result.markdown.read_text("utf-8"), environ)
    if outputs := environ.get("GITHUB_OUTPUT"):
        files = {"report": gated.result.markdown, "html": gated.result.html, "json": gated.result.json}
        told = {"passed": str(gated.result.passed).lower(), **{name: str(file) for name, file in files.items()}}
        _append(outputs, "".join(f"{name}={value}\n" for name, value in told.items() if "\n" not in value))
    if environ.get("GITHUB_ACTIONS") == "true":
        show.line(_annotation(gated, spec, Path(environ.get("GITHUB_WORKSPACE") or root)))


def summarize(text: str, environ: Mapping[str, str]) -> None:
    """Add Markdown to the summary of the job of GitHub Actions that we run in, if we do."""
    if path := environ.get("GITHUB_STEP_SUMMARY"):
        _append(path, text + "\n")


def _append(path: str, text: str) -> None:
    with open(path, "a", encoding="utf-8") as file:
        file.write(text)


def _annotation(gated: Gated, spec: Deployment, checkout: Path) -> str:
    """A workflow command: GitHub shows it beside the line of the deployment's file that names the model."""
    verdict = gated.result.verdict
    kind, word = ("notice", "passes") if verdict.passed else ("error", "does not pass")
    against = [f"{rule.name}: {rule.why}" for rule in verdict.rules if rule.status != "pass"]
    said = "\n".join(against) or f"all {len(verdict.rules)} rules pass"
    place = {
        "file": os.path.relpath(spec.file, checkout),
        "line": str(spec.model_line),
        "title": f"{gated.candidate} {word}",
    }
    listed = ",".join(f"{name}={_escaped(value, property=True)}" for name, value in place.items())
    return f"::{kind} {listed}::{_escaped(said)}"


def _escaped(text: str, *, property: bool = False) -> str:
    """As GitHub's own toolkit does, so that no text begins a command of its own."""
    replaced = {"%": "%25", "\r": "%0D", "\n": "%0A", **({":": "%3A", ",": "%2C"} if property else {})}
    for character, code in replaced.items():
        text = text.replace(character, code)
    return text
