"""MLflow's scoring protocol, so that its clients and ours are interchangeable.

A JSON object with exactly one of `dataframe_split`, `dataframe_records`, `inputs`, `instances` (and `params`, which a
model without parameters ignores), as in MLflow 3's `mlflow/pyfunc/scoring_server`. As there, a column that the model
does not know is left out, and a NaN token is a missing value.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from trunkline.models.signature import Signature
from trunkline.serving.answers import Answer, Refusal, json_answer
from trunkline.serving.requests import Batch, Limits, Row, checked_objects, parse_json, too_many_rows

FORMATS = ("dataframe_split", "dataframe_records", "inputs", "instances")
_ONE_OF = f"The input must be a JSON dictionary with exactly one of the input fields {', '.join(FORMATS)}"


def read_invocation(body: bytes, signature: Signature, limits: Limits) -> Batch:
    """The rows of `body`. Raises `RequestError` or `Refusal`."""
    document = _parse(body, limits, signature)
    if not isinstance(document, dict):
        raise Refusal(400, f"{_ONE_OF}. Received a {type(document).__name__}.")
    given = [name for name in FORMATS if name in document]
    if len(given) != 1:
        raise Refusal(400, f"{_ONE_OF}. Received dictionary with input fields: {list(document)}.")
    names = [field.name for field in signature.inputs]
    value = document[given[0]]
    rows: Sequence[Row]
    if given[0] == "dataframe_split":
        rows = _split(value, names, limits)
    elif isinstance(value, dict) and given[0] != "dataframe_records":
        rows = _from_columns(value, frozenset(f.name for f in signature.inputs if f.kind == "vector"), limits)
    else:
        rows = checked_objects(value, given[0], limits)
    known = frozenset(names)
    rows = [row if row.keys() == known else {name: row[name] for name in row if name in known} for row in rows]
    signature.check_rows(rows)
    return Batch(rows, rows)


def refuse_content_type(content_type: str | None) -> None:
    """Raises `Refusal` (415) unless the body is said to be JSON in UTF-8, or nothing is said."""
    mime, *parameters = [part.strip().lower() for part in (content_type or "application/json").split(";")]
    if mime != "application/json":
        raise Refusal(415, f"This predictor only supports the content type application/json. Got '{content_type}'.")
    if any(parameter not in ("charset=utf-8", 'charset="utf-8"', "") for parameter in parameters):
        raise Refusal(415, "The scoring server only supports UTF-8")


def mlflow_answer(refusal: Refusal) -> Answer:
    """`refusal` in MLflow's words: 422 is 400 there."""
    status = 400 if refusal.status == 422 else refusal.status
    return json_answer({"error_code": "BAD_REQUEST", "message": refusal.error}, status=status)


def _parse(body: bytes, limits: Limits, signature: Signature) -> Any:
    try:
        return parse_json(body, limits, signature)
    except Refusal:
        # MLflow's own client writes NaN for a missing number, which is not JSON.
        if b"NaN" not in body:
            raise
        return _parse_with_nan(body)


def _parse_with_nan(body: bytes) -> Any:
    try:
        return json.loads(body, parse_constant=_missing)
    except (ValueError, RecursionError) as exc:
        raise Refusal(400, f"Ensure that input is a valid JSON formatted string. Error: '{exc}'") from exc


def _missing(token: str) -> None:
    if token != "NaN":
        raise ValueError(f"{token} is not a number that a model can use")


def _split(value: object, names: Sequence[str], limits: Limits) -> list[Row]:
    if not isinstance(value, dict):
        raise Refusal(400, f"Dataframe split format must be a dictionary. Got type {type(value).__name__}.")
    if "data" not in value or value.keys() - {"columns", "data", "index"}:
        fields = f"Got {list(value)}."
        raise Refusal(400, f"Dataframe split format must have 'data' and optionally 'columns' and 'index'. {fields}")
    columns, data = value.get("columns", names), value["data"]
    if not isinstance(columns, list | tuple) or not isinstance(data, list):
        raise Refusal(400, "Dataframe split format: 'columns' and 'data' must be lists.")
    if not all(isinstance(column, str) for column in columns) or len(set(columns)) != len(columns):
        raise Refusal(400, "Dataframe split format: 'columns' must be names, each given once.")
    if len(data) > limits.rows:
        raise too_many_rows(len(data), limits)
    for index, row in enumerate(data):
        if not isinstance(row, list) or len(row) != len(columns):
            raise Refusal(400, f"Dataframe split format: row {index} is not a list of {len(columns)} values.")
    return [dict(zip(columns, row, strict=True)) for row in data]


def _from_columns(columns: dict[str, Any], vectors: frozenset[str], limits: Limits) -> list[Row]:
    """Column-wise values, `{"a": [1, 2], "b": [3, 4]}`; plain values are one row. `vectors` are lists themselves."""
    lists = {name: values if _is_column(values, name in vectors) else [values] for name, values in columns.items()}
    lengths = {len(values) for values in lists.values()}
    if len(lengths) > 1:
        raise Refusal(400, f"The columns have different lengths: { ({name: len(v) for name, v in lists.items()}) }.")
    if lengths and max(lengths) > limits.rows:
        raise too_many_rows(max(lengths), limits)
    return [dict(zip(lists, row, strict=True)) for row in zip(*lists.values(), strict=True)]


def _is_column(values: object, of_vectors: bool) -> bool:
    """Whether these are the values of several rows. A list of numbers is one vector, not many."""
    if not isinstance(values, list):
        return False
    return not of_vectors or not values or any(isinstance(value, list) for value in values)
