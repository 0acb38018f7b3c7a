"""docs/files.md says what the `files` connector does."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

from tests.unit.ingest.filing import depot
from trunkline.project import yaml
from trunkline.project.connectors import FilesOptions
from trunkline.project.sources import read_sources

PAGE = Path(__file__).parent.parent.parent / "docs" / "files.md"


def test_the_examples_are_sources_that_load(tmp_path: Path) -> None:
    found = {}
    for block in re.findall(r"```yaml\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL):
        (tmp_path / "sources.yml").write_text(block)
        (table,) = read_sources(yaml.load(tmp_path / "sources.yml"))
        assert isinstance(table.options, FilesOptions)
        found[table.key] = table
    orders = found["shop.orders"].options
    with depot(tmp_path) as made:
        made.columns = tuple((column.name, column.type) for column in found["shop.orders"].columns)
        for day in ("2024/12/31", "2025/01/01"):
            row = f"order_id,ordered_at,country\n1,{day.replace('/', '-')} 12:00:00,DE\n"
            made.write(f"data/{day}/orders_1.csv.gz", gzip.compress(row.encode()))
        assert made.ingest(orders.path, since=orders.since, load=orders.load)["loaded"] == 1
    assert found["lake.events"].options.storage["secret"] == "env:LAKE_SECRET"
