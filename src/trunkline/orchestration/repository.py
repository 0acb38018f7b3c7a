"""Git, as far as deployments need it: what changed since a branch began, and a commit made beside the checkout."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from trunkline.errors import EngineError, ProjectError
from trunkline.registry.address import shown

_SECONDS = 120
_BOT = {"NAME": "github-actions[bot]", "EMAIL": "41898282+github-actions[bot]@users.noreply.github.com"}


@dataclass(frozen=True)
class Repository:
    """The git repository that holds a project. `environ` goes to git beside the process's own environment."""

    top: Path

    def git(self, *arguments: str, environ: Mapping[str, str] | None = None, given: str = "", what: str = "") -> str:
        """What `git ARGUMENTS` prints, with `given` as its input. Raises `EngineError`: `what` failed, and git's words.

        Nothing is asked of a person, and no address with a password is shown.
        """
        # a hook that started us may have set these: they would lead to another repository
        ours = ("GIT_DIR", "GIT_INDEX_FILE", "GIT_WORK_TREE")
        inherited = {name: value for name, value in os.environ.items() if name not in ours}
        what = what or f"git {arguments[0]}"
        try:
            done = subprocess.run(
                ["git", *arguments],
                cwd=self.top,
                input=given.encode(),
                capture_output=True,
                timeout=_SECONDS,
                check=False,
                env={**inherited, "GIT_TERMINAL_PROMPT": "0", **(environ or {})},
            )
        except subprocess.TimeoutExpired as exc:
            raise EngineError(f"{what} took more than {_SECONDS} s") from exc
        if done.returncode:
            lines = done.stderr.decode("utf-8", "replace").strip().splitlines() or [f"exit code {done.returncode}"]
            said = next((line for line in lines if line.startswith("fatal: ")), lines[-1])  # advice may follow it
            raise EngineError(f"{what} failed: {shown(said)}")
        return done.stdout.decode("utf-8", "replace")  # line ends as they are

    def asked(self, *arguments: str) -> str | None:
        """What `git ARGUMENTS` prints, stripped; None if it fails."""
        try:
            return self.git(*arguments).strip()
        except EngineError:
            return None

    def branched_off(self, base: str) -> str:
        """The commit where HEAD left `base`. Raises `ProjectError` if git knows no such commit."""
        revision = self.asked("rev-parse", "--verify", "--quiet", "--end-of-options", f"{base}^{{commit}}")
        found = self.asked("merge-base", revision, "HEAD") if revision else None
        if not found:
            why = "has no commit in common with HEAD" if revision else "is no commit that git knows here"
            raise ProjectError(
                f"{base!r} {why}", hint="git fetch origin; in a workflow: actions/checkout with `fetch-depth: 0`"
            )
        return found

    def name(self, path: Path) -> str:
        """What git calls a file of the repository.

        Raises `ProjectError` for one that lies elsewhere, and for a link or what lies behind one: git knows where a
        link leads, not what is there, so that may change without git noticing.
        """
        above = next((folder for folder in reversed(path.absolute().parents) if folder.resolve() == self.top), None)
        if above is None:
            raise ProjectError(f"the file is not in the repository {self.top}", file=path)
        name = path.absolute().relative_to(above)
        link = next((part for part in (name, *name.parents) if (above / part).is_symlink() and part != Path()), None)
        if link:
            raise ProjectError(
                f"{link.as_posix()} is a link, and git does not know what is behind it",
                file=path,
                hint="put the file itself there",
            )
        return name.as_posix()

    def file_at(self, commit: str, path: Path) -> str | None:
        """The text of `path` at `commit`; None if it was not there. Raises `ProjectError` as `name` does."""
        name = self.name(path)
        if not self.asked("ls-tree", "--name-only", "--full-tree", commit, "--", name):
            return None
        return self.git("show", f"{commit}:{name}")

    def default_branch(self) -> str:
        """What `origin` calls its default branch; else the branch checked out, if it is main or master; else main."""
        remote = self.asked("symbolic-ref", "--short", "refs/remotes/origin/HEAD") or ""
        here = self.asked("symbolic-ref", "--short", "HEAD") or ""
        return remote.removeprefix("origin/") or (here if here in ("main", "master") else "main")

    def committed(self, path: Path, text: str, message: str, *, onto: str = "HEAD") -> str:
        """The id of a new commit on `onto`, in which `path` holds `text`. Checkout and branches stay as they are.

        Who commits is who git is set up for; where it is set up for nobody, GitHub's own bot.
        """
        name = self.name(path)
        with tempfile.TemporaryDirectory() as scratch:
            index = {"GIT_INDEX_FILE": str(Path(scratch, "index"))}
            self.git("read-tree", onto, environ=index)
            blob = self.git("hash-object", "-w", "--stdin", given=text).strip()
            self.git("update-index", "--add", "--cacheinfo", f"100644,{blob},{name}", environ=index)
            tree = self.git("write-tree", environ=index).strip()
        return self.git("commit-tree", tree, "-p", onto, "-m", message, environ=self._identity()).strip()

    def _identity(self) -> dict[str, str]:
        if self.asked("var", "GIT_COMMITTER_IDENT") and self.asked("config", "user.email"):
            return {}
        roles = ("AUTHOR", "COMMITTER")
        return {f"GIT_{r}_{k}": os.environ.get(f"GIT_{r}_{k}") or value for r in roles for k, value in _BOT.items()}


def repository(root: Path) -> Repository:
    """The repository that `root` is in. Raises `ProjectError` with git's reason outside git, where git is missing, and
    where git does not trust the folder's owner."""
    if not root.is_dir():
        raise ProjectError("there is no such folder", file=root)
    try:
        top = Repository(root).git("rev-parse", "--show-toplevel", what="git").strip()
    except FileNotFoundError as exc:
        raise ProjectError("git is not installed", hint="install git") from exc
    except EngineError as exc:
        trusted = f"git config --global --add safe.directory {root}"
        hint = trusted if "dubious ownership" in exc.what else "git init && git add . && git commit"
        raise ProjectError(f"{root} is in no git repository that can be read: {exc.what}", hint=hint) from exc
    return Repository(Path(top).resolve())
