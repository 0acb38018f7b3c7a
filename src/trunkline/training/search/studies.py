"""Studies as they are: listed, their best, their front, what mattered. A home of optuna."""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
from optuna.importance import PedAnovaImportanceEvaluator
from optuna.storages import BaseStorage
from optuna.study import Study, StudyDirection
from optuna.trial import TrialState

from trunkline.training.records import StudyRecord, TrialRecord
from trunkline.training.search import databases
from trunkline.training.search.journal import read_journal
from trunkline.training.search.study import finished_of, quiet, record_of

if TYPE_CHECKING:
    from trunkline.training.search.study import OpenStudy

__all__ = ["best_of", "bests_before", "front_of", "importance_of", "read_studies"]

_FEWEST = 5  # complete trials, from which on importance says something


def read_studies(storage: str | Path, *, importance: str = "") -> list[StudyRecord]:
    """All studies kept in a journal file or a database, oldest first. Nothing is changed in it.

    The importances of parameters take a moment: they are worked out for the study called `importance`.
    """
    if isinstance(storage, Path) and not storage.exists():
        return []
    with quiet(), databases.translated(storage):
        opened = read_journal(storage) if isinstance(storage, Path) else databases.read_database(storage)
        with databases.closing(opened):
            return [
                _record(optuna.load_study(study_name=name, storage=opened), importance == name)
                for name in _names(opened)
            ]


def best_of(trials: Sequence[TrialRecord], higher_is_better: bool) -> TrialRecord | None:
    """The complete trial that is best by the metric; the earlier one of equals."""
    complete = [trial for trial in trials if trial.state == "complete" and trial.value is not None]
    return min(complete, key=lambda trial: _loss(trial, (higher_is_better,)), default=None)


def front_of(trials: Sequence[TrialRecord], higher_is_better: Sequence[bool]) -> tuple[int, ...]:
    """Numbers of the complete trials that no other is better than or equal to in all objectives, best metric first."""
    complete = [trial for trial in trials if trial.state == "complete"]
    losses = {trial.number: _loss(trial, higher_is_better) for trial in complete}
    front: list[int] = []
    for number in sorted(losses, key=lambda number: (losses[number], number)):
        mine = losses[number]
        if not any(all(a <= b for a, b in zip(losses[other], mine, strict=True)) for other in front):
            front.append(number)
    return tuple(front)


def importance_of(study: Study) -> dict[str, float]:
    """Each parameter's share of what made good trials good, largest first; empty where there is too little to tell.

    By PED-ANOVA (Watanabe, Bansal & Hutter, IJCAI 2023) of the metric. A parameter that only some trials have counts
    among those, weighed by how many they are.
    """
    complete = [t for t in study.get_trials(deepcopy=False) if t.state == TrialState.COMPLETE]
    have = Counter(name for trial in complete for name in trial.params)
    sign = -1.0 if study.directions[0] == StudyDirection.MAXIMIZE else 1.0
    found: dict[str, float] = {}
    for name, count in have.items():
        values = {trial.params[name] for trial in complete if name in trial.params}
        if count >= _FEWEST and len(values) > 1:
            found[name] = _divergence(study, name, sign) * count / len(complete)
    total = sum(value for value in found.values() if math.isfinite(value))
    shares = {name: value / total for name, value in found.items() if math.isfinite(value)} if total else {}
    return dict(sorted(shares.items(), key=lambda item: -item[1]))


def _divergence(study: Study, name: str, sign: float) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it takes less for better, which `sign` sees to
        told = PedAnovaImportanceEvaluator().evaluate(
            study, params=[name], target=lambda trial: sign * float(trial.values[0])
        )
    return float(told[name])


def bests_before(study: OpenStudy) -> Iterator[dict[str, Any]]:
    """Parameters of the best trials of this model's other studies by the same metric, the best of each study first."""
    storage, spec = study.study._storage, study.spec
    ranked = []
    for name in reversed(_names(storage)):  # the newest study first
        if name == spec.name:
            continue
        other = optuna.load_study(study_name=name, storage=storage)
        attributes = other.user_attrs
        if attributes.get("model") == spec.model and attributes.get("objectives", [None])[0] == spec.objectives[0]:
            trials = [record_of(trial) for trial in finished_of(other)]
            complete = [trial for trial in trials if trial.state == "complete"]
            up = spec.higher_is_better[:1]
            ranked.append([dict(t.params) for t in sorted(complete, key=lambda trial: _loss(trial, up))])
    for row in zip_longest(*ranked):
        yield from (params for params in row if params is not None)


def _names(storage: BaseStorage) -> list[str]:
    studies = sorted(storage.get_all_studies(), key=lambda study: study._study_id)
    return [study.study_name for study in studies]


def _loss(trial: TrialRecord, higher_is_better: Sequence[bool]) -> tuple[float, ...]:
    """The trial's values so that less is better."""
    return tuple(-value if up else value for value, up in zip(trial.values, higher_is_better, strict=False))


def _record(study: Study, importance: bool) -> StudyRecord:
    attributes = study.user_attrs
    everything = study.get_trials(deepcopy=False)
    trials = tuple(record_of(trial) for trial in finished_of(study))
    up = tuple(direction == StudyDirection.MAXIMIZE for direction in study.directions)
    return StudyRecord(
        name=study.study_name,
        model=attributes.get("model", ""),
        objectives=tuple(attributes.get("objectives", ["value"] * len(up))),
        higher_is_better=up,
        trials=trials,
        unfinished=sum(not trial.state.is_finished() for trial in everything),
        best=best_of(trials, up[0]),
        front=front_of(trials, up),
        importance=importance_of(study) if importance else {},
        started=min((trial.started for trial in trials if trial.started is not None), default=None),
    )
