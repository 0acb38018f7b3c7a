"""A pull request for each deployment that a newer version could serve: a branch of ours with one line changed."""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

from trunkline.errors import EngineError, UserError
from trunkline.gate.markdown import code
from trunkline.orchestration.gating import model_name
from trunkline.orchestration.github_api import GitHub
from trunkline.orchestration.repository import Repository
from trunkline.orchestration.session import Session
from trunkline.project.deploy import Deployment, rewrite_reference
from trunkline.registry.protocol import ModelVersion

__all__ = ["Done", "Proposal", "branch_of", "candidate", "propose"]

Done = Literal["made", "changed", "as it was", "turned down"]


@dataclass(frozen=True)
class Proposal:
    """What was proposed for a deployment. "turned down": this very version's pull request was closed unmerged."""

    deployment: str
    reference: str
    before: str | None
    branch: str
    done: Done
    url: str


def branch_of(deployment: str) -> str:
    """The branch of a deployment's proposals. It is ours: each proposal takes the last one's place."""
    return f"trunkline/{deployment}"


def candidate(session: Session, deployment: Deployment) -> ModelVersion | None:
    """The newest version of the deployment's model, if it is newer than the one deployed and another bundle."""
    registry = session.context.registry()
    serving = registry.resolve(deployment.spec.model) if deployment.spec.model else None
    versions = registry.versions(serving.name if serving else model_name(session, deployment))
    newest = versions[-1] if versions else None
    if newest is None or (serving and (newest.version <= serving.version or newest.sha256 == serving.sha256)):
        return None
    return newest


def propose(session: Session, github: GitHub, git: Repository, deployment: Deployment, base: str) -> Proposal | None:
    """Push the branch with the newest version's reference and open its pull request, or bring ours up to date.

    What is proposed is `base` as it is on origin, with one line changed: no commit goes along that is here alone. None
    if there is nothing new. Neither the checkout nor any other branch changes. Raises `UserError` for a deployment's
    file that differs from that of `base`.
    """
    version = candidate(session, deployment)
    if version is None:
        return None
    signed_in = _signed_in(git, github)
    onto = _fetched(git, base, signed_in)
    there = _as_on(git, onto, base, deployment)
    branch, title = branch_of(deployment.name), f"{deployment.name}: {version.uri}"
    before = deployment.spec.model
    known = list(github.all("pulls", state="all", head=f"{github.owner}:{branch}"))
    ours = next((item for item in known if item["state"] == "open"), None)
    if ours is None and (closed := _turned_down(known, version.uri, title)):
        return Proposal(deployment.name, version.uri, before, branch, "turned down", closed)
    text = rewrite_reference(deployment.file, version.uri, there)
    pushed = _push(git, branch, onto, deployment, text, title, signed_in)
    body = {"title": title, "body": _body(deployment, version)}
    if ours is None:
        made = github.post("pulls", {**body, "head": branch, "base": base})
        return Proposal(deployment.name, version.uri, before, branch, "made", str(made.get("html_url", "")))
    done: Done = "as it was"
    if pushed or _mark(version.uri) not in str(ours.get("body") or ""):
        github.patch(f"pulls/{int(ours['number'])}", body)
        done = "changed"
    return Proposal(deployment.name, version.uri, before, branch, done, str(ours.get("html_url", "")))


def _mark(reference: str) -> str:
    """A line nobody sees: what a pull request proposes, whatever becomes of its title."""
    return f"<!-- trunkline:proposal {reference} -->"


def _turned_down(known: list[Any], reference: str, title: str) -> str:
    """The address of the pull request for this very version that somebody closed without merging it."""
    closed = (item for item in known if item["state"] == "closed" and not item.get("merged_at"))
    same = (item for item in closed if _mark(reference) in str(item.get("body") or "") or item["title"] == title)
    return next((str(item.get("html_url", "")) for item in same), "")


