"""The `dlt` connector: any source or resource of dlt. dlt extracts; state, contract and commit are ours."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterator, Mapping
from typing import Any

from trunkline.errors import ProjectError
from trunkline.ingest import streams
from trunkline.ingest.protocol import Batch, Reach, Since
from trunkline.ingest.python import named_in
from trunkline.project.boundary import user_code


class Dlt:
    """All tables that are filled from one dlt source, read in one go with one state."""

    exclusive = False

    def __init__(self, reach: Reach) -> None:
        self._reach = reach
        self.notes: list[str] = []

    def batches(self, since: Since) -> Iterator[Batch]:
        """What the resources of the tables yield; the cursor is dlt's own state."""
        require_dlt()
        from trunkline.ingest.dlt_extract import Extraction
        from trunkline.ingest.dlt_hints import ordered

        options = self._reach.tables[0].options
        same_for_all(self._reach, "source", "arguments")
        arguments = self._reach.secret(options["arguments"])
        tables = {table.options["resource"] or table.name: table for table in self._reach.tables}

        def made() -> Any:
            return self._made(options["source"], arguments)

        extraction = Extraction(self._reach, tables, streams.last_state(since), made)
        self.notes = extraction.notes
        return ordered(streams.batches(self._reach, since, extraction.events), extraction.orders)

    def _made(self, reference: str, arguments: Mapping[str, Any]) -> Any:
        """What `sources/github.py:github` or `package.module:function` gives when it is called with its arguments."""
        module, _, attribute = reference.partition(":")
        if module.endswith(".py"):
            found = named_in(self._reach.root, reference)[2]
        else:
            if not attribute:
                raise ProjectError(
                    f"{reference!r} names no dlt source",
                    hint="write it as sources/github.py:github or package.module:function",
                )
            with user_code(f"cannot import {module}", self._reach.root):
                found = getattr(importlib.import_module(module), attribute)
        # a resource that takes no arguments is whole as it is
        return found(**arguments) if arguments or not hasattr(found, "_pipe") or found.requires_args else found


def require_dlt() -> None:
    """Raises `ProjectError` where dlt is not installed."""
    if importlib.util.find_spec("dlt") is None:
        raise ProjectError("dlt is not installed", hint="pip install 'trunkline[dlt]'")


def same_for_all(reach: Reach, *names: str) -> None:
    """Raises `ProjectError` for options that the tables of one source do not share, and must."""
    first = reach.tables[0]
    for table in reach.tables[1:]:
        for name in names:
            if table.options[name] != first.options[name]:
                raise ProjectError(
                    f"{table.source} and {first.source} have different values of `{name}`",
                    hint=f"say `{name}` once, in `meta: {{trunkline: …}}` of the source, or make them two sources",
                )
