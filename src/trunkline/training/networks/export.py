"""A fitted network as ONNX, through torch.export."""

from __future__ import annotations

import contextlib
import copy
import logging
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

from trunkline.errors import TrainingError

if TYPE_CHECKING:
    from trunkline.models.torch import Scored

__all__ = ["to_onnx"]


def to_onnx(module: Scored, width: int) -> bytes:
    """The module, without names, paths and stack traces of this machine.

    Raises TrainingError where ONNX cannot tell it.
    """
    from onnx.inliner import inline_local_functions

    on_cpu = copy.deepcopy(module).cpu() if any(weight.is_cuda for weight in module.parameters()) else module
    try:
        with _quiet():
            program = torch.onnx.export(
                on_cpu,
                (torch.zeros(2, width),),
                dynamo=True,
                external_data=False,
                verbose=False,
                input_names=["features"],
                output_names=["score"],
                dynamic_shapes=({0: torch.export.Dim("n")},),
            )
    except Exception as exc:  # the exporter's errors have no common class
        raise TrainingError(f"the network cannot be told in ONNX: {_first_line(exc)}") from exc
    assert program is not None
    model = inline_local_functions(program.model_proto)  # a bundle's graph has none (`models/graph.py`)
    del model.metadata_props[:], model.graph.metadata_props[:], model.graph.value_info[:]
    for node in model.graph.node:
        node.doc_string = node.name = ""
        del node.metadata_props[:]
    for value in (*model.graph.input, *model.graph.output, *model.graph.initializer):
        del value.metadata_props[:]
    return model.SerializeToString(deterministic=True)  # type: ignore[no-any-return]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter warns of its own deprecated calls and of packages it could use; neither is the user's business."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def _first_line(exc: BaseException) -> str:
    """What the exporter found first, under its own long advice."""
    while exc.__cause__ is not None:
        exc = exc.__cause__
    return next((line.strip() for line in str(exc).splitlines() if line.strip()), type(exc).__name__)
