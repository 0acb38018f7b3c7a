"""Forked processes that fit trials: they share the data and the loaded frameworks of the process they are forked from.

Fork, because a fresh process would import PyTorch again (seconds) and hold the data again. It is safe as long as no
pool of OpenMP threads has run in the parent: a forked child would wait for threads that it lacks. So the parent only
loads frameworks (`warm`), and each worker computes on one thread. Messages are lines of JSON over a pair of sockets.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import socket
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib import import_module
from typing import Any

from trunkline.errors import TrainingError
from trunkline.project.confined import die_with
from trunkline.training.boundary import build_with
from trunkline.training.protocol import Build, Estimator, Pruned, Reporter
from trunkline.training.search.objectives import Ended
from trunkline.training.trial import DefaultTrial

__all__ = ["Died", "Finished", "Reported", "Work", "Workers", "warm"]

_ANSWER_SECONDS = 0.05  # a worker waits so long to hear whether to stop, then goes on and looks again at the next step
_MOST_WARMED = 32

# What loads an estimator's framework, and what it would load at its first fit, by the estimator's name. Others do it
# in a method `warm`, or not at all.
_WARM = {
    "lightgbm": "trunkline.training.trees.lightgbm:__name__",
    "mlp": "trunkline.training.networks.warm:warm",
    "tabm": "trunkline.training.networks.warm:warm",
    "torch": "trunkline.training.networks.warm:warm",
    "xgboost": "trunkline.training.trees.xgboost:__name__",
}

Work = Callable[[Mapping[str, Any], Reporter], Ended]
"""Fits the trial of some parameters."""


@dataclass(frozen=True)
class Reported:
    """A worker's trial has come to a step."""

    number: int
    step: int
    value: float


@dataclass(frozen=True)
class Finished:
    """A worker's trial has ended."""

    number: int
    ended: Ended


@dataclass(frozen=True)
class Died:
    """A worker has died; `number` is the trial it was at, if any."""

    number: int | None


class Workers:
    """So many processes. For one thread; `closing` ends them all."""

    def __init__(self, count: int, work: Work) -> None:
        self._work = work
        self._selector = selectors.DefaultSelector()
        self._workers: list[_Worker] = []
        for _ in range(count):
            self._add()

    @property
    def idle(self) -> int:
        """How many have no trial."""
        return sum(worker.number is None for worker in self._workers)

    def begin(self, number: int, params: Mapping[str, Any]) -> None:
        """Give an idle worker a trial."""
        worker = next(worker for worker in self._workers if worker.number is None)
        worker.number = number
        worker.say({"begin": number, "params": dict(params)})

    def answer(self, number: int, *, stop: bool) -> None:
        """Tell the worker of a trial that has just reported whether to stop."""
        for worker in self._workers:
            if worker.number == number:
                worker.say({"of": number, "stop": stop})

    def events(self, timeout: float) -> Iterator[Reported | Finished | Died]:
        """What the workers say within `timeout` seconds. One that died has a successor already."""
        for key, _ in self._selector.select(timeout):
            worker: _Worker = key.data
            yield from self._heard(worker)

    def close(self) -> None:
        """End them, whatever they are at."""
        for worker in self._workers:
            self._selector.unregister(worker.socket)
            worker.end()
        self._workers.clear()
        self._selector.close()

    def _heard(self, worker: _Worker) -> Iterator[Reported | Finished | Died]:
        lines = worker.lines()
        for line in lines or ():
            told = json.loads(line)
            if "step" in told:
                yield Reported(told["number"], told["step"], told["value"])
            else:
                worker.number = None
                yield Finished(told["number"], Ended.from_json(told["ended"]))
        if lines is None:
            self._selector.unregister(worker.socket)
            worker.end()
            self._workers.remove(worker)
            self._add()
            yield Died(worker.number)

    def _add(self) -> None:
        ours, theirs = socket.socketpair()
        others = [worker.socket for worker in self._workers]
        parent = os.getpid()
        sys.stdout.flush()
        sys.stderr.flush()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside threads; ours hold no lock
            pid = os.fork()
        if pid == 0:
            _serve(theirs, [ours, *others], parent, self._work)
        theirs.close()
        worker = _Worker(pid, ours)
        self._workers.append(worker)
        self._selector.register(ours, selectors.EVENT_READ, worker)


