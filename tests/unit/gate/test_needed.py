"""How many rows would decide: by the root of the rows, by the rows themselves, and by Tango's interval."""

from __future__ import annotations

import numpy as np
import pytest

from trunkline.gate.evidence import Loss
from trunkline.gate.intervals import Measured
from trunkline.gate.needed import rows_needed
from trunkline.gate.policy import Goal
from trunkline.gate.shares import share_loss


def test_a_limit_closes_in_with_the_root_of_the_rows() -> None:
    assert rows_needed(Loss(0.001, -0.004, 0.006, -0.003, 0.005), 0.003, 1_000) == pytest.approx(4_000)
    assert rows_needed(Loss(0.005, 0.0, 0.010, 0.001, 0.009), 0.003, 1_000) == pytest.approx(4_000)
    assert rows_needed(Loss(0.003, 0.0, 0.006, 0.001, 0.005), 0.003, 1_000) is None


def test_where_nothing_varies_it_closes_in_with_the_rows() -> None:
    def loss(rows: int) -> Loss:
        return Measured(0.5, np.full(rows, 0.5)).loss(Measured(0.5, np.full(rows, 0.5)), "higher")

    needed = rows_needed(loss(100), 0.001, 100)
    assert needed == pytest.approx(2_996, abs=1)
    assert loss(round(needed)).at_most <= 0.001 < loss(2_950).at_most


def test_what_varies_and_what_was_not_seen_close_in_each_by_its_law() -> None:
    needed = rows_needed(Loss(0.0, -0.06, 0.06, -0.05, 0.05, unseen=0.03), 0.02, 1_000)
    assert needed is not None
    times = needed / 1_000
    assert np.hypot(0.04 / times**0.5, 0.03 / times) == pytest.approx(0.02)


@pytest.mark.parametrize(
    ("shares", "goal", "bound"),
    [((0.9, 0.0, 0.0), "higher", 0.001), ((0.8, 0.02, 0.04), "higher", 0.03), ((0.8, 0.01, 0.05), 0.9, 0.07)],
)
def test_shares_are_decided_by_their_own_interval(shares: tuple[float, float, float], goal: Goal, bound: float) -> None:
    def loss(rows: int) -> Loss:
        both, one, other = (round(share * rows) for share in shares)
        rest = rows - both - one - other
        columns = np.repeat([[1.0, 1.0], [1.0, 0.0], [0.0, 1.0], [0.0, 0.0]], [both, one, other, rest], axis=0).T
        return share_loss(columns[0], columns[1], goal)

    found = loss(200)
    needed = rows_needed(found, bound, 200, goal)
    assert needed is not None
    assert found.at_most > bound
    assert loss(round(needed * 1.02)).at_most <= bound < loss(round(needed * 0.9)).at_most
