"""What changed between two builds: declaration, schema, loads, labels, columns, and rows by key.

The sealed parts are compared by what the manifests say of them: no row of theirs is read, and a row that came from
there or went there is told as added or removed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trunkline.datasets.manifest import Manifest
from trunkline.datasets.profile import OPEN
from trunkline.datasets.summary import Summary, scan, summaries
from trunkline.project.files import check_content
from trunkline.warehouse.load_sql import quote
from trunkline.warehouse.protocol import SourceReader

_PART, _HASH, _KEY = '"trunkline part"', '"trunkline hash"', '"trunkline key"'
_CHANGED = f"from l join r using ({_KEY}) where l.{_HASH} <> r.{_HASH}"


@dataclass(frozen=True)
class Change:
    """Something that was declared, and is declared otherwise now."""

    what: str
    before: str
    after: str


@dataclass(frozen=True)
class PartChange:
    """A part on both sides: its rows and labels, and whether its rows are the same."""

    name: str
    same: bool
    rows: tuple[int, int]
    labels: tuple[Mapping[str, int], Mapping[str, int]]


@dataclass(frozen=True)
class ColumnChange:
    """A column of a part whose numbers differ."""

    name: str
    part: str
    before: Summary
    after: Summary


@dataclass(frozen=True)
class RowChange:
    """A row on both sides: its key, its part before and after, and the columns that differ: before, after."""

    key: Any
    parts: tuple[str, str]
    values: tuple[tuple[str, Any, Any], ...]


@dataclass(frozen=True)
class RowChanges:
    """Rows of train and validation by key. `moved` changed their part, `changed` a value; both may be true of one.

    `columns` has the rows in which a column changed. `examples` are some of each.
    """

    same: int
    added: int
    removed: int
    moved: int
    changed: int
    columns: Mapping[str, int] = field(default_factory=dict)
    added_keys: tuple[tuple[Any, str], ...] = ()
    removed_keys: tuple[tuple[Any, str], ...] = ()
    examples: tuple[RowChange, ...] = ()


@dataclass(frozen=True)
class Comparison:
    """Two builds. `rows` is None where rows cannot be compared: `why` says why."""

    before: Manifest
    after: Manifest
    declared: tuple[Change, ...]
    added_columns: tuple[tuple[str, str], ...]
    removed_columns: tuple[tuple[str, str], ...]
    retyped: tuple[tuple[str, str, str], ...]
    parts: tuple[PartChange, ...]
    new_loads: tuple[str, ...]
    gone_loads: tuple[str, ...]
    columns: tuple[ColumnChange, ...] = ()
    rows: RowChanges | None = None
    why: str = ""

    @property
    def same(self) -> bool:
        """Whether both hold the same rows in the same parts, with the same columns."""
        return all(part.same for part in self.parts) and not (
            self.added_columns or self.removed_columns or self.retyped
        )


def compare(before: Manifest, after: Manifest) -> Comparison:
    """What the manifests tell."""
    old, new = dict(before.schema), dict(after.schema)
    names = list(dict.fromkeys([*before.parts, *after.parts]))
    return Comparison(
        before,
        after,
        declared=tuple(_declared(before, after)),
        added_columns=tuple((name, type_) for name, type_ in new.items() if name not in old),
        removed_columns=tuple((name, type_) for name, type_ in old.items() if name not in new),
        retyped=tuple((name, old[name], new[name]) for name in new if name in old and old[name] != new[name]),
        parts=tuple(_part(name, before, after) for name in names),
        new_loads=tuple(load for load in after.load_ids if load not in set(before.load_ids)),
        gone_loads=tuple(load for load in before.load_ids if load not in set(after.load_ids)),
    )


def _part(name: str, before: Manifest, after: Manifest) -> PartChange:
    old, new = before.parts[name], after.parts[name]
    return PartChange(name, old.content == new.content, (old.rows, new.rows), (old.labels, new.labels))


def _declared(before: Manifest, after: Manifest) -> list[Change]:
    found = []
    for what in ("relation", "key", "time", "target", "task"):
        old, new = getattr(before, what), getattr(after, what)
        if old != new:
            found.append(Change(what, str(old), str(new)))
    for name in dict.fromkeys([*before.split, *after.split]):
        old, new = before.split.get(name), after.split.get(name)
        if old != new:
            found.append(Change(f"split {name}", str(old), str(new)))
    groups = [{column: group for group, listed in m.groups.items() for column in listed} for m in (before, after)]
    for column in dict.fromkeys([*before.features, *after.features]):
        if groups[0].get(column) != groups[1].get(column):
            places = [f"in group {side[column]}" if column in side else "no feature" for side in groups]
            found.append(Change(f"feature {column}", *places))
    return found


# -- rows


@dataclass(frozen=True)
class Sides:
    """The open parts' files of both builds, `before` and `after`, by part."""

    before: Mapping[str, Path]
    after: Mapping[str, Path]


