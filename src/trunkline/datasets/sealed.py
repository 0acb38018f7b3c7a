"""Looks at a sealed part: counted, limited by a budget, each a row of the ledger. The only way to the rows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trunkline.context import StepContext
from trunkline.datasets.ladder import is_low
from trunkline.datasets.manifest import Manifest
from trunkline.datasets.vault import sealed_file
from trunkline.errors import DatasetError, EngineError, GateFailed
from trunkline.ledger.ids import new_id
from trunkline.project.files import check_content
from trunkline.warehouse.protocol import ParquetWriter

if TYPE_CHECKING:
    import pyarrow as pa

_CHOOSING = ("by", "column", "stratify", "test", "salt")  # keys of a split by shares


@dataclass(frozen=True)
class Shown:
    """A score that was shown of an earlier look: of which bundle, with its 95% interval."""

    sha256: str
    metric: str
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Standing:
    """A deployment before its next look at a sealed part: which it will be (from 1), of how many, and what was shown.

    `low` says that few looks are left: the Ladder shows the scores.
    """

    look: int
    budget: int
    shown: tuple[Shown, ...] = ()

    @property
    def low(self) -> bool:
        """Whether the next look is in the last quarter."""
        return is_low(self.look, self.budget)


def sealed_id(manifest: Manifest) -> str:
    """The sealed part as it was asked for: dataset, key, target and what of the split chooses the test rows.

    Looks are counted by it. By the rows' content each new feature, and each late row, would begin a new budget on what
    are nearly the same rows and labels.
    """
    split = manifest.split
    by_time = split["by"] in ("time", "rolling")
    chosen = {"time": manifest.time, "from": split["test"]} if by_time else {n: split.get(n) for n in _CHOOSING}
    asked = [manifest.name, manifest.key, manifest.target, chosen]
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


def standing(ctx: StepContext, manifest: Manifest, deployment: str, budget: int) -> Standing:
    """Where `deployment` stands with this sealed part. Raises `GateFailed` if its budget is spent."""
    ctx.ledger.complete("looks")
    where = "where deployment = ? and sealed_id = ? order by look_id"
    rows = ctx.ledger.read("looks", where, [deployment, sealed_id(manifest)])
    if len(rows) >= budget:
        raise GateFailed(
            f"all {budget} looks of {deployment!r} at the sealed part of {manifest.name!r} are spent",
            hint="give the dataset a test part nobody has looked at: move `test` of its split to a new period (or give"
            " another `salt`), and train anew; `gate: {looks: …}` in deploy/ is the budget",
        )
    shown = [Shown(row["sha256"], *score) for row in rows for score in _scores(row["released"] or {})]
    return Standing(len(rows) + 1, budget, tuple(shown))


def _scores(released: Mapping[str, Any]) -> list[tuple[str, float, float, float]]:
    found = released.get("metrics", {}).items()
    return [(name, score["value"], score["low"], score["high"]) for name, score in found if score["own"]]


def open_sealed(
    ctx: StepContext, manifest: Manifest, *, deployment: str, candidate: str, sha256: str
) -> tuple[str, pa.Table]:
    """The sealed part, and the id of the look. The look is in the ledger before the first row is read."""
    if not isinstance(ctx.warehouse, ParquetWriter):
        raise EngineError(f"the {ctx.warehouse.name} warehouse cannot read sealed files yet")
    path = sealed_file(ctx.state, manifest.name, manifest.dataset_id)
    if not path.exists():
        raise DatasetError(f"the sealed part of {manifest.name!r} is not at {path}", hint="`trunkline run` builds it")
    check_content(path, manifest.parts["test"].file_digest)
    look_id = new_id("look")
    ctx.ledger.complete("looks")
    with ctx.warehouse.transaction():
        row = {
            "look_id": look_id,
            "dataset_id": manifest.dataset_id,
            "deployment": deployment,
            "candidate": candidate,
            "sha256": sha256,
            "who": ctx.who,
            "looked_at": ctx.now(),
            "sealed_id": sealed_id(manifest),
            "content": manifest.parts["test"].content,
        }
        ctx.ledger.add("looks", [row])
    return look_id, ctx.warehouse.read_sealed(path, ctx.vault_key())
