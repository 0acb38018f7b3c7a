"""Fits of a comparison by several processes at once."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from typing import Any

from trunkline.errors import TrainingError, TrunklineError, from_json
from trunkline.project.boundary import told
from trunkline.training.experiments.cells import Cell, Store, fit
from trunkline.training.protocol import Build, Reporter, TrainingData
from trunkline.training.search.objectives import Ended
from trunkline.training.search.workers import Died, Finished, Workers, warm

__all__ = ["fill"]

_LOOK_SECONDS = 1.0
_ATTEMPTS = 2


def fill(
    build: Build, data: TrainingData, cells: Sequence[Cell], store: Store, jobs: int, done: Callable[[Cell], None]
) -> None:
    """Fit `cells` into `store` with `jobs` processes, forked when the frameworks are loaded; `done` hears each one.

    Raises what a fit fails with, as a TrunklineError. A fit whose process dies is tried once more, by another one:
    never in this process, whose threads those that are forked later would wait for.
    """
    for params in {cell.recipe.variation: cell.recipe.params for cell in cells}.values():
        warm(build, params)
    waiting = list(range(len(cells)))
    running: set[int] = set()
    deaths: Counter[int] = Counter()
    with closing(Workers(min(jobs, len(cells)), _work(build, data, cells, store))) as workers:
        while waiting or running:
            while waiting and workers.idle:
                number = waiting.pop(0)
                workers.begin(number, {"cell": number})
                running.add(number)
            for event in workers.events(_LOOK_SECONDS):
                if isinstance(event, Finished):
                    running.discard(event.number)
                    _refuse_failed(event.ended)
                    done(cells[event.number])
                elif isinstance(event, Died) and event.number is not None:
                    running.discard(event.number)
                    deaths[event.number] += 1
                    waiting.insert(0, _alive(event.number, deaths, cells))


def _work(
    build: Build, data: TrainingData, cells: Sequence[Cell], store: Store
) -> Callable[[Mapping[str, Any], Reporter], Ended]:
    def work(asked: Mapping[str, Any], report: Reporter) -> Ended:
        cell = cells[asked["cell"]]
        try:
            _, kept, scores = fit(build, data, cell)
            store.add(cell.key, kept, scores)
        except Exception as exc:  # noqa: BLE001  raised by the process that asked
            error = exc if isinstance(exc, TrunklineError) else TrainingError(f"{cell.recipe.name}: {told(exc)}")
            return Ended("failed", error=json.dumps(error.to_json()))
        return Ended("complete")

    return work


def _refuse_failed(ended: Ended) -> None:
    if ended.error is not None:
        raise from_json(json.loads(ended.error))


def _alive(number: int, deaths: Mapping[int, int], cells: Sequence[Cell]) -> int:
    """The same number, to be tried again. Raises TrainingError where that was in vain."""
    if deaths[number] >= _ATTEMPTS:
        raise TrainingError(
            f"{cells[number].recipe.name}: the process that fitted it died, and once more when it was tried again",
            hint="was there memory enough? fewer `--jobs` need less; what is fitted is kept",
        )
    return number
