"""A declared HTTP API as a dlt source: a session that keeps a pace and tries again, and a look at each page."""

from __future__ import annotations

import contextlib
import hashlib
import json
import random
import threading
import time
from collections.abc import Mapping, Sequence
from decimal import Decimal
from email.utils import parsedate_to_datetime
from typing import Any

import orjson
import requests
from dlt.common import jsonpath
from dlt.extract import DltSource
from dlt.sources.helpers.rest_client.client import PageData
from dlt.sources.helpers.rest_client.redaction import sanitize_url
from dlt.sources.rest_api import rest_api_source

from trunkline.errors import ProjectError, SourceError
from trunkline.ingest.ahead import Stopped
from trunkline.ingest.protocol import Reach

_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
_FIRST_WAIT, _LONGEST_WAIT, _LONGEST_ASKED = 0.5, 30.0, 300.0
_SAME_PAGES = 3
# 17 digits are more than a double holds for sure; looked for in one pass without a regular expression, which is slower
_DIGITS, _LONG_NUMBER = bytes.maketrans(b"123456789.", b"0" * 10), b"0" * 17


class Api:
    """One read of an API. `client` and `resources` are dlt's, with secrets resolved."""

    def __init__(self, reach: Reach, client: Mapping[str, Any], resources: Sequence[dict[str, Any]]) -> None:
        options = reach.tables[0].options
        self._reach = reach
        self._client = client
        self._resources = resources
        self._session = PoliteSession(
            reach, options["requests_per_second"], options["retries"], float(options["timeout"])
        )

    def source(self) -> DltSource:
        """The API as dlt's source. Raises `ProjectError` for a declaration that dlt does not take."""
        config: Any = {"client": {**self._client, "session": self._session}, "resources": list(self._resources)}
        try:
            source = rest_api_source(config, name="rest", max_table_nesting=0)
        except (ValueError, TypeError) as exc:  # dlt's own errors of validation are ValueErrors
            raise ProjectError(f"{self._reach.name}: {exc}", hint="see docs/rest.md") from exc
        selectors = {item["name"]: item["endpoint"].get("data_selector") for item in self._resources}
        for name, resource in source.resources.items():
            watch = PageWatch(name, selectors.get(name), resource.is_transformer)
            resource.add_step(watch, insert_at=1)  # before the incremental: it would take the page's answer away
        return source

    def stop(self) -> None:
        """Wait for nothing any more."""
        self._session.stopping.set()

    def close(self) -> None:
        """Give the connections back."""
        self._session.close()


class PoliteSession(requests.Session):
    """A session for one API: at most so many requests a second, and again, later, where a failure may pass.

    Waits twice as long each time, less a random part, or as long as the server's `Retry-After` says. Answers that are
    no JSON are a `SourceError`. What still fails is raised, or given to dlt, which raises it.
    """

    def __init__(self, reach: Reach, pace: float | None, retries: int, timeout: float) -> None:
        super().__init__()
        self.stopping = threading.Event()
        self._reach = reach
        self._gap = 1 / pace if pace else 0.0
        self._retries = retries
        self._timeout = timeout
        self._lock = threading.Lock()
        self._next = 0.0
        self._sent = 0
        self.headers["User-Agent"] = "trunkline"

    def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
        """The answer to a request: the last one, if it took several."""
        kwargs["timeout"] = kwargs.get("timeout") or self._timeout
        # hooks are dlt's, and raise for a status: they see the last answer only
        hooks, request.hooks = request.hooks, requests.hooks.default_hooks()
        for attempt in range(self._retries + 1):
            self._in_turn()
            last = attempt == self._retries
            try:
                response = super().send(request, **kwargs)
            except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as exc:
                if last:
                    raise
                self._wait(attempt, None, f"{sanitize_url(str(request.url))}: {type(exc).__name__}")
                continue
            if last or response.status_code not in _PASSING:
                break
            self._wait(attempt, response, f"{sanitize_url(str(request.url))}: HTTP {response.status_code}")
        self._sent += 1
        self._reach.progress(f"reading {self._reach.name}: page {self._sent:,}")
        answer: requests.Response = requests.hooks.dispatch_hook("response", hooks, response, **kwargs)
        if answer.ok and answer.content:
            parsed = _parsed(answer)
            answer.json = lambda **_: parsed  # type: ignore[method-assign]  # dlt asks several times, each time anew
        return answer

    def _in_turn(self) -> None:
        with self._lock:
            now = time.monotonic()
            at = max(now, self._next)
            self._next = at + self._gap
        self._sleep(at - now)

    def _wait(self, attempt: int, response: requests.Response | None, what: str) -> None:
        asked = _retry_after(response) if response is not None else None
        if asked is not None and asked > _LONGEST_ASKED:
            raise SourceError(
                f"{what}; the server asks for {asked:,.0f} s of patience", hint="run the same command then"
            )
        back_off = min(_LONGEST_WAIT, _FIRST_WAIT * 2**attempt) * random.uniform(0.5, 1)
        seconds = back_off if asked is None else asked + random.uniform(0, 0.1)
        self._reach.progress(f"{what}; trying again in {seconds:.0f} s")
        self._sleep(seconds)

    def _sleep(self, seconds: float) -> None:
        if self.stopping.wait(max(0.0, seconds)):
            raise Stopped


