"""A Snowflake account on this machine, for tests: fakesnow's HTTP server with what it lacks added by name.

    .venv-emulator/bin/python tests/emulator/server.py --port 0

prints `{"port": 40123}` when it is ready, listens on 127.0.0.1 only, and ends when its standard input closes or on
SIGTERM. It runs in an environment of its own (constraints-emulator.txt) and imports nothing of Trunkline. What it adds:

- `shims.py`: SQL that Snowflake takes and fakesnow does not, one named shim per lack;
- `unload.py`: COPY INTO a stage, GET and REMOVE;
- `results.py`: results in several parts, downloaded one by one;
- `functions.py`: functions written in Python, run in this process;
- `faults.py`: answers that go wrong on request (`POST /__faults__`), for tests of errors and retries;
- `GET /__log__`: every statement received, with its session, application and query tag.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import json
import logging
import socket
import sys
import threading
import time
import warnings
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote

import fakesnow.server as fakesnow_server
import faults
import results
import shims
import unload
import uvicorn
from fakesnow.instance import FakeSnow
from starlette.concurrency import run_in_threadpool

try:
    import functions
except ModuleNotFoundError:
    functions = None

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

SUCCEEDED = "select 'Statement executed successfully.' as \"status\""
IDLE_SECONDS = 2.0
INTERNAL_ERROR = "000603"  # Snowflake's own code for an error inside it


@dataclass
class Session:
    """What is known of one login beyond what fakesnow keeps."""

    number: int
    application: str
    state: shims.State
    answered: dict[str, bytes] = field(default_factory=dict)  # by request id: a request sent again runs once

    def remember(self, request_id: str, raw: bytes) -> None:
        """Keep the last few answers."""
        self.answered[request_id] = raw
        if len(self.answered) > 8:
            del self.answered[next(iter(self.answered))]

    turn: asyncio.Lock = field(default_factory=asyncio.Lock)  # a session's statements wait for each other here
    seen: float = 0.0  # when its last statement came


@dataclass
class Account:
    """Everything of this process that outlives a request."""

    sessions: dict[str, Session] = field(default_factory=dict)
    logins: int = 0
    log: list[dict[str, Any]] = field(default_factory=list)
    faults: faults.Faults = field(default_factory=faults.Faults)
    parts: results.Parts = field(default_factory=results.Parts)


ACCOUNT = Account()
_failure: ContextVar[BaseException | None] = ContextVar("failure", default=None)


class _Failures(logging.Handler):
    """fakesnow answers HTTP 500 for what it cannot do and only logs why; this keeps the why for the answer."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info:
            _failure.set(record.exc_info[1])


async def app(scope: Message, receive: Receive, send: Send) -> None:
    """The ASGI application."""
    if scope["type"] != "http":
        await fakesnow_server.app(scope, receive, send)
        return
    body = await _read(scope, receive)
    path = scope["path"]
    if path == "/__faults__":
        await _answer(send, ACCOUNT.faults.change(scope["method"], body))
    elif path == "/__log__":
        await _answer(send, {"statements": ACCOUNT.log})
    elif path == "/queries/v1/query-request":
        await _query(scope, body, send)
    else:
        fault = ACCOUNT.faults.take(path)
        if fault and await fault.happens("before", send):
            return
        if path == "/session/v1/login-request":
            await _login(scope, body, send)
        elif path == "/session/token-request":
            await _renew(scope, send)
        elif path == "/session":
            await _logout(scope, body, send)
        elif path.startswith("/parts/"):
            await _answer(send, ACCOUNT.parts.take(path.removeprefix("/parts/")))
        elif path.startswith("/fs_bucket/") and scope["method"] == "GET":
            await _answer(send, (unload.stage_folder(None) / unquote(path.removeprefix("/fs_bucket/"))).read_bytes())
        else:
            await fakesnow_server.app(scope, _replay(body, receive), send)


async def _read(scope: Message, receive: Receive) -> bytes:
    """The whole body of a request, unpacked."""
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    packed = dict(scope["headers"]).get(b"content-encoding") == b"gzip"
    return gzip.decompress(body) if packed and not scope["path"].startswith("/fs_bucket/") else body


def _replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that hands out a body already read, then what follows it."""
    sent = False

    async def again() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


async def _inner(scope: Message, body: dict[str, Any]) -> dict[str, Any]:
    """fakesnow's answer to a request whose body may have been changed."""
    raw = json.dumps(body).encode()
    kept = [(k, v) for k, v in scope["headers"] if k not in (b"content-encoding", b"content-length")]
    messages: list[Message] = []

    async def keep(message: Message) -> None:
        messages.append(message)

    async def nothing() -> Message:
        return {"type": "http.disconnect"}

    changed = {**scope, "headers": [*kept, (b"content-length", str(len(raw)).encode())]}
    await fakesnow_server.app(changed, _replay(raw, nothing), keep)
    text = b"".join(m.get("body", b"") for m in messages if m["type"] == "http.response.body")
    answer: dict[str, Any] = json.loads(text)
    return answer


