"""What Tab completes: names of the project, read from its YAML alone. Quick, and silent whatever is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from trunkline.errors import TrunklineError


def source_tables(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """`source.table` of every source table; without the source where the user did not begin with one."""
    try:
        names = _declared(context)
    except (TrunklineError, OSError, ValueError):
        return []
    lower = incomplete.lower()
    full = [name for name in names if name.lower().startswith(lower)]
    short = [name.rpartition(".")[2] for name in names]
    return full or [name for name in short if name.lower().startswith(lower)]


def _declared(context: click.Context) -> list[str]:
    from trunkline.project.load import declared_sources

    return [table.key for table in declared_sources(_root(context))]


def _root(context: click.Context) -> Path:
    from trunkline.project.load import find_root

    given: Any = context.params.get("project")
    return find_root((Path(given) if given else Path.cwd()).resolve())


def datasets(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Names of the datasets on this disk; after `@` the ids of one."""
    try:
        state = _root(context) / ".trunkline" / "datasets"
        found = sorted(path.relative_to(state) for path in state.glob("*/[!.]*") if path.is_dir())
    except (TrunklineError, OSError, ValueError):
        return []
    names = dict.fromkeys(path.parts[0] for path in found)
    builds = [f"{path.parts[0]}@{path.parts[1][:8]}" for path in found]
    return [text for text in (builds if "@" in incomplete else names) if text.startswith(incomplete)]
