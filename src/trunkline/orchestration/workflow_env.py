"""What a workflow's steps are given: variables by name, derived from the project's files, and what to install."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from msgspec import to_builtins

from trunkline.errors import ProjectError
from trunkline.project import yaml
from trunkline.project.hidden import KEY
from trunkline.project.load import Project
from trunkline.project.references import references

__all__ = ["Variable", "requirements", "variables"]

_TRACKING = ("MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
# env:NAME, and dbt's env_var('NAME') with its default if it has one
_NAMED = re.compile(r"""\benv:([A-Za-z_]\w*)|env_var\(\s*['"]([A-Za-z_]\w*)['"]\s*(?:,\s*(?:'([^']*)'|"([^"]*)"))?""")
_HARMLESS = re.compile(r"[A-Za-z0-9._:/@-]*")
_EXTRAS = {"snowflake": "snowflake", "dlt": "dlt", "rest": "dlt"}
_TORCH = re.compile(r"\b(MLP|TabM|Torch)\b")
_XGBOOST = re.compile(r"\bXGBoost\b")


@dataclass(frozen=True)
class Variable:
    """One line of `env:`. `expression` is GitHub's, without its braces."""

    name: str
    expression: str

    def __str__(self) -> str:
        return f"{self.name}: ${{{{ {self.expression} }}}}"


def variables(project: Project) -> list[Variable]:
    """The registry's, the vault's key, then those that the target's profile, the sources and `trunkline.yml` name.

    Each is a secret of the repository; where the profile has a default and the secret is not set, the default counts.
    """
    found: dict[str, str | None] = dict.fromkeys((*_TRACKING, KEY))
    for name, default in sorted(_named(project)):
        found[name] = found.get(name) or default
    found |= dict.fromkeys(name for name in project.config.ci.secrets if name not in found)
    return [_variable(name, default) for name, default in found.items()]


def _variable(name: str, default: str | None) -> Variable:
    if name.upper().startswith("GITHUB_"):
        raise ProjectError(f"GitHub keeps no secret called {name!r}", hint="rename it in profiles.yml or sources.yml")
    given = f"secrets.{name}"
    if default and _HARMLESS.fullmatch(default):  # a secret that is not set is an empty text, which would win over it
        given += f" || '{default}'"
    return Variable(name, given)


def _named(project: Project) -> Iterator[tuple[str, str]]:
    for text in _texts(project):
        for bare, name, single, double in _NAMED.findall(text):
            yield bare or name, single or double


def _texts(project: Project) -> Iterator[str]:
    target = project.target
    profiles = yaml.load(target.file).data
    yield str(profiles[target.profile]["outputs"][target.name])
    for table in project.sources:
        yield from references(to_builtins(table.options))
    if (project.root / "trunkline.yml").exists():
        yield str(yaml.load(project.root / "trunkline.yml").data)


def requirements(project: Project, version: str) -> str:
    """A first `requirements.txt`: Trunkline, this version, with the extras that the project seems to need."""
    extras = {_EXTRAS[name] for name in (project.target.type, *_connectors(project)) if name in _EXTRAS}
    code = "\n".join(path.read_text("utf-8", errors="replace") for path in sorted((project.root / "ml").glob("*.py")))
    extras |= {"torch"} if _TORCH.search(code) else set()
    extras |= {"xgboost"} if _XGBOOST.search(code) else set()
    extras |= {"ray"} if project.config.training.on == "ray" else set()
    extras |= {"postgres"} if "postgres:" in str(project.target.settings) else set()
    listed = f"[{','.join(sorted(extras))}]" if extras else ""
    return f"trunkline{listed}=={version}\n"


def _connectors(project: Project) -> set[str]:
    return {table.options.connector for table in project.sources}
