"""What docs/contracts.md shows is what happens."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from tests.e2e.conftest import Project

PAGE = Path(__file__).parent.parent.parent / "docs" / "contracts.md"


def _blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)


def test_the_page(tmp_path: Path) -> None:
    Project(tmp_path).run("init", "shop")
    project = Project(tmp_path / "shop")
    for part in ("ml", "deploy", "data"):
        shutil.rmtree(project.root / part)
    for file in ("order_features.sql", "order_features.yml", "sources.yml"):
        (project.root / "models" / file).unlink()
    (project.root / "data").mkdir()
    (contract,) = _blocks("yaml")
    (project.root / "models" / "sources.yml").write_text(contract)
    for number, (rows, shown) in enumerate(zip(_blocks("csv"), _blocks("console"), strict=True), start=1):
        (project.root / "data" / f"customers_{number}.csv").write_text(rows)
        said = shown.splitlines()[1].strip("… ")
        assert said in project.run("ingest").out
    table = "select customer_id, name, points from lake.raw.customers order by 1"
    assert project.sql(table) == [(1, "Ann", 12.0), (4, "Dee", 2.5)]
