"""A first contract for a source table: a sample of its rows, and the change of the YAML file that declares it."""

from __future__ import annotations

import difflib
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from trunkline.errors import EngineError, ProjectError, TrunklineError, UserError, did_you_mean
from trunkline.ingest.infer import Guess, Sample, sample
from trunkline.ingest.run import reach_of
from trunkline.ledger.ids import new_id
from trunkline.orchestration.compile import source_step
from trunkline.orchestration.local import checkout_turn
from trunkline.orchestration.session import Session
from trunkline.project.connectors import FilesOptions
from trunkline.project.contract_yaml import Addition, added
from trunkline.project.files import write_atomic
from trunkline.project.sources import SourceTable, SourceUnit
from trunkline.warehouse.protocol import Loader

_COMMENT = 100


@dataclass(frozen=True)
class Proposal:
    """The change of one file. `differences` are columns whose declared type the sample does not fit, in words."""

    table: str
    file: Path
    before: str
    after: str
    added: tuple[Guess, ...]
    differences: tuple[str, ...]
    null_values: tuple[str, ...]
    sample: Sample

    @property
    def diff(self) -> list[str]:
        """The change as lines of a unified diff."""
        name = self.file.name
        lines = difflib.unified_diff(self.before.splitlines(), self.after.splitlines(), name, name, n=2, lineterm="")
        return list(lines)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "table": self.table,
            "file": str(self.file),
            "rows": self.sample.rows,
            "files": self.sample.files,
            "added": [_plain(guess) for guess in self.added],
            "null_values": list(self.null_values),
            "differences": list(self.differences),
            "diff": self.diff,
        }


def _plain(guess: Guess) -> dict[str, Any]:
    told = {"name": guess.name, "data_type": guess.type, "filled": guess.filled}
    return told | {"required": guess.required, "primary": guess.primary}


def propose(session: Session, given: str, named: str | None) -> Proposal:
    """Sample a declared table, or the files at `given` as the new table `named`. Writes nothing.

    Raises `UserError` for a table that is not declared, `SourceError` for one without rows.
    """
    table = _new(session, given, named) if named else _declared(session, given)
    looked = _sample(session, table)
    declared = {column.source.lower() or column.name.lower() for column in table.columns}
    declared |= {column.name.lower() for column in table.columns}
    fresh = tuple(guess for guess in looked.columns if guess.name.lower() not in declared)
    nulls = () if table.options.null_values else looked.null_values
    before = table.file.read_text("utf-8") if table.file.is_file() else ""
    addition = Addition(
        source=table.source,
        table=table.label or table.name,
        columns=tuple((guess.name, guess.type) for guess in fresh),
        required=frozenset(guess.name for guess in fresh if guess.required),
        primary=frozenset(guess.name for guess in fresh if guess.primary),
        comments=tuple(_comments(looked, fresh)),
        options={"null_values": list(nulls)} if nulls else {},
        declaration=_declaration(table) if named else {},
    )
    after = added(table.file, before, addition) if fresh or nulls else before
    return Proposal(table.key, table.file, before, after, fresh, tuple(_differences(table, looked)), nulls, looked)


def write(proposal: Proposal) -> None:
    """Write the change. Raises `ProjectError` if somebody changed the file since it was read."""
    now = proposal.file.read_text("utf-8") if proposal.file.is_file() else ""
    if now != proposal.before:
        raise ProjectError("the file was changed while the sample was taken", file=proposal.file, hint="run it again")
    write_atomic(proposal.file, proposal.after)


# -- which table


def _declared(session: Session, given: str) -> SourceTable:
    known = {table.key: table for table in session.project.sources}
    short = [table for key, table in known.items() if key.rpartition(".")[2].lower() == given.lower()]
    if given in known or len(short) == 1:
        return known.get(given) or short[0]
    hint = f"source tables: {', '.join(known) or 'none'}; a file becomes one with --as source.table"
    raise UserError(f"no source table {given!r}.{did_you_mean(given, known)}", hint=hint)


