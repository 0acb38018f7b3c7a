"""What the application answers, logs and says of itself for models of every task."""

from __future__ import annotations

import asyncio
import base64
import io
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import numpy as np
import pytest
from PIL import Image

from tests.unit.serving.client import Reply
from tests.unit.serving.conftest import ROW, SIGNATURE, graph_of, make_bundle
from trunkline.ledger.ledger import Ledger
from trunkline.ledger.schema import TABLES
from trunkline.models.answer import answer, columns, headline, numbers
from trunkline.models.bundle import Bundle
from trunkline.models.encoder import EncodedColumn, Encoder
from trunkline.models.runtime import Scorer
from trunkline.models.signature import Field, Signature
from trunkline.models.task import Task
from trunkline.serving.answers import Refusal
from trunkline.serving.app import Application, Service
from trunkline.serving.requests import Limits, RequestReader
from trunkline.serving.spool import drain
from trunkline.warehouse.duckdb import open_duckdb
from trunkline.warehouse.relation import Relation

TASKS = [
    Task(),
    Task("multiclass", classes=("it's", 'a "b"', "é <c>")),
    Task("regression"),
    Task("quantile", quantiles=(0.025, 0.5, 0.9)),
    Task("custom", outputs=2),
]
ROWS = [
    {**ROW, "distance": distance, "carrier": carrier} for distance, carrier in ((0, "UA"), (900, None), (2400, "?"))
]


class Asked:
    """The application behind RSGI, without a network: a request in, a reply out."""

    def __init__(self, bundle: Bundle, spool: Path) -> None:
        self.bundle, self.spool = bundle, spool
        self.application = Application.load(Service(bundle.path, "models:/m/7", "m", spool))

    def __call__(self, method: str, path: str, body: Any = None) -> Reply:
        sent = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        scope: Any = SimpleNamespace(method=method, path=path, headers={"content-length": str(len(sent))})
        protocol = _Protocol(sent)
        asyncio.run(self.application.__rsgi__(scope, protocol))
        return protocol.replies[0]


class _Protocol:
    def __init__(self, body: bytes) -> None:
        self.body = body
        self.replies: list[Reply] = []

    async def __call__(self) -> bytes:
        return self.body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self.body

    def response_bytes(self, status: int, headers: list[tuple[str, str]], body: bytes, /) -> None:
        self.replies.append(Reply(status, dict(headers), body))


