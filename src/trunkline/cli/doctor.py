"""`trunkline doctor`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from trunkline.cli.options import common, root_of
from trunkline.cli.show import Show
from trunkline.errors import ProjectError


@click.command(epilog="Examples: trunkline doctor · trunkline doctor --target prod --json")
@common
def command(project: Path | None, target: str | None, as_json: bool) -> None:
    """Check Python, libraries, keys, project, warehouse and registry, and say how to mend what is wrong."""
    from trunkline.orchestration.doctor import examine

    show = Show(as_json=as_json)
    try:
        root = root_of(project)
    except ProjectError:
        root = None
    marks = {"ok": ("✓", "green"), "warn": ("!", "yellow"), "bad": ("✗", "red")}
    findings = []
    for finding in examine(root, target):
        findings.append(finding)
        mark, colour = marks[finding.level]
        show.line(f"{click.style(mark, fg=colour)} {finding.what}")
        if finding.mend:
            show.line(f"    {click.style('mend', fg='cyan')}: {finding.mend}")
    show.result({"findings": [{"level": f.level, "what": f.what, "mend": f.mend} for f in findings]})
    if any(f.level == "bad" for f in findings):
        sys.exit(1)
