"""A connection that Fivetran runs: start a sync, wait for its end, then look at the tables that it has filled."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Iterator
from typing import Any

from trunkline.errors import ContractError, EngineError, SourceError, did_you_mean
from trunkline.ingest.fivetran import contract_types, fits
from trunkline.ingest.fivetran_api import Api, Connection, instant
from trunkline.ingest.protocol import Batch, Reach, Registered, Since, Table
from trunkline.project.durations import seconds

_FIRST_POLL, _LONGEST_POLL = 2.0, 60.0
_SYNCED = "_fivetran_synced"


class Managed:
    """The tables of one connection. `sleep` and `clock` (seconds) are the time's own but for tests."""

    exclusive = False

    def __init__(
        self,
        reach: Reach,
        *,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        options = reach.tables[0].options
        self._reach = reach
        self._id: str = options["connection"]
        self._manual = options["schedule"] == "manual"
        self._wait = seconds(options["wait"])
        self._sleep, self._clock = sleep, clock
        key, secret = reach.secret([options["api_key"], options["api_secret"]])
        self._api = Api(options["api_url"], key, secret, self._tell, sleep)
        self.notes: list[str] = []

    def batches(self, since: Since) -> Iterator[Batch]:
        """One batch without rows: the tables, once a sync that ends from now on has succeeded."""
        last = dict(since.cursor or {})
        there = all(table.source in since.tables for table in self._reach.tables)
        done = self._synced(anew=since.refresh and there)  # a table that is not there yet is read whole anyway
        synced: dict[str, str] = dict(last.get("synced") or {})
        found = [self._landed(table, done.schema, synced) for table in self._reach.tables]
        if since.cursor is not None and not any(table.rows for table in found):
            return  # a sync that brought nothing: what is below stays fresh
        yield Batch(registered=tuple(found), cursor={"succeeded_at": done.succeeded_at, "synced": synced})

    # -- the sync

    def _synced(self, *, anew: bool) -> Connection:
        """The connection after a sync, `anew` after a historical one. One that runs already is waited for: it may be
        ours, from before a kill."""
        now = self._api.connection(self._id)
        self._check(now)
        if self._manual and not now.manual:
            self._api.make_manual(self._id)
        before, until = now.changed, self._clock() + self._wait
        if now.sync == "syncing" and (now.historical or not anew):
            self._tell("a sync is running")
        else:
            (self._api.resync if anew else self._api.sync)(self._id)
        pause = _FIRST_POLL
        while True:
            if self._clock() >= until:
                raise EngineError(
                    f"connection {self._id} is still {now.sync or 'not done'} after {self._wait:,.0f} s",
                    hint="it goes on at Fivetran; run the same command again to go on waiting, or say `wait: 12 hours`",
                )
            self._sleep(min(pause, max(0.0, until - self._clock())))
            pause = min(pause * 1.5, _LONGEST_POLL)
            now = self._api.connection(self._id)
            if now.changed > before and (now.failed or not (anew and now.historical)):  # else one from before has ended
                return self._ended(now)
            self._check(now)
            if now.sync == "rescheduled":
                self._rescheduled(now)
            self._tell(_state(now))

    def _rescheduled(self, now: Connection) -> None:
        """Fivetran has put a sync off. With a manual schedule it does not start by itself."""
        at = instant(now.rescheduled_for)
        if (now.manual or self._manual) and (at is None or at <= self._reach.now()):
            self._api.sync(self._id)

    def _ended(self, now: Connection) -> Connection:
        if now.failed:
            raise SourceError(
                f"the sync of connection {self._id} failed at {now.failed_at}{_listed(now.tasks + now.warnings)}",
                hint=f"see its logs: https://fivetran.com/dashboard/connections/{self._id}",
            )
        self.notes += [f"Fivetran warns: {text}" for text in now.warnings]
        self.notes += [f"Fivetran asks for: {text}" for text in now.tasks]
        return now

    def _check(self, now: Connection) -> None:
        """Raise `SourceError` for a connection that will not sync until somebody has done something."""
        page = f"https://fivetran.com/dashboard/connections/{self._id}"
        if now.setup == "incomplete":
            raise SourceError(
                f"connection {self._id} has not been set up to the end{_listed(now.tasks)}", hint=f"finish it: {page}"
            )
        if now.setup == "broken":
            raise SourceError(f"connection {self._id} is broken{_listed(now.tasks)}", hint=f"mend it: {page}")
        if now.paused:
            raise SourceError(f"connection {self._id} is paused", hint=f"enable it: {page}")

    def _tell(self, text: str) -> None:
        self._reach.progress(f"{self._reach.name}: {text}")

    # -- what it landed

    def _landed(self, table: Table, schema: str, synced: dict[str, str]) -> Registered:
        """The table as it is, held against its contract; `synced` takes up the time of its newest row."""
        warehouse = self._reach.warehouse
        there = dict(warehouse.columns(table.relation))
        if not there:
            known = [f"{schema}.{name}" for schema, name in sorted(warehouse.relations())]
            raise SourceError(
                f"{table.source}: Fivetran has synced, but there is no table {table.relation}."
                f"{did_you_mean(str(table.relation).lower(), known)}",
                hint=f"the connection writes to the schema {schema!r}: say `schema:` in the source; and see that the "
                "table is selected in the connection",
            )
        self._hold(table, {name.lower(): type_ for name, type_ in there.items()})
        return Registered(table.source, self._rows(table, list(there), synced))

    def _hold(self, table: Table, there: dict[str, str]) -> None:
        """Hold columns and types against the contract: an error or a note, as the policy says."""
        for name, type_ in contract_types(self._reach, table).items():
            if name not in there:
                likely = did_you_mean(name, there)
                self._differs(table, SourceError(f"{table.relation} has no column {name!r}.{likely}"))
            elif not fits(there[name], type_):
                what = f"{table.source}.{name} is {there[name]} in the table, {type_} in the contract"
                self._differs(table, ContractError(what, hint=f"write data_type: {there[name]}"))

    def _differs(self, table: Table, error: SourceError | ContractError) -> None:
        if table.contract.policy == "fail":
            raise error
        self.notes.append(error.what)

    def _rows(self, table: Table, columns: list[str], synced: dict[str, str]) -> int:
        """The rows that changed since the last time; all of them in a table that does not say when they did."""
        warehouse, name = self._reach.warehouse, self._reach.warehouse.sql(table.relation)
        column = next((column for column in columns if column.lower() == _SYNCED), None)
        if column is None:
            return int(warehouse.query(f"select count(*) from {name}")[0][0])
        at, last = warehouse.quote(column), synced.get(table.source)
        newer = f" where {at} > cast(? as timestamp with time zone)" if last else ""
        ((rows, newest),) = warehouse.query(f"select count(*), max({at}) from {name}{newer}", [last] if last else [])
        if newest is not None:
            synced[table.source] = _text(newest)
        return int(rows)


def _text(at: Any) -> str:
    """A time with its zone, which is UTC where the table tells none."""
    if isinstance(at, dt.datetime):
        return (at if at.tzinfo else at.replace(tzinfo=dt.UTC)).isoformat()
    return str(at)


def _listed(texts: tuple[str, ...]) -> str:
    return "".join(f"\n  {text}" for text in texts)


def _state(now: Connection) -> str:
    more = [" (historical sync: this takes long)"] if now.historical else []
    more += [" (delayed)"] if now.delayed else []
    more += [f" for {now.rescheduled_for}"] if now.sync == "rescheduled" and now.rescheduled_for else []
    return f"{now.sync or 'waiting'}{''.join(more)}"
