"""From the body of a request to checked rows.

The quick way: msgspec decodes and checks types in one pass, straight into a class made from the signature. Whatever
it does not accept takes the thorough way, which finds the same or a more precise answer: the field, the row, a hint.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, cast

import msgspec
import orjson

from trunkline.errors import RequestError, did_you_mean
from trunkline.models.signature import LONGEST_TEXT, Field, Signature
from trunkline.serving.answers import Refusal

Row = Mapping[str, object]

# What the quick way takes of each kind: nothing that `Signature.check_rows` would refuse. Kinds that are not here take
# the thorough way: what they hold is checked value by value.
_TEXT = Annotated[str, msgspec.Meta(max_length=LONGEST_TEXT)]
_TYPES: Mapping[str, Any] = {"number": float, "category": _TEXT, "boolean": bool, "datetime": _TEXT}
_SHAPE = 'send {"rows": [{field: value, …}, …]} or one row {field: value, …}'


class Batch(msgspec.Struct, frozen=True):
    """Checked rows of one request.

    `logged` is what the prediction log writes for each row (anything msgspec can encode to the same JSON object), and
    `keys` the caller's own name of each row, if it gave them.
    """

    rows: Sequence[Row]
    logged: Sequence[object]
    keys: Sequence[str | None] | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request may hold."""

    body_bytes: int = 16 * 1024 * 1024
    rows: int = 100_000


class RequestReader:
    """Reads the bodies of `/predict` for one signature. Thread-safe: holds no state between calls."""

    def __init__(self, signature: Signature, limits: Limits) -> None:
        self._signature = signature
        self._limits = limits
        self._names = tuple(field.name for field in signature.inputs)
        self._texts = tuple(i for i, field in enumerate(signature.inputs) if field.kind in ("category", "datetime"))
        # msgspec knows no date formats of ours, so those values are checked by the signature in any case.
        self._recheck = any(field.kind == "datetime" for field in signature.inputs)
        self._quick = _quick_decoders(signature.inputs)

    def read(self, body: bytes, key: str | None = None) -> Batch:
        """The rows of `body`, in order. `key` names the row of a body that is one bare row.

        Raises `RequestError` (422) for a field that does not fit and `Refusal` for everything else.
        """
        batch = self._read_quick(body) or self._read_thorough(body)
        if key is not None and batch.keys is None and len(batch.rows) == 1:
            return Batch(batch.rows, batch.logged, (key,))
        return batch

    def _read_quick(self, body: bytes) -> Batch | None:
        if self._quick is None:
            return None
        one, many = self._quick
        keys: list[str | None] | None = None
        expected = len(self._names)
        try:
            if body.startswith((b'{"rows"', b'{"keys"')):
                wrapped = many.decode(body)
                if len(wrapped.rows) > self._limits.rows:
                    raise too_many_rows(len(wrapped.rows), self._limits)
                records, keys = wrapped.rows, _spelled(wrapped.keys, len(wrapped.rows))
                expected = expected * len(records) + (1 if keys is None else 2)
            else:
                records = [one.decode(body)]
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return None
        values = [msgspec.structs.astuple(record) for record in records]
        # Every field is there once, so more colons than fields means colons inside texts, or a field given twice.
        colons = body.count(b":")
        if colons != expected and colons != expected + self._colons_in_texts(values, keys):
            return None
        rows = [dict(zip(self._names, row, strict=True)) for row in values]
        if self._recheck:
            self._signature.check_rows(rows)
        return Batch(rows, records, keys)

    def _colons_in_texts(self, values: Sequence[tuple[Any, ...]], keys: Sequence[str | None] | None) -> int:
        texts = [row[i] for row in values for i in self._texts]
        return sum(text.count(":") for text in (*texts, *(keys or ())) if text)

    def _read_thorough(self, body: bytes) -> Batch:
        document = parse_json(body, self._limits, self._signature)
        if not isinstance(document, dict):
            raise Refusal(400, f"the body is a JSON {_json_name(document)}, not an object", hint=_SHAPE)
        refuse_duplicates(body)
        if not isinstance(document.get("rows"), list) and ("rows" not in document or "rows" in self._names):
            self._signature.check_rows([document])
            return Batch([document], [document])
        rows = self._wrapped_rows(document)
        keys = _spelled(document.get("keys"), len(rows))
        self._signature.check_rows(rows)
        return Batch(rows, rows, keys)

    def _wrapped_rows(self, document: dict[str, Any]) -> list[Row]:
        for name in document:
            if name not in ("rows", "keys"):
                hint = "beside 'rows' only 'keys' is known." + did_you_mean(name, ["rows", "keys"])
                raise Refusal(422, f"unknown field {name!r} beside 'rows'", field=name, row=None, hint=hint)
        return checked_objects(document["rows"], "rows", self._limits)


