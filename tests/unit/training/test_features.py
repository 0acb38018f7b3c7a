"""Encoding of the parts, and what cannot be trained on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests.unit.training.conftest import SCHEMA, streamed, table
from trunkline.datasets.batches import Order
from trunkline.errors import DatasetError, TrainingError
from trunkline.estimators import MLP, LightGBM
from trunkline.models.signature import Signature
from trunkline.training.features import prepare
from trunkline.training.metrics import roc_auc
from trunkline.training.protocol import FitContext, Streamed, TrainingData

SIGNATURE = Signature.from_schema(SCHEMA, target="late")
TRAIN, VALIDATION = table(200, 1), table(100, 2)


def with_target(values: list[Any]) -> pa.Table:
    """The training part with another target."""
    return TRAIN.set_column(TRAIN.column_names.index("late"), "late", pa.array(values))


def test_both_parts_are_encoded_by_what_training_showed(data: TrainingData) -> None:
    assert data.train.x.shape == (6_000, 6)
    assert data.validation.x.dtype == data.validation.y.dtype == np.float32
    assert set(np.unique(data.train.y)) == {0.0, 1.0}
    assert data.encoder.columns[2].cardinality == 13  # twelve carriers; the thirteenth came later
    assert (data.validation.x[:, 2] == 0).mean() > 0.08


def test_examples_are_a_real_row(data: TrainingData) -> None:
    example = {field.name: field.example for field in data.signature.inputs}
    assert None not in example.values()
    data.signature.check_rows([example])
    names = data.signature.names
    assert data.encoder.encode_rows([example])[0].tolist() in data.train.x[:1_000, : len(names)].tolist()


def test_select_needs_no_second_encoding(data: TrainingData) -> None:
    part = data.select(["carrier", "delay"])
    np.testing.assert_array_equal(part.train.x, data.train.x[:, [2, 1]])
    assert part.encoder.names == part.signature.names == ("carrier", "delay")
    assert part.train.x.flags.c_contiguous
    with pytest.raises(DatasetError, match="Did you mean 'carrier'"):
        data.select(["carier"])


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ([None, True] * 100, DatasetError, "'late' is null in 100 of 200 rows of the training part"),
        ([True] * 200, TrainingError, "'late' is 1 in every row of the training part"),
        ([0, 2] * 100, DatasetError, "must be 0 or 1, but has the value 2"),
        (["yes", "no"] * 100, DatasetError, "has type string"),
    ],
)
def test_a_target_that_cannot_be_learned_is_refused(values: list[Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        prepare(with_target(values), VALIDATION, SIGNATURE)


def test_an_integer_target_will_do() -> None:
    assert prepare(with_target([0, 1] * 100), VALIDATION, SIGNATURE).train.y.mean() == 0.5


def test_a_part_without_rows_or_target_is_named() -> None:
    with pytest.raises(DatasetError, match="the validation part has no rows"):
        prepare(TRAIN, VALIDATION.slice(0, 0), SIGNATURE)
    with pytest.raises(DatasetError, match="no target column 'late'"):
        prepare(TRAIN.drop_columns(["late"]), VALIDATION, SIGNATURE)


def test_an_unknown_metric_is_named() -> None:
    with pytest.raises(TrainingError, match=r"no metric 'roc_acu'\. Did you mean 'roc_auc'"):
        prepare(TRAIN, VALIDATION, SIGNATURE, metric="roc_acu")


def test_a_part_that_does_not_fit_is_streamed(data: TrainingData) -> None:
    part = streamed()
    assert isinstance(part.train, Streamed)
    assert part.encoder.to_json() == data.encoder.to_json()
    np.testing.assert_array_equal(part.train.y, data.train.y)
    np.testing.assert_array_equal(part.validation.x, data.validation.x)
    assert part.train.missing == data.train.missing == (False, True, False, False, True, False)
    few = part.select(["delay", "carrier"])
    assert few.train.missing == (True, False)
    assert sum(len(batch.y) for batch in few.train.batches(Order(512))) == len(data.train)
    with pytest.raises(TrainingError, match=r"needs the training part in memory: 6,000 rows x 6 features"):
        LightGBM().fit(part, FitContext(seed=1, threads=1, report=lambda step, value: None))


def test_a_network_learns_from_a_stream() -> None:
    part = streamed()
    network = MLP(width=32, epochs=3, batch_size=256, lr=5e-3)
    told: list[float] = []
    fitted = network.fit(part, FitContext(seed=1, threads=1, report=lambda step, value: told.append(value)))
    assert roc_auc(part.validation.y, fitted.predict(part.validation.x)) >= max(told) - 1e-9 > 0.82
