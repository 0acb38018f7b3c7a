"""The gate's reports as comments on the pull request: one for each deployment, found again and changed.

This runs with a token that may write, on what a pull request's own workflow left. So nothing of that is believed but
its form: each file is read by `gate.report.read`, which checks its schema, and rendered here. Which pull request it is,
GitHub says.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from trunkline.errors import UserError
from trunkline.gate.markdown import marker
from trunkline.gate.report import LARGEST, read
from trunkline.gate.report_markdown import to_markdown
from trunkline.orchestration.events import GateRun
from trunkline.orchestration.github_api import GitHub

__all__ = ["Comment", "Commented", "Done", "MOST", "comment", "pull_request"]

Done = Literal["made", "changed", "as it was"]
MOST = 20
"""Reports that are looked at: one for each deployment."""
_PREFIX = "<!-- trunkline:gate"
_FORK = "<!-- trunkline:gate -->"


@dataclass(frozen=True)
class Comment:
    """A comment that should be there: `mark` is its first line, by which it is found again."""

    mark: str
    body: str


@dataclass(frozen=True)
class Commented:
    """What was done to which comment."""

    mark: str
    done: Done
    url: str


def comment(github: GitHub, run: GateRun, folder: Path) -> tuple[int | None, list[Commented]]:
    """Write the reports in `folder` to the pull request that `run` was of. Its number, and what was done.

    None if no open pull request is at that commit any more. What a fork's run left is not looked at: whoever made it
    could have written the workflow too.
    """
    number = pull_request(github, run)
    if number is None:
        return None, []
    there = {mark: item for item in github.all(f"issues/{number}/comments") if (mark := _mark(item))}
    wanted = list(_wanted(run, folder))
    marks = {item.mark for item in wanted}
    wanted += [Comment(mark, _gone(mark)) for mark in there if mark not in marks]
    return number, [_put(github, number, item, there.get(item.mark)) for item in wanted]


def pull_request(github: GitHub, run: GateRun) -> int | None:
    """The number of the open pull request whose branch is at the run's commit; None if there is none."""
    head = f"{run.owner}:{run.branch}"
    for found in github.all("pulls", state="open", head=head):
        if found["head"]["sha"] == run.head_sha:
            return int(found["number"])
    return None


def _wanted(run: GateRun, folder: Path) -> Iterator[Comment]:
    if not run.ours:
        if not run.passed:  # the gate fails for a fork that changes a deployment, and for no other
            yield Comment(_FORK, "\n".join([_FORK, *_NOT_JUDGED]))
        return
    files = sorted(folder.glob("*/gate.json"))
    if len(files) > MOST:
        raise UserError(f"{len(files)} reports are more than the {MOST} that are looked at")
    for file in files:
        yield _rendered(file)


def _rendered(file: Path) -> Comment:
    if file.is_symlink() or not file.is_file():
        raise UserError("a report is no plain file", file=file)
    with file.open("rb") as opened:
        report = read(opened.read(LARGEST + 1))
    if report.deployment != file.parent.name:
        raise UserError(f"the report in {file.parent.name!r} is of another deployment", file=file)
    return Comment(marker(report.deployment), to_markdown(report))


_NOT_JUDGED = (
    "**Not judged.** This pull request comes from a fork, and GitHub gives a fork's workflow no secrets: without them",
    "the gate reaches neither the registry nor the sealed part.",
    "",
    "Whoever may push here and has read the change can bring its branch into this repository: `gh pr checkout`, then",
    "push it to `origin` and open a pull request from there. What has no verdict is not deployed.",
)


def _gone(mark: str) -> str:
    return f"{mark}\nNo verdict: the last commit changes neither this model nor its rules, or the gate failed."


def _mark(item: Mapping[str, Any]) -> str | None:
    """The mark of a comment of ours: written by an app, as GITHUB_TOKEN is one. A person's is left alone."""
    first = str(item.get("body") or "").partition("\n")[0].strip()
    bot = (item.get("user") or {}).get("type") == "Bot"
    return first if bot and first.startswith(_PREFIX) and first.endswith("-->") else None


def _put(github: GitHub, number: int, wanted: Comment, there: Mapping[str, Any] | None) -> Commented:
    if there is None:
        made = github.post(f"issues/{number}/comments", {"body": wanted.body})
        return Commented(wanted.mark, "made", str(made.get("html_url", "")))
    url = str(there.get("html_url", ""))
    if str(there["body"]).replace("\r\n", "\n").strip() == wanted.body.strip():
        return Commented(wanted.mark, "as it was", url)
    github.patch(f"issues/comments/{int(there['id'])}", {"body": wanted.body})
    return Commented(wanted.mark, "changed", url)