def parse_json(body: bytes, limits: Limits, signature: Signature) -> Any:
    """`body` as plain data. Raises `Refusal` (400, or 413 for more arrays and objects than any allowed request has)."""
    vectors = sum(field.kind == "vector" for field in signature.inputs)
    if body.count(b"{") + body.count(b"[") > (2 + vectors) * limits.rows + 64:
        raise too_many_rows(None, limits)  # before the parser makes millions of objects of them
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as exc:
        if not body.strip():
            raise Refusal(400, "the body is empty", hint=_SHAPE) from exc
        hint = "JSON has no NaN or Infinity: send null for a missing number" if _names_nan(body) else _SHAPE
        raise Refusal(400, f"the body is not JSON: {exc}", hint=hint) from exc


def refuse_duplicates(body: bytes) -> None:
    """Raises `Refusal` (422) if an object of the JSON text `body` has a field twice: one of the two is a mistake."""
    try:
        json.loads(body, object_pairs_hook=_unique)
    except RecursionError as exc:
        raise Refusal(400, "the body is nested too deeply", hint=_SHAPE) from exc


def checked_objects(values: object, what: str, limits: Limits) -> list[Row]:
    """`values` if it is a list of objects and not too long; `what` names it in the answer. Raises `Refusal`."""
    if not isinstance(values, list):
        raise Refusal(422, f"{what!r} is a JSON {_json_name(values)}, not a list of rows", field=what, row=None)
    if len(values) > limits.rows:
        raise too_many_rows(len(values), limits)
    for index, value in enumerate(values):
        if not isinstance(value, dict):
            raise Refusal(422, f"row {index} is a JSON {_json_name(value)}, not an object", field=None, row=index)
    return cast("list[Row]", values)


def too_many_rows(count: int | None, limits: Limits) -> Refusal:
    """The refusal (413) of a request with more rows than allowed."""
    found = f"{count:,} rows" if count is not None else "too many rows"
    return Refusal(413, f"{found} in one request, at most {limits.rows:,} are allowed", hint="send them in parts")


def refusal_of(error: RequestError) -> Refusal:
    """The answer (422) to rows that do not fit the signature."""
    hint = error.hint or "GET /docs describes the fields, with an example"
    return Refusal(422, error.what, field=error.field, row=error.row, hint=hint)


def _spelled(keys: object, rows: int) -> list[str | None] | None:
    if keys is None:
        return None
    if not isinstance(keys, list) or len(keys) != rows:
        found = f"{len(keys)}" if isinstance(keys, list) else f"a JSON {_json_name(keys)}"
        raise Refusal(422, f"'keys' must be a list of {rows}, one for each row; got {found}", field="keys", row=None)
    for index, key in enumerate(keys):
        if key is not None and (isinstance(key, bool) or not isinstance(key, str | int)):
            raise Refusal(422, f"key {index} is neither text nor an integer nor null", field="keys", row=index)
    return [key if key is None else str(key) for key in keys]


def _unique(pairs: list[tuple[str, Any]]) -> None:
    seen: set[str] = set()
    for name, _ in pairs:
        if name in seen:
            raise Refusal(422, f"field {name!r} is given twice in one object", field=name, row=None)
        seen.add(name)


def _names_nan(body: bytes) -> bool:
    return b"NaN" in body or b"Infinity" in body


def _json_name(value: object) -> str:
    names = {dict: "object", list: "array", str: "string", bool: "boolean", type(None): "null"}
    return names.get(type(value), "number")


def _quick_decoders(fields: Sequence[Field]) -> tuple[msgspec.json.Decoder[Any], msgspec.json.Decoder[Any]] | None:
    """Typed decoders of one bare row and of `{"rows": …}`, or None where a field does not lend itself to it."""
    if any(field.kind not in _TYPES for field in fields):
        return None
    types: list[tuple[str, Any]] = [
        (f"f{i}", _TYPES[field.kind] | None if field.nullable else _TYPES[field.kind]) for i, field in enumerate(fields)
    ]
    names = {f"f{i}": field.name for i, field in enumerate(fields)}
    try:
        row: Any = msgspec.defstruct("Row", types, rename=names, forbid_unknown_fields=True, gc=False)
    except ValueError:  # msgspec does not take names with quotes, backslashes or control characters
        return None
    many = msgspec.defstruct(
        "Rows", [("rows", list[row]), ("keys", list[str | int | None] | None, None)], forbid_unknown_fields=True
    )
    return msgspec.json.Decoder(row), msgspec.json.Decoder(many)