@dataclass
class _Worker:
    pid: int
    socket: socket.socket
    number: int | None = None
    rest: bytes = b""

    def say(self, what: Mapping[str, Any]) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it has died: `lines` will tell
            self.socket.sendall(json.dumps(what).encode() + b"\n")

    def lines(self) -> list[bytes] | None:
        """Whole lines it has said; None when it has died."""
        try:
            found = self.socket.recv(1 << 16)
        except ConnectionResetError:
            found = b""
        if not found:
            return None
        *lines, self.rest = (self.rest + found).split(b"\n")
        return lines

    def end(self) -> None:
        self.socket.close()
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)


def _serve(said: socket.socket, others: list[socket.socket], parent: int, work: Work) -> None:
    """The life of a worker: never returns."""
    code = 1
    try:
        die_with(parent)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears it, and ends us
        for other in others:
            other.close()
        _answer(said, work)
        code = 0
    finally:
        if code:
            traceback.print_exc()
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _answer(said: socket.socket, work: Work) -> None:
    heard = _Heard(said)
    for line in iter(heard.wait, None):
        if "begin" not in line:
            continue  # an answer that came after its trial had ended
        number = line["begin"]

        def report(step: int, value: float, number: int = number) -> None:
            said.sendall(json.dumps({"number": number, "step": step, "value": value}).encode() + b"\n")
            if heard.stop(number):
                raise Pruned

        ended = work(line["params"], report)
        said.sendall(json.dumps({"number": number, "ended": asdict(ended)}).encode() + b"\n")


class _Heard:
    """What the parent says to a worker."""

    def __init__(self, said: socket.socket) -> None:
        self._said = said
        self._rest = b""

    def wait(self) -> dict[str, Any] | None:
        """The next line; None when the parent is gone."""
        while b"\n" not in self._rest:
            if not (found := self._said.recv(1 << 16)):
                return None
            self._rest += found
        line, _, self._rest = self._rest.partition(b"\n")
        read: dict[str, Any] = json.loads(line)
        return read

    def stop(self, number: int) -> bool:
        """Whether this trial is to stop, as far as it is known within a moment."""
        until = time.monotonic() + _ANSWER_SECONDS
        while True:
            self._said.settimeout(max(until - time.monotonic(), 0.001))
            try:
                line = self.wait()
            except TimeoutError:
                return False
            finally:
                self._said.settimeout(None)
            if line is None:
                os._exit(1)
            if line.get("of") == number:
                return bool(line["stop"])


def warm(build: Build, first: Mapping[str, Any]) -> None:
    """Load the frameworks of the estimators that the model function may return, computing nothing with them."""
    for name, estimator in _estimators(build, first).items():
        own = getattr(estimator, "warm", None)
        if callable(own):
            own()
        elif name in _WARM:
            module, _, attribute = _WARM[name].partition(":")
            with contextlib.suppress(ImportError):  # the trial will say so, and how to mend it
                found = getattr(import_module(module), attribute)
                if callable(found):
                    found()


def _estimators(build: Build, first: Mapping[str, Any]) -> dict[str, Estimator]:
    """By name: what the function makes of `first`, and of every other choice of each categorical parameter."""
    trial = DefaultTrial(first)
    estimators = {made.name: made for made in [build(trial)]}
    choices = [(name, choice) for name, space in trial.space.items() for choice in space.choices or ()]
    for name, choice in choices[:_MOST_WARMED]:
        with contextlib.suppress(TrainingError):  # a choice that `first` does not go with
            made, _ = build_with(build, {name: choice})
            estimators.setdefault(made.name, made)
    return estimators
