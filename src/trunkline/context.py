"""What a running step is handed. Rooms take this and their own config section, and never reach up for the project."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from trunkline.graph.step import Step
from trunkline.ledger.ledger import Ledger
from trunkline.project.config import Datasets, Training
from trunkline.project.secrets import Secrets
from trunkline.registry.protocol import Registry
from trunkline.warehouse.protocol import Observable, Warehouse


class Progress(Protocol):
    """Where a step tells how far it is. Calls are cheap and may come from any thread."""

    def __call__(self, text: str, done: float | None = None) -> None:
        """Show `text`; `done` is a fraction in [0, 1], or None where the end is not known."""
        ...


@dataclass(frozen=True)
class StepResult:
    """What a step leaves behind, as plain data for the ledger, and one line for people."""

    output: Mapping[str, Any]
    summary: str


@dataclass(frozen=True)
class Job:
    """One step to run: its fingerprint's value, and the outputs of the steps it needs, by step name.

    `refresh` asks for a load from the beginning, into a table made anew.
    """

    step: Step
    fingerprint: str
    inputs: Mapping[str, Mapping[str, Any]]
    refresh: bool = False


@dataclass(frozen=True)
class StepContext:
    """The seams of one command: opened once by the runner, shared by its steps, closed by the runner.

    `registry` is a function because opening one loads MLflow: only steps that need it call it. `vault_key` gives the
    key of the sealed parts; only the step that seals and the gate call it. `threads` is how many a trainer may use;
    `datasets` says where datasets are published, `training` where models are trained; `head` starts the Ray of this
    command, if there is none yet, and says how it is reached; `dbt_manifest` is the digest of dbt's manifest, or empty.
    """

    root: Path
    run_id: str
    target: str
    warehouse: Warehouse
    ledger: Ledger
    registry: Callable[[], Registry]
    progress: Progress
    vault_key: Callable[[], bytes]
    secrets: Secrets
    who: str
    git_commit: Callable[[], str | None]
    seed: int = 1
    threads: int = 1
    experiment: str = "trunkline"
    datasets: Datasets = field(default_factory=Datasets)
    training: Training = field(default_factory=Training)
    head: Callable[[], Mapping[str, Any]] = dict
    dbt_manifest: Callable[[], str] = str

    @property
    def state(self) -> Path:
        """The folder of this checkout's state."""
        return self.root / ".trunkline"

    @staticmethod
    def now() -> dt.datetime:
        """The time, in UTC."""
        return dt.datetime.now(dt.UTC)

    @contextmanager
    def observed(self, text: str) -> Iterator[None]:
        """Show how far the warehouse is with the statement that runs inside."""
        self.progress(text)
        warehouse = self.warehouse
        if not isinstance(warehouse, Observable):
            yield
            return
        stop = threading.Event()

        def watch() -> None:
            while not stop.wait(0.2):
                self.progress(text, warehouse.progress())

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
