"""A pull request for each deployment that a newer version could serve: a branch of ours with one line changed."""

from __future__ import annotations

import base64
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

    None if there is nothing new. Neither the checkout nor any other branch changes. Raises `UserError` for a
    deployment's file that differs from HEAD: what is proposed would not be what is here.
    """
    version = candidate(session, deployment)
    if version is None:
        return None
    if git.file_at("HEAD", deployment.file) != deployment.file.read_text("utf-8"):
        raise UserError("the file is not as it was committed", file=deployment.file, hint="commit it or put it back")
    branch, title = branch_of(deployment.name), f"{deployment.name}: {version.uri}"
    before = deployment.spec.model
    known = list(github.all("pulls", state="all", head=f"{github.owner}:{branch}"))
    ours = next((item for item in known if item["state"] == "open"), None)
    if ours is None and (closed := _turned_down(known, title)):
        return Proposal(deployment.name, version.uri, before, branch, "turned down", closed)
    text = rewrite_reference(deployment.file, version.uri)
    pushed = _push(git, github, branch, deployment, text, title)
    body = {"title": title, "body": _body(deployment, version)}
    if ours is None:
        made = github.post("pulls", {**body, "head": branch, "base": base})
        return Proposal(deployment.name, version.uri, before, branch, "made", str(made.get("html_url", "")))
    done: Done = "as it was"
    if pushed or ours["title"] != title:
        github.patch(f"pulls/{int(ours['number'])}", body)
        done = "changed"
    return Proposal(deployment.name, version.uri, before, branch, done, str(ours.get("html_url", "")))


def _turned_down(known: list[Any], title: str) -> str:
    """The address of the pull request for this very version that somebody closed without merging it."""
    closed = (i for i in known if i["state"] == "closed" and not i.get("merged_at") and i["title"] == title)
    return next((str(item.get("html_url", "")) for item in closed), "")


def _body(deployment: Deployment, version: ModelVersion) -> str:
    before = code(deployment.spec.model) if deployment.spec.model else "nothing"
    told = {key: version.tags.get(f"trunkline.{key}", "") for key in ("dataset", "dataset_id", "git_commit")}
    lines = [
        f"{code(deployment.name)} deploys {before}. The newest version is {code(version.uri)}.",
        "",
        f"- bundle {code(version.sha256[:16] or 'none')}",
        *(f"- {key.replace('_', ' ')} {code(value[:40])}" for key, value in told.items() if value),
        *(f"- {code(name)} {value:.6g}" for name, value in sorted(version.metrics.items())[:20]),
        "",
        "The gate judges it here. Merging deploys it; closing turns this version down.",
    ]
    return "\n".join(lines)


def _push(git: Repository, github: GitHub, branch: str, deployment: Deployment, text: str, message: str) -> bool:
    """Bring our branch on the remote to one commit on top of HEAD, unless it says the same; whether it did not."""
    signed_in = _signed_in(git, github.token)
    listed = git.git(
        "ls-remote", "origin", f"refs/heads/{branch}", what="asking origin for its branches", environ=signed_in
    )
    there = listed.split()[0] if listed.strip() else ""
    if there:
        git.git("fetch", "--no-tags", "origin", f"refs/heads/{branch}", what=f"fetching {branch}", environ=signed_in)
        if git.file_at(there, deployment.file) == text:  # a push for nothing would cost a look at the test part
            return False
    commit = git.committed(deployment.file, text, message)
    lease = f"--force-with-lease=refs/heads/{branch}:{there}"  # a person's commit that came meanwhile is not lost
    try:
        git.git("push", lease, "origin", f"{commit}:refs/heads/{branch}", what=f"pushing {branch}", environ=signed_in)
    except EngineError as exc:
        exc.hint = "the token needs `contents: write`, and the branch may not be protected: docs/ci.md"
        raise
    return True


def _signed_in(git: Repository, token: str) -> Mapping[str, str]:
    """The environment in which git's requests to the remote bear the token; empty where the remote is not on https.

    Through the environment: other processes see arguments, and a file would stay.
    """
    url = urlsplit(git.asked("remote", "get-url", "--push", "origin") or "")
    if url.scheme != "https":
        return {}
    login = base64.b64encode(f"x-access-token:{token}".encode()).decode()
    return {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"http.{url.scheme}://{url.netloc.rpartition('@')[2]}/.extraheader",
        "GIT_CONFIG_VALUE_0": f"AUTHORIZATION: basic {login}",
    }
