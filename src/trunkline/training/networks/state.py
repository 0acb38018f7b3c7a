"""A fit's state as two plain files: tensors as safetensors, all else as JSON. One of the homes of safetensors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from trunkline.errors import IntegrityError

__all__ = ["pack", "unpack", "weights_bytes"]

_TENSORS, _REST = "state.safetensors", "state.json"


def pack(state: Any) -> dict[str, bytes]:
    """Nested dicts, lists and tuples of tensors and JSON values, as files. Raises TypeError for anything else."""
    tensors: list[torch.Tensor] = []
    rest = _plain(state, tensors)
    named = {str(place): tensor for place, tensor in enumerate(tensors)}
    return {_TENSORS: save(named), _REST: json.dumps(rest).encode()}


def unpack(files: Mapping[str, bytes]) -> Any:
    """The state that `pack` got. Raises IntegrityError for other files; no code is run by it."""
    try:
        return _live(json.loads(files[_REST]), load(files[_TENSORS]))
    except (KeyError, ValueError, TypeError, SafetensorError) as exc:
        raise IntegrityError(
            f"the checkpoint does not hold a fit: {exc!r}", hint="delete .trunkline/checkpoints to begin anew"
        ) from exc


def weights_bytes(module: torch.nn.Module) -> bytes:
    """A module's weights and buffers as safetensors: the same weights, the same bytes."""
    return save({name: _own(tensor) for name, tensor in module.state_dict().items()})


def _own(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().cpu().contiguous().clone()  # safetensors refuses tensors that share memory


def _plain(value: Any, tensors: list[torch.Tensor]) -> Any:
    if isinstance(value, torch.Tensor):
        tensors.append(_own(value))
        return {"tensor": len(tensors) - 1}
    if isinstance(value, dict):
        return {"dict": [[_plain(key, tensors), _plain(item, tensors)] for key, item in value.items()]}
    if isinstance(value, list | tuple):
        return {type(value).__name__: [_plain(item, tensors) for item in value]}
    if value is None or isinstance(value, bool | int | float | str):
        return {"value": value}
    raise TypeError(f"a {type(value).__name__} cannot be kept in a checkpoint")


def _live(node: Any, tensors: Mapping[str, torch.Tensor]) -> Any:
    ((kind, content),) = node.items()
    if kind == "tensor":
        return tensors[str(content)]
    if kind == "dict":
        return {_live(key, tensors): _live(item, tensors) for key, item in content}
    if kind in ("list", "tuple"):
        items = [_live(item, tensors) for item in content]
        return tuple(items) if kind == "tuple" else items
    return content
