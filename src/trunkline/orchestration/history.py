"""A step's past: when it ran, on which inputs, and what became of it, as the ledger tells."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trunkline.errors import UserError, did_you_mean
from trunkline.ledger.ledger import Ledger

_SHORTEST = 4  # digits of an id that may mean one
_LISTED = 8


@dataclass(frozen=True)
class PastRun:
    """One time a step ran. `inputs` are the fingerprints of what it needed, by the step's name; `asked` is the run that
    was asked for, in which the step may have been fresh: then `run_id` is the run that it was left by."""

    step: str
    run_id: str
    status: str
    inputs: Mapping[str, str]
    output: Mapping[str, Any]
    error: str | None
    started_at: dt.datetime
    asked: str

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "step": self.step,
            "run": self.run_id,
            "status": self.status,
            "started_at": self.started_at.isoformat(),
            "output": dict(self.output),
            "error": self.error,
        }


def past_runs(ledger: Ledger, step: str) -> list[PastRun]:
    """Every time a step ran, the last first."""
    rows = ledger.read("step_runs", "where step = ? order by step_run_id desc", [step])
    return [_past(row) for row in rows]


def find_past(ledger: Ledger, step: str, run: str) -> PastRun:
    """The step as `run` had it: `last`, or a run's id or its beginning. Where it was fresh then, its last success
    before. Raises UserError with the step's runs for anything else."""
    listed = past_runs(ledger, step)
    if not listed:
        raise UserError(f"{step} has never run", hint=f"trunkline run {step}")
    if run == "last":
        return listed[0]
    runs = {str(row["run_id"]): row for row in ledger.read("runs")}
    wanted = f"run_{run.lower().removeprefix('run_')}"
    known = list(dict.fromkeys([*(past.run_id for past in listed), *runs]))
    matching = [run_id for run_id in known if run_id.startswith(wanted)]
    if len(matching) != 1 or len(wanted) < len("run_") + _SHORTEST:
        raise _unknown(run, matching, known, listed)
    (run_id,) = matching
    own = [past for past in listed if past.run_id == run_id]
    if own:
        return own[0]
    ended = runs[run_id]["finished_at"]
    before = [past for past in listed if past.status == "done" and past.started_at <= ended]
    if not before:
        raise UserError(f"{step} had not run yet when {run_id} ended", hint=_listing(listed))
    return PastRun(**{**vars(before[0]), "asked": run_id})


def input_of(ledger: Ledger, past: PastRun, need: str) -> dict[str, Any]:
    """What a needed step had left behind when `past` ran. Raises UserError where the ledger does not know it."""
    fingerprint = past.inputs.get(need)
    if fingerprint is None:
        had = ", ".join(past.inputs) or "nothing"
        raise UserError(
            f"{past.step} needs {need} now, but {past.run_id} ran it on {had}",
            hint="the past inputs go with what the step needed then: spin a later run, or the code of that time",
        )
    rows = ledger.read(
        "step_runs",
        "where step = ? and fingerprint = ? and status = 'done' order by step_run_id desc limit 1",
        [need, fingerprint],
    )
    if not rows:
        raise UserError(f"the ledger does not know what {need} had left behind for {past.run_id}")
    return dict(rows[0]["output"])


def last_output(ledger: Ledger, step: str, before: dt.datetime) -> dict[str, Any] | None:
    """What a step had left behind at some time; None if it had never succeeded."""
    rows = ledger.read(
        "step_runs",
        "where step = ? and status = 'done' and finished_at <= ? order by step_run_id desc limit 1",
        [step, before],
    )
    return dict(rows[0]["output"]) if rows else None


def told(past: PastRun) -> str:
    """One line: id, time, and what became of it."""
    at = past.started_at.astimezone(dt.UTC).strftime("%Y-%m-%d %H:%M")
    metrics = past.output.get("metrics") or {}
    first = next((f", {name} {value:.4f}" for name, value in metrics.items()), "")
    left = str(past.output.get("reference") or past.output.get("content_id", "")[:8])
    return f"{past.run_id}  {at}  {past.status:<6}  {left}{first}".rstrip()


def _past(row: Mapping[str, Any]) -> PastRun:
    return PastRun(
        step=str(row["step"]),
        run_id=str(row["run_id"]),
        status=str(row["status"]),
        inputs=(row["parts"] or {}).get("inputs") or {},
        output=row["output"] or {},
        error=row["error"],
        started_at=row["started_at"],
        asked=str(row["run_id"]),
    )


def _unknown(run: str, matching: Sequence[str], known: Sequence[str], listed: Sequence[PastRun]) -> UserError:
    if len(matching) > 1:
        what = f"{run!r} may be {len(matching)} runs: {', '.join(matching[:4])}{' …' if len(matching) > 4 else ''}"
    elif matching:
        what = f"{run!r} is too short for a run: give {_SHORTEST} digits or more"
    else:
        what = f"there is no run {run!r}.{did_you_mean(run, ['last', *known])}"
    return UserError(what, hint=_listing(listed))


def _listing(listed: Sequence[PastRun]) -> str:
    lines = "".join(f"\n  {told(past)}" for past in listed[:_LISTED])
    more = f"\n  … and {len(listed) - _LISTED} more" if len(listed) > _LISTED else ""
    return f"`last`, or one of the runs of {listed[0].step}:{lines}{more}"
