"""Training, search and comparison as this process sees them: asked of a process apart, which has the open parts only.

Light: neither NumPy nor a framework is loaded here.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trunkline.errors import TrainingError, TransientError
from trunkline.project.apart import run_apart
from trunkline.training.experiments.comparison import Ablate, Comparison
from trunkline.training.experiments.spun import Against, Spun, ToSpin
from trunkline.training.placement import Placement, reachable
from trunkline.training.records import SearchResult, StudyOpened, Trained, TrialRecord
from trunkline.training.subject import Subject

if TYPE_CHECKING:
    from trunkline.training.protocol import Reporter


@dataclass(frozen=True)
class Study:
    """A search: its name, where its trials are kept, and how it goes on. See `training.search.optuna.SearchSpec`.

    `storage` is a journal file, or the URL of a database, which may hold a password.
    """

    name: str
    storage: Path | str = field(repr=False)
    trials: int
    timeout: float | None = None
    jobs: int = 1
    pruner: str = "median"
    anew: bool = False

    def request(self) -> dict[str, Any]:
        """As JSON."""
        here = isinstance(self.storage, Path)
        kept = {"path": str(self.storage) if here else None, "url": None if here else self.storage}
        rest = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "storage"}
        return {**rest, **kept}


@dataclass(frozen=True)
class Experiment:
    """A comparison to make: the best known parameters, those to vary, the seeds, and the folder its fits are kept in.

    `repeats` is how often values are shuffled for the importances; 0 for none.
    """

    params: Mapping[str, Any]
    folder: Path
    seeds: tuple[int, ...]
    vary: tuple[str, ...] = ()
    ablate: Ablate | None = None
    repeats: int = 0
    jobs: int = 1


@dataclass(frozen=True)
class FitPlace:
    """Where one training leaves its bundle, and how far it is while it lasts: `key` is its own among all trainings."""

    state: Path
    key: str
    out: Path

    @property
    def checkpoints(self) -> Path:
        """The last checkpoint of a fit in the child process."""
        return self.state / "checkpoints" / self.key

    @property
    def runs(self) -> Path:
        """What Ray keeps of a fit, unless it has a storage of its own."""
        return self.state / "ray" / self.key

    def forget(self) -> None:
        """The training is registered: what would bring it back is not needed any more."""
        for folder in (self.checkpoints, self.runs, self.out):
            shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True)
class Apart:
    """Trainings of one subject with one seed, on so many threads, at one place."""

    subject: Subject
    seed: int
    threads: int
    placement: Placement = field(default_factory=Placement)

    def train(
        self, metadata: Mapping[str, Any], params: Mapping[str, Any] | None, place: FitPlace, report: Reporter
    ) -> Trained:
        """One training, from its last checkpoint if there is one. Errors are those of `training.run.train`."""
        from trunkline.models.bundle import Bundle

        out = place.out
        for folder in (out, place.checkpoints, place.runs):  # the child cannot make folders right in .trunkline
            folder.parent.mkdir(parents=True, exist_ok=True)
        request = {
            "metadata": dict(metadata),
            "params": None if params is None else dict(params),
            "out": str(out),
            "key": place.key,
            "checkpoints": str(place.checkpoints),
        }
        found = self._run("train", request, lambda told: report(*told))
        return Trained.from_json(found, Bundle.open(out))

    def search(self, study: Study, hear: Callable[[StudyOpened | TrialRecord], None]) -> SearchResult:
        """All trials of a search; `hear` gets the study as it is found, then each trial that ends. Errors are those of
        `training.search.optuna.search`."""
        if isinstance(study.storage, Path):
            study.storage.parent.mkdir(parents=True, exist_ok=True)

        def heard(told: Mapping[str, Any]) -> None:
            hear(_opened(told["opened"]) if "opened" in told else _trial(told["trial"]))

        found = self._run("search", {"study": study.request()}, heard)
        lists = {name: tuple(found[name]) for name in ("objectives", "front")}
        return SearchResult(**{**found, **lists, "trials": tuple(_trial(trial) for trial in found["trials"])})

    def compare(self, wanted: Experiment, hear: Callable[[Mapping[str, Any]], None]) -> Comparison:
        """A comparison as `wanted`; what is told, and errors, are those of `training.experiments.compare.compare`."""
        wanted.folder.mkdir(parents=True, exist_ok=True)
        asked = {**asdict(wanted), "folder": str(wanted.folder)}
        return Comparison.from_json(self._run("compare", asked, hear))

    def spin(self, metadata: Mapping[str, Any], wanted: ToSpin, report: Reporter) -> Spun:
        """One training on a past run's data, compared with what that left. Errors: those of `training.run.train`."""
        from trunkline.models.bundle import Bundle

        request = {name: value and str(value) for name, value in {"out": wanted.out, "past": wanted.past}.items()}
        asked = {**request, "metadata": dict(metadata), "known": dict(wanted.known), "wanted": dict(wanted.wanted)}
        found = self._run("spin", asked, lambda told: report(*told))
        trained = Trained.from_json(found["trained"], Bundle.open(wanted.out))
        return Spun(trained, tuple(Against(**one) for one in found["against"]), found["why"])

    def _run(self, job: str, request: Mapping[str, Any], hear: Callable[[Any], None]) -> Any:
        subject = self.subject
        shared = {
            "root": str(subject.root),
            "declared": asdict(subject.declared),
            "dataset_id": subject.manifest.dataset_id,
            "seed": self.seed,
            "threads": self.threads,
            "placement": asdict(self.placement),
        }
        whole = {**shared, **request}
        try:
            return run_apart(f"trunkline.training.jobs:{job}", whole, root=subject.root, hear=hear)
        except TrainingError as exc:
            if self.placement.on == "ray" and not reachable(self.placement.address):
                what = f"Ray at {self.placement.address} has ended"
                raise TransientError(what, hint="the same command goes on from the last checkpoint") from exc
            raise


def _trial(data: Mapping[str, Any]) -> TrialRecord:
    history = tuple((step, value) for step, value in data["history"])
    return TrialRecord(**{**data, "history": history, "values": tuple(data["values"])})


def _opened(data: Mapping[str, Any]) -> StudyOpened:
    trials = tuple(_trial(trial) for trial in data["trials"])
    return StudyOpened(data["key"], tuple(data["objectives"]), data["higher_is_better"], trials)
