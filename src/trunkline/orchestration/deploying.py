"""A merged deployment rolled out: a passing verdict on this very bundle, the commands, the alias, the ledger."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from msgspec import to_builtins

from trunkline.errors import EngineError, GateFailed
from trunkline.ledger.ids import new_id
from trunkline.orchestration.session import Session
from trunkline.orchestration.verdicts import champion_alias, numbered, passing
from trunkline.orchestration.versions import fetched
from trunkline.project.deploy import Deployment
from trunkline.project.hidden import KEY
from trunkline.registry.protocol import ModelVersion

__all__ = ["Deployed", "Done", "MINUTES", "deploy"]

MINUTES = 15.0
"""How long one command of a rollout may take."""

Done = Literal["deployed", "already", "would deploy"]


@dataclass(frozen=True)
class Deployed:
    """What became of a deployment. `commands` are those of its rollout, as they are run."""

    deployment: str
    reference: str
    sha256: str
    look_id: str
    done: Done
    commands: tuple[tuple[str, ...], ...]


def deploy(
    session: Session, name: str | None, *, back: bool = False, dry_run: bool = False, minutes: float = MINUTES
) -> Deployed:
    """Roll out what the deployment's file names. What is deployed already is left as it is.

    The alias moves and the ledger has a row only once every command has succeeded: after a failure the same command
    does all of it again. Raises `GateFailed` without a passing verdict on exactly this bundle by exactly these rules,
    `IntegrityError` for a bundle that is not what was registered, `EngineError` for a command that fails. With `back`,
    what counts is that the ledger knows the very bundle as deployed here before: the verdict of then, whatever the
    rules and the champion are now.
    """
    spec = session.project.deployment(name)
    context, registry = session.context, session.context.registry()
    version = registry.resolve(numbered(spec))
    bundle = fetched(session.project, context, version).bundle
    alias = champion_alias(session.project.deployments, spec.name, version.name)
    look_id = _look_before(session, spec, version) if back else passing(session, spec, version).look_id
    words = {"model": version.uri, "version": str(version.version), "sha256": version.sha256, "bundle": str(bundle)}
    commands = tuple(tuple(_filled(word, words) for word in command) for command in spec.spec.rollout)

    def ended(done: Done) -> Deployed:
        return Deployed(spec.name, version.uri, version.sha256, look_id, done, commands)

    if _is_deployed(session, spec, version, alias):
        return ended("already")
    if dry_run:
        return ended("would deploy")
    for command in commands:
        context.progress(f"{spec.name}: {command[0]}")
        _run(command, session.project.root, _environ(spec.name, words), minutes)
    registry.set_alias(version.name, alias, version.version)
    row = {"deployment_id": new_id("deployment"), "deployment": spec.name, "reference": version.uri}
    row |= {"sha256": version.sha256, "look_id": look_id, "settings": _settings(spec), "who": context.who}
    with context.ledger.transaction():
        context.ledger.add("deployments", [{**row, "git_commit": context.git_commit(), "deployed_at": context.now()}])
    return ended("deployed")


def _rollouts(session: Session, spec: Deployment) -> list[dict[str, Any]]:
    return session.context.ledger.read("deployments", "where deployment = ? order by deployment_id", [spec.name])


def _look_before(session: Session, spec: Deployment, version: ModelVersion) -> str:
    """The look by which this very bundle was deployed here before."""
    for row in reversed(_rollouts(session, spec)):
        if (row["reference"], row["sha256"]) == (version.uri, version.sha256):
            return str(row["look_id"])
    raise GateFailed(
        f"{version.uri} was never deployed as {spec.name}: there is no way back to it",
        hint=f"trunkline gate {spec.name} --model {version.uri}",
        file=spec.file,
    )


def _is_deployed(session: Session, spec: Deployment, version: ModelVersion, alias: str) -> bool:
    """Whether the last rollout was of this bundle in this way, and nobody has moved the alias since."""
    rows = _rollouts(session, spec)
    wanted = (version.uri, version.sha256, _settings(spec))
    if not rows or tuple(rows[-1][key] for key in ("reference", "sha256", "settings")) != wanted:
        return False
    serving = session.context.registry().alias(version.name, alias)
    return serving is not None and serving.version == version.version


def _settings(spec: Deployment) -> str:
    """The digest of how it is served and rolled out: when that changes, the same model is rolled out again."""
    told: dict[str, Any] = {"serve": to_builtins(spec.spec.serve), "rollout": to_builtins(spec.spec.rollout)}
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def _filled(word: str, words: Mapping[str, str]) -> str:
    for name, value in words.items():
        word = word.replace(f"{{{name}}}", value)
    return word


def _environ(deployment: str, words: Mapping[str, str]) -> dict[str, str]:
    """Ours without the vault's key, and what is deployed."""
    told = {f"TRUNKLINE_{name.upper()}": value for name, value in words.items()}
    return {**os.environ, **told, "TRUNKLINE_DEPLOYMENT": deployment, KEY: ""}


def _run(command: tuple[str, ...], root: Path, environ: Mapping[str, str], minutes: float) -> None:
    """One command, in the project's folder; what it prints goes to our error output. One that takes too long is ended

    with all that it started.
    """
    try:
        process = subprocess.Popen(command, cwd=root, env=environ, stdout=sys.stderr, start_new_session=True)
    except OSError as exc:
        raise EngineError(
            f"rollout: {command[0]!r} cannot be run: {exc.strerror}", hint="each word is an item of its own: docs/ci.md"
        ) from exc
    try:
        code = process.wait(minutes * 60)
    except subprocess.TimeoutExpired as exc:
        raise EngineError(f"rollout: {command[0]!r} took more than {minutes:g} minutes", hint="--minutes 30") from exc
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if code:
        raise EngineError(
            f"rollout: {command[0]!r} ended with {code}", hint="mend it and deploy again: all of it is run"
        )
