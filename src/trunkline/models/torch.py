"""What a network and its scores are made of in PyTorch, and the runtime of models that ONNX cannot tell.

Such a bundle holds `model.safetensors`, the weights, and `module.json`, which names the function of the project that
builds the network, its arguments, and the sha256 of every project file that the function's file reaches by import. The
network is built by the code of whoever loads it, from their own checkout of the project, and only if those files are
byte for byte what they were: no code travels in a bundle, and no pickle. One of the homes of torch and safetensors.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from trunkline.errors import IntegrityError
from trunkline.models.described import Columns, describe
from trunkline.models.task import Task
from trunkline.project import python

if TYPE_CHECKING:
    import numpy.typing as npt

    from trunkline.models.encoder import Encoder

__all__ = ["Answer", "FARTHEST", "Factory", "ModuleScorer", "Scored", "Standardised", "open_module", "scores", "using"]

FARTHEST = 8.0
"""Standard deviations; what lies beyond is brought back."""
_FORMAT = 1
_CHUNK = 32_768  # rows a call when predicting


class Standardised(nn.Module):
    """Numbers less their mean, over their deviation, 0 where missing; codes as they are: [b, width] -> [b, width]."""

    def __init__(self, columns: Columns) -> None:
        super().__init__()
        categories = set(columns.categories)
        mean, scale = torch.zeros(columns.width), torch.ones(columns.width)
        for column in columns:
            if not column.cardinality:
                mean[column.place], scale[column.place] = column.mean, 1 / column.std
        self.mean, self.scale = nn.Buffer(mean), nn.Buffer(scale)
        self.is_code = nn.Buffer(torch.tensor([place in categories for place in range(columns.width)]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """float32 [b, width] without NaN."""
        scaled = ((x - self.mean) * self.scale).clamp(-FARTHEST, FARTHEST)
        return torch.where(self.is_code, x, torch.where(torch.isnan(x), torch.zeros_like(scaled), scaled))


class Answer(nn.Module):
    """A network's raw outputs as scores.

    binary [b]: log-odds -> probability; multiclass [b, k]: logits -> probabilities; regression [b] and quantile [b, k]:
    standardised values -> the target's own units, quantiles rising; custom: as they are. With `members` the outputs
    have a second dimension, [b, m] or [b, m, k], over whose scores the mean is taken. `own` stands for all of this.
    """

    def __init__(
        self,
        task: Task,
        *,
        mean: float = 0.0,
        std: float = 1.0,
        members: bool = False,
        own: Callable[[torch.Tensor], torch.Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.kind, self.members, self.own = task.kind, members, own
        self.single = task.width is None and not members
        if task.kind in ("regression", "quantile"):
            self.mean, self.std = nn.Buffer(torch.tensor(mean)), nn.Buffer(torch.tensor(std))

    def forward(self, raw: torch.Tensor) -> torch.Tensor:
        """float32 [b] or [b, k]."""
        if self.own is not None:
            return self.own(raw)
        score = raw
        if self.kind == "binary":
            score = torch.sigmoid(raw)
        elif self.kind == "multiclass":
            score = torch.softmax(raw, -1)
        elif self.kind in ("regression", "quantile"):
            score = raw * self.std + self.mean
        if self.members:
            score = score.mean(1)
        return torch.sort(score, -1).values if self.kind == "quantile" else score


class Scored(nn.Module):
    """A network with its answer: encoded rows [b, width] -> scores [b] or [b, k].

    Where the task has one number a row, the network may give a matrix of one column for it.
    """

    def __init__(self, raw: nn.Module, answer: Answer) -> None:
        super().__init__()
        self.raw, self.answer = raw, answer

    def outputs(self, x: torch.Tensor) -> torch.Tensor:
        """The network's raw outputs, [b] or [b, …]."""
        raw: torch.Tensor = self.raw(x)
        return raw.squeeze(1) if self.answer.single and raw.dim() == 2 and raw.shape[1] == 1 else raw

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Scores of encoded rows."""
        return self.answer(self.outputs(x))  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Factory:
    """The function of a project that builds a network, and the one that makes scores of its outputs, if it has its own.

    `module` and `answer` are written `ml/net.py:build`. `code` holds the sha256 of each project file that either
    reaches by import, by its path within the project.
    """

    module: str
    arguments: Mapping[str, Any]
    answer: str | None
    code: Mapping[str, str]

    @classmethod
    def of(cls, root: Path, module: str, arguments: Mapping[str, Any], answer: str | None) -> Factory:
        """With the digests of the code as it is now."""
        code: dict[str, str] = {}
        for name in (module, answer):
            if name is not None:
                files = python.closure(root, root / name.partition(":")[0])
                code |= {file.relative_to(root).as_posix(): _sha256(file) for file in files}
        return cls(module, dict(arguments), answer, dict(sorted(code.items())))

    def to_json(self) -> bytes:
        """As it stands in `module.json`."""
        data = {"format": _FORMAT, "factory": self.module, "arguments": dict(self.arguments), "answer": self.answer}
        return json.dumps({**data, "code": dict(self.code)}, indent=1, sort_keys=True).encode()

    @classmethod
    def from_json(cls, content: bytes) -> Factory:
        """Of `to_json`'s bytes. Raises IntegrityError for anything else."""
        try:
            data = json.loads(content)
            if data["format"] != _FORMAT:
                raise IntegrityError(f"module.json has format {data['format']!r}; this version reads {_FORMAT}")
            return cls(data["factory"], dict(data["arguments"]), data["answer"], dict(data["code"]))
        except (KeyError, TypeError, ValueError) as exc:
            raise IntegrityError(f"module.json does not name a module: {exc}") from exc

    def check(self, root: Path) -> None:
        """Refuse code that is not what the model was trained with: IntegrityError names the file."""
        for name, digest in self.code.items():
            file = (root / name).resolve()
            if not file.is_relative_to(root.resolve()) or not file.is_file():
                raise IntegrityError(
                    f"the model needs {name} of the project it was trained in, which is not there",
                    file=root,
                    hint="run this in a checkout of that project, at the commit that the version's tags name",
                )
            if _sha256(file) != digest:
                raise IntegrityError(
                    f"{name} is not what this model was trained with: it has changed since",
                    file=file,
                    hint="check out the commit that the version's tags name, or train again",
                )
        for name in filter(None, (self.module, self.answer)):
            if name.partition(":")[0] not in self.code:
                raise IntegrityError(f"module.json does not hold the digest of {name}")

    def load(self, root: Path, name: str) -> Callable[..., Any]:
        """The function `ml/net.py:build`, from its file run anew. For code that passed `check`."""
        file, _, path = name.partition(":")
        found: Any = python.load(root, root / file)
        for part in path.split("."):
            found = getattr(found, part)
        return found  # type: ignore[no-any-return]


