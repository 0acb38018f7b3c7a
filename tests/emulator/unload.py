"""COPY INTO a stage, GET and REMOVE: Snowflake's way out of the warehouse, which fakesnow lacks."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as parquet
from fakesnow.transforms import stage
from snowflake.connector.errors import ProgrammingError

ROWS_A_FILE = 100_000  # Snowflake goes by size (max_file_size); what matters is that there are several

_PLACE = r"(?:'@[^']+'|@\S+?)"
_COPY = re.compile(rf"copy\s+into\s+({_PLACE})\s+from\s+(.*)\Z", re.I | re.S)
_GET = re.compile(rf"get\s+({_PLACE})\s+('file://[^']*'|file://\S+)", re.I)
_REMOVE = re.compile(rf"(?:rm|remove)\s+({_PLACE})\s*(?:pattern\b.*)?\Z", re.I | re.S)


def stage_folder(connection: Any) -> Path:
    """The folder that holds the files of every internal stage."""
    return Path(stage.LOCAL_BUCKET_PATH)


def answer(statement: str, connection: Any, address: str) -> str | dict[str, Any] | None:
    """A whole answer, or a statement that gives it; None: not one of ours. `address` is that of this server."""
    if copy := _COPY.match(statement):
        return _unload(copy[1], _source(copy[2]), connection)
    if get := _GET.match(statement):
        return _get(get[1], get[2].strip("'").removeprefix("file://"), connection, address)
    if remove := _REMOVE.match(statement.rstrip("; \n")):
        return _remove(remove[1], connection)
    return None


def _place(text: str, connection: Any) -> tuple[Path, str]:
    """The folder of a stage and the prefix within it, of `@db.schema.stage/prefix`."""
    name, _, prefix = text.strip("'").removeprefix("@").partition("/")
    parts = stage.parts_from_var(name, connection.database, connection.schema)
    listed = "select 1 from _fs_global._fs_information_schema._fs_stages where database_name = ? and schema_name = ? "
    if not connection._duck_conn.execute(f"{listed} and name = ?", parts).fetchall():
        raise stage.not_found_error(".".join(parts))
    return Path(stage.internal_dir(".".join(parts))), prefix


def _source(text: str) -> str:
    """The query of `(select …) file_format = …`, or of `table file_format = …`."""
    if not text.startswith("("):
        return f"select * from {text.split(None, 1)[0]}"
    depth = 0
    for token in re.finditer(r"'(?:[^'\\]|''|\\.)*'|\"(?:[^\"]|\"\")*\"|[()]", text):
        depth += {"(": 1, ")": -1}.get(token[0], 0)
        if depth == 0:
            return text[1 : token.start()]
    raise ProgrammingError(msg="SQL compilation error: unclosed parenthesis", errno=1003, sqlstate="42000")


def _unload(place: str, query: str, connection: Any) -> str:
    """Parquet files named as Snowflake names them. Of instants, Snowflake unloads none to Parquet."""
    folder, prefix = _place(place, connection)
    cursor = connection.cursor()
    cursor.execute(query)
    table: pa.Table = cursor._arrow_table
    for field in table.schema:
        if pa.types.is_timestamp(field.type) and field.type.tz:
            text = (
                f"Error encountered when unloading to PARQUET: {field.name}: no TIMESTAMP_TZ and LTZ in Parquet files"
            )
            raise ProgrammingError(msg=text, errno=2136, sqlstate="0A000")
    stem = f"{prefix}data" if not prefix or prefix.endswith("/") else prefix
    written = 0
    for number, start in enumerate(range(0, table.num_rows, ROWS_A_FILE)):
        file = folder / f"{stem}_0_{number}_0.snappy.parquet"
        file.parent.mkdir(parents=True, exist_ok=True)
        parquet.write_table(table.slice(start, ROWS_A_FILE), file)
        written += file.stat().st_size
    return f'select {table.num_rows} as "rows_unloaded", {table.nbytes} as "input_bytes", {written} as "output_bytes"'


def _files(place: str, connection: Any) -> tuple[Path, list[Path]]:
    folder, prefix = _place(place, connection)
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return folder, [file for file in files if file.relative_to(folder).as_posix().startswith(prefix)]


def _get(place: str, local: str, connection: Any, address: str) -> dict[str, Any]:
    """What tells the client where to download each file: over HTTP, from this server."""
    folder, files = _files(place, connection)
    inside = [file.relative_to(stage.LOCAL_BUCKET_PATH).as_posix() for file in files]
    data = {
        "command": "DOWNLOAD",
        "src_locations": [f"{folder.name}/{file.relative_to(folder).as_posix()}" for file in files],
        "localLocation": local,
        "parallel": 4,
        "encryptionMaterial": [],
        "presignedUrls": [f"{address}/fs_bucket/{quote(path)}" for path in inside],
        "stageInfo": {"locationType": "GCS", "location": "stage/", "creds": {}},
        "autoCompress": False,
        "overwrite": False,
        "sourceCompression": "none",
    }
    return {"success": True, "data": data}


def _remove(place: str, connection: Any) -> str:
    _, files = _files(place, connection)
    for file in files:
        file.unlink()
    rows = [f"""('{file.name}', 'removed')""" for file in files]
    empty = """select '' as "name", '' as "result" where false"""
    return f"""select column1 as "name", column2 as "result" from values {", ".join(rows)}""" if rows else empty
