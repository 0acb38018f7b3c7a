"""Models with several numbers a row: sessions, scorers, SQL functions, MLflow's frames, packed bundles, modules."""

from __future__ import annotations

import json
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pandas as pd
import pyarrow as pa
import pytest
from onnx import TensorProto, helper
from safetensors.numpy import load, save

from tests.unit.models.test_bundle import ENCODER, SIGNATURE, TABLE, model
from trunkline.errors import EngineError, IntegrityError
from trunkline.models.bundle import Bundle
from trunkline.models.encoder import EncodedColumn, Encoder
from trunkline.models.function import arguments, over_arrow, over_pandas
from trunkline.models.packed import pack, unpack
from trunkline.models.pyfunc import _load_pyfunc
from trunkline.models.runtime import Scorer, session
from trunkline.models.signature import Field, Signature
from trunkline.models.task import Task
from trunkline.models.tensors import check_tensors

THREE = Task("multiclass", classes=("a", "b", "c"))
SHIFTS = np.array([0.0, 0.5, -1.0])


def several(width: int | str | None = 3) -> bytes:
    """As `model`, with the logit shifted thrice: scores [n, 3], of which the graph says `width`."""
    graph = onnx.load_model_from_string(model())
    nodes = graph.graph.node
    del nodes[-1]
    constants = [helper.make_tensor("last", TensorProto.INT64, [1], [1]),
                 helper.make_tensor("shifts", TensorProto.FLOAT, [3], SHIFTS)]  # fmt: skip
    graph.graph.initializer.extend(constants)
    nodes.append(helper.make_node("Unsqueeze", ["logit", "last"], ["column"]))
    nodes.append(helper.make_node("Add", ["column", "shifts"], ["shifted"]))
    nodes.append(helper.make_node("Sigmoid", ["shifted"], ["score"]))
    del graph.graph.output[:]
    graph.graph.output.append(helper.make_tensor_value_info("score", TensorProto.FLOAT, ["n", width]))
    content: bytes = graph.SerializeToString()
    return content


LOGIT = np.array([0.5 * 1 - 0.25, -0.25 * 2, 0.5 * 3])
EXPECTED = 1 / (1 + np.exp(-(LOGIT[:, None] + SHIFTS)))


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    """A model of three classes."""
    signature = replace(SIGNATURE, task=THREE)
    return Bundle.write(tmp_path / "bundle", signature=signature, encoder=ENCODER, onnx=several(), metadata={})


def test_a_row_has_a_number_for_each_class(bundle: Bundle) -> None:
    scorer = Scorer(Bundle.open(bundle.path))
    scores = scorer.score(TABLE)
    assert (scores.dtype, scorer.outputs) == (np.float64, 3)
    np.testing.assert_allclose(scores, EXPECTED, rtol=1e-6)
    assert scorer.score_rows(TABLE.to_pylist()) == scores.tolist()
    assert scorer.score_rows([]) == []
    assert scorer.score(TABLE.slice(0, 0)).shape == (0, 3)
    many = np.tile(ENCODER.encode(TABLE), (2_000, 1))
    np.testing.assert_allclose(scorer.score_matrix(many), np.tile(EXPECTED, (2_000, 1)), rtol=1e-6)


@pytest.mark.parametrize("width", [3, "k", None])
def test_the_width_of_the_scores_is_that_of_the_task(width: int | str | None) -> None:
    assert Scorer.of(ENCODER, several(width)).outputs == 3
    assert Scorer.of(ENCODER, several(width), task=THREE).outputs == 3
    with pytest.raises(IntegrityError, match=r"gives 3 numbers a row, but its task \(quantile\) has 2"):
        Scorer.of(ENCODER, several(width), task=Task("quantile", quantiles=(0.1, 0.9)))
    with pytest.raises(IntegrityError, match=r"gives 3 numbers a row, but its task \(regression\) has one"):
        Scorer.of(ENCODER, several(width), task=Task("regression"))


def test_one_number_is_too_few_for_three_classes(tmp_path: Path) -> None:
    signature = replace(SIGNATURE, task=THREE)
    bundle = Bundle.write(tmp_path / "b", signature=signature, encoder=ENCODER, onnx=model(), metadata={})
    with pytest.raises(IntegrityError, match=r"gives one numbers a row, but its task \(multiclass\) has 3"):
        Scorer(bundle)


def test_scores_of_three_dimensions_are_refused() -> None:
    graph = onnx.load_model_from_string(several())
    graph.graph.node[-1].output[0] = "flat"
    graph.graph.node.append(helper.make_node("Unsqueeze", ["flat", "last"], ["score"]))
    del graph.graph.output[:]
    graph.graph.output.append(helper.make_tensor_value_info("score", TensorProto.FLOAT, ["n", 1, 3]))
    with pytest.raises(IntegrityError, match=r"must map `features` float \[n, d\] to `score` float \[n\] or \[n, k\]"):
        session(graph.SerializeToString())


