"""The packed bundle, as the Python of a warehouse would run it: another process, its own import path, small batches."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.unit.models.scored import bundle_of_all_kinds, rows
from trunkline.errors import IntegrityError
from trunkline.models.bundle import Bundle
from trunkline.models.packed import handler_source, pack, unpack
from trunkline.models.runtime import Scorer

TABLE = rows(4_500)

# What Snowflake is to a function: its module, its import directory, and frames with numbered columns.
HARNESS = """
import importlib.abc, json, sys, types

class Refuse(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.partition(".")[0] in {"trunkline", "onnx", "duckdb", "mlflow"} and not path:
            if not any(entry.startswith(sys.argv[1]) for entry in sys.path):
                raise ImportError(f"{name} is not installed here")

def vectorized(input):
    return lambda function: function

stub = types.ModuleType("_snowflake")
stub.vectorized = vectorized
sys.modules["_snowflake"] = stub
sys._xoptions["snowflake_import_directory"] = sys.argv[1] + "/"
sys.path = [entry for entry in sys.path if "site-packages" in entry or "python3" in entry]
sys.meta_path.insert(0, Refuse())

import pyarrow as pa, pyarrow.parquet as pq
table = pq.read_table(sys.argv[2])
scope = {"__name__": "handler"}
exec(open(sys.argv[1] + "/handler.py").read(), scope)
import trunkline
assert trunkline.__file__.startswith(sys.argv[1]), trunkline.__file__
scores = {}
for size in (1, 7, 2048):
    found = []
    for start in range(0, 400 if size == 1 else len(table), size):
        frame = table.slice(start, min(size, 400 - start) if size == 1 else size).to_pandas()
        found += scope["predict"](frame.set_axis(range(frame.shape[1]), axis=1)).tolist()
    scores[size] = found
assert not {"onnx", "duckdb", "mlflow", "torch"} & set(sys.modules)
print(json.dumps(scores))
"""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return bundle_of_all_kinds(tmp_path_factory.mktemp("packed") / "bundle")


def test_the_handler_scores_as_the_scorer_does(bundle: Bundle, tmp_path: Path) -> None:
    archive = pack(bundle, tmp_path, "predict_y")
    (tmp_path / "handler.py").write_text(handler_source(archive, reference="models:/y/1", sha256=bundle.sha256))
    pq.write_table(TABLE, tmp_path / "rows.parquet")
    done = subprocess.run(
        [sys.executable, "-c", HARNESS, str(tmp_path), str(tmp_path / "rows.parquet")],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    expected = Scorer(bundle).score(TABLE)
    found = {int(size): np.array(scores) for size, scores in json.loads(done.stdout).items()}
    assert {size: len(scores) for size, scores in found.items()} == {1: 400, 7: 4_500, 2048: 4_500}
    differ = {size: int((np.abs(scores - expected[: len(scores)]) > 1e-6).sum()) for size, scores in found.items()}
    assert differ == {1: 0, 7: 0, 2048: 0}


def test_the_same_bundle_gives_the_same_bytes_and_name(bundle: Bundle, tmp_path: Path) -> None:
    first, second = pack(bundle, tmp_path / "a", "predict_y"), pack(bundle, tmp_path / "b", "predict_y")
    assert first.name == second.name
    assert first.read_bytes() == second.read_bytes()
    assert pack(bundle, tmp_path / "a", "predict_y") == first
    assert [path.name for path in (tmp_path / "a").iterdir()] == [first.name]


def test_a_damaged_file_is_written_anew(bundle: Bundle, tmp_path: Path) -> None:
    path = pack(bundle, tmp_path, "predict_y")
    whole = path.read_bytes()
    path.write_bytes(whole[:1000])
    assert pack(bundle, tmp_path, "predict_y").read_bytes() == whole


def test_several_that_pack_at_once_do_not_meet(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each writes a file of its own, which is renamed when it is whole."""
    both, write, names = threading.Barrier(2, timeout=20), Path.write_bytes, []

    def slow(path: Path, content: bytes) -> int:
        names.append(path)
        both.wait()
        return write(path, content)

    monkeypatch.setattr(Path, "write_bytes", slow)
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: pack(bundle, tmp_path, "predict_y"), range(2))
    assert first == second
    assert len({*names}) == 2
    assert [path.name for path in tmp_path.iterdir()] == [first.name]
    assert unpack(str(first), bundle.sha256)


def test_another_bundle_than_was_published_is_not_loaded(bundle: Bundle, tmp_path: Path) -> None:
    archive = pack(bundle, tmp_path, "predict_y")
    assert (unpack(str(archive), bundle.sha256).score(TABLE) == Scorer(bundle).score(TABLE)).all()
    with pytest.raises(IntegrityError, match="was recorded"):
        unpack(str(archive), "0" * 64)
    changed = tmp_path / "changed.zip"
    with zipfile.ZipFile(archive) as whole, zipfile.ZipFile(changed, "w") as other:
        for name in whole.namelist():
            other.writestr(name, whole.read(name) + (b" " if name.endswith("model.onnx") else b""))
    with pytest.raises(IntegrityError, match=f"{bundle.sha256} was recorded"):
        unpack(str(changed), bundle.sha256)


def test_a_bundle_that_changed_is_not_packed(tmp_path: Path) -> None:
    bundle = bundle_of_all_kinds(tmp_path / "bundle")
    model = bundle.path / "model.onnx"
    model.write_bytes(model.read_bytes() + b" ")
    with pytest.raises(IntegrityError, match="changed after it was opened"):
        pack(bundle, tmp_path / "packed", "predict_y")


def test_columns_are_taken_by_place(bundle: Bundle) -> None:
    scorer = Scorer(bundle)
    columns = [pa.chunked_array([column.combine_chunks()]) for column in TABLE.columns]
    assert (scorer.score_columns(columns) == scorer.score(TABLE)).all()
