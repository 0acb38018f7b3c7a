"""Examples of the pages: commands with what they print."""

from __future__ import annotations

import re
import shlex

from tests.e2e.conftest import Project


def run_block(project: Project, block: str) -> None:
    """Run the commands of a console block; each line below a command must be in what it prints.

    `…` stands for anything, a gap for any other gap.
    """
    for command, *shown in (part.splitlines() for part in re.split(r"^\$ ", block, flags=re.MULTILINE) if part):
        out = project.run(*shlex.split(command)[1:]).out
        for line in filter(None, shown):
            assert _like(line).search(out), f"{command}: {line!r} is not in\n{out}"


def _like(shown: str) -> re.Pattern[str]:
    parts = [r"\s+".join(map(re.escape, part.split())) for part in shown.split("…")]
    return re.compile(r"^\s*" + ".*".join(rf"\s*{part}\s*" for part in parts) + r"$", re.MULTILINE)
