"""Bundles that somebody made to do harm: refused with one clear error, or harmless; nothing runs, hangs or grows."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.unit.models.test_bundle import ENCODER, SIGNATURE, TABLE, model, write
from trunkline.cli.main import _report
from trunkline.errors import EngineError, IntegrityError, ModelReferenceError
from trunkline.gate import apart
from trunkline.gate.apart import ApartScorer
from trunkline.gate.machine import tree
from trunkline.models.bundle import Bundle
from trunkline.models.encoder import Encoder
from trunkline.models.function import arguments, over_arrow
from trunkline.models.graph import check_graph
from trunkline.models.packed import handler_source, pack
from trunkline.models.runtime import Scorer
from trunkline.models.signature import Field, Signature
from trunkline.orchestration.versions import fetched
from trunkline.registry.reference import check_model_name, parse_reference
from trunkline.serving import process
from trunkline.warehouse.protocol import PythonFunction, open_warehouse
from trunkline.warehouse.relation import Relation
from trunkline.warehouse.snowflake_sql import create_function

HUNDRED_GIGABYTES = 25_000_000_000  # floats


class _Spark:
    """Unpickled, it leaves a file."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> Any:
        return Path.touch, (self.place,)


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    """A good bundle."""
    return write(tmp_path / "bundle", dataset="orders")


@pytest.fixture
def spark(tmp_path: Path) -> Iterator[bytes]:
    """A pickle; nobody must have loaded it in the end."""
    yield pickle.dumps(_Spark(tmp_path / "spark"))
    assert not (tmp_path / "spark").exists()


def forge(bundle: Bundle, name: str, content: bytes) -> None:
    """Other content for a file, with the digest that goes with it."""
    (bundle.path / name).write_bytes(content)
    record = json.loads((bundle.path / "bundle.json").read_bytes())
    record["files"][name] = sha256(content).hexdigest()
    (bundle.path / "bundle.json").write_text(json.dumps(record))


def graph(nodes: list[onnx.NodeProto], tensors: list[onnx.TensorProto] | None = None, **fields: Any) -> bytes:
    """An ONNX model of the shape that a bundle holds."""
    given = helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", 2])
    answered = helper.make_tensor_value_info("score", TensorProto.FLOAT, ["n"])
    made = helper.make_graph(nodes, "g", [given], [answered], tensors or [])
    opsets = [helper.make_opsetid("", 17), *fields.pop("opsets", [])]
    content: bytes = helper.make_model(made, opset_imports=opsets, ir_version=8, **fields).SerializeToString()
    return content


AXIS = helper.make_tensor("axis", TensorProto.INT64, [1], [1])
SUM = helper.make_node("ReduceSum", ["features", "axis"], ["sum"], keepdims=0)
BIG = helper.make_tensor("shape", TensorProto.INT64, [1], [HUNDRED_GIGABYTES])


def torch_archive(spark: bytes) -> bytes:
    """As torch.save writes it: a zip with a pickle."""
    out = BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("archive/data.pkl", spark)
    return out.getvalue()


# -- pickles


def test_a_pickle_beside_the_model_is_refused(bundle: Bundle, spark: bytes) -> None:
    (bundle.path / "model.pkl").write_bytes(spark)
    with pytest.raises(IntegrityError, match=r"holds 'model\.pkl', which is none of its files"):
        Bundle.open(bundle.path)


WRAPPED = pytest.mark.parametrize("wrap", [lambda spark: spark, torch_archive], ids=["pickle", "torch"])


@WRAPPED
def test_a_pickle_in_the_place_of_the_model_is_refused(
    bundle: Bundle, spark: bytes, wrap: Callable[[bytes], bytes]
) -> None:
    forge(bundle, "model.onnx", wrap(spark))
    with pytest.raises(IntegrityError, match=r"model\.onnx is no ONNX model"):
        Bundle.open(bundle.path)


@WRAPPED
def test_a_pickle_in_the_place_of_weights_is_refused(
    tmp_path: Path, spark: bytes, wrap: Callable[[bytes], bytes]
) -> None:
    files = {"model.safetensors": wrap(spark), "module.json": b"{}"}
    with pytest.raises(IntegrityError, match=r"model\.safetensors"):
        Bundle.write(tmp_path / "b", signature=SIGNATURE, encoder=ENCODER, onnx=files, metadata={})
    assert not (tmp_path / "b").exists()


