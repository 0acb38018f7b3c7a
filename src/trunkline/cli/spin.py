"""`trunkline spin`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from trunkline.cli.completion import past_runs, spun_steps
from trunkline.cli.options import common, session
from trunkline.cli.show import Show

if TYPE_CHECKING:
    from trunkline.orchestration.history import PastRun
    from trunkline.orchestration.spinning import SpunDataset, SpunModel

_EPILOG = (
    "Examples: trunkline spin train:delay · trunkline spin train:delay --from last · "
    "trunkline spin train:delay --from run_019a3f2c --params leaves=127 --seed 2"
)


@click.command(epilog=_EPILOG)
@click.argument("step", shell_complete=spun_steps)
@click.option("--from", "run", metavar="RUN", shell_complete=past_runs, help="A run's id or its beginning, or `last`.")
@click.option("--params", metavar="NAME=VALUE", multiple=True, help="A parameter to change; or several, as JSON.")
@click.option("--seed", type=click.IntRange(0), help="Another seed for the training; default: that of trunkline.yml.")
@common
def command(
    step: str,
    run: str | None,
    params: Sequence[str],
    seed: int | None,
    project: Path | None,
    target: str | None,
    as_json: bool,
) -> None:
    """Run STEP once more on exactly what a past RUN gave it, with the code of today.

    A training gets the dataset of that run, a dataset the snapshot of its table. What comes out lies in
    .trunkline/spins and is compared with what that run left; versions, datasets and the ledger stay as they are.
    Without --from the past runs of STEP are listed.
    """
    from trunkline.orchestration.spinning import Overrides, SpunModel, spin

    show = Show(as_json=as_json)
    overrides = Overrides(_parsed(params), seed)
    with session(project, target, show) as opened, show.working():
        if run is None:
            _list(show, _known(opened, step))
            return
        spun = spin(opened, step, run, overrides)
    root = opened.project.root
    if isinstance(spun, SpunModel):
        _model(show, spun, root)
    else:
        _dataset(show, spun, root)


def _parsed(params: Sequence[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for text in params:
        name, equals, value = text.partition("=")
        if text.lstrip().startswith("{"):
            try:
                found |= json.loads(text)
            except ValueError as exc:
                raise click.UsageError(f"--params {text!r} is no JSON object: {exc}") from exc
        elif equals and name.strip():
            try:
                found[name.strip()] = json.loads(value)
            except ValueError:
                found[name.strip()] = value  # a plain word
        else:
            raise click.UsageError(f"--params {text!r}: say NAME=VALUE, such as leaves=127")
    return found


def _known(opened: Any, step: str) -> list[PastRun]:
    from trunkline.orchestration.history import past_runs as runs_of
    from trunkline.orchestration.spinning import step_of

    return runs_of(opened.context.ledger, step_of(opened.compile(), step).name)


def _list(show: Show, listed: Sequence[PastRun]) -> None:
    from trunkline.orchestration.history import told

    for past in listed:
        show.line(told(past))
    if listed:
        show.line(f"trunkline spin {listed[0].step} --from {listed[0].run_id}", dim=True)
    else:
        show.line("it has never run")
    show.result({"runs": [past.to_json() for past in listed]})


def _head(show: Show, past: PastRun, on: str) -> None:
    at = past.started_at.strftime("%Y-%m-%d %H:%M")
    fresh = f" (left by {past.run_id})" if past.asked != past.run_id else ""
    show.line(f"{past.step} on the inputs of {past.asked}{fresh}, {at} UTC: {on}", bold=True)


# -- train


def _model(show: Show, spun: SpunModel, root: Path) -> None:
    trained, folder = spun.result.trained, spun.folder.relative_to(root)
    _head(show, spun.past, spun.dataset)
    for name, (before, after) in spun.changed.items():
        show.line(f"  {name}: {_value(before)} → {_value(after)}")
    if spun.result.against:
        _against(show, spun)
    else:
        cells = [[name, f"{value:.4f}"] for name, value in trained.metrics.items()]
        show.table(["validation", "now"], cells, right=(1,))
        show.line(f"not compared: {spun.result.why}", fg="yellow")
    if spun.same:
        show.line(f"{click.style('✓', fg='green')} the very bundle that run had left, byte for byte")
    else:
        first = next(iter(spun.result.against), None)
        if first:
            show.line(_verdict(first))
    show.line(f"{folder}/bundle, {trained.seconds:.1f} s: not registered; `trunkline train` does that", dim=True)
    show.result(
        {
            "spin": spun.spin_id,
            "step": spun.past.step,
            "from": spun.past.asked,
            "dataset": spun.dataset,
            "changed": {name: list(pair) for name, pair in spun.changed.items()},
            "params": dict(trained.params),
            "metrics": dict(trained.metrics),
            "against": [asdict(one) for one in spun.result.against],
            "not_compared": spun.result.why or None,
            "same_bundle": spun.same,
            "sha256": trained.bundle.sha256,
            "bundle": str(folder / "bundle"),
        }
    )


def _against(show: Show, spun: SpunModel) -> None:
    from trunkline.training.experiments.comparison import signed

    cells = [
        [
            one.metric,
            f"{one.before:.4f}",
            f"{one.after:.4f}",
            signed(one.value),
            f"{signed(one.low)} to {signed(one.high)}",
            ("<0.001" if one.p < 0.001 else f"{one.p:.3f}") if number == 0 else "",
        ]
        for number, one in enumerate(spun.result.against)
    ]
    show.table(["validation", "then", "now", "difference", "95% interval", "p"], cells, right=(1, 2, 3, 5))


def _verdict(one: Any) -> str:
    if one.p >= 0.05:
        return f"by {one.metric} the two cannot be told apart on these rows"
    better = (one.value > 0) == one.higher_is_better
    return f"by {one.metric} the new one is {'better' if better else 'worse'} on the same rows"


def _value(value: Any) -> str:
    return "–" if value is None else f"{value:.5g}" if isinstance(value, float) else str(value)


# -- dataset


def _dataset(show: Show, spun: SpunDataset, root: Path) -> None:
    from trunkline.cli.dataset_shown import changes

    folder = spun.folder.relative_to(root)
    _head(show, spun.past, f"its table at {spun.snapshot}")
    changes(show, spun.comparison)
    show.line(f"{folder}: train and validation; the test rows were counted and hashed, and not kept", dim=True)
    found = asdict(spun.comparison)
    before, after = found.pop("before"), found.pop("after")
    show.result(
        {
            "spin": spun.spin_id,
            "step": spun.past.step,
            "from": spun.past.asked,
            "snapshot": spun.snapshot,
            "same": spun.comparison.same,
            "content_id": after["content_id"],
            "content_id_before": before["content_id"],
            "changes": found,
            "folder": str(folder),
        }
    )
