"""A small bundle with a model that can be worked out by hand, and real servers over it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.unit.serving.client import Client
from trunkline.models.bundle import Bundle
from trunkline.models.encoder import Encoder
from trunkline.models.runtime import Scorer
from trunkline.models.signature import Field, Signature
from trunkline.models.task import Task
from trunkline.serving.process import ServerProcess, start

SIGNATURE = Signature(
    inputs=(
        Field("distance", "number", nullable=False, example=1400.0),
        Field("dep delay", "number", example=-2.5),
        Field("carrier", "category", example="UA"),
        Field("rainy", "boolean", example=False),
    ),
    target="late",
)
ROW: dict[str, object] = {"distance": 1400, "dep delay": -2.5, "carrier": "UA", "rainy": False}


def make_bundle(directory: Path, signature: Signature) -> Bundle:
    """A bundle whose model is sigmoid(sum of the encoded row / 1000), missing values as 0; of other tasks what

    `_outputs` makes of that sum.
    """
    import pyarrow as pa

    types = {"number": pa.float64(), "category": pa.string(), "boolean": pa.bool_(), "datetime": pa.timestamp("us")}
    values: dict[str, list[object]] = {
        "number": [0.0, 1.0, 2.0, 3.0],
        "category": ["UA", "AA", "UA", "DL"],
        "boolean": [True, False, True, False],
        "datetime": [0, 1, 2, 3],
    }
    table = pa.table({field.name: pa.array(values[field.kind], types[field.kind]) for field in signature.inputs})
    encoder = Encoder.fit(table, signature, min_count=1)
    return Bundle.write(
        directory,
        signature=signature,
        encoder=encoder,
        onnx=graph_of(len(signature.inputs), signature.task),
        metadata={"made_by": "test"},
    )


def graph_of(width: int, task: Task) -> bytes:
    from onnx import TensorProto, checker, helper

    nodes = [
        helper.make_node("IsNaN", ["features"], ["missing"]),
        helper.make_node("Where", ["missing", "zero", "features"], ["values"]),
        helper.make_node("ReduceSum", ["values", "axis"], ["total"], keepdims=int(task.width is not None)),
        helper.make_node("Mul", ["total", "scale"], ["logit"]),
        *_outputs(task),
    ]
    places = [float(place) for place in range(task.width or 0)]
    constants = [
        helper.make_tensor("zero", TensorProto.FLOAT, [], [0.0]),
        helper.make_tensor("axis", TensorProto.INT64, [1], [1]),
        helper.make_tensor("scale", TensorProto.FLOAT, [], [0.001]),
        helper.make_tensor("places", TensorProto.FLOAT, [1, len(places)], places),
    ]
    features = helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", width])
    shape = ["n"] if task.width is None else ["n", task.width]
    score = helper.make_tensor_value_info("score", TensorProto.FLOAT, shape)
    graph = helper.make_graph(nodes, "delay", [features], [score], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    checker.check_model(model)
    return bytes(model.SerializeToString())


def _outputs(task: Task) -> list[Any]:
    """sigmoid(x); x; softmax(-(x - place)²); x + place, of the places 0, 1, … of the columns."""
    from onnx import helper

    node = helper.make_node
    if task.kind == "binary":
        return [node("Sigmoid", ["logit"], ["score"])]
    if task.kind == "regression":
        return [node("Identity", ["logit"], ["score"])]
    if task.kind != "multiclass":
        return [node("Add", ["logit", "places"], ["score"])]
    return [
        node("Sub", ["logit", "places"], ["far"]),
        node("Mul", ["far", "far"], ["farther"]),
        node("Neg", ["farther"], ["near"]),
        node("Softmax", ["near"], ["score"], axis=1),
    ]


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_bundle(tmp_path_factory.mktemp("bundle") / "delay", SIGNATURE)


@pytest.fixture(scope="session")
def scorer(bundle: Bundle) -> Scorer:
    return Scorer(bundle)


@pytest.fixture(scope="session")
def shared_spool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("spool")


@pytest.fixture(scope="session")
def shared(bundle: Bundle, shared_spool: Path) -> Iterator[Client]:
    """One server for all tests that do not harm it."""
    server = start(bundle.path, reference="models:/delay/7", deployment="delay", spool=shared_spool)
    with server, Client(server.url) as client:
        yield client


@pytest.fixture
def connect() -> Iterator[Callable[[str], Client]]:
    """Makes clients of a URL and closes them."""
    with ExitStack() as clients:
        yield lambda url: clients.enter_context(Client(url))


@pytest.fixture
def launch(bundle: Bundle, tmp_path: Path) -> Iterator[Callable[[], ServerProcess]]:
    """Starts servers that the test may kill; each logs to `tmp_path / "spool"`."""
    servers: list[ServerProcess] = []

    def launch_one() -> ServerProcess:
        servers.append(start(bundle.path, reference="models:/delay/7", deployment="delay", spool=tmp_path / "spool"))
        return servers[-1]

    yield launch_one
    for server in servers:
        server.stop()
