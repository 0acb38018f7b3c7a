"""dbt nodes: what counts as a change of SQL, and how tests hold up steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.unit.transform.writing import SAMPLES
from trunkline.graph.graph import Graph
from trunkline.project.load import load_project
from trunkline.transform.nodes import Node, load_nodes, normalise
from trunkline.transform.steps import dbt_steps

SQL = "select a, b -- one\nfrom {{ ref('x') }} /* two */ where c = '-- no comment'"


@pytest.mark.parametrize(
    "same",
    [
        "select a, b\nfrom {{ ref('x') }} where c = '-- no comment'",
        "select   a,b from {{ref('x')}}\n\nwhere c = '-- no comment' -- other",
        "{# jinja #} select a, b from {{ ref('x') }} where c = '-- no comment'",
    ],
)
def test_comments_and_layout_do_not_count(same: str) -> None:
    assert normalise(same) == normalise(SQL)


@pytest.mark.parametrize(
    "other",
    [
        SQL.replace("a, b", "a, c"),
        SQL.replace("'x'", "'y'"),
        SQL.replace("-- no comment", "--  no comment"),
        SQL + "\n-- depends_on: {{ ref('z') }}",
        SQL + "\n{% if var('x') %} limit 1 {% endif %}",
    ],
)
def test_everything_else_does(other: str) -> None:
    assert normalise(other) != normalise(SQL)


def test_text_that_is_no_sql_is_taken_as_it_is() -> None:
    assert normalise("select 'unclosed") == "select 'unclosed"


def _node(name: str, *parents: str, kind: str = "model", tested: str | None = None) -> Node:
    return Node(
        unique_id=f"{kind}.p.{name}",
        kind=kind,
        name=name,
        selector=f"fqn:p.{name}",
        file=f"models/{name}.sql",
        relation=("main", name) if kind == "model" else None,
        materialized="table",
        depends_on=parents,
        tested=tested,
        code=name,
    )


def test_tests_hold_up_what_is_built_on_the_tested() -> None:
    nodes = [
        _node("a", "source.p.s.t"),
        _node("b", "model.p.a"),
        _node("unique_a", "model.p.a", kind="test", tested="model.p.a"),
        _node("relation_a_b", "model.p.a", "model.p.b", kind="test", tested="model.p.a"),
        _node("source_test", "source.p.s.t", kind="test", tested="source.p.s.t"),
    ]
    steps = {s.name: s for s in dbt_steps(nodes, lambda unique_id: "ingest:s.t", {"dbt-core": "1"})}
    assert set(steps) == {"build:a", "build:b", "test:a", "test:a.joined", "test:s.t"}
    assert steps["build:a"].needs == ("ingest:s.t",)
    assert steps["build:a"].after == ("test:s.t",)
    assert steps["build:b"].after == ("test:a",)
    assert steps["test:a.joined"].needs == ("build:a", "build:b")
    assert len(list(Graph.of(steps.values()))) == 5  # a test over both does not make a circle


def test_a_module_that_functions_share_counts_as_one_of_dbts_files(tmp_path: Path) -> None:
    (tmp_path / "dbt_project.yml").write_text("name: x\nprofile: x\n")
    (tmp_path / "profiles.yml").write_text("x: {target: dev, outputs: {dev: {type: duckdb, path: x.duckdb}}}\n")
    SAMPLES["label"].write(tmp_path, "label")
    (tmp_path / "lib" / "other.py").write_text("x = 1\n")
    parsed: list[str] = []

    def parse() -> dict[str, Any]:
        parsed.append((tmp_path / "lib" / "text.py").read_text())
        return {}

    for file, text in (("lib/text.py", "# first\n"), ("lib/other.py", "# nobody asks\n"), ("lib/text.py", "# then\n")):
        (tmp_path / file).write_text(text)
        load_nodes(load_project(tmp_path), parse)
    assert parsed == ["# first\n", "# then\n"]
