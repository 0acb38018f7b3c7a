"""Fits of a comparison by several processes at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from typing import Any

from trunkline.training.experiments.cells import Cell, Store, fit
from trunkline.training.protocol import Build, Reporter, TrainingData
from trunkline.training.search.objectives import Ended
from trunkline.training.search.workers import Died, Finished, Workers, warm

__all__ = ["fill"]

_LOOK_SECONDS = 1.0


def fill(
    build: Build, data: TrainingData, cells: Sequence[Cell], store: Store, jobs: int, done: Callable[[Cell], None]
) -> None:
    """Fit `cells` into `store` with `jobs` processes, forked when the frameworks are loaded; `done` hears each one.

    A fit that fails, or whose process dies, is left out: whoever fits it here gets the error as it is.
    """
    for params in {cell.recipe.variation: cell.recipe.params for cell in cells}.values():
        warm(build, params)
    waiting = list(range(len(cells)))
    running: set[int] = set()
    with closing(Workers(min(jobs, len(cells)), _work(build, data, cells, store))) as workers:
        while waiting or running:
            while waiting and workers.idle:
                number = waiting.pop(0)
                workers.begin(number, {"cell": number})
                running.add(number)
            for event in workers.events(_LOOK_SECONDS):
                if isinstance(event, Finished) and event.ended.state == "complete":
                    done(cells[event.number])
                if isinstance(event, Finished | Died) and event.number is not None:
                    running.discard(event.number)


def _work(
    build: Build, data: TrainingData, cells: Sequence[Cell], store: Store
) -> Callable[[Mapping[str, Any], Reporter], Ended]:
    def work(asked: Mapping[str, Any], report: Reporter) -> Ended:
        cell = cells[asked["cell"]]
        try:
            _, kept, scores = fit(build, data, cell)
        except Exception as exc:  # noqa: BLE001  the process that fits it again tells
            return Ended("failed", error=str(exc))
        store.add(cell.key, kept, scores)
        return Ended("complete")

    return work
