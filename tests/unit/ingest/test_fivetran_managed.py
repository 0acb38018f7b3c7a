"""The `fivetran` connector with a managed connection: every documented state, against a server that speaks the API."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fivetran.server import KEY, SECRET, Fault, Fivetran, serving
from tests.unit.ingest.streaming import World
from trunkline.errors import ContractError, EngineError, ProjectError, SourceError, TransientError
from trunkline.ingest.fivetran import fits, open_fivetran
from trunkline.ingest.fivetran_managed import Managed
from trunkline.ingest.protocol import Batch, Table
from trunkline.project.connectors import FivetranOptions
from trunkline.warehouse.load import Column, Contract
from trunkline.warehouse.relation import Relation

OPTIONS = dict.fromkeys(FivetranOptions.__struct_fields__)
DONE = {"succeeded_at": "2026-11-23T08:00:00.000000Z", "sync_state": "scheduled"}
FAILED = {"failed_at": "2026-11-23T08:00:00.000000Z", "sync_state": "scheduled"}


@pytest.fixture(scope="module")
def server() -> Iterator[Fivetran]:
    with serving() as started:
        yield started


@pytest.fixture
def fivetran(server: Fivetran) -> Fivetran:
    server.reset()
    return server


class Managing:
    """A source on the server, in a time of its own: waits are over at once, and are counted."""

    def __init__(self, root: Path, fivetran: Fivetran, policy: Any = "quarantine", **options: Any) -> None:
        contract = Contract((Column("id", "BIGINT"), Column("name", "VARCHAR")), policy=policy)
        secrets = {"api_key": "env:FIVETRAN_KEY", "api_secret": "env:FIVETRAN_SECRET"}
        given = {"connection": fivetran.id, "api_url": fivetran.url, "wait": "6 hours", **secrets, **options}
        self.table = Table("shop.orders", Relation("shop", "orders"), contract, "append", OPTIONS | given)
        self.world = World(root, (self.table,), environ={"FIVETRAN_KEY": KEY, "FIVETRAN_SECRET": SECRET})
        self.world.reader.execute("create schema shop")
        self.slept: list[float] = []
        self.notes: list[str] = []

    def sql(self, *statements: str) -> None:
        for statement in statements:
            self.world.reader.execute(statement)

    def batches(self, refresh: bool = False) -> list[Batch]:
        reach = self.world.reach()
        source = Managed(reach, sleep=self.slept.append, clock=lambda: sum(self.slept))
        try:
            found = list(source.batches(self.world.since(refresh)))
        finally:
            self.notes = source.notes
        for batch in found:
            self.world.cursor = batch.cursor
            self.world.held["shop.orders"] = []
        return found


@pytest.fixture
def managing(tmp_path: Path, fivetran: Fivetran) -> Managing:
    managing = Managing(tmp_path, fivetran)
    managing.sql("create table shop.orders as select 1::bigint as id, 'a' as name")
    return managing


def _asked(fivetran: Fivetran) -> list[str]:
    return [f"{method} {path.removeprefix('/v1/connections/warm_tea') or '/'}" for method, path, _ in fivetran.asked]


# -- a sync


def test_a_sync_is_started_waited_for_and_registered(fivetran: Fivetran, managing: Managing) -> None:
    fivetran.script = [{"is_historical_sync": True, "update_state": "delayed"}, {}, DONE]
    (batch,) = managing.batches()
    assert [(table.table, table.rows) for table in batch.registered] == [("shop.orders", 1)]
    assert batch.cursor == {"succeeded_at": DONE["succeeded_at"], "synced": {}}
    assert _asked(fivetran) == ["GET /", "POST /sync", *["GET /"] * 4]
    assert fivetran.asked[1][2] == {"force": False}
    assert managing.slept == [2.0, 3.0, 4.5, 6.75]  # ever longer
    assert "s: syncing (historical sync: this takes long) (delayed)" in managing.world.told


def test_a_sync_that_runs_already_is_waited_for(fivetran: Fivetran, managing: Managing) -> None:
    fivetran.change(sync_state="syncing")
    fivetran.script = [{}, DONE]
    assert len(managing.batches()) == 1
    assert "POST /sync" not in _asked(fivetran)


def test_a_full_refresh_is_a_historical_sync(fivetran: Fivetran, managing: Managing) -> None:
    """Not of tables that are not there yet; one that runs is waited for; the end of another sync is not its end."""
    fivetran.script = [DONE | {"succeeded_at": "2026-11-23T07:00:00Z"}]
    managing.batches(refresh=True)
    assert "POST /sync" in _asked(fivetran)
    fivetran.script = [DONE | {"sync_state": "syncing"}, {}, {"is_historical_sync": False, "sync_state": "scheduled"}]
    (batch,) = managing.batches(refresh=True)
    assert _asked(fivetran).count("POST /resync") == 1
    assert fivetran.asked[-5][:2] == ("POST", "/v1/connections/warm_tea/resync")
    assert batch.registered[0].rows == 1
    fivetran.change(sync_state="syncing", is_historical_sync=True)
    fivetran.script = [{"succeeded_at": "2026-11-24T08:00:00Z", "is_historical_sync": False, "sync_state": "scheduled"}]
    assert len(managing.batches(refresh=True)) == 1
    assert _asked(fivetran).count("POST /resync") == 1
    fivetran.script = [{"failed_at": "2026-11-25T08:00:00Z", "sync_state": "scheduled"}]
    with pytest.raises(SourceError):
        managing.batches(refresh=True)


def test_waits_grow_to_a_minute_and_end(fivetran: Fivetran, managing: Managing) -> None:
    with pytest.raises(EngineError, match="is still syncing after 21,600 s") as caught:
        managing.batches()
    assert max(managing.slept) == 60.0
    assert sum(managing.slept) == pytest.approx(21_600)
    assert "run the same command again to go on waiting" in str(caught.value)
    assert not isinstance(caught.value, TransientError)  # which would begin once more at once
    assert len(fivetran.asked) < 500  # requests an hour, of a trial account


def test_the_schedule_can_be_made_manual(tmp_path: Path, fivetran: Fivetran) -> None:
    managing = Managing(tmp_path, fivetran, schedule="manual")
    managing.sql("create table shop.orders as select 1::bigint as id, 'a' as name")
    for day in (1, 2):
        fivetran.script = [DONE | {"succeeded_at": f"2026-12-0{day}T00:00:00Z"}]
        managing.batches()
    assert _asked(fivetran).count("PATCH /") == 1
    assert fivetran.data["schedule_type"] == "manual"


def test_a_sync_that_is_put_off_is_started_again_where_nobody_else_does(fivetran: Fivetran, managing: Managing) -> None:
    soon = (dt.datetime.now(dt.UTC) + dt.timedelta(hours=1)).isoformat()
    for manual, due, starts in (("auto", "2026-01-01T00:00:00Z", 1), ("manual", soon, 1), ("manual", None, 2)):
        fivetran.reset()
        fivetran.change(schedule_type=manual)
        put_off = {"sync_state": "rescheduled", "rescheduled_for": due}
        fivetran.script = [put_off, {}, DONE] if starts == 1 else [put_off, DONE]
        managing.batches()
        assert _asked(fivetran).count("POST /sync") == starts
    assert f"s: rescheduled for {soon}" in managing.world.told


@pytest.mark.parametrize(
    ("state", "error"),
    [
        ({"setup_state": "incomplete"}, "has not been set up to the end\n  reconnect: Reconnect (the token is old)"),
        ({"setup_state": "broken"}, "is broken\n  reconnect: Reconnect (the token is old)"),
        ({"sync_state": "paused"}, "is paused"),
        ({"paused": True}, "is paused"),
    ],
)
@pytest.mark.parametrize("late", [False, True])
def test_a_connection_that_needs_somebody_says_so(
    fivetran: Fivetran, managing: Managing, state: dict[str, Any], error: str, late: bool
) -> None:
    state = {**state, "tasks": [{"code": "reconnect", "message": "Reconnect", "details": "the token is old"}]}
    if late:
        fivetran.script = [state]
    else:
        fivetran.change(**state)
    with pytest.raises(SourceError, match=re.escape(f"connection warm_tea {error}")) as caught:
        managing.batches()
    assert "https://fivetran.com/dashboard/connections/warm_tea" in str(caught.value)
    assert ("POST /sync" in _asked(fivetran)) == late


def test_a_failed_sync_is_told_with_its_tasks(fivetran: Fivetran, managing: Managing) -> None:
    fivetran.script = [FAILED | {"warnings": [{"code": "w", "message": "Slow"}]}]
    with pytest.raises(SourceError, match="sync of connection warm_tea failed at 2026-11-23T08:00:00.000000Z\n  w: S"):
        managing.batches()
    fivetran.reset()  # an old failure says nothing of a new sync
    fivetran.change(failed_at="2026-11-21T00:00:00Z")
    fivetran.script = [DONE | {"warnings": [{"code": "w", "message": "Slow"}]}]
    assert len(managing.batches()) == 1
    assert managing.notes == ["Fivetran warns: w: Slow"]


# -- HTTP


@pytest.mark.parametrize(
    "faults",
    [
        [Fault(429, {"Retry-After": "17"})],
        [Fault(503), Fault(500), Fault(502)],
        [Fault(), Fault()],  # dropped
        [Fault(429), Fault(), Fault(504, {"Retry-After": "Thu, 01 Jan 2032 00:00:00 GMT"})],
    ],
)
@pytest.mark.parametrize("after", [0, 1, 2])
def test_passing_faults_pass(fivetran: Fivetran, managing: Managing, faults: list[Fault], after: int) -> None:
    fivetran.script = [{}, DONE]
    fivetran.faults, fivetran.calm = list(faults), after
    assert len(managing.batches()) == 1
    if "Retry-After" in faults[0].headers:
        assert 17.0 in managing.slept
    assert any("trying again in" in text for text in managing.world.told)


def test_a_server_that_stays_away_is_told_as_passing(fivetran: Fivetran, managing: Managing) -> None:
    fivetran.faults = [Fault(503)] * 6
    with pytest.raises(TransientError, match="Fivetran's API: HTTP 503, fault 503"):
        managing.batches()
    assert len(fivetran.asked) == 6


@pytest.mark.parametrize(
    ("status", "error"),
    [(401, "see `api_key`"), (403, "needs the right"), (404, "no connection 'warm_tea'"), (400, "HTTP 400, fault 400")],
)
def test_what_is_refused_is_not_tried_again(fivetran: Fivetran, managing: Managing, status: int, error: str) -> None:
    fivetran.faults = [Fault(status)]
    with pytest.raises(SourceError, match=re.escape(error)):
        managing.batches()
    assert len(fivetran.asked) == 1


def test_the_secret_goes_nowhere_else(tmp_path: Path, fivetran: Fivetran, managing: Managing) -> None:
    fivetran.faults = [Fault(302, {"Location": f"{fivetran.url}/v1/connections/elsewhere"})]
    with pytest.raises(SourceError, match="HTTP 302"):
        managing.batches()
    assert len(fivetran.asked) == 1
    with pytest.raises(ProjectError, match="is no https:// address"):
        Managing(tmp_path / "plain", fivetran, api_url="http://api.example.org").batches()
    wrong = Managing(tmp_path / "wrong", fivetran)
    wrong.world.environ["FIVETRAN_SECRET"] = "guess"  # type: ignore[index]
    with pytest.raises(SourceError, match="Invalid authorization credentials") as caught:
        wrong.batches()
    assert "guess" not in str(caught.value)


def test_an_answer_of_another_server_is_told(fivetran: Fivetran, managing: Managing) -> None:
    fivetran.odd = {"hello": "world"}
    with pytest.raises(SourceError, match="does not answer as Fivetran's API does"):
        managing.batches()


# -- what it landed


def test_rows_are_counted_by_when_they_were_synced(tmp_path: Path, fivetran: Fivetran) -> None:
    managing = Managing(tmp_path, fivetran)
    columns = "id bigint, name varchar, _fivetran_synced timestamptz"
    managing.sql(f"create table shop.orders ({columns})")
    managing.sql("insert into shop.orders values (1, 'a', '2026-11-23 08:00:00Z')")
    counts = []
    for day in range(1, 4):
        fivetran.script = [DONE | {"succeeded_at": f"2026-12-0{day}T00:00:00Z"}]
        if day == 2:
            managing.sql("insert into shop.orders values (2, 'b', '2026-12-02 08:00:00.123456Z')")
            managing.sql("insert into shop.orders values (3, 'c', '2026-12-02 08:00:00Z')")
        counts.append([table.rows for batch in managing.batches() for table in batch.registered])
    assert counts == [[1], [2], []]  # the last sync brought nothing: no batch
    assert managing.world.cursor is not None
    assert managing.world.cursor["synced"] == {"shop.orders": "2026-12-02T08:00:00.123456+00:00"}


@pytest.mark.parametrize(
    ("table", "kind", "note"),
    [
        ("id integer, nam varchar", SourceError, "shop.orders has no column 'name'. Did you mean 'nam'?"),
        ("id varchar, name varchar", ContractError, "shop.orders.id is VARCHAR in the table, BIGINT in the contract"),
        ("id integer, name integer", None, ""),
    ],
)
def test_the_table_is_held_against_its_contract(
    tmp_path: Path, fivetran: Fivetran, table: str, kind: type[Exception] | None, note: str
) -> None:
    for policy in ("quarantine", "fail"):
        fivetran.reset()
        fivetran.script = [DONE]
        managing = Managing(tmp_path / policy, fivetran, policy)
        managing.sql(f"create table shop.orders ({table})")
        if policy == "fail" and kind:
            with pytest.raises(kind, match=re.escape(note)):
                managing.batches()
        else:
            assert len(managing.batches()) == 1
            assert managing.notes == ([note] if note else [])


def test_a_table_that_is_not_there_is_told_with_where_it_may_be(tmp_path: Path, fivetran: Fivetran) -> None:
    fivetran.script = [DONE]
    managing = Managing(tmp_path, fivetran)
    managing.sql("create table shop.order_s (id bigint)")
    with pytest.raises(SourceError, match=r"there is no table shop\.orders\. Did you mean 'shop\.order_s'\?") as caught:
        managing.batches()
    assert "the connection writes to the schema 'shop'" in str(caught.value)


def test_tables_of_one_source_have_one_connection(tmp_path: Path, fivetran: Fivetran) -> None:
    one, two = Managing(tmp_path / "1", fivetran), Managing(tmp_path / "2", fivetran, connection="other")
    one.world.tables = (one.table, two.table)
    with pytest.raises(ProjectError, match="have more than one `connection`"):
        open_fivetran(one.world.reach())
    assert isinstance(open_fivetran(two.world.reach()), Managed)


@pytest.mark.parametrize(
    ("given", "held", "fit"),
    [
        ("BIGINT", "INTEGER", False),
        ("SMALLINT", "DECIMAL(5,0)", True),
        ("BIGINT", "DECIMAL(18,0)", False),
        ("BIGINT", "DOUBLE", False),
        ("FLOAT", "DOUBLE", True),
        ("DOUBLE", "FLOAT", False),
        ("DECIMAL(15,2)", "DECIMAL(15,3)", False),
        ("DATE", "TIMESTAMP", True),
        ("TIMESTAMP WITH TIME ZONE", "TIMESTAMP", False),
        ("BOOLEAN", "BIGINT", False),
        ("JSON", "VARCHAR", True),
    ],
)
def test_types_fit_where_nothing_is_lost(given: str, held: str, fit: bool) -> None:
    assert fits(given, held) is fit
