"""The estimators in PyTorch as records: `MLP`, `TabM` and `Torch`. torch is loaded when they fit."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

from trunkline.errors import TrainingError
from trunkline.training.protocol import FitContext, Fitted, TrainingData
from trunkline.training.settings import calibrated, choice, implementation, number, weighted, whole

__all__ = ["LOSSES", "Loop", "MLP", "TabM", "Torch", "dotted", "project_place"]

LOSSES = ("mse", "mae", "huber")
"""Losses that go by a name; any other is a function of the user's."""


@dataclass(frozen=True, kw_only=True)
class Loop:
    """What the training loop can be told.

    `epochs` are passes over the training part; fitting stops after `patience` of them without a better validation
    metric and keeps the best one. The learning rate `lr` warms up over the first tenth of the steps and then follows a
    cosine to zero, or stays (`schedule="constant"`). `clip` is the longest gradient (its norm over all weights).
    `class_weights` is "balanced", or a weight for each class; `calibrate` is one of "sigmoid", "isotonic" and
    "temperature". `precision` "auto" computes in bfloat16 where a GPU has it; `compile` "auto" compiles long fits on a
    GPU.
    """

    lr: float = 1e-3
    epochs: int = 8
    batch_size: int = 4096
    weight_decay: float = 1e-5
    patience: int = 2
    schedule: Literal["cosine", "constant"] = "cosine"
    clip: float | None = None
    class_weights: Literal["balanced"] | Mapping[str, float] | None = None
    calibrate: Literal["sigmoid", "isotonic", "temperature"] | None = None
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    compile: bool | Literal["auto"] = "auto"

    name: ClassVar[str]
    takes_peers: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "patience"):
            whole(self, name, at_least=1)
        number(self, "lr", above=0)
        number(self, "weight_decay", at_least=0)
        if self.clip is not None:
            number(self, "clip", above=0)
        choice(self, "schedule", ("cosine", "constant"))
        choice(self, "precision", ("auto", "float32", "bfloat16"))
        choice(self, "compile", ("auto", True, False))
        weighted(self)

    def settings(self) -> dict[str, Any]:
        """Every setting as plain data."""
        found = {item.name: getattr(self, item.name) for item in fields(self)}
        if isinstance(self.class_weights, Mapping):
            found["class_weights"] = {str(name): weight for name, weight in self.class_weights.items()}
        return found

    def fit(self, data: TrainingData, context: FitContext) -> Fitted:
        """Fit with PyTorch; reports after each epoch."""
        return calibrated(implementation(self.name)(self, data, context), data, self.calibrate)


@dataclass(frozen=True, kw_only=True)
class MLP(Loop):
    """A multilayer perceptron (PyTorch): embeddings for categories, numbers standardised, missing ones flagged.

    `depth` layers of `width` units; `embedding` numbers for each category. The rest is the training loop's: `Loop`.

    >>> MLP(width=128).settings()["depth"]
    2
    """

    width: int = 256
    depth: int = 2
    dropout: float = 0.1
    embedding: int = 8

    name: ClassVar[str] = "mlp"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("width", "depth", "embedding"):
            whole(self, name, at_least=1)
        number(self, "dropout", at_least=0, below=1)


@dataclass(frozen=True, kw_only=True)
class TabM(Loop):
    """TabM (Gorishniy, Kotelnikov & Babenko, ICLR 2025; their package `tabm`): `k` perceptrons that share weights.

    Each of the `k` members is trained on its own loss, and the prediction is the mean of theirs. Numbers are embedded
    piecewise linearly, `number_embedding` wide, between up to `bins` quantiles of the training part;
    `number_embedding=0` gives them to the network as they are, standardised. `depth` is 2 with such embeddings and 3
    without, unless given. Categories of up to 16 codes are one-hot, others get an `embedding`. The architecture is as
    its authors set it where nothing is said; k=32 members of 512 units need a GPU, or patience.

    >>> TabM(k=8, width=128).settings()["number_embedding"]
    16
    """

    k: int = 32
    width: int = 512
    depth: int | None = None
    dropout: float = 0.1
    number_embedding: int = 16
    bins: int = 48
    embedding: int = 8
    architecture: Literal["tabm", "tabm-mini", "tabm-packed"] = "tabm"
    lr: float = 2e-3
    weight_decay: float = 3e-4
    batch_size: int = 1024
    epochs: int = 16
    patience: int = 4
    clip: float | None = 1.0

    name: ClassVar[str] = "tabm"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("k", "width", "embedding"):
            whole(self, name, at_least=1)
        if self.depth is not None:
            whole(self, "depth", at_least=1)
        whole(self, "number_embedding", at_least=0)
        whole(self, "bins", at_least=2)
        number(self, "dropout", at_least=0, below=1)
        choice(self, "architecture", ("tabm", "tabm-mini", "tabm-packed"))