def _new(session: Session, given: str, named: str) -> SourceTable:
    source, _, name = named.partition(".")
    if not source or not name:
        raise UserError(f"{named!r} is not SOURCE.TABLE", hint="say --as shop.orders")
    if session.project.source(named):
        raise UserError(f"{named} is declared already", hint=f"trunkline ingest --infer {named}")
    if "://" in given and not given.startswith(
        ("s3://", "gs://", "gcs://", "az://", "azure://", "http://", "https://")
    ):
        raise UserError(
            f"{_shown(given)} is no URL of files", hint="declare a database in YAML: connector: sql, dsn: env:NAME"
        )
    file = next((table.file for table in session.project.sources if table.source == source), None)
    place = file or session.project.dbt_paths["model-paths"][0] / "sources.yml"
    options = FilesOptions(connector="files", path=_path(session.project.root, given))
    return SourceTable(source, name, None, "raw", (), options, place, 0, 0, label=name)


def _shown(url: str) -> str:
    """A URL without a login in it."""
    from trunkline.project.redact import redact

    return redact(url, {})


def _path(root: Path, given: str) -> str:
    """A path as the project writes it: relative to its folder, if it lies there."""
    if "://" in given:
        return given
    path = Path(os.path.abspath(given)) if Path(given).is_absolute() else root / given
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)


def _declaration(table: SourceTable) -> dict[str, Any]:
    return {"connector": "files", "path": getattr(table.options, "path", "")}


# -- what it looks like


def _sample(session: Session, table: SourceTable) -> Sample:
    context = session.context
    loader = context.warehouse
    if not isinstance(loader, Loader):
        raise EngineError(f"the {context.warehouse.name} warehouse takes no loads")
    unit = SourceUnit(table.key, (replace(table, columns=()),))
    with checkout_turn(session):
        scratch = context.state / "tmp" / new_id("infer")
        try:
            scratch.mkdir(parents=True)
            step = source_step(session.project, unit)
            reach = reach_of(step, context, loader, scratch)
            types = {name.lower(): column.type for column in table.columns for name in (column.source or column.name,)}
            return sample(reach, table.key, types)
        except TrunklineError as exc:
            if table.line:
                raise
            raise type(exc)(exc.what, hint=exc.hint) from exc  # it is declared nowhere yet
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def _comments(looked: Sample, fresh: Sequence[Guess]) -> list[str]:
    """What is worth a comment above the columns: where they are from, and which were never empty."""
    of = f" of {looked.files:,} file{'s' if looked.files != 1 else ''}" if looked.files else ""
    lines = [f"inferred from {looked.rows:,} rows{of}: read it before it is the contract"]
    filled = [guess.name for guess in fresh if guess.filled and not guess.required]
    if filled and looked.rows:
        listed = ", ".join(filled)
        many = "all columns" if len(filled) == len(looked.columns) else listed
        lines.append(f"never empty there: {many if len(many) <= _COMMENT else f'{len(filled)} columns'}")
    if looked.partial:
        listed = ", ".join(looked.partial)
        lines.append(f"only in some files, and so left to _extra: {listed if len(listed) <= _COMMENT else 'others'}")
    return lines


def _differences(table: SourceTable, looked: Sample) -> list[str]:
    found = []
    guesses = {guess.name.lower(): guess for guess in looked.columns}
    for column in table.columns:
        guess = guesses.get((column.source or column.name).lower())
        place = f"{table.file.name}:{column.line}"
        if guess is None:
            found.append(f"{column.name} ({place}) is not in the sample")
        elif guess.misfits:
            rows = f"{guess.misfits:,} of {looked.rows:,} rows do not cast to {column.type}"
            found.append(f"{column.name} ({place}): {rows}; the sample says {guess.type}")
    return found
