"""The `fivetran` connector as a host: unmodified connectors on the real SDK, in a process of its own."""

from __future__ import annotations

import json
import os
import re
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.fivetran.environment import CONNECTORS, PYTHON
from tests.processes import alive
from tests.unit.ingest.streaming import World
from trunkline.errors import ProjectError, SourceError
from trunkline.ingest import fivetran_host
from trunkline.ingest.fivetran_sdk import Sdk
from trunkline.ingest.protocol import Table
from trunkline.project.connectors import FivetranOptions
from trunkline.warehouse.load import Column, Contract
from trunkline.warehouse.relation import Relation

SECRET = "hush-7f3a"
OPTIONS = dict.fromkeys(FivetranOptions.__struct_fields__)
CUSTOMERS = {"id": "BIGINT", "name": "VARCHAR"}
HEAD = "from fivetran_connector_sdk import Connector, Operations as op\n"


def _table(name: str, columns: dict[str, str], key: Sequence[str] = (), load: str = "", **options: Any) -> Table:
    contract = Contract(tuple(Column(*column) for column in columns.items()), key=tuple(key))
    load = load or ("merge" if key else "append")
    given = {"sdk": "shop", "configuration": {}, "python": str(PYTHON), "patience": "60 s", **options}
    return Table(f"s.{name}", Relation("raw", name), contract, load, OPTIONS | given)


def _shop(root: Path, **options: Any) -> World:
    (root / "shop").symlink_to(CONNECTORS / "shop")
    configuration = {"password": "env:PASSWORD", **options.pop("configuration", {})}
    tables = (
        _table("customers", CUSTOMERS, ["id"], configuration=configuration, **options),
        _table("notes", {"text": "VARCHAR"}, configuration=configuration, **options),
    )
    return World(root, tables, environ={"PASSWORD": SECRET})


def _again(world: World, root: Path) -> World:
    """The same tables as `world` has filled so far, from a connector that nothing goes wrong with."""
    root.mkdir()
    again = _shop(root)
    again.held, again.cursor = dict(world.held), world.cursor
    return again


def _own(root: Path, code: str, *tables: Table) -> World:
    (root / "shop").mkdir(parents=True)
    (root / "shop" / "connector.py").write_text(HEAD + code)
    return World(root, tables or (_table("t", {"a": "BIGINT", "b": "VARCHAR"}),))


def _load(world: World, most: int | None = None, **more: Any) -> Sdk:
    source = Sdk(world.reach())
    world.load(source.batches(world.since(**more)), most)
    return source


def _failed(world: World) -> str:
    with pytest.raises(SourceError) as caught:
        _load(world)
    return str(caught.value)


def _gone(pid: int) -> bool:
    """Whether a process is no more, soon."""
    for _ in range(100):
        if not alive(pid):
            return True
        time.sleep(0.05)
    return False


def _frames(connector: Path, tables: Any = None, **environ: str) -> Iterator[tuple[bytes, bytes]]:
    """What the host writes, and the tables it is told of."""
    command = [str(PYTHON), "-I", fivetran_host.__file__]
    env = {**os.environ, **environ}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=env
    ) as host:
        assert host.stdin is not None
        assert host.stdout is not None
        for line in ({"connector": str(connector), "configuration": {}, "state": {}}, {"tables": tables or {}}):
            host.stdin.write(json.dumps(line).encode() + b"\n")
            host.stdin.flush()
        while len(head := host.stdout.read(5)) == 5:
            kind, size = struct.unpack(">cI", head)
            yield kind, host.stdout.read(size)


# -- what arrives


def test_all_that_a_connector_sends_arrives(tmp_path: Path) -> None:
    world = _shop(tmp_path, configuration={"changes": "yes"})
    source = _load(world)
    assert [(row.get("$op"), row["id"], row.get("name")) for row in world.held["s.customers"]] == [
        *[(None, number, f"customer {number}") for number in range(1, 7)],
        ("update", 1, "renamed"),
        ("delete", 2, None),
    ]
    assert world.held["s.customers"][2] == {"id": 3, "name": "customer 3", "points": "0.75"}  # decimals are texts
    assert world.held["s.notes"] == [{"text": "afterwards"}]
    assert world.cursor == {"state": {"after": 6}, "content": {}}
    assert source.notes[0] == "the connector warns: the source is slow today"
    assert "6 rows of 'visits' were left out" in source.notes[2]
    assert "table: visits" in source.notes[2]


def test_the_next_sync_goes_on_from_the_state(tmp_path: Path) -> None:
    world = _shop(tmp_path, configuration={"customers": "4"})
    _load(world)
    for refresh, known in ((False, 4), (True, 0)):
        more = _again(world, tmp_path / str(known))
        _load(more, refresh=refresh)
        assert [row["id"] for row in more.held["s.customers"]] == list(range(1, 7))
        assert f"s: begins after {known} with ***" in more.told