# -- files that are none, or lie elsewhere


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(os.path.relpath(path))


@pytest.mark.parametrize("name", ["model.onnx", "encoder.json", "bundle.json"])
@pytest.mark.parametrize(
    "put",
    [
        lambda path: path.symlink_to("/etc/hostname"),
        lambda path: path.symlink_to("/dev/zero"),
        lambda path: path.symlink_to("../secret"),
        _fifo,
        _socket,
        lambda path: path.mkdir(),
    ],
    ids=["link", "device", "up", "fifo", "socket", "folder"],
)
def test_what_is_no_file_is_refused_at_once(
    bundle: Bundle, name: str, put: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(bundle.path.parent)
    (bundle.path / name).unlink()
    put(bundle.path / name)
    with pytest.raises(IntegrityError, match=f"{name} is no regular file"):
        Bundle.open(bundle.path)


def test_a_hard_link_to_a_secret_is_not_the_file_and_is_not_shown(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("hunter2")
    for name in ("encoder.json", "signature.json", "model.onnx", "bundle.json"):
        kept = (bundle.path / name).read_bytes()
        (bundle.path / name).unlink()
        os.link(tmp_path / "secret", bundle.path / name)
        with pytest.raises(IntegrityError) as caught:
            Bundle.open(bundle.path)
        assert "hunter2" not in str(caught.value)
        (bundle.path / name).unlink()
        (bundle.path / name).write_bytes(kept)
    Bundle.open(bundle.path)


@pytest.mark.parametrize("location", ["../../secret", "/etc/passwd", "weights.bin", "*/_ORT_MEM_ADDR_/*"])
@pytest.mark.parametrize("where", ["initializer", "attribute", "subgraph"])
def test_tensors_in_other_files_are_refused(bundle: Bundle, location: str, where: str) -> None:
    tensor = helper.make_tensor("w", TensorProto.FLOAT, [2], [0.0, 0.0])
    tensor.ClearField("float_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    constant = helper.make_node("Constant", [], ["w"], value=tensor)
    inner = helper.make_graph([constant], "i", [], [helper.make_tensor_value_info("w", TensorProto.FLOAT, [2])])
    content = {
        "initializer": lambda: graph([SUM], [tensor]),
        "attribute": lambda: graph([constant]),
        "subgraph": lambda: graph([helper.make_node("If", ["c"], ["w"], then_branch=inner, else_branch=inner)]),
    }[where]()
    forge(bundle, "model.onnx", content)
    with pytest.raises(IntegrityError, match="refers to external data files"):
        Bundle.open(bundle.path)


@pytest.mark.parametrize("name", ["../up.txt", "/absolute", "sub/file", "model.onnx.data", "..."])
def test_files_that_the_record_names_elsewhere_are_not_touched(bundle: Bundle, name: str) -> None:
    record = json.loads((bundle.path / "bundle.json").read_bytes())
    record["files"][name] = "0" * 64
    (bundle.path / "bundle.json").write_text(json.dumps(record))
    with pytest.raises(IntegrityError, match="is not the file that bundle.json records"):
        Bundle.open(bundle.path)


# -- graphs


def _gigantic(dims: list[int]) -> bytes:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=dims, raw_data=b"\0" * 8)
    return graph([SUM], [AXIS, tensor])


def _nested(depth: int) -> bytes:
    """A node with a graph in an attribute, over and over: ONNX's own library would not write it."""

    def field(number: int, content: bytes) -> bytes:
        length, size = bytearray(), len(content)
        while size > 0x7F:
            length.append(size & 0x7F | 0x80)
            size >>= 7
        return bytes([number << 3 | 2, *length, size]) + content

    inner = b""
    for _ in range(depth):
        inner = field(1, field(5, field(6, inner)))
    return field(7, inner)


def _sparse() -> bytes:
    values, at = (
        helper.make_tensor("v", TensorProto.FLOAT, [1], [1.0]),
        helper.make_tensor("i", TensorProto.INT64, [1], [0]),
    )
    content = onnx.load_model_from_string(model())
    content.graph.sparse_initializer.add(values=values, indices=at, dims=[1 << 20, 1 << 20])
    return bytes(content.SerializeToString())


def _own_function(name: str) -> bytes:
    """The negative sum, by a function of the model's own. ONNX Runtime aborts where its name is an operator's."""
    body, opset = [helper.make_node("Neg", ["x"], ["y"])], helper.make_opsetid("", 17)
    own = helper.make_function("mine", name, ["x"], ["y"], body, [opset])
    called = helper.make_node(name, ["sum"], ["score"], domain="mine")
    return graph([SUM, called], [AXIS], functions=[own], opsets=[helper.make_opsetid("mine", 1)])


FORGED: Mapping[str, tuple[Callable[[], bytes], str]] = {
    "gigantic tensor": (lambda: _gigantic([HUNDRED_GIGABYTES]), "is said to hold 25,000,000,000 numbers"),
    "gigantic product": (lambda: _gigantic([1 << 30, 1 << 30, 1 << 30]), "is said to hold"),
    "negative size": (lambda: _gigantic([-1]), "is said to hold"),
    "thousand dimensions": (lambda: _gigantic([1] * 1_000), "is said to hold"),
    "sparse tensor": (_sparse, "has sparse tensors"),
    "deep subgraphs": (lambda: _nested(60), "graphs within graphs, more than 32 deep"),
    "custom domain": (
        lambda: graph([helper.make_node("Evil", ["features"], ["score"], domain="com.evil\x1b[2J")]),
        r"asks for 'Evil' of 'com\.evil\\x1b\[2J', which is no operator of ONNX",
    ),
    "contrib domain": (
        lambda: graph([helper.make_node("EPContext", ["features"], ["score"], domain="com.microsoft")]),
        "asks for 'EPContext' of 'com.microsoft'",
    ),
    "ONNX Runtime's format": (lambda: b"\x10\0\0\0ORTM" + bytes(100), "in ONNX Runtime's own format"),
    "a function called as an operator of ONNX": (lambda: _own_function("Add"), "functions of its own"),
    "a function": (lambda: _own_function("Mine"), "functions of its own"),
    "empty": (lambda: b"", "it has 0 graphs"),
    "two graphs": (lambda: model() + model(), "it has 2 graphs"),
    "cut off": (lambda: model()[:-7], "is no ONNX model"),
    "endless integer": (lambda: b"\x08" + b"\xff" * 40, "has no end"),
    "text": (lambda: b"#!/bin/sh\nrm -rf /\n", "is no ONNX model"),
}


@pytest.mark.parametrize("name", FORGED)
def test_a_graph_that_makes_no_sense_is_refused(bundle: Bundle, name: str) -> None:
    make, says = FORGED[name]
    forge(bundle, "model.onnx", make())
    started = time.process_time()
    with pytest.raises(IntegrityError, match=says) as caught:
        Bundle.open(bundle.path)
    assert time.process_time() - started < 1
    assert str(caught.value).isprintable()


def test_a_scoring_process_that_is_ended_is_one_error(bundle: Bundle, tmp_path: Path) -> None:
    forge(bundle, "model.onnx", _endless())
    ended: list[int] = []

    def end() -> None:
        while not ended:
            for pid in tree(os.getpid()):
                with contextlib.suppress(OSError):
                    command = Path(f"/proc/{pid}/cmdline").read_bytes()
                    # ONNX Runtime is there, so the process is what it seems
                    if b"trunkline.project.child" in command and "onnxruntime" in Path(f"/proc/{pid}/maps").read_text():
                        os.kill(pid, signal.SIGABRT)
                        ended.append(pid)
            time.sleep(0.05)

    watch = threading.Thread(target=end, daemon=True)
    watch.start()
    with pytest.raises(EngineError, match="the process that scored the model was ended by SIGABRT"):
        ApartScorer(Bundle.open(bundle.path), tmp_path).score(TABLE)
    watch.join(10)


def test_a_graph_with_flipped_bits_is_refused_or_opened(bundle: Bundle) -> None:
    random, refused = np.random.default_rng(0), 0
    for _ in range(1_000):
        content = bytearray(model())
        for place in random.integers(0, len(content), 3):
            content[place] ^= 1 << int(random.integers(0, 8))
        try:
            check_graph(bytes(content))
        except IntegrityError as error:
            refused += error.what.isprintable()
    assert refused > 500


# -- bombs that only go off when the model runs


def _filled() -> bytes:
    bomb = helper.make_node("ConstantOfShape", ["shape"], ["big"])
    rest = [
        helper.make_node("ReduceSum", ["big"], ["one"], keepdims=0),
        helper.make_node("Add", ["sum", "one"], ["score"]),
    ]
    return graph([SUM, bomb, *rest], [AXIS, BIG])


def _expanded() -> bytes:
    bomb = [
        helper.make_node("ReduceSum", ["features"], ["x"], keepdims=1),
        helper.make_node("Expand", ["x", "both"], ["big"]),
    ]
    rest = [
        helper.make_node("ReduceSum", ["big"], ["one"], keepdims=0),
        helper.make_node("Add", ["sum", "one"], ["score"]),
    ]
    both = helper.make_tensor("both", TensorProto.INT64, [2], [1, HUNDRED_GIGABYTES])
    return graph([SUM, *bomb, *rest], [AXIS, both])


def _endless() -> bytes:
    info = helper.make_tensor_value_info
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Sin", ["state"], ["next"])],
        "body",
        [info("i", TensorProto.INT64, []), info("go", TensorProto.BOOL, []), info("state", TensorProto.FLOAT, ["n"])],
        [info("on", TensorProto.BOOL, []), info("next", TensorProto.FLOAT, ["n"])],
    )
    constants = [
        AXIS,
        helper.make_tensor("times", TensorProto.INT64, [], [2**62]),
        helper.make_tensor("yes", TensorProto.BOOL, [], [True]),
    ]
    return graph([SUM, helper.make_node("Loop", ["times", "yes", "sum"], ["score"], body=body)], constants)


@pytest.mark.parametrize("make", [_filled, _expanded])
def test_a_memory_bomb_is_refused_by_every_scorer(bundle: Bundle, make: Callable[[], bytes]) -> None:
    forge(bundle, "model.onnx", make())
    opened = Bundle.open(bundle.path)
    with pytest.raises(EngineError, match="the model cannot score:.*(memory|allocate)") as caught:
        Scorer(opened).score_matrix(np.ones((3, 2), np.float32))
    assert str(caught.value).isprintable()


def test_at_the_gate_a_bomb_is_one_error(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forge(bundle, "model.onnx", _filled())
    with pytest.raises(EngineError, match="the model cannot score"):
        ApartScorer(Bundle.open(bundle.path), tmp_path).score(TABLE)
    monkeypatch.setattr(apart, "_SECONDS", 1.5)
    forge(bundle, "model.onnx", _endless())
    started = time.monotonic()
    with pytest.raises(EngineError, match="has not scored 3 rows in 2 s, and was stopped"):
        ApartScorer(Bundle.open(bundle.path), tmp_path).score(TABLE)
    assert time.monotonic() - started < 30


def test_the_scoring_process_has_an_end_to_its_memory() -> None:
    """For what ONNX Runtime takes beside its tensors."""
    code = "from trunkline.gate.apart import _limit; _limit(200 << 20); bytearray(100 << 20); bytearray(300 << 20)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr.rstrip().endswith("MemoryError")


def test_a_server_does_not_start_on_a_bomb(bundle: Bundle, tmp_path: Path) -> None:
    forge(bundle, "model.onnx", _filled())
    spool = tmp_path / "spool"
    with pytest.raises(EngineError, match="the server .* at its start") as caught:
        process.start(bundle.path, reference="models:/y/1", deployment="y", spool=spool, root=tmp_path)
    assert "the model cannot score" in str(caught.value.hint)
    assert "Traceback" not in str(caught.value.hint)


# -- JSON

_HOSTILE: tuple[Any, ...] = (
    None, True, -1, 0, 1.5, 1e308, 2**63, 10**400, "", "x" * 10_000, "../../x", "\x1b[2J", [], [[]], [-1],
    [2**40, 2**40, 3], {}, {"kind": "image"}, [None], [1, 2, 3],
)  # fmt: skip


def _places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield at
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from _places(item, (*at, key))


def _with(value: Any, at: tuple[Any, ...], other: Any) -> Any:
    if not at:
        return other
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[at[0]] = _with(value[at[0]], at[1:], other)
    return copy


@pytest.mark.parametrize("name", ["encoder.json", "signature.json", "bundle.json"])
def test_any_value_anywhere_in_the_json_is_refused_or_works(bundle: Bundle, name: str) -> None:
    whole = json.loads((bundle.path / name).read_bytes())
    refused = 0
    for place in _places(whole):
        for hostile in _HOSTILE:
            content = json.dumps(_with(whole, place, hostile)).encode()
            (bundle.path / name).write_bytes(content) if name == "bundle.json" else forge(bundle, name, content)
            try:
                opened = Bundle.open(bundle.path)
                Scorer(opened).score_rows([{"x": 1.0, "c": "a"}])
            except (IntegrityError, EngineError):
                refused += 1
    assert refused > 100


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"[" * 200_000 + b"]" * 200_000, "is nested too deep"),
        (b'{"columns": ' * 100_000 + b"1" + b"}" * 100_000, "is nested too deep"),
        (b'{"columns": [], "categories": {}, "n": ' + b"9" * 100_000 + b"}", "is no JSON"),
        (b'{"columns": NaN, "categories": {}}', "NaN is no number in JSON"),
        (b'{"columns": -Infinity, "categories": {}}', "-Infinity is no number in JSON"),
        (b'{"columns": [' + b"{}," * (24 << 20) + b"{}]}", "is larger than 64 MiB"),
        (b"\xff\xfe\x00", "is no JSON"),
    ],
    ids=["deep", "deep objects", "long number", "NaN", "infinite", "large", "no text"],
)
@pytest.mark.parametrize("name", ["encoder.json", "bundle.json"])
def test_a_json_bomb_is_refused(bundle: Bundle, name: str, content: bytes, says: str) -> None:
    if name == "bundle.json":
        (bundle.path / name).write_bytes(content)
    else:
        forge(bundle, name, content)
    with pytest.raises(IntegrityError, match=says):
        Bundle.open(bundle.path)


