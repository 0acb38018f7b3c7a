"""As much of GitHub's REST API as comments and pull requests need. https://docs.github.com/en/rest

The address comes from `GITHUB_API_URL`, so GitHub Enterprise works as well; the token from the environment.
"""

from __future__ import annotations

import http.client
import json
import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from email.message import Message
from typing import IO, Any
from urllib.parse import urlencode, urlsplit

from trunkline.errors import EngineError, ProjectError, TransientError

__all__ = ["GitHub", "open_github"]

_SECONDS = 30
_TRIES = 3
_LARGEST = 8 << 20
_PAGES = 30
_LONGEST_WAIT = 60
_TOKEN = re.compile(r"[!-~]+")
_REPOSITORY = re.compile(r"[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+")


class _TooOften(TransientError):
    """GitHub took a request for one too many: it did nothing, and says when to ask again."""

    seconds: float | None = None


class _Straight(urllib.request.HTTPRedirectHandler):
    """Follows nothing: the token would go along."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> None:
        return None


@dataclass(frozen=True)
class GitHub:
    """One repository, by its `owner/name`; `server` is where git reaches it.

    Raises `TransientError` if GitHub cannot be reached, `EngineError` if it refuses; no message shows the token.
    """

    url: str
    repository: str
    token: str = field(repr=False)
    server: str = "https://github.com"

    @property
    def owner(self) -> str:
        """Whose repository it is."""
        return self.repository.partition("/")[0]

    def get(self, path: str, **query: str | int) -> Any:
        """What GitHub answers to a GET of `repos/OWNER/NAME/PATH`."""
        return self._ask("GET", f"{path}?{urlencode(query)}" if query else path)

    def all(self, path: str, **query: str | int) -> Iterator[Any]:
        """The items of a list, page by page: of 3,000 at most."""
        for page in range(1, _PAGES + 1):
            items = self.get(path, per_page=100, page=page, **query)
            yield from items
            if len(items) < 100:
                return

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """Make something. Asked again only if GitHub did nothing for it: a second time could make it twice."""
        return self._ask("POST", path, body)

    def patch(self, path: str, body: Mapping[str, Any]) -> Any:
        """Change something."""
        return self._ask("PATCH", path, body)

    def _ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        for attempt in range(1, _TRIES + 1):
            try:
                return self._once(method, path, body)
            except _TooOften as exc:
                wait = attempt if exc.seconds is None else exc.seconds
                if attempt == _TRIES or wait > _LONGEST_WAIT:
                    raise
            except TransientError:
                wait = attempt
                if attempt == _TRIES or method == "POST":
                    raise
            time.sleep(wait)
        raise AssertionError("unreachable")

    def _once(self, method: str, path: str, body: Mapping[str, Any] | None) -> Any:
        header = {
            "Accept": "application/vnd.github+json",
            "Authorization": f"Bearer {self.token}",
            "User-Agent": "trunkline",
            "X-GitHub-Api-Version": "2022-11-28",
        }
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}/repos/{self.repository}/{path}", data, header, method=method)
        asked = f"GitHub's answer to {method} {path.partition('?')[0]}"
        try:
            with urllib.request.build_opener(_Straight).open(request, timeout=_SECONDS) as answer:
                text = answer.read(_LARGEST + 1)
        except urllib.error.HTTPError as exc:
            with exc:
                raise _refused(exc, asked) from exc
        except (OSError, http.client.HTTPException) as exc:
            reason = getattr(exc, "reason", exc)
            raise TransientError(f"GitHub cannot be reached at {self.url}: {reason}") from exc
        if len(text) > _LARGEST:
            raise EngineError(f"{asked} is larger than {_LARGEST:,} bytes")
        try:
            return json.loads(text or b"null")
        except ValueError as exc:
            raise EngineError(f"{asked} is no JSON") from exc


def _refused(exc: urllib.error.HTTPError, asked: str) -> EngineError:
    try:
        said = str(json.loads(exc.read(65_536)).get("message", ""))[:200]
    except (OSError, ValueError, AttributeError):
        said = ""
    what = f"{asked} is {exc.code}{f': {said}' if said else ''}"
    after = exc.headers.get("Retry-After") or ""
    if exc.code == 429 or (exc.code == 403 and (after or "rate limit" in said.lower())):
        often = _TooOften(what, hint=f"try again in {after} s" if after.isdecimal() else "try again later")
        often.seconds = float(after) if after.isdecimal() else None
        return often
    if exc.code in (500, 502, 503, 504):
        return TransientError(what, hint="try again later")
    hints = {
        401: "GITHUB_TOKEN is no token that it knows",
        403: "the token may not do this: give the job the permission that docs/ci.md names",
        404: "the token may not see this repository, or GITHUB_REPOSITORY is another",
    }
    return EngineError(what, hint=hints.get(exc.code))


def open_github(environ: Mapping[str, str], origin: str | None = None) -> GitHub:
    """GitHub as the environment has it; outside of Actions the repository is that of the remote `origin`.

    Raises `ProjectError` if it is not known which, without a token, and for an address that would send it in the clear.
    """
    url = (environ.get("GITHUB_API_URL") or "https://api.github.com").rstrip("/")
    place = urlsplit(url)
    if place.scheme != "https" and place.hostname not in ("127.0.0.1", "::1", "localhost"):
        raise ProjectError(f"GITHUB_API_URL is {url!r}: the token goes over https only")
    found = re.search(r"[:/]([^/:]+/[^/]+?)(\.git)?/?$", origin or "")
    name = environ.get("GITHUB_REPOSITORY") or (found[1] if found else "")
    if not _REPOSITORY.fullmatch(name):
        raise ProjectError(
            "it is not known which repository of GitHub this is", hint="export GITHUB_REPOSITORY=owner/name"
        )
    token = (environ.get("GITHUB_TOKEN") or environ.get("GH_TOKEN") or "").strip()  # pasted, with the end of its line
    if not _TOKEN.fullmatch(token):
        why = "has a character that no token has, as a space or the end of a line" if token else "is not set"
        raise ProjectError(f"GITHUB_TOKEN {why}", hint="export GITHUB_TOKEN=$(gh auth token)")
    return GitHub(url, name, token, environ.get("GITHUB_SERVER_URL") or "https://github.com")
