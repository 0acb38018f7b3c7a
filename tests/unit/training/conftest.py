"""Synthetic data with every kind of column, missing values, and categories that validation alone has."""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest

from trunkline.models.signature import Signature
from trunkline.training.features import prepare
from trunkline.training.protocol import TrainingData

SCHEMA = [
    ("distance", "DOUBLE"),
    ("delay", "DOUBLE"),
    ("carrier", "VARCHAR"),
    ("tail", "VARCHAR"),
    ("holiday", "BOOLEAN"),
    ("departure", "TIMESTAMP"),
    ("late", "BOOLEAN"),
]


def table(rows: int, seed: int, *, new: bool = False) -> pa.Table:
    """`rows` flights; with `new`, some are of carriers that other tables lack."""
    random = np.random.default_rng(seed)
    carrier = random.integers(0, 12, rows)
    distance, delay = random.gamma(2, 400, rows), random.normal(size=rows)
    holiday = random.random(rows) < 0.2
    names = np.array([f"C{index}" for index in range(12)])[carrier]
    if new:
        names = np.where(random.random(rows) < 0.05, "NEW", names)
    effect = np.sin(carrier * 2.0)
    late = effect + delay + 0.5 * holiday + random.normal(size=rows) > 1.0
    hours = random.integers(0, 24 * 300, rows)
    return pa.table(
        {
            "distance": pa.array(distance),
            "delay": pa.array(delay, mask=random.random(rows) < 0.1),
            "carrier": pa.array(names, mask=random.random(rows) < 0.05),
            "tail": pa.array([f"N{index}" for index in random.integers(0, 400, rows)]),
            "holiday": pa.array(holiday, mask=random.random(rows) < 0.02),
            "departure": pa.array([datetime(2013, 1, 1) + timedelta(hours=int(hour)) for hour in hours]),
            "late": pa.array(late),
        }
    )


@pytest.fixture(scope="session")
def data() -> TrainingData:
    """6,000 rows to train on, 3,000 to validate on."""
    signature = Signature.from_schema(SCHEMA, target="late")
    return prepare(table(6_000, 1), table(3_000, 2, new=True), signature, min_count=5)


def streamed() -> TrainingData:
    """The same rows where a hundred kilobytes may be used: the training part does not fit."""
    signature = Signature.from_schema(SCHEMA, target="late")
    return prepare(table(6_000, 1), table(3_000, 2, new=True), signature, min_count=5, memory=100_000)
