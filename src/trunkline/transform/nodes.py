"""dbt's nodes as records, remembered by what the project's files mean.

Parsing with dbt takes seconds. The result is kept with two digests of all files dbt reads: one of their bytes, and
one with comments and layout taken out of the SQL. Only when the second changes is dbt asked again.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from trunkline.graph.step import digest
from trunkline.project.files import write_atomic
from trunkline.project.load import Project
from trunkline.project.python import closure

_FORMAT = 4
_RUNNABLE = ("model", "seed", "snapshot", "function")


@dataclass(frozen=True)
class Node:
    """One dbt node: its code as a digest that comments and layout do not change, and what it depends on.

    A test has `tested`, the id of what it tests; a `unique` test also `unique`, the column it promises to be a key.
    """

    unique_id: str
    kind: str
    name: str
    selector: str
    file: str
    relation: tuple[str, str] | None
    materialized: str
    depends_on: tuple[str, ...]
    tested: str | None
    code: str
    unique: str | None = None


def load_nodes(project: Project, parse: Callable[[], dict[str, Any]]) -> tuple[Node, ...]:
    """The project's nodes; `parse` (dbt itself) is called only when a file's meaning has changed."""
    cache_file = project.state / "cache" / f"dbt-{project.target.name}.json"
    files = _files(project)
    raw = _raw_digest(project, files)
    cache = _read(cache_file)
    if cache.get("raw") == raw:
        return _nodes(cache["nodes"])
    meaning = _meaning(project, files)
    nodes = cache["nodes"] if cache.get("meaning") == meaning else _from_manifest(parse())
    cache = {"format": _FORMAT, "raw": raw, "meaning": meaning, "nodes": nodes}
    write_atomic(cache_file, json.dumps(cache))
    return _nodes(nodes)


def manifest_digest(project: Project) -> str:
    """A digest of the nodes that dbt's manifest had when it was last read for this target; empty if it never was."""
    nodes = _read(project.state / "cache" / f"dbt-{project.target.name}.json").get("nodes")
    return digest(nodes) if nodes else ""


def normalise(sql: str) -> str:
    """SQL (with Jinja) without comments and layout. Comments that hold Jinja stay: dbt runs them."""
    from sqlglot.errors import TokenError
    from sqlglot.tokens import Tokenizer

    try:
        tokens = Tokenizer().tokenize(sql)
    except TokenError:
        return sql
    parts: list[str] = []
    for token in tokens:
        parts.append(sql[token.start : token.end + 1])
        parts.extend(comment for comment in token.comments if "{{" in comment or "{%" in comment)
    return "\x1f".join(parts)


def _files(project: Project) -> list[Path]:
    found = {project.root / "dbt_project.yml", project.target.file}
    found |= {project.root / name for name in ("packages.yml", "dependencies.yml", "package-lock.yml", "selectors.yml")}
    for folders in project.dbt_paths.values():
        for folder in folders:
            found |= {p for p in folder.rglob("*") if p.suffix in (".sql", ".yml", ".yaml", ".py", ".csv", ".md")}
    for folder in project.dbt_paths.get("function-paths", ()):  # and the modules that Python functions share
        for path in folder.rglob("*.py"):
            found |= set(closure(project.root, path))
    return sorted(path for path in found if path.is_file())


def _raw_digest(project: Project, files: Iterable[Path]) -> str:
    total = hashlib.sha256(project.target.name.encode())
    names: set[bytes] = set()
    for path in files:
        content = path.read_bytes()
        total.update(f"\0{_name(project, path)}\0{len(content)}\0".encode())
        total.update(content)
        names |= set(re.findall(rb"env_var\(\s*['\"](\w+)['\"]", content))
    for name in sorted(found.decode() for found in names):
        total.update(f"\0{name}={os.environ.get(name)}".encode())
    return total.hexdigest()


def _meaning(project: Project, files: Iterable[Path]) -> str:
    parts = []
    for path in files:
        text = path.read_text("utf-8", errors="replace")
        parts.append([_name(project, path), normalise(text) if path.suffix == ".sql" else text])
    return digest([project.target.name, parts])


