"""The `dlt` connector: dlt's own extraction, with state, tables and errors of ours."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.ingest.streaming import World, table
from trunkline.errors import ProjectError, SourceError
from trunkline.ingest.dlt import Dlt
from trunkline.ingest.protocol import Table

HEAD = "import dlt\nimport pyarrow as pa\n"


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "feeds"]:
        del sys.modules[name]
    logging.getLogger("dlt").handlers.clear()


def _table(name: str, load: str = "append", key: tuple[str, ...] = (), **options: Any) -> Table:
    given = {"source": "feeds/shop.py:shop", "arguments": {}, "resource": None, "hints": "check", **options}
    return table(name, load=load, key=key, **given)


def _world(root: Path, code: str, *tables: Table) -> World:
    (root / "feeds").mkdir(exist_ok=True)
    (root / "feeds" / "shop.py").write_text(HEAD + code)
    return World(root, tables, environ={"TOKEN": "hush-hush"})


def _load(world: World, most: int | None = None, **more: Any) -> None:
    world.load(Dlt(world.reach()).batches(world.since(**more)), most)


SHOP = """
@dlt.source
def shop(to=3, fail=None):
    @dlt.resource
    def orders(updated=dlt.sources.incremental("a", initial_value=0)):
        for page in range(to):
            if page == fail:
                raise KeyError("no such page")
            yield [{"a": page * 10 + i, "b": {"deep": [i]}} for i in range(10)]

    @dlt.transformer(data_from=orders)
    def lines(page):
        for order in page:
            yield {"a": order["a"], "b": "line"}

    @dlt.resource
    def seen():
        state = dlt.current.resource_state()
        state["times"] = state.get("times", 0) + 1
        yield {"a": state["times"], "b": None}

    @dlt.resource
    def others():
        raise AssertionError("nobody asked for this one")
        yield

    return orders, lines, seen, others
"""


def test_resources_transformers_incrementals_and_state(tmp_path: Path) -> None:
    world = _world(tmp_path, SHOP, _table("orders"), _table("lines"), _table("seen"))
    _load(world)
    assert [row["a"] for row in world.held["s.orders"]] == list(range(30))
    assert world.held["s.orders"][3]["b"] == {"deep": [3]}
    assert sorted(row["a"] for row in world.held["s.lines"]) == list(range(30))  # dlt takes them in turns
    assert world.held["s.seen"] == [{"a": 1}]
    _load(world)
    assert len(world.held["s.orders"]) == 30  # the incremental lets nothing through that is known
    assert [row["a"] for row in world.held["s.seen"]] == [1, 2]
    assert len(world.loads) == 2
    _load(world, refresh=True)
    assert [row["a"] for row in world.held["s.seen"]] == [1]
    assert len(world.held["s.orders"]) == 30


def test_a_failure_leaves_nothing_half_done_and_shows_the_users_lines(tmp_path: Path) -> None:
    options = {"arguments": {"fail": 2}}
    world = _world(tmp_path, SHOP, _table("orders", **options), _table("seen", **options))
    with pytest.raises(SourceError, match=r"source s: KeyError: 'no such page'") as caught:
        _load(world)
    assert caught.value.file == tmp_path / "feeds" / "shop.py"
    assert caught.value.line == 10
    assert "site-packages" not in caught.value.what
    assert world.loads == []


ORDERED = """
@dlt.resource(name="orders")
def shop(fail=None, updated=dlt.sources.incremental("a", initial_value=0, row_order="asc")):
    for page in range(6):
        if page == fail:
            raise KeyError("no such page")
        yield [{"a": page * 10 + i, "b": "x"} for i in range(10) if page * 10 + i >= updated.last_value]
"""


def test_rows_in_the_order_of_their_cursor_are_kept_up_to_a_failure(tmp_path: Path) -> None:
    world = _world(tmp_path, ORDERED, _table("orders", arguments={"fail": 4}))
    with pytest.raises(SourceError):
        _load(world)
    assert [row["a"] for row in world.held["s.orders"]] == list(range(40))
    world.tables = (_table("orders"),)
    _load(world)
    assert [row["a"] for row in world.held["s.orders"]] == list(range(60))


def test_a_step_that_spreads_an_item_waits_for_the_end(tmp_path: Path) -> None:
    code = ORDERED + "\nshop.add_yield_map(lambda row: iter([row]))\n"
    world = _world(tmp_path, code, _table("orders", arguments={"fail": 4}))
    with pytest.raises(SourceError):
        _load(world)
    assert world.loads == []


def test_arrow_stays_arrow_and_dates_of_the_state_come_back(tmp_path: Path) -> None:
    code = """