def sides(before: Manifest, after: Manifest, folders: tuple[Path, Path]) -> Sides:
    """The files, checked. Raises `IntegrityError` if one is not what its dataset was made with."""
    found: list[dict[str, Path]] = []
    for manifest, folder in zip((before, after), folders, strict=True):
        files = {part: folder / str(manifest.parts[part].file) for part in OPEN}
        for part, file in files.items():
            check_content(file, manifest.parts[part].file_digest)
        found.append(files)
    return Sides(*found)


def column_changes(reader: SourceReader, found: Comparison, files: Sides) -> tuple[ColumnChange, ...]:
    """The columns, of the parts that differ, whose numbers differ."""
    changes = []
    shared = [column for column in found.after.schema if column in found.before.schema and column[0] != found.after.key]
    for part in found.parts:
        if part.name not in OPEN or part.same:
            continue
        old, new = (summaries(reader, side[part.name], shared) for side in (files.before, files.after))
        changes += [ColumnChange(name, part.name, old[name], new[name]) for name, _ in shared if old[name] != new[name]]
    return tuple(changes)


def row_changes(
    reader: SourceReader, found: Comparison, files: Sides, examples: int, tell: Callable[[str], None]
) -> RowChanges:
    """Rows of train and validation, matched by key; up to `examples` of each kind. Both sides have the same key."""
    old, new = dict(found.before.schema), dict(found.after.schema)
    key = found.after.key
    columns = [name for name in new if name in old and name != key]
    tell("comparing rows")
    left, right = _side(files.before, key, columns, new, old), _side(files.after, key, columns, new, new)
    pair = _Pair(reader, f"with l as ({left}), r as ({right}) ", columns)
    counts = pair.query(
        f"select count(*) filter (where l.{_HASH} = r.{_HASH} and l.{_PART} = r.{_PART}), "
        f"count(*) filter (where l.{_KEY} is null), count(*) filter (where r.{_KEY} is null), "
        f"count(*) filter (where l.{_PART} <> r.{_PART}), count(*) filter (where l.{_HASH} <> r.{_HASH}) "
        f"from l full join r using ({_KEY})"
    )[0]
    same, added, removed, moved, changed = (int(count) for count in counts)
    tell("looking for columns that changed")
    return RowChanges(
        same,
        added,
        removed,
        moved,
        changed,
        columns=pair.changed_columns() if changed else {},
        added_keys=pair.alone("r", "l", examples) if added else (),
        removed_keys=pair.alone("l", "r", examples) if removed else (),
        examples=pair.examples(examples) if changed or moved else (),
    )


def _side(
    files: Mapping[str, Path], key: str, columns: Sequence[str], wanted: Mapping[str, str], types: Mapping[str, str]
) -> str:
    """SQL for the open rows of one side: key as text, part, a hash of the shared columns, and those, in the types
    that the other side has."""
    cast = [
        quote(name) if types[name] == wanted[name] else f"try_cast({quote(name)} as {wanted[name]}) as {quote(name)}"
        for name in columns
    ]
    hashed = f"hash({', '.join(quote(name) for name in columns)})" if columns else "0"
    listed = ", ".join([f"cast({quote(key)} as varchar) as {_KEY}", *cast])
    parts = " union all ".join(
        f"select {listed}, '{part}' as {_PART} from {scan(file)}" for part, file in files.items()
    )
    return f"select *, {hashed} as {_HASH} from ({parts})"


@dataclass(frozen=True)
class _Pair:
    """Both sides as `l` and `r` in SQL."""

    reader: SourceReader
    sides: str
    columns: Sequence[str]

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        return self.reader.query(self.sides + sql)

    def changed_columns(self) -> dict[str, int]:
        counts = ", ".join(
            f"count(*) filter (where l.{quote(name)} is distinct from r.{quote(name)})" for name in self.columns
        )
        found = dict(zip(self.columns, self.query(f"select {counts} {_CHANGED}")[0], strict=True))
        return {name: int(rows) for name, rows in sorted(found.items(), key=lambda item: -item[1]) if rows}

    def alone(self, here: str, there: str, most: int) -> tuple[tuple[Any, str], ...]:
        rows = self.query(
            f"select {here}.{_KEY}, {here}.{_PART} from {here} anti join {there} using ({_KEY}) "
            f"order by {here}.{_KEY} limit {int(most)}"
        )
        return tuple((key, part) for key, part in rows)

    def examples(self, most: int) -> tuple[RowChange, ...]:
        listed = ", ".join(f"{side}.{quote(name)}" for name in self.columns for side in ("l", "r"))
        rows = self.query(
            f"select {_KEY}, l.{_PART}, r.{_PART}{', ' if listed else ''}{listed} from l join r using ({_KEY}) "
            f"where l.{_HASH} <> r.{_HASH} or l.{_PART} <> r.{_PART} order by {_KEY} limit {int(most)}"
        )
        found = []
        for key, old, new, *values in rows:
            pairs = zip(self.columns, values[::2], values[1::2], strict=True)
            differing = tuple((name, a, b) for name, a, b in pairs if a != b and not (a != a and b != b))  # NaN
            found.append(RowChange(key, (old, new), differing))
        return tuple(found)
