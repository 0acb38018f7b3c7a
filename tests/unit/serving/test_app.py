"""The real server: the right answers, and an answer to everything else."""

from __future__ import annotations

import json
import re
import socket
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest

from tests.unit.serving.client import Client
from tests.unit.serving.conftest import ROW
from trunkline.models.bundle import Bundle
from trunkline.models.runtime import Scorer
from trunkline.serving.spool import drain


def test_one_row_and_many_are_scored_like_offline(shared: Client, scorer: Scorer, bundle: Bundle) -> None:
    rows = [{**ROW, "distance": 10 * i, "carrier": c} for i, c in enumerate(["UA", "DL", "??", None])]
    expected = scorer.score_rows(rows)
    many = shared.post("/predict", {"rows": rows}).json
    assert [prediction["score"] for prediction in many["predictions"]] == expected
    assert (many["model"], many["sha256"]) == ("models:/delay/7", bundle.sha256)
    one = shared.post("/predict", rows[1]).json
    assert one["predictions"][0]["score"] == expected[1]
    ids = [prediction["prediction_id"] for answer in (many, one) for prediction in answer["predictions"]]
    assert ids == sorted(set(ids))
    assert all(uuid.UUID(text).version == 7 for text in ids)
    assert shared.post("/predict", {"rows": []}).json["predictions"] == []


def test_invocations_speak_mlflow(shared: Client, scorer: Scorer) -> None:
    (expected,) = scorer.score_rows([ROW])
    for document in ({"dataframe_records": [ROW]}, {"inputs": ROW}, {"instances": [ROW]}):
        reply = shared.post("/invocations", document, content_type="application/json")
        assert (reply.status, reply.json["predictions"]) == (200, [{"score": expected}])
    split = {"dataframe_split": {"columns": [*ROW], "data": [[*ROW.values()]]}}
    assert shared.post("/invocations", split).json["predictions"] == [{"score": expected}]
    refused: list[Any] = [{"dataframe_records": [{"distance": 1}]}, {}, []]
    for wrong in refused:
        reply = shared.post("/invocations", wrong)
        assert (reply.status, reply.json["error_code"], type(reply.json["message"])) == (400, "BAD_REQUEST", str)
    assert shared.post("/invocations", {}, content_type="text/csv").status == 415


def test_requests_at_once_get_their_own_answers(shared: Client, scorer: Scorer) -> None:
    def ask(worker: int) -> list[tuple[dict[str, object], float]]:
        rows = [{**ROW, "distance": worker * 100 + i} for i in range(40)]
        with Client(shared.url) as client:
            return [(row, client.post("/predict", row).json["predictions"][0]["score"]) for row in rows]

    def ask_for_many(worker: int) -> list[tuple[dict[str, object], float]]:
        rows = [{**ROW, "distance": worker * 1000 + i} for i in range(3000)]
        with Client(shared.url) as client:
            answer = client.post("/predict", {"rows": rows}).json
        return [(row, prediction["score"]) for row, prediction in zip(rows, answer["predictions"], strict=True)]

    with ThreadPoolExecutor(10) as pool:
        few, many = pool.map(ask, range(8)), pool.map(ask_for_many, range(2))
        pairs = [pair for answers in (*few, *many) for pair in answers]
    expected = scorer.score_rows([row for row, _ in pairs])
    assert [score for _, score in pairs] == expected


def test_what_was_answered_is_logged_with_its_key(shared: Client, shared_spool: Path) -> None:
    asked = shared.post("/predict", {"rows": [ROW, ROW], "keys": ["k:1", None]}).json["predictions"]
    asked += shared.post("/predict", ROW, x_prediction_key="k2").json["predictions"]
    split = {"dataframe_split": {"data": [[*ROW.values()]]}}
    (invoked,) = shared.post("/invocations", split).json["prediction_ids"]
    wanted = {p["prediction_id"]: p["score"] for p in asked} | {invoked: asked[0]["score"]}
    found: dict[str, dict[str, Any]] = {}
    deadline = time.monotonic() + 6

    def load(path: Path) -> int:
        records = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        found.update({record["prediction_id"]: record for record in records})
        return len(records)

    while not wanted.keys() <= found.keys() and time.monotonic() < deadline:
        drain(shared_spool, load)
        time.sleep(0.1)
    records = [found[prediction_id] for prediction_id in wanted]
    assert [record["key"] for record in records] == ["k:1", None, "k2", None]
    assert all(record["row"] == ROW and record["score"] == wanted[record["prediction_id"]] for record in records)
    assert all(0 < record["latency_us"] < 1e6 for record in records)


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        ({"distance": "far"}, "distance", "must be a number"),
        ({"distance": None}, "distance", "must not be null"),
        ({"distance": True}, "distance", "must be a number"),
        ({"carrier": 7}, "carrier", "must be text"),
        ({"rainy": "no"}, "rainy", "must be true or false"),
        ({"distence": 3}, "distence", "Did you mean 'distance'"),
    ],
)
def test_a_field_that_does_not_fit_is_422_and_named(shared: Client, changes: Any, field: str, words: str) -> None:
    reply = shared.post("/predict", {"rows": [ROW, {**ROW, **changes}]})
    assert reply.status == 422
    assert (reply.json["field"], reply.json["row"]) == (field, 1)
    assert words in reply.json["error"]


def test_a_missing_field_is_422_and_named(shared: Client) -> None:
    row = {name: value for name, value in ROW.items() if name != "dep delay"}
    reply = shared.post("/predict", row)
    assert (reply.status, reply.json["field"], reply.json["row"]) == (422, "dep delay", 0)