import datetime as dt
@dlt.resource(name="orders")
def shop(at=dlt.sources.incremental("b", initial_value=dt.datetime(2024, 1, 1, tzinfo=dt.timezone.utc))):
    times = [dt.datetime(2024, 1, day, tzinfo=dt.timezone.utc) for day in range(1, 11)]
    yield pa.table({"a": pa.array(range(10), pa.int16()), "b": pa.array(times, pa.timestamp("us", "UTC"))})
"""
    world = _world(tmp_path, code, _table("orders"))
    _load(world)
    assert [row["a"] for row in world.held["s.orders"]] == list(range(10))
    assert world.held["s.orders"][0]["b"].year == 2024
    _load(world)
    assert len(world.held["s.orders"]) == 10


def test_tables_named_as_the_rows_go(tmp_path: Path) -> None:
    code = """
@dlt.resource(table_name=lambda row: row["kind"])
def shop():
    yield [{"kind": "push", "a": 1}, {"kind": "fork", "a": 2}, {"kind": "star", "a": 3}]

@dlt.resource
def marked():
    yield dlt.mark.with_table_name({"a": 4}, "gist")
    yield dlt.mark.with_table_name({"a": 5}, "other")
"""
    world = _world(tmp_path, code, _table("push"), _table("fork"))
    source = Dlt(world.reach())
    world.load(source.batches(world.since()))
    assert source.notes == ["rows for 'star' were passed over: no such table is declared"]
    assert (world.held["s.push"][0]["a"], world.held["s.fork"][0]["a"]) == (1, 2)
    world = _world(tmp_path / ".", code, _table("gist", source="feeds/shop.py:marked", resource="marked"))
    _load(world)
    assert [row["a"] for row in world.held["s.gist"]] == [4]


def test_a_replaced_resource_starts_with_a_clean_state(tmp_path: Path) -> None:
    world = _world(tmp_path, SHOP, _table("orders", load="replace"), _table("seen", load="replace"))
    for _ in range(2):
        _load(world)
        assert len(world.held["s.orders"]) == 30
        assert world.held["s.seen"] == [{"a": 1}]


@pytest.mark.parametrize(
    ("hint", "load", "key", "refused"),
    [
        ("write_disposition='merge', primary_key='a'", "append", (), "say `load: merge` and `key: [a]`"),
        ("write_disposition='replace'", "append", (), "say `load: replace`"),
        ("write_disposition='merge', primary_key='a'", "merge", ("a",), None),
        ("write_disposition='append'", "merge", ("a",), None),
        ("write_disposition='replace'", "replace", (), None),
    ],
)
def test_what_the_resource_says_of_itself_is_not_passed_over(
    tmp_path: Path, hint: str, load: str, key: tuple[str, ...], refused: str | None
) -> None:
    code = f"@dlt.resource({hint})\ndef shop():\n    yield {{'a': 1}}\n"
    world = _world(tmp_path, code, _table("shop", load, key))
    if refused is None:
        _load(world)
        assert world.held["s.shop"] == [{"a": 1}]
        return
    with pytest.raises(SourceError, match="has write_disposition") as caught:
        _load(world)
    assert refused in str(caught.value.hint)
    world.tables = (_table("shop", load, key, hints="ignore"),)
    _load(world)
    assert world.held["s.shop"] == [{"a": 1}]


HINTED = """
@dlt.resource(write_disposition="merge", primary_key="a", columns={"gone": {"hard_delete": True}, "B": {%s}})
def shop():
    yield [{"a": 1, "B": "x", "gone": False}, {"a": 2, "B": "y", "gone": True}, {"a": 3, "gone": None}]
    yield {"a": 4, "B": "z", "gone": "2024-05-06"}
    yield pa.table({"a": [5], "B": ["typed"], "gone": [None]})
    yield pa.table({"a": [6, 7], "B": ["p", "q"], "gone": [None, 1.5]})
