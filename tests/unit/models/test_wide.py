"""Inputs that are several columns of the matrix: lists of numbers, and images."""

from __future__ import annotations

import base64
import io
import json
import struct
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.unit.models.tables import same_bits
from trunkline.errors import DatasetError, IntegrityError, RequestError
from trunkline.models.encoder import EncodedColumn, Encoder
from trunkline.models.fitting import _BLOCK, Fitting
from trunkline.models.images import decode, grey, shape_of
from trunkline.models.signature import LARGEST_IMAGE, LONGEST_IMAGE, LONGEST_VECTOR, Field, Signature

VECTOR = Signature((Field("x", "number"), Field("v", "vector"), Field("c", "category")), target="y")
NAN = float("nan")


def drawn(height: int, width: int, channels: int = 3, seed: int = 0) -> npt.NDArray[np.uint8]:
    """Pixels of chance, [height, width, channels]."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def file_of(pixels: npt.NDArray[Any], form: str = "PNG", mode: str | None = None) -> bytes:
    """An image file of pixels."""
    out = io.BytesIO()
    image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    (image.convert(mode) if mode else image).save(out, form)
    return out.getvalue()


def pictures(*contents: bytes | None) -> pa.Table:
    """A table of them."""
    return pa.table({"p": pa.array(contents, pa.binary())})


PICTURE = Signature((Field("p", "image"),), target="y")
FIRST, SECOND = (file_of(drawn(4, 6, seed=seed)) for seed in (0, 1))


def described(encoder: Encoder, signature: Signature) -> Signature:
    """The signature with the shapes that training learned."""
    fields = zip(signature.inputs, encoder.columns, strict=True)
    return Signature(tuple(Field(f.name, f.kind, f.nullable, f.example, c.shape) for f, c in fields), signature.target)


# -- vectors


def test_a_vector_is_its_numbers_filled_up_with_nan() -> None:
    table = pa.table({"x": [1, 2, 3], "v": [[1.0, 2.0, 3.0], [4.0, None], None], "c": ["a", "b", None]})
    encoder = Encoder.fit(table, VECTOR, min_count=1)
    expected = [[1, 1, 2, 3, 1], [2, 4, NAN, NAN, 2], [3, NAN, NAN, NAN, 0]]
    np.testing.assert_array_equal(encoder.encode(table), expected)
    assert encoder.columns[1] == EncodedColumn("v", "vector", mean=2.5, std=float(np.std([1, 2, 3, 4])), shape=(3,))
    assert (encoder.width, encoder.places) == (5, {"x": slice(0, 1), "v": slice(1, 4), "c": slice(4, 5)})
    assert encoder.names == ("x", "v", "c")
    few = encoder.subset(["c", "v"])
    np.testing.assert_array_equal(few.encode(table), encoder.encode(table)[:, [4, 1, 2, 3]])
    again = Encoder.from_json(json.loads(json.dumps(encoder.to_json())))
    assert again.to_json() == encoder.to_json()
    assert again.columns == encoder.columns


NUMBERS = st.none() | st.floats(width=32, allow_nan=False, allow_infinity=False) | st.integers(-(2**53), 2**53)
LISTS = st.lists(st.none() | st.lists(NUMBERS, max_size=5), min_size=1, max_size=8)
LIST_TYPES = st.sampled_from([pa.list_(pa.float64()), pa.large_list(pa.float64()), pa.list_(pa.float64(), 5)])


@given(LISTS, LIST_TYPES, st.integers(0, 3))
def test_a_request_with_vectors_is_encoded_as_a_table_is(lists: list[Any], kind: pa.DataType, cut: int) -> None:
    if kind == pa.list_(pa.float64(), 5):
        lists = [None if each is None else (each + [None] * 5)[:5] for each in lists]
    floats = [None if each is None else [None if v is None else float(v) for v in each] for each in lists]
    table = pa.table({"x": range(len(lists)), "v": pa.array(floats, kind), "c": ["a"] * len(lists)})
    encoder = Encoder.fit(table, VECTOR, min_count=1)
    rows = [{"x": index, "v": values, "c": "a"} for index, values in enumerate(lists)]
    described(encoder, VECTOR).check_rows(rows)
    matrix = encoder.encode(table)
    assert same_bits(encoder.encode_rows(rows), matrix)
    assert same_bits(encoder.encode(table.slice(cut)), matrix[cut:])  # Arrow's offsets are minded
    fitting = Fitting(VECTOR, min_count=1)
    for batch in table.to_batches(max_chunksize=2):
        fitting.add(batch)
    assert fitting.encoder().to_json() == encoder.to_json()
    assert list(fitting.missing()) == [False, *np.isnan(matrix[:, encoder.places["v"]]).any(axis=0), False]


@pytest.mark.parametrize("kind", [pa.list_(pa.int32()), pa.list_(pa.decimal128(5, 2)), pa.list_(pa.float32(), 2)])
def test_lists_of_any_numbers_will_do(kind: pa.DataType) -> None:
    values = pa.array([[1.0, 2.0], [3.0, 4.0]], pa.list_(pa.float64())).cast(kind)
    signature = Signature((Field("v", "vector"),), target="y")
    table = pa.table({"v": values})
    encoded = Encoder.fit(table, signature).encode(table)
    np.testing.assert_array_equal(encoded, [[1, 2], [3, 4]])
    assert encoded.dtype == np.float32


def test_how_the_rows_are_cut_changes_no_bit_of_a_vectors_scale() -> None:
    random = np.random.default_rng(1)
    rows = _BLOCK // 2
    values = pa.array(random.normal(1e6, 0.1, (rows, 5)).tolist())
    table = pa.table({"v": values})
    signature = Signature((Field("v", "vector"),), target="y")
    whole = Encoder.fit(table, signature)
    assert Encoder.fit(iter(table.to_batches(max_chunksize=777)), signature).to_json() == whole.to_json()
    numbers = np.asarray(values.flatten()).astype(np.float32).astype(np.float64)
    assert whole.columns[0].mean == pytest.approx(numbers.mean(), rel=1e-12)
    assert whole.columns[0].std == pytest.approx(numbers.std(), rel=1e-9)


def test_a_vector_without_a_number_is_a_column_that_is_always_missing() -> None:
    table = pa.table({"v": pa.array([None, []], pa.list_(pa.float64()))})
    signature = Signature((Field("v", "vector"),), target="y")
    fitting = Fitting(signature)
    fitting.add(table)
    assert fitting.encoder().columns == (EncodedColumn("v", "vector", shape=(1,)),)
    assert fitting.missing() == (True,)
    assert np.isnan(fitting.encoder().encode(table)).all()


def test_lists_that_do_not_fit_are_refused_with_their_row() -> None:
    signature = Signature((Field("v", "vector"),), target="y")
    encoder = Encoder.fit(pa.table({"v": [[1.0, 2.0]]}), signature)
    longer = pa.table({"v": [[1.0], [1.0, 2.0, 3.0]]})
    with pytest.raises(DatasetError, match=r"'v' has 3 numbers in row 1; the longest list of the training part has 2"):
        encoder.encode(longer)
    with pytest.raises(DatasetError, match="in row 101;"):
        encoder.encode_into(longer.to_batches()[0], np.empty((2, 2), np.float32), 100)
    with pytest.raises(DatasetError, match="type string does not hold what the signature calls a vector"):
        encoder.encode(pa.table({"v": ["[1, 2]"]}))
    with pytest.raises(DatasetError, match="16,385 numbers: 16,384 are the most"):
        Encoder.fit(pa.table({"v": [[0.0] * (LONGEST_VECTOR + 1)]}), signature)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([1.0, 2.0, 3.0, 4.0], "'v' of row 0 has 4 numbers; the model takes 3 at most"),
        ("[1]", "'v' of row 0 must be a list of numbers"),
        ([1.0, True], "'v' of row 0 must be a number, not True"),
        ([1.0, "2"], "'v' of row 0 must be a number, not '2'"),
        ([[1.0]], "'v' of row 0 must be a number"),
        ({"0": 1.0}, "'v' of row 0 must be a list of numbers"),
    ],
)
def test_a_vector_of_a_request_is_checked(value: Any, message: str) -> None:
    signature = Signature((Field("v", "vector", shape=(3,)),), target="y")
    with pytest.raises(RequestError, match=message):
        signature.check_rows([{"v": value}])


def test_a_vector_that_was_complete_in_training_has_to_be_complete() -> None:
    signature = Signature((Field("v", "vector", nullable=False, shape=(3,)),), target="y")
    signature.check_rows([{"v": [1.0, 2, 3.5]}])
    for value, message in (
        ([1.0, 2.0], "has 2 numbers; the model takes exactly 3"),
        ([1.0, None, 2.0], "has a number that is null"),
        (None, "must not be null"),
    ):
        with pytest.raises(RequestError, match=message):
            signature.check_rows([{"v": value}])


def test_what_was_not_checked_is_refused_by_the_encoder() -> None:
    encoder = Encoder([EncodedColumn("v", "vector", shape=(2,))], {})
    for value in ([1.0, 2.0, 3.0], [[1.0]], ["a"], "ab"):
        with pytest.raises(RequestError, match="'v' of row 1"):
            encoder.encode_rows([{"v": None}, {"v": value}])


# -- images


def test_an_image_is_its_pixels_row_by_row() -> None:
    encoder = Encoder.fit(pictures(FIRST, None, SECOND), PICTURE)
    column = encoder.columns[0]
    assert (column.kind, column.shape, column.width) == ("image", (4, 6, 3), 72)
    pixels = np.stack([drawn(4, 6, seed=seed) for seed in (0, 1)]).reshape(2, -1) / np.float32(255)
    matrix = encoder.encode(pictures(FIRST, None, SECOND))
    np.testing.assert_array_equal(matrix[[0, 2]], pixels.astype(np.float32))
    assert np.isnan(matrix[1]).all()
    assert column.mean == pytest.approx(pixels.mean(), rel=1e-6)
    rows = [{"p": content and base64.b64encode(content).decode()} for content in (FIRST, None, SECOND)]
    described(encoder, PICTURE).check_rows(rows)
    assert same_bits(encoder.encode_rows(rows), matrix)
    assert same_bits(encoder.encode(pa.table({"p": [row["p"] for row in rows]})), matrix)  # as JSON brings them
    fitting = Fitting(PICTURE)
    fitting.add(pictures(FIRST, None))
    assert fitting.missing() == (True,) * 72


@pytest.mark.parametrize(
    ("content", "shape", "pixels"),
    [
        (file_of(drawn(3, 5, 1)), (3, 5, 1), drawn(3, 5, 1) / 255),
        (file_of(drawn(3, 5, 4)), (3, 5, 3), drawn(3, 5, 4)[:, :, :3] / 255),
        (file_of(drawn(3, 5, 1).astype(np.uint16) * 257), (3, 5, 1), drawn(3, 5, 1) / 255),
        (file_of(drawn(3, 5, 1), mode="1"), (3, 5, 1), None),
        (file_of(drawn(3, 5, 3), mode="P"), (3, 5, 3), None),
        (file_of(drawn(16, 24, 3), "JPEG"), (16, 24, 3), None),
        (file_of(drawn(16, 24, 3), "JPEG", "CMYK"), (16, 24, 3), None),
    ],
    ids=["grey", "transparent", "sixteen bits", "black and white", "palette", "jpeg", "cmyk"],
)
def test_every_kind_of_png_and_jpeg_is_read(content: bytes, shape: Any, pixels: Any) -> None:
    assert shape_of(content) == shape
    found = decode(content, shape)
    assert (found.dtype, found.shape) == (np.float32, (int(np.prod(shape)),))
    assert 0 <= found.min() <= found.max() <= 1
    if pixels is not None:
        np.testing.assert_allclose(found, pixels.reshape(-1), atol=1e-7)


def test_a_grey_image_is_taken_for_one_in_colour() -> None:
    grey_one = file_of(drawn(4, 6, 1))
    encoder = Encoder.fit(pictures(FIRST, grey_one), PICTURE)
    found = encoder.encode(pictures(grey_one)).reshape(4, 6, 3)
    np.testing.assert_array_equal(found[:, :, 0], found[:, :, 2])


def bomb(width: int, height: int) -> bytes:
    """A small PNG that says it is huge."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 1_000_000)), (b"IEND", b"")]
    body = b"".join(struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in chunks)
    return b"\x89PNG\r\n\x1a\n" + body