def _name(project: Project, path: Path) -> str:
    """Relative where it can be: a copy or another clone of the project means the same."""
    return path.relative_to(project.root).as_posix() if path.is_relative_to(project.root) else path.name


def _from_manifest(manifest: Mapping[str, Any]) -> list[dict[str, Any]]:
    macros = manifest.get("macros") or {}
    found = {**(manifest.get("nodes") or {}), **(manifest.get("functions") or {})}
    return [
        asdict(_node(node, macros))
        for node in found.values()
        if node["resource_type"] in (*_RUNNABLE, "test", "unit_test") and node.get("config", {}).get("enabled", True)
    ]


def _node(node: Mapping[str, Any], macros: Mapping[str, Any]) -> Node:
    kind = str(node["resource_type"])
    config = dict(node.get("config") or {})
    depends_on = tuple((node.get("depends_on") or {}).get("nodes") or ())
    ephemeral = config.get("materialized") == "ephemeral"
    relation = (
        None
        if kind == "test" or ephemeral
        else (str(node["schema"]).lower(), str(node.get("alias") or node["name"]).lower())
    )
    return Node(
        unique_id=str(node["unique_id"]),
        kind=kind,
        name=str(node["name"]),
        selector="fqn:" + ".".join(node["fqn"]),
        file=str(node["original_file_path"]),
        relation=relation if kind != "function" else None,
        materialized=str(config.get("materialized") or kind),
        depends_on=depends_on,
        tested=_tested(node, depends_on) if kind == "test" else None,
        code=_code(node, config, macros),
        unique=_unique(node, config),
    )


def _unique(node: Mapping[str, Any], config: Mapping[str, Any]) -> str | None:
    generic = (node.get("test_metadata") or {}).get("name") == "unique" and not config.get("where")
    return str(node["column_name"]) if generic and node.get("column_name") else None


def _tested(node: Mapping[str, Any], depends_on: tuple[str, ...]) -> str | None:
    attached = node.get("attached_node")
    models = [name for name in depends_on if not name.startswith("macro.")]
    return str(attached) if attached else (models[-1] if models else None)


def _code(node: Mapping[str, Any], config: dict[str, Any], macros: Mapping[str, Any]) -> str:
    for told_elsewhere in ("docs", "meta", "tags", "enabled", "group"):
        config.pop(told_elsewhere, None)
    raw = str(node.get("raw_code") or "")
    parts = {
        "sql": raw if node.get("language") == "python" else normalise(raw),
        "config": config,
        "macros": {name: normalise(str(macros[name]["macro_sql"])) for name in sorted(_macro_closure(node, macros))},
        "columns": {name: column.get("data_type") for name, column in (node.get("columns") or {}).items()},
        "test": node.get("test_metadata"),
        "function": [node.get("arguments"), node.get("returns")],
        "checksum": (node.get("checksum") or {}).get("checksum") if node["resource_type"] == "seed" else None,
    }
    return digest(parts)


def _macro_closure(node: Mapping[str, Any], macros: Mapping[str, Any]) -> set[str]:
    """Macros of the project and its packages that the node reaches; dbt's own come with dbt's version."""
    found: set[str] = set()
    todo = list((node.get("depends_on") or {}).get("macros") or ())
    while todo:
        name = todo.pop()
        macro = macros.get(name)
        if macro is None or name in found or macro["package_name"].startswith("dbt"):
            continue
        found.add(name)
        todo.extend((macro.get("depends_on") or {}).get("macros") or ())
    return found


def _nodes(items: Iterable[Mapping[str, Any]]) -> tuple[Node, ...]:
    return tuple(
        Node(
            **{
                **item,
                "depends_on": tuple(item["depends_on"]),
                "relation": tuple(item["relation"]) if item["relation"] else None,
            }
        )
        for item in items
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        cache = json.loads(path.read_text("utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return cache if isinstance(cache, dict) and cache.get("format") == _FORMAT else {}
