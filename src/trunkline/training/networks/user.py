"""A network of the user's: built, looked at before it is trained, and told in files where ONNX cannot tell it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from trunkline.errors import TrainingError, TrunklineError
from trunkline.models.torch import Factory, Scored
from trunkline.project.boundary import told, user_frames, user_place
from trunkline.training.networks.settings import dotted, project_place
from trunkline.training.protocol import Pruned

if TYPE_CHECKING:
    from trunkline.models.described import Columns
    from trunkline.training.networks.settings import Torch

__all__ = ["built", "factory_of", "guarded", "idle_weights", "looked_at"]

_NEEDS = {
    "binary": "[b]: the log-odds of 1",
    "regression": "[b]: the value",
    "multiclass": "[b, {k}]: a logit for each of {k} classes",
    "quantile": "[b, {k}]: a value for each of {k} quantiles",
    "custom": "[b, {k}]: a number for each of the target's {k}",
}


def guarded(settings: Torch, *, alone: bool = True) -> Callable[[str], contextlib.AbstractContextManager[None]]:
    """What surrounds the user's code: whatever goes wrong in it is told by the user's lines, without ours.

    Not `alone`, torch fails where a peer is gone, with a RuntimeError and outside the user's lines: that passes as it
    is, for all can begin again.
    """

    @contextlib.contextmanager
    def guard(place: str) -> Iterator[None]:
        try:
            yield
        except (TrunklineError, Pruned):
            raise
        except Exception as exc:  # whatever the user's code fails with
            if not alone and isinstance(exc, RuntimeError) and not user_frames(exc):
                raise
            file, line = user_place(exc, _home(settings.module))
            what = f"{dotted(settings.module)} failed {place} with {told(exc)}"
            raise TrainingError(what, file=file, line=line, hint=_hint(exc)) from exc

    return guard


def built(settings: Torch, columns: Columns) -> nn.Module:
    """The user's network. Raises TrainingError for a function that raises, and for what is no network."""
    with guarded(settings)("while it built the network"):
        module = settings.module(columns, **settings.arguments)
    if not isinstance(module, nn.Module):
        raise _refused(settings, f"gave a {type(module).__name__}, which is no torch.nn.Module", "return the network")
    if not any(weight.requires_grad for weight in module.parameters()):
        raise _refused(settings, "gave a network without weights to learn", "give it a layer, such as nn.Linear")
    return module


def looked_at(module: Scored, settings: Torch, columns: Columns, rows: torch.Tensor) -> None:
    """Score a few `rows` [b, d] and refuse outputs of a shape that the task cannot use: TrainingError."""
    with guarded(settings)("on its first rows"), torch.no_grad():
        raw = module.eval().outputs(rows)
    if not isinstance(raw, torch.Tensor):
        raise _refused(settings, f"gives a {type(raw).__name__}, not a tensor", "return the outputs alone")
    needs = _NEEDS[columns.task.kind].format(k=columns.outputs)
    wanted = [len(rows)] if columns.outputs is None else [len(rows), columns.outputs]
    if not callable(settings.loss) and list(raw.shape) != wanted:
        layer = "nn.Linear(…, 1)" if columns.outputs is None else "nn.Linear(…, columns.outputs)"
        what = f"gives outputs of shape {_shape(raw)}; a {columns.task.kind} task needs {needs}"
        raise _refused(settings, what, f"end the network with {layer}")
    with guarded(settings)("when its answer made scores of outputs"), torch.no_grad():
        score = module.answer(raw)
    if not isinstance(score, torch.Tensor) or list(score.shape) != wanted:
        found = _shape(score) if isinstance(score, torch.Tensor) else f"a {type(score).__name__}"
        hint = "Torch(answer=…) takes a function that makes scores of outputs, such as lambda raw: raw[:, 0]"
        raise _refused(settings, f"gives scores of shape {found}; a {columns.task.kind} task needs {needs}", hint)
    _refuse_holes(module, settings, columns, rows)


def _refuse_holes(module: Scored, settings: Torch, columns: Columns, rows: torch.Tensor) -> None:
    """A served model is asked about rows with missing values, whether the training part has some or not."""
    absent = rows.clone()
    absent[:, list(columns.numbers)] = float("nan")
    with guarded(settings)("on a row without values"), torch.no_grad():
        whole, holed = (bool(torch.isfinite(module(x)).all()) for x in (rows, absent))
    if not holed:
        found = "a row with missing values, which are NaN" if whole else "its first rows"
        hint = "begin the network with columns.standardised(), or torch.nan_to_num, which put numbers in their place"
        raise _refused(settings, f"gives scores that are not finite for {found}", hint)


def idle_weights(module: Scored, settings: Torch, rows: torch.Tensor) -> bool:
    """Whether some weight has no part in the outputs for `rows`, which peers must know beforehand."""
    with guarded(settings)("on its first rows"):
        module.eval().outputs(rows).float().sum().backward()
    idle = any(weight.grad is None for weight in module.parameters() if weight.requires_grad)
    module.zero_grad(set_to_none=True)
    return idle


def factory_of(settings: Torch) -> tuple[Path, Factory]:
    """The project's folder and which code in it makes this network.

    Raises TrainingError for code that no file of a project holds.
    """
    module = project_place(settings.module)
    answer = None if settings.answer is None else project_place(settings.answer)
    if module is None or (settings.answer is not None and (answer is None or answer[0] != module[0])):
        what = settings.module if module is None else settings.answer
        assert what is not None
        raise TrainingError(
            f"the network cannot be told in ONNX, and {dotted(what)} cannot be found again by name",
            hint="define it with `def` or `class` at the top level of a file of the project, such as ml/net.py",
        )
    return module[0], Factory.of(*module, settings.arguments, None if answer is None else answer[1])


def _refused(settings: Torch, what: str, hint: str) -> TrainingError:
    file, line = _home(settings.module)
    return TrainingError(f"{dotted(settings.module)} {what}", file=file, line=line, hint=hint)


def _home(function: Any) -> tuple[str | None, int | None]:
    code = getattr(function, "__code__", None) or getattr(getattr(function, "__init__", None), "__code__", None)
    return (code.co_filename, code.co_firstlineno) if code is not None else (None, None)


def _shape(tensor: torch.Tensor) -> str:
    return "[" + ", ".join(["b", *map(str, tensor.shape[1:])]) + "]" if tensor.dim() else "[]"


def _hint(exc: Exception) -> str | None:
    if isinstance(exc, torch.OutOfMemoryError):
        return "a smaller batch_size needs less memory"
    if isinstance(exc, RuntimeError) and "shape" in str(exc):
        return "the network gets float32 [b, columns.width]; columns[name].place are the places of one input"
    return None
