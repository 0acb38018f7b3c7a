"""MLflow's scoring protocol: all its ways to say the same rows, and its way to say no."""

from __future__ import annotations

import json
from typing import Any

import pytest

from trunkline.errors import RequestError
from trunkline.models.signature import Field, Signature
from trunkline.serving.answers import Refusal
from trunkline.serving.invocations import mlflow_answer, read_invocation, refuse_content_type
from trunkline.serving.requests import Limits

SIGNATURE = Signature(inputs=(Field("a", "number"), Field("b", "category")), target="t")
ROWS: list[dict[str, Any]] = [{"a": 1, "b": "x"}, {"a": None, "b": "y"}]


def read(document: Any, limits: Limits | None = None) -> list[dict[str, object]]:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return [dict(row) for row in read_invocation(body, SIGNATURE, limits or Limits()).rows]


@pytest.mark.parametrize(
    "document",
    [
        {"dataframe_split": {"columns": ["b", "a"], "data": [["x", 1], ["y", None]], "index": [0, 1]}},
        {"dataframe_split": {"data": [[1, "x"], [None, "y"]]}},
        {"dataframe_records": ROWS},
        {"dataframe_records": [{**row, "unknown": 3} for row in ROWS]},
        {"inputs": {"a": [1, None], "b": ["x", "y"]}},
        {"inputs": ROWS, "params": {}},
        {"instances": ROWS, "params": None},
        {"dataframe_split": {"columns": ["a", "b"], "data": [[1, "x"], [float("nan"), "y"]]}},
    ],
)
def test_each_format_gives_the_same_rows(document: dict[str, Any]) -> None:
    assert read(document) == ROWS


def test_plain_values_by_column_are_one_row() -> None:
    assert read({"inputs": {"a": 1, "b": "x"}}) == ROWS[:1]


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({}, "exactly one of"),
        ([], "exactly one of"),
        ({"inputs": ROWS, "instances": ROWS}, "exactly one of"),
        ({"dataframe_split": []}, "must be a dictionary"),
        ({"dataframe_split": {"columns": ["a"]}}, "must have 'data'"),
        ({"dataframe_split": {"columns": ["a", "b"], "data": [[1]]}}, "row 0"),
        ({"dataframe_split": {"columns": ["a", "a"], "data": [[1, 2]]}}, "each given once"),
        ({"dataframe_split": {"columns": [["a"], 3], "data": [[1, 2]]}}, "must be names"),
        ({"dataframe_split": {"columns": "ab", "data": [[1, 2]]}}, "must be lists"),
        ({"dataframe_records": {"a": [1], "b": ["x"]}}, "not a list of rows"),
        ({"instances": [[1, "x"]]}, "row 0 is a JSON array"),
        ({"inputs": 3}, "not a list of rows"),
        ({"inputs": {"a": [1], "b": []}}, "different lengths"),
        (b"{", "not JSON"),
        (b'{"inputs": {"a": [Infinity], "b": ["x"]}}', "not JSON"),
        (b'{"inputs": {"a": [Infinity, NaN], "b": ["x", "x"]}}', "Infinity is not a number"),
        (b'{"inputs": NaN' + b"[" * 90, "valid JSON"),
    ],
)
def test_what_is_no_invocation_is_refused_as_mlflow_does(document: Any, words: str) -> None:
    with pytest.raises(Refusal) as caught:
        read(document)
    answer = mlflow_answer(caught.value)
    body = json.loads(answer.body)
    assert (answer.status, body["error_code"], body.keys()) == (400, "BAD_REQUEST", {"error_code", "message"})
    assert words in body["message"]


@pytest.mark.parametrize(
    "document",
    [
        {"inputs": {"a": [1] * 3, "b": ["x"] * 3}},
        {"dataframe_split": {"data": [[1, "x"]] * 3}},
        {"instances": ROWS + ROWS},
    ],
)
def test_more_rows_than_allowed_are_413(document: dict[str, Any]) -> None:
    with pytest.raises(Refusal) as caught:
        read(document, Limits(rows=2))
    assert mlflow_answer(caught.value).status == 413


def test_a_missing_column_is_named() -> None:
    with pytest.raises(RequestError, match="'b' is missing"):
        read({"inputs": {"a": [1]}})


@pytest.mark.parametrize("content_type", [None, "application/json", "application/json; charset=UTF-8"])
def test_json_in_utf8_is_taken(content_type: str | None) -> None:
    refuse_content_type(content_type)


@pytest.mark.parametrize("content_type", ["text/csv", "application/json; charset=latin-1", "application/json; x=1"])
def test_other_content_is_415(content_type: str) -> None:
    with pytest.raises(Refusal) as caught:
        refuse_content_type(content_type)
    assert caught.value.status == 415
