"""Differences over several seeds cover the truth as often as they say; many tests give few false alarms."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trunkline.training.experiments.contrasts import holm, pooled
from trunkline.training.metrics import Difference

Z = 1.959963984540054


def test_one_value_is_its_own_test() -> None:
    first = Difference(0.1, 0.05, 0.15, 0.0001)
    assert pooled(first, [0.1]) is first


@pytest.mark.parametrize(("of_rows", "of_seeds", "seeds"), [(1.0, 0.1, 3), (1.0, 1.0, 2), (0.1, 1.0, 3), (1.0, 1.0, 8)])
def test_an_interval_covers_the_truth_as_often_as_it_says(of_rows: float, of_seeds: float, seeds: int) -> None:
    random, covered, draws = np.random.default_rng(7), 0, 500
    for _ in range(draws):
        rows = random.normal() * of_rows  # the same rows for all seeds
        values = list(rows + random.normal(size=seeds) * of_seeds)
        made = pooled(Difference(values[0], values[0] - Z * of_rows, values[0] + Z * of_rows, 0.0), values)
        inside = made.low <= 0 <= made.high
        assert inside == (made.p >= 0.05)
        covered += inside
    assert covered / draws >= 0.93  # 0.95, and what 500 draws may lack


def test_models_that_agree_in_every_row_and_seed_are_the_same() -> None:
    assert pooled(Difference(0.0, 0.0, 0.0, 1.0), [0.0, 0.0]) == Difference(0.0, 0.0, 0.0, 1.0)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_is_what_its_definition_says(values: list[float]) -> None:
    adjusted = holm(values)
    assert len(adjusted) == len(values)
    for level in (0.01, 0.05, 0.2):
        # step down: reject the smallest as long as p(i) <= level / (m - i)
        rejected: set[int] = set()
        for rank, place in enumerate(sorted(range(len(values)), key=lambda place: values[place])):
            if values[place] * (len(values) - rank) > level:
                break
            rejected.add(place)
        assert {place for place, p in enumerate(adjusted) if p <= level} == rejected
