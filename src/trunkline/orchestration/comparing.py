"""`compare`: feature groups, variations and seeds on one dataset, told apart from chance."""

from __future__ import annotations

import datetime as dt
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from trunkline.errors import TrunklineError
from trunkline.graph.step import digest
from trunkline.ledger.ids import new_id
from trunkline.orchestration.experiments import keep, subject_for
from trunkline.orchestration.local import Listener
from trunkline.orchestration.session import Session
from trunkline.project.config import SEEDS
from trunkline.project.files import write_atomic
from trunkline.registry.parcels import tell
from trunkline.registry.protocol import RunRecord
from trunkline.training.ancestry import ancestors, inputs
from trunkline.training.apart import Apart, Experiment
from trunkline.training.experiments.comparison import Ablate, Comparison, Row
from trunkline.training.experiments.leaderboard import leaderboard_page, leaderboard_svg
from trunkline.training.placement import Placement
from trunkline.training.steps import step_name
from trunkline.training.subject import Subject

_FOLDERS = 5  # states of data and code whose fits are kept, for each model


@dataclass(frozen=True)
class Wanted:
    """What a comparison is asked for. `repeats` is how often values are shuffled; 0 for no importances."""

    vary: tuple[str, ...] = ()
    seeds: int = 1
    ablate: Ablate | None = None
    repeats: int = 0
    jobs: int = 1


@dataclass(frozen=True)
class Compared:
    """A comparison, and its page on this disk (beside it the drawing, and both as JSON). `unsent` if its runs await the
    registry."""

    comparison: Comparison
    page: Path
    unsent: bool = False


def compare(
    session: Session, model: str, wanted: Wanted, *, hear: Callable[[Mapping[str, Any]], None], listen: Listener
) -> Compared:
    """Compare on the validation part; keep rows and page, and record the runs. What was fitted before is found again.

    `hear` gets what `training.experiments.compare.compare` tells. Raises the error of a step that the dataset needs and
    that failed.
    """
    started = dt.datetime.now(dt.UTC)
    subject = subject_for(session, model, listen)
    last = session.past.get(f"tune:{model}")
    known = last.output["params"] if last else subject.declared.data["first"]
    context = session.context
    folder = _folder(session, subject)
    experiment = Experiment(
        params=known,
        folder=folder,
        seeds=tuple((context.seed + number) % SEEDS for number in range(wanted.seeds)),
        vary=wanted.vary,
        ablate=wanted.ablate,
        repeats=wanted.repeats,
        jobs=wanted.jobs,
    )
    here = Placement(device=context.training.device)
    apart = Apart(subject, context.seed, max(1, context.threads // wanted.jobs), here)
    comparison = apart.compare(experiment, hear)
    page = _drawn(model, subject, comparison, folder / "page")
    keep(
        session,
        f"compare:{model}",
        {"rows": [_kept(row) for row in comparison.rows], "rising": comparison.higher_is_better},
        started,
    )
    context.progress("recording the runs")
    record = _record(session, subject, comparison, page.parent, started)
    return Compared(comparison, page, unsent=not _told(session, record))


def _told(session: Session, record: RunRecord) -> bool:
    """Whether the registry has it; what was compared is not lost for that."""
    try:
        return tell(session.context.state / "outbox", session.context.registry, record) is not None
    except TrunklineError:  # it waits in the outbox, with the reason
        return False


def _folder(session: Session, subject: Subject) -> Path:
    """Where the fits of this dataset, this code and these libraries are kept; those of long ago are removed."""
    versions = session.compile().graph.steps[step_name(subject.name)].versions
    told = [subject.manifest.dataset_id, subject.declared.code, dict(versions), metadata.version("trunkline")]
    place = session.context.state / "compare" / subject.name
    folder = place / digest(told)[:16]
    folder.mkdir(parents=True, exist_ok=True)
    others = sorted((f for f in place.iterdir() if f != folder), key=lambda f: f.stat().st_mtime, reverse=True)
    for old in others[_FOLDERS - 1 :]:
        shutil.rmtree(old, ignore_errors=True)
    return folder


def _drawn(model: str, subject: Subject, comparison: Comparison, folder: Path) -> Path:
    page = folder / "comparison.html"
    write_atomic(page, leaderboard_page(model, subject.manifest, comparison))
    write_atomic(folder / "comparison.svg", leaderboard_svg(comparison))
    write_atomic(folder / "comparison.json", json.dumps(comparison.to_json()))
    return page


def _kept(row: Row) -> dict[str, Any]:
    return {name: value for name, value in asdict(row).items() if name != "history"}


def _record(
    session: Session, subject: Subject, comparison: Comparison, folder: Path, started: dt.datetime
) -> RunRecord:
    best = comparison.rows[comparison.best]
    return RunRecord(
        experiment=f"{session.context.experiment}/compare",
        name=f"{subject.name} compare",
        params={"seeds": len(comparison.seeds), "rows": comparison.measured},
        metrics={f"best_{comparison.metric}": best.value},
        tags={
            **ancestors(subject.manifest, session.context),
            "trunkline.best": f"{best.name} with {best.variation}",
        },
        datasets=inputs(subject.manifest, session.context, {"train": "training", "validation": "validation"}),
        key=new_id("compare"),
        artifacts=folder,
        children=tuple(_child(session, comparison, place) for place in range(len(comparison.rows))),
        started_at=started,
        ended_at=session.context.now(),
    )


def _child(session: Session, comparison: Comparison, place: int) -> RunRecord:
    row, metric = comparison.rows[place], comparison.metric
    found = {metric: row.value, f"{metric}_low": row.low, f"{metric}_high": row.high, "seconds": row.seconds}
    if row.spread is not None:
        found[f"{metric}_seeds_sd"] = row.spread
    for contrast in comparison.contrasts:
        if contrast.row == place:
            name = contrast.family.replace(" ", "_")
            found |= {f"{name}_difference": contrast.value, f"{name}_p_adjusted": contrast.adjusted}
    return RunRecord(
        experiment=f"{session.context.experiment}/compare",
        name=f"{row.name} {row.variation}",
        params={
            "groups": ", ".join(row.groups),
            "left_out": row.left_out,
            "features": row.features,
            "estimator": row.estimator,
            "variation": row.variation,
        },
        metrics=found,
        curves={f"{metric}_by_step": row.history} if row.history else {},
    )
