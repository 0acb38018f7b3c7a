"""The gate's reports as comments on the pull request: one for each deployment, found again and changed.

This runs with a token that may write, on what a pull request's own workflow left. So nothing of that is believed but
its form: the index of what was judged and each report are checked against their schemas, and rendered here. Which pull
request it is, GitHub says.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from trunkline.errors import UserError
from trunkline.gate.markdown import code, marker
from trunkline.gate.report import LARGEST, read
from trunkline.gate.report_markdown import to_markdown
from trunkline.orchestration.events import NO_SECRETS, GateRun
from trunkline.orchestration.github_api import GitHub
from trunkline.orchestration.judged_index import FILE, LONGEST_ERROR, Entry, read_index

__all__ = ["Comment", "Commented", "Done", "Outcome", "comment", "pull_request"]

Done = Literal["made", "changed", "as it was"]
_DEPLOYMENT = re.compile(r"(.*/)?deploy/[^/]+\.ya?ml")
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


@dataclass(frozen=True)
class Outcome:
    """The pull request, what was done to its comments, and why nothing was, if nothing may be said."""

    number: int | None
    done: tuple[Commented, ...] = ()
    why: str = ""


def comment(github: GitHub, run: GateRun, folder: Path, base: str | None = None) -> Outcome:
    """Write the reports in `folder` to the pull request that `run` was of: the one to `base`, if there are several.

    Nothing changes if no open pull request is at that commit any more, and if it is not known what the gate came to: a
    comment that is there may well be right. What a fork's run left is not looked at: whoever made it could have written
    the workflow too.
    """
    if run.conclusion not in ("success", "failure"):
        return Outcome(None, why=f"the gate's run did not end by itself: {run.conclusion or 'no conclusion'}")
    number = pull_request(github, run, base)
    if number is None:
        return Outcome(None, why="no open pull request is at that commit any more")
    if run.ours:
        index = read_index(folder)
        if index is None:
            return Outcome(
                number, why=f"{folder} holds no {FILE}: the gate did not begin, or its artifact did not arrive"
            )
        wanted = [_said(one, folder) for one in index]
    else:
        told = run.conclusion == "failure" and _touches_deployments(github, number)
        wanted = [Comment(_FORK, "\n".join([_FORK, "**Not judged.**", *NO_SECRETS]))] if told else []
    there = {mark: item for item in github.all(f"issues/{number}/comments") if (mark := _mark(item))}
    marks = {item.mark for item in wanted}
    wanted += [Comment(mark, _gone(mark)) for mark in there if mark not in marks]
    return Outcome(number, tuple(_put(github, number, item, there.get(item.mark)) for item in wanted))


def pull_request(github: GitHub, run: GateRun, base: str | None = None) -> int | None:
    """The number of the open pull request whose branch is at the run's commit; None if there is none.

    Of several, it is among those that GitHub counts to the run, and leads to `base`.
    """
    opened = github.all("pulls", state="open", head=f"{run.owner}:{run.branch}")
    found = [item for item in opened if item["head"]["sha"] == run.head_sha]
    found = [item for item in found if item["number"] in run.numbers] or found
    found = [item for item in found if item["base"]["ref"] == base] or found
    return int(found[0]["number"]) if found else None


def _touches_deployments(github: GitHub, number: int) -> bool:
    """Whether the pull request changes a file that declares a deployment, in whatever folder the project is."""
    files = github.all(f"pulls/{number}/files")
    names = (str(file.get(key) or "") for file in files for key in ("filename", "previous_filename"))
    return any(_DEPLOYMENT.fullmatch(name) for name in names)


def _said(one: Entry, folder: Path) -> Comment:
    """The report, or why there is none: a verdict without its report is not believed."""
    if one.passed is not None and one.error is None:
        return _rendered(folder / one.deployment / "gate.json", one.passed)
    mark = marker(one.deployment)
    why = code(one.error or "it was stopped before it came to this", LONGEST_ERROR)
    return Comment(mark, f"{mark}\n**No verdict.** The gate on {code(one.deployment)} ended with an error: {why}")


def _rendered(file: Path, passed: bool) -> Comment:
    if file.parent.is_symlink() or file.is_symlink() or not file.is_file():
        raise UserError("a report is not there or no plain file", file=file)
    with file.open("rb") as opened:
        report = read(opened.read(LARGEST + 1))
    if report.deployment != file.parent.name:
        raise UserError(f"the report in {file.parent.name!r} is of another deployment", file=file)
    if report.verdict.passed is not passed:
        raise UserError(f"the report is not what {FILE} says of it", file=file)
    return Comment(marker(report.deployment), to_markdown(report))


def _gone(mark: str) -> str:
    return f"{mark}\nNo verdict: what is in this pull request now changes neither this model nor its rules."


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