@pytest.mark.parametrize("form", ["true", "false"])
def test_every_type_arrives_exactly(form: str) -> None:
    """In the short form of values that the host asks the SDK for, and in the long form of other versions."""
    wanted = {"every_type": {"source": "s.every_type", "id": False, "synced": False, "deleted": False}}
    frames = list(_frames(CONNECTORS / "shop" / "connector.py", wanted, ConnectorSdkRemoveValueType=form))
    (rows,) = (payload for kind, payload in frames if kind == b"R")
    row = json.loads(rows.removeprefix(b"s.every_type\n"))
    times = {"naive": row.pop("naive"), "utc": row.pop("utc")}
    assert times["naive"] == "2007-12-03T10:15:30.123456"
    assert re.fullmatch(r"2007-12-03T08:15:30\.123(000)?(Z|\+00:00)", times["utc"])
    assert row == {
        "id": 1,
        "flag": True,
        "small": 32767,
        "whole": -2147483648,
        "large": 9007199254740993,
        "amount": "12345678901234567890.123456789",
        "single": 0.1,
        "double": 123456.7890123,
        "day": "2007-12-03",
        "data": "\\x00\\xFF\\x41",
        "xml": '<a>ä &amp; "b"</a>',
        "text": "line\nfeed, \t tab, 'quote' \\ ☃",
        "doc": {"a": [1, None, "ü"], "b": {"c": 1.5}},
        "word": '"a JSON text"',  # quoted: what is read as a text is JSON still
        "nothing": None,
    }
    assert frames[-1] == (b"Z", b"")


def test_values_that_json_has_no_word_for(tmp_path: Path) -> None:
    code = """
def schema(configuration):
    return [{"table": "t", "columns": {"a": "DOUBLE", "j": "JSON"}}]
def update(configuration, state):
    for a in (float("nan"), float("inf"), float("-inf"), 1e300):
        yield op.upsert("t", {"a": a, "j": {"x": a}, "b": "\\x00\\u2028", "$op": "delete", "u": 10**25})
connector = Connector(update=update, schema=schema)
"""
    world = _own(tmp_path, code)
    _load(world)
    assert [row["a"] for row in world.held["s.t"]] == ["NaN", "Infinity", "-Infinity", 1e300]
    assert [row["j"] for row in world.held["s.t"]] == [{"x": None}, {"x": None}, {"x": None}, {"x": 1e300}]
    assert {(row["b"], row["_op"], row["u"]) for row in world.held["s.t"]} == {("\x00\u2028", "delete", 1e25)}
    assert world.cursor == {"state": None, "content": {}}  # no checkpoint: nothing to go on from
    assert list((tmp_path / "shop").iterdir()) == [tmp_path / "shop" / "connector.py"]  # nothing of ours beside it


def test_columns_of_fivetran_s_own_are_filled_where_the_contract_has_them(tmp_path: Path) -> None:
    (tmp_path / "shop").symlink_to(CONNECTORS / "shop")
    own = {"_fivetran_deleted": "BOOLEAN", "_fivetran_synced": "TIMESTAMPTZ"}
    tables = (
        _table("customers", CUSTOMERS | own, ["id"], configuration={"changes": "yes"}),
        _table(
            "notes", {"text": "VARCHAR", "_fivetran_id": "VARCHAR"}, ["_fivetran_id"], configuration={"changes": "yes"}
        ),
    )
    world = World(tmp_path, tables)
    batches = Sdk(world.reach()).batches(world.since())
    ids: list[str] = []
    for batch in batches:
        ids += [row["_fivetran_id"] for p in batch.pieces if p.table == "s.notes" for row in world.rows(p.scan)]
        world._commit(batch)
    assert len(ids) == 4
    assert len(set(ids)) == 3  # equal rows are one row
    rows = world.held["s.customers"]
    assert [(row.get("$op"), row.get("_fivetran_deleted")) for row in rows] == [
        *[(None, False)] * 6,
        ("update", None),
        ("update", True),
    ]
    assert all(row["_fivetran_synced"].startswith("20") for row in rows)


# -- what is told before the first row


def test_a_table_with_a_key_at_the_source_is_not_appended_to(tmp_path: Path) -> None:
    world = _shop(tmp_path)
    world.tables = (_table("customers", CUSTOMERS), world.tables[1])
    text = _failed(world)
    assert "s.customers is appended to, but the connector replaces its rows by id" in text
    assert "say `load: merge` and `key: [id]`" in text
    assert not world.loads