@dataclass(frozen=True, kw_only=True)
class Torch(Loop):
    """A network of your own: any `torch.nn.Module` for sequences, images, several outputs, or a table.

    `module(columns, **arguments)` returns it: a function of your project, or the module's class. `columns` describes
    the matrix (`trunkline.models.described.Columns`); the module gets it as float32 [b, columns.width], NaN for
    missing, and gives `columns.outputs` raw numbers a row: [b] where that is None, else [b, k].

    `loss` is a function of (outputs, y) that gives one number, or one a row; or "mse", "mae", "huber". Left out, it is
    the task's own, and the outputs are log-odds, logits, or values of the standardised target. With a function, or for
    a vector target, `y` is the target as it is, and so are the scores of numbers; `answer` is a function that makes
    scores of outputs where that is not what you want, such as `torch.exp`. `optimizer` is a function of the weights;
    left out, it is AdamW.

    >>> Torch(module=dict, arguments={"width": 64}).settings()["module"]
    'builtins:dict'
    """

    module: Callable[..., Any]
    arguments: Mapping[str, Any] = field(default_factory=dict)
    loss: str | Callable[..., Any] | None = None
    answer: Callable[[Any], Any] | None = None
    optimizer: Callable[[Any], Any] | None = None

    name: ClassVar[str] = "torch"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not callable(self.module):
            raise TrainingError(
                f"Torch(module={self.module!r}): module must be a function that builds the network",
                hint="def build(columns): return nn.Sequential(columns.standardised(), nn.Linear(columns.width, 1), …)",
            )
        try:
            json.dumps(dict(self.arguments))
        except (TypeError, ValueError) as exc:
            raise TrainingError(f"Torch(arguments=…): arguments must be JSON, by name: {exc}") from exc
        if isinstance(self.loss, str):
            choice(self, "loss", LOSSES)
        for name in ("loss", "answer", "optimizer"):
            value = getattr(self, name)
            if not (value is None or isinstance(value, str) or callable(value)):
                raise TrainingError(f"Torch({name}={value!r}): {name} must be a function")

    def settings(self) -> dict[str, Any]:
        """Every setting as plain data; functions by their dotted names."""
        found = {**super().settings(), "arguments": dict(self.arguments)}
        for name in ("module", "loss", "answer", "optimizer"):
            value = getattr(self, name)
            found[name] = value if value is None or isinstance(value, str) else dotted(value)
        return found


def dotted(function: Callable[..., Any]) -> str:
    """`package.file:name` of a function or class; of a partial, with its arguments."""
    if isinstance(function, partial):
        given = [*map(repr, function.args), *(f"{name}={value!r}" for name, value in function.keywords.items())]
        return f"{dotted(function.func)}({', '.join(given)})"
    name = getattr(function, "__qualname__", type(function).__qualname__)
    return f"{getattr(function, '__module__', None) or type(function).__module__}:{name}"


def project_place(function: Callable[..., Any]) -> tuple[Path, str] | None:
    """The project's folder and `ml/net.py:build`, of a function at the top level of one of its files; else None."""
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", "")
    file = getattr(sys.modules.get(module or ""), "__file__", None)
    if module is None or file is None or module == "__main__" or not name or "<" in name:
        return None
    path, parts = Path(file), module.split(".")
    if path.name == "__init__.py":
        path, parts = path.parent / "__init__.py", [*parts, "__init__"]
    if path.with_suffix("").parts[-len(parts) :] != tuple(parts):
        return None
    root = path.parents[len(parts) - 1]
    return root, f"{path.relative_to(root).as_posix()}:{name}"
