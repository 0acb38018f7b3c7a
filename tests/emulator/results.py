"""Results in several parts: Snowflake answers with the first rows and links to the rest, fakesnow with everything."""

from __future__ import annotations

import base64
import itertools
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

ROWS_A_PART = 50_000
KEPT = 64  # parts: Snowflake's links last for hours


@dataclass
class Parts:
    """The parts that wait to be downloaded."""

    _numbers: itertools.count[int] = field(default_factory=itertools.count)
    _kept: dict[str, bytes] = field(default_factory=dict)

    def divide(self, data: dict[str, Any], address: str) -> None:
        """Leave the first part of a large result in the answer and put links to the others into it."""
        if data.get("queryResultFormat") != "arrow" or int(data.get("total") or 0) <= ROWS_A_PART:
            return
        table = pa.ipc.open_stream(base64.b64decode(data["rowsetBase64"])).read_all()
        first, *rest = [table.slice(start, ROWS_A_PART) for start in range(0, table.num_rows, ROWS_A_PART)]
        data["rowsetBase64"] = base64.b64encode(_stream(first)).decode()
        data["chunkHeaders"] = {}
        data["chunks"] = [self._link(part, address) for part in rest]

    def take(self, name: str) -> bytes:
        """A part, as often as it is asked for while it is kept."""
        return self._kept[name]

    def _link(self, part: pa.Table, address: str) -> dict[str, Any]:
        raw, name = _stream(part), str(next(self._numbers))
        self._kept[name] = raw
        for old in list(self._kept)[:-KEPT]:
            del self._kept[old]
        size = len(raw)
        url = f"{address}/parts/{name}"
        return {"url": url, "rowCount": part.num_rows, "uncompressedSize": size, "compressedSize": size}


def _stream(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()
