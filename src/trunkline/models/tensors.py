"""The look into a safetensors file before any library reads it: sizes that add up, and no code anywhere.

The format (https://github.com/huggingface/safetensors, "Format"): eight bytes, little endian, say how long the header
is; the header is JSON, a tensor's name to its dtype, shape and [begin, end) in the bytes that follow, without gaps.
"""

from __future__ import annotations

import json
from typing import Any

from trunkline.errors import IntegrityError

__all__ = ["check_tensors"]

_LONGEST_HEADER = 100_000_000  # bytes, as the format's own library has it
_METADATA = "__metadata__"
_BYTES = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2"), 1),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 2),
    **dict.fromkeys(("U32", "I32", "F32"), 4),
    **dict.fromkeys(("U64", "I64", "F64"), 8),
}


def check_tensors(content: bytes) -> None:
    """Raise IntegrityError unless the header describes exactly the bytes that are there."""
    length = int.from_bytes(content[:8], "little")
    if len(content) < 8 or length > min(_LONGEST_HEADER, len(content) - 8):
        raise IntegrityError("model.safetensors is cut off, or none")
    try:
        header = json.loads(content[8 : 8 + length])
        spans = sorted(_span(name, told) for name, told in header.items() if name != _METADATA)
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as exc:
        raise IntegrityError(f"model.safetensors has a header that makes no sense: {exc}") from exc
    at = 0
    for begin, end in spans:
        if begin != at:
            raise IntegrityError("model.safetensors has tensors that overlap, or gaps between them")
        at = end
    if at != len(content) - 8 - length:
        raise IntegrityError(f"model.safetensors holds {len(content) - 8 - length:,} bytes; its header tells of {at:,}")


def _span(name: str, told: dict[str, Any]) -> tuple[int, int]:
    begin, end = told["data_offsets"]
    shape = told["shape"]
    if not isinstance(shape, list) or any(type(number) is not int or number < 0 for number in (begin, end, *shape)):
        raise ValueError(f"{name} has a size that is none")
    size = 0 if 0 in shape else _BYTES[told["dtype"]]
    for length in shape:
        size *= length
        if size > end - begin:  # no longer number than needed is made of what a stranger wrote
            break
    if end - begin != size:
        raise ValueError(f"{name} does not take the {end - begin} bytes that it is said to take")
    return begin, end
