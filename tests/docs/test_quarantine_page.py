"""The commands of docs/quarantine.md do what the page shows."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

from tests.e2e.conftest import Project

PAGE = Path(__file__).parent.parent.parent / "docs" / "quarantine.md"


def _blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)


def _like(shown: str) -> re.Pattern[str]:
    """A line of the page: `…` stands for anything, a gap for any other gap."""
    parts = [r"\s+".join(map(re.escape, part.split())) for part in shown.split("…")]
    return re.compile(r"^\s*" + ".*".join(rf"\s*{part}\s*" for part in parts) + r"$", re.MULTILINE)


def _run(project: Project, block: str) -> None:
    commands = [part for part in re.split(r"^\$ ", block, flags=re.MULTILINE) if part]
    for command, *shown in (part.splitlines() for part in commands):
        words = shlex.split(command)
        if words[0] != "trunkline":
            subprocess.run(words, cwd=project.root, check=True)
            continue
        out = project.run(*words[1:]).out
        for line in shown:
            assert _like(line).search(out), f"{command}: {line!r} is not in\n{out}"


def test_the_page(tmp_path: Path) -> None:
    Project(tmp_path).run("init", "shop")
    project = Project(tmp_path / "shop")
    for part in ("ml", "deploy", "data"):
        shutil.rmtree(project.root / part)
    for file in ("order_features.sql", "order_features.yml", "sources.yml"):
        (project.root / "models" / file).unlink()
    (project.root / "data").mkdir()
    (rows,), (contract,) = _blocks("csv"), _blocks("yaml")
    file = project.root / "data" / "orders_1.csv"
    first, loaded, resubmitted, exported, audited, orphans = _blocks("console")
    file.write_text(rows)
    _run(project, first)
    (project.root / "models" / "sources.yml").write_text(contract)
    _run(project, loaded)
    project.edit("models/sources.yml", "values: [DE, FR]", "values: [DE, FR, AT]")
    for block in (resubmitted, exported, audited, orphans):
        _run(project, block)
