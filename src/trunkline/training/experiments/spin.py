"""A training once more on the data of a past one, and whether the two models differ on the same validation rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trunkline.datasets.feed import open_part, whole
from trunkline.errors import TrunklineError
from trunkline.models.bundle import Bundle
from trunkline.training.experiments.spun import Against
from trunkline.training.experiments.variations import near
from trunkline.training.inputs import Inputs
from trunkline.training.metrics import metrics_of, paired_difference
from trunkline.training.protocol import FitContext
from trunkline.training.run import TrainSpec, train_in

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["spin"]


def spin(inputs: Inputs, request: Mapping[str, Any], context: FitContext) -> dict[str, Any]:
    """Train into the folder `out` of the request: what became of it, without the bundle, and how it compares.

    `known` are the past parameters, of which those are kept that the code of today asks for; `wanted` ones must be
    asked for. `past` is the folder of the past bundle, None where it is gone.
    """
    spec = TrainSpec(inputs.declared.name, inputs.model.build, request["metadata"])
    params = near(inputs.model.build, request["wanted"], request["known"])
    trained = train_in(context, spec, inputs.data, params, Path(request["out"]))
    against: list[Against] = []
    why = ""
    if request["past"] is not None:
        try:
            against = _against(inputs, Path(request["root"]), trained.bundle, Path(request["past"]))
        except TrunklineError as exc:  # the training is done: that the old one cannot be scored is told, not raised
            why = exc.what
    return {"trained": trained.to_json(), "against": [asdict(one) for one in against], "why": why}


def _against(inputs: Inputs, root: Path, now: Bundle, folder: Path) -> list[Against]:
    """The metrics of both bundles as they are served, and their paired differences; the one that chooses first."""
    import pyarrow as pa

    from trunkline.models.runtime import Scorer

    then = Bundle.open(folder)
    metric, task, y = inputs.data.metric, inputs.data.task, inputs.data.validation.y
    if then.signature.task != now.signature.task:
        raise TrunklineError("the past model answers something else: its scores cannot be compared")
    scores: list[npt.NDArray[Any]] = []
    part = open_part(root / ".trunkline", inputs.manifest, "validation")
    for bundle in (now, then):
        rows = pa.Table.from_batches(list(part.read(whole(part), list(bundle.signature.names))))
        scores.append(Scorer(bundle, root=root).score(rows))
    own = [each for each in metrics_of(task) if each.name != metric.name and y.ndim == 1]
    found = []
    for each in (metric, *own):
        difference = paired_difference(each, y, *scores)
        values = each.of(y, scores[1]), each.of(y, scores[0])
        found.append(Against(each.name, *values, *difference, higher_is_better=each.higher_is_better))
    return found
