"""`trunkline`: the group of commands. Only the called command's file is imported."""

from __future__ import annotations

import atexit
import os
import signal
import sys
from importlib import import_module
from typing import Any

import click

from trunkline.errors import TrunklineError, did_you_mean
from trunkline.project.pickles import NO_PICKLES

# name → (place under trunkline.cli, one line of help): the page of `--help` is drawn without importing any of them
COMMANDS = {
    "init": ("init:command", "Start a project, or adopt a dbt project; --example flights for a working one."),
    "doctor": ("doctor:command", "Check the set-up and say how to mend it."),
    "plan": ("plan:command", "Show what is stale and why; run nothing."),
    "run": ("run:command", "Run what is stale: ingest, build, dataset, train."),
    "ingest": ("ingest:command", "Load new source data into the warehouse; --infer writes a first contract."),
    "quarantine": ("quarantine:command", "Rows that did not fit their contract: list, show, export, resubmit."),
    "audit": ("audit:command", "Loads of a table: counts, files, hashes, and which load a row came from."),
    "build": ("stages:build", "Build and test the dbt models that are stale."),
    "dataset": ("dataset:command", "Build the datasets that are stale; list, show, diff, verify, gc."),
    "train": ("stages:train", "Train the models that are stale and register their bundles."),
    "tune": ("tune:command", "Search a model's parameters with Optuna, then train the best."),
    "studies": ("studies:command", "Searches and what they found: list, show."),
    "compare": ("compare:command", "Compare feature groups and variations: intervals, tests, ablations, importances."),
    "spin": ("spin:command", "Run one step again on a past run's exact inputs, with the code of today."),
    "diff": ("diff:command", "Compare the tables of two targets, hash by hash."),
    "functions": ("functions:command", "Functions that run in every warehouse: list, test, publish a model as one."),
    "gate": ("gate:command", "Test a candidate on the sealed part and on the real server; give a verdict."),
    "promote": ("promote:command", "Write a gated model's reference into its deployment file."),
    "deploy": ("deploy:command", "Roll out what a deployment's file names, if the gate passed that very bundle."),
    "ci": ("ci:command", "GitHub's workflows, and what their steps run: check, gate, comment, propose."),
    "summary": ("summary:command", "What the ledger knows: rows, nodes, leaderboard, verdict, predictions."),
    "score": ("score:command", "Score the rows of a table, here or inside the warehouse."),
    "serve": ("serve:command", "Answer predictions over HTTP with the promoted model."),
}

_EPILOG = "Start with: trunkline init --example flights demo && cd demo && trunkline run"


class _Group(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[name][0].partition(":")
        command: click.Command = getattr(import_module(f"trunkline.cli.{module}"), attribute)
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args and args[0] not in COMMANDS:
            raise click.UsageError(f"no command {args[0]!r}.{did_you_mean(args[0], COMMANDS)}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


def _version(ctx: click.Context, _: click.Parameter, asked: bool) -> None:
    if asked and not ctx.resilient_parsing:
        from importlib import metadata

        click.echo(f"trunkline {metadata.version('trunkline')}")
        ctx.exit()


@click.group(cls=_Group, epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Show the version.")
def _trunkline() -> None:
    """From data sources to a deployed, watched machine-learning model: one project, one command line."""


def main(arguments: list[str] | None = None) -> None:
    """Run the command line. Errors raised on purpose end in one message and their exit code, never in a traceback."""
    listed = sys.argv[1:] if arguments is None else arguments
    os.environ.update(NO_PICKLES)
    atexit.register(signal.signal, signal.SIGINT, signal.SIG_DFL)  # Ctrl-C while Python ends says nothing
    try:
        _trunkline.main(args=listed, prog_name="trunkline", standalone_mode=False)
    except click.exceptions.Exit as exc:
        sys.exit(exc.exit_code)
    except click.ClickException as exc:
        exc.show()
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted: nothing is half done; the same command goes on from here", err=True)
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(141)
    except TrunklineError as exc:
        _report(exc, as_json="--json" in listed)
        sys.exit(exc.exit_code)


def _report(exc: TrunklineError, *, as_json: bool) -> None:
    if as_json:
        import json

        click.echo(json.dumps(exc.to_json()))
        return
    label = click.style("error", fg="red", bold=True)
    where = f"{exc.where}: " if exc.where else ""
    click.echo(f"{label}: {_visible(where + exc.what)}", err=True)
    if exc.hint:
        click.echo(f"{click.style('hint', fg='cyan', bold=True)}: {_visible(exc.hint)}", err=True)


def _visible(text: str) -> str:
    """What a terminal would obey, or not show, spelled out: names in a message may come from anywhere."""
    kept = (c if c.isprintable() or c in "\n\t" else repr(c)[1:-1] for c in text)
    return "".join(kept)
