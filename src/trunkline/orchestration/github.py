"""GitHub's workflows, rendered: plain files with a few marks, and what of them is the project's own."""

from __future__ import annotations

import difflib
import hashlib
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata, resources
from pathlib import Path
from typing import Literal

from trunkline.errors import ProjectError
from trunkline.orchestration.repository import repository
from trunkline.orchestration.workflow_env import Variable, requirements, variables
from trunkline.project.config import read_config
from trunkline.project.files import write_atomic
from trunkline.project.hidden import KEY
from trunkline.project.load import Project, load_project

__all__ = ["Rendered", "State", "WORKFLOWS", "compare", "read_for_workflows", "render", "write"]

WORKFLOWS = ("ci", "gate", "comment", "deploy", "retrain")

State = Literal["new", "same", "old", "changed"]
_PLACE = re.compile(r"[A-Za-z0-9._/-]*")
_MARK = re.compile(r"@([a-z+]+)@")
_FOLDER = re.compile(r'^ +working-directory: "([^"]*)"$', re.MULTILINE)
_STAMP = re.compile(r"\A# Written by `trunkline ci github` \(([0-9a-f]{16})\)\.")


@dataclass(frozen=True)
class Rendered:
    """One file as it should be. `state`: not there, as it should be, an older one of ours, or changed by somebody."""

    path: Path
    text: str
    state: State
    diff: str = ""


class _Anything(dict[str, str]):
    """An environment in which every variable is set: no profile is opened, only read for the names in it."""

    def __contains__(self, name: object) -> bool:
        return True

    def __missing__(self, name: str) -> str:
        return ""


def read_for_workflows(root: Path) -> Project:
    """The project as the workflows run it: with the target of `ci:` in `trunkline.yml`, whatever is set here."""
    return load_project(root, read_config(root).ci.target, _Anything(), complete=False)


def render(project: Project) -> dict[str, str]:
    """The workflows of `project`, by file name.

    Nothing of a project gets into a workflow but names that are made of letters, digits and `._/-`: raises
    `ProjectError` for a folder or a branch with others.
    """
    values = _values(project)
    blocks = _blocks(project, values["directory"].rstrip("/"))
    folder = resources.files("trunkline.orchestration") / "workflows"
    return {f"{n}.yml": _filled(folder.joinpath(f"{n}.yml").read_text("utf-8"), values, blocks) for n in WORKFLOWS}


def compare(project: Project) -> list[Rendered]:
    """Each file as it should be, beside what is there: the workflows, and `requirements.txt` if there is none.

    Raises `ProjectError` if they are those of another project: a repository has one set of them.
    """
    top = repository(project.root).top
    _check_whose(top, project)
    found = [_compared(top / ".github" / "workflows" / name, text) for name, text in render(project).items()]
    needs = project.root / "requirements.txt"  # whatever is in it is the user's
    if not needs.exists():
        found.append(Rendered(needs, requirements(project, metadata.version("trunkline")), "new"))
    return found


def write(files: Sequence[Rendered], *, force: bool) -> list[Rendered]:
    """Write what is not there or nobody has touched, and with `force` the others too. What was written."""
    wanted = [file for file in files if file.state in ("new", "old") or (force and file.state == "changed")]
    for file in wanted:
        write_atomic(file.path, file.text)
    return wanted


def _check_whose(top: Path, project: Project) -> None:
    ours = project.root.resolve().relative_to(top).as_posix()
    for path in (top / ".github" / "workflows" / f"{name}.yml" for name in WORKFLOWS):
        text = path.read_text("utf-8", errors="replace") if path.is_file() else ""
        if not _STAMP.match(text):
            continue
        found = _FOLDER.search(text)
        theirs = found[1] if found else "."
        if theirs != ours and (top / theirs / "dbt_project.yml").is_file():
            raise ProjectError(
                f"this workflow is of the project in {theirs!r}, and would be of the one in {ours!r}",
                file=path,
                hint="give each project a repository of its own, or write one's workflows by hand under other names",
            )


def _values(project: Project) -> dict[str, str]:
    git = repository(project.root)
    folder = project.root.resolve().relative_to(git.top).as_posix()
    branch = project.config.ci.branch or git.default_branch()
    for what, text in (("the project's folder", folder), ("the branch", branch)):
        if not _PLACE.fullmatch(text):
            raise ProjectError(
                f"{what} {text!r} cannot stand in a workflow",
                hint="use letters, digits and ._/-; another branch: `ci: {branch: main}` in trunkline.yml",
            )
    return {
        "branch": branch,
        "directory": "" if folder == "." else f"{folder}/",
        "python": f"{sys.version_info.major}.{sys.version_info.minor}",
        "schedule": project.config.ci.retrain,
        "target": f" --target {project.config.ci.target}" if project.config.ci.target else "",
    }


def _blocks(project: Project, folder: str) -> dict[str, list[str]]:
    """What stands for a line that holds nothing but a mark: other lines, or none."""
    named = variables(project)
    open_ = [variable for variable in named if variable.name != KEY]  # neither seals nor looks at a test part
    token = Variable("GITHUB_TOKEN", "secrets.TRUNKLINE_RETRAIN_TOKEN || github.token")
    return {
        "defaults": ["defaults:", "  run:", f'    working-directory: "{folder}"'] if folder else [],
        "secrets": _env(named),
        "secrets+deploy": _env(open_),
        "secrets+propose": _env([*open_, token]),
    }


def _env(variables: Sequence[Variable]) -> list[str]:
    return ["env:", *(f"  {variable}" for variable in variables)]


def _filled(template: str, values: Mapping[str, str], blocks: Mapping[str, list[str]]) -> str:
    lines = []
    for line in template.splitlines():
        found = _MARK.fullmatch(line.strip())
        if found and found[1] in blocks:
            indent = line[: len(line) - len(line.lstrip())]
            lines += [indent + inner for inner in blocks[found[1]]]
        else:
            lines.append(_MARK.sub(lambda mark: values[mark[1]], line))
    text = "\n".join(lines) + "\n"
    return text.replace("`trunkline ci github`.", f"`trunkline ci github` ({_digest(text)}).", 1)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _untouched(text: str) -> bool:
    """Whether a file is as some version of Trunkline wrote it: its first line holds the digest of the rest."""
    stamp = _STAMP.match(text)
    return stamp is not None and _digest(text.replace(f" ({stamp[1]})", "", 1)) == stamp[1]


def _compared(path: Path, text: str) -> Rendered:
    if not path.exists():
        return Rendered(path, text, "new")
    there = path.read_text("utf-8", errors="replace")
    if there == text:
        return Rendered(path, text, "same")
    lines = difflib.unified_diff(
        there.splitlines(), text.splitlines(), path.name, "as Trunkline writes it", lineterm=""
    )
    return Rendered(path, text, "old" if _untouched(there) else "changed", "\n".join(lines))
