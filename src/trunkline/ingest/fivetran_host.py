"""Runs an unmodified `connector.py` of Fivetran's Connector SDK, and writes what it sends to a pipe.

Started by path in the environment of the connector, which has the SDK and not Trunkline: nothing of Trunkline is
imported here, nor anything but the standard library, grpc and the SDK (from 2.13, below 3: that is not free software).

What comes in by stdin, one JSON object a line:

    {"connector": PATH, "configuration": {…}, "state": {…}}         at the start
    {"tables": {NAME: {"source": …, "id": …, "synced": …, "deleted": …}}}   after the schema; names in lower case

What goes out by stdout are frames: one byte that says what, four bytes of length (big-endian), and so many bytes:

    H  {"sdk": version, "python": version}                          first
    S  {"tables": [{"name", "columns": {name: type}, "key": […]}]}  null in place of the list: there is no schema
    R  the table's `source`, a line feed, and rows as JSON lines; `$op` says "update" or "delete", none is an upsert
    T  a table's `source`: all rows that it had are gone
    C  the state of a checkpoint
    W  {"message"}                                                  a warning of the connector
    U  {name: rows}                                                 rows of tables that nobody asked for: not sent
    E  {"kind", "what", "trace"}                                    it ended badly, in the kind "environment", "import",
                                                                    "connector" or "sync"
    Z  nothing                                                      it ended well

Values are exact: decimals, dates and times (ISO 8601) are texts, binary is `\\x00\\xFF`, JSON is JSON. Whatever the
connector prints goes to stderr. When stdin ends, so does this process, with all that it started.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import shutil
import signal
import struct
import sys
import tempfile
import threading
import traceback
from collections.abc import Iterator, Mapping
from concurrent import futures
from json.encoder import encode_basestring
from types import GeneratorType
from typing import Any, BinaryIO

_FRAME = struct.Struct(">cI")
_MOST_BYTES = 128 * 1024 * 1024  # of one message, as the SDK has it
_NUMBERS = ("SHORT", "INT", "LONG")
_UPDATE, _DELETE, _TRUNCATE = 1, 2, 3
_OPS = {_UPDATE: '"$op":"update"', _DELETE: '"$op":"delete"'}


class Ended(Exception):
    """The sync ends here. `kind` is environment, import, connector or sync."""

    def __init__(self, kind: str, what: str, trace: str = "") -> None:
        super().__init__(what)
        self.kind, self.what, self.trace = kind, what, trace


class Frames:
    """Writes frames."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def write(self, kind: bytes, payload: bytes) -> None:
        """One frame. Waits while nobody reads."""
        self._file.write(_FRAME.pack(kind, len(payload)) + payload)
        self._file.flush()

    def json(self, kind: bytes, payload: Any) -> None:
        """One frame of JSON."""
        self.write(kind, json.dumps(payload).encode())


class Values:
    """Values of one table as JSON. `types` are the columns' declared ones, by name."""

    def __init__(self, types: Mapping[str, str]) -> None:
        self._types = types

    def row(self, record: Any) -> list[str]:
        """`"name":value` of each column."""
        if record.row_data or not record.data:
            return [f"{_name(name)}:{self._text(name, value)}" for name, value in record.row_data.items()]
        return [f"{_name(name)}:{_typed(value)}" for name, value in record.data.items()]

    def _text(self, name: str, value: bytes) -> str:
        """A value in the SDK's short form: a byte that says what it is, and its text."""
        kind, text = value[0], value[1:]
        if kind == 0:
            return "null"
        if kind == 2:
            return _json(text.decode())
        if kind == 3:
            return _binary(text)
        plain = text.decode()
        if kind in (4, 5):
            return _number(plain)
        declared = self._types.get(name)
        if declared in _NUMBERS or (declared == "BOOLEAN" and plain in ("true", "false")):
            return plain
        return encode_basestring(plain)


def _name(name: str) -> str:
    return encode_basestring("_op" if name == "$op" else name)


def _typed(value: Any) -> str:
    """A value in the SDK's long form: a message with one field set."""
    kind = value.WhichOneof("inner")
    held = getattr(value, kind) if kind else None
    if held is None or kind == "null":
        return "null"
    if kind == "bool":
        return "true" if held else "false"
    if kind in ("short", "int", "long"):
        return str(held)
    if kind in ("float", "double"):
        return _number(_shortest(held) if kind == "float" else repr(held))
    if kind == "binary":
        return _binary(held)
    if kind == "json":
        return _json(held)
    if kind.startswith(("naive_", "utc_")):
        return encode_basestring(_time(kind, held))
    return encode_basestring(held)


