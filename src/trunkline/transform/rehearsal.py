"""A child process that calls a generated Snowflake handler as Snowflake would: `python -I rehearsal.py FOLDER`.

FOLDER holds handler.py, rows.arrow and returns.arrow (its type); the answers are written beside them, as 1.arrow,
7.arrow and 2048.arrow by the size of the batches.
What goes wrong is one JSON document on standard output: the error and, from its traceback, the project's own lines.
The process imports nothing of Trunkline, so that a handler which is not self-contained fails here.
"""

from __future__ import annotations

import json
import sys
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["BATCHES", "main"]

BATCHES = (1, 7, 2048)
_CALLS = 300  # small batches see the first rows only: a call takes pandas a millisecond or more


def main(folder: Path) -> int:
    """Run the handler over all rows, once for each size of batch. Exit code 1 after an error."""
    import pyarrow as pa
    import pyarrow.feather as feather

    table = feather.read_table(folder / "rows.arrow")
    returns = feather.read_table(folder / "returns.arrow").schema.field(0).type
    module: dict[str, Any] = {"__name__": "_udf_code"}
    size = 0
    try:
        exec(compile((folder / "handler.py").read_text("utf-8"), "_udf_code.py", "exec"), module)
        handler = module["handler"]
        run = _by_batch if hasattr(handler, "_sf_vectorized_input") else _by_row
        answers: dict[str, Any] = {}
        for size in BATCHES:
            first = table.slice(0, size * _CALLS)
            answers[str(size)] = pa.array(run(handler, first, size), type=returns)
    except Exception as exc:  # noqa: BLE001 - whatever it is, it is the answer
        frames = traceback.extract_tb(exc.__traceback__)  # the project's own files have relative names
        own = [frame for frame in frames if not frame.filename.startswith(("/", "<", "_udf_code"))]
        lines = [[frame.filename, frame.lineno, frame.name] for frame in own]
        sys.stdout.write(json.dumps({"error": f"{type(exc).__name__}: {exc}", "batch": size, "frames": lines}))
        return 1
    for name, answer in answers.items():
        feather.write_feather(pa.table({"answer": answer}), str(folder / f"{name}.arrow"), compression="uncompressed")
    return 0


def _by_batch(handler: Callable[[Any], Any], table: Any, size: int) -> list[Any]:
    """A vectorised handler: DataFrames with columns 0…n-1 in, as many values out, missing ones as None."""
    import pandas as pd

    answers: list[Any] = []
    for start in range(0, table.num_rows, size):
        part = table.slice(start, size)
        frame = pd.DataFrame({place: _as_snowflake(part.column(place)) for place in range(part.num_columns)})
        result = handler(frame)
        values = [None if pd.isna(value) else value for value in result]
        answers += [value.to_pydatetime() if isinstance(value, pd.Timestamp) else value for value in values]
    return answers


def _as_snowflake(column: Any) -> Any:
    """The dtypes that Snowflake documents: plain ones where nothing is missing, nanoseconds where they reach."""
    import pandas as pd
    import pyarrow as pa

    if pa.types.is_string(column.type):
        return column.to_pandas(types_mapper={pa.string(): pd.StringDtype()}.get)
    if pa.types.is_temporal(column.type):
        moments = column.cast(pa.timestamp("us")).to_pandas()
        near = moments.dropna().between(pd.Timestamp("1678-01-01"), pd.Timestamp("2262-01-01")).all()
        return moments.astype("datetime64[ns]") if near else moments
    nullable = {pa.int64(): pd.Int64Dtype(), pa.bool_(): pd.BooleanDtype()}
    return column.to_pandas(types_mapper=nullable.get if column.null_count else None)


def _by_row(handler: Callable[..., Any], table: Any, size: int) -> list[Any]:
    return [handler(*row) for row in zip(*(column.to_pylist() for column in table.columns), strict=True)]


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # about infinities and overflow: the answers are what counts
    sys.exit(main(Path(sys.argv[1])))