class PageWatch:
    """Looks at each page before anything else: at a paginator that goes in circles, and a selector that finds nothing.

    dlt shows its page with the request's answer; one run of pages has one request that it changes from page to page.
    """

    only_looks = True  # one item in, the same item out

    def __init__(self, name: str, selector: str | None, dependent: bool) -> None:
        self._name = name
        self._selector = selector
        self._dependent = dependent
        self._request: Any = None
        self._seen: set[bytes] = set()
        self._last = b""
        self._same = 0

    def __call__(self, page: Any, meta: Any = None) -> Any:
        """The page, as it is. Raises `SourceError`."""
        if not isinstance(page, PageData):
            return page
        first = page.request is not self._request
        if first:
            self._request, self._seen, self._last, self._same = page.request, set(), b"", 0
        self._in_circles(page)
        if first and not page and self._selector and not self._dependent:
            self._find(page)
        return page

    def _in_circles(self, page: Any) -> None:
        sent = page.response.request
        asked = _digest(f"{sent.method} {sent.url}".encode(), sent.body or b"")
        if asked in self._seen:
            raise SourceError(
                f"{self._name}: {sanitize_url(str(sent.url))} was asked for twice: the pages never end",
                hint="see `paginator`: what it takes for the next page leads back",
            )
        self._seen.add(asked)
        content = _digest(page.response.content)
        self._same = self._same + 1 if page and content == self._last else 1
        self._last = content
        if self._same >= _SAME_PAGES:
            raise SourceError(
                f"{self._name}: {self._same} pages one after the other are the same: the pages never end",
                hint="see `paginator`: the server does not look at its parameters",
            )

    def _find(self, page: Any) -> None:
        answer = page.response.json()
        selector = str(self._selector).removesuffix("[*]")
        if jsonpath.find_values(selector, answer):
            return
        has = f"has: {', '.join(map(str, answer))}"[:200] if isinstance(answer, dict) else f"is a {_kind(answer)}"
        raise SourceError(
            f"{self._name}: there is nothing at the data_selector {self._selector!r}", hint=f"the answer {has}"
        )


def _parsed(response: requests.Response) -> Any:
    """The answer's JSON, its long numbers exact. Raises `SourceError` if it is none."""
    content = response.content
    try:
        if _LONG_NUMBER not in content.translate(_DIGITS):
            with contextlib.suppress(orjson.JSONDecodeError):  # another encoding than UTF-8, or NaN
                return orjson.loads(content)
        return json.loads(content, parse_float=Decimal)
    except ValueError as exc:
        kind = response.headers.get("Content-Type", "no content type")
        start = " ".join(response.text[:80].split())
        raise SourceError(
            f"{response.request.method} {sanitize_url(str(response.url))}: the answer is no JSON ({kind}): {start!r}",
            hint="is `path` right, and are `auth` and the headers what the API wants?",
        ) from exc


def _retry_after(response: requests.Response) -> float | None:
    """Seconds that the server asks to wait (RFC 9110, 10.2.3: seconds or a date)."""
    text = response.headers.get("Retry-After", "").strip()
    if text.isdigit():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (TypeError, ValueError):
        return None


def _digest(*parts: Any) -> bytes:
    total = hashlib.blake2b(digest_size=16)
    for part in parts:
        total.update(part.encode() if isinstance(part, str) else bytes(part))
    return total.digest()


def _kind(answer: Any) -> str:
    return {list: "list", str: "text", int: "number", float: "number"}.get(type(answer), "single value")
