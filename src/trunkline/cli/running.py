"""Running steps and showing them: shared by `run`, `ingest`, `build`, `dataset` and `train`."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trunkline.cli.options import session
from trunkline.cli.show import Show
from trunkline.errors import StepFailed

if TYPE_CHECKING:
    from trunkline.graph.plan import Plan
    from trunkline.orchestration.local import Ended


def run_steps(
    select: Sequence[str],
    *,
    project: Path | None,
    target: str | None,
    as_json: bool,
    force: bool = False,
    kinds: Sequence[str] = (),
    refresh: bool = False,
) -> None:
    """Plan, run what is stale among `kinds`, show each step and a closing line. Raises the first step's error."""
    from trunkline.orchestration.planning import run_selected

    show, clock = Show(as_json=as_json), time.perf_counter()
    with session(project, target, show) as opened:
        with show.working():
            ended, plan = run_selected(
                opened, select, lambda e: show_step(show, e), kinds=kinds, force=force or refresh, refresh=refresh
            )
        close_run(show, ended, plan, time.perf_counter() - clock)


def show_step(show: Show, ended: Ended) -> None:
    """One line for a step that ended."""
    show.step(ended.name, ended.summary, ended.seconds, ok=ended.error is None, skipped=ended.skipped)


def close_run(
    show: Show, ended: Sequence[Ended], plan: Plan, seconds: float, *, more: Mapping[str, Any] | None = None
) -> None:
    """The closing line and the result, `more` in it. Raises the error of the step that failed."""
    done = {e.name for e in ended}
    fresh = sum(e.selected and not e.reason and e.step.name not in done for e in plan.entries)
    failed = [e for e in ended if e.error]
    skipped = [e for e in ended if e.skipped]
    if not ended:
        show.line(f"nothing to do: all {fresh} steps are fresh ({seconds:.2f} s)")
    else:
        counts = f"{len(ended) - len(failed) - len(skipped)} done, {fresh} fresh"
        trouble = f", {len(failed)} failed, {len(skipped)} skipped" if failed else ""
        show.line(f"{counts}{trouble} in {seconds:.1f} s", bold=True)
    if failed and failed[0].error:
        if len(failed) == 1:
            raise failed[0].error
        causes = "; ".join(f"{e.name}: {e.summary}" for e in failed)
        raise StepFailed(
            f"{len(failed)} steps failed: {causes}",
            hint="mend them and `trunkline run` goes on from there",
        ) from failed[0].error
    show.result({"ran": [_row(e) for e in ended], "fresh": fresh, "seconds": round(seconds, 3), **(more or {})})


def _row(ended: Ended) -> dict[str, Any]:
    return {
        "step": ended.name,
        "kind": ended.kind,
        "summary": ended.summary,
        "seconds": round(ended.seconds, 3),
        "output": dict(ended.output),
    }