REFUSED = [
    pytest.param(file_of(drawn(4, 7)), "is an image of 7 x 4 pixels; the model takes 6 x 4", id="another size"),
    pytest.param(FIRST[:-30], "is a damaged image", id="cut off"),
    pytest.param(b"GIF89a" + FIRST, "is no PNG or JPEG image", id="a GIF"),
    pytest.param(b"", "is no PNG or JPEG image", id="nothing"),
    pytest.param(bomb(2_000, 2_000), "2000 x 2000 pixels; 1,048,576 in all are the most", id="too large"),
    pytest.param(bomb(10_000, 10_000), "is an image", id="a bomb that warns"),
    pytest.param(bomb(60_000, 60_000), "is an image", id="a bomb"),
    pytest.param(b"\x89PNG" + b"\0" * LARGEST_IMAGE, "8,388,612 bytes; 8,388,608 are the most", id="too long"),
]


@pytest.mark.parametrize(("content", "message"), REFUSED)
def test_what_is_no_image_of_the_right_size_is_refused_undecoded(content: bytes, message: str) -> None:
    encoder = Encoder.fit(pictures(FIRST), PICTURE)
    with pytest.raises(DatasetError, match=f"column 'p' in row 1 .*{message}"):
        encoder.encode(pictures(FIRST, content))
    with pytest.raises(DatasetError, match=f"column 'p' in row 2 .*{message}"):
        Encoder.fit(pictures(FIRST, None, content), PICTURE)
    with pytest.raises(RequestError, match=f"field 'p' of row 0 .*{message}|characters long"):
        encoder.encode_rows([{"p": base64.b64encode(content).decode()}])


