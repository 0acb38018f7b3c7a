"""What a search costs beside its trials: Trunkline and bare Optuna on the same fits, in turns.

python benchmarks/search.py                                three rounds of both scenes
python benchmarks/search.py --scenes overhead --rounds 1   a minute's look
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

SCENES = {
    "overhead": ("optuna-memory", "optuna-journal", "trunkline", "trunkline-mlflow"),
    "hpo": ("optuna-memory", "optuna-journal-2", "trunkline", "trunkline-jobs-2"),
}
TRIALS = {"overhead": 100, "hpo": 40}
FIT_SECONDS = 0.05


@dataclass(frozen=True)
class Sleeper:
    """A fit of 50 ms with eight reports. It sleeps, so a busy machine does not change what it takes."""

    width: int
    lr: float
    depth: int

    name: ClassVar[str] = "sleeper"

    def settings(self) -> dict[str, Any]:
        """Every setting."""
        return {"width": self.width, "lr": self.lr, "depth": self.depth}

    def fit(self, data: Any, context: Any) -> Sleeper:
        """Eight epochs."""
        for step in range(1, 9):
            time.sleep(FIT_SECONDS / 8)
            context.report(step, 0.5 + self.lr * step / 100)
        return self

    def predict(self, x: Any) -> Any:
        """The same for all."""
        return np.linspace(0, 1, len(x))


def sleeper(trial: Any) -> Sleeper:
    """Three parameters."""
    width = trial.suggest_int("width", 16, 512, log=True)
    return Sleeper(width, trial.suggest_float("lr", 1e-4, 1e-1, log=True), trial.suggest_int("depth", 1, 4))


def mlp(trial: Any) -> Any:
    """Up to eight epochs."""
    from trunkline.estimators import MLP

    return MLP(
        width=trial.suggest_int("width", 32, 256, log=True),
        depth=trial.suggest_int("depth", 1, 3),
        lr=trial.suggest_float("lr", 1e-4, 1e-2, log=True),
        dropout=trial.suggest_float("dropout", 0.0, 0.5),
        batch_size=256,
        epochs=8,
        patience=8,
    )


def data_of(rows: int) -> Any:
    """Made-up flights: numbers and categories."""
    import pyarrow as pa

    from trunkline.models.signature import Signature
    from trunkline.training.features import prepare

    def table(rows: int, seed: int) -> pa.Table:
        random = np.random.default_rng(seed)
        columns = {f"x{i}": random.normal(size=rows) for i in range(12)}
        carrier = random.integers(0, 16, rows)
        late = columns["x0"] + np.sin(2 * carrier) + columns["x1"] * columns["x2"] + random.normal(size=rows) > 1
        return pa.table({**columns, "carrier": [f"C{code}" for code in carrier], "late": late})

    schema = [(f"x{i}", "DOUBLE") for i in range(12)] + [("carrier", "VARCHAR"), ("late", "BOOLEAN")]
    return prepare(table(rows, 1), table(rows // 4, 2), Signature.from_schema(schema, target="late"))


class Fits:
    """Seconds and epochs spent in fits, counted in shared memory: forked processes add to it."""

    def __init__(self) -> None:
        import mmap

        self._shared = np.frombuffer(mmap.mmap(-1, 8 * 64), np.float64)

    def counting(self, build: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """The same model function, whose fits are counted."""
        shared, parent = self._shared, os.getpid()

        @dataclass(frozen=True)
        class Counted:
            inner: Any

            @property
            def name(self) -> str:
                return str(self.inner.name)

            def settings(self) -> dict[str, Any]:
                return dict(self.inner.settings())

            def fit(self, data: Any, context: Any) -> Any:
                begun = time.perf_counter()
                slot = 0 if os.getpid() == parent else 1 + os.getpid() % 31  # each process a place of its own
                try:
                    return self.inner.fit(data, context)
                finally:
                    shared[2 * slot] += time.perf_counter() - begun
                    shared[2 * slot + 1] += 1

        return lambda trial: Counted(build(trial))

    @property
    def seconds(self) -> float:
        """Of all fits."""
        return float(self._shared[::2].sum())


def objective(build: Callable[[Any], Any], data: Any, report: bool = True) -> Callable[[Any], float]:
    """What a user of bare Optuna would write."""
    import optuna

    from trunkline.training.protocol import FitContext

    def run(trial: Any) -> float:
        def told(step: int, value: float) -> None:
            trial.report(value, step)
            if trial.should_prune():
                raise optuna.TrialPruned

        fitted = build(trial).fit(data, FitContext(seed=1, threads=1, report=told))
        return float(data.metric.of(data.validation.y, fitted.predict(data.validation.x)))

    return run


def bare_optuna(build: Callable[[Any], Any], data: Any, trials: int, journal: Path | None, jobs: int) -> float:
    """Median pruning and TPE as Optuna has them; forked after torch and its optimiser are loaded."""
    import optuna
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.ERROR)

    def opened(seed: int) -> optuna.Study:
        storage = optuna.storages.JournalStorage(JournalFileBackend(str(journal))) if journal else None
        pruner = optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=1)
        sampler = optuna.samplers.TPESampler(seed=seed)
        return optuna.create_study(
            storage=storage, study_name="s", load_if_exists=True, direction="maximize", pruner=pruner, sampler=sampler
        )

    def work(seed: int, count: int) -> optuna.Study:
        study = opened(seed)
        study.optimize(objective(build, data), n_trials=count)
        return study

    if jobs == 1:
        return float(work(1, trials).best_value)
    opened(0)
    children = []
    for seed in range(jobs):
        if not (child := os.fork()):
            work(seed, trials // jobs)
            os._exit(0)
        children.append(child)
    for child in children:
        os.waitpid(child, 0)
    return float(opened(0).best_value)


def trunkline(build: Callable[[Any], Any], data: Any, trials: int, folder: Path, jobs: int, registry: Any) -> float:
    """A search; with a registry its runs go there through the outbox, and all have arrived in the end."""
    from trunkline.training.search.optuna import SearchSpec, search

    spec = SearchSpec(build, "s", folder / "s.journal", trials=trials, jobs=jobs, seed=1)
    with logged(folder, registry) if registry else nullcontext() as tell:
        return search(spec, data, on_trial=tell).best_value


@contextmanager
def logged(folder: Path, registry: Any) -> Iterator[Callable[[Any], None]]:
    """As `tune` records its trials."""
    from trunkline.registry.outbox import Outbox
    from trunkline.registry.protocol import RunRecord

    outbox = Outbox(folder / "s.jsonl", lambda: registry)
    outbox.add(RunRecord("tune", "study", key="s", status="RUNNING"))

    def tell(trial: Any) -> None:
        metrics = {"roc_auc": trial.value} if trial.value is not None else {}
        curves = {"roc_auc_by_step": trial.history}
        run = RunRecord("tune", f"trial {trial.number}", dict(trial.params), metrics, curves, key=f"s/{trial.number}")
        outbox.add(run, below="s")

    yield tell
    if outbox.close():
        raise SystemExit("runs did not arrive")


def store(folder: Path) -> Any:
    """A new MLflow store, which takes seconds and is made once for a project."""
    from trunkline.registry.mlflow import MlflowRegistry
    from trunkline.registry.protocol import RunRecord

    registry = MlflowRegistry(folder / "mlflow" / "mlflow.db")
    registry.log_runs([RunRecord("tune", "first")])
    return registry


def lap(scene: str, contestant: str) -> dict[str, float]:
    """One contestant in this process."""
    data = data_of(2_000 if scene == "overhead" else 20_000)
    fits, trials = Fits(), TRIALS[scene]
    build = fits.counting(sleeper if scene == "overhead" else mlp)
    if scene == "hpo":
        from trunkline.training.networks.warm import warm

        warm()
    with tempfile.TemporaryDirectory(prefix="trunkline-bench-") as name:
        folder = Path(name)
        jobs = 2 if contestant.endswith("-2") else 1  # Trunkline forks one as well, as `tune` does
        import_module("trunkline.training.search.optuna")  # imports are in nobody's time

        registry = store(folder) if contestant == "trunkline-mlflow" else None
        before, begun = _cpu(), time.perf_counter()
        if contestant.startswith("optuna"):
            best = bare_optuna(build, data, trials, folder / "s.journal" if "journal" in contestant else None, jobs)
        else:
            best = trunkline(build, data, trials, folder, jobs, registry)
        wall = time.perf_counter() - begun
        fitted = fits.seconds / jobs
        return {
            "wall": wall,
            "fits": fits.seconds,
            "own_ms": 1000 * (wall - fitted) / trials,
            "cpu_ms": 1000 * (_cpu() - before - (fits.seconds if scene == "hpo" else 0)) / trials,
            "best": best,
        }


def _cpu() -> float:
    return sum(
        used.ru_utime + used.ru_stime
        for used in (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    )


def main() -> None:
    """Laps in turns, and a table for each scene."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--scenes", nargs="*", choices=SCENES, default=list(SCENES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--lap", nargs=2)
    asked = parser.parse_args()
    if asked.lap:
        print(json.dumps(lap(*asked.lap)))
        return
    for scene in asked.scenes:
        laps: dict[str, list[dict[str, float]]] = {name: [] for name in SCENES[scene]}
        for _ in range(asked.rounds):
            for name in SCENES[scene]:
                command = [sys.executable, __file__, "--lap", scene, name]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                laps[name].append(json.loads(done.stdout.splitlines()[-1]))
        _table(scene, laps)


def _table(scene: str, laps: dict[str, list[dict[str, float]]]) -> None:
    print(f"\n{scene}: {TRIALS[scene]} trials")
    print(
        "| contestant | wall s (best) | fits s | own ms/trial | cpu ms/trial | best value |\n|---|---|---|---|---|---|"
    )
    for name, found in laps.items():
        middle = {key: statistics.median(one[key] for one in found) for key in found[0]}
        wall = f"{middle['wall']:.2f} ({min(one['wall'] for one in found):.2f})"
        costs = f"{middle['fits']:.1f} | {middle['own_ms']:.1f} | {middle['cpu_ms']:.1f}"
        print(f"| {name} | {wall} | {costs} | {middle['best']:.4f} |")


if __name__ == "__main__":
    main()
