"""A bundle as a SQL function: equal scores from DuckDB, from pandas' frames, and from the scorer itself."""

from __future__ import annotations

import threading
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from tests.unit.models.scored import SIGNATURE, bundle_of_all_kinds, rows
from trunkline.models.bundle import Bundle
from trunkline.models.function import RETURNS, arguments, over_arrow, over_pandas
from trunkline.models.runtime import Scorer

TABLE = rows(5_000)
ROUNDING = 1e-6  # the gate's own: vector units sum a batch's last rows in another order


@pytest.fixture(scope="module")
def scorer(tmp_path_factory: pytest.TempPathFactory) -> Scorer:
    return Scorer(bundle_of_all_kinds(tmp_path_factory.mktemp("scored") / "bundle"))


def far(found: np.ndarray, expected: np.ndarray) -> int:
    """How many scores differ by more than rounding."""
    assert found.shape == expected.shape
    return int((np.abs(found - expected) > ROUNDING).sum())


def test_arguments_are_of_portable_types() -> None:
    assert arguments(SIGNATURE) == (
        ("x", "DOUBLE"),
        ("c", "VARCHAR"),
        ("b", "BOOLEAN"),
        ("t", "TIMESTAMP"),
        ("z", "DOUBLE"),
    )


@pytest.mark.parametrize("threads", [1, 4])
def test_duckdb_scores_as_the_scorer_does(scorer: Scorer, threads: int) -> None:
    table = pa.concat_tables([TABLE] * 60).append_column("n", pa.array(range(len(TABLE) * 60)))
    types = dict(arguments(SIGNATURE))
    with duckdb.connect(config={"threads": threads}) as connection:
        connection.create_function(
            "predict",
            over_arrow(SIGNATURE.names, lambda: scorer),
            [*types.values()],
            RETURNS,
            type="arrow",
            null_handling="special",
        )
        given = ", ".join(f"cast({name} as {type_})" for name, type_ in types.items())
        connection.register("rows", table)
        found = connection.sql(f"select n, predict({given}) as score from rows order by n").to_arrow_table()
    assert found["score"].null_count == 0
    assert far(found["score"].to_numpy(), np.tile(scorer.score(TABLE), 60)) == 0


def test_the_scorer_is_asked_once_and_only_when_it_is_needed(scorer: Scorer) -> None:
    asked = []

    def find() -> Scorer:
        asked.append(threading.get_ident())
        return scorer

    call = over_arrow(SIGNATURE.names, find)
    assert asked == []
    columns = TABLE.columns
    threads = [threading.Thread(target=call, args=columns) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(asked) == 1


def test_a_bundle_that_changed_is_an_error_of_the_query(tmp_path: Path) -> None:
    bundle = bundle_of_all_kinds(tmp_path / "bundle")
    model = tmp_path / "bundle" / "model.onnx"
    model.write_bytes(model.read_bytes() + b" ")
    call = over_arrow(["x"], lambda: Scorer(Bundle.open(tmp_path / "bundle", expect_sha256=bundle.sha256)))
    with duckdb.connect() as connection:
        connection.create_function("predict", call, ["DOUBLE"], RETURNS, type="arrow", null_handling="special")
        with pytest.raises(duckdb.InvalidInputException, match=r"IntegrityError.* but .* was recorded"):
            connection.sql("select predict(1.0)").fetchall()


@pytest.mark.parametrize("size", [1, 7, 2048])
def test_frames_score_as_tables_do(scorer: Scorer, size: int) -> None:
    call = over_pandas(scorer)
    table = TABLE.slice(0, 500 * size if size < 10 else None)
    frames = [table.slice(start, size).to_pandas() for start in range(0, len(table), size)]
    scores = np.concatenate([call(frame.set_axis(range(5), axis=1)) for frame in frames])
    assert far(scores, scorer.score(table)) == 0


def test_a_frame_of_nothing_but_nulls_is_scored(scorer: Scorer) -> None:
    nothing = pa.table({name: pa.nulls(3) for name in SIGNATURE.names})
    assert over_pandas(scorer)(nothing.to_pandas()).tolist() == scorer.score(nothing).tolist()
    assert over_pandas(scorer)(nothing.slice(0, 0).to_pandas()).tolist() == []
