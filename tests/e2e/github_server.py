"""GitHub as a workflow meets it, on this machine: `act` as its runner, and a server that answers as its REST API does.

`act` runs the jobs right here (`-self-hosted`), on a copy of the repository, with stubs for the actions that would need
GitHub: Python is there, and artifacts are folders. `actions/checkout` it does itself.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from trunkline.orchestration.github import WORKFLOWS

BIN = Path(sys.executable).parent
TOKEN = "ghs_the-token-of-the-job"
_UP = 'if [ -e "$FROM" ]; then mkdir -p "$ARTIFACTS" && cp -r "$FROM" "$ARTIFACTS/$NAME"; fi'
_DOWN = 'test "$RUN" = "$RUN_ID" && test -n "$SIGNED" && cp -r "$ARTIFACTS/$NAME" "$TO"'
_STUBS = {
    "actions/setup-python": (("python-version", "cache", "cache-dependency-path"), "true", {}),
    "actions/upload-artifact": (
        ("name", "path", "if-no-files-found", "retention-days"),
        _UP,
        {"NAME": "name", "FROM": "path"},
    ),
    "actions/download-artifact": (
        ("name", "path", "run-id", "github-token"),
        _DOWN,
        {"NAME": "name", "TO": "path", "RUN": "run-id", "SIGNED": "github-token"},
    ),
}
RUN_ID = "4711"


@dataclass
class FakeGitHub:
    """What the API has been told of one repository. `asked` are the requests, as `METHOD path`.

    `files` are the names of what a pull request changes. The next requests are refused as `refusals` say, by status and
    headers.
    """

    repository: str
    pulls: list[dict[str, Any]] = field(default_factory=list)
    comments: dict[int, dict[str, Any]] = field(default_factory=dict)
    files: dict[int, list[str]] = field(default_factory=dict)
    refusals: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    url: str = ""

    def pull(self, number: int, branch: str, sha: str, *, owner: str = "", base: str = "main") -> dict[str, Any]:
        """Open a pull request."""
        owner = owner or self.repository.partition("/")[0]
        head = {"ref": branch, "sha": sha, "label": f"{owner}:{branch}"}
        self.pulls.append({"number": number, "state": "open", "title": "", "merged_at": None, "head": head})
        self.pulls[-1] |= {"html_url": f"https://github.invalid/{number}", "base": {"ref": base}, "body": ""}
        return self.pulls[-1]

    def of(self, number: int) -> list[str]:
        """The comments on a pull request."""
        return [item["body"] for item in self.comments.values() if item["issue"] == number]

    def answer(self, method: str, path: str, query: Mapping[str, str], body: Any) -> tuple[int, Any]:
        """Status and answer of one request, by the paths of GitHub's REST API, version 2022-11-28."""
        prefix = f"/repos/{self.repository}/"
        if not path.startswith(prefix):
            return 404, {"message": "Not Found"}
        what = path.removeprefix(prefix)
        if method == "GET" and what == "pulls":
            return 200, _paged([p for p in self.pulls if _fits(p, query)], query)
        if method == "POST" and what == "pulls":
            made = self.pull(len(self.pulls) + 101, body["head"], "0" * 40, base=body["base"])
            return 201, made | {"title": body["title"], "body": body["body"]} | _kept(made, body)
        if method == "PATCH" and (found := re.fullmatch(r"pulls/(\d+)", what)):
            pull = next(p for p in self.pulls if p["number"] == int(found[1]))
            return 200, pull | _kept(pull, body)
        if method == "GET" and (found := re.fullmatch(r"pulls/(\d+)/files", what)):
            return 200, _paged([{"filename": name} for name in self.files.get(int(found[1]), [])], query)
        if found := re.fullmatch(r"issues/(\d+)/comments", what):
            return self._comments(method, int(found[1]), query, body)
        if method == "PATCH" and (found := re.fullmatch(r"issues/comments/(\d+)", what)):
            return 200, _kept(self.comments[int(found[1])], body)
        return 404, {"message": "Not Found"}

    def _comments(self, method: str, issue: int, query: Mapping[str, str], body: Any) -> tuple[int, Any]:
        if method == "GET":
            return 200, _paged([item for item in self.comments.values() if item["issue"] == issue], query)
        if len(body["body"]) > 65_536:
            return 422, {"message": "Validation Failed"}
        number = len(self.comments) + 1
        made = {"id": number, "issue": issue, "user": {"type": "Bot"}, "body": body["body"]}
        self.comments[number] = made | {"html_url": f"https://github.invalid/comment/{number}"}
        return 201, self.comments[number]


