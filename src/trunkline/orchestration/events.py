"""What GitHub says set a workflow off: the event's payload. Its texts come from strangers; here they are data only."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trunkline.errors import ProjectError

__all__ = ["GateRun", "NO_SECRETS", "gate_run", "is_from_a_fork", "read_event"]

NO_SECRETS = (
    "This pull request comes from a fork, and GitHub gives a fork's workflow no secrets: without them the gate reaches",
    "neither the registry nor the sealed part.",
    "",
    "Next: whoever may push here reads the change, brings its branch into this repository (`gh pr checkout`, then",
    "`git push origin HEAD`) and opens a pull request from there. What has no verdict is not deployed.",
)
"""What a pull request from a fork is told, in Markdown that reads as text."""

_LARGEST = 16 << 20


@dataclass(frozen=True)
class GateRun:
    """The run of the gate that a comment is about.

    `ours` tells that its branch is in this repository, `conclusion` how the run ended, in GitHub's words (`success`,
    `failure`, `timed_out`, …). `numbers` are the pull requests that GitHub counts to it: none for a fork's.
    """

    head_sha: str
    owner: str
    branch: str
    ours: bool
    conclusion: str
    url: str
    numbers: tuple[int, ...] = ()


def read_event(environ: Mapping[str, str]) -> dict[str, Any]:
    """The payload of the event, empty outside of Actions. Raises `ProjectError` for what is none."""
    path = environ.get("GITHUB_EVENT_PATH")
    if not path:
        return {}
    try:
        with Path(path).open("rb") as file:
            found = json.loads(file.read(_LARGEST))
    except (OSError, ValueError) as exc:
        raise ProjectError(f"GITHUB_EVENT_PATH holds no event: {exc}", file=path) from exc
    return found if isinstance(found, dict) else {}


def is_from_a_fork(event: Mapping[str, Any]) -> bool:
    """Whether the event is of a pull request whose branch is in another repository: GitHub gives it no secrets."""
    request = event.get("pull_request")
    if not isinstance(request, Mapping):
        return False
    head, base = (_at(request, side, "repo", "full_name") for side in ("head", "base"))
    return bool(base) and head != base  # no name: the fork is gone


def gate_run(event: Mapping[str, Any]) -> GateRun:
    """The run that a `workflow_run` event tells of. Raises `ProjectError` for another event."""
    run = event.get("workflow_run")
    if not isinstance(run, Mapping) or not re.fullmatch(r"[0-9a-f]{40,64}", str(run.get("head_sha"))):
        raise ProjectError(
            "this is no `workflow_run` event",
            hint="it runs in the workflow that `trunkline ci github` writes: docs/ci.md",
        )
    head = _at(run, "head_repository", "full_name")
    return GateRun(
        head_sha=str(run["head_sha"]),
        owner=str(_at(run, "head_repository", "owner", "login") or ""),
        branch=str(run.get("head_branch") or ""),
        ours=bool(head) and head == _at(event, "repository", "full_name"),
        conclusion=str(run.get("conclusion") or ""),
        url=str(run.get("html_url") or ""),
        numbers=tuple(
            number for item in run.get("pull_requests") or () if isinstance(number := _at(item, "number"), int)
        ),
    )


def _at(data: Any, *path: str) -> Any:
    for key in path:
        data = data.get(key) if isinstance(data, Mapping) else None
    return data