def test_a_schema_that_differs_is_told(tmp_path: Path) -> None:
    code = """
def schema(configuration):
    return [{"table": "T", "primary_key": ["a", "c"], "columns": {"a": "STRING", "b": "UTC_DATETIME", "c": "INT"}}]
def update(configuration, state):
    op.upsert("T", {"a": "1", "b": None, "c": 2})
connector = Connector(update=update, schema=schema)
"""
    world = _own(tmp_path, code, _table("t", {"a": "BIGINT", "b": "VARCHAR", "c": "bigint"}, ["a"]))
    assert _load(world).notes == [
        "s.t: the key is a here, a, c in the connector",
        "s.t.a: BIGINT in the contract, VARCHAR in the connector",
    ]
    assert world.held["s.t"] == [{"a": "1", "b": None, "c": 2}]


def test_a_table_may_have_another_name_at_the_source(tmp_path: Path) -> None:
    code = """
def schema(configuration):
    return [{"schema": "Sales", "table": "Orders", "columns": {"a": "LONG"}}, {"table": "t"}]
def update(configuration, state):
    op.upsert("Orders", {"a": 1}, schema="Sales")
    op.upsert("Orders", {"a": 2})
    op.upsert("t", {"a": 3})
connector = Connector(update=update, schema=schema)
"""
    columns = {"a": "BIGINT"}
    world = _own(tmp_path, code, _table("t", columns), _table("sales", columns, table="sales.orders"))
    source = _load(world)
    assert world.held == {"s.t": [{"a": "3"}], "s.sales": [{"a": 1}]}
    assert len(source.notes) == 1
    assert "1 rows of 'Orders' were left out" in source.notes[0]


# -- what goes wrong


@pytest.mark.parametrize("customers", [1, 3])
def test_a_connector_that_raises_keeps_what_its_checkpoints_say(tmp_path: Path, customers: int) -> None:
    world = _shop(tmp_path, configuration={"raise_after": str(customers)})
    text = _failed(world)
    assert "the connector failed: ValueError: the source is closed" in text
    assert re.search(r"connector\.py:\d+ in trouble: raise ValueError", text)
    assert "fivetran_host" not in text
    assert "Traceback" not in text
    kept = customers // 2 * 2
    assert [row["id"] for row in world.held.get("s.customers", [])] == list(range(1, kept + 1))
    assert (world.cursor or {}).get("state") == ({"after": kept} if kept else None)
    again = _again(world, tmp_path / "again")
    _load(again)
    assert [row["id"] for row in again.held["s.customers"]] == list(range(1, 7))


def test_a_connector_that_exits_has_not_ended_well(tmp_path: Path) -> None:
    world = _shop(tmp_path, configuration={"exit_after": "3"})
    assert "the connector failed: SystemExit: enough" in _failed(world)
    assert [row["id"] for row in world.held["s.customers"]] == [1, 2]


def test_a_connector_that_is_killed_is_told_with_its_last_words(tmp_path: Path) -> None:
    world = _shop(tmp_path, configuration={"kill_after": "3"})
    text = _failed(world)
    assert "was killed by signal 9 in the middle of a sync" in text
    assert "a line of its own" in text
    # what its last checkpoint says may still have been on its way out of the process
    assert [row["id"] for row in world.held.get("s.customers", [])] == ([1, 2] if world.cursor else [])


def test_a_connector_that_hangs_is_ended_with_all_it_started(tmp_path: Path) -> None:
    world = _shop(tmp_path, configuration={"hang_after": "3"}, patience="2 s")
    assert "the connector said nothing for 2 s and was ended" in _failed(world)
    assert [row["id"] for row in world.held["s.customers"]] == [1, 2]
    (pid,) = (int(text.rpartition(" ")[2]) for text in world.told if "started" in text)
    assert _gone(pid)


def test_an_error_that_the_connector_reports_ends_the_sync(tmp_path: Path) -> None:
    code = """
def update(configuration, state):
    op.upsert("t", {"a": 1})
    op.error("the account is locked", trace="see the mail")
connector = Connector(update=update)
"""
    world = _own(tmp_path, code)
    assert "the connector failed: the account is locked\nsee the mail" in _failed(world)
    assert not world.held


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("import no_such_module", "cannot be imported: ModuleNotFoundError: No module named 'no_such_module'"),
        ("def update(:", "connector.py cannot be imported: SyntaxError"),
        ("connector = 1", "it has no `connector = Connector(update=update, schema=schema)`"),
        ("def update(configuration, state): op.upsert('t', {'a': object})\nconnector = Connector()", "TypeError"),
        ("def schema(c): return [{}]\nconnector = Connector(update=print, schema=schema)", "Entry missing table name"),
        ("def schema(c): return 1 / 0\nconnector = Connector(update=print, schema=schema)", "in schema: def schema(c)"),
    ],
)  # fmt: skip
def test_a_connector_that_cannot_run_says_why(tmp_path: Path, code: str, error: str) -> None:
    world = _own(tmp_path, code)
    (tmp_path / "shop" / "requirements.txt").write_text("no_such_module\n")
    text = _failed(world)
    assert error in text
    if "no_such" in code:
        assert f"{PYTHON} -m pip install -r {tmp_path}/shop/requirements.txt" in text


