"""The target of the user's dbt `profiles.yml`: which warehouse this command talks to."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trunkline.errors import ProjectError, did_you_mean
from trunkline.project import yaml


@dataclass(frozen=True)
class Target:
    """One output of a dbt profile. `settings` is dbt's own mapping with `env_var()` resolved: it may hold secrets."""

    profile: str
    name: str
    type: str
    settings: Mapping[str, Any]
    file: Path

    def __repr__(self) -> str:
        return f"Target(profile={self.profile!r}, name={self.name!r}, type={self.type!r})"


def find_profiles(root: Path, environ: Mapping[str, str] = os.environ) -> Path:
    """The `profiles.yml` dbt would read: DBT_PROFILES_DIR, the project folder, then ~/.dbt."""
    folders = [Path(environ["DBT_PROFILES_DIR"])] if environ.get("DBT_PROFILES_DIR") else []
    folders += [root, Path.home() / ".dbt"]
    for folder in folders:
        if (folder / "profiles.yml").is_file():
            return folder / "profiles.yml"
    raise ProjectError(
        f"no profiles.yml in {' or '.join(str(folder) for folder in folders)}",
        hint="write one with `trunkline init .`",
    )


def load_target(root: Path, profile: str, target: str | None, environ: Mapping[str, str] = os.environ) -> Target:
    """Read one target of `profile`. Raises `ProjectError` with file and line."""
    path = find_profiles(root, environ)
    document = yaml.load(path)
    profiles = document.data if isinstance(document.data, dict) else {}
    if profile not in profiles:
        raise document.error(
            f"no profile {profile!r}.{did_you_mean(profile, map(str, profiles))}",
            hint=f"dbt_project.yml says `profile: {profile}`",
        )
    outputs = (profiles[profile] or {}).get("outputs") or {}
    name = target or str(_render(profiles[profile].get("target", "default"), document, (profile, "target"), environ))
    if name not in outputs:
        known = ", ".join(map(str, outputs)) or "none"
        raise document.error(
            f"profile {profile!r} has no target {name!r}.{did_you_mean(name, map(str, outputs))}",
            (profile, "outputs"),
            hint=f"targets: {known}",
        )
    place = (profile, "outputs", name)
    settings = _render(outputs[name], document, place, environ)
    if not isinstance(settings, dict) or "type" not in settings:
        raise document.error(f"target {name!r} has no `type`", place)
    return Target(profile, name, str(settings["type"]), settings, path)


def outputs(root: Path, environ: Mapping[str, str] = os.environ) -> Iterator[Mapping[str, Any]]:
    """The settings of every target of every profile of the file; those that cannot be rendered here are left out."""
    document = yaml.load(find_profiles(root, environ))
    profiles = document.data if isinstance(document.data, dict) else {}
    for profile, content in profiles.items():
        for name, settings in ((content or {}).get("outputs") or {}).items():
            with suppress(ProjectError):
                yield _render(settings, document, (profile, "outputs", name), environ)


def _render(value: Any, document: yaml.Document, place: yaml.Place, environ: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _render(item, document, (*place, key), environ) for key, item in value.items()}
    if isinstance(value, list):
        return [_render(item, document, (*place, i), environ) for i, item in enumerate(value)]
    if not isinstance(value, str) or "{{" not in value:
        return value
    return _render_text(value, document, place, environ)


def _render_text(text: str, document: yaml.Document, place: yaml.Place, environ: Mapping[str, str]) -> Any:
    import jinja2
    from jinja2.nativetypes import NativeEnvironment

    def env_var(name: str, default: str | None = None) -> str:
        if name in environ:
            return environ[name]
        if default is not None:
            return default
        raise document.error(f"environment variable {name} is not set", place, hint=f"export {name}=…")

    native = re.search(r"\|\s*as_(native|number|bool)", text)
    engine = NativeEnvironment() if native else jinja2.Environment(undefined=jinja2.StrictUndefined)
    engine.filters.update(as_native=lambda v: v, as_number=lambda v: v, as_bool=lambda v: v, as_text=str)
    try:
        return engine.from_string(text).render(env_var=env_var)
    except jinja2.TemplateError as exc:
        raise document.error(f"cannot render {text!r}: {exc}", place) from exc
