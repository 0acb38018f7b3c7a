"""The local runner: carries out a plan, one step after the other, dbt's steps together."""

from __future__ import annotations

import datetime as dt
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from trunkline.context import Job, StepResult
from trunkline.errors import EngineError, TrunklineError
from trunkline.graph.graph import Graph
from trunkline.graph.plan import Plan, Planned
from trunkline.ledger.ledger import StepEnd
from trunkline.orchestration.session import Session
from trunkline.project.lock import locked
from trunkline.warehouse.protocol import Tagged

RUNNERS = {
    "ingest": "trunkline.ingest.run:run",
    "dataset": "trunkline.datasets.run:run",
    "train": "trunkline.training.step:run",
}
_DBT_KINDS = ("build", "test")


@dataclass(frozen=True)
class Ended:
    """One step that was run, or could not be. `error` None means it succeeded."""

    name: str
    kind: str
    summary: str
    seconds: float
    output: Mapping[str, Any] = field(default_factory=dict)
    error: TrunklineError | None = None
    skipped: bool = False


Listener = Callable[[Ended], None]


def execute(
    session: Session,
    graph: Graph,
    plan: Plan,
    listen: Listener,
    *,
    refresh: bool = False,
    failed: Set[str] = frozenset(),
) -> list[Ended]:
    """Run exactly the stale, selected steps of `plan`, in order; each success is in the ledger before the next begins.

    A step that fails holds up what depends on it, as do those that have `failed` before; the rest goes on. Ctrl-C
    leaves all finished steps recorded. `refresh` loads sources from the beginning.
    """
    with checkout_turn(session):
        return _Execution(session, graph, plan, listen, refresh=refresh, failed=failed).run()


@contextmanager
def checkout_turn(session: Session, *, sweep: bool = True) -> Iterator[None]:
    """One run at a time in a checkout; what a killed one left half written is swept away before the next begins."""
    state = session.project.state
    with ExitStack() as stack:
        try:
            state.mkdir(exist_ok=True)
            try:
                stack.enter_context(locked(state / "run.lock", 1))
            except TimeoutError:
                session.context.progress("waiting for another run in this checkout")
                stack.enter_context(locked(state / "run.lock"))
        except OSError as exc:
            raise EngineError(f"cannot write to {state}: {exc.strerror}", hint="make room, and run it again") from exc
        leftovers = (*state.glob("tmp/*"), *state.glob("datasets/*/.*"), *state.glob("bundles/.*"))
        for leftover in leftovers if sweep else ():
            shutil.rmtree(leftover, ignore_errors=True)
        yield