def test_nothing_shown_has_the_secret_and_nothing_of_ours_is_handed_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OUR_TOKEN", "not for connectors")
    world = _shop(tmp_path, configuration={"raise_after": "1"})
    _failed(world)
    assert "begins after 0 with ***" in "\n".join(world.told)
    assert SECRET not in "\n".join(world.told)
    code = """
import os, sys
def update(configuration, state):
    op.upsert("t", {"a": 1, "b": " ".join(os.environ)})
    op.upsert("t", {"a": 2, "b": " ".join(open("/proc/self/cmdline").read().split("\\0"))})
    print("a line", input) if sys.stdin.read() == "" else None
connector = Connector(update=update)
"""
    other = _own(tmp_path / "other", code)
    _load(other)
    environment, command = (row["b"] for row in other.held["s.t"])
    assert "FIVETRAN_CONNECTION_NAME" in environment
    assert "OUR_TOKEN" not in environment
    assert "PASSWORD" not in environment
    assert command.split() == [str(PYTHON), "-I", fivetran_host.__file__]


# -- the process


def test_a_sync_that_nobody_reads_any_more_is_ended(tmp_path: Path) -> None:
    code = """
import os
def update(configuration, state):
    print("started", os.getpid(), flush=True)
    for number in range(10**6):
        op.upsert("t", {"a": number, "b": "x" * 10**6})
        op.checkpoint({"to": number})
connector = Connector(update=update)
"""
    world = _own(tmp_path, code)
    world.load(Sdk(world.reach()).batches(world.since()), most=1)
    (pid,) = {int(text.rpartition(" ")[2]) for text in world.told if "started" in text}
    assert _gone(pid)
    assert world.cursor is not None
    assert world.cursor["state"] == {"to": len(world.held["s.t"]) - 1}


def test_no_child_outlives_us(tmp_path: Path) -> None:
    code = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parents[3])!r})
from pathlib import Path
from tests.unit.ingest import test_fivetran_sdk as t
world = t._shop(Path({str(tmp_path)!r}), configuration={{"hang_after": "3"}})
world.told = type("Out", (list,), {{"append": lambda self, text: print(text, flush=True)}})()
t._load(world)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        line = next(line for line in parent.stdout if "started" in line)
        grandchild = int(line.rpartition(" ")[2])
        host = int(Path(f"/proc/{grandchild}/stat").read_text().rpartition(")")[2].split()[1])
        parent.send_signal(signal.SIGKILL)
    assert _gone(host)
    assert _gone(grandchild)


def test_checkpoints_wait_as_long_as_a_load_takes(tmp_path: Path) -> None:
    code = """
import fivetran_connector_sdk.operation_stream as stream
def update(configuration, state):
    assert stream.CHECKPOINT_OP_TIMEOUT_IN_SEC is None, "two minutes"
connector = Connector(update=update)
"""
    _load(_own(tmp_path, code))


# -- the environment


def test_an_environment_without_the_sdk_is_told_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRUNKLINE_FIVETRAN_PYTHON", raising=False)
    for given, what in (
        (None, "there is no environment with Fivetran's SDK"),
        (sys.executable, "fivetran-connector-sdk is not installed"),
        ("no/such/python", "does not start: No such file or directory"),
    ):
        world = World(tmp_path, (_table("t", {"a": "BIGINT"}, python=given),))
        with pytest.raises(ProjectError, match=re.escape(what)) as caught:
            _load(world)
        assert "-m pip install 'fivetran-connector-sdk>=2.13.1,<3'" in str(caught.value) or "such" in str(given)


def test_a_later_sdk_is_refused_before_it_is_imported(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "env"], check=True)
    (packages,) = (tmp_path / "env").glob("lib/python*/site-packages")
    (packages / "fivetran_connector_sdk-3.0.0.dist-info").mkdir()
    (packages / "fivetran_connector_sdk-3.0.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: fivetran-connector-sdk\nVersion: 3.0.0\n"
    )
    (packages / "fivetran_connector_sdk.py").write_text("raise AssertionError('imported')")
    python = str(tmp_path / "env" / "bin" / "python")
    world = World(tmp_path, (_table("t", {"a": "BIGINT"}, python=python),))
    with pytest.raises(ProjectError, match="is 3.0.0, not 2.13 or newer and below 3"):
        _load(world)