def test_functions_and_frames_have_lists_and_columns(bundle: Bundle, tmp_path: Path) -> None:
    columns = [pa.chunked_array([column.combine_chunks()]) for column in TABLE.columns]
    scores = Scorer(bundle).score(TABLE).tolist()
    answer = over_arrow(bundle.signature.names, lambda: Scorer(bundle))(*columns)
    assert (answer.type, answer.to_pylist()) == (pa.list_(pa.float64()), scores)
    frame = TABLE.to_pandas()
    packed = unpack(str(pack(bundle, tmp_path / "packed", "f")), bundle.sha256)
    assert over_pandas(packed)(frame.set_axis([0, 1], axis=1)).tolist() == scores
    told = _load_pyfunc(str(bundle.path)).predict(frame)
    assert [list(row.values()) for row in told["probabilities"]] == scores
    assert told["class"].tolist() == ["abc"[int(place)] for place in np.argmax(scores, axis=1)]


# -- inputs of lists


def test_a_list_goes_through_every_door(tmp_path: Path) -> None:
    signature = Signature((Field("v", "vector", shape=(2,)),), target="y")
    table = pa.table({"v": [[1.0, 2.0], [3.0, None], [4.0]]})
    encoder = Encoder.fit(table, signature)
    bundle = Bundle.write(tmp_path / "b", signature=signature, encoder=encoder, onnx=model(), metadata={})
    scorer = Scorer(bundle)
    scores = scorer.score(table).tolist()
    np.testing.assert_allclose(scores, 1 / (1 + np.exp(-np.array([0.0, 1.5, 2.0]))), rtol=1e-6)
    assert scorer.score_rows(table.to_pylist()) == scores
    assert arguments(signature) == (("v", "DOUBLE[]"),)
    column = pa.chunked_array([table.column("v").combine_chunks()])
    assert over_arrow(["v"], lambda: scorer)(column).to_pylist() == scores
    frame = pd.DataFrame({"v": [np.array([1.0, 2.0]), [3.0, None], [4.0]]})
    assert over_pandas(unpack(str(pack(bundle, tmp_path / "p", "f")), bundle.sha256))(frame).tolist() == scores
    assert _load_pyfunc(str(bundle.path)).predict(frame)["score"].tolist() == scores


def test_a_model_of_images_is_for_no_warehouse(tmp_path: Path) -> None:
    signature = Signature((Field("p", "image", shape=(1, 2, 1)),), target="y")
    encoder = Encoder([EncodedColumn("p", "image", shape=(1, 2, 1))], {})
    bundle = Bundle.write(tmp_path / "b", signature=signature, encoder=encoder, onnx=model(), metadata={})
    with pytest.raises(EngineError, match=r"takes images \(p\)"):
        pack(bundle, tmp_path / "packed", "f")


# -- modules


def tensors(**changed: object) -> bytes:
    """A safetensors file of two weights, its header changed."""
    header = {
        "weight": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
        "bias": {"dtype": "F32", "shape": [], "data_offsets": [8, 12]},
        **changed,
    }
    told = json.dumps({name: each for name, each in header.items() if each is not None}).encode()
    return struct.pack("<Q", len(told)) + told + struct.pack("<3f", 0.5, -0.25, 0.125)