def _kept(there: dict[str, Any], body: Mapping[str, Any]) -> dict[str, Any]:
    there.update({key: body[key] for key in ("title", "body") if key in body})
    return there


def _fits(pull: Mapping[str, Any], query: Mapping[str, str]) -> bool:
    state = query.get("state", "open")
    return state in ("all", pull["state"]) and query.get("head") in (None, pull["head"]["label"])


def _paged(items: list[Any], query: Mapping[str, str]) -> list[Any]:
    size, page = int(query.get("per_page", "30")), int(query.get("page", "1"))
    return items[(page - 1) * size : page * size]


@contextmanager
def serve(github: FakeGitHub) -> Iterator[FakeGitHub]:
    """The API on a free port of this machine, its address in `url`. Without the token it answers 401."""

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            parts = urlsplit(self.path)
            github.asked.append(f"{self.command} {parts.path}")
            size = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(size)) if size else None
            query = {key: values[-1] for key, values in parse_qs(parts.query).items()}
            headers: dict[str, str] = {}
            if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                status, told = 401, {"message": "Bad credentials"}
            elif github.refusals:
                (status, headers), told = (
                    github.refusals.pop(0),
                    {"message": "You have exceeded a secondary rate limit"},
                )
            else:
                status, told = github.answer(self.command, parts.path, query, body)
            text = json.dumps(told).encode()
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_POST = do_PATCH = _answer

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    github.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield github
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@dataclass(frozen=True)
class Done:
    """What a workflow did. `log` is what GitHub would show, `summary` the job's summary."""

    code: int
    log: str

    @property
    def summary(self) -> str:
        """The summaries of its steps, as act tells them."""
        return "\n".join(re.findall(r"Summary - (.*)", self.log))


@dataclass(frozen=True)
class Runner:
    """Runs workflows of the repository in `checkout`. `home` keeps what act, and the stubs, write: stubs, artifacts."""

    checkout: Path
    home: Path
    repository: str = "team/shop"
    secrets: Mapping[str, str] = field(default_factory=dict)

    @property
    def artifacts(self) -> Path:
        """A folder for each artifact."""
        return self.home / "artifacts"

    def run(self, workflow: str, event: str, payload: Mapping[str, Any], *, api: str = "", timeout: int = 280) -> Done:
        """One workflow, set off by an event of this payload."""
        self.home.mkdir(parents=True, exist_ok=True)
        (self.home / "event.json").write_text(json.dumps(payload))
        told = {
            "ARTIFACTS": str(self.artifacts),
            "GITHUB_API_URL": api or "http://127.0.0.1:1",
            "GITHUB_REPOSITORY": self.repository,
            "PIP_NO_DEPS": "1",  # all of it is installed, and to find that out takes pip seconds
            "PIP_NO_INDEX": "1",
            "RUN_ID": RUN_ID,
        }
        command = [str(BIN / "act"), event, "--workflows", f".github/workflows/{workflow}.yml"]
        command += ["--platform", "ubuntu-latest=-self-hosted", "--eventpath", str(self.home / "event.json")]
        command += ["--no-cache-server", "--defaultbranch", "main"]
        command += [word for action in self._stubs() for word in ("--local-repository", action)]
        command += [word for name, value in told.items() for word in ("--env", f"{name}={value}")]
        secrets = {"GITHUB_TOKEN": TOKEN, **self.secrets}
        command += [word for name in secrets for word in ("--secret", name)]  # their values are in the environment
        done = subprocess.run(
            command,
            cwd=self.checkout,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            env={**_environ(self.home), **secrets},
        )
        return Done(done.returncode, done.stdout + done.stderr)

    def _stubs(self) -> list[str]:
        """A stub for each action at each commit that the workflows name: `name@sha=folder`."""
        texts = [path.read_text() for path in (self.checkout / ".github" / "workflows").glob("*.yml")]
        used = {found for text in texts for found in re.findall(r"uses: (\S+)@([0-9a-f]{40})", text)}
        for name, (inputs, script, variables) in _STUBS.items():
            folder = self.home / "stubs" / name
            folder.mkdir(parents=True, exist_ok=True)
            environ = {key: f"${{{{ inputs.{value} }}}}" for key, value in variables.items()}
            step = {"run": script, "shell": "bash", "env": environ}
            action = {"name": name, "description": "a stub", "runs": {"using": "composite", "steps": [step]}}
            action["inputs"] = {key: {"description": key, "required": False} for key in inputs}
            (folder / "action.yml").write_text(json.dumps(action))
        return [f"{name}@{sha}={self.home / 'stubs' / name}" for name, sha in sorted(used) if name in _STUBS]


