"""The RSGI application: one bundle behind HTTP.

RSGI is granian's native interface (https://github.com/emmett-framework/granian/blob/master/docs/spec/RSGI.md):
`scope` describes the request, `await protocol()` is its body, `protocol.response_bytes` answers.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib.metadata import version
from math import isfinite
from pathlib import Path
from typing import Any, Protocol, Self

import orjson

from trunkline.errors import RequestError, did_you_mean
from trunkline.models.answer import answer, headline, is_finite
from trunkline.models.bundle import Bundle
from trunkline.models.runtime import Scorer
from trunkline.serving.answers import JSON_HEADERS, Answer, Refusal, json_answer
from trunkline.serving.docs import docs_page
from trunkline.serving.ids import PredictionIds
from trunkline.serving.invocations import mlflow_answer, read_invocation, refuse_content_type
from trunkline.serving.openapi import KEY_HEADER, openapi
from trunkline.serving.requests import Batch, Limits, RequestReader, refusal_of
from trunkline.serving.spool import Scored, SpoolWriter, backlog

_log = logging.getLogger(__name__)

_BULK_BYTES = 64 * 1024  # a longer body is worked on in a thread, so that short ones are answered meanwhile
_BULK_WAITING = 16  # bodies held in memory at once; more are told to come back
_READ_OVER = 64 * 1024 * 1024  # how much of a refused body is read, so that its sender gets to read the answer


class Headers(Protocol):
    """Of RSGI: the request's headers, names in lower case."""

    def get(self, key: str, default: str | None = None, /) -> str | None: ...


class Scope(Protocol):
    """Of RSGI: the request without its body."""

    @property
    def path(self) -> str: ...
    @property
    def method(self) -> str: ...
    @property
    def headers(self) -> Headers: ...


class HTTPProtocol(Protocol):
    """Of RSGI: the body and the answer."""

    async def __call__(self) -> bytes: ...
    def __aiter__(self) -> AsyncIterator[bytes]: ...
    def response_bytes(self, status: int, headers: list[tuple[str, str]], body: bytes, /) -> None: ...


@dataclass(frozen=True)
class Service:
    """What is served, and where its predictions are logged. Plain values: crosses process borders."""

    bundle: Path
    reference: str
    deployment: str
    spool: Path
    sha256: str | None = None
    limits: Limits = field(default_factory=Limits)


