"""What the gate takes out of a dataset's open parts: rows for servers and parity, and the keys that training saw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from trunkline.datasets.manifest import Manifest
from trunkline.errors import DatasetError, did_you_mean
from trunkline.gate.intervals import Ints
from trunkline.project.files import check_content

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["MOST_ROWS", "OpenPart", "probe_rows", "schema_of", "seen"]

MOST_ROWS = 2_000
_MOST_BYTES = 64 << 20  # of the file's: rows with images are large
_FEWEST = 50


@dataclass(frozen=True)
class OpenPart:
    """A dataset's folder and its manifest."""

    folder: Path
    manifest: Manifest


def schema_of(part: OpenPart) -> pa.Schema:
    """The columns of the dataset."""
    import pyarrow.parquet as pq

    return pq.read_schema(part.folder / str(part.manifest.parts["validation"].file))


def probe_rows(part: OpenPart, inputs: Sequence[str], *, seed: int = 0) -> pa.Table:
    """At most `MOST_ROWS` rows of the validation part, in its order, with the key and `inputs`.

    The same dataset and seed give the same rows. No row is of the sealed part: what the gate sends to servers, and
    shows where they answer something else, has been open all along. Raises DatasetError for an input that is not
    there, IntegrityError for a file that is not what was made.
    """
    import pyarrow.parquet as pq

    recorded = part.manifest.parts["validation"]
    file = part.folder / str(recorded.file)
    check_content(file, recorded.file_digest)
    opened = pq.ParquetFile(file)
    there = opened.schema_arrow.names
    for name in inputs:
        if name not in there:
            raise DatasetError(
                f"the dataset {part.manifest.name!r} has no column {name!r}, which a model takes."
                f"{did_you_mean(name, there)}",
                hint=f"its columns are: {', '.join(there[:40])}",
            )
    columns = list(dict.fromkeys([part.manifest.key, *inputs]))
    wanted = _wanted(recorded.rows, recorded.bytes)
    chosen = np.sort(np.random.default_rng(seed).choice(recorded.rows, wanted, replace=False))
    return _taken(opened, columns, chosen)


def _wanted(rows: int, size: int) -> int:
    fits = _MOST_BYTES * rows // max(size, 1)
    return min(rows, MOST_ROWS, max(fits, _FEWEST))


def _taken(opened: pa.parquet.ParquetFile, columns: list[str], chosen: Ints) -> pa.Table:
    """The rows with these numbers, one row group in memory at a time."""
    import pyarrow as pa

    first, pieces = 0, []
    for group in range(opened.num_row_groups):
        rows = opened.metadata.row_group(group).num_rows
        inside = chosen[(chosen >= first) & (chosen < first + rows)] - first
        if len(inside):
            pieces.append(opened.read_row_group(group, columns).take(pa.array(inside)))
        first += rows
    return pa.concat_tables(pieces)


def seen(sealed: pa.Table, part: OpenPart) -> int:
    """How many rows of the sealed part have a key that is in the open parts of `part`, or that is there twice."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    key = part.manifest.key
    keys = sealed.column(key)
    found = np.zeros(len(keys), np.bool_)
    for recorded in part.manifest.parts.values():
        if recorded.file is None:
            continue
        there = pq.read_table(part.folder / recorded.file, columns=[key]).column(key)
        if there.type != keys.type:
            there = there.cast(keys.type)
        found |= pc.is_in(keys, pa.array(pc.unique(there))).to_numpy()
    return int(found.sum())
