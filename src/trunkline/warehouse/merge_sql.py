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

    `key` and `order` are places in `names`, the target's columns.
    """

    rows: str
    names: tuple[str, ...]
    key: tuple[int, ...]
    order: int | None = None

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

    def patched(self, target: str) -> str:
        """The statement that makes `CHANGED`, whole rows as `rows`, from changes of which some are updates."""
        keys = self._keys()
        step, numbered = "n", self.rows
        if self.order is not None:
            step = "s"
            rank = f"row_number() over (partition by {keys} order by c{self.order} nulls first, n)"
            numbered = f"(select *, {rank} as s from {self.rows})"
        whole = "o is distinct from 'update'"
        told = [
            f"arg_max(struct_pack(v := case when o = 'delete' then null else c{i} end), {step}) "
            f"filter ({whole} or p[{i + 1}] = '1') as v{i}"
            for i in self._values()
        ]
        extra = f"arg_max(struct_pack(v := case when o = 'delete' then null else x end), {step})"
        per_key = (
            f"select {keys}, {', '.join([*told, ''])}{extra} filter ({whole} or x is not null) as vx, "
            f"arg_max(coalesce(o, 'upsert'), {step}) as o from {numbered} group by {keys}"
        )
        values = [
            f"c.c{i}" if i in self.key else f"case when c.v{i} is null then t.{quote(name)} else c.v{i}.v end as c{i}"
            for i, name in enumerate(self.names)
        ]
        same = " and ".join(f"t.{quote(self.names[i])} = c.c{i}" for i in self.key)
        return (
            f"create or replace temporary table {CHANGED.partition('.')[2]} as select {', '.join(values)}, "
            "case when c.vx is null then cast(t._extra as varchar) else cast(c.vx.v as varchar) end as x, c.o "
            f"from ({per_key}) c left join {target} t on {same} "
            f"qualify row_number() over (partition by {', '.join(f'c.c{i}' for i in self.key)}) = 1"
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