def _shortest(single: float) -> str:
    """The fewest digits that mean this number of 32 bits."""
    texts = (f"{single:.{digits}g}" for digits in range(6, 10))
    return next((text for text in texts if struct.pack(">f", float(text)) == struct.pack(">f", single)), repr(single))


def _number(text: str) -> str:
    """A number; as text where JSON has none."""
    spelt = text.lower()
    if "nan" in spelt:
        return '"NaN"'
    if "inf" in spelt:
        return '"-Infinity"' if spelt.startswith("-") else '"Infinity"'
    return text


def _binary(held: bytes) -> str:
    return encode_basestring("".join(f"\\x{byte:02X}" for byte in held))


def _json(text: str) -> str:
    """JSON inside JSON. A text of its own is quoted once more, for it is read as a text first; NaN becomes null."""
    if "NaN" in text or "Infinity" in text:
        text = json.dumps(json.loads(text, parse_constant=lambda _: None))
    return encode_basestring(text) if text.startswith('"') else text


def _time(kind: str, held: Any) -> str:
    at = held.ToDatetime()
    if kind == "naive_date":
        return str(at.date().isoformat())
    if kind == "naive_time":
        return str(at.time().isoformat())
    return f"{at.isoformat()}{'+00:00' if kind == 'utc_datetime' else ''}"


class Tables:
    """Turns what the connector sends into frames, for the tables that are wanted."""

    def __init__(self, frames: Frames, declared: Mapping[str, Mapping[str, str]]) -> None:
        self._frames = frames
        self._values = {name: Values(types) for name, types in declared.items()}
        self.wanted: Mapping[str, Mapping[str, Any]] = {}
        self.unwanted: dict[str, int] = {}
        self._source, self._lines = "", list[str]()

    def take(self, records: Any) -> None:
        """Records of one message, in order."""
        synced = f'"_fivetran_synced":"{dt.datetime.now(dt.timezone.utc).isoformat()}"'  # noqa: UP017  # Python 3.10
        for record in records:
            name = _qualified(record.schema_name, record.table_name)
            table = self.wanted.get(name.lower())
            if record.type == _TRUNCATE:
                self.truncate(name)
            elif table is None:
                self.unwanted[name] = self.unwanted.get(name, 0) + 1
            else:
                if table["source"] != self._source:
                    self.flush()
                    self._source = table["source"]
                self._lines.append(self._line(name, record, table, synced))
        self.flush()

    def truncate(self, name: str) -> None:
        """All rows of a table are gone."""
        self.flush()
        if table := self.wanted.get(name.lower()):
            self._frames.write(b"T", table["source"].encode())

    def flush(self) -> None:
        """Send the lines that wait."""
        if self._lines:
            self._frames.write(b"R", f"{self._source}\n".encode() + "\n".join(self._lines).encode())
            self._lines.clear()

    def _line(self, name: str, record: Any, table: Mapping[str, Any], synced: str) -> str:
        values = self._values.setdefault(name, Values({}))
        parts = values.row(record)
        op = _OPS.get(record.type)
        if table["id"] and not op:
            parts.append(f'"_fivetran_id":"{_identity(parts)}"')
        if table["deleted"] and record.type != _UPDATE:
            op = _OPS[_UPDATE] if record.type == _DELETE else None
            parts.append(f'"_fivetran_deleted":{"true" if op else "false"}')
        if table["synced"]:
            parts.append(synced)
        return "{" + ",".join([op, *parts] if op else parts) + "}"


def _identity(parts: list[str]) -> str:
    """What tells a row of a table without a key from others: a hash of its values, whatever their order."""
    return hashlib.blake2b("\n".join(sorted(parts)).encode(), digest_size=20).hexdigest()


def _qualified(schema: str, table: str) -> str:
    return f"{schema}.{table}" if schema else table


