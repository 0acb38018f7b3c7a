"""Training, search and comparison as this process sees them: asked of a process apart, which has the open parts only.

Light: neither NumPy nor a framework is loaded here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trunkline.project.apart import run_apart
from trunkline.training.records import Row, SearchResult, Trained, TrialRecord
from trunkline.training.subject import Subject

if TYPE_CHECKING:
    from trunkline.training.protocol import Reporter


@dataclass(frozen=True)
class Study:
    """A search: its name, where its trials are kept, how many shall be finished, and in how many seconds."""

    name: str
    storage: Path
    trials: int
    timeout: float | None = None


@dataclass(frozen=True)
class Apart:
    """Trainings of one subject with one seed, on so many threads."""

    subject: Subject
    seed: int
    threads: int

    def train(
        self, metadata: Mapping[str, Any], params: Mapping[str, Any] | None, out: Path, report: Reporter
    ) -> Trained:
        """One training; its bundle is written to the folder `out`. Errors are those of `training.run.train`."""
        from trunkline.models.bundle import Bundle

        out.parent.mkdir(parents=True, exist_ok=True)
        request = {"metadata": dict(metadata), "params": None if params is None else dict(params), "out": str(out)}
        found = self._run("train", request, lambda told: report(*told))
        history = tuple((step, value) for step, value in found.pop("history"))
        interval = (found["interval"][0], found["interval"][1])
        return Trained(**{**found, "interval": interval}, history=history, bundle=Bundle.open(out))

    def search(self, study: Study, on_trial: Callable[[TrialRecord], None]) -> SearchResult:
        """All trials of a search, in one process. Errors are those of `training.optuna.search`."""
        study.storage.parent.mkdir(parents=True, exist_ok=True)
        request = {"study": study.name, "storage": str(study.storage), "trials": study.trials}
        found = self._run("search", {**request, "timeout": study.timeout}, lambda told: on_trial(_trial(told)))
        return SearchResult(**{**found, "trials": tuple(_trial(trial) for trial in found["trials"])})

    def compare(self, params: Mapping[str, Any], vary: str | None, on_row: Callable[[Row], None]) -> list[Row]:
        """A ladder of feature groups, with `params` or every choice of `vary`. Errors: `training.compare.compare`."""
        rows: list[Row] = []

        def hear(told: dict[str, Any]) -> None:
            rows.append(Row(**{**told, "groups": tuple(told["groups"])}))
            on_row(rows[-1])

        self._run("compare", {"params": dict(params), "vary": vary}, hear)
        return rows

    def _run(self, job: str, request: Mapping[str, Any], hear: Callable[[Any], None]) -> Any:
        subject = self.subject
        shared = {
            "root": str(subject.root),
            "declared": asdict(subject.declared),
            "dataset_id": subject.manifest.dataset_id,
            "seed": self.seed,
            "threads": self.threads,
        }
        return run_apart(f"trunkline.training.jobs:{job}", {**shared, **request}, root=subject.root, hear=hear)


def _trial(data: Mapping[str, Any]) -> TrialRecord:
    return TrialRecord(**{**data, "history": tuple((step, value) for step, value in data["history"])})
