"""Bodies of `/predict`: the quick way and the thorough way say the same."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from trunkline.errors import RequestError
from trunkline.models.signature import LONGEST_TEXT, Field, Signature
from trunkline.serving.answers import Refusal
from trunkline.serving.requests import Batch, Limits, RequestReader

SIGNATURE = Signature(
    inputs=(
        Field("miles", "number", nullable=False),
        Field("dep delay", "number"),
        Field("carrier", "category"),
        Field("rainy", "boolean"),
        Field("at", "datetime"),
    ),
    target="late",
)
ROW: dict[str, Any] = {"miles": 1, "dep delay": None, "carrier": "UA", "rainy": True, "at": "2013-01-01T05:00:00"}
LIMITS = Limits(rows=50)
READER = RequestReader(SIGNATURE, LIMITS)


def outcome(read: Any) -> object:
    """What a reading comes to, in a form that can be compared."""
    try:
        batch = read()
    except RequestError as error:
        return "422", error.what, error.field, error.row
    except Refusal as refusal:
        return refusal.status, refusal.error
    if batch is None:
        return None
    return [dict(row) for row in batch.rows], list(batch.keys or [])


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**30), 10**30),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(["UA", "a:b", "2013-01-01", "x" * (LONGEST_TEXT + 1), "é\u2028"]),
    st.text(max_size=5),
    st.just([]),
    st.just({"a": 1}),
)
ROWS = st.fixed_dictionaries(
    {name: st.one_of(st.just(ROW[name]), VALUES) for name in ROW if name != "rainy"},
    optional={"rainy": VALUES, "carier": VALUES},
)


@settings(max_examples=300)
@given(
    st.one_of(
        ROWS,
        st.fixed_dictionaries(
            {"rows": st.lists(ROWS, max_size=4)},
            optional={"keys": st.lists(st.one_of(st.none(), st.text(max_size=3), st.integers()), max_size=4)},
        ),
        VALUES,
    )
)
@example({"rows": [ROW], "keys": ["a:b"]})
@example({"rows": [], "keys": None})
@example({"rows": [ROW], "key": "a"})
@example({"rows": ROW})
def test_what_the_quick_way_takes_the_thorough_way_takes_alike(document: object) -> None:
    body = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
    quick = outcome(lambda: READER._read_quick(body))
    if quick is not None:
        assert quick == outcome(lambda: READER._read_thorough(body))


@pytest.mark.parametrize(
    "body",
    [
        ROW,
        {"rows": [ROW]},
        {"rows": [ROW, {**ROW, "carrier": "a:b", "at": "2013-01-01T05:00:00+01:00"}], "keys": ["x:1", None]},
        {"keys": [7], "rows": [ROW]},
    ],
)
def test_usual_bodies_are_read_the_quick_way(body: dict[str, Any]) -> None:
    assert READER._read_quick(json.dumps(body, separators=(",", ":")).encode()) is not None


def test_keys_come_with_their_rows() -> None:
    batch = READER.read(json.dumps({"rows": [ROW, ROW, ROW], "keys": ["a", 7, None]}).encode())
    assert batch.keys == ["a", "7", None]
    assert READER.read(json.dumps(ROW).encode(), key="one").keys == ("one",)


def refused(body: bytes) -> Refusal:
    with pytest.raises(Refusal) as caught:
        READER.read(body)
    return caught.value


def text(**changes: Any) -> bytes:
    return json.dumps({**ROW, **changes}).encode()


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"", 400, "empty"),
        (b"  \n", 400, "empty"),
        (b"{", 400, "not JSON"),
        (b'{"miles": NaN}', 400, "not JSON"),
        (text().replace(b"1", b"1e999", 1), 400, "infinity"),
        (text(carrier="X").replace(b"X", b"\xff"), 400, "UTF-8"),
        (b"\xef\xbb\xbf" + text(), 400, "UTF-8 byte order mark"),
        (text() + b"{}", 400, "not JSON"),
        (b"[" * 100_000, 413, "too many rows"),
        (b'{"rows":' + b"[" * 120, 400, "not JSON"),
        (b'{"a":' * 120, 400, "not JSON"),
        (b"null", 400, "JSON null"),
        (b"[1]", 400, "JSON array"),
        (b'"x"', 400, "JSON string"),
        (b"3", 400, "JSON number"),
        (b'{"rows": {}}', 422, "'rows' is a JSON object"),
        (b'{"rows": [3]}', 422, "row 0 is a JSON number"),
        (json.dumps({"rows": [ROW] * 51}).encode(), 413, "51 rows"),
        (b'{"rows": [' + b"{}," * 50 + b"{}]}", 413, "51 rows"),
        (json.dumps({"rows": [ROW], "keys": []}).encode(), 422, "'keys' must be a list of 1"),
        (json.dumps({"rows": [ROW], "keys": [True]}).encode(), 422, "key 0 is neither"),
        (json.dumps({"rows": [ROW], "Keys": []}).encode(), 422, "unknown field 'Keys'"),
        (text().replace(b"{", b'{"miles": 2, ', 1), 422, "'miles' is given twice"),
        (b'{"rows":[' + text().replace(b"{", b'{"miles": 2, ', 1) + b"]}", 422, "'miles' is given twice"),
        (b'{"rows":[' + text() + b'],"rows":[]}', 422, "'rows' is given twice"),
    ],
)
def test_a_body_that_is_no_request_is_refused_in_words(body: bytes, status: int, words: str) -> None:
    refusal = refused(body)
    assert (refusal.status, words in refusal.error) == (status, True), refusal.error


def test_deep_nesting_that_parsers_survive_differently_is_an_answer() -> None:
    for depth in (900, 990, 1000, 1010, 1023, 1024, 1100):
        body = b'{"miles":' + b"[" * depth + b"]" * depth + b"}"
        reader = RequestReader(SIGNATURE, Limits())
        with pytest.raises((Refusal, RequestError)):
            reader.read(body)


@pytest.mark.parametrize(
    ("changes", "field"),
    [({"miles": "12"}, "miles"), ({"miles": None}, "miles"), ({"miles": True}, "miles"), ({"rainy": 1}, "rainy")],
)
def test_a_field_that_does_not_fit_is_named(changes: dict[str, Any], field: str) -> None:
    body = json.dumps({"rows": [ROW, {**ROW, **changes}]}).encode()
    with pytest.raises(RequestError) as caught:
        READER.read(body)
    assert (caught.value.field, caught.value.row) == (field, 1)


def test_an_input_may_be_called_rows_or_have_an_odd_name() -> None:
    signature = Signature(inputs=(Field("rows", "number"), Field('a "b"\\', "category")), target="t")
    reader = RequestReader(signature, LIMITS)
    row = {"rows": 3, 'a "b"\\': "x"}
    assert [dict(r) for r in reader.read(json.dumps(row).encode()).rows] == [row]
    assert [dict(r) for r in reader.read(json.dumps({"rows": [row, row]}).encode()).rows] == [row, row]


def test_what_is_logged_is_the_row_as_json() -> None:
    import msgspec

    batch: Batch = READER.read(json.dumps({"rows": [ROW]}).encode())
    assert json.loads(msgspec.json.encode(batch.logged[0])) == ROW