async def _answer(send: Send, content: Any) -> None:
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(raw)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": raw})


async def _login(scope: Message, body: bytes, send: Send) -> None:
    """A session: fakesnow's, with the fields that newer clients ask for, and our record of it."""
    request = json.loads(body)
    data = request["data"]
    data.setdefault("SESSION_PARAMETERS", {})
    answer = await _inner(scope, request)
    if answer.get("success"):
        ACCOUNT.logins += 1
        asked = {name: values[0] for name, values in parse_qs(scope["query_string"].decode()).items()}
        state = shims.State(
            role=asked.get("roleName", "PUBLIC").upper(),
            warehouse=asked.get("warehouse", "").upper() or None,
            user=str(data.get("LOGIN_NAME", "")).upper(),
            tag=str(data["SESSION_PARAMETERS"].get("QUERY_TAG", "")),
        )
        application = data.get("CLIENT_ENVIRONMENT", {}).get("APPLICATION") or data.get("CLIENT_APP_ID", "")
        ACCOUNT.sessions[answer["data"]["token"]] = Session(ACCOUNT.logins, str(application), state)
        answer["data"].update(_tokens(answer["data"]["token"]), sessionId=ACCOUNT.logins)
    await _answer(send, answer)


def _tokens(token: str) -> dict[str, Any]:
    """Snowflake hands out a master token with each session token; the emulator has one for both."""
    return {"masterToken": token, "validityInSeconds": 3600, "masterValidityInSeconds": 14400}


async def _renew(scope: Message, send: Send) -> None:
    """A new session token for a master token, which a client asks for when it is told that its token has expired."""
    token = _token(scope)
    renewed = {"sessionToken": token, "sessionId": 1, "validityInSecondsST": 3600, "validityInSecondsMT": 14400}
    await _answer(send, {"success": True, "data": {**renewed, **_tokens(token)}})


async def _logout(scope: Message, body: bytes, send: Send) -> None:
    """The end of a session: an open transaction is undone and temporary tables go."""
    token = _token(scope)
    ended = ACCOUNT.sessions.pop(token, None) if b"delete=true" in scope["query_string"] else None
    connection = fakesnow_server.sessions.get(token)
    if ended and connection:
        await run_in_threadpool(ended.state.end, connection)
    await _answer(send, await _inner(scope, json.loads(body or b"{}")))


def _token(scope: Message) -> str:
    header: str = dict(scope["headers"]).get(b"authorization", b"").decode()
    return header.removeprefix('Snowflake Token="').removesuffix('"')


async def _query(scope: Message, body: bytes, send: Send) -> None:
    """One statement: noted, perhaps failed on request, answered once per request id."""
    request = json.loads(body)
    sql: str = request["sqlText"]
    session = ACCOUNT.sessions.get(_token(scope))
    request_id = parse_qs(scope["query_string"].decode()).get("requestId", [""])[0]
    if session and request_id in session.answered:
        await _answer(send, session.answered[request_id])
        return
    _note(session, request)
    fault = ACCOUNT.faults.take(sql)
    if fault and await fault.happens("before", send):
        return
    if session:
        session.seen = time.monotonic()
    if shims.begins(sql):
        await _abandon([other for other in ACCOUNT.sessions.items() if other[1] is not session])
    async with session.turn if session else asyncio.Lock():
        running = asyncio.ensure_future(_run(scope, request, session))
        while session and not (await asyncio.wait([running], timeout=0.2))[0]:
            holder = shims.LOCKS.in_the_way(session.state)
            await _abandon([other for other in ACCOUNT.sessions.items() if other[1].state is holder])
        answer = await running
    raw = json.dumps(answer).encode()
    if session and not request.get("describeOnly"):
        session.remember(request_id, raw)
    if fault and await fault.happens("after", send):
        return
    await _answer(send, raw)


async def _abandon(others: Iterable[tuple[str, Session]]) -> None:
    """Transactions that are idle are rolled back once another begins, or waits for what they hold: Snowflake lets it
    wait five minutes first, here it is two seconds."""
    for token, other in others:
        connection = fakesnow_server.sessions.get(token)
        idle = time.monotonic() - other.seen > IDLE_SECONDS and not other.turn.locked()
        if other.state.in_transaction and connection and idle:
            await run_in_threadpool(connection._duck_conn.execute, "ROLLBACK")
            other.state.after("rollback")


