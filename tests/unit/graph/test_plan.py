"""Plans: what is stale, and the reason given."""

from __future__ import annotations

import pytest

from trunkline.errors import ProjectError, UserError
from trunkline.graph.graph import Graph
from trunkline.graph.plan import POLLED, Past, make_plan
from trunkline.graph.select import select
from trunkline.graph.step import Step, digest, fingerprint


def _graph(**changes: object) -> Graph:
    config = {"files": changes.get("files", ["a"])}
    return Graph.of(
        [
            Step("train:m", "train", needs=("dataset:d",), code=str(changes.get("code", "1"))),
            Step("ingest:s.t", "ingest", config=config, versions={"duckdb": str(changes.get("duckdb", "1.5"))}),
            Step("build:a", "build", needs=("ingest:s.t",), code="a"),
            Step("test:a", "test", needs=("build:a",), code=str(changes.get("test", "t"))),
            Step("build:b", "build", needs=("build:a",), after=("test:a",), code=str(changes.get("b", "b"))),
            Step("dataset:d", "dataset", needs=("build:b",), after=("test:a",)),
        ]
    )


def _past(graph: Graph) -> dict[str, Past]:
    plan = make_plan(graph, {}, selected=set(graph.steps), exists=lambda *_: True)
    return {e.step.name: Past(e.fingerprint.value, e.fingerprint.to_json(), {}) for e in plan.entries}


def _reasons(graph: Graph, past: dict[str, Past]) -> dict[str, str]:
    plan = make_plan(graph, past, selected=set(graph.steps), exists=lambda *_: True)
    return {e.step.name: e.reason for e in plan.entries if e.reason}


def test_everything_is_stale_at_first_and_in_order() -> None:
    plan = make_plan(_graph(), {}, selected=set(_graph().steps), exists=lambda *_: True)
    names = [entry.step.name for entry in plan.stale]
    assert names.index("ingest:s.t") < names.index("build:a") < names.index("test:a") < names.index("build:b")
    assert {entry.reason for entry in plan.stale} == {"never ran"}


def test_nothing_is_stale_afterwards() -> None:
    assert _reasons(_graph(), _past(_graph())) == {}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            {"b": "b2"},
            {
                "build:b": "code changed",
                "dataset:d": "input changed: build:b",
                "train:m": "input changed: dataset:d",
            },
        ),
        ({"code": "2"}, {"train:m": "code changed"}),
        ({"test": "t2"}, {"test:a": "code changed"}),  # what is built after a test does not depend on its code
    ],
)
def test_a_change_makes_only_what_depends_on_it_stale(change: dict[str, str], expected: dict[str, str]) -> None:
    assert _reasons(_graph(**change), _past(_graph())) == expected


def test_reasons_name_configuration_and_libraries() -> None:
    assert _reasons(_graph(files=["a", "b"]), _past(_graph()))["ingest:s.t"] == "configuration changed"
    assert _reasons(_graph(duckdb="1.6"), _past(_graph()))["ingest:s.t"] == "library changed: duckdb"


def test_a_lost_output_runs_again_with_all_below_it() -> None:
    graph = _graph()
    plan = make_plan(graph, _past(graph), selected=set(graph.steps), exists=lambda step, _: step.name != "build:b")
    reasons = {e.step.name: e.reason for e in plan.stale}
    assert reasons["build:b"] == "its output is gone"
    assert reasons["dataset:d"] == "runs again after build:b"
    assert "build:a" not in reasons


def test_force_and_selection() -> None:
    graph = _graph()
    plan = make_plan(graph, _past(graph), selected={"build:b"}, exists=lambda *_: True, force=True)
    assert [(e.step.name, e.reason) for e in plan.stale] == [("build:b", "asked for by --force")]


def test_fingerprints_do_not_depend_on_the_order_of_keys() -> None:
    assert digest({"a": 1, "b": [1, 2]}) == digest({"b": [1, 2], "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})
    one, two = Step("x:y", "x", config={"a": 1, "b": 2}), Step("x:y", "x", config={"b": 2, "a": 1})
    assert fingerprint(one, {}).value == fingerprint(two, {}).value


def test_a_circle_is_named() -> None:
    with pytest.raises(ProjectError, match=r"circle: .*build:a"):
        Graph.of([Step("build:a", "build", needs=("build:b",)), Step("build:b", "build", needs=("build:a",))])


@pytest.mark.parametrize(
    ("selectors", "expected"),
    [
        (["build:b"], {"build:b"}),
        (["b"], {"build:b"}),
        (["t"], {"ingest:s.t"}),
        (["train"], {"train:m"}),
        (["kind:build"], {"build:a", "build:b"}),
        (["+build:a"], {"ingest:s.t", "build:a"}),
        (["build:b+"], {"build:b", "dataset:d", "train:m"}),
        (["build:*", "train"], {"build:a", "build:b", "train:m"}),
        (["+build:b,build"], {"build:a", "build:b"}),
        ([], {"ingest:s.t", "build:a", "test:a", "build:b", "dataset:d", "train:m"}),
    ],
)
def test_selection(selectors: list[str], expected: set[str]) -> None:
    assert select(_graph(), selectors) == expected


def test_a_misspelt_selection_names_the_close_match() -> None:
    with pytest.raises(UserError, match="Did you mean 'train'"):
        select(_graph(), ["tran"])


def _polled(version: str) -> Graph:
    return Graph.of(
        [
            Step("ingest:s.t", "ingest", config={"version": version}, polled=True),
            Step("build:a", "build", needs=("ingest:s.t",)),
        ]
    )


def test_a_polled_source_is_asked_each_time_and_makes_nothing_stale_by_that() -> None:
    past = _past(_polled("load_1"))
    assert _reasons(_polled("load_1"), past) == {"ingest:s.t": POLLED}


def test_what_a_polled_source_brought_makes_the_rest_stale() -> None:
    graph = _polled("load_2")
    asked = frozenset({"ingest:s.t"})
    plan = make_plan(graph, _past(_polled("load_1")), selected=set(graph.steps), exists=lambda *_: True, asked=asked)
    assert {e.step.name: e.reason for e in plan.entries if e.reason} == {"build:a": "input changed: ingest:s.t"}


def test_a_polled_source_that_never_ran_comes_first_and_the_rest_after_it() -> None:
    plan = make_plan(_polled(""), {}, selected={"ingest:s.t", "build:a"}, exists=lambda *_: True)
    assert [e.step.name for e in plan.polls.entries] == ["ingest:s.t"]
    assert [e.reason for e in plan.stale] == ["never ran", "never ran"]


def test_an_unselected_polled_source_is_not_asked() -> None:
    plan = make_plan(_polled("1"), _past(_polled("1")), selected={"build:a"}, exists=lambda *_: True)
    assert plan.stale == ()


def test_a_step_is_selected_by_the_names_of_what_it_leaves_behind() -> None:
    graph = Graph.of([Step("ingest:api", "ingest", aliases=("api.items", "api.users"))])
    assert select(graph, ["api.items"]) == select(graph, ["users"]) == select(graph, ["api"]) == {"ingest:api"}
    with pytest.raises(UserError, match=r"Did you mean 'api\.items'"):
        select(graph, ["api.item"])
