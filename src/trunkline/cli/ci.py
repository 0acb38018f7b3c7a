"""`trunkline ci`: the workflows, and the commands that are their steps."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from trunkline.cli.options import common, root_of, session, without_target
from trunkline.cli.show import Show
from trunkline.errors import TrunklineError

if TYPE_CHECKING:
    from trunkline.orchestration.changes import Change, Judged
    from trunkline.orchestration.gating import Gated

_EPILOG = "Examples: trunkline ci github · trunkline ci check · trunkline ci gate --base origin/main"


@click.group(epilog=_EPILOG)
def command() -> None:
    """Workflows for GitHub Actions, and what their steps run: the same commands work here."""


@command.command(epilog="Examples: trunkline ci github · trunkline ci github --check · trunkline ci github --force")
@click.option("--force", is_flag=True, help="Overwrite files that somebody has changed, too.")
@click.option("--check", "only_check", is_flag=True, help="Write nothing; exit with 1 if a file is not as it would be.")
@without_target
def github(force: bool, only_check: bool, project: Path | None, as_json: bool) -> None:
    """Write .github/workflows: ci, gate, comment, deploy, retrain; and requirements.txt if there is none.

    A file that somebody has changed is left as it is, its difference shown, and the command ends with 1.
    """
    from trunkline.orchestration.github import compare, read_for_workflows, write

    show = Show(as_json=as_json)
    opened = read_for_workflows(root_of(project))
    files = compare(opened)
    written = [] if only_check else write(files, force=force)
    left = [file for file in files if file.state != "same" and file not in written]
    words = {"new": "is not there", "old": "is an older one", "changed": "was changed", "same": "is as it should be"}
    for file in files:
        what = "written" if file in written else words[file.state]
        show.line(f"  {os.path.relpath(file.path)}: {what}")
        if file in left and file.diff:
            show.line("\n".join(f"    {line}" for line in file.diff.splitlines()))
    if left:
        hint = "trunkline ci github" if only_check else "--force overwrites them"
        show.line(f"{len(left)} of {len(files)} files are not as Trunkline would write them: {hint}")
    elif not only_check:
        show.line("next: commit them, and set the secrets and the required check: docs/ci.md")
    rows = [{"file": str(f.path), "state": f.state, "written": f in written, "diff": f.diff} for f in files]
    show.result({"files": rows, "secrets": _secrets(opened)})
    if left:
        sys.exit(1)


def _secrets(project: Any) -> list[str]:
    from trunkline.orchestration.workflow_env import variables

    return [variable.name for variable in variables(project)]


@command.command(epilog="Examples: trunkline ci check · trunkline ci check --json")
@without_target
def check(project: Path | None, as_json: bool) -> None:
    """Build and test the project on a warehouse of its own, which is thrown away.

    Needs no secret and looks at no test part. Sources that lie elsewhere are empty tables.
    """
    from trunkline.orchestration.checking import check as run_check

    show = Show(as_json=as_json)
    with show.working():
        done = run_check(root_of(project), show.line)
    for step in done.ran:
        show.step(step["step"], step["summary"], step["seconds"])
    show.line(f"the project is sound: {done.steps} steps compile, {len(done.ran)} ran", bold=True)
    show.result({"steps": done.steps, "ran": done.ran, "empty": list(done.empty)})


@command.command(
    epilog="Examples: trunkline ci gate --base origin/main · trunkline ci gate --base HEAD~1 --out reports"
)
@click.option("--base", required=True, metavar="REV", help="What the change is measured from, for example origin/main.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Leave the reports and judged.json there.",
)
@click.option("--again", is_flag=True, help="Look again at what has passed already.")
@common
def gate(base: str, out: Path | None, again: bool, project: Path | None, target: str | None, as_json: bool) -> None:
    """Gate every deployment whose model or rules differ from where HEAD left BASE.

    Each verdict is one look at the sealed part; what has passed, the same bundle by the same rules against the same
    champion, is not looked at again. Exit code 0 means all passed or nothing changed, 3 that one was
    refused, or comes from a fork and could not be judged. In a workflow the reports become the job's summary.
    """
    from trunkline.orchestration.changes import changed
    from trunkline.orchestration.events import is_from_a_fork, read_event

    show = Show(as_json=as_json)
    out = out.resolve() if out else None  # a session works in the project's folder
    root = root_of(project)
    changes = changed(root, base)
    if changes and is_from_a_fork(read_event(os.environ)):
        _not_judged(show)
        sys.exit(3)
    if not changes:
        show.line(f"no deployment's model or rules changed since {base}")
    judged, failed = _judge(show, root, changes, out, project, target, again=again)
    passed = all(one.passed for one in judged)
    show.end({"judged": [one.to_json() for one in judged], "passed": passed and not failed}, failed)
    if not passed:
        sys.exit(3)


def _judge(
    show: Show,
    root: Path,
    changes: list[Change],
    out: Path | None,
    project: Path | None,
    target: str | None,
    *,
    again: bool,
) -> tuple[list[Judged], TrunklineError | None]:
    """The verdicts, and the first error that kept the gate from one. `out` tells of both, however this ends."""
    from trunkline.orchestration.changes import judge_changed
    from trunkline.orchestration.judged_index import Entry, write_index

    entries = {c.deployment.name: Entry(c.deployment.name, None, None) for c in changes}

    def index() -> None:
        if out:
            write_index(out, entries.values(), root, os.environ)

    def tell(one: Judged, gated: Gated | None) -> None:
        name = one.change.deployment.name
        entries[name] = Entry(name, None, one.error.what) if one.error else Entry(name, one.passed)
        index()
        _tell(show, one, gated, root)

    index()
    if not changes:
        return [], None
    try:
        with session(project, target, show) as opened, show.working():
            judged = judge_changed(opened, changes, out, tell, again=again)
    except TrunklineError as exc:
        entries |= {
            name: Entry(name, None, exc.what) for name, one in entries.items() if one.passed is None and not one.error
        }
        index()
        raise
    return judged, next((one.error for one in judged if one.error), None)


def _tell(show: Show, one: Judged, gated: Gated | None, root: Path) -> None:
    from trunkline.cli import gate_shown
    from trunkline.gate.markdown import code
    from trunkline.orchestration.judged_index import LONGEST_ERROR

    deployment = one.change.deployment
    was = one.change.before or "nothing"
    what = (
        f"{was} → {one.change.reference}" if one.change.what == "model" else f"{one.change.reference}, by other rules"
    )
    show.line(f"{deployment.name}: {what}", bold=True)
    if one.earlier is not None:
        gate_shown.passed_before(show, one.earlier, one.files, os.environ)
    if gated is not None:
        gate_shown.shown(show, gated, root)
        gate_shown.told_to_job(show, gated, deployment, root, os.environ)
    if one.error:
        show.line(f"  {'' if gated else 'not judged: '}{one.error.what}", fg="red")
        why = code(one.error.what, LONGEST_ERROR)
        gate_shown.summarize(f"The gate on {code(deployment.name)} ended with an error: {why}\n", os.environ)


def _not_judged(show: Show) -> None:
    """What a pull request from a fork is told: its workflow has no secrets, so there is nothing to judge with."""
    from trunkline.cli.gate_shown import summarize
    from trunkline.orchestration.events import NO_SECRETS

    lines = ("Not judged.", *NO_SECRETS)
    for line in lines:
        show.line(line)
    if os.environ.get("GITHUB_ACTIONS") == "true":
        show.line("::error title=gate::not judged: a fork's pull request has no secrets (docs/ci.md)")
    summarize("\n".join(lines), os.environ)
    show.result({"judged": [], "passed": False, "fork": True})


@command.command(epilog="Example, in a workflow set off by `workflow_run`: trunkline ci comment reports")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option("--base", metavar="BRANCH", help="Of several pull requests of that branch, the one that leads here.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of text.")
def comment(folder: Path, base: str | None, as_json: bool) -> None:
    """Write what `trunkline ci gate --out FOLDER` left to its pull request, one comment for each deployment.

    Index and reports are checked against their schemas, and the pull request is the one that GitHub knows at the commit
    of the run. Without the index (judged.json) no comment changes. Needs no project, only GITHUB_TOKEN and the event.
    """
    from trunkline.orchestration.commenting import comment as write_comments
    from trunkline.orchestration.events import gate_run, read_event
    from trunkline.orchestration.github_api import open_github

    show = Show(as_json=as_json)
    run = gate_run(read_event(os.environ))
    outcome = write_comments(open_github(os.environ), run, folder, base)
    number, done = outcome.number, outcome.done
    if outcome.why:
        show.line(f"nothing is changed: {outcome.why}")
    for one in done:
        show.line(f"#{number}: {one.mark} {one.done} {one.url}".rstrip())
    if not outcome.why and not done:
        show.line(f"#{number}: no deployment was judged, and there is no comment of ours to change")
    rows = [{"mark": one.mark, "done": one.done, "url": one.url} for one in done]
    show.result({"pull_request": number, "comments": rows, "why": outcome.why or None})


@command.command(epilog="Examples: trunkline ci propose · trunkline ci propose delay --base main")
@click.argument("deployment", required=False)
@click.option("--base", metavar="BRANCH", help="Where the pull request leads; default: the default branch.")
@common
def propose(deployment: str | None, base: str | None, project: Path | None, target: str | None, as_json: bool) -> None:
    """Open a pull request for each deployment whose model has a newer version, or bring ours up to date.

    Needs GITHUB_TOKEN, with the right to push and to open pull requests. Nothing new: says so, and ends with 0.
    """
    from trunkline.orchestration.github_api import open_github
    from trunkline.orchestration.proposing import propose as open_proposal
    from trunkline.orchestration.repository import repository

    show = Show(as_json=as_json)
    rows, errors = [], []
    with session(project, target, show) as opened:
        git = repository(opened.project.root)
        hub = open_github(os.environ, git.asked("remote", "get-url", "origin"))
        onto = base or opened.project.config.ci.branch or git.default_branch()
        wanted = [opened.project.deployment(deployment)] if deployment else opened.project.deployments
        for one in wanted:
            try:
                made = open_proposal(opened, hub, git, one, onto)
            except TrunklineError as exc:  # one that cannot be proposed does not hold up the others
                errors.append(exc)
                if len(wanted) > 1:
                    show.line(f"{one.name}: {exc.what}", fg="red")
                continue
            if made is None:
                show.line(f"{one.name}: nothing new")
                continue
            show.line(f"{one.name}: {made.before or 'nothing'} → {made.reference}: {made.done} {made.url}".rstrip())
            rows.append({**vars(made)})
    show.end({"proposed": rows}, errors[0] if errors else None)
