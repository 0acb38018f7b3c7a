"""What a dataset is made of: the dbt model's relation at one snapshot, and which of its rows are in which part."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from trunkline.errors import DatasetError, EngineError, did_you_mean
from trunkline.graph.step import Step
from trunkline.warehouse.protocol import ArrowReader, Loader, Snapshots, Warehouse
from trunkline.warehouse.relation import Relation

PARTS = ("train", "validation", "test")
PART = "_part"
_TIMES = ("DATE", "TIMESTAMP", "TIMESTAMP WITH TIME ZONE")
_INTEGERS = r"U?(TINY|SMALL|BIG|HUGE)INT|U?INTEGER|INT[1248]?|DECIMAL\(\d+,0\)"


@dataclass(frozen=True)
class Source:
    """The relation as of one snapshot, and the declaration with the columns it names checked.

    `sql` is the relation, `config` the dataset step's configuration, `schema` the exported columns with their canonical
    types in order, `types` those the relation has them in, `where` the declaration's `file:line`. `conditions` are SQL
    over the relation's own columns, one a part: true for the part's rows (`splits.parted` sets them).
    """

    sql: str
    config: Mapping[str, Any]
    schema: tuple[tuple[str, str], ...]
    where: str
    snapshot: str
    quote: Callable[[str], str]
    types: Mapping[str, str] = field(default_factory=dict)
    conditions: Mapping[str, str] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """The key column."""
        return str(self.config["key"])

    @property
    def time(self) -> str | None:
        """The time column, if it has one."""
        return self.config["time"] or None

    @property
    def target(self) -> str:
        """The target column."""
        return str(self.config["target"])

    @property
    def order(self) -> tuple[str, ...]:
        """The columns whose order the rows of a part have: time, then key; or key."""
        return (self.time, self.key) if self.time else (self.key,)

    def condition(self, part: str) -> str:
        """SQL that is true for the rows of `part`; rows without a target belong to none."""
        return f"({self.conditions[part]}) and {self.quote(self.target)} is not null"

    def part_sql(self) -> str:
        """The part of a row as SQL; null for a row of no part."""
        cases = " ".join(f"when {self.condition(part)} then '{part}'" for part in PARTS)
        return f"case {cases} end"

    def value(self, name: str) -> str:
        """A column as SQL, in its canonical type."""
        type_ = dict(self.schema)[name]
        column = self.quote(name)
        return column if self.types[name].upper() == type_ else f"cast({column} as {type_})"

    def columns_sql(self) -> str:
        """The exported columns, each under its name."""
        return ", ".join(f"{self.value(name)} as {self.quote(name)}" for name, _ in self.schema)

    def parted_sql(self) -> str:
        """A SELECT of the exported columns and `_part`, without the rows of no part. In no order."""
        some = " or ".join(f"({self.condition(part)})" for part in PARTS)
        return f"select {self.columns_sql()}, {self.part_sql()} as {self.quote(PART)} from {self.sql} where {some}"

    def error(self, what: str, hint: str | None = None) -> DatasetError:
        """An error that points at the declaration."""
        file, _, line = self.where.rpartition(":")
        return DatasetError(f"dataset {self.config['name']!r}: {what}", file=file, line=int(line), hint=hint)


def open_source(step: Step, warehouse: Warehouse, snapshot: str = "") -> Source:
    """The source of a dataset step, its snapshot taken, or an earlier `snapshot` of the warehouse.

    Raises `DatasetError` for a missing table or column, and for a snapshot that cannot be read any more.
    """
    config = step.config
    relation = Relation(*config["table"])
    source = Source(warehouse.sql(relation), config, (), step.where, "", warehouse.quote)
    columns = _columns_then(source, relation, warehouse, snapshot) if snapshot else warehouse.columns(relation)
    source = replace(source, types=dict(columns))
    if not columns:
        raise source.error(f"the table {relation} is not there", "`trunkline run` builds it")
    source = replace(source, schema=_schema(source))
    if source.time and dict(source.schema)[source.time] not in _TIMES:
        type_ = source.types[source.time]
        raise source.error(
            f"the time {source.quote(source.time)} has type {type_}, which is no time",
            f"cast it to timestamp in the dbt model {config['relation']!r}, or name another column in `time`",
        )
    if not isinstance(warehouse, Snapshots):
        return source
    snapshot = snapshot or warehouse.snapshot(relation)
    return replace(source, snapshot=snapshot, sql=warehouse.at(relation, snapshot))


def _columns_then(source: Source, relation: Relation, warehouse: Warehouse, snapshot: str) -> list[tuple[str, str]]:
    """The columns of the relation at an earlier snapshot; with the types it has now, where the warehouse tells no
    other."""
    assert isinstance(warehouse, Snapshots)  # nobody else gives snapshots
    sql = f"select * from {warehouse.at(relation, snapshot)}"
    try:
        reader: Any = warehouse.reader() if isinstance(warehouse, Loader) else None
        if reader is warehouse:  # it reads queries as it does sources
            return list(reader.describe(sql))
        assert isinstance(warehouse, ArrowReader)
        names = set(warehouse.read_arrow(f"{sql} limit 0").schema.names)
    except EngineError as exc:
        raise source.error(
            f"{relation} cannot be read as it was at {snapshot}: {exc.what}",
            "the warehouse keeps earlier states for a time only, and a table made anew has no earlier ones",
        ) from exc
    return [(name, type_) for name, type_ in warehouse.columns(relation) if name in names]


def _schema(source: Source) -> tuple[tuple[str, str], ...]:
    config, types = source.config, source.types
    split = config["split"]
    features = [column for group in config["groups"].values() for column in group]
    roles = [("key column", source.key), ("time column", source.time), ("group column", split.get("column"))]
    roles += [("column to stratify by", split.get("stratify")), *(("feature", name) for name in features)]
    roles.append(("target column", source.target))
    for role, name in roles:
        if name and name not in types:
            raise source.error(
                f"dbt model {config['relation']!r} has no {role} {name!r}.{did_you_mean(name, types)}",
                f"it has: {', '.join(types)}",
            )
    return tuple((name, canonical(types[name])) for name in dict.fromkeys(name for _, name in roles if name))


def canonical(type_: str) -> str:
    """The type in which a column is exported, the same on every warehouse.

    >>> [canonical(name) for name in ("INTEGER", "DECIMAL(38,0)", "FLOAT", "TIMESTAMP_NS", "UUID", "DECIMAL(9,2)")]
    ['BIGINT', 'BIGINT', 'DOUBLE', 'TIMESTAMP', 'VARCHAR', 'DECIMAL(9,2)']
    >>> [canonical(name) for name in ("INTEGER[]", "FLOAT[768]", "DECIMAL(9,2)[]", "BYTEA")]
    ['BIGINT[]', 'FLOAT[]', 'DOUBLE[]', 'BLOB']
    """
    name = type_.upper()
    if listed := re.fullmatch(r"([^\[]*)\[\d*\]", name):
        element = canonical(listed[1])
        if listed[1] in ("FLOAT", "REAL"):  # an embedding: twice as wide would be of no use to anybody
            return "FLOAT[]"
        return f"{'DOUBLE' if element.startswith('DECIMAL') else element}[]"
    if re.fullmatch(_INTEGERS, name):
        return "BIGINT"
    if name in ("FLOAT", "REAL"):
        return "DOUBLE"
    if re.fullmatch(r"TIMESTAMP_(S|MS|NS)", name):
        return "TIMESTAMP"
    if name in ("UUID", "JSON") or re.fullmatch(r"ENUM\(.*\)", name):
        return "VARCHAR"
    return "BLOB" if name in ("BYTEA", "BINARY", "VARBINARY") else name


def is_list(type_: str) -> bool:
    """Whether a canonical type is that of lists of numbers."""
    return type_ in ("BIGINT[]", "DOUBLE[]", "FLOAT[]")