class Application:
    """Answers requests with one bundle; one instance a worker process."""

    def __init__(self, service: Service, bundle: Bundle, scorer: Scorer) -> None:
        self._service = service
        self._bundle = bundle
        self._scorer = scorer
        self._task = bundle.signature.task
        self._single = self._task.kind in ("binary", "regression")  # one number a row: the short way
        self._reader = RequestReader(bundle.signature, service.limits)
        self._ids = PredictionIds()
        self._tail = b',"model":%s,"sha256":%s}' % (orjson.dumps(service.reference), orjson.dumps(bundle.sha256))
        self._started = time.monotonic()
        self._bulk = ThreadPoolExecutor(1, thread_name_prefix="bulk")
        self._bulk_waiting = 0
        self._pages = self._fixed_pages()
        self._posts: dict[str, Callable[[Scope, bytes], Answer]] = {
            "/predict": self._predict,
            "/invocations": self._invocations,
        }
        self._spool = SpoolWriter(
            service.spool, deployment=service.deployment, model=service.reference, sha256=bundle.sha256
        )

    @classmethod
    def load(cls, service: Service) -> Self:
        """Opens the bundle and warms the model up, so that the first request is as quick as the next."""
        bundle = Bundle.open(service.bundle, expect_sha256=service.sha256)
        scorer = Scorer(bundle)
        example = {field.name: field.example for field in bundle.signature.inputs}
        try:
            bundle.signature.check_rows([example])
        except RequestError:
            return cls(service, bundle, scorer)  # a signature without examples: the first request warms up
        scorer.score_rows([example])
        return cls(service, bundle, scorer)

    def __rsgi_del__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Granian calls this when the worker ends."""
        self._bulk.shutdown(wait=True, cancel_futures=True)
        self._spool.close()

    async def __rsgi__(self, scope: Scope, protocol: HTTPProtocol) -> None:
        """Answers one request; every exception ends here."""
        try:
            answer = await self._answer(scope, protocol)
        except Exception:  # noqa: BLE001  # a bug of ours must not end the worker
            _log.exception("%s %s failed", scope.method, scope.path)
            answer = json_answer({"error": "the server failed on this request; its log says why"}, status=500)
        protocol.response_bytes(answer.status, answer.headers, answer.body)

    async def _answer(self, scope: Scope, protocol: HTTPProtocol) -> Answer:
        method, path = scope.method, scope.path
        handle = self._posts.get(path)
        try:
            if handle is None or method != "POST":
                return self._answer_get(method, path)
            length = scope.headers.get("content-length")
            if length is not None and int(length) <= _BULK_BYTES:
                return handle(scope, await protocol())
            return await self._answer_bulk(handle, scope, protocol, int(length) if length else None)
        except Refusal as refusal:
            return mlflow_answer(refusal) if path == "/invocations" else refusal.answer()

    async def _answer_bulk(
        self, handle: Callable[[Scope, bytes], Answer], scope: Scope, protocol: HTTPProtocol, length: int | None
    ) -> Answer:
        if self._bulk_waiting >= _BULK_WAITING:
            busy = json_answer({"error": f"{_BULK_WAITING} long requests are waiting already"}, status=503)
            return Answer(503, [*busy.headers, ("retry-after", "1")], busy.body)
        self._bulk_waiting += 1
        try:
            body = await read_body(protocol, length, self._service.limits.body_bytes)
            return await asyncio.get_running_loop().run_in_executor(self._bulk, handle, scope, body)
        finally:
            self._bulk_waiting -= 1

    def _answer_get(self, method: str, path: str) -> Answer:
        page = self._pages.get(path)
        known = [*self._pages, *self._posts]
        if page is None and path not in self._posts:
            error = f"there is no {path}.{did_you_mean(path, known)}"
            raise Refusal(404, error, hint="this server knows " + ", ".join(known))
        allowed = "GET, HEAD" if page else "POST"
        if page is None or method not in ("GET", "HEAD"):
            answer = json_answer({"error": f"{path} answers to {allowed}, not to {method}"}, status=405)
            return Answer(405, [*answer.headers, ("allow", allowed)], answer.body)
        answer = page()
        return Answer(answer.status, answer.headers, b"") if method == "HEAD" else answer

    def _fixed_pages(self) -> dict[str, Callable[[], Answer]]:
        bundle, service = self._bundle, self._service
        document = openapi(bundle.signature, service.reference, service.deployment)
        model = {
            "model": service.reference,
            "deployment": service.deployment,
            "sha256": bundle.sha256,
            "signature": bundle.signature.to_json(),
            "metadata": dict(bundle.metadata),
        }
        text = [("content-type", "text/plain; charset=utf-8")]
        release = Answer(200, text, version("trunkline").encode())
        home = Answer(307, [*text, ("location", "/docs")], b"/docs\n")
        model_page, openapi_page = json_answer(model), json_answer(document)
        docs = docs_page(bundle.signature, service.reference, service.deployment, bundle.sha256)
        return {
            "/": lambda: home,
            "/docs": lambda: docs,
            "/openapi.json": lambda: openapi_page,
            "/model": lambda: model_page,
            "/health": self._health,
            "/ping": self._health,
            "/version": lambda: release,
        }

    def _health(self) -> Answer:
        state = self._spool.state()
        health = {
            "status": "degraded" if state.error or state.lost else "ok",
            "model": self._service.reference,
            "deployment": self._service.deployment,
            "sha256": self._bundle.sha256,
            "uptime_s": round(time.monotonic() - self._started, 1),
            "predictions": state.written + state.pending + state.lost,
            "server_pid": os.getppid(),
            "worker_pid": os.getpid(),
            "prediction_log": {
                "written": state.written,
                "pending": state.pending,
                "lost": state.lost,
                "error": state.error,
                "files_waiting": backlog(self._service.spool),
            },
        }
        return json_answer(health)

    def _predict(self, scope: Scope, body: bytes) -> Answer:
        at = time.time()
        try:
            batch = self._reader.read(body, scope.headers.get(KEY_HEADER))
            ids, scores = self._score(batch, at)
        except RequestError as error:
            raise refusal_of(error) from error
        if self._single:
            predictions = [{"score": score, "prediction_id": id_} for id_, score in zip(ids, scores, strict=True)]
        else:
            predictions = [{**told, "prediction_id": id_} for id_, told in zip(ids, scores, strict=True)]
        return Answer(200, JSON_HEADERS, b'{"predictions":%s%s' % (orjson.dumps(predictions), self._tail))

    def _invocations(self, scope: Scope, body: bytes) -> Answer:
        at = time.time()
        refuse_content_type(scope.headers.get("content-type"))
        try:
            batch = read_invocation(body, self._bundle.signature, self._service.limits)
            ids, scores = self._score(batch, at)
        except RequestError as error:
            raise refusal_of(error) from error
        # `prediction_ids` is ours; MLflow's clients read `predictions` only.
        predictions = [{"score": score} for score in scores] if self._single else scores
        return Answer(200, JSON_HEADERS, orjson.dumps({"predictions": predictions, "prediction_ids": ids}))

    def _score(self, batch: Batch, at: float) -> tuple[list[str], list[Any]]:
        """Ids of the rows, and their scores, or their answers where a score is several numbers; logged before anybody

        is answered. `at`: when the body was there.
        """
        if not batch.rows:
            return [], []
        scores: list[Any] = self._scorer.score_rows(batch.rows)
        if not all(map(isfinite if self._single else is_finite, scores)):
            row = next(i for i, score in enumerate(scores) if not is_finite(score))
            raise RequestError("the model gives no finite score for these values; is one of them huge?", row=row)
        ids = self._ids.take(len(scores))
        told = None if self._single else [answer(self._task, score) for score in scores]
        latency_us = max(0, round((time.time() - at) * 1e6))
        if told is None:
            self._spool.append(Scored(ids, batch.logged, scores, batch.keys, at, latency_us))
            return ids, scores
        single = [headline(self._task, score) for score in scores]
        self._spool.append(Scored(ids, batch.logged, single, batch.keys, at, latency_us, told))
        return ids, told


async def read_body(protocol: HTTPProtocol, length: int | None, limit: int) -> bytes:
    """The body, of the announced `length` or of unknown length. Raises `Refusal` (413) beyond `limit` bytes.

    A refused body is still read, within reason: who is still sending when the connection closes sees a broken pipe
    instead of the answer.
    """
    if length is not None and length <= limit:
        return await protocol()
    parts: list[bytes] = []
    size = 0
    async for part in protocol:
        size += len(part)
        if length is None and size <= limit:
            parts.append(part)
        elif size > limit + _READ_OVER:
            break
    if (length or size) > limit:
        raise Refusal(413, f"the body is longer than the {limit:,} bytes allowed", hint="send the rows in parts")
    return b"".join(parts)
