"""The `python` connector: generator functions of the project, under `@tl.source`."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from trunkline.errors import ProjectError, SourceError, did_you_mean
from trunkline.ingest import streams
from trunkline.ingest.protocol import Batch, Reach, Since
from trunkline.project import python
from trunkline.project.boundary import user_code
from trunkline.project.declare import Source


class Python:
    """What one function of the user yields, into one table."""

    exclusive = False

    def __init__(self, reach: Reach) -> None:
        self._reach = reach
        self._table = reach.tables[0]

    def batches(self, since: Since) -> Iterator[Batch]:
        """The function's rows; called with the last checkpoint's state, unless the table is made anew."""
        options = self._table.options
        declared = declared_in(self._reach.root, options["function"])
        state = None if self._table.load.startswith("replace") else streams.last_state(since)
        arguments = _arguments(declared, self._reach.secret(options["arguments"]), state)
        return streams.batches(self._reach, since, lambda: self._events(declared, arguments))

    def _events(self, declared: Source, arguments: Mapping[str, Any]) -> Iterator[streams.Event]:
        with user_code(f"source {self._table.source}", declared.file, error=SourceError):
            given = declared.rows(**arguments)
            for item in given if isinstance(given, Iterator) else [given]:
                if isinstance(item, streams.Checkpoint):
                    yield item
                else:
                    yield streams.Rows(self._table.source, item)


def declared_in(root: Path, reference: str) -> Source:
    """What `sources/orders.py:orders` names. Raises `ProjectError` if that is no `@tl.source`."""
    name, attribute, found = named_in(root, reference)
    file = root / name
    if isinstance(found, Source):
        return found
    if callable(found):
        line = getattr(getattr(found, "__code__", None), "co_firstlineno", None)
        raise ProjectError(
            f"{attribute!r} is not declared as a source", file=file, line=line, hint="write `@tl.source` above it"
        )
    raise ProjectError(f"{attribute!r} is no function", file=file)


def named_in(root: Path, reference: str) -> tuple[str, str, Any]:
    """File, name and object of `sources/orders.py:orders`. Raises `ProjectError` if it is not there."""
    name, _, attribute = reference.partition(":")
    if not name.endswith(".py") or not attribute:
        raise ProjectError(f"{reference!r} names no function of a file", hint="write it as sources/orders.py:orders")
    file = root / name
    if not file.resolve().is_relative_to(root.resolve()) or not file.is_file():
        raise ProjectError(f"{name} is no file of the project")
    module = python.load(root, file)
    if not hasattr(module, attribute):
        there = [key for key in vars(module) if not key.startswith("_")]
        raise ProjectError(f"{name} has no {attribute!r}.{did_you_mean(attribute, there)}", file=file)
    return name, attribute, getattr(module, attribute)


def _arguments(declared: Source, given: Mapping[str, Any], since: Any) -> dict[str, Any]:
    """The function's arguments. Raises `ProjectError` at the function for one that it lacks or does not take."""
    taken = inspect.signature(declared.rows).parameters
    arguments = {"since": since, **given} if "since" in taken else dict(given)
    try:
        inspect.signature(declared.rows).bind(**arguments)
    except TypeError as exc:
        raise ProjectError(
            f"source function {declared.name!r}: {exc}",
            file=declared.file,
            line=declared.line,
            hint=f"it takes: {', '.join(taken) or 'nothing'}; `arguments:` in sources.yml gives: "
            f"{', '.join(given) or 'nothing'}",
        ) from exc
    return arguments
