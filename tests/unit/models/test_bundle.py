"""A bundle is whole and unchanged, or it is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pandas as pd
import pyarrow as pa
import pytest
from onnx import TensorProto, helper, numpy_helper

from trunkline.errors import DatasetError, EngineError, IntegrityError
from trunkline.models.bundle import Bundle
from trunkline.models.encoder import Encoder
from trunkline.models.pyfunc import _load_pyfunc
from trunkline.models.runtime import Scorer, session
from trunkline.models.signature import Field, Signature

SIGNATURE = Signature((Field("x", "number"), Field("c", "category")), target="y")
TABLE = pa.table({"x": [1.0, None, 3.0], "c": ["a", "b", None]})
ENCODER = Encoder.fit(TABLE, SIGNATURE, min_count=1)


def model(*, weights: onnx.TensorProto | None = None, output: str = "score", width: int = 2) -> bytes:
    """`score` = sigmoid of the weighted sum of the features, missing ones taken as 0."""
    weights = weights or numpy_helper.from_array(np.array([0.5, -0.25], np.float32), "weights")
    nodes = [
        helper.make_node("IsNaN", ["features"], ["missing"]),
        helper.make_node("Where", ["missing", "zero", "features"], ["filled"]),
        helper.make_node("Mul", ["filled", "weights"], ["weighted"]),
        helper.make_node("ReduceSum", ["weighted", "axis"], ["logit"], keepdims=0),
        helper.make_node("Sigmoid", ["logit"], [output]),
    ]
    constants = [
        weights,
        helper.make_tensor("zero", TensorProto.FLOAT, [], [0.0]),
        helper.make_tensor("axis", TensorProto.INT64, [1], [1]),
    ]
    given = helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", width])
    answered = helper.make_tensor_value_info(output, TensorProto.FLOAT, ["n"])
    graph = helper.make_graph(nodes, "g", [given], [answered], constants)
    content: bytes = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    ).SerializeToString()
    return content


def write(directory: Path, **metadata: object) -> Bundle:
    """A bundle at `directory`."""
    return Bundle.write(directory, signature=SIGNATURE, encoder=ENCODER, onnx=model(), metadata=metadata)


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    """A good bundle."""
    return write(tmp_path / "bundle", estimator="tiny", metrics={"roc_auc": 0.75})


def test_written_and_opened(bundle: Bundle) -> None:
    again = Bundle.open(bundle.path, expect_sha256=bundle.sha256)
    assert again.signature == SIGNATURE
    assert again.encoder.to_json() == ENCODER.to_json()
    assert again.metadata == {"estimator": "tiny", "metrics": {"roc_auc": 0.75}}
    assert again.model() == model()
    assert {path.name for path in bundle.path.iterdir()} == {
        "bundle.json",
        "encoder.json",
        "model.onnx",
        "signature.json",
    }
    assert [path.name for path in bundle.path.parent.iterdir()] == ["bundle"]


def test_the_digest_is_of_the_content(bundle: Bundle, tmp_path: Path) -> None:
    assert write(tmp_path / "twin", metrics={"roc_auc": 0.75}, estimator="tiny").sha256 == bundle.sha256
    assert write(tmp_path / "other", estimator="tiny").sha256 != bundle.sha256


def test_writing_again_replaces(bundle: Bundle) -> None:
    fresh = write(bundle.path, estimator="second")
    assert Bundle.open(bundle.path).metadata == {"estimator": "second"}
    assert fresh.sha256 != bundle.sha256
    assert [path.name for path in bundle.path.parent.iterdir()] == ["bundle"]


def test_a_folder_of_something_else_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(IntegrityError, match=r"'thesis\.tex' is no file of a bundle"):
        write(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EngineError, match="cannot be written"):
        write(tmp_path / "file" / "bundle")


def _edit(name: str) -> Callable[[Path], object]:
    def edit(directory: Path) -> None:
        path = directory / name
        path.write_bytes(path.read_bytes() + b" ")

    return edit


def _link(directory: Path) -> None:
    target = directory.parent / "elsewhere.onnx"
    (directory / "model.onnx").rename(target)
    (directory / "model.onnx").symlink_to(target)


def _record_another_file(directory: Path) -> None:
    path = directory / "bundle.json"
    record = json.loads(path.read_text())
    record["files"]["../../secrets.json"] = "0" * 64
    path.write_text(json.dumps(record))


def _record_another_format(directory: Path) -> None:
    path = directory / "bundle.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 2}))


@pytest.mark.parametrize(
    ("tamper", "message"),
    [
        (_edit("model.onnx"), r"model\.onnx is not the file that bundle\.json records"),
        (_edit("encoder.json"), r"encoder\.json is not the file"),
        (_edit("signature.json"), r"signature\.json is not the file"),
        (lambda directory: (directory / "encoder.json").unlink(), r"lacks encoder\.json"),
        (lambda directory: (directory / "model.onnx.data").write_text(""), "holds 'model.onnx.data', which is none"),
        (lambda directory: (directory / "sub").mkdir(), "holds 'sub'"),
        (_link, r"model\.onnx is no regular file"),
        (lambda directory: (directory / "bundle.json").write_text("[]"), "does not hold an object"),
        (lambda directory: (directory / "bundle.json").write_text("{"), "no JSON"),
        (_record_another_file, "is not the file"),
        (_record_another_format, "format 2"),
    ],
)
def test_a_tampered_bundle_is_refused(bundle: Bundle, tamper: Callable[[Path], object], message: str) -> None:
    tamper(bundle.path)
    with pytest.raises(IntegrityError, match=message):
        Bundle.open(bundle.path)


def test_a_bundle_changed_consistently_still_has_another_digest(bundle: Bundle, tmp_path: Path) -> None:
    other = write(tmp_path / "other", estimator="another")
    with pytest.raises(IntegrityError, match=f"{bundle.sha256} was recorded"):
        Bundle.open(other.path, expect_sha256=bundle.sha256)


def test_nothing_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match="no bundle here"):
        Bundle.open(tmp_path / "none")


def test_a_model_changed_after_opening_is_not_scored(bundle: Bundle) -> None:
    _edit("model.onnx")(bundle.path)
    with pytest.raises(IntegrityError, match="changed after the bundle was opened"):
        Scorer(bundle)


def _external(*, name: str = "weights") -> onnx.TensorProto:
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[2], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="/etc/passwd")
    return tensor


def test_a_model_that_reads_other_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match="external data"):
        Bundle.write(tmp_path / "b", signature=SIGNATURE, encoder=ENCODER, onnx=model(weights=_external()), metadata={})
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_only_says_location_is_taken(tmp_path: Path) -> None:
    graph = onnx.load_model_from_string(model())
    graph.graph.doc_string = "location"
    content = graph.SerializeToString()
    bundle = Bundle.write(tmp_path / "b", signature=SIGNATURE, encoder=ENCODER, onnx=content, metadata={})
    assert bundle.model() == content


def test_an_encoder_of_other_columns_is_refused(tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match="are not the signature's inputs"):
        Bundle.write(tmp_path / "b", signature=SIGNATURE, encoder=ENCODER.subset(["c", "x"]), onnx=model(), metadata={})


EXPECTED = 1 / (1 + np.exp(-np.array([0.5 * 1 - 0.25, -0.25 * 2, 0.5 * 3])))


def test_scores_of_a_table_a_matrix_and_rows(bundle: Bundle) -> None:
    scorer = Scorer(bundle)
    scores = scorer.score(TABLE)
    assert scores.dtype == np.float64
    np.testing.assert_allclose(scores, EXPECTED, rtol=1e-6)
    np.testing.assert_array_equal(scorer.score_matrix(ENCODER.encode(TABLE)), scores)
    assert scorer.score_rows(TABLE.to_pylist()) == scores.tolist()
    assert scorer.score_rows([]) == []
    assert scorer.score(TABLE.slice(0, 0)).shape == (0,)


def test_many_rows_score_as_few(bundle: Bundle) -> None:
    matrix = np.tile(ENCODER.encode(TABLE), (20_000, 1))
    np.testing.assert_allclose(Scorer(bundle).score_matrix(matrix), np.tile(EXPECTED, 20_000), rtol=1e-6)


@pytest.mark.parametrize("content", [b"no model", model(output="answer")])
def test_what_breaks_the_contract_is_refused(content: bytes) -> None:
    with pytest.raises(IntegrityError):
        session(content)


def test_a_model_of_another_width_is_refused() -> None:
    with pytest.raises(IntegrityError, match="takes 2 features, but its encoder gives 1"):
        Scorer.of(ENCODER.subset(["x"]), model())


def test_mlflow_s_loader_gives_the_same_scores(bundle: Bundle) -> None:
    frame = pd.DataFrame({"other": [1, 2, 3], "c": ["a", "b", None], "x": [1.0, None, 3.0]}, index=[7, 8, 9])
    answer = _load_pyfunc(str(bundle.path)).predict(frame)
    assert answer["score"].tolist() == Scorer(bundle).score(TABLE).tolist()
    assert answer.index.tolist() == [7, 8, 9]


def test_mlflow_s_loader_names_what_does_not_fit(bundle: Bundle) -> None:
    loaded = _load_pyfunc(str(bundle.path))
    with pytest.raises(DatasetError, match="no column 'c'"):
        loaded.predict(pd.DataFrame({"x": [1.0]}))
    with pytest.raises(DatasetError, match="'x' of type"):
        loaded.predict(pd.DataFrame({"x": ["1"], "c": ["a"]}))
    with pytest.raises(DatasetError, match="not of one type"):
        loaded.predict(pd.DataFrame({"x": [1.0, "1"], "c": ["a", "b"]}))
