"""Columns written into YAML: nothing else changes, whatever the user's style."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from trunkline.errors import ProjectError
from trunkline.project.contract_yaml import Addition, added

FILE = Path("models/sources.yml")
COLUMNS = (("id", "bigint"), ("on", "date"), ("net price", "decimal(10,2)"))
WRITTEN = """\
- {name: id, data_type: bigint}
- {name: "on", data_type: date}
- {name: "net price", data_type: "decimal(10,2)"}
"""


def _pad(text: str, width: int) -> str:
    return "".join(f"{' ' * width}{line}\n" for line in text.splitlines())


BLOCK = """\
# the raw tables
sources:
  - name: shop   # ours
    tables:
      - name: orders
        config: {meta: {trunkline: {connector: files, path: "data/*.csv"}}}  # one a day

      # the second
      - name: lines
        description: "a 'quoted' text"
"""
HEAD = "sources:\n  - name: shop\n    tables:\n      - name: lines\n"
TEXT = HEAD + "        description: |\n          a\n\n          b\n"
SHORT = "sources:\n- name: shop\n  tables:\n  - name: lines\n    columns:\n    - name: x # why\n      data_type: text\n"
STYLES = {
    "the last table": (BLOCK, "lines", BLOCK + "        columns:\n" + _pad(WRITTEN, 10)),
    "a table with another after it": (
        BLOCK,
        "orders",
        BLOCK.replace("# one a day\n", "# one a day\n        columns:\n" + _pad(WRITTEN, 10)),
    ),
    "columns there already": (
        SHORT + "    freshness: null\n",
        "lines",
        SHORT + _pad(WRITTEN, 4) + "    freshness: null\n",
    ),
    "an empty list": (
        "sources: [{name: shop, tables: [{name: lines, columns: []}]}]\n",
        "lines",
        "sources: [{name: shop, tables: [{name: lines, columns: ["
        + ", ".join(line[2:] for line in WRITTEN.splitlines())
        + "]}]}]\n",
    ),
    "all in braces": (
        "sources: [{name: shop, tables: [{name: lines}]}]\n",
        "lines",
        "sources: [{name: shop, tables: [{name: lines, columns: ["
        + ", ".join(line[2:] for line in WRITTEN.splitlines())
        + "]}]}]\n",
    ),
    "a key without a value": (
        HEAD + "        columns:\n        loader: x\n",
        "lines",
        HEAD + "        columns:\n" + _pad(WRITTEN, 10) + "        loader: x\n",
    ),
    "a text over lines at the end": (
        TEXT + "\n# end\n",
        "lines",
        TEXT + "        columns:\n" + _pad(WRITTEN, 10) + "\n# end\n",
    ),
    "no newline at the end": (
        "sources:\n  - name: shop\n    tables:\n      - name: lines",
        "lines",
        HEAD + "        columns:\n" + _pad(WRITTEN, 10),
    ),
}


@pytest.mark.parametrize("style", STYLES)
def test_columns_go_where_they_belong_and_all_else_stays(style: str) -> None:
    before, table, after = STYLES[style]
    assert added(FILE, before, Addition("shop", table, COLUMNS)) == after


def test_a_new_table_a_new_source_and_a_new_file() -> None:
    declaration = {"connector": "files", "path": "data/*.csv"}
    new = Addition("shop", "new", (("id", "bigint"),), ("inferred",), {"null_values": ["NA"]}, declaration)
    entry = (
        "- name: new\n"
        '  config: {meta: {trunkline: {connector: files, path: "data/*.csv", null_values: ["NA"]}}}\n'
        "  columns:\n"
        "    # inferred\n"
        "    - {name: id, data_type: bigint}\n"
    )
    assert added(FILE, BLOCK, new) == BLOCK + _pad(entry, 6)
    source = "- name: shop\n  schema: raw\n  tables:\n" + _pad(entry, 4)
    assert added(FILE, "", new) == "sources:\n" + _pad(source, 2)
    other = BLOCK.replace("name: shop ", "name: other ")
    assert added(FILE, other, new) == other + _pad(source, 2)
    assert added(FILE, "version: 2\n", new) == "version: 2\nsources:\n" + _pad(source, 2)


def test_options_go_to_the_table_or_else_to_its_source() -> None:
    nulls = Addition("shop", "orders", (), (), {"null_values": ["NA", '"']})
    assert r'path: "data/*.csv", null_values: ["NA", "\""]}}}  # one a day' in added(FILE, BLOCK, nulls)
    block = "sources:\n  - name: shop\n    meta:\n      trunkline:\n        connector: dlt # x\n"
    block += "    tables: [{name: orders}]\n"
    assert 'connector: dlt # x\n        null_values: ["NA", "\\""]\n    tables' in added(FILE, block, nulls)


def test_what_cannot_be_added_to_is_said_and_not_damaged() -> None:
    with pytest.raises(ProjectError, match="write it line by line|a list in brackets"):
        added(FILE, "sources: [{name: shop, tables: [{name: a}]}]\n", Addition("shop", "b", COLUMNS))
    with pytest.raises(ProjectError, match="no list of tables"):
        added(FILE, "sources:\n  - name: shop\n", Addition("shop", "b", COLUMNS))


@given(st.lists(st.text(min_size=1, max_size=12), min_size=1, max_size=5, unique=True))
def test_any_name_is_read_back_as_it_was(names: list[str]) -> None:
    names = [name for name in names if name.isprintable()]
    text = added(FILE, BLOCK, Addition("shop", "lines", tuple((name, "varchar") for name in names)))
    table = yaml.safe_load(text)["sources"][0]["tables"][1]
    assert [column["name"] for column in table.get("columns") or []] == names
