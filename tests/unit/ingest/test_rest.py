"""The `rest` connector against a real HTTP server that is paginated, slow, full, rude and gone."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests import api as apis
from tests.unit.ingest.streaming import World, table
from trunkline.errors import ProjectError, SourceError, TransientError
from trunkline.ingest import dlt_rest
from trunkline.ingest.protocol import Table
from trunkline.ingest.rest import Rest, resource
from trunkline.project import yaml
from trunkline.project.connectors import RestOptions, TableOptions
from trunkline.project.sources import read_sources

PAGES = {"type": "page_number", "base_page": 1, "total_path": "pages"}
SINCE = {"cursor_path": "a", "start_param": "since", "initial_value": 0, "row_order": "asc"}


@pytest.fixture(scope="module")
def server() -> Iterator[apis.Api]:
    with apis.serving() as api:
        yield api


@pytest.fixture
def api(server: apis.Api, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> apis.Api:
    monkeypatch.setattr(dlt_rest, "_FIRST_WAIT", 0.01)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    server.reset()
    server.cursor = "a"
    server.tables["t"] = [{"a": n, "b": f"n{n}"} for n in range(1, 451)]
    return server


def _table(name: str = "t", load: str = "append", key: tuple[str, ...] = (), **options: Any) -> Table:
    declared = msgspec.to_builtins(RestOptions(connector="rest", client={"base_url": "http://127.0.0.1:1"}))
    given = {name: value for name, value in declared.items() if name not in TableOptions.__struct_fields__}
    endpoint = {"path": name, "data_selector": "data", **options.pop("endpoint", {})}
    return table(name, load=load, key=key, **given | {"endpoint": endpoint} | options)


def _world(root: Path, api: apis.Api, *tables: Table, **client: Any) -> World:
    whole = {"base_url": api.url, "paginator": PAGES, **client}
    for one in tables:
        one.options["client"] = whole  # type: ignore[index]
    return World(root, tables, environ={"TOKEN": "open-sesame"})


def _load(world: World, most: int | None = None, **more: Any) -> None:
    world.load(Rest(world.reach()).batches(world.since(**more)), most)


def _numbers(world: World, name: str = "s.t") -> list[int]:
    return [row["a"] for row in world.held[name]]


def test_all_pages_with_credentials_and_then_what_is_new(tmp_path: Path, api: apis.Api) -> None:
    api.token = "open-sesame"
    world = _world(
        tmp_path, api, _table(endpoint={"incremental": SINCE}), auth={"type": "bearer", "token": "env:TOKEN"}
    )
    _load(world)
    assert _numbers(world) == list(range(1, 451))
    assert len(api.asked) == 5
    assert any("page 5" in text for text in world.told)
    api.tables["t"] = [*api.tables["t"], {"a": 451, "b": "new"}]
    _load(world)
    assert _numbers(world) == list(range(1, 452))
    assert "since=450" in api.asked[-1][0]
    _load(world)
    assert len(world.loads) == 2
    assert "open-sesame" not in json.dumps([world.cursor, world.told])


@pytest.mark.parametrize(
    "fault",
    [
        {"status": 429, "headers": {"Retry-After": "1"}},
        {"status": 503},
        {"status": 500},
        {"drop": True},
        {"seconds": 0.6},
    ],
    ids=["429", "503", "500", "dropped", "slow"],
)
def test_what_passes_is_asked_again(tmp_path: Path, api: apis.Api, fault: dict[str, Any]) -> None:
    api.fault("page=3", times=2 if "headers" not in fault else 1, **fault)
    start = time.monotonic()
    world = _world(tmp_path, api, _table(timeout=0.3))
    _load(world)
    assert _numbers(world) == list(range(1, 451))
    assert len(api.asked) == 5 + (2 if "headers" not in fault else 1)
    assert any("trying again in" in text for text in world.told)
    if "headers" in fault:
        assert time.monotonic() - start >= 1


@pytest.mark.parametrize("ordered", [True, False])
def test_what_does_not_pass_is_told_and_the_next_load_goes_on(tmp_path: Path, api: apis.Api, ordered: bool) -> None:
    incremental = {**SINCE, "row_order": "asc" if ordered else None}
    if not ordered:
        del incremental["row_order"]
    world = _world(tmp_path, api, _table(endpoint={"incremental": incremental}, retries=2))
    api.fault("page=4", times=100, status=502)
    with pytest.raises(TransientError, match=r"GET http://127\.0\.0\.1:\d+/t\?.*page=4: HTTP 502") as caught:
        _load(world)
    assert "run the same command again" in str(caught.value.hint)
    assert world.held.get("s.t") == (world.held["s.t"][:300] if ordered else None)
    assert len([path for path, _ in api.asked if "page=4" in path]) == 3
    api.faults.clear()
    _load(world)
    assert _numbers(world) == list(range(1, 451))


def test_a_pace_is_kept(tmp_path: Path, api: apis.Api) -> None:
    world = _world(tmp_path, api, _table(requests_per_second=20))
    _load(world)
    times = [at for _, at in api.asked]
    assert times[-1] - times[0] >= 4 * 0.05 * 0.9


def test_parents_and_their_children(tmp_path: Path, api: apis.Api) -> None:
    api.page = 2
    api.tables["t"] = [{"a": n, "b": f"n{n}"} for n in range(1, 6)]
    api.tables["u"] = [{"a": 10 * n + i, "t_id": n, "b": "x"} for n in range(1, 6) for i in range(3)]
    child = _table("u", endpoint={"path": "t/{resources.t.a}/u"}, resource={"include_from_parent": ["b"]})
    world = _world(tmp_path, api, _table(), child)
    _load(world)
    assert sorted(_numbers(world, "s.u")) == sorted(row["a"] for row in api.tables["u"])
    assert {row["_t_b"] for row in world.held["s.u"]} == {f"n{n}" for n in range(1, 6)}


def test_the_child_alone_needs_its_parent(tmp_path: Path, api: apis.Api) -> None:
    child = _table("u", endpoint={"path": "t/{resources.t.a}/u"})
    with pytest.raises(ProjectError, match="non existing parent resource `t`"):
        _load(_world(tmp_path, api, child))


@pytest.mark.parametrize("paginator", [{"type": "json_link", "next_url_path": "next"}, "auto", None])
def test_links_to_the_next_page(tmp_path: Path, api: apis.Api, paginator: Any) -> None:
    world = _world(tmp_path, api, _table(), paginator=paginator)
    _load(world)
    assert _numbers(world) == list(range(1, 451))


@pytest.mark.parametrize(
    ("status", "hint"),
    [(401, "see `auth`"), (403, "may not read"), (404, "see `base_url`"), (400, "see `params`"), (422, "see `params`")],
)
def test_what_the_server_refuses_is_told_without_asking_again(
    tmp_path: Path, api: apis.Api, status: int, hint: str
) -> None:
    api.fault("/t", times=100, status=status)
    with pytest.raises(SourceError, match=rf"HTTP {status}, not now") as caught:
        _load(_world(tmp_path, api, _table()))
    assert hint in str(caught.value.hint)
    assert len(api.asked) == 1


def test_a_server_that_is_not_there_may_be_there_later(tmp_path: Path, api: apis.Api) -> None:
    with pytest.raises(TransientError, match="Connection refused"):
        _load(_world(tmp_path, api, _table(retries=1), base_url="http://127.0.0.1:1"))


def test_a_server_that_asks_for_an_hour_is_not_waited_for(tmp_path: Path, api: apis.Api) -> None:
    api.fault("/t", times=100, status=429, headers={"Retry-After": "3600"})
    with pytest.raises(SourceError, match="asks for 3,600 s of patience"):
        _load(_world(tmp_path, api, _table()))


def test_an_answer_that_is_no_json_is_shown(tmp_path: Path, api: apis.Api) -> None:
    api.odd["t"] = ("text/html", b"<html><body>Please   log in</body></html>")
    with pytest.raises(SourceError, match=r"the answer is no JSON \(text/html\): '<html><body>Please log in"):
        _load(_world(tmp_path, api, _table()))


def test_a_selector_that_finds_nothing_is_told(tmp_path: Path, api: apis.Api) -> None:
    with pytest.raises(SourceError, match="nothing at the data_selector 'items'") as caught:
        _load(_world(tmp_path, api, _table(endpoint={"data_selector": "items"})))
    assert caught.value.hint == "the answer has: data, page, pages, next"
    api.tables["t"] = []
    world = _world(tmp_path / "empty", api, _table(endpoint={"data_selector": "data[*]"}))
    _load(world)
    assert world.held["s.t"] == []


@pytest.mark.parametrize(
    ("paginator", "message"),
    [
        ({"type": "json_link", "next_url_path": "next"}, "was asked for twice"),
        ({"type": "page_number", "base_page": 1, "total_path": None}, "3 pages one after the other are the same"),
    ],
)
def test_pages_that_never_end(tmp_path: Path, api: apis.Api, paginator: Any, message: str) -> None:
    api.odd["t"] = ("application/json", json.dumps({"data": [{"a": 1}], "next": f"{api.url}/t"}).encode())
    with pytest.raises(SourceError, match=message) as caught:
        _load(_world(tmp_path, api, _table(), paginator=paginator))
    assert "see `paginator`" in str(caught.value.hint)
    assert len(api.asked) <= 3


def test_long_numbers_stay_exact(tmp_path: Path, api: apis.Api) -> None:
    body = b'{"data": [{"a": 123456789012345678901234567890, "b": 0.1234567890123456789}], "pages": 1}'
    api.odd["t"] = ("application/json", body)
    world = _world(tmp_path, api, _table())
    _load(world)
    assert world.held["s.t"] == [{"a": "123456789012345678901234567890", "b": "0.1234567890123456789"}]


def test_while_it_waits_it_can_be_stopped(tmp_path: Path, api: apis.Api) -> None:
    api.fault("page=3", times=100, status=429, headers={"Retry-After": "200"})
    world = _world(tmp_path, api, _table())

    def interrupt(text: str, done: float | None = None) -> None:
        if "trying again in 200 s" in text:
            threading.Timer(0.2, os.kill, [os.getpid(), signal.SIGINT]).start()

    reading = Rest(dataclasses.replace(world.reach(), progress=interrupt)).batches(world.since())
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        next(reading)
    assert time.monotonic() - start < 4
    assert "reading s" not in [thread.name for thread in threading.enumerate()]


OPTIONS = """
sources:
  - name: s
    tables:
      - name: t
        config: {{meta: {{trunkline: {{connector: rest, client: {{base_url: "https://x.org", {client}}} {more}}}}}}}
        columns: [{{name: a, data_type: bigint}}]
