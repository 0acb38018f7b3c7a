"""What a signature makes of a schema, and which requests it refuses."""

from __future__ import annotations

import json
from typing import Any

import pytest

from trunkline.errors import DatasetError, IntegrityError, RequestError
from trunkline.models.signature import LONGEST_TEXT, Field, Signature

SIGNATURE = Signature(
    inputs=(
        Field("distance", "number"),
        Field("carrier", "category"),
        Field("holiday", "boolean"),
        Field("departure", "datetime"),
        Field("seats", "number", nullable=False),
    ),
    target="late",
)
GOOD: dict[str, Any] = {
    "distance": 733.5,
    "carrier": "UA",
    "holiday": False,
    "departure": "2013-05-01T09:30:00-04:00",
    "seats": 150,
}


@pytest.mark.parametrize(
    ("type_name", "kind"),
    [
        ("BIGINT", "number"),
        ("UTINYINT", "number"),
        ("DOUBLE", "number"),
        ("DECIMAL(18,3)", "number"),
        ("VARCHAR", "category"),
        ("ENUM('a', 'b]')", "category"),
        ("BOOLEAN", "boolean"),
        ("DATE", "datetime"),
        ("TIMESTAMP", "datetime"),
        ("TIMESTAMP_NS", "datetime"),
        ("TIMESTAMP WITH TIME ZONE", "datetime"),
    ],
)
def test_kind_follows_the_type(type_name: str, kind: str) -> None:
    signature = Signature.from_schema([("x", type_name), ("late", "BOOLEAN")], target="late")
    assert [(field.name, field.kind) for field in signature.inputs] == [("x", kind)]


@pytest.mark.parametrize(
    "type_name", ["VARCHAR[]", "DOUBLE[][]", "BLOB[]", "STRUCT(a INTEGER)", "TIME", "INTERVAL", ""]
)
def test_a_type_no_model_takes_is_refused(type_name: str) -> None:
    with pytest.raises(DatasetError, match="'x' has type"):
        Signature.from_schema([("x", type_name)], target="late")


def test_a_schema_without_inputs_is_refused() -> None:
    with pytest.raises(DatasetError, match="no input columns"):
        Signature.from_schema([("late", "BOOLEAN")], target="late")


def test_json_there_and_back() -> None:
    signature = Signature.from_schema(
        [("x", "BIGINT"), ("c", "VARCHAR")], target="late", required={"x"}, examples={"c": "UA"}
    )
    assert signature.inputs == (Field("x", "number", nullable=False), Field("c", "category", example="UA"))
    assert Signature.from_json(json.loads(json.dumps(signature.to_json()))) == signature


@pytest.mark.parametrize("data", [{}, {"inputs": [{"nome": "x"}], "target": "y", "task": "binary"}])
def test_json_of_something_else_is_refused(data: dict[str, Any]) -> None:
    with pytest.raises(IntegrityError, match="does not hold a signature"):
        Signature.from_json(data)


def test_subset_keeps_the_order_it_is_given() -> None:
    assert SIGNATURE.subset(["seats", "carrier"]).names == ("seats", "carrier")
    with pytest.raises(DatasetError, match="Did you mean 'carrier'"):
        SIGNATURE.subset(["carier"])


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"distance": None, "carrier": None, "holiday": None, "departure": None},
        {"distance": 7, "departure": "2013-05-01"},
        {"departure": "2013-05-01T13:30:00Z"},
        {"carrier": "x" * LONGEST_TEXT},
    ],
)
def test_rows_that_fit(change: dict[str, Any]) -> None:
    SIGNATURE.check_rows([GOOD, GOOD | change])


@pytest.mark.parametrize(
    ("change", "field", "message"),
    [
        ({"distance": "733"}, "distance", "must be a number, not '733'"),
        ({"distance": True}, "distance", "must be a number, not True"),
        ({"distance": [1]}, "distance", "must be a number"),
        ({"carrier": 7}, "carrier", "must be text, not 7"),
        ({"carrier": "x" * (LONGEST_TEXT + 1)}, "carrier", "10001 characters long"),
        ({"holiday": 0}, "holiday", "must be true or false, not 0"),
        ({"holiday": "false"}, "holiday", "must be true or false"),
        ({"departure": "yesterday"}, "departure", "ISO 8601, not 'yesterday'"),
        ({"departure": 1367400000}, "departure", "ISO 8601"),
        ({"seats": None}, "seats", "must not be null"),
        ({"sets": 150}, "sets", "no input of the model. Did you mean 'seats'"),
    ],
)
def test_a_value_that_does_not_fit_is_named(change: dict[str, Any], field: str, message: str) -> None:
    with pytest.raises(RequestError, match=message) as caught:
        SIGNATURE.check_rows([GOOD, GOOD | change])
    assert (caught.value.field, caught.value.row) == (field, 1)


def test_a_missing_field_is_named_with_what_was_sent_instead() -> None:
    row = {("distanse" if name == "distance" else name): value for name, value in GOOD.items()}
    with pytest.raises(RequestError, match=r"'distance' is missing in row 0. Is it 'distanse'\?") as caught:
        SIGNATURE.check_rows([row])
    assert (caught.value.field, caught.value.row) == ("distance", 0)


@pytest.mark.parametrize("row", [[1, 2], None, 7, "distance"])
def test_a_row_must_be_an_object(row: Any) -> None:
    with pytest.raises(RequestError, match="row 0 must be an object"):
        SIGNATURE.check_rows([row])
