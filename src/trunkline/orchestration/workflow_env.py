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
_NAMED = re.compile(
    r"""\benv:([A-Za-z_]\w*)|env_var\(\s*['"]([A-Za-z_]\w*)['"]\s*(?:,\s*(?:'([^']*)'|"([^"]*)"|(-?\d[\d.]*)))?"""
)
# What the runner sets by itself; GitHub's own are here as far as a profile may ask for them.
_RUNNERS = re.compile(
    r"CI|HOME|LANG|PATH|PWD|SHELL|TMPDIR|USER|(RUNNER|ACTIONS)_\w+|GITHUB_(ACTIONS|ACTOR|BASE_REF|EVENT_NAME|HEAD_REF|JOB|"
    r"REF|REF_NAME|REPOSITORY|REPOSITORY_OWNER|RUN_ATTEMPT|RUN_ID|RUN_NUMBER|SHA|WORKFLOW|WORKSPACE)"
)
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
        if not _RUNNERS.fullmatch(name):
            found[name] = found.get(name) or default
    found |= dict.fromkeys(name for name in project.config.ci.secrets if name not in found)
    return [_variable(name, default) for name, default in found.items()]


def _variable(name: str, default: str | None) -> Variable:
    if name.upper().startswith("GITHUB_") or _RUNNERS.fullmatch(name):
        raise ProjectError(
            f"no secret may be called {name!r}: GitHub or its runner sets such names",
            hint="rename it where it is asked for: profiles.yml, sources.yml or trunkline.yml",
        )
    given = f"secrets.{name}"
    return Variable(name, f"{given} || {_text(default)}" if default else given)  # one that is not set is an empty text


def _text(value: str) -> str:
    """A text as GitHub's expressions and YAML both take it: spelled out as JSON does, unless it is plain."""
    if _HARMLESS.fullmatch(value):
        return f"'{value}'"
    units = value.encode("utf-16-be")
    codes = [int.from_bytes(units[at : at + 2], "big") for at in range(0, len(units), 2)]
    spelled = (chr(c) if c < 128 and (chr(c).isalnum() or chr(c) in " _-") else f"\\u{c:04x}" for c in codes)
    return f"""fromJSON('"{"".join(spelled)}"')"""


def _named(project: Project) -> Iterator[tuple[str, str]]:
    for text in _texts(project):
        for bare, name, *defaults in _NAMED.findall(text):
            yield bare or name, "".join(defaults)


def _texts(project: Project) -> Iterator[str]:
    target = project.target
    profiles = yaml.load(target.file).data
    yield from _strings(profiles[target.profile]["outputs"][target.name])
    for table in project.sources:
        yield from references(to_builtins(table.options))
    if (project.root / "trunkline.yml").exists():
        yield from _strings(yaml.load(project.root / "trunkline.yml").data)


def _strings(value: object) -> Iterator[str]:
    """The texts in plain data, as they are."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _strings(item)


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