# -- names

NAMES = [
    '"; drop table orders; --',
    "'; drop table orders; --",
    "$(touch spark)`touch spark`",
    "<script>alert(1)</script>",
    "a|b](https://example.org)![x](y)",
    "\x1b[2J\x1b]0;owned\x07",
    "\u202egnp.exe",
    "line\nbreak\r\n::set-output",
    "{{ 7 * 7 }} {0} %s",
]


def named(directory: Path, names: list[str]) -> Bundle:
    """A bundle whose inputs, target and classes are called so."""
    signature = Signature(tuple(Field(name, "number") for name in names), target=names[0])
    table = pa.table({name: [float(place), 2.0, None] for place, name in enumerate(names)})
    weights = numpy_helper.from_array(np.arange(1, len(names) + 1, dtype=np.float32), "weights")
    content = model(weights=weights, width=len(names))
    encoder = Encoder.fit(table, signature, min_count=1)
    return Bundle.write(directory, signature=signature, encoder=encoder, onnx=content, metadata={"dataset": names[0]})


def test_names_of_columns_are_text_in_the_warehouse(tmp_path: Path) -> None:
    bundle = named(tmp_path / "bundle", NAMES)
    table = pa.table({name: [float(place), 0.5, None] for place, name in enumerate(NAMES)})
    pq.write_table(table, tmp_path / "rows.parquet")
    warehouse: Any = open_warehouse("duckdb", {"path": ":memory:"}, tmp_path)
    warehouse.execute("create table orders as select 1 as id")
    takes = arguments(bundle.signature)
    function = PythonFunction(Relation("main", "try_it"), takes, "DOUBLE", "", "")
    call = over_arrow(bundle.signature.names, lambda: Scorer(bundle))
    try:
        found = warehouse.try_function(function, call, tmp_path / "rows.parquet")
        warehouse.create_function(function, call)
        given = ", ".join(map(warehouse.quote, NAMES))
        asked = warehouse.query(f"select main.try_it({given}) from '{tmp_path}/rows.parquet'")
        assert warehouse.query("select count(*) from orders") == [(1,)]
    finally:
        warehouse.close()
    assert found == pytest.approx(Scorer(bundle).score(table).tolist())
    assert [row[0] for row in asked] == pytest.approx(found)
    assert not Path("spark").exists()


