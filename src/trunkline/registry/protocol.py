"""The seam between Trunkline and a model registry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Literal, Protocol

from trunkline.errors import EngineError

Status = Literal["FINISHED", "FAILED", "KILLED", "RUNNING"]
Curve = Sequence[tuple[int, float]]


class InvalidRecord(EngineError):
    """The registry will never take this very run or version, a value of which is too long or none; it may others."""


@dataclass(frozen=True)
class DatasetInput:
    """What a run read: a part of a dataset, by name, by the digest of its content, and by where it is (path or URL)."""

    name: str
    digest: str
    source: str
    context: Literal["training", "validation", "test"]


@dataclass(frozen=True)
class RunRecord:
    """One thing that was done: a training, a search, a look at the test part; over, unless its status is RUNNING.

    `metrics` are the final numbers, `curves` numbers by step (of epochs, of trials); a name stands in one of them only.
    `artifacts` is a folder whose whole content is kept with the run. `children` are runs of their own (the trials of a
    search), shown under this one; their `parent_run_id` is not read. `datasets` are what it read. Times are aware; None
    means now.

    A run with a `key` is recorded once, however often it is sent: `Registry.log_run`, `Registry.log_runs`.
    """

    experiment: str
    name: str
    params: Mapping[str, object] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    curves: Mapping[str, Curve] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    artifacts: Path | None = None
    children: tuple[RunRecord, ...] = ()
    parent_run_id: str | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    status: Status = "FINISHED"
    key: str = ""
    datasets: tuple[DatasetInput, ...] = ()


@dataclass(frozen=True)
class ModelVersion:
    """One registered bundle.

    `uri` is `models:/name/version`. `sha256` is the bundle's digest as `register` was told, empty if the version was
    registered by something else. `metrics` are those of the run that made it. `created_at` is aware (UTC).
    """

    name: str
    version: int
    uri: str
    sha256: str
    run_id: str
    tags: Mapping[str, str]
    metrics: Mapping[str, float]
    created_at: datetime


class Registry(Protocol):
    """Where runs are recorded and bundles get their names.

    Threads: every method may be called from any thread. Processes: several may use one registry at once, and two that
    register under one name at the same moment get two versions. Ownership: a registry copies what it is given
    (`bundle_dir`, `artifacts`) before it returns and never changes it; what `fetch` writes belongs to the caller.
    Versions never change, but for tags that are added, and their numbers are never used again.

    Errors: `ModelReferenceError` for a name, version or alias that is malformed or leads nowhere, `TransientError` when
    the registry cannot be reached or is overloaded, which was tried for a while, `InvalidRecord` when it is this very
    record that it will never take, `EngineError` when it refuses for another reason, such as who asks, `IntegrityError`
    when stored files are not those that were registered, or those of a bundle change while they are being stored.
    """

    def log_run(self, run: RunRecord) -> str:
        """Record `run` and its children; returns the run's id. The experiment is made if there is none of that name.

        A run whose `key` is known in its experiment and that is over stays as it is. One that was cut off half-way is
        completed: its children have keys of their own then, `KEY/0`, `KEY/1`, ….
        """
        ...

    def log_runs(self, runs: Sequence[RunRecord]) -> list[str]:
        """Record many runs in few calls, all in order; their ids. Their `children` and `artifacts` are not taken.

        A run whose `key` is known in its experiment keeps its id and its params. If it is over it stays as it is,
        unless it comes as RUNNING again; else metrics, curves, tags, status and end are those that come.
        """
        ...

    def register(
        self,
        name: str,
        bundle_dir: Path,
        *,
        run_id: str,
        sha256: str,
        tags: Mapping[str, str],
        example: Mapping[str, object] | None,
    ) -> ModelVersion:
        """Store the files of `bundle_dir` as the next version of `name`, made by run `run_id`.

        `sha256` is the bundle's digest, `tags` name every ancestor, `example` is one input row for the model's page.
        The version exists only once all files are stored.
        """
        ...

    def resolve(self, reference: str) -> ModelVersion:
        """The version that `models:/name/7` or `models:/name@alias` means now."""
        ...

    def versions(self, name: str) -> list[ModelVersion]:
        """All versions of `name`, newest last; empty if there is no such model."""
        ...

    def fetch(self, version: ModelVersion, directory: Path) -> Path:
        """Write the bundle's files, exactly those that were registered, to `directory`, and return it.

        `directory` must not exist yet or be empty. It appears whole or not at all.
        """
        ...

    def artifacts(self, run_id: str, directory: Path) -> Path:
        """Write the artifacts that a run was recorded with to `directory`, and return it; see `fetch`.

        Raises `EngineError` where there is no such run. What they say is as true as the registry's keepers are honest.
        """
        ...

    def tag(self, version: ModelVersion, tags: Mapping[str, str]) -> None:
        """Add tags to a version, or change them. Raises `EngineError` for those that say what its bundle is."""
        ...

    def set_alias(self, name: str, alias: str, version: int) -> None:
        """Let `alias` of `name` mean `version` from now on."""
        ...

    def alias(self, name: str, alias: str) -> ModelVersion | None:
        """The version that `alias` means, or None if the model or the alias is not there."""
        ...