"""


def test_hints_of_a_merge_are_heeded(tmp_path: Path) -> None:
    """dlt's `hard_delete` and `dedup_sort`, read twice in one process; what sources.yml says comes first."""
    world = _world(tmp_path, HINTED % "'dedup_sort': 'desc'", _table("shop", "merge", ("a",)))
    for _ in range(2):
        pieces = [p for batch in Dlt(world.reach()).batches(world.since(refresh=True)) for p in batch.pieces]
        assert {piece.order for piece in pieces} == {"b"}
        _load(world, refresh=True)
        told = {row["a"]: row.get("$op") for row in world.held["s.shop"]}
        assert told == {1: None, 2: "delete", 3: None, 4: "delete", 5: None, 6: None, 7: "delete"}
    for quiet in (_table("shop", "merge", ("a",), hints="ignore"), _table("shop", "replace")):
        world.tables = (quiet,)
        _load(world, refresh=True)
        assert not any("$op" in row for row in world.held["s.shop"])


@pytest.mark.parametrize(
    ("hint", "message"),
    [("'dedup_sort': 'asc'", "keeps the row with the least 'B'"), ("}, 'at': {'dedup_sort': 'desc'", "sorts by 'at'")],
)
def test_hints_that_cannot_be_heeded_are_told(tmp_path: Path, hint: str, message: str) -> None:
    with pytest.raises(SourceError, match=message) as caught:
        _load(_world(tmp_path, HINTED % hint, _table("shop", "merge", ("a",))))
    assert "`hints: ignore`" in str(caught.value.hint)


def test_a_name_that_is_no_resource_is_told(tmp_path: Path) -> None:
    world = _world(tmp_path, SHOP, _table("order"))
    with pytest.raises(
        SourceError, match=r"the dlt source has no resource 'order'\. Did you mean 'orders'\?"
    ) as caught:
        _load(world)
    assert "resources: orders, lines, seen, others" in str(caught.value.hint)


def test_settings_come_from_the_environment_and_the_project_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = """
@dlt.source
def shop(one=dlt.config.value, two=dlt.secrets.value, three=dlt.config.value, four=dlt.secrets.value):
    return dlt.resource([{"a": 1, "b": [one, two, three, four]}], name="orders")
"""
    (tmp_path / ".dlt").mkdir()
    (tmp_path / ".dlt" / "config.toml").write_text("[sources]\none = '1'\n")
    (tmp_path / "home" / ".dlt").mkdir(parents=True)
    (tmp_path / "home" / ".dlt" / "config.toml").write_text("[sources]\nthree = 'of the home folder'\n")
    monkeypatch.setenv("SOURCES__TWO", "2")
    world = _world(tmp_path, code, _table("orders", arguments={"four": "env:TOKEN"}))
    with pytest.raises(SourceError, match="dlt lacks a setting: .*three") as caught:
        _load(world)
    assert "under `arguments:`" in str(caught.value.hint)
    world.tables = (_table("orders", arguments={"four": "env:TOKEN", "three": "3"}),)
    _load(world)
    assert world.held["s.orders"][0]["b"] == ["1", "2", "3", "hush-hush"]


def test_dlt_leaves_nothing_behind(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    world = _world(tmp_path, SHOP, _table("orders"), _table("lines"))
    _load(world)
    files = {path.name for path in tmp_path.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert files == {"shop.py"}
    assert not (tmp_path / "home").exists()
    assert capfd.readouterr() == ("", "")
    from dlt.common.configuration.container import Container
    from dlt.common.runtime import anon_tracker
    from dlt.common.runtime.telemetry import _TELEMETRY_STARTED  # noqa: F401

    assert anon_tracker._ANON_TRACKER_ENDPOINT is None
    assert Container() is not None


def test_two_sources_of_one_name_are_two_states(tmp_path: Path) -> None:
    world = _world(tmp_path, SHOP, _table("orders"), _table("seen", arguments={"to": 9}))
    with pytest.raises(ProjectError, match=r"s\.seen and s\.orders have different values of `arguments`"):
        _load(world)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("def shop():\n    return 5\n", "int is no dlt source or resource"),
        ("shop = 5\n", "not callable"),
        ("@dlt.source\ndef shop(a):\n    return []\n", "missing a required argument|lacks a setting|missing"),
        ("@dlt.source\ndef shop():\n    raise RuntimeError('why')\n", "RuntimeError: why"),
    ],
)
def test_what_is_no_source_is_told(tmp_path: Path, code: str, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        _load(_world(tmp_path, code, _table("orders")))


def test_without_dlt_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dlt", None)
    with pytest.raises(ProjectError, match="dlt is not installed") as caught:
        _load(_world(tmp_path, SHOP, _table("orders")))
    assert caught.value.hint == "pip install 'trunkline[dlt]'"