def test_a_good_file_of_tensors_is_taken() -> None:
    check_tensors(tensors())
    check_tensors(tensors(__metadata__={"by": "hand"}))
    assert sorted(load(tensors())) == ["bias", "weight"]
    kinds = ("bool", "uint8", "float16", "int16", "float32", "int64", "float64")
    check_tensors(save({kind: np.ones((2, 3), kind) for kind in kinds}))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cut off"),
        (b"\xff" * 8 + b"{}", "cut off"),
        (struct.pack("<Q", 2) + b"{", "cut off"),
        (struct.pack("<Q", 2) + b"{]", "makes no sense"),
        (struct.pack("<Q", 2) + b"[]", "makes no sense"),
        (struct.pack("<Q", 5_000) + b"[" * 5_000, "makes no sense"),
        (tensors()[:-1], "holds 11 bytes; its header tells of 12"),
        (tensors() + b"\0", "holds 13 bytes"),
        (tensors(bias=None), "holds 12 bytes; its header tells of 8"),
        (tensors(bias={"dtype": "F32", "shape": [], "data_offsets": [4, 8]}), "overlap"),
        (tensors(weight={"dtype": "F32", "shape": [2], "data_offsets": [-8, 0]}), "makes no sense"),
        (tensors(weight={"dtype": "F32", "shape": [2**62, 4], "data_offsets": [0, 8]}), "weight does not take the 8"),
        (tensors(weight={"dtype": "F32", "shape": [2**62] * 100, "data_offsets": [0, 8]}), "does not take the 8"),
        (tensors(weight={"dtype": "F32", "shape": [2**62] * 9 + [0], "data_offsets": [0, 8]}), "does not take the 8"),
        (tensors(weight={"dtype": "F32", "shape": ["a", 200_000_000], "data_offsets": [0, 8]}), "a size that is none"),
        (tensors(weight={"dtype": "F32", "shape": "", "data_offsets": [0, 4]}), "a size that is none"),
        (tensors(weight={"dtype": "F32", "shape": [-1, -2], "data_offsets": [0, 8]}), "makes no sense"),
        (tensors(weight={"dtype": "F32", "shape": [2.0], "data_offsets": [0, 8]}), "makes no sense"),
        (tensors(weight={"dtype": "C64", "shape": [1], "data_offsets": [0, 8]}), "makes no sense"),
        (tensors(weight={"dtype": "F32", "data_offsets": [0, 8]}), "makes no sense"),
        (tensors(weight=7), "makes no sense"),
    ],
)
def test_a_header_that_tells_of_other_bytes_is_refused(content: bytes, message: str) -> None:
    with pytest.raises(IntegrityError, match=message):
        check_tensors(content)


MODULE = {"model.safetensors": tensors(), "module.json": b'{"format": 1}'}


def module_bundle(directory: Path) -> Bundle:
    """A bundle with a module in place of the ONNX model."""
    return Bundle.write(directory, signature=SIGNATURE, encoder=ENCODER, onnx=MODULE, metadata={"a": 1})


def test_a_bundle_may_hold_a_module(tmp_path: Path) -> None:
    bundle = module_bundle(tmp_path / "bundle")
    again = Bundle.open(bundle.path, expect_sha256=bundle.sha256)
    assert again.is_module
    assert again.module() == (MODULE["model.safetensors"], MODULE["module.json"])
    assert {path.name for path in bundle.path.iterdir()} == {"bundle.json", "encoder.json", "signature.json", *MODULE}
    assert json.loads((bundle.path / "bundle.json").read_text())["format"] == 2
    with pytest.raises(IntegrityError, match="PyTorch module of the project, not ONNX"):
        again.model()
    with pytest.raises(EngineError, match="PyTorch module of the project, not ONNX"):
        pack(again, tmp_path / "packed", "f")
    for name in MODULE:
        (bundle.path / name).write_bytes(MODULE[name] + b" ")
        with pytest.raises(IntegrityError, match=f"{name} changed after the bundle was opened"):
            again.module()
        (bundle.path / name).write_bytes(MODULE[name])
    fresh = Bundle.write(bundle.path, signature=SIGNATURE, encoder=ENCODER, onnx=model(), metadata={})
    assert not fresh.is_module  # one kind takes the place of the other


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda at: (at / "model.onnx").write_bytes(model()), "holds 'model.onnx', which is none of its files"),
        (lambda at: (at / "model.safetensors").unlink(), "lacks model.safetensors"),
        (lambda at: (at / "module.json").unlink(), "lacks model.onnx"),
        (lambda at: (at / "module.json").write_text("{}"), "module.json is not the file that bundle.json records"),
        (lambda at: (at / "code.pt").write_text(""), "holds 'code.pt'"),
    ],
)
def test_a_tampered_module_is_refused(tmp_path: Path, edit: object, message: str) -> None:
    bundle = module_bundle(tmp_path / "bundle")
    edit(bundle.path)  # type: ignore[operator]
    with pytest.raises(IntegrityError, match=message):
        Bundle.open(bundle.path)


@pytest.mark.parametrize("names", [["model.safetensors"], ["module.json"], ["model.onnx", "module.json"], ["model.pt"]])
def test_a_model_is_one_or_the_other(tmp_path: Path, names: list[str]) -> None:
    with pytest.raises(IntegrityError, match=r"a model is model\.onnx, or model\.safetensors and module\.json; not"):
        Bundle.write(
            tmp_path / "b", signature=SIGNATURE, encoder=ENCODER, onnx=dict.fromkeys(names, b""), metadata={}
        )  # fmt: skip
    with pytest.raises(IntegrityError, match="cut off"):
        Bundle.write(
            tmp_path / "b",
            signature=SIGNATURE,
            encoder=ENCODER,
            onnx={"model.safetensors": b"PK", "module.json": b"{}"},
            metadata={},
        )
