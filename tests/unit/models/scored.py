"""A bundle with inputs of every kind, and rows for it: nulls, unseen texts, and times on both sides of 2000."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
from onnx import numpy_helper

from tests.unit.models.test_bundle import model
from trunkline.models.bundle import Bundle
from trunkline.models.encoder import Encoder
from trunkline.models.signature import Field, Signature

SIGNATURE = Signature(
    (Field("x", "number"), Field("c", "category"), Field("b", "boolean"), Field("t", "datetime"), Field("z", "number")),
    target="y",
)


def rows(count: int) -> pa.Table:
    """`count` rows in the types of a dbt model, a fifth of the values null."""
    random = np.random.default_rng(5)
    start = datetime(1999, 6, 1)
    drawn = {
        "x": [int(value) for value in random.integers(-(2**40), 2**40, count)],
        "c": [["AA", "UA", "", "é", "New York", f"rare {i}"][i % 6] for i in random.integers(0, 600, count)],
        "b": [bool(value) for value in random.integers(0, 2, count)],
        "t": [start + timedelta(microseconds=int(value)) for value in random.integers(0, 10**14, count)],
        "z": [float(value) for value in random.normal(size=count) * 1e3],
    }
    types = {"x": pa.int64(), "c": pa.string(), "b": pa.bool_(), "t": pa.timestamp("us"), "z": pa.float64()}
    missing = {name: random.random(count) < 0.2 for name in drawn}
    return pa.table(
        {
            name: pa.array(
                [None if gone else value for value, gone in zip(values, missing[name], strict=True)], types[name]
            )
            for name, values in drawn.items()
        }
    )


def bundle_of_all_kinds(directory: Path) -> Bundle:
    """A bundle at `directory` whose score depends on every input."""
    weights = numpy_helper.from_array(np.array([1e-12, 0.3, -0.5, 1e-4, 1e-3], np.float32), "weights")
    encoder = Encoder.fit(rows(500), SIGNATURE, min_count=3)
    return Bundle.write(
        directory, signature=SIGNATURE, encoder=encoder, onnx=model(weights=weights, width=5), metadata={}
    )
