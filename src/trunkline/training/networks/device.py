"""Where and how a network computes: device, threads, seed, precision, compilation."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from trunkline.errors import TrainingError

if TYPE_CHECKING:
    from trunkline.training.networks.settings import Loop
    from trunkline.training.protocol import FitContext

__all__ = ["autocast", "best_device", "compiled", "compiler_told", "compiles", "device_of", "seeded"]

_COMPILE_STEPS = 20_000  # steps of a fit whose gain is more than the minute that compiling takes


def device_of(context: FitContext) -> torch.device:
    """The device of a context. Raises TrainingError for one that is not there."""
    try:
        device = torch.device("cuda", torch.cuda.current_device()) if context.device == "cuda" else None
        device = device or torch.device(context.device)
        if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
            raise RuntimeError(f"this machine has {torch.cuda.device_count()} of them")
    except (AssertionError, RuntimeError) as exc:
        raise TrainingError(
            f"the device {context.device!r} is not to be had: {str(exc).splitlines()[0]}",
            hint="set `training: {device: auto}` in trunkline.yml: a GPU where there is one, else the CPU",
        ) from exc
    return device


def best_device() -> str:
    """What `auto` means on this machine."""
    os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")  # does not start CUDA, which no fork of this could use
    return "cuda" if torch.cuda.is_available() else "cpu"


@contextlib.contextmanager
def seeded(seed: int, threads: int, device: torch.device) -> Iterator[None]:
    """PyTorch's process-wide settings for one fit: seed, threads and, on a GPU, kernels that repeat themselves.

    All are given back afterwards.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.random.fork_rng(devices=[device.index] if device.type == "cuda" else []), _repeatable(device):
            torch.manual_seed(seed)
            yield
    finally:
        torch.set_num_threads(before)


def autocast(settings: Loop, device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """The precision of the forward pass; weights, losses and scores are float32 always."""
    wanted = settings.precision == "bfloat16"
    if settings.precision == "auto":
        wanted = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    if not wanted:
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


def compiles(settings: Loop, device: torch.device, steps: int) -> bool:
    """Whether to compile a fit of so many steps: by a rule without a clock, so that fits repeat."""
    return settings.compile is True or (
        settings.compile == "auto" and device.type == "cuda" and steps >= _COMPILE_STEPS
    )


def compiled(module: nn.Module) -> nn.Module:
    """`module` through torch.compile, which compiles it on its first call."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of torch about itself, as its compiler is imported
        return torch.compile(module)  # type: ignore[return-value]


@contextlib.contextmanager
def compiler_told() -> Iterator[None]:
    """What torch's compiler fails with, as a TrainingError with the way out."""
    try:
        yield
    except RuntimeError as exc:  # its errors are such; naming their classes would import the compiler
        if not type(exc).__module__.startswith(("torch._dynamo", "torch._inductor")):
            raise
        raise TrainingError(
            f"torch.compile cannot compile the network: {str(exc).strip().splitlines()[0]}",
            hint="compile=False fits it as it is",
        ) from exc


@contextlib.contextmanager
def _repeatable(device: torch.device) -> Iterator[None]:
    """On a GPU: no kernel whose sums depend on chance, where there is another one."""
    if device.type != "cuda":
        yield
        return
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*deterministic.*", category=UserWarning)
            yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
