"""The `python` connector: generator functions of the user."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.ingest.streaming import World, table
from trunkline.errors import ProjectError, SourceError, TransientError
from trunkline.ingest.python import Python

HEAD = "import trunkline as tl\n"


@pytest.fixture(autouse=True)
def _clean_modules(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "feeds"]:
        del sys.modules[name]


def _world(root: Path, code: str, *, load: str = "append", **arguments: Any) -> World:
    (root / "feeds").mkdir(exist_ok=True)
    (root / "feeds" / "orders.py").write_text(HEAD + code)
    options = table(load=load, function="feeds/orders.py:orders", arguments=arguments)
    return World(root, (options,), environ={"TOKEN": "hush-hush"})


def _load(world: World, most: int | None = None, **more: Any) -> None:
    world.load(Python(world.reach()).batches(world.since(**more)), most)


PAGES = """
@tl.source
def orders(since, pages=3):
    for page in range(since or 0, pages):
        yield {"a": page}
        yield [{"a": page, "b": "x"}]
        yield tl.Checkpoint(page + 1)
"""


def test_it_goes_on_from_its_last_checkpoint(tmp_path: Path) -> None:
    world = _world(tmp_path, PAGES)
    _load(world)
    assert [row["a"] for row in world.held["s.t"]] == [0, 0, 1, 1, 2, 2]
    _load(world)
    assert len(world.loads) == 1
    world = _world(tmp_path, PAGES.replace("pages=3", "pages=4"))
    world.cursor, world.held = {"state": 3}, {"s.t": []}
    _load(world)
    assert [row["a"] for row in world.held["s.t"]] == [3, 3]
    _load(world, refresh=True)
    assert len(world.held["s.t"]) == 8


def test_a_replaced_table_is_read_from_the_beginning(tmp_path: Path) -> None:
    world = _world(tmp_path, PAGES, load="replace")
    for _ in range(2):
        _load(world)
        assert len(world.held["s.t"]) == 6


def test_arguments_come_with_their_secrets_and_the_function_may_return_rows(tmp_path: Path) -> None:
    code = "@tl.source\ndef orders(token, n):\n    return [{'a': n, 'b': token[::-1]}]\n"
    world = _world(tmp_path, code, token="env:TOKEN", n=7)
    _load(world)
    assert world.held["s.t"] == [{"a": 7, "b": "hsuh-hsuh"}]


def test_frames_and_tables(tmp_path: Path) -> None:
    code = (
        "import pandas as pd\nimport pyarrow as pa\n@tl.source\ndef orders():\n"
        "    yield pd.DataFrame({'a': [1], 'b': ['x']})\n    yield pa.table({'a': [2], 'b': ['y']}).to_batches()[0]\n"
    )
    world = _world(tmp_path, code)
    _load(world)
    assert world.held["s.t"] == [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]


def test_the_users_error_has_the_users_lines_and_keeps_what_was_checkpointed(tmp_path: Path) -> None:
    code = (
        PAGES + "        helper(page)\n\ndef helper(page):\n    if page == 1:\n        raise KeyError('no such page')\n"
    )
    world = _world(tmp_path, code)
    with pytest.raises(SourceError, match=r"source s\.t: KeyError: 'no such page'") as caught:
        _load(world)
    assert caught.value.file == tmp_path / "feeds" / "orders.py"
    assert caught.value.line == 13
    assert "orders.py:9 in orders" in caught.value.what
    assert "trunkline/ingest" not in caught.value.what
    assert [row["a"] for row in world.held["s.t"]] == [0, 0, 1, 1]


def test_the_user_can_say_that_it_may_pass(tmp_path: Path) -> None:
    code = "from trunkline.errors import TransientError\n@tl.source\ndef orders():\n    raise TransientError('busy')\n"
    with pytest.raises(TransientError, match="busy"):
        _load(_world(tmp_path, code))


@pytest.mark.parametrize(
    ("code", "arguments", "message", "hint"),
    [
        ("def orders():\n    yield {}\n", {}, "'orders' is not declared as a source", "@tl.source"),
        ("orders = 5\n", {}, "'orders' is no function", ""),
        ("def order(): ...\n", {}, r"has no 'orders'\. Did you mean 'order'", ""),
        ("@tl.source\ndef orders(url):\n    yield {}\n", {}, "missing a required argument: 'url'", "it takes: url"),
        ("@tl.source\ndef orders():\n    yield {}\n", {"url": "x"}, "unexpected keyword argument 'url'", "gives: url"),
        ("orders = tl.source('x')\n", {}, "@tl.source wants a function", ""),
        ("1 / 0\n", {}, "cannot import feeds/orders.py: ZeroDivisionError", ""),
    ],
)  # fmt: skip
def test_what_is_no_source_is_told(
    tmp_path: Path, code: str, arguments: dict[str, Any], message: str, hint: str
) -> None:
    with pytest.raises(ProjectError, match=message) as caught:
        _load(_world(tmp_path, code, **arguments))
    assert hint in (caught.value.hint or "")
    assert str(caught.value.file).endswith("feeds/orders.py")


@pytest.mark.parametrize(("item", "kind"), [("'text'", "builtins.str"), ("5", "builtins.int"), ("None", "NoneType")])
def test_what_is_no_row_is_told(tmp_path: Path, item: str, kind: str) -> None:
    with pytest.raises(SourceError, match=rf"{kind} is no row") as caught:
        _load(_world(tmp_path, f"@tl.source\ndef orders():\n    yield {item}\n"))
    assert "yield dicts" in str(caught.value.hint)


@pytest.mark.parametrize("reference", ["feeds/orders.py", "orders:orders", "../x.py:y", "feeds/gone.py:orders"])
def test_references_that_lead_nowhere(tmp_path: Path, reference: str) -> None:
    world = World(tmp_path, (table(function=reference, arguments={}),))
    with pytest.raises(ProjectError):
        _load(world)
