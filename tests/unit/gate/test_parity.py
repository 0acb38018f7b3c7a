"""HTTP answers, and the warehouse's scores, against offline scores."""

from __future__ import annotations

import json

import numpy as np
import pytest

from trunkline.gate import wire
from trunkline.gate.evidence import CounterExample, Parity
from trunkline.gate.parity import compare
from trunkline.gate.report_proof import parity_lines

ROWS = [{"distance": i} for i in range(4)]


def test_equal_answers_do_not_differ() -> None:
    found = compare(ROWS, [0.1, 0.2, 0.3, 0.4], {"http": [0.1, 0.2 + 9e-7, 0.3, 0.4]})
    assert (found.rows, found.differ, found.example) == (4, 0, None)
    assert found.largest == pytest.approx(9e-7)


def test_the_first_difference_is_the_example() -> None:
    found = compare(ROWS, [0.1, 0.2, 0.3, 0.4], {"http": [0.1, 0.21, 0.3, 0.5]})
    assert (found.differ, found.largest) == (2, pytest.approx(0.1))
    assert found.example == CounterExample({"distance": 1}, 0.2, 0.21)


def test_no_number_differs_from_every_number() -> None:
    nan = float("nan")
    found = compare(ROWS, [nan, nan, 0.3, 0.4], {"http": [nan, 0.2, float("inf"), 0.5]})
    assert (found.differ, found.not_finite, found.largest) == (4, 3, pytest.approx(0.1))


def test_one_answer_a_row() -> None:
    with pytest.raises(ValueError, match="shorter"):
        compare(ROWS, [0.1, 0.2, 0.3, 0.4], {"http": [0.1, 0.2, 0.3]})


def test_one_way_that_differs_is_enough() -> None:
    offline = [0.1, 0.2, 0.3, 0.4]
    found = compare(ROWS, offline, {"http": offline, "warehouse": [0.1, 0.2, 0.35, 0.4]}, left_out="")
    assert (found.differ, found.ways) == (1, ("http", "warehouse"))
    assert found.example == CounterExample({"distance": 2}, 0.3, 0.3, 0.35)


def test_numbers_differ_by_a_share_of_their_size() -> None:
    offline = np.array([[1e6, 2.0], [2e6, 3.0]])
    near, far = offline * (1 + 1e-6), offline * (1 + 1e-4)
    rows = ROWS[:2]
    assert compare(rows, offline, {"warehouse": near}, probabilities=False).differ == 0
    found = compare(rows, offline, {"warehouse": far}, probabilities=False)
    assert found.differ == 2
    assert found.example == CounterExample({"distance": 0}, (1e6, 2.0), None, tuple(far[0]))


def test_a_score_that_is_no_number_is_not_one_that_nobody_asked_for() -> None:
    """In JSON both would be null."""
    nan = float("nan")
    found = compare(ROWS, [0.1, 0.2, 0.3, 0.4], {"warehouse": [0.1, nan, nan, 0.4]})
    again = wire.record(Parity, json.loads(json.dumps(wire.plain(found), allow_nan=False)))
    assert (again.differ, again.not_finite, again.largest) == (2, 2, 0.0)
    text = "\n".join(parity_lines(again, 10))
    assert "First difference: offline `0.2`, warehouse `nan`, for this row:" in text
    assert "largest difference 0, and in 2 rows one is no number" in text


def test_long_values_are_cut() -> None:
    image = [[[place, 0, 0] for place in range(64)]] * 64
    row = {"text": "x" * 30_000, "image": image, "id": 2**60, "few": [1.5, None, True], "x" * 30_000: 1}
    found = compare([row], [0.1], {"http": [0.9]}).example
    assert found is not None
    cut = found.row
    assert str(cut["text"]).endswith("x… 29,000 characters more")
    assert (cut["id"], cut["few"]) == (str(2**60), [1.5, None, True])
    assert len(json.dumps(cut)) < 20_000
    assert wire.record(CounterExample, json.loads(json.dumps(wire.plain(found)))) == found