def test_an_image_in_colour_is_none_in_grey() -> None:
    with pytest.raises(DatasetError, match="row 1 is an image in colour; the model takes grey ones"):
        Encoder.fit(pictures(file_of(drawn(4, 6, 1)), FIRST), PICTURE)


def test_images_are_refused_where_there_are_none() -> None:
    with pytest.raises(DatasetError, match="'p' has no image in the training part"):
        Encoder.fit(pictures(None, None), PICTURE)
    with pytest.raises(DatasetError, match="type int64 does not hold what the signature calls a image"):
        Encoder.fit(pa.table({"p": [1]}), PICTURE)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (b"bytes", "must be a PNG or JPEG image as base64 text, not b'bytes'"),
        ("A" * (LONGEST_IMAGE + 1), "characters long; at most 11,184,814 are taken"),
    ],
)
def test_an_image_of_a_request_is_checked(value: Any, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        PICTURE.check_rows([{"p": value}])


def test_text_that_is_no_base64_is_refused() -> None:
    encoder = Encoder.fit(pictures(FIRST), PICTURE)
    with pytest.raises(RequestError, match="field 'p' of row 0 is no base64 of an image"):
        encoder.encode_rows([{"p": "not base64!"}])


@pytest.mark.parametrize("shape", [(3, 5, 1), (3, 5, 3)])
def test_a_grey_example_has_the_shape_it_is_asked_for(shape: tuple[int, ...]) -> None:
    example = base64.b64decode(grey(shape))
    assert shape_of(example) == shape
    assert np.unique(decode(example, shape)).tolist() == [np.float32(128) / np.float32(255)]


# -- both, as plain data


def test_a_signature_with_shapes_comes_back_from_json() -> None:
    signature = Signature(
        (Field("x", "number", True, 1.5), Field("v", "vector", True, (1.0, None), (3,)),
         Field("p", "image", True, grey((2, 2, 1)), (2, 2, 1))), "y"
    )  # fmt: skip
    data = json.loads(json.dumps(signature.to_json()))
    assert data["inputs"][0] == {"name": "x", "kind": "number", "nullable": True, "example": 1.5}
    assert Signature.from_json(data) == signature
    assert hash(Signature.from_json(data)) == hash(signature)
    signature.check_rows([{field.name: field.example for field in signature.inputs}])


@pytest.mark.parametrize(
    "column",
    [{"name": "x", "kind": "number", "shape": [2]}, {"name": "x", "kind": "vector"},
     {"name": "x", "kind": "image", "shape": 3}],
)  # fmt: skip
def test_an_encoder_whose_shapes_are_wrong_is_refused(column: dict[str, Any]) -> None:
    with pytest.raises(IntegrityError):
        Encoder.from_json({"columns": [column], "categories": {}})