class Watched:
    """The connector's own functions. Keeps what they raise: the SDK's service would tell its text alone."""

    def __init__(self, connector: Any, folder: str) -> None:
        self.raised: BaseException | None = None
        self._folder = folder
        connector.update_method = self._watch(connector.update_method)
        if connector.schema_method:
            connector.schema_method = self._watch(connector.schema_method)

    def _watch(self, function: Any) -> Any:
        def call(*positional: Any, **named: Any) -> Any:
            with self._kept():
                result = function(*positional, **named)
            return self._drained(result) if isinstance(result, GeneratorType) else result

        return call

    def _drained(self, generator: Iterator[Any]) -> Iterator[Any]:
        with self._kept():
            yield from generator

    @contextlib.contextmanager
    def _kept(self) -> Iterator[None]:
        try:
            yield
        except BaseException as exc:
            self.raised = exc
            if isinstance(exc, Exception):
                raise
            raise RuntimeError(f"{type(exc).__name__}: {exc}") from exc  # SystemExit would look like a good end

    def ended(self, otherwise: str) -> Ended:
        """The exception that ended the sync, with the lines of the connector it went through."""
        if self.raised is None:
            return Ended("sync", otherwise)
        return Ended("connector", _told(self.raised), _frames_of(self.raised, self._folder))


def _told(exc: BaseException) -> str:
    return f"{type(exc).__name__}: {exc}".rstrip(": ")


def _frames_of(exc: BaseException, folder: str) -> str:
    """The lines of a traceback from where the connector's folder is entered."""
    found = [frame for frame in traceback.extract_tb(exc.__traceback__) if frame.filename != __file__]
    first = next((i for i, frame in enumerate(found) if frame.filename.startswith(folder)), 0)
    return "\n".join(f"  {frame.filename}:{frame.lineno} in {frame.name}: {frame.line}" for frame in found[first:])


def check_sdk() -> str:
    """The SDK's version. Raises `Ended` where it is not one that can be used; asked before it is imported."""
    try:
        version = importlib.metadata.version("fivetran-connector-sdk")
    except importlib.metadata.PackageNotFoundError:
        raise Ended("environment", "fivetran-connector-sdk is not installed") from None
    major, minor, *_ = (int(part) for part in version.split(".")[:2])
    if not (2, 13) <= (major, minor) < (3, 0):
        raise Ended("environment", f"fivetran-connector-sdk is {version}, not 2.13 or newer and below 3")
    return version


def load(file: str) -> Any:
    """The connector of a `connector.py`. Raises `Ended` where it has none."""
    folder = os.path.dirname(file)
    os.chdir(folder)
    sys.path.insert(0, folder)
    sys.dont_write_bytecode = True  # the folder is the user's
    spec = importlib.util.spec_from_file_location("connector", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["connector"] = module
    try:
        spec.loader.exec_module(module)
    except BaseException as exc:
        raise Ended("import", _told(exc), _frames_of(exc, folder)) from exc
    from fivetran_connector_sdk import Connector

    found = getattr(module, "connector", None)
    if not isinstance(found, Connector):
        raise Ended("import", "it has no `connector = Connector(update=update, schema=schema)`")
    return found


@contextlib.contextmanager
def serving(connector: Any) -> Iterator[Any]:
    """A stub of the connector's gRPC service, which listens on a socket in a folder that only this user may enter."""
    import grpc
    from fivetran_connector_sdk import Logging
    from fivetran_connector_sdk.protos import connector_sdk_pb2_grpc as service

    Logging.LOG_LEVEL = Logging.Level.INFO
    folder = tempfile.mkdtemp(prefix="sdk-")
    size = [("grpc.max_send_message_length", _MOST_BYTES), ("grpc.max_receive_message_length", _MOST_BYTES)]
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=2), options=size)
    service.add_SourceConnectorServicer_to_server(connector, server)
    address = f"unix:{folder}/s"
    try:
        if not server.add_insecure_port(address):
            raise Ended("sync", f"cannot listen on {address}")
        server.start()
        with grpc.insecure_channel(address, options=size) as channel:
            yield service.SourceConnectorStub(channel)
    finally:
        server.stop(None)
        shutil.rmtree(folder, ignore_errors=True)


def schema_of(response: Any) -> list[dict[str, Any]] | None:
    """The tables of a SchemaResponse or SchemaChange; None if the connector tells none."""
    kind = response.WhichOneof("response" if hasattr(response, "schema_response_not_supported") else "change")
    if kind == "without_schema":
        return [_table("", table) for table in response.without_schema.tables]
    if kind == "with_schema":
        return [_table(schema.name, table) for schema in response.with_schema.schemas for table in schema.tables]
    return None


def _table(schema: str, table: Any) -> dict[str, Any]:
    from fivetran_connector_sdk.protos import common_pb2

    def type_of(column: Any) -> str:
        name = str(common_pb2.DataType.Name(column.type))
        if name == "DECIMAL":
            return f"DECIMAL({column.params.decimal.precision},{column.params.decimal.scale})"
        return "" if name == "UNSPECIFIED" else name

    return {
        "name": _qualified(schema, table.name),
        "columns": {column.name: type_of(column) for column in table.columns},
        "key": [column.name for column in table.columns if column.primary_key],
    }


