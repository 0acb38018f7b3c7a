"""What training code does not get: files that hold rows of the test part or lead to them, and names of secrets."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from glob import escape
from pathlib import Path
from typing import Any

from trunkline.project import profiles
from trunkline.project.load import dbt_paths, declared_sources

KEY = "TRUNKLINE_VAULT_KEY"
CLOSED = "code in ml/ reads neither sources nor warehouse, and writes into folders that were there only: docs/vault.md"
"""What to say of its `PermissionError`s."""

# Folders of `.trunkline`: sealed parts, what the warehouse spills, the gate's reports, the registry that keeps copies.
_STATE = ("vault", "tmp", "gates", "mlflow")
# Where tools keep the keys of warehouses and stores, below the home folder.
_KEYRINGS = (".aws", ".azure", ".config/gcloud", ".dbt", ".my.cnf", ".netrc", ".pgpass", ".snowflake", ".snowsql")
_KEYRING_NAMES = ("AWS_", "AZURE_", "GOOGLE_", "MOTHERDUCK_", "MYSQL_", "PG", "SNOWFLAKE_")
_NEEDED = {"HOME", "LANG", "PATH", "PWD", "SHELL", "TMPDIR", "USER"}  # a profile may well ask for these
_NAMED = re.compile(r"""env_var\(\s*['"](\w+)|\benv:([A-Za-z_]\w*)""")
_KINDS = re.compile(r"(ducklake|duckdb|sqlite|file):")


def key_folder(environ: Mapping[str, str]) -> Path:
    """Where the vault's key lies unless the environment holds it: outside every repository."""
    return Path(environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "trunkline"


def vault_folder(state: Path) -> Path:
    """Where the sealed parts lie."""
    return state / "vault"


def hidden_paths(root: Path, environ: Mapping[str, str] = os.environ) -> tuple[Path, ...]:
    """Files and folders that training code must not open: the vault and its key, the warehouse's own files, profiles
    and keyrings, and the files that sources and seeds are read from. Some may not be there."""
    found = [root / ".trunkline" / name for name in _STATE]
    found += [key_folder(environ), *(Path.home() / name for name in _KEYRINGS)]
    if _is_project(root):
        found += _profiles(root, environ)
        found += _warehouses(root, environ)
        found += _sources(root)
    return tuple(path for path in dict.fromkeys(found) if not root.resolve().is_relative_to(path.resolve()))


def open_environ(root: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """The environment for training code: without the vault's key, what profile, sources and trunkline.yml take from it,
    and what clients of warehouses and object stores look for."""
    folders = dbt_paths(root)["model-paths"] if _is_project(root) else ()
    files = [*_profiles(root, environ), root / "trunkline.yml"]
    files += [file for folder in folders for file in folder.rglob("*.y*ml")]
    texts = [file.read_text("utf-8", errors="replace") for file in files if file.is_file()]
    named = {one or other for text in texts for one, other in _NAMED.findall(text)} - _NEEDED
    return {
        name: value
        for name, value in environ.items()
        if name != KEY and name not in named and not name.startswith(_KEYRING_NAMES)
    }


def _is_project(root: Path) -> bool:
    return (root / "dbt_project.yml").is_file()


def _profiles(root: Path, environ: Mapping[str, str]) -> list[Path]:
    folders = [root, *([Path(environ["DBT_PROFILES_DIR"])] if environ.get("DBT_PROFILES_DIR") else [])]
    return [folder / "profiles.yml" for folder in folders]


def _warehouses(root: Path, environ: Mapping[str, str]) -> Iterator[Path]:
    """The local files of every target: databases, catalogs, data paths, keys; with what lies beside under that name."""
    for settings in profiles.outputs(root, environ):
        for text in _paths(settings):
            path = root / Path(_KINDS.sub("", text)).expanduser()
            if ":" not in str(path) and not root.is_relative_to(path):
                yield path
                yield from path.parent.glob(f"{escape(path.name)}[-.]*")  # journals, and DuckLake's own data path


def _paths(value: Any, key: str = "") -> Iterator[str]:
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from _paths(item, str(name))
    elif isinstance(value, list):
        for item in value:
            yield from _paths(item, key)
    elif isinstance(value, str) and re.search(r"(path|file)$", key) and value != ":memory:" and "=" not in value:
        yield value


def _sources(root: Path) -> Iterator[Path]:
    for table in declared_sources(root):
        pattern = re.sub(r"\{[^}]*\}", "*", str(getattr(table.options, "path", "") or ""))
        if pattern and ":" not in pattern:
            base = Path(Path(pattern).anchor) if Path(pattern).is_absolute() else root
            yield from base.glob(str(Path(pattern).relative_to(Path(pattern).anchor)))
    yield from dbt_paths(root)["seed-paths"]
