"""Answers that go wrong on request: what a test posts to `/__faults__` happens to the requests that follow.

A rule is `{"match": REGEX, "times": N, ...}`. The expression is searched in the SQL of a statement, or in the path of
any other request (`/session/v1/login-request`, `/fs_bucket/` for an upload). What happens:

- `"error": {"code": "390114", "sqlState": "08001", "message": "..."}`: Snowflake's answer that says no;
- `"drop": true`: the connection is cut without an answer, `"when": "before"` (default) or `"after"` the statement ran;
- `"hang": SECONDS`: the answer comes so much later;
- `"status": 503`: an HTTP error, as a proxy or an overloaded service gives.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


@dataclass
class Fault:
    """One rule and how often it is still to happen."""

    match: re.Pattern[str]
    times: int = 1
    error: dict[str, str] | None = None
    drop: bool = False
    hang: float = 0
    status: int = 0
    when: str = "before"

    async def happens(self, when: str, send: Send) -> bool:
        """Do what the rule says at this moment; True: the request has had its answer, or will never have one."""
        if when != self.when:
            return False
        await asyncio.sleep(self.hang)
        if self.drop:
            # uvicorn's `send` is a method of the object that holds the connection.
            send.__self__.transport.abort()  # type: ignore[attr-defined]
            return True
        if self.error is None and not self.status:
            return False
        raw = json.dumps(self._no()).encode()
        await send({"type": "http.response.start", "status": self.status or 200, "headers": self._headers(raw)})
        await send({"type": "http.response.body", "body": raw})
        return True

    def _no(self) -> dict[str, Any]:
        error = self.error or {"code": str(self.status), "message": "made to fail"}
        code = error["code"]
        data = {"errorCode": code, "sqlState": error.get("sqlState", "XX000")}
        return {"success": False, "code": code, "message": error.get("message", "made to fail"), "data": data}

    @staticmethod
    def _headers(raw: bytes) -> list[tuple[bytes, bytes]]:
        return [(b"content-type", b"application/json"), (b"content-length", str(len(raw)).encode())]


@dataclass
class Faults:
    """The rules in force, first match first."""

    rules: list[Fault] = field(default_factory=list)

    def change(self, method: str, body: bytes) -> dict[str, Any]:
        """POST adds rules, DELETE forgets all, GET tells how often each is still to happen."""
        if method == "DELETE":
            self.rules.clear()
        elif method == "POST":
            self.rules += [
                Fault(**{**rule, "match": re.compile(rule["match"], re.I | re.S)}) for rule in json.loads(body)
            ]
        return {"left": [{"match": rule.match.pattern, "times": rule.times} for rule in self.rules]}

    def take(self, text: str) -> Fault | None:
        """The rule that this request is to meet, counted."""
        for rule in self.rules:
            if rule.times > 0 and rule.match.search(text):
                rule.times -= 1
                return rule
        return None
