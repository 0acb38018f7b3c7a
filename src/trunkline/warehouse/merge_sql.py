"""The SQL of a load by key on DuckDB: one change a key out of the staged rows, then into the target. Text only."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

from trunkline.warehouse.load_sql import literal, quote, timestamp

REPEATED, CHANGED = "temp.trunkline_repeated_keys", "temp.trunkline_changed_rows"


@dataclass(frozen=True)
class Changes:
    """Staged rows that fit: `rows` is a relation with `n` (a greater one came later), the values `c0`…, `x` (`_extra`),
    `o` (what the row does, NULL: it is an upsert) and `p` (for an update "1" or "0" for each column).

    `key`, `order` and `mark` are places in `names`, the target's columns. An update that sets the `mark` of a deletion
    in a row that is not there does nothing.
    """

    rows: str
    names: tuple[str, ...]
    key: tuple[int, ...]
    order: int | None = None
    mark: int | None = None

    # -- whole rows: the last of each key is what counts

    def repeated(self) -> str:
        """The statement that makes `REPEATED`: keys of more than one row, and `last`, the row that counts."""
        keys = self._keys()
        several = f"select {keys}, max(n) as last from {self.rows} group by {keys} having count(*) > 1"
        if self.order is not None:
            rank = f"row_number() over (partition by {keys} order by c{self.order} desc nulls last, n desc) = 1"
            of_several = f"select {keys}, n, c{self.order} from {self.rows} semi join ({several}) using ({keys})"
            if self.order in self.key:
                of_several = f"select {keys}, n from {self.rows} semi join ({several}) using ({keys})"
            several = f"select {keys}, n as last from ({of_several}) qualify {rank}"
        return f"create or replace temporary table {REPEATED.partition('.')[2]} as {several}"

    def last(self, *, repeated: bool) -> str:
        """The rows that count; `repeated` says that `REPEATED` is not empty."""
        if not repeated:
            return self.rows
        return (
            f"(select r.* from {self.rows} r left join {REPEATED} d using ({self._keys()}) "
            "where d.last is null or d.last = r.n)"
        )

    # -- patches: each column has the last value it was told

    def patched(self, target: str, *, repeated: bool) -> str:
        """The statement that makes `CHANGED`, whole rows as `rows`, from changes of which some are updates; `repeated`
        says that `REPEATED` is not empty. A key that the target has twice is there twice: see `unique`."""
        values = [
            f"c.c{i}" if i in self.key else f"case when c.v{i} is null then t.{quote(name)} else c.v{i}.v end as c{i}"
            for i, name in enumerate(self.names)
        ]
        same = " and ".join(f"t.{quote(self.names[i])} = c.c{i}" for i in self.key)
        return (
            f"create or replace temporary table {CHANGED.partition('.')[2]} as select {', '.join(values)}, "
            "case when c.vx is null then cast(t._extra as varchar) else cast(c.vx.v as varchar) end as x, "
            f"{self._op()} as o from ({self._told(repeated)}) c left join {target} t on {same}"
        )

    def twice(self) -> str:
        """A query that has a row if a key is in `CHANGED` twice."""
        return f"select 1 from {CHANGED} group by {self._keys()} having count(*) > 1 limit 1"

    def unique(self) -> str:
        """The statement that leaves one row of each key in `CHANGED`."""
        return (
            f"create or replace temporary table {CHANGED.partition('.')[2]} as select * from {CHANGED} "
            f"qualify row_number() over (partition by {self._keys()}) = 1"
        )

    def _op(self) -> str:
        if self.mark is None:
            return "c.o"
        absent = f"c.w = 'delete' or (c.w is null and t.{quote(self.names[self.key[0]])} is null)"
        marks = f"c.o = 'update' and try_cast(cast(c.v{self.mark}.v as varchar) as boolean)"
        return f"case when {marks} and ({absent}) then 'delete' else c.o end"

    def _told(self, repeated: bool) -> str:
        """A row a key: `v0`…, `vx`, what was told of each column last, as a struct (NULL: nothing was), `w`, the last
        change of a whole row (NULL: there was none), and `o`.

        Only keys of several rows go through a window, which unlike arg_max of texts finds room on the disk.
        """
        keys = self._keys()
        whole = "o is distinct from 'update'"
        told = {f"v{i}": (f"{whole} or p[{i + 1}] = '1'", f"c{i}") for i in self._values()}
        told["vx"] = (f"{whole} or x is not null", "x")
        values = {
            name: f"case when {has} then struct_pack(v := case when o is distinct from 'delete' then {value} end) end"
            for name, (has, value) in told.items()
        }
        values["w"] = f"case when {whole} then coalesce(o, 'upsert') end"
        single = ", ".join(f"{value} as {name}" for name, value in values.items())
        op = "coalesce(o, 'upsert') as o"
        if not repeated:
            return f"select {keys}, {single}, {op} from {self.rows}"
        order = "n" if self.order is None else f"c{self.order} nulls first, n"
        last = ", ".join(f"last_value({value} ignore nulls) over w as {name}" for name, value in values.items())
        return (
            f"select {keys}, {single}, {op} from {self.rows} anti join {REPEATED} using ({keys}) "
            f"union all select {keys}, {last}, {op} from {self.rows} semi join {REPEATED} using ({keys}) "
            f"window w as (partition by {keys} order by {order} rows between unbounded preceding and current row) "
            f"qualify lead(1) over (partition by {keys} order by {order}) is null"
        )

    # -- into the target

    def delete(self, target: str, changed: str) -> str:
        """The statement that removes from the target the keys of `changed`."""
        # IN, not EXISTS: that DuckDB plans by way of all distinct keys of the target, in seven times the time
        columns = ", ".join(quote(self.names[i]) for i in self.key)
        return f"delete from {target} where ({columns}) in (select {self._keys()} from {changed})"

    def insert(self, target: str, changed: str, load_id: str, at: dt.datetime) -> str:
        """The statement that inserts the rows of `changed` that are there afterwards."""
        names = ", ".join([*map(quote, self.names), "_load_id", "_loaded_at", "_extra"])
        values = ", ".join(f"c{i}" for i in range(len(self.names)))
        return (
            f"insert into {target} ({names}) select {values}, {literal(load_id)}, {timestamp(at)}, cast(x as json) "
            f"from {changed} where o is distinct from 'delete'"
        )

    def _keys(self) -> str:
        return ", ".join(f"c{i}" for i in self.key)

    def _values(self) -> Sequence[int]:
        return [i for i in range(len(self.names)) if i not in self.key]
