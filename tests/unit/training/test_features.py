"""Encoding of the parts, and what cannot be trained on."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.unit.training.conftest import SCHEMA, streamed, table
from trunkline.datasets.batches import Order
from trunkline.datasets.feed import OpenPart
from trunkline.errors import DatasetError, TrainingError
from trunkline.estimators import MLP, LightGBM
from trunkline.models.images import grey
from trunkline.models.signature import Signature
from trunkline.models.task import DEFAULT_METRICS, Task
from trunkline.training.features import Learned, learn, prepare, rows_of
from trunkline.training.goals import target_of
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


def test_lists_and_images_have_shapes_and_examples_and_may_be_required() -> None:
    picture = base64.b64decode(grey((2, 3, 1)))
    wide = {
        "whole": [[1.0, 2.0, float(row)] for row in range(200)],
        "ragged": [[1.0] * (row % 4) for row in range(200)],
        "picture": [picture] * 200,
        "rare": [None if row == 7 else picture for row in range(200)],
    }
    types = {"whole": "DOUBLE[]", "ragged": "FLOAT[]", "picture": "BLOB", "rare": "BLOB", "distance": "DOUBLE"}
    train, held_out = (part.select(["distance", "late"]) for part in (TRAIN, VALIDATION))
    for name, values in wide.items():
        train = train.append_column(name, pa.array(values))
        held_out = held_out.append_column(name, pa.array(values[:100]))
    data = prepare(train, held_out, Signature.from_schema([*types.items(), ("late", "BOOLEAN")], target="late"))
    fields = {field.name: field for field in data.signature.inputs}
    assert {name: (field.shape, field.nullable) for name, field in fields.items()} == {
        "whole": ((3,), False), "ragged": ((3,), True), "picture": ((2, 3, 1), False), "rare": ((2, 3, 1), True),
        "distance": ((), True),
    }  # fmt: skip
    example = {name: field.example for name, field in fields.items()}
    data.signature.check_rows([example])
    assert data.encoder.encode_rows([example]).shape == (1, 19)
    assert data.train.missing == (*[False] * 3, *[True] * 3, *[False] * 6, *[True] * 6, False)
    few = data.select(["distance", "ragged"])
    np.testing.assert_array_equal(few.train.x, data.train.x[:, [18, 3, 4, 5]])
    assert few.train.missing == (False, True, True, True)
    streamed_part = prepare(train, held_out, replace(data.signature), memory=1_000)
    assert isinstance(streamed_part.train, Streamed)
    picked = streamed_part.select(["distance", "ragged"])
    found = np.concatenate([batch.x for batch in picked.train.batches(Order(64, shuffle=False))])
    np.testing.assert_array_equal(found, few.train.x)


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
        (
            [0, 1, 2, 1] * 50,
            DatasetError,
            "must be 0 or 1, or have two values; in the training part it has '0', '1', '2'",
        ),
        ([0.0, 0.5] * 100, DatasetError, "must be 0 or 1, or have two values; in the training part it has '0', '0.5'"),
        ([b"yes", b"no"] * 100, DatasetError, "has type binary"),
    ],
)
def test_a_target_that_cannot_be_learned_is_refused(values: list[Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        prepare(with_target(values), VALIDATION, SIGNATURE)


@pytest.mark.parametrize("kind", [pa.int64(), pa.float64(), pa.bool_(), pa.decimal128(9, 2)], ids=str)
def test_a_target_of_zeros_and_ones_needs_no_classes(kind: pa.DataType) -> None:
    held_out = VALIDATION.set_column(6, "late", pa.array([1.0, 0.0] * 50).cast(kind))
    data = prepare(TRAIN.set_column(6, "late", pa.array([0.0, 1.0] * 100).cast(kind)), held_out, SIGNATURE)
    assert data.train.y.tolist() == [0, 1] * 100
    assert data.task == Task()


# -- other tasks


def learned(task: Task, train: pa.Array, validation: pa.Array | None = None, **settings: Any) -> TrainingData:
    """Data with that target; the validation part's is the training part's first half, if not given."""
    held_out = train.slice(0, len(VALIDATION)) if validation is None else validation
    return prepare(
        TRAIN.set_column(6, "late", train),
        VALIDATION.set_column(6, "late", held_out),
        replace(SIGNATURE, task=task),
        **settings,
    )


@pytest.mark.parametrize(
    ("values", "classes", "y"),
    [
        (pa.array(["no", "yes"] * 100), ("no", "yes"), [0, 1]),
        (pa.array([2, 1] * 100), ("1", "2"), [1, 0]),
        (pa.array(["v10", "v9", "a", "v9"] * 50), ("a", "v9", "v10"), [2, 1, 0, 1]),
        (pa.array([10, -3, 9, 9] * 50), ("-3", "9", "10"), [2, 0, 1, 1]),
        (pa.array(["b", "a", "c", "a"] * 50, pa.large_string()), ("a", "b", "c"), [1, 0, 2, 0]),
        (pa.array([True, False] * 100), ("false", "true"), [1, 0]),
    ],
    ids=["two texts", "two integers", "texts", "integers", "large strings", "booleans"],
)
def test_classes_are_learned_by_their_text_in_natural_order(values: pa.Array, classes: tuple[str, ...], y: Any) -> None:
    task = Task("multiclass") if len(classes) > 2 or classes[0] == "false" else Task()
    data = learned(task, values)
    assert data.task == data.signature.task == replace(task, classes=classes)
    assert data.train.y[:4].tolist() == (y * 2)[:4]
    assert data.metric.name == DEFAULT_METRICS[task.kind]
    again = target_of(Signature.from_json(json.loads(json.dumps(data.signature.to_json()))))
    np.testing.assert_array_equal(again.values(values), data.train.y)


def test_numbers_quantiles_and_lists_are_learned() -> None:
    random = np.random.default_rng(0)
    values = random.normal(size=200)
    for task in (Task("regression"), Task("quantile", quantiles=(0.1, 0.9))):
        data = learned(task, pa.array(values))
        assert data.task == task
        np.testing.assert_array_equal(data.train.y, values.astype(np.float32))
    lists = pa.array(random.normal(size=(200, 3)).tolist())
    for given in (lists, lists.cast(pa.list_(pa.float32(), 3))):
        data = learned(Task("custom"), given, metric="rmse")
        assert (data.task, data.task.width, data.train.y.shape) == (Task("custom", outputs=3), 3, (200, 3))
        np.testing.assert_allclose(data.train.y[7], lists[7].as_py(), rtol=1e-6)
        assert data.validation.y.shape == (100, 3)
    few = learned(Task("custom"), lists, metric="mae", memory=1_000).train
    assert isinstance(few, Streamed)
    found = np.concatenate([batch.y for batch in few.batches(Order(64, shuffle=False))])
    np.testing.assert_array_equal(found, data.train.y)


NUMBERS = pa.array(np.arange(200.0))
LETTERS = pa.array(["a", "b", "c", "b"] * 50)
PAIRS = pa.array([[1.0, 2.0], [2.0, 3.0]] * 100)


@pytest.mark.parametrize(
    ("task", "train", "validation", "message"),
    [
        ("regression", pa.array([float("nan"), 1.0] * 100), None, "NaN, infinite or beyond 3.4e38 in 100 of 200 rows"),
        ("regression", pa.array([float("inf"), *range(199)]), None, "infinite or beyond 3.4e38 in 1 of 200 rows"),
        ("regression", pa.array([1e39, *range(199)]), None, "beyond 3.4e38 in 1 of 200 rows of the training part"),
        ("regression", NUMBERS, pa.array([-float("inf"), *range(99)]), "in 1 of 100 rows of the validation part"),
        ("regression", pa.array([3.5] * 200), None, "'late' is 3.5 in every row of the training part"),
        ("regression", LETTERS, None, "has type string, which is no number"),
        ("quantile", pa.array([None, 1.0] * 100), None, "null in 100 of 200 rows of the training part"),
        ("multiclass", LETTERS, pa.array(["a", "d", "b", "é"] * 25), "the training part has not: 'd', 'é'"),
        ("multiclass", pa.array(["a"] * 200), None, "'late' is a in every row of the training part"),
        ("multiclass", LETTERS, pa.array(["b"] * 100), "'late' is b in every row of the validation part"),
        ("multiclass", NUMBERS, None, "has type double, which has no classes"),
        ("binary", pa.array([0, 1] * 100), pa.array([0, 2] * 50), "is 0 or 1 in training, but has '0', '2' in val"),
        ("binary", pa.array(["n", "y"] * 100), pa.array(["n", "x"] * 50), "training part has not: 'x'"),
        ("custom", NUMBERS, None, "has type double, which is no list of numbers"),
        ("custom", pa.array([[1.0], [2.0, 3.0]] * 100), None, "has between 1 and 2 numbers in a row of the training"),
        ("custom", pa.array([[], []] * 100, pa.list_(pa.float64())), None, "has no numbers in a row"),
        ("custom", pa.array([[1.0, None], [2.0, 3.0]] * 100), None, "holds 100 numbers that are null"),
        ("custom", pa.array([[1.0, float("nan")], [2.0, 3.0]] * 100), None, "in 100 of 200 rows"),
        ("custom", PAIRS, pa.array([[1.0], [2.0]] * 50), "list of 2 numbers in the training part, and of 1 in the val"),
        ("custom", pa.array([[1.0, 2.0]] * 200), None, r"is \[1.0, 2.0\] in every row"),
    ],
)
def test_what_a_task_cannot_learn_is_refused(task: Any, train: pa.Array, validation: Any, message: str) -> None:
    quantiles = (0.1, 0.9) if task == "quantile" else ()
    with pytest.raises((DatasetError, TrainingError), match=message):
        learned(Task(task, quantiles=quantiles), train, validation, metric="rmse" if task == "custom" else None)


# -- shards


@pytest.mark.parametrize("memory", [None, 20_000], ids=["memory", "streamed"])
def test_ranks_load_their_own_rows_as_one_process_loads_all(tmp_path: Path, memory: int | None) -> None:
    rows = table(5_000, 3)
    pq.write_table(rows, tmp_path / "train.parquet", row_group_size=700)
    part = OpenPart(tmp_path / "train.parquet")
    whole = prepare(part, VALIDATION, SIGNATURE, min_count=5)
    known = Learned.from_json(json.loads(json.dumps(learn(part, VALIDATION, SIGNATURE, min_count=5).to_json())))
    assert known.encoder.to_json() == whole.encoder.to_json()
    assert known.signature == whole.signature
    assert known.missing == whole.train.missing
    ranks = [
        prepare(rows_of(part, rank, 3), VALIDATION, SIGNATURE, learned=known, memory=memory).train for rank in range(3)
    ]
    assert [len(each) for each in ranks] == [1_666, 1_667, 1_667]
    assert {each.missing for each in ranks} == {whole.train.missing}
    if memory is None:
        np.testing.assert_array_equal(np.concatenate([each.x for each in ranks]), whole.train.x)
        assert {replace(each, y=each.y).select([1, 0]).missing for each in ranks} == {(True, False)}
    batches = [batch for each in ranks for batch in each.batches(Order(100, shuffle=False))]
    np.testing.assert_array_equal(np.concatenate([batch.x for batch in batches]), whole.train.x)
    np.testing.assert_array_equal(np.concatenate([each.y for each in ranks]), whole.train.y)


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