@dataclass(eq=False)
class ModuleScorer:
    """A network that scores the rows of an encoder. Not to be used by two threads at once."""

    encoder: Encoder
    module: nn.Module
    threads: int

    def score_matrix(self, matrix: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """Scores [n] or [n, k] of an encoded matrix, float32 [n, d]."""
        with using(self.threads):
            return scores(self.module, matrix)


def open_module(
    weights: bytes, record: bytes, encoder: Encoder, task: Task, *, root: Path, threads: int = 1
) -> ModuleScorer:
    """The model of `model.safetensors` and `module.json`, built by the code in the project folder `root`.

    Raises IntegrityError where a file of that code has changed, or the weights are not those of the network it builds.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    factory = Factory.from_json(record)
    factory.check(root)
    own = None if factory.answer is None else factory.load(root, factory.answer)
    raw = factory.load(root, factory.module)(describe(encoder, task), **factory.arguments)
    module = Scored(raw, Answer(task, own=own))
    try:
        module.load_state_dict(load(weights))
    except (RuntimeError, SafetensorError) as exc:
        raise IntegrityError(f"the weights are not those of the network that {factory.module} builds: {exc}") from exc
    return ModuleScorer(encoder, module.eval(), threads)


def scores(
    module: nn.Module, x: npt.NDArray[np.float32] | torch.Tensor, *, device: str = "cpu", chunk: int = _CHUNK
) -> npt.NDArray[np.float64]:
    """A module's scores [n] or [n, k] of an encoded matrix, `chunk` rows at a time."""
    whole = x if isinstance(x, torch.Tensor) else torch.from_numpy(np.ascontiguousarray(x))
    with torch.inference_mode():
        parts = [module(part.to(device)) for part in whole.split(chunk)]
        return torch.cat(parts).float().cpu().double().numpy()


@contextlib.contextmanager
def using(threads: int) -> Iterator[None]:
    """PyTorch's process-wide number of threads, given back afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