def _note(session: Session | None, request: dict[str, Any]) -> None:
    of_statement = (request.get("parameters") or {}).get("QUERY_TAG")
    ACCOUNT.log.append(
        {
            "session": session.number if session else None,
            "application": session.application if session else None,
            "tag": of_statement if of_statement is not None else session.state.tag if session else "",
            "sql": request["sqlText"],
            "describe": bool(request.get("describeOnly")),
        }
    )


async def _run(scope: Message, request: dict[str, Any], session: Session | None) -> dict[str, Any]:
    """The answer to a statement: ours where fakesnow has none, otherwise fakesnow's to the statement as it takes it."""
    connection = fakesnow_server.sessions.get(_token(scope))
    if session is None or connection is None or request.get("describeOnly"):
        return await _inner(scope, request)
    statement, address = shims.head(request["sqlText"]), f"http://{dict(scope['headers'])[b'host'].decode()}"
    try:
        own = await run_in_threadpool(_prepared, request["sqlText"], connection, session, address)
        if isinstance(own, dict):
            return own
        answer = await _settled(scope, {**request, "sqlText": own}, statement)
    except Exception as error:  # noqa: BLE001 - whatever goes wrong in a shim is an answer, as in the real thing
        return _failed(error)
    finally:
        session.state.after(statement)
    if answer.get("success"):
        session.state.last_query = answer["data"].get("queryId") or session.state.last_query
        ACCOUNT.parts.divide(answer["data"], address)
    return answer


async def _settled(scope: Message, request: dict[str, Any], statement: str) -> dict[str, Any]:
    """fakesnow's answer, its failures worded. In Snowflake, statements that make or change objects wait for each other;
    DuckDB refuses the later of two at once: it is tried again."""
    for attempt in range(40):
        _failure.set(None)
        answer = await _inner(scope, request)
        failure = _failure.get()
        if failure is None or answer.get("success"):
            return answer
        if not (shims.is_ddl(statement) and shims.is_conflict(failure)):
            return _failed(failure)
        await asyncio.sleep(0.05 + attempt / 100)
    return _failed(failure)


def _prepared(sql: str, connection: Any, session: Session, address: str) -> str | dict[str, Any]:
    """The statement for fakesnow, or a whole answer. Runs on a worker thread, which may use the connection."""
    statement = shims.head(sql)
    session.state.before(statement, connection)
    if session.state.takes(statement):
        return SUCCEEDED
    if functions is not None and functions.create(sql, connection, unload.stage_folder(connection)):
        return SUCCEEDED
    own = unload.answer(statement, connection, address)
    sql = functions.unquoted_calls(sql) if functions is not None else sql
    return own if own is not None else shims.rewrite(sql, session.state)


def _failed(error: BaseException) -> dict[str, Any]:
    """An answer that says no, as Snowflake words it: HTTP 200, a code, a state and a text."""
    errno, state = getattr(error, "errno", None), getattr(error, "sqlstate", None)
    code = f"{errno:06d}" if isinstance(errno, int) and errno > 0 else INTERNAL_ERROR
    text = getattr(error, "raw_msg", None) or getattr(error, "msg", None) or f"{type(error).__name__}: {error}"
    return {
        "success": False,
        "code": code,
        "message": shims.worded(text),
        "data": {"errorCode": code, "sqlState": state or "XX000"},
    }


class _Server(uvicorn.Server):
    """uvicorn, which says when it is ready."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if sockets:
            print(json.dumps({"port": sockets[0].getsockname()[1]}), flush=True)  # noqa: T201 - what whoever started it waits for


def main() -> int:
    """Serve until standard input closes."""
    parser = argparse.ArgumentParser(description="A Snowflake account on this machine, for tests.")
    parser.add_argument("--port", type=int, default=0, help="0: any free one")
    parser.add_argument("--db-path", metavar="DIR", type=Path, help="keep databases as files here (default: in memory)")
    options = parser.parse_args()
    warnings.filterwarnings("ignore", "Arrow output on a DB-API result")
    logging.getLogger("sqlglot").setLevel(logging.ERROR)
    shims.install()
    fakesnow_server.logger.handlers = [_Failures()]
    fakesnow_server.shared_fs = FakeSnow(db_path=options.db_path)
    # asyncio sends at once where the protocol is named: else an answer in two parts waits 40 ms for an acknowledgement
    listener = socket.socket(proto=socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", options.port))
    server = _Server(uvicorn.Config(app, log_level="critical", timeout_graceful_shutdown=1))

    def watch() -> None:
        sys.stdin.read()
        server.should_exit = True

    threading.Thread(target=watch, daemon=True).start()
    asyncio.run(server.serve(sockets=[listener]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