def test_a_number_beyond_the_model_is_answered(shared: Client) -> None:
    reply = shared.post("/predict", {"rows": [ROW, {**ROW, "distance": 1e300, "dep delay": -1e300}]})
    assert (reply.status, reply.json["row"]) == (422, 1)
    assert "finite" in reply.json["error"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"\xff\xfe{}", 400),
        (b'{"distance": NaN}', 400),
        (b'{"distance": 1e999}', 400),
        (b"[" * 50_000, 400),
        (b'{"a":' * 50_000, 400),
        (b"[" * 3_000_000, 413),
        (b'{"rows":[' + b"{}," * 100_000 + b"{}]}", 413),
        (b'{"rows":[' + b"0," * 1_000_000 + b"0]}", 413),
        (b'{"distance": ' + b"9" * 20_000 + b"}", 400),
    ],
)
@pytest.mark.parametrize("path", ["/predict", "/invocations"])
def test_hostile_bodies_get_an_answer(shared: Client, path: str, body: bytes, status: int) -> None:
    reply = shared.post(path, body)
    expected = {status, 400} if path == "/invocations" else {status}
    assert reply.status in expected
    assert "Traceback" not in reply.body.decode()
    assert shared.get("/health").status == 200


def test_a_body_over_the_limit_is_413_whether_announced_or_not(shared: Client) -> None:
    size = 16 * 1024 * 1024 + 1
    for body in (b" " * size, iter([b" " * (1 << 20)] * 17)):
        reply = shared.post("/predict", body)
        assert reply.status == 413
        assert "16,777,216" in reply.json["error"]


def test_a_chunked_body_is_read(shared: Client, scorer: Scorer) -> None:
    text = json.dumps(ROW).encode()
    reply = shared.post("/predict", iter([text[:10], text[10:]]))
    assert reply.json["predictions"][0]["score"] == scorer.score_rows([ROW])[0]


def test_broken_http_does_not_harm_the_server(shared: Client) -> None:
    host, port = shared.url.removeprefix("http://").split(":")
    for raw in (
        b"nonsense\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{",
        b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: abc\r\n\r\n{}",
        b"POST /predict HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"POST /predict HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n",
    ):
        with socket.create_connection((host, int(port)), timeout=5) as connection:
            connection.sendall(raw)
    assert shared.get("/health").json["status"] == "ok"


def test_unknown_paths_and_methods_are_told_what_there_is(shared: Client) -> None:
    reply = shared.get("/predicted?x=1")
    assert reply.status == 404
    assert "Did you mean '/predict'?" in reply.json["error"]
    assert "/invocations" in reply.json["hint"]
    for method, path, allowed in (
        ("GET", "/predict", "POST"),
        ("POST", "/health", "GET, HEAD"),
        ("PUT", "/", "GET, HEAD"),
    ):
        reply = shared.send(method, path)
        assert (reply.status, reply.headers["allow"]) == (405, allowed)


def test_pages(shared: Client, bundle: Bundle) -> None:
    assert (shared.get("/").status, shared.get("/").headers["location"]) == (307, "/docs")
    health = shared.get("/health").json
    assert (health["status"], health["deployment"], health["sha256"]) == ("ok", "delay", bundle.sha256)
    assert shared.get("/ping").status == 200
    assert re.fullmatch(rb"\d+\.\d+.*", shared.get("/version").body)
    model = shared.get("/model").json
    assert model["signature"] == json.loads(json.dumps(bundle.signature.to_json()))
    assert model["metadata"] == {"made_by": "test"}
    head = shared.send("HEAD", "/health")
    assert (head.status, head.body) == (200, b"")


def test_openapi_describes_requests_and_answers(shared: Client) -> None:
    document = shared.get("/openapi.json").json
    predict = document["paths"]["/predict"]["post"]

    def check(data: Any, schema: dict[str, Any]) -> None:
        jsonschema.validate(data, {**schema, "components": document["components"]}, jsonschema.Draft202012Validator)

    content = predict["requestBody"]["content"]["application/json"]
    for shown in content["examples"].values():
        check(shown["value"], content["schema"])
        assert shared.post("/predict", shown["value"]).status == 200
    for wrong in ({**ROW, "distance": None}, {**ROW, "more": 1}, {"rows": [ROW], "keys": [1.5]}):
        with pytest.raises(jsonschema.ValidationError):
            check(wrong, content["schema"])
        assert shared.post("/predict", wrong).status == 422
    for path, body in (("/predict", ROW), ("/predict", {}), ("/predict", b"{"), ("/invocations", {"inputs": ROW})):
        reply = shared.post(path, body)
        responses = document["paths"][path]["post"]["responses"]
        check(reply.json, responses[str(reply.status)]["content"]["application/json"]["schema"])


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.inputs: dict[str, str | None] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        if tag in ("script", "img", "iframe", "link"):
            self.loaded += [named[name] or "" for name in ("src", "href") if name in named]
        if tag == "input":
            self.inputs[named["id"] or ""] = named.get("value")


def test_the_docs_page_needs_nothing_else_and_is_filled_in(shared: Client) -> None:
    reply = shared.get("/docs")
    assert reply.headers["content-type"] == "text/html; charset=utf-8"
    page = _Links()
    page.feed(reply.body.decode())
    assert [link for link in page.loaded if not link.startswith("data:")] == []
    assert page.inputs == {"f0": "1400", "f1": "-2.5", "f2": "UA"}
    assert b"<!--" not in reply.body