def test_names_of_columns_and_models_are_text_in_snowflake(tmp_path: Path) -> None:
    bundle = named(tmp_path / "bundle", NAMES)
    archive = pack(bundle, tmp_path / "packed", "predict_y")
    reference = 'models:/y/1"""\nimport os; os.system("touch spark")\n"""\\'
    source = handler_source(archive, reference=reference, sha256=bundle.sha256)
    assert "import os; os.system" in (compile(source, "handler", "exec").co_consts[0] or "")  # in the docstring, whole
    made = PythonFunction(Relation("main", "try_it"), arguments(bundle.signature), "DOUBLE", source, "predict")
    text = create_function('"DB"."MAIN"."TRY_IT"', made, [])
    head = text.split("\nreturns ")[0]
    assert head.count('"') == 6 + 2 * len(NAMES) + 2  # each name between two, and the one in a name twice
    assert '("""; drop table orders; --" FLOAT, ' in head


@pytest.mark.parametrize("name", [*NAMES, "../up", "/etc", "a/b", ".hidden", "-option", "a b", ""])
def test_no_model_is_called_so(name: str) -> None:
    with pytest.raises(ModelReferenceError) as caught:
        check_model_name(name)
    assert str(caught.value).replace("\n", "").isprintable()
    with pytest.raises(ModelReferenceError):
        parse_reference(f"models:/{name}/1")