def _environ(home: Path) -> dict[str, str]:
    """Ours, without what would tell a command that it is at GitHub already, and with this Python first."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("GITHUB_", "ACTIONS_"))}
    caches = {"XDG_CACHE_HOME": str(home / "cache"), "XDG_CONFIG_HOME": str(home / "config")}
    return {**kept, **caches, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "GIT_TERMINAL_PROMPT": "0"}


def lint(folder: Path) -> list[str]:
    """What actionlint, zizmor and GitHub's own schema find in the workflows of `folder`, each by its own command."""
    files = [str(folder / f"{name}.yml") for name in WORKFLOWS if (folder / f"{name}.yml").exists()]
    commands = (
        ["actionlint", "-shellcheck=", "-pyflakes=", "-no-color", *files],
        ["zizmor", "--offline", "--no-progress", "--quiet", "--strict-collection", "--color", "never", *files],
        ["check-jsonschema", "--builtin-schema", "vendor.github-workflows", *files],
    )
    found = []
    for command in commands:
        done = subprocess.run(
            [str(BIN / command[0]), *command[1:]], capture_output=True, text=True, timeout=120, check=False
        )
        found += [f"{command[0]}:\n{done.stdout}{done.stderr}"] if done.returncode else []
    return found


def pull_request_event(repository: str, number: int, branch: str, sha: str, *, head: str = "") -> dict[str, Any]:
    """The payload of `pull_request`; `head` is the repository that the branch is in, if it is a fork."""
    side = {"ref": branch, "sha": sha, "repo": {"full_name": head or repository, "fork": bool(head)}}
    base = {"ref": "main", "repo": {"full_name": repository}}
    request = {"number": number, "title": branch, "head": side, "base": base}
    return {"action": "synchronize", "number": number, "pull_request": request, "repository": {"full_name": repository}}


def workflow_run_event(
    repository: str, branch: str, sha: str, *, head: str = "", conclusion: str = "failure", numbers: Sequence[int] = ()
) -> dict[str, Any]:
    """The payload of `workflow_run` after the gate of a pull request."""
    owner = (head or repository).partition("/")[0]
    run = {
        "id": int(RUN_ID),
        "name": "gate",
        "event": "pull_request",
        "conclusion": conclusion,
        "head_sha": sha,
        "head_branch": branch,
        "head_repository": {"full_name": head or repository, "owner": {"login": owner}},
        "html_url": "https://github.invalid/run",
        "pull_requests": [{"number": number} for number in numbers],
    }
    return {"action": "completed", "workflow_run": run, "repository": {"full_name": repository}}
