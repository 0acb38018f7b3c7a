"""Python functions of DuckDB live as long as a connection: the next one is given their code, and writes nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from trunkline.errors import EngineError
from trunkline.warehouse.duckdb import open_duckdb
from trunkline.warehouse.protocol import FunctionRecall, PythonFunction
from trunkline.warehouse.relation import Relation


def times(factor: float) -> Callable[[pa.ChunkedArray], pa.Array]:
    def call(x: pa.ChunkedArray) -> pa.Array:
        return pc.multiply(x, factor).combine_chunks()

    return call


def function(schema: str) -> PythonFunction:
    return PythonFunction(Relation(schema, "scaled"), (("x", "DOUBLE"),), "DOUBLE", source="", handler="")


def test_a_function_is_there_again_once_it_is_recalled(tmp_path: Path) -> None:
    first = open_duckdb({"path": "local.duckdb"}, tmp_path)
    first.create_function(function("main"), times(2))
    first.create_function(function("other"), times(3))  # of the same name, in another schema
    asked = "select main.scaled(i), other.scaled(i) from range(3) t(i)"
    assert first.query(asked) == [(0, 0), (2, 3), (4, 6)]
    first.close()
    second = open_duckdb({"path": "local.duckdb"}, tmp_path)
    assert isinstance(second, FunctionRecall)
    with pytest.raises(EngineError, match="scaled"):
        second.query(asked)
    second.recall_function(function("other"), times(3))
    second.recall_function(function("main"), times(2))
    assert second.query(asked) == [(0, 0), (2, 3), (4, 6)]
    second.recall_function(function("main"), times(5))
    assert second.query("select main.scaled(1)") == [(5,)]
    second.close()