def _body(deployment: Deployment, version: ModelVersion) -> str:
    before = code(deployment.spec.model) if deployment.spec.model else "nothing"
    told = {key: version.tags.get(f"trunkline.{key}", "") for key in ("dataset", "dataset_id", "git_commit")}
    lines = [
        _mark(version.uri),
        f"{code(deployment.name)} deploys {before}. The newest version is {code(version.uri)}.",
        "",
        f"- bundle {code(version.sha256[:16] or 'none')}",
        *(f"- {key.replace('_', ' ')} {code(value[:40])}" for key, value in told.items() if value),
        *(f"- {code(name)} {value:.6g}" for name, value in sorted(version.metrics.items())[:20]),
        "",
        "The gate judges it here. Merging deploys it; closing turns this version down.",
    ]
    return "\n".join(lines)


def _fetched(git: Repository, branch: str, signed_in: Mapping[str, str]) -> str:
    """The commit that a branch of origin is at, fetched; empty if origin has no such branch."""
    name = f"refs/heads/{branch}"
    listed = git.git("ls-remote", "origin", name, what="asking origin for its branches", environ=signed_in)
    if listed.strip():
        git.git("fetch", "--no-tags", "origin", name, what=f"fetching {branch}", environ=signed_in)
    return listed.partition("\t")[0].strip()


def _as_on(git: Repository, onto: str, base: str, deployment: Deployment) -> str:
    """The deployment's file as it is on `base`, the branch of origin that is at `onto`; here it must be the same."""
    if not onto:
        raise UserError(f"origin has no branch {base!r}", hint="--base BRANCH, as it is called on origin")
    text = git.file_at(onto, deployment.file)
    if text is None or text.replace("\r\n", "\n") != deployment.file.read_text("utf-8"):
        raise UserError(
            f"the file is not as it is on origin's branch {base!r}",
            file=deployment.file,
            hint=f"bring the change there first, or put the file back: git checkout {onto[:12]} -- {deployment.file}",
        )
    return text


def _push(
    git: Repository,
    branch: str,
    onto: str,
    deployment: Deployment,
    text: str,
    message: str,
    signed_in: Mapping[str, str],
) -> bool:
    """Bring our branch on origin to one commit on top of `onto`, unless it says the same; whether it did not."""
    there = _fetched(git, branch, signed_in)
    if there and git.file_at(there, deployment.file) == text:  # a push for nothing would cost a look at the test part
        return False
    commit = git.committed(deployment.file, text, message, onto=onto)
    lease = f"--force-with-lease=refs/heads/{branch}:{there}"  # a person's commit that came meanwhile is not lost
    try:
        git.git("push", lease, "origin", f"{commit}:refs/heads/{branch}", what=f"pushing {branch}", environ=signed_in)
    except EngineError as exc:
        exc.hint = "the token needs `contents: write`, and the branch may not be protected: docs/ci.md"
        raise
    return True


def _signed_in(git: Repository, github: GitHub) -> Mapping[str, str]:
    """The environment in which git's requests to GitHub bear the token; empty where origin is elsewhere.

    Through the environment: other processes see arguments, and a file would stay. It is one more setting beside those
    that the environment may hold already.
    """
    url, server = (urlsplit(text) for text in (git.asked("remote", "get-url", "--push", "origin") or "", github.server))
    if url.scheme != "https" or (url.hostname, url.port) != (server.hostname, server.port):
        return {}
    login = base64.b64encode(f"x-access-token:{github.token}".encode()).decode()
    there = os.environ.get("GIT_CONFIG_COUNT", "")
    number = int(there) if there.isdecimal() else 0
    return {
        "GIT_CONFIG_COUNT": str(number + 1),
        f"GIT_CONFIG_KEY_{number}": f"http.{url.scheme}://{url.netloc.rpartition('@')[2]}/.extraheader",
        f"GIT_CONFIG_VALUE_{number}": f"AUTHORIZATION: basic {login}",
    }
