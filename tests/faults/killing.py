"""Ending a command by SIGKILL: at a moment drawn by chance, or exactly before or after a call.

How a moment is drawn. Much of a command's time changes nothing, and a kill there shows nothing. So an undisturbed run
is watched first: every few milliseconds the files below `warehouse/` and `.trunkline/` are listed
with their sizes and time stamps, and each difference from the list before counts as one *change*: a journal that
appears beside the catalog, a Parquet file that grows, a folder that gets its name. Three kills in four come a drawn
0 to 30 ms after a drawn change, however fast the machine is just then; the fourth comes at a drawn fraction of the
undisturbed run's duration. A command that ends before its moment was not killed: the caller draws again.

SIGKILL goes to the whole process group, so a child of the command dies with it. What the system has taken from a
process is safe from its death: these tests say nothing about a machine that loses power.
"""

from __future__ import annotations

import json
import os
import random
import signal
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests import warmed

_WATCHED = ("warehouse", ".trunkline")
_NOISE = "dbt"  # what dbt compiles and logs is nobody's input
_DELAY_SECONDS = 0.03
_LOOK_SECONDS = 0.004
_PATIENCE_SECONDS = 300.0


@dataclass(frozen=True)
class Run:
    """One command: its exit code (negative: the signal), its output, and what its watcher saw."""

    code: int
    out: str
    err: str
    seconds: float
    changes: int

    @property
    def killed(self) -> bool:
        """Whether it was still at work when its moment came."""
        return self.code == -signal.SIGKILL


@dataclass(frozen=True)
class Moment:
    """When to kill: `delay` seconds after change number `change`, or after the start if `change` is 0."""

    change: int
    delay: float


def draw(rng: random.Random, undisturbed: Run, done: float = 0.0) -> Moment:
    """A moment inside a run like `undisturbed`, of which the fraction `done` need not be done again."""
    left = 1.0 - done
    if rng.random() < 0.25:
        return Moment(0, rng.uniform(0.0, undisturbed.seconds * left))
    return Moment(rng.randint(1, max(1, int(undisturbed.changes * left))), rng.uniform(0.0, _DELAY_SECONDS))


def run(root: Path, *arguments: str, kill: Moment | None = None) -> Run:
    """`trunkline ARGUMENTS` in the project at `root`, watched, and killed at `kill` with its whole group."""
    return _watched(root, ["-m", "trunkline", *arguments], kill)


def run_until(root: Path, *arguments: str, call: str, when: str = "before", given: str = "True") -> Run:
    """`trunkline ARGUMENTS`, killed before or after the first call of `call` for which `given` is true.

    `call` is `module:Class.method`; `given` is an expression over the call's `args` (with self) and `kwargs`.
    """
    return _watched(root, ["-c", _DEADLY, call, when, given, *arguments], None)


_DEADLY = """
import os, signal, sys
from importlib import import_module

call, when, given, *arguments = sys.argv[1:]
module, _, path = call.partition(":")
owner = import_module(module)
*holders, name = path.split(".")
for holder in holders:
    owner = getattr(owner, holder)
real = getattr(owner, name)


def deadly(*args, **kwargs):
    due = eval(given, {"args": args, "kwargs": kwargs})
    if due and when == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    result = real(*args, **kwargs)
    if due:
        os.kill(os.getpid(), signal.SIGKILL)
    return result


setattr(owner, name, deadly)
from trunkline.cli.main import main
main(arguments)
"""


def _watched(root: Path, command: list[str], kill: Moment | None) -> Run:
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        seen, changes, started = _listing(root), 0, time.monotonic()
        process = warmed.start(command, root, out=out, err=err)
        due = started + kill.delay if kill is not None and kill.change == 0 else None
        try:
            while process.poll() is None:
                now = time.monotonic()
                assert now < started + _PATIENCE_SECONDS, f"{command} has not ended"
                if due is not None and now >= due:
                    break
                listed = _listing(root)
                changes += listed != seen
                seen = listed
                if kill is not None and due is None and changes >= kill.change:
                    due = now + kill.delay
                time.sleep(_LOOK_SECONDS)
        finally:
            process.kill()
            code = process.wait(30)
        seconds = time.monotonic() - started
        out.seek(0)
        err.seek(0)
        return Run(code, out.read().decode(), err.read().decode(), seconds, changes)


def _listing(root: Path) -> set[tuple[str, int, int]]:
    found: set[tuple[str, int, int]] = set()
    todo = [root / name for name in _WATCHED]
    while todo:
        folder = todo.pop()
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    stat = entry.stat(follow_symlinks=False)
                    found.add((entry.path, stat.st_size, stat.st_mtime_ns))
                    if entry.is_dir(follow_symlinks=False) and entry.name != _NOISE:
                        todo.append(Path(entry.path))
        except FileNotFoundError:  # gone between two looks
            continue
    return found


def must_end_well(done: Run) -> Run:
    """The run, which must have succeeded."""
    assert done.code == 0, f"exit code {done.code}\n{done.out}\n{done.err}"
    return done


def error_of(done: Run) -> dict[str, str]:
    """The one error of a `--json` command that must have failed, without a traceback."""
    assert done.code > 0, f"exit code {done.code}\n{done.out}\n{done.err}"
    assert "Traceback" not in done.out + done.err, done.err
    error: dict[str, str] = json.loads(done.out)
    assert error["message"]
    return error
