"""The page of the vault: its deployment parses, its figures are of the code, and its way to another key works."""

from __future__ import annotations

import re
from pathlib import Path

from benchmarks.ladder import BUDGET
from trunkline.project.deploy import Gate, read_deployment
from trunkline.project.hidden import KEY, hidden_paths, key_folder, open_environ, vault_folder

PAGE = (Path(__file__).parents[2] / "docs" / "vault.md").read_text("utf-8")


def test_the_deployment_parses(tmp_path: Path) -> None:
    (text,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "delay.yml").write_text(text)
    assert read_deployment(tmp_path / "delay.yml").spec.gate.looks == 40
    assert f"{Gate().looks} unless its file says otherwise" in PAGE
    assert Gate().looks == BUDGET


def test_what_is_hidden_is_as_told(tmp_path: Path) -> None:
    (tmp_path / "dbt_project.yml").write_text("name: a\nprofile: a\n")
    (tmp_path / "profiles.yml").write_text("a: {target: dev, outputs: {dev: {type: duckdb, path: a.duckdb}}}\n")
    paths = hidden_paths(tmp_path, {})
    assert {vault_folder(tmp_path / ".trunkline"), tmp_path / "profiles.yml", tmp_path / "a.duckdb"} <= set(paths)
    assert key_folder({}) in paths
    assert f"`~/{(key_folder({}) / 'vault.key').relative_to(Path.home())}`" in PAGE
    for name in re.findall(r"`~/(\.\w+)`", PAGE):
        assert Path.home() / name in paths
    named = re.findall(r"`([A-Z]+_?)…`", PAGE)
    assert len(named) == 7
    assert open_environ(tmp_path, {**{f"{name}X": "s" for name in named}, KEY: "s", "A": "b"}) == {"A": "b"}
