"""HTTP answers as values, and the refusal that carries one."""

from __future__ import annotations

import msgspec

Headers = list[tuple[str, str]]

JSON_HEADERS: Headers = [("content-type", "application/json")]


class Answer(msgspec.Struct, frozen=True):
    """Status, headers and body of one response."""

    status: int
    headers: Headers
    body: bytes


class Refusal(Exception):
    """A request that is turned away; holds the whole answer. Never leaves the server."""

    def __init__(self, status: int, error: str, **details: object) -> None:
        super().__init__(error)
        self.status = status
        self.error = error
        self.details = details

    def answer(self) -> Answer:
        """`{"error": …, …details}`."""
        return json_answer({"error": self.error, **self.details}, status=self.status)


def json_answer(data: object, *, status: int = 200, headers: Headers | None = None) -> Answer:
    """`data` as JSON; numbers that are not finite become null."""
    return Answer(status, JSON_HEADERS + headers if headers else JSON_HEADERS, msgspec.json.encode(data))
