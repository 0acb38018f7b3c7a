"""The whole project built and tested on a warehouse of its own that is thrown away: what CI runs on every change.

A copy of what git would commit is run in a folder of its own, on a DuckLake there, whatever the project's own targets
are. No secret is needed and nothing outside is asked: a source that lies elsewhere, or whose files are not in the
repository, is an empty table with its contract's columns.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml as pyyaml

from trunkline.errors import ProjectError, SourceError, StepFailed, TrunklineError, from_json
from trunkline.ingest import files
from trunkline.ingest.steps import polled
from trunkline.orchestration.local import Ended
from trunkline.orchestration.planning import run_selected
from trunkline.orchestration.repository import repository
from trunkline.orchestration.session import open_session
from trunkline.project import yaml
from trunkline.project.load import declared_sources
from trunkline.project.profiles import find_profiles
from trunkline.project.sources import SourceTable, SourceUnit, units

__all__ = ["Checked", "check", "inside"]

_KINDS = ("ingest", "build", "test")
_EMPTY = "trunkline_empty"
_SKIPPED = {".git", ".trunkline", "dbt_packages", "logs", "target", "warehouse", "__pycache__", ".venv"}
_KEPT = ("settings", "extensions", "plugins", "config_options")  # of a DuckDB target: what its SQL may need


@dataclass(frozen=True)
class Checked:
    """What ran, as `trunkline run --json` tells it; and the source tables that were empty."""

    ran: list[dict[str, Any]]
    empty: tuple[str, ...] = ()
    steps: int = 0


def check(root: Path, tell: Callable[[str], None]) -> Checked:
    """Build and test the project at `root` elsewhere; nothing of it, nor of its warehouse, is touched.

    Raises what `trunkline plan` or `trunkline run` would raise, with files named as in the project.
    """
    with _copy(root) as copy:
        empty = _without_outside(copy)
        for name in empty:
            tell(f"source {name}: not in the repository, so it is empty here")
        _write_profile(root, copy)
        done = _apart(copy, root)
    return Checked(done["ran"], empty, done["steps"])


def inside(answer: Path) -> None:
    """What runs in the copy, in a process of its own: compile all of it, run what fills and builds tables.

    Writes JSON to the file `answer`: what ran, or the error. What the user's code prints is no part of it.
    """
    ended: list[Ended] = []
    try:
        with open_session(Path.cwd(), None, lambda text, done=None: None) as session:
            steps = len(session.compile().graph.steps)
            run_selected(session, [], ended.append, kinds=_KINDS)
        failed = [end for end in ended if end.error]
        if failed and failed[0].error:
            raise failed[0].error
        ran = [{"step": end.name, "summary": end.summary, "seconds": round(end.seconds, 3)} for end in ended]
        told: dict[str, Any] = {"steps": steps, "ran": ran}
    except TrunklineError as exc:
        told = exc.to_json()
    answer.write_text(json.dumps(told), "utf-8")


@contextmanager
def _copy(root: Path) -> Iterator[Path]:
    """A folder with the files that are in git or would be added by `git add`; outside of git, all but state."""
    with tempfile.TemporaryDirectory(prefix="trunkline-check-") as scratch:
        copy = Path(scratch, "project")
        copy.mkdir()
        for name in _names(root):
            source, target = root / name, copy / name
            if source.is_file():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, target)
        yield copy


def _names(root: Path) -> list[str]:
    try:
        listed = repository(root).asked("-C", str(root), "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    except ProjectError:
        listed = None
    if listed is not None:
        return sorted({name for name in listed.split("\0") if name})
    found = []
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if name not in _SKIPPED]
        found += [Path(folder, name).relative_to(root).as_posix() for name in names]
    return found


def _without_outside(copy: Path) -> tuple[str, ...]:
    """Let every source table of `copy` that cannot be read from it be an empty file; their names."""
    tables = [t for unit in units(declared_sources(copy)) if not _here(copy, unit) for t in unit.tables if t.columns]
    for file in {table.file for table in tables}:
        _rewrite(file, {(t.source, t.label or t.name): t for t in tables if t.file == file})
    for table in tables:
        path = copy / _EMPTY / f"{table.key}.csv"
        path.parent.mkdir(exist_ok=True)
        with path.open("w", encoding="utf-8", newline="") as out:
            csv.writer(out).writerow([column.source or column.name for column in table.columns])
        os.utime(path, (0, 0))  # old enough for `settled`
    return tuple(sorted(table.key for table in tables))


def _here(copy: Path, unit: SourceUnit) -> bool:
    if polled(unit):
        return False
    try:
        return all(files.find(copy, table) for table in unit.tables)
    except SourceError:
        return False


def _rewrite(file: Path, empty: Mapping[tuple[str, str], SourceTable]) -> None:
    """Say in `file` that the tables in `empty` come from empty files; what their source shares goes to each table."""
    data = yaml.load(file).data
    for source in data.get("sources") or []:
        mine = [table for table in source.get("tables") or [] if (source.get("name"), table.get("name")) in empty]
        shared = _taken(source) if mine else {}
        for table in (source.get("tables") or []) if mine else []:
            own = {**shared, **_taken(table)}
            found = empty.get((source["name"], table["name"]))
            if found:
                own = {key: own[key] for key in ("load", "key", "deleted") if key in own}
                own |= {"connector": "files", "path": f"{_EMPTY}/{found.key}.csv"}
            if own:
                table.setdefault("config", {}).setdefault("meta", {})["trunkline"] = own
    file.write_text(pyyaml.safe_dump(data, sort_keys=False), "utf-8")


def _taken(node: dict[str, Any]) -> dict[str, Any]:
    """What a source or a table says of itself to Trunkline, taken out of it."""
    places = [node.get("meta"), (node.get("config") or {}).get("meta")]
    taken = [place.pop("trunkline") for place in places if isinstance(place, dict) and place.get("trunkline")]
    return dict(taken[-1]) if taken else {}


def _write_profile(root: Path, copy: Path) -> None:
    """A profile of the same name whose one target is a DuckLake in `copy`; nothing of it hangs on the environment."""
    name = yaml.load(copy / "dbt_project.yml").data["profile"]
    known = _target(root, name)
    database, schema = str(known.get("database") or "lake"), str(known.get("schema") or "main")
    target = {
        "type": "duckdb",
        "path": ":memory:",
        "database": database if database.isidentifier() else "lake",
        "schema": schema if schema.isidentifier() else "main",
        "threads": 1,
        "extensions": ["ducklake", "sqlite_scanner"],
        "settings": {"TimeZone": "UTC"},
        "plugins": [{"module": "trunkline.transform.functions"}],
    }
    if known.get("type") == "duckdb":
        target |= {key: known[key] for key in _KEPT if key in known and "{{" not in str(known[key])}
    lake = {"path": "ducklake:sqlite:warehouse/catalog.sqlite", "options": {"data_path": "warehouse/data"}}
    target["attach"] = [{**lake, "alias": target["database"]}]
    (copy / "warehouse").mkdir(exist_ok=True)
    text = json.dumps({name: {"target": "check", "outputs": {"check": target}}})
    (copy / "profiles.yml").write_text(text, "utf-8")


def _target(root: Path, profile: str) -> dict[str, Any]:
    """The target that is the default, as it is written; empty where the profile lies on another machine."""
    try:
        found = (yaml.load(find_profiles(root)).data or {}).get(profile) or {}
    except ProjectError:
        return {}
    outputs = found.get("outputs") or {}
    target: dict[str, Any] = outputs.get(found.get("target")) or next(iter(outputs.values()), {})
    return target


def _apart(copy: Path, root: Path) -> dict[str, Any]:
    """`inside`, in the copy. Raises the error that it ends with, its paths as in the project."""
    answer = copy.with_name("answer.json")
    asked = f"import pathlib, sys; from {__name__} import inside; inside(pathlib.Path(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-P", "-c", asked, str(answer)],
        cwd=copy,
        stdout=subprocess.DEVNULL,
        check=False,
        env={k: v for k, v in os.environ.items() if k not in ("DBT_PROFILES_DIR", "MLFLOW_TRACKING_URI")},
    )
    if done.returncode or not answer.is_file():
        raise StepFailed(f"the check ended with {done.returncode}, and why is above")
    text = answer.read_text("utf-8").replace(f"{copy.resolve()}/", "").replace(f"{copy}/", "")
    found: dict[str, Any] = json.loads(text)
    if "error" in found:
        raise from_json(found)
    return found