def sync(order: Mapping[str, Any], orders: Iterator[Any], frames: Frames) -> None:
    """Ask for the schema, then for all that is new."""
    import fivetran_connector_sdk.operation_stream as stream
    import grpc
    from fivetran_connector_sdk.protos import connector_sdk_pb2 as messages

    # The SDK gives a checkpoint 120 seconds to be taken. Here it is taken once the load has caught up.
    if hasattr(stream, "CHECKPOINT_OP_TIMEOUT_IN_SEC"):
        stream.CHECKPOINT_OP_TIMEOUT_IN_SEC = None
    connector = load(order["connector"])
    watched = Watched(connector, os.path.dirname(order["connector"]))
    with serving(connector) as stub:
        tables = None
        try:
            found = schema_of(stub.Schema(messages.SchemaRequest(configuration=order["configuration"])))
            frames.json(b"S", {"tables": found})
            tables = Tables(frames, {table["name"]: table["columns"] for table in found or []})
            tables.wanted = next(orders)["tables"]
            asked = {"configuration": order["configuration"], "state_json": json.dumps(order["state"])}
            for response in stub.Update(messages.UpdateRequest(**asked)):
                take(response, tables, frames)
            if watched.raised is not None:
                raise watched.ended("")
        except grpc.RpcError as exc:
            raise watched.ended(str(exc.details())) from exc
        finally:
            if tables is not None and tables.unwanted:
                frames.json(b"U", tables.unwanted)


def take(response: Any, tables: Tables, frames: Frames) -> None:
    """One message of the connector. Raises `Ended` for one that ends the sync."""
    kind = response.WhichOneof("operation")
    held: Any = getattr(response, kind) if kind else None
    if kind == "structured_records":
        tables.take(held.structured_records)
    elif kind == "structured_record":
        tables.take([held])
    elif kind == "checkpoint":
        frames.write(b"C", held.state_json.encode() or b"{}")
    elif kind == "truncate":
        tables.truncate(_qualified(held.schema_name, held.table_name))
    elif kind == "schema_change":
        frames.json(b"S", {"tables": schema_of(held)})
    elif kind == "warning":
        frames.json(b"W", {"message": _message(held.message)})
    elif kind == "task":
        raise Ended("connector", _message(held.message))
    elif kind is not None:
        raise Ended("sync", f"it sends {kind.replace('_', ' ')}s, such as files, which no table holds")


def _message(text: str) -> str:
    """The text of a warning or an error: the SDK wraps it in JSON."""
    try:
        told = json.loads(text)
    except ValueError:
        return text
    if not isinstance(told, dict):
        return text
    return "\n".join(str(told[key]) for key in ("message", "trace") if told.get(key))


def orders_from(file: BinaryIO) -> Iterator[Any]:
    """What the parent says. A thread goes on reading: at the end of it the parent is gone, and all here ends."""
    said: futures.Future[Any] = futures.Future()

    def listen() -> None:
        for line in file:
            if not said.done():
                said.set_result(json.loads(line))
        if os.getpgrp() == os.getpid():
            os.killpg(0, signal.SIGKILL)  # with what the connector has started
        os._exit(1)

    yield json.loads(file.readline())
    threading.Thread(target=listen, daemon=True).start()
    yield said.result()


def main() -> None:
    """Run one sync."""
    frames = Frames(os.fdopen(os.dup(1), "wb"))
    orders = orders_from(os.fdopen(os.dup(0), "rb"))
    os.dup2(2, 1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    sys.stdout.reconfigure(line_buffering=True, encoding="utf-8", errors="backslashreplace")  # type: ignore[union-attr]
    os.environ.setdefault("ConnectorSdkRemoveValueType", "true")  # numbers as they were written, not as 32 bits
    try:
        order = next(orders)
        frames.json(b"H", {"sdk": check_sdk(), "python": sys.version.split()[0]})
        sync(order, orders, frames)
    except Ended as exc:
        frames.json(b"E", {"kind": exc.kind, "what": exc.what, "trace": exc.trace})
    except BrokenPipeError:
        pass
    except BaseException as exc:  # noqa: BLE001  # nothing may end without a word
        frames.json(b"E", {"kind": "sync", "what": _told(exc), "trace": _frames_of(exc, "")})
    else:
        frames.write(b"Z", b"")
    sys.stdout.flush()
    os._exit(0)  # threads that the connector has left behind do not hold it up


if __name__ == "__main__":
    main()
