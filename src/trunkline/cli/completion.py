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


def models(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Names of the models that were declared when `ml/` was last run."""
    import json

    try:
        known = json.loads((_root(context) / ".trunkline" / "cache" / "ml.json").read_text("utf-8"))
        found = [item for state in known.values() if isinstance(state, dict) for item in state["declared"]]
        names = [str(item["name"]) for item in found if item["kind"] == "model"]
    except (TrunklineError, OSError, ValueError, KeyError, TypeError, AttributeError):
        return []
    return [name for name in names if name.startswith(incomplete)]


def spun_steps(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Steps that ran, of the kinds that can be spun, as the last command of this checkout left them."""
    import json

    found: set[str] = set()
    try:
        for file in (_root(context) / ".trunkline" / "cache").glob("state-*.json"):
            found |= set(json.loads(file.read_text("utf-8"))["past"])
    except (TrunklineError, OSError, ValueError, KeyError, TypeError):
        return []
    return sorted(name for name in found if name.startswith(("train:", "dataset:")) and name.startswith(incomplete))


def past_runs(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """`last`, and the latest runs of steps that can be spun: the warehouse is asked for them."""
    from trunkline.orchestration.session import open_session

    words = ["last"]
    wanted = "where kind in ('train', 'dataset') order by step_run_id desc limit 50"
    try:  # of all such steps: what was typed before an option without a value is not parsed
        with open_session(_root(context), context.params.get("target"), lambda text, done=None: None) as session:
            words += [str(row["run_id"]) for row in session.context.ledger.read("step_runs", wanted)]
    except (TrunklineError, OSError, ValueError):
        pass
    return list(dict.fromkeys(word for word in words if word.startswith(incomplete)))
