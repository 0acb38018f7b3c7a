"""What docs/feeding.md shows is what happens."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pytest

from tests.unit.datasets.building import build, context, declared
from trunkline.project import split
from trunkline.warehouse.duckdb import open_duckdb

PAGE = Path(__file__).parent.parent.parent / "docs" / "feeding.md"
ROWS = """
select i as id, timestamp '2025-01-01' + interval (i) minute as at, i % 997 * 1.5 as distance,
['AA', 'B6', 'DL', 'UA', 'WN'][1 + i % 5] as carrier, timestamp '2025-01-01' + interval (i + 90) minute as departure,
hash(i) % 3 = 0 as late from range(6000) t(i)
"""


def test_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "dbt_project.yml").write_text("name: demo\nprofile: demo\n")
    warehouse = open_duckdb({"path": "local.duckdb"}, tmp_path)
    try:
        warehouse.execute(f"create table main.mart as {ROWS}")
        shares = split.by_time(validation="2025-01-03 18:40", test="2025-01-04 11:20")
        groups = {"route": ["distance", "carrier"], "time": ["departure"]}
        build(context(warehouse, tmp_path), declared(shares, name="flights", groups=groups), "f1" * 32)
    finally:
        warehouse.close()
    monkeypatch.chdir(tmp_path)
    blocks = "\n".join(re.findall(r"```pycon\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL))
    test = doctest.DocTestParser().get_doctest(blocks, {}, "feeding.md", str(PAGE), 0)
    assert len(test.examples) > 12
    said: list[str] = []
    doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, out=said.append)
    assert not said, "".join(said)
