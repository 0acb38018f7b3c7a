"""The SQL of a load by key on Snowflake: one row a key out of the landing table, then into the target.

What is worked out from the landed rows alone goes into a temporary table before the transaction; within it only the
target's rows change. Text only: nothing here opens a connection.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from trunkline.warehouse.snowflake_load_sql import Landed, audit, cast, named
from trunkline.warehouse.snowflake_sql import AUDIT, quote

_WHOLE = "rows between unbounded preceding and unbounded following"


@dataclass(frozen=True)
class Changes:
    """What a load does to each key: a temporary table `table` made from the rows of `landed` that fit.

    `K0`… are the key. `V0`… and `Y` (for `_extra`) are the values to be; `O` is "delete" where the row goes, "update"
    where a value that is NULL stays what it is. `patches` says that some rows are updates: then `V0`… and `Y` are texts
    behind a "v", or "n" for a NULL that was told. `order` is the column whose greatest value is the last. An
    update that sets the `mark` of a deletion, a column, in a row that is not there does nothing.
    """

    table: str
    landed: Landed
    key: tuple[str, ...]
    order: str | None = None
    patches: bool = False
    mark: str | None = None

    def create(self) -> str:
        """The statement that makes it; it goes with the session."""
        return f"create temporary table {self.table} as {self._patched() if self.patches else self._latest()}"

    def _latest(self) -> str:
        values = [f"{cast(f'L.R{i}', type_)} as V{i}" for i, (_, type_) in enumerate(self.landed.columns)]
        rows = (
            f"select {', '.join([*self._keys(), *values])}, L.X as Y, L.P as O, {self._sequence()} from {self._good()}"
        )
        listed = ", ".join(f"V{i}" for i in range(len(values)))
        return f"select {self._partition()}, {listed}, Y, O from ({rows}) qualify {self._is_last()}"

    def _patched(self) -> str:
        """Rows of one key in order: what is not an update says all there is to say, and opens a group; only the last
        group counts. In it each column has the last value that was told."""
        columns = range(len(self.landed.columns))
        texts = ", ".join(f"L.R{i}" for i in columns)
        rows = f"select {', '.join(self._keys())}, {texts}, L.X, L.P, L.A, {self._sequence()} from {self._good()}"
        over = f"over (partition by {self._partition()} order by S nulls first, N rows unbounded preceding)"
        grouped = f"select *, sum(iff(P = 'update', 0, 1)) {over} as G from ({rows})"
        last = f"select *, max(G) over (partition by {self._partition()}) as M from ({grouped})"
        told = [f"{self._last_told(i)} as V{i}" for i in columns]
        extra = "iff(P = 'delete' or (P = 'update' and X is null), null, coalesce('v' || X, 'n'))"
        opens = f"first_value(P) over (partition by {self._partition()} order by S nulls first, N {_WHOLE})"
        after = f"iff({opens} = 'delete' and {marks} = 'vtrue', 'delete', null)" if (marks := self._marks()) else "null"
        what = f"iff(P = 'update' and G > 0, {after}, P) as O"
        return (
            f"select {self._partition()}, {', '.join(told)}, {self._told(extra)} as Y, {what} from ({last}) "
            f"where G = M qualify {self._is_last()}"
        )

    def _last_told(self, i: int) -> str:
        return self._told(f"iff({self._present(i)}, coalesce('v' || R{i}, 'n'), null)")

    def _told(self, value: str) -> str:
        over = f"over (partition by {self._partition()} order by S nulls first, N {_WHOLE})"
        return f"last_value({value}) ignore nulls {over}"

    def _marks(self) -> str:
        """What was told of the mark last; "" where there is none."""
        return self._last_told(self._place(self.mark)) if self.mark else ""

    def _present(self, i: int) -> str:
        return f"P is null or (P = 'update' and substr(A, {i + 1}, 1) = '1')"

    def _good(self) -> str:
        return f"{self.landed.table} as L where not ({self.landed.bad})"

    def _keys(self) -> list[str]:
        return [f"{self._cast(name)} as K{j}" for j, name in enumerate(self.key)]

    def _cast(self, name: str) -> str:
        place = self._place(name)
        return cast(f"L.R{place}", self.landed.columns[place][1])

    def _place(self, name: str) -> int:
        return [known.lower() for known, _ in self.landed.columns].index(name.lower())

    def _partition(self) -> str:
        return ", ".join(f"K{j}" for j in range(len(self.key)))

    def _sequence(self) -> str:
        """`S` and `N`, by which rows of one key follow each other."""
        return f"{self._cast(self.order) if self.order else 'null'} as S, L.N"

    def _is_last(self) -> str:
        return f"row_number() over (partition by {self._partition()} order by S desc nulls last, N desc) = 1"

    # -- within the transaction

    def apply(self, target: str, load_id: str, loaded_at: dt.datetime) -> list[str]:
        """The statements that bring the target to what the load says."""
        return [self._merge(target, load_id, loaded_at)] if self.patches else self._swap(target, load_id, loaded_at)

    def _swap(self, target: str, load_id: str, loaded_at: dt.datetime) -> list[str]:
        return [
            f"delete from {target} as T using {self.table} as C where {self._same()}",
            f"insert into {target} ({self.landed.names()}) {self.select(load_id, loaded_at)}",
        ]

    def select(self, load_id: str, loaded_at: dt.datetime) -> str:
        """The rows that are there afterwards, with the audit columns."""
        listed = named(self._values(load_id, loaded_at), self._columns())
        return f"select {listed} from {self.table} as C where {self._appears()}"

    def _appears(self) -> str:
        """SQL that is true for a row that is there afterwards if it was not before."""
        stays = "C.O is distinct from 'delete'"
        if not (self.patches and self.mark):
            return stays
        return f"{stays} and not coalesce(C.O = 'update' and C.V{self._place(self.mark)} = 'vtrue', false)"

    def _merge(self, target: str, load_id: str, loaded_at: dt.datetime) -> str:
        names = [quote(name) for name, _ in self._columns()]
        values = self._values(load_id, loaded_at)
        told = [*(f"C.V{i} is null" for i in range(len(self.landed.columns))), "false", "false", "C.Y is null"]
        changes = [
            f"{name} = {value}" if kept == "false" else f"{name} = iff(C.O = 'update' and {kept}, T.{name}, {value})"
            for name, value, kept in zip(names, values, told, strict=True)
        ]
        return (
            f"merge into {target} as T using {self.table} as C on {self._same()} "
            f"when matched and C.O = 'delete' then delete when matched then update set {', '.join(changes)} "
            f"when not matched and {self._appears()} then insert ({', '.join(names)}) "
            f"values ({', '.join(values)})"
        )

    def _columns(self) -> tuple[tuple[str, str], ...]:
        return (*self.landed.columns, *AUDIT)

    def _values(self, load_id: str, loaded_at: dt.datetime) -> list[str]:
        values = [self._value(i) for i in range(len(self.landed.columns))]
        return [*values, *audit(self._text("C.Y"), load_id, loaded_at)]

    def _value(self, i: int) -> str:
        return cast(self._text(f"C.V{i}"), self.landed.columns[i][1]) if self.patches else f"C.V{i}"

    def _text(self, column: str) -> str:
        return f"iff(left({column}, 1) = 'v', substr({column}, 2), null)" if self.patches else column

    def _same(self) -> str:
        return " and ".join(f"T.{quote(name)} = C.K{j}" for j, name in enumerate(self.key))