@pytest.fixture(scope="module", params=TASKS, ids=lambda task: task.kind)
def ask(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    place = tmp_path_factory.mktemp(request.param.kind)
    asked = Asked(make_bundle(place / "bundle", replace(SIGNATURE, task=request.param)), place / "spool")
    yield asked
    unused: Any = None
    asked.application.__rsgi_del__(unused)


def expected(ask: Asked, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What a row's answer should be, from the scores alone."""
    task = ask.bundle.signature.task
    return [answer(task, score) for score in Scorer(ask.bundle).score_rows(rows)]


def test_predictions_are_the_scores_in_the_shape_of_the_task(ask: Asked) -> None:
    told = ask("POST", "/predict", {"rows": ROWS}).json["predictions"]
    ids = [one.pop("prediction_id") for one in told]
    assert told == expected(ask, ROWS)
    assert ids == sorted(set(ids))
    (one,) = ask("POST", "/predict", ROWS[1]).json["predictions"]
    assert {**one, "prediction_id": ""} == {**told[1], "prediction_id": ""}
    assert ask("POST", "/predict", {"rows": []}).json["predictions"] == []


def test_the_shapes_are_those_that_are_documented() -> None:
    plain, classes, value, spread, several = TASKS
    assert answer(plain, 0.25) == answer(value, 0.25) == {"score": 0.25}
    found = answer(classes, [0.2, 0.5, 0.3])
    assert found == {"class": 'a "b"', "probabilities": {"it's": 0.2, 'a "b"': 0.5, "é <c>": 0.3}}
    assert answer(spread, [1.0, 2.0, 3.0]) == {"q2.5": 1.0, "q50": 2.0, "q90": 3.0}
    assert answer(several, [1.0, 2.0]) == {"scores": [1.0, 2.0]}


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.kind)
def test_numbers_are_read_back_from_an_answer(task: Task) -> None:
    score = 0.25 if task.width is None else [0.25, 0.5, 0.75][: task.width]
    assert numbers(task, answer(task, score)) == ((score,) if task.width is None else tuple(score))
    with pytest.raises((KeyError, TypeError, ValueError)):
        numbers(task, {"other": 1})


@pytest.mark.parametrize("shape", ["dataframe_split", "dataframe_records", "inputs", "instances"])
def test_mlflows_protocol_answers_the_same(ask: Asked, shape: str) -> None:
    given: Any = {
        "dataframe_split": {"columns": [*ROW], "data": [[*row.values()] for row in ROWS]},
        "dataframe_records": ROWS,
        "inputs": {name: [row[name] for row in ROWS] for name in ROW},
        "instances": ROWS,
    }[shape]
    found = ask("POST", "/invocations", {shape: given}).json
    assert found["predictions"] == expected(ask, ROWS)
    assert len(found["prediction_ids"]) == 3


def test_the_document_is_true_of_requests_and_answers(ask: Asked) -> None:
    document = ask("GET", "/openapi.json").json

    def check(reply: Reply, path: str) -> None:
        responses = document["paths"][path]["post"]["responses"]
        schema = responses[str(reply.status)]["content"]["application/json"]["schema"]
        whole = {**schema, "components": document["components"]}
        jsonschema.validate(reply.json, whole, jsonschema.Draft202012Validator)

    for body in ({"rows": ROWS}, ROW, {}):
        check(ask("POST", "/predict", body), "/predict")
    check(ask("POST", "/invocations", {"instances": ROWS}), "/invocations")
    predictions = document["components"]["schemas"]["Predictions"]["properties"]["predictions"]["items"]
    (told,) = ask("POST", "/predict", ROW).json["predictions"]
    assert predictions["required"] == [*told]
    for name in told:
        less = {key: value for key, value in told.items() if key != name}
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(less, predictions, jsonschema.Draft202012Validator)
    kind = ask.bundle.signature.task.kind
    says = {"binary": "probability of", "multiclass": "class of", "regression": "value of", "quantile": "quantiles of"}
    assert says.get(kind, "several numbers for") in document["info"]["description"]
    assert says.get(kind, "several numbers for").encode() in ask("GET", "/docs").body


def test_what_was_answered_reaches_the_ledger(ask: Asked, tmp_path: Path) -> None:
    task = ask.bundle.signature.task
    told = ask("POST", "/predict", {"rows": ROWS, "keys": ["a", "b", "c"]}).json["predictions"]
    ids = [one.pop("prediction_id") for one in told]
    ask.application._spool.close()  # as at the end of a worker: everything is on disk
    warehouse = open_duckdb({"path": "local.duckdb"}, tmp_path)
    older = [column for column in TABLES["predictions"] if column[0] != "answer"]
    warehouse.create(Relation("trunkline", "predictions"), older)  # of a ledger before there were answers
    ledger = Ledger(warehouse)
    assert drain(ask.spool, ledger.add_predictions) >= 3
    rows = {row["prediction_id"]: row for row in ledger.read("predictions")}
    warehouse.close()
    kept = [rows[id_] for id_ in ids]
    assert [row["key"] for row in kept] == ["a", "b", "c"]
    assert [row["row"] for row in kept] == ROWS
    scores = Scorer(ask.bundle).score_rows(ROWS)
    assert [row["score"] for row in kept] == [headline(task, score) for score in scores]
    single = task.kind in ("binary", "regression")
    assert [row["answer"] for row in kept] == ([None] * 3 if single else told)


WIDE = Signature(
    (
        Field("x", "number", example=1.0),
        Field("v", "vector", shape=(3,), example=(1.0, None, 2.0)),
        Field("p", "image", shape=(1, 2, 1)),
    ),
    target="y",
    task=TASKS[1],
)


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    """A model of a number, a vector and an image of two grey pixels: its score has their sum in it."""
    place = tmp_path_factory.mktemp("wide")
    columns = [EncodedColumn("x", "number"), EncodedColumn("v", "vector", shape=(3,))]
    encoder = Encoder([*columns, EncodedColumn("p", "image", shape=(1, 2, 1))], {})
    bundle = Bundle.write(
        place / "bundle", signature=WIDE, encoder=encoder, onnx=graph_of(encoder.width, WIDE.task), metadata={}
    )
    asked = Asked(bundle, place / "spool")
    yield asked
    unused: Any = None
    asked.application.__rsgi_del__(unused)


def picture(*pixels: int) -> str:
    """A PNG of one line of grey pixels, in base64."""
    out = io.BytesIO()
    Image.fromarray(np.array([pixels], np.uint8)).save(out, "PNG")
    return base64.b64encode(out.getvalue()).decode()


def test_vectors_and_images_are_taken_and_scored(wide: Asked) -> None:
    rows = [
        {"x": 1000.0, "v": [500.0, None, 500], "p": picture(0, 255)},
        {"x": None, "v": [1.5], "p": picture(255, 255)},
        {"x": 2, "v": None, "p": None},
    ]
    told = wide("POST", "/predict", {"rows": rows}).json["predictions"]
    sums = np.array([2001.0, 3.5, 2.0]) / 1000  # missing is 0, white is 1
    near = np.exp(-np.square(sums[:, None] - np.arange(3)))
    expected = near / near.sum(axis=1, keepdims=True)
    found = [[*one["probabilities"].values()] for one in told]
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    columns = {name: [row[name] for row in rows] for name in ("x", "v", "p")}
    for given in ({"instances": rows}, {"inputs": columns}):
        predictions = wide("POST", "/invocations", given).json["predictions"]
        assert predictions == [{key: value for key, value in one.items() if key != "prediction_id"} for one in told]
    (one,) = wide("POST", "/invocations", {"inputs": rows[0]}).json["predictions"]  # one row: its vector is no column
    assert one["class"] == told[0]["class"]


@pytest.mark.parametrize(
    ("change", "field", "says"),
    [
        ({"v": [1, 2, 3, 4]}, "v", "has 4 numbers; the model takes 3 at most"),
        ({"v": ["1"]}, "v", "must be a number, not '1'"),
        ({"v": 1}, "v", "must be a list of numbers, not 1"),
        ({"p": "no base64"}, "p", ""),
        ({"p": picture(1, 2, 3)}, "p", ""),
    ],
)
def test_what_is_no_vector_and_no_image_is_422_and_named(wide: Asked, change: Any, field: str, says: str) -> None:
    row = {"x": 1, "v": [1, 2], "p": picture(0, 0)}
    reply = wide("POST", "/predict", {"rows": [row, {**row, **change}]})
    assert (reply.status, reply.json["field"], reply.json["row"]) == (422, field, 1), reply.body
    assert says in reply.json["error"]


def test_the_document_knows_vectors_and_images(wide: Asked) -> None:
    row = wide("GET", "/openapi.json").json["components"]["schemas"]["Row"]["properties"]
    assert (row["v"]["maxItems"], row["p"]["contentEncoding"]) == (3, "base64")
    for value, fits in (([1, None], True), ([1] * 4, False), ([True], False), (None, True)):
        checked = jsonschema.Draft202012Validator(row["v"]).is_valid(value)
        assert checked is fits, value
    page = wide("GET", "/docs").body.decode()
    assert 'value="[1.0, null, 2.0]"' in page
    assert '["v", "vector"]' in page


def test_many_rows_with_vectors_are_not_too_many(wide: Asked) -> None:
    limit = Limits(rows=50)
    reader = RequestReader(WIDE, limit)
    row = {"x": 1, "v": [1], "p": None}
    assert len(reader.read(json.dumps({"rows": [row] * 50}).encode()).rows) == 50
    with pytest.raises(Refusal, match="51 rows in one request"):
        reader.read(json.dumps({"rows": [row] * 51}).encode())


def test_columns_of_a_table_are_those_that_are_documented() -> None:
    assert [columns(task) for task in TASKS] == [
        (("score", "DOUBLE"),),
        (("score", "DOUBLE"), ("class", "VARCHAR"), ("probabilities", "DOUBLE[]")),
        (("score", "DOUBLE"),),
        (("q2.5", "DOUBLE"), ("q50", "DOUBLE"), ("q90", "DOUBLE")),
        (("scores", "DOUBLE[]"),),
    ]
