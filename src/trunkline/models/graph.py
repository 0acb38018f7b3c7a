"""The look into an ONNX file before any library reads it: all of it is here, and nothing is larger than it is.

The format is protobuf (https://protobuf.dev/programming-guides/encoding, https://github.com/onnx/onnx, `onnx.proto3`):
a message is a run of fields, each a number, a wire type and a value. Fields that say nothing of what is looked for are
passed over by their length.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

from trunkline.errors import IntegrityError

__all__ = ["check_graph"]

_VARINT, _EIGHT, _LENGTH, _FOUR = 0, 1, 2, 5  # wire types
_DEEPEST = 32  # subgraphs within subgraphs
_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml"})
_ORT_FORMAT = b"ORTM"  # ONNX Runtime's own format, which it takes for a model too and checks less
# A tree's attributes hold a value a node, field by field: runs of integers (8) and floats (7) are passed at once.
_NUMBERS = re.compile(rb"(?:\x40[\x80-\xff]{0,9}[\x00-\x7f])+|(?:\x3d[\x00-\xff]{4})+")
_STRING = 0x4A  # the tag of a string (9) there
_LARGEST_INTEGER = 10  # bytes


def check_graph(content: bytes) -> None:
    """Raise IntegrityError for what is no ONNX model, or one that reaches beyond its own bytes.

    That is one that names other files, has tensors of more numbers than it holds (or sparse ones, which are as large
    as they say), operators of other domains than ONNX's, functions of its own (one that is called as an operator of
    ONNX ends ONNX Runtime by an abort), or subgraphs nested deeper than any exporter would.
    """
    if content[4:8] == _ORT_FORMAT:
        raise IntegrityError("model.onnx is in ONNX Runtime's own format; a bundle holds ONNX")
    used, graphs = dict[str, str](), 0  # domains of operators, with one of their names
    try:
        for number, begin, end in _parts(content, 0, len(content)):
            if number == 7:
                graphs += 1
                _graph(content, begin, end, used, 0)
            elif number == 25:
                raise IntegrityError("the ONNX model has functions of its own, which nothing here writes")
    except (ValueError, IndexError) as exc:
        raise IntegrityError(f"model.onnx is no ONNX model: {exc}") from exc
    if graphs != 1:
        raise IntegrityError(f"model.onnx is no ONNX model: it has {graphs} graphs")
    for domain, name in used.items():
        if domain not in _DOMAINS:
            raise IntegrityError(f"the ONNX model asks for {name} of {domain!r}, which is no operator of ONNX")


def _graph(content: bytes, begin: int, end: int, used: dict[str, str], depth: int) -> None:
    if depth > _DEEPEST:
        raise IntegrityError(f"the ONNX model has graphs within graphs, more than {_DEEPEST} deep")
    for number, start, stop in _parts(content, begin, end):
        if number == 1:
            _node(content, start, stop, used, depth)
        elif number == 5:
            _tensor(content, start, stop)
        elif number == 15:
            raise _sparse()


def _node(content: bytes, begin: int, end: int, used: dict[str, str], depth: int) -> None:
    domain = name = ""
    for number, start, stop in _parts(content, begin, end):
        if number == 5:
            _attribute(content, start, stop, used, depth)
        elif number == 4:
            name = _text(content, start, stop)
        elif number == 7:
            domain = _text(content, start, stop)
    used.setdefault(domain, repr(name[:80]))


def _attribute(content: bytes, begin: int, end: int, used: dict[str, str], depth: int) -> None:
    for number, start, stop in _parts(content, begin, end, values=True):
        if number in (5, 10):
            _tensor(content, start, stop)
        elif number in (6, 11):
            _graph(content, start, stop, used, depth + 1)
        elif number in (22, 23):
            raise _sparse()


def _tensor(content: bytes, begin: int, end: int) -> None:
    dims: list[int] = []
    name = ""
    for number, wire, start, stop in _fields(content, begin, end):
        if number == 1:
            dims += [start] if wire == _VARINT else _packed(content, start, stop)
        elif number == 8:
            name = _text(content, start, stop)
        elif number == 13 or (number == 14 and start):
            raise IntegrityError("the ONNX model refers to external data files; a bundle holds its whole model")
    told = math.prod(dims) if len(dims) <= 64 else math.inf
    if any(not 0 <= size < 2**31 for size in dims) or told > 2 * (end - begin):  # the smallest type has two in a byte
        shape = " x ".join(f"{size:,}" for size in dims[:8])
        raise IntegrityError(
            f"the ONNX model's tensor {name[:80]!r} is said to hold {shape} numbers, and has {end - begin:,} bytes"
        )


def _sparse() -> IntegrityError:
    return IntegrityError("the ONNX model has sparse tensors, which nothing here writes")


# -- protobuf


def _parts(content: bytes, begin: int, end: int, *, values: bool = False) -> Iterator[tuple[int, int, int]]:
    """Number, begin and end of the fields that have a length."""
    return ((n, start, stop) for n, wire, start, stop in _fields(content, begin, end, values=values) if wire == _LENGTH)


def _fields(content: bytes, begin: int, end: int, *, values: bool = False) -> Iterator[tuple[int, int, int, int]]:
    """Number, wire type, and begin and end of each field's value; of an integer the value, twice.

    The `values` of an attribute are passed over. Raises ValueError for what is none.
    """
    at = begin
    while at < end:
        if values and (after := _beyond_values(content, at, end)) > at:
            at = after
            continue
        tag, at = _integer(content, at)
        number, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            value, at = _integer(content, at)
            start = stop = value
        else:
            length = {_EIGHT: 8, _FOUR: 4}.get(wire)
            if wire == _LENGTH:
                length, at = _integer(content, at)
            if length is None or not number or length > end - at:
                raise ValueError(f"a field at byte {at:,} makes no sense")
            start, at = at, at + length
            stop = at
        yield number, wire, start, stop
    if at != end:
        raise ValueError(f"a field ends beyond byte {end:,}")


def _beyond_values(content: bytes, at: int, end: int) -> int:
    """Where a run of numbers or short strings that begins at `at` has ended."""
    if run := _NUMBERS.match(content, at, end):
        return run.end()
    while at + 1 < end and content[at] == _STRING and content[at + 1] < 0x80:
        at += 2 + content[at + 1]
    return at


def _integer(content: bytes, at: int) -> tuple[int, int]:
    """A varint, and where it ends."""
    value = 0
    for place in range(_LARGEST_INTEGER):
        byte = content[at + place]
        value |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return value, at + place + 1
    raise ValueError(f"an integer at byte {at:,} has no end")


def _packed(content: bytes, begin: int, end: int) -> list[int]:
    found, at = [], begin
    while at < end:
        value, at = _integer(content, at)
        found.append(value)
    return found


def _text(content: bytes, begin: int, end: int) -> str:
    return content[begin:end].decode("utf-8", "replace")