def test_an_error_tells_a_terminal_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    _report(IntegrityError(f"a bundle of {NAMES[5]} {NAMES[6]}", hint=NAMES[7]), as_json=False)
    said = capsys.readouterr().err
    assert said.splitlines() == [
        r"error: a bundle of \x1b[2J\x1b]0;owned\x07 \u202egnp.exe",
        r"hint: line",
        r"break\r",
        "::set-output",
    ]


# -- fetching


class _Hostile:
    """A registry whose bundles are what somebody made of them."""

    def __init__(self, poison: Callable[[Bundle], object]) -> None:
        self._poison = poison

    def fetch(self, version: Any, directory: Path) -> Path:
        self._poison(write(directory, dataset="orders"))
        return directory


@pytest.mark.parametrize(
    ("poison", "says"),
    [
        (lambda bundle: (bundle.path / "model.onnx").write_bytes(model(output="score") + b"\x0a\x00"), "was recorded"),
        (lambda bundle: (bundle.path / "extra").write_text("x"), "holds 'extra'"),
        (lambda bundle: (bundle.path / "encoder.json").unlink(), r"lacks encoder\.json"),
        (lambda bundle: forge(bundle, "model.onnx", _gigantic([1 << 40])), "was recorded"),
    ],
    ids=["other bytes", "extra file", "missing file", "other model"],
)
def test_what_is_fetched_is_checked_before_it_is_here(
    tmp_path: Path, poison: Callable[[Bundle], object], says: str
) -> None:
    whole = write(tmp_path / "whole", dataset="orders")
    version: Any = SimpleNamespace(uri="models:/y/1", sha256=whole.sha256, tags={})
    project: Any = SimpleNamespace(state=tmp_path / "state")
    context: Any = SimpleNamespace(registry=lambda: _Hostile(poison))
    with pytest.raises(IntegrityError, match=says):
        fetched(project, context, version)
    assert [path for path in (tmp_path / "state").rglob("*") if path.is_file()] == []
    context.registry = lambda: _Hostile(lambda bundle: None)
    assert fetched(project, context, version).sha256 == whole.sha256


@pytest.mark.parametrize("sha256", ["../../etc", "", "0" * 63, "Z" * 64, "/etc/passwd"])
def test_a_digest_names_no_folder_elsewhere(tmp_path: Path, sha256: str) -> None:
    version: Any = SimpleNamespace(uri="models:/y/1", sha256=sha256, tags={})
    with pytest.raises(ModelReferenceError, match="carries no digest of a bundle"):
        fetched(SimpleNamespace(state=tmp_path), SimpleNamespace(), version)  # type: ignore[arg-type]