class _Execution:
    def __init__(
        self,
        session: Session,
        graph: Graph,
        plan: Plan,
        listen: Listener,
        *,
        refresh: bool,
        failed: Set[str],
    ) -> None:
        self._session = session
        self._graph = graph
        self._todo = {entry.step.name: entry for entry in plan.stale}
        self._outputs = {name: last.output for name, last in session.past.items()}
        self._listen = listen
        self._ended: list[Ended] = []
        self._started = dt.datetime.now(dt.UTC)
        self._closed = False  # whether the run is in the ledger as done
        self._failed: set[str] = set(failed)
        self._refresh = refresh

    def run(self) -> list[Ended]:
        try:
            while self._todo:
                self._next()
        except BaseException:
            with suppress(TrunklineError):  # the first error is the one to tell
                self._close("interrupted")
            raise
        if any(ended.error for ended in self._ended):
            with suppress(TrunklineError):
                self._close("failed")
        elif not self._closed:
            self._close("done")
        return self._ended

    def _close(self, status: str) -> None:
        context = self._session.context
        context.ledger.finish_run(context.run_id, context.target, context.git_commit(), status, self._started)

    def _next(self) -> None:
        ready = self._ready()
        others = [entry for entry in ready if entry.step.kind not in _DBT_KINDS]
        for entry in others:
            self._one(entry)
        if not others and self._todo:
            self._dbt(self._dbt_batch())

    def _ready(self) -> list[Planned]:
        """Steps that wait for nothing; those behind a failure are taken out as skipped."""
        for name in list(self._todo):
            behind = self._graph.ancestors([name]) & self._failed
            if behind:
                entry = self._todo.pop(name)
                self._end(
                    Ended(name, entry.step.kind, f"skipped: {', '.join(sorted(behind))} failed", 0.0, skipped=True)
                )
        waiting = set(self._todo)
        return [entry for name, entry in self._todo.items() if not self._graph.ancestors([name]) & waiting]

    def _dbt_batch(self) -> list[Planned]:
        """All dbt steps that wait for nothing but each other: one invocation, in dbt's own order."""
        others = {name for name, entry in self._todo.items() if entry.step.kind not in _DBT_KINDS}
        batch = [
            e for n, e in self._todo.items() if e.step.kind in _DBT_KINDS and not self._graph.ancestors([n]) & others
        ]
        return batch or list(self._todo.values())

    def _one(self, entry: Planned) -> None:
        step = entry.step
        started, clock = dt.datetime.now(dt.UTC), time.perf_counter()
        self._todo.pop(step.name)
        try:
            self._tag(step.name)
            result: StepResult = _runner(step.kind)(self._job(entry), self._session.context)
        except TrunklineError as exc:
            self._failed.add(step.name)
            with suppress(TrunklineError):  # what hindered the step may hinder its record: the step's error is told
                self._record([(entry, str(exc))], started)
            self._end(Ended(step.name, step.kind, exc.what, time.perf_counter() - clock, error=exc))
            return
        self._record([(entry, result)], started)
        self._end(Ended(step.name, step.kind, result.summary, time.perf_counter() - clock, result.output))

    def _tag(self, step: str) -> None:
        """Statements carry their step, where the warehouse notes such a thing (dbt's macros do the same for models)."""
        warehouse = self._session.context.warehouse
        if isinstance(warehouse, Tagged):
            warehouse.tag(f"trunkline:{step}")

    def _dbt(self, batch: Sequence[Planned]) -> None:
        from trunkline.transform.run import run_batch

        started = dt.datetime.now(dt.UTC)
        for entry in batch:
            self._todo.pop(entry.step.name)
        results = run_batch([self._job(entry) for entry in batch], self._session.context, self._session.dbt)
        self._record([(entry, results[entry.step.name]) for entry in batch], started)
        for entry in batch:
            self._end(_dbt_end(entry, results[entry.step.name]))

    def _job(self, entry: Planned) -> Job:
        inputs = {name: self._outputs.get(name, {}) for name in entry.step.needs}
        return Job(entry.step, entry.fingerprint.value, inputs, refresh=self._refresh)

    def _record(self, results: Sequence[tuple[Planned, StepResult | str]], started: dt.datetime) -> None:
        ends = []
        for entry, result in results:
            step, failed = entry.step, isinstance(result, str)
            output = {} if isinstance(result, str) else result.output
            if failed:
                self._failed.add(step.name)
            else:
                self._outputs[step.name] = output
            ends.append(
                StepEnd(
                    step=step.name,
                    kind=step.kind,
                    status="failed" if failed else "done",
                    fingerprint=entry.fingerprint.value,
                    parts=entry.fingerprint.to_json(),
                    output=output,
                    error=result if isinstance(result, str) else None,
                    started_at=started,
                    finished_at=dt.datetime.now(dt.UTC),
                )
            )
        context, last = self._session.context, not self._todo and not self._failed
        context.git_commit()  # it takes its time: not while others wait for their turn
        with context.ledger.transaction():
            context.ledger.finish_steps(context.run_id, ends)
            if last:  # one commit less
                self._close("done")
        self._closed = last

    def _end(self, ended: Ended) -> None:
        if ended.error or ended.skipped:
            self._failed.add(ended.name)
        self._ended.append(ended)
        self._listen(ended)


def _dbt_end(entry: Planned, result: StepResult | str) -> Ended:
    step = entry.step
    if isinstance(result, str):
        error = TrunklineError(f"{step.name}: {result}", file=step.where, hint="mend it and `trunkline run`")
        return Ended(step.name, step.kind, result, 0.0, error=error)
    return Ended(step.name, step.kind, result.summary, float(result.output.get("seconds") or 0.0), result.output)


def _runner(kind: str) -> Callable[..., StepResult]:
    module, _, attribute = RUNNERS[kind].partition(":")
    runner: Callable[..., StepResult] = getattr(import_module(module), attribute)
    return runner
