"""Fivetran's REST API, as far as syncs need it: https://fivetran.com/docs/rest-api/api-reference/connections."""

from __future__ import annotations

import base64
import datetime as dt
import email.utils
import http.client
import json
import random
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from trunkline.errors import ProjectError, SourceError, TransientError

_SECONDS = 60.0  # for one answer
_TRIES = 6
_LONGEST = 900.0  # seconds from one try to the next, whatever the server asks for
_LOCAL = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class Connection:
    """What the API says of a connection. `changed` is when its last sync ended, well or not; times are ISO 8601."""

    id: str
    schema: str
    succeeded_at: str | None
    failed_at: str | None
    paused: bool
    manual: bool
    setup: str
    sync: str
    delayed: bool
    historical: bool
    rescheduled_for: str | None
    tasks: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def changed(self) -> str:
        """The later of both ends; empty if there was none yet."""
        return max(_comparable(self.succeeded_at), _comparable(self.failed_at))

    @property
    def failed(self) -> bool:
        """Whether the last sync failed."""
        return _comparable(self.failed_at) > _comparable(self.succeeded_at)

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Connection:
        """The `data` of an answer."""
        status = data.get("status") or {}
        return cls(
            id=str(data.get("id", "")),
            schema=str(data.get("schema", "")),
            succeeded_at=data.get("succeeded_at"),
            failed_at=data.get("failed_at"),
            paused=bool(data.get("paused")) or status.get("sync_state") == "paused",
            manual=data.get("schedule_type") == "manual",
            setup=str(status.get("setup_state", "")),
            sync=str(status.get("sync_state", "")),
            delayed=status.get("update_state") == "delayed",
            historical=bool(status.get("is_historical_sync")),
            rescheduled_for=status.get("rescheduled_for"),
            tasks=_told(status.get("tasks")),
            warnings=_told(status.get("warnings")),
        )


def instant(text: str | None) -> dt.datetime | None:
    """A time of the API; None for none."""
    return dt.datetime.fromisoformat(text) if text else None


def _comparable(text: str | None) -> str:
    at = instant(text)
    return at.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%f") if at else ""


def _told(items: Any) -> tuple[str, ...]:
    """Tasks and warnings: a code and a message each, and details."""
    return tuple(
        ": ".join(str(item[key]) for key in ("code", "message") if item.get(key))
        + (f" ({item['details']})" if item.get("details") else "")
        for item in items or ()
    )


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirect would take the secret elsewhere."""

    def redirect_request(self, *_: Any) -> None:
        return None


@dataclass
class Api:
    """The API with one account's key. `tell` is told of waits.

    What may pass (rate limits, errors of the server, lost connections) is tried again with growing, random waits, or as
    long as the server asks for. Raises `TransientError` when that does not help, `SourceError` for what is refused.
    """

    url: str
    key: str = field(repr=False)
    secret: str = field(repr=False)
    tell: Callable[[str], None]
    sleep: Callable[[float], None] = time.sleep
    seconds: float = _SECONDS

    def __post_init__(self) -> None:
        parts = urllib.parse.urlsplit(self.url)
        if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOCAL):
            raise ProjectError(f"api_url {self.url!r} is no https:// address: the secret would go in plain text")
        self._open = urllib.request.build_opener(_NoRedirects).open

    def connection(self, id_: str) -> Connection:
        """The state of a connection."""
        answer = self._ask("GET", _path(id_))
        data = answer.get("data")
        if not isinstance(data, dict) or not isinstance(data.get("status"), dict):
            raise SourceError(f"{self.url} does not answer as Fivetran's API does", hint="see `api_url`")
        return Connection.of(data)

    def sync(self, id_: str) -> None:
        """Start a sync, unless one is running."""
        self._ask("POST", f"{_path(id_)}/sync", {"force": False})

    def resync(self, id_: str) -> None:
        """Start a historical sync: every table is read again from its beginning."""
        self._ask("POST", f"{_path(id_)}/resync")

    def make_manual(self, id_: str) -> None:
        """Leave the schedule to us: no sync starts by itself any more."""
        self._ask("PATCH", _path(id_), {"schedule_type": "manual", "run_setup_tests": False})

    def _ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        for left in reversed(range(_TRIES)):
            try:
                return self._once(method, path, body)
            except _Later as later:
                if not left:
                    raise TransientError(
                        f"Fivetran's API: {later.what}",
                        hint="run the same command again later: a sync that runs goes on",
                    ) from later
                wait = later.wait if later.wait is not None else 2.0 ** (_TRIES - left) * random.uniform(0.5, 1)
                self.tell(f"Fivetran's API: {later.what}; trying again in {wait:.0f} s")
            self.sleep(wait)
        raise AssertionError  # the last try returns or raises

    def _once(self, method: str, path: str, body: Mapping[str, Any] | None) -> dict[str, Any]:
        login = base64.b64encode(f"{self.key}:{self.secret}".encode()).decode()
        headers = {"Authorization": f"Basic {login}", "Accept": "application/json;version=2"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url.rstrip('/')}{path}", data, headers, method=method)
        try:
            with self._open(request, timeout=self.seconds) as answer:
                found = json.loads(answer.read())
        except urllib.error.HTTPError as exc:
            with exc:
                raise self._refused(exc, path) from exc
        except (OSError, http.client.HTTPException, ValueError) as exc:  # unreachable, dropped, cut short
            reason = getattr(exc, "reason", None) or exc
            raise _Later(f"{method} {path}: {reason or type(exc).__name__}") from exc
        return found if isinstance(found, dict) else {}

    @staticmethod
    def _refused(exc: urllib.error.HTTPError, path: str) -> Exception:
        said = _said(exc)
        what = f"Fivetran's API: HTTP {exc.code}{f', {said}' if said else ''}"
        if exc.code in (409, 429) or exc.code >= 500:  # 409: a sync that runs must end first
            return _Later(f"HTTP {exc.code}{f', {said}' if said else ''}", _retry_after(exc.headers.get("Retry-After")))
        if exc.code == 401:
            return SourceError(what, hint="see `api_key` and `api_secret`: Fivetran, Account Settings, API Key")
        if exc.code == 403:
            return SourceError(what, hint="the key's user needs the right to see and to sync this connection")
        if exc.code == 404:
            name = urllib.parse.unquote(path.split("/")[3])
            return SourceError(f"Fivetran has no connection {name!r}", hint="its id is on its page, under Setup")
        return SourceError(what)


class _Later(Exception):
    """Try again, after `wait` seconds if the server says so."""

    def __init__(self, what: str, wait: float | None = None) -> None:
        super().__init__(what)
        self.what, self.wait = what, wait


def _path(id_: str) -> str:
    return f"/v1/connections/{urllib.parse.quote(id_, safe='')}"


def _said(exc: urllib.error.HTTPError) -> str:
    """The message of an error's body: `{"code": …, "message": …}`."""
    try:
        return str(json.loads(exc.read()).get("message") or "")
    except (OSError, http.client.HTTPException, ValueError, AttributeError):
        return ""


def _retry_after(text: str | None) -> float | None:
    """Seconds, given as such or as a date; a quarter of an hour at most."""
    if not text:
        return None
    if text.strip().isdigit():
        return min(float(text), _LONGEST)
    try:
        at = email.utils.parsedate_to_datetime(text)
    except ValueError:
        return None
    return min(max(0.0, at.timestamp() - time.time()), _LONGEST)
