"""The gate on a pull request: every deployment whose model or rules it changes."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from trunkline.datasets.run import folder
from trunkline.errors import EngineError, GateFailed, ModelReferenceError, TrunklineError
from trunkline.orchestration.gating import Gated, gate
from trunkline.orchestration.planning import run_selected
from trunkline.orchestration.repository import Repository, repository
from trunkline.orchestration.session import Session
from trunkline.orchestration.verdicts import Row, numbered, passing, reports_of
from trunkline.project import yaml
from trunkline.project.deploy import Deployment, DeploymentFile
from trunkline.project.load import declared_deployments
from trunkline.registry.protocol import ModelVersion

__all__ = ["Change", "Judged", "What", "changed", "judge_changed"]

What = Literal["model", "rules"]
_REPORTS = ("gate.json", "report.md", "report.html")


@dataclass(frozen=True)
class Change:
    """A deployment that is not what it was: another model, or the same one under other rules."""

    deployment: Deployment
    what: What
    before: str | None

    @property
    def reference(self) -> str:
        """The model it deploys now."""
        return str(self.deployment.spec.model)


@dataclass(frozen=True)
class Judged:
    """What became of a change: a verdict, or the error that kept the gate from one. `files` are its reports.

    `earlier` is the verdict that let it pass before, where it was not judged again.
    """

    change: Change
    passed: bool = False
    look: str = ""
    error: TrunklineError | None = None
    files: tuple[Path, ...] = field(default=())
    earlier: Row | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "deployment": self.change.deployment.name,
            "model": self.change.reference,
            "before": self.change.before,
            "changed": self.change.what,
            "passed": self.passed,
            "look_id": self.look or None,
            "judged_before": self.earlier is not None,
            "error": self.error.to_json() if self.error else None,
            "files": [str(file) for file in self.files],
        }


def changed(root: Path, base: str) -> list[Change]:
    """The deployments that deploy another model than where HEAD left `base`, or judge it by other rules.

    What is compared is the files as they lie here: no profile is read, so no secret is needed. A deployment without a
    model has nothing to judge.
    """
    git = repository(root)
    before = _deployed_at(git, git.branched_off(base), root)
    return [c for d in declared_deployments(root) if d.spec.model and (c := _change(before, git.name(d.file), d))]


def _deployed_at(git: Repository, commit: str, root: Path) -> dict[str, DeploymentFile]:
    """The deployments at `commit`, by what git calls their files; without those that cannot be read today."""
    listed = git.git("ls-tree", "-z", "--name-only", "--full-tree", commit, "--", f"{git.name(root / 'deploy')}/")
    found = {}
    for name in listed.split("\0"):
        if name.endswith((".yml", ".yaml")):
            with contextlib.suppress(TrunklineError):  # it was written for another version of Trunkline
                text = git.git("show", f"{commit}:{name}")
                found[name] = yaml.convert(yaml.load(git.top / name, text=text), DeploymentFile)
    return found


def _change(before: Mapping[str, DeploymentFile], name: str, deployment: Deployment) -> Change | None:
    """What a deployment was: of its name, wherever that stood, else what its file was, under whatever name."""
    named = (old for old in before.values() if old.deployment == deployment.name)
    old = next(named, None) or before.get(name)
    if old is None:
        return Change(deployment, "model", None)
    if old.model != deployment.spec.model or old.deployment != deployment.name:
        return Change(deployment, "model", old.model)
    return Change(deployment, "rules", old.model) if old.gate != deployment.spec.gate else None


def judge_changed(
    session: Session,
    changes: list[Change],
    out: Path | None,
    tell: Callable[[Judged, Gated | None], None],
    *,
    again: bool = False,
) -> list[Judged]:
    """A verdict on each change, its reports copied to `out/DEPLOYMENT/`; the dataset is made first if it is not here.

    One that has passed, the very bundle by the very rules against the champion of now, is not looked at `again` unless
    that is asked for: its reports are those of then. One that cannot be judged does not keep the others from it.
    """
    found = []
    for change in changes:
        gated = None
        place = out / change.deployment.name if out else None
        try:
            version = session.context.registry().resolve(numbered(change.deployment))
            judged = None if again else _passed_before(session, change, version, place)
            if judged is None:
                _prepare(session, change, version)
                gated = gate(session, change.deployment.name, change.reference, before=change.before)
                files = _copied(gated.result.markdown.parent, place) if place else ()
                judged = Judged(change, gated.result.passed, gated.look_id, _unkept(gated), files)
        except TrunklineError as exc:
            judged = Judged(change, error=exc)
        found.append(judged)
        tell(judged, gated)
    return found


def _unkept(gated: Gated) -> EngineError | None:
    """A verdict that only this machine knows lets nothing be deployed from another."""
    if gated.kept.run_id is not None or not gated.result.passed:
        return None
    return EngineError(
        f"{gated.candidate} passed, but its verdict is kept on this machine only: {gated.kept.why}",
        hint="once the registry answers, run the check again",
    )


def _passed_before(session: Session, change: Change, version: ModelVersion, place: Path | None) -> Judged | None:
    """The verdict that still holds and its report, if both are to be had."""
    try:
        row = passing(session, change.deployment, version)
    except GateFailed:
        return None
    with tempfile.TemporaryDirectory(prefix="trunkline-") as scratch:
        reports = reports_of(session, row, version, Path(scratch) / "reports")
        if reports is None:
            return None
        files = _copied(reports, place) if place else ()
    return Judged(change, True, row.look_id, None, files, row)


def _prepare(session: Session, change: Change, version: ModelVersion) -> None:
    """Make or fetch the dataset that the candidate was trained on, unless it is here; sources are not asked again."""
    name, dataset_id = (version.tags.get(f"trunkline.{key}", "") for key in ("dataset", "dataset_id"))
    if not name or not dataset_id:
        raise ModelReferenceError(f"{version.uri} was not registered by trunkline", file=change.deployment.file)
    if folder(session.context.state, name, dataset_id).is_dir():
        return
    kinds = ("ingest", "build", "test", "dataset")
    ended, _ = run_selected(session, [f"+dataset:{name}"], lambda end: None, kinds=kinds, poll=False)
    failed = next((end.error for end in ended if end.error), None)
    if failed:
        raise failed
    session.refresh()


def _copied(source: Path, out: Path) -> tuple[Path, ...]:
    try:
        out.mkdir(parents=True, exist_ok=True)
        names = [name for name in _REPORTS if (source / name).is_file()]
        return tuple(Path(shutil.copyfile(source / name, out / name)) for name in names)
    except OSError as exc:
        raise EngineError(f"cannot write the reports: {exc.strerror}", file=out) from exc