"""


@pytest.mark.parametrize(
    ("client", "more", "message"),
    [
        ("auth: {type: bearer, token: abc}", "", "token: a secret is named here, not written down"),
        ("headers: {X-Api-Key: abc}", "", "the header 'X-Api-Key' is a secret: say env:X_API_KEY"),
        ("", ", requests_per_second: 0", "'requests_per_second' must be more than 0"),
        ("", ", timeout: 0", "'retries' must be 0 or more, 'timeout' more than 0"),
        ("", ", endpoint: {auth: {type: api_key, api_key: abc}}", "api_key: a secret is named here"),
    ],
)
def test_the_declaration_is_checked_with_its_line(tmp_path: Path, client: str, more: str, message: str) -> None:
    file = tmp_path / "sources.yml"
    file.write_text(OPTIONS.format(client=client, more=more))
    with pytest.raises(ProjectError) as caught:
        list(read_sources(yaml.load(file)))
    assert message in caught.value.what
    assert caught.value.line in (5, 6)


def test_references_and_plain_headers_are_taken(tmp_path: Path) -> None:
    file = tmp_path / "sources.yml"
    client = "auth: {type: api_key, name: key, api_key: env:KEY}, headers: {Accept: application/json}"
    file.write_text(OPTIONS.format(client=client, more=", endpoint: things"))
    (found,) = read_sources(yaml.load(file))
    assert found.options.connector == "rest"


def test_a_table_as_dlt_wants_it() -> None:
    one = _table("issues", "merge", ("a",), endpoint={"path": ""}, resource={"name": "bugs"})
    assert resource(one) == {
        "name": "bugs",
        "primary_key": ["a"],
        "write_disposition": "merge",
        "endpoint": {"path": "issues", "data_selector": "data"},
    }
