"""The target of a load on Snowflake: made, extended or widened, each by one statement that commits by itself.

So it happens before the load's transaction, and each statement leaves a table that is right as it is: killed after it,
the next load finds a table that is ready, or wider than it must be.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from trunkline.errors import ContractError
from trunkline.warehouse import evolve_sql, snowflake_sql
from trunkline.warehouse.load import Contract, LoadRequest
from trunkline.warehouse.load_sql import check_type
from trunkline.warehouse.snowflake_sql import AUDIT, canonical, column_type, quote, stored_type

if TYPE_CHECKING:
    from trunkline.warehouse.snowflake import Snowflake

Columns = Sequence[tuple[str, str]]

_FLOAT = 3.4028234663852886e38
_RANGES: Mapping[str, tuple[float, float]] = {
    "TINYINT": (-(2**7), 2**7 - 1),
    "SMALLINT": (-(2**15), 2**15 - 1),
    "INTEGER": (-(2**31), 2**31 - 1),
    "BIGINT": (-(2**63), 2**63 - 1),
    "UTINYINT": (0, 2**8 - 1),
    "USMALLINT": (0, 2**16 - 1),
    "UINTEGER": (0, 2**32 - 1),
    "UBIGINT": (0, 2**64 - 1),
    "FLOAT": (-_FLOAT, _FLOAT),
}
_DECIMAL = re.compile(r"(?:DECIMAL|NUMBER)\((\d+),(\d+)\)")


class Target:
    """The table that a request loads into."""

    def __init__(self, warehouse: Snowflake, request: LoadRequest) -> None:
        self._on = warehouse
        self._request = request
        self.sql = warehouse.sql(request.target)
        self._there = dict(warehouse.columns(request.target))

    def contract(self) -> Contract:
        """The contract as rows are held to it: with the type of the table where an earlier load has widened it, and the
        policy is to evolve. Raises `ContractError` for a table that holds another type."""
        contract = self._request.contract
        types = [(column, self._asked(check_type(column.name, column.type))) for column in contract.columns]
        if not self._request.replace:
            types = [(column, self._accepted(column.name, type_)) for column, type_ in types]
        return replace(contract, columns=tuple(replace(column, type=type_) for column, type_ in types))

    def _asked(self, type_: str) -> str:
        """The contract's type; a text is of any length where the policy is to evolve, for its column is."""
        evolves = self._request.contract.policy == "evolve"
        return "VARCHAR" if evolves and canonical(type_) == "VARCHAR" else type_

    def _accepted(self, name: str, type_: str) -> str:
        there = self._there.get(_told(name))
        evolves = self._request.contract.policy == "evolve"
        if there is None:
            return type_
        if there == stored_type(type_):
            return self._outgrown(name, type_) if evolves else type_
        if evolves and is_wider(there, stored_type(type_)):
            return there
        raise ContractError(
            f"{self._request.name}: column {name!r} is {there} in the table, {type_} in the contract",
            hint=f"`trunkline ingest --full-refresh {self._request.name}` loads it anew; or change data_type back",
        )

    def _outgrown(self, name: str, type_: str) -> str:
        """The narrowest type that has the values of a column. Snowflake has one type for all integers and one for all
        floating-point numbers, so the table does not tell that an earlier load took values beyond the contract's."""
        for wide in (canonical(type_), *evolve_sql.wider(canonical(type_))):
            if wide not in _RANGES or self._within(name, _RANGES[wide]):
                return wide if wide != canonical(type_) else type_
        return type_

    def _within(self, name: str, limits: tuple[float, float]) -> bool:
        column = quote(name)
        least, most = self._on.query(f"select min({column}), max({column}) from {self.sql}")[0]
        return least is None or (least >= limits[0] and most <= limits[1])

    def loses(self, place: int, type_: str, wide: str) -> bool:
        """Whether a value of a column, told by its place in the contract, would change with a wider type."""
        name = self._request.contract.columns[place].name
        if self._request.replace or _told(name) not in self._there:
            return False
        return bool(
            self._on.query(f"select count(*) from {self.sql} where {evolve_sql.loses(type_, wide, quote(name))}")[0][0]
        )

    def ready(self, columns: Columns) -> bool:
        """Make, extend or widen it; True if it must be made anew because a replaced table has other columns."""
        relation = self._request.target
        wanted = [(_told(name), type_) for name, type_ in (*columns, *AUDIT)]
        there = dict(self._on.columns(relation))
        if not there:
            self._on.execute(f"create schema if not exists {self._on.schema(relation)}")
            self._on.execute(snowflake_sql.create_table(self.sql, wanted))
            return False
        if self._request.replace:
            return [(name, stored_type(type_)) for name, type_ in wanted] != list(there.items())
        self._widen(there, _narrower(there, wanted))
        self._on.add_columns(relation, [column for column in wanted if column[0] not in there])
        return False

    def _widen(self, there: Mapping[str, str], types: Mapping[str, str]) -> None:
        """ALTER where Snowflake can: more digits before the point. Else the table with its columns cast takes the place
        of the old one, in one statement and while no other load can write."""
        altered = [name for name, type_ in types.items() if _scale(there[name]) == _scale(type_) is not None]
        for name in altered:
            type_ = column_type(types[name])
            self._on.execute(f"alter table {self.sql} alter column {quote(name)} set data type {type_}")
        if len(altered) < len(types):
            with self._on.alone():
                now = dict(self._on.columns(self._request.target))
                self._on.execute(rebuild(self.sql, list(now), _narrower(now, list(types.items()))))


def _narrower(there: Mapping[str, str], wanted: Columns) -> dict[str, str]:
    """The wanted types of columns that are narrower in the table. Of the audit columns, none ever is."""
    types = {name: type_ for name, type_ in wanted if name in there and name not in dict(AUDIT)}
    return {name: type_ for name, type_ in types.items() if is_wider(stored_type(type_), there[name])}


def rebuild(target: str, names: Sequence[str], types: Mapping[str, str]) -> str:
    """The statement that gives columns of a table other types; who reads sees the old table or the new one."""
    listed = ", ".join(
        f"cast({quote(name)} as {column_type(types[name])}) as {quote(name)}" if name in types else quote(name)
        for name in names
    )
    return f"create or replace table {target} copy grants as select {listed} from {target}"


def is_wider(there: str, type_: str) -> bool:
    """Whether a column of the type `there` takes all values of the narrower `type_`, both as Snowflake tells them."""
    if type_ == "BIGINT":
        return there == "DOUBLE"
    had, asked = _DECIMAL.match(there), _DECIMAL.match(type_)
    if not had or not asked:
        return False
    before, after = (int(one[1]) - int(one[2]) for one in (had, asked))
    return before >= after and int(had[2]) >= int(asked[2])


def _scale(type_: str) -> int | None:
    found = _DECIMAL.match(column_type(type_))
    return int(found[2]) if found else None


def _told(name: str) -> str:
    return snowflake_sql.unfold(snowflake_sql.fold(name))
