"""`trunkline dataset`: build, list, show, diff, verify, gc."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from trunkline.cli.completion import datasets as completed
from trunkline.cli.options import Age, common, session
from trunkline.cli.show import Show
from trunkline.cli.stages import stage
from trunkline.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from trunkline.orchestration.collecting import Found

F = TypeVar("F", bound=Callable[..., Any])
_EPILOG = (
    "Examples: trunkline dataset · trunkline dataset flight_features --force · trunkline dataset list · "
    "trunkline dataset show flight_features · trunkline dataset diff flight_features"
)


class _Datasets(click.Group):
    """A group whose first word may be what to build."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args and args[0] not in self.commands:
            args = ["build", *args]
        return super().resolve_command(ctx, args)


@click.group(cls=_Datasets, invoke_without_command=True, epilog=_EPILOG, subcommand_metavar="[SELECT]... | COMMAND")
@click.option("--force", is_flag=True, help="Build even what is fresh.")
@click.pass_context
@common
def command(context: click.Context, project: Path | None, target: str | None, as_json: bool, force: bool) -> None:
    """Build the datasets that are stale: one snapshot, split in the warehouse, the test part sealed.

    SELECT as in `trunkline plan`; without it, all. The commands below look at what was built.
    """
    given = {"project": project, "target": target, "as_json": as_json, "force": force}
    if context.invoked_subcommand is None:
        context.invoke(_build, select=(), **given)
        return
    context.default_map = {context.invoked_subcommand: {name: value for name, value in given.items() if value}}


_build = stage(
    "build",
    ("dataset",),
    "Build the datasets that are stale. `trunkline dataset SELECT` is short for it.",
    "trunkline dataset build · trunkline dataset build flight_features --force",
)


@command.command(
    "build", params=_build.params, help=_build.help, epilog=_build.epilog, short_help="Build what is stale."
)
@click.pass_context
def build_command(context: click.Context, /, **given: Any) -> None:
    """`stage`, and a word for a command that was misspelt: it looks like the name of a dataset."""
    try:
        context.invoke(_build, **given)
    except UserError as exc:
        names = [name for name in command.commands if name != "build"]
        if given["select"] and (meant := did_you_mean(given["select"][0], names)):
            raise UserError(f"no dataset or command {given['select'][0]!r}.{meant}", hint=exc.hint) from exc
        raise


_one = click.argument("name", metavar="NAME[@ID]", shell_complete=completed)


@command.command(
    "list",
    short_help="All builds, with rows, looks and model versions.",
    epilog="Examples: trunkline dataset list · trunkline dataset list --json",
)
@common
def list_command(project: Path | None, target: str | None, as_json: bool) -> None:
    """Show every build of every dataset that the ledger or this disk knows.

    Rows by part, when it was built and from which snapshot, the model versions that were trained on it, how often its
    sealed part was looked at, what it takes on this disk, and whether its files are here.
    """
    from trunkline.cli.dataset_shown import listed
    from trunkline.orchestration.datasets import known

    show = Show(as_json=as_json)
    with session(project, target, show) as opened:
        builds = known(opened)
    listed(show, builds)
    show.result({"datasets": [one.to_json() for one in builds]})


@command.command(
    "show",
    short_help="Schema, labels, missing values, findings; writes an HTML profile.",
    epilog="Examples: trunkline dataset show flight_features · trunkline dataset show flight_features@3f2a1b9c --json",
)
@_one
@common
def show_command(name: str, project: Path | None, target: str | None, as_json: bool) -> None:
    """Show a dataset and write its profile, one HTML file with plots, beside its parts.

    Of NAME the build that is used now; NAME@ID is another, and the beginning of its id will do. Of the sealed part you
    see what the manifest counts, its rows and labels, and nothing else: this is no look.
    """
    from trunkline.cli.dataset_shown import shown
    from trunkline.orchestration import datasets

    show = Show(as_json=as_json)
    with session(project, target, show) as opened, show.working():
        found = datasets.show(opened, name)
        page = str(found.page.relative_to(opened.project.root)) if found.page else None
    shown(show, found, page)
    profile = found.profile.to_json() if found.profile else {}
    show.result({"dataset": found.known.to_json(), "manifest": found.manifest.to_json(), "profile": page, **profile})


@command.command(
    "diff",
    short_help="What changed between two builds, down to rows by key.",
    epilog="Examples: trunkline dataset diff flight_features · "
    "trunkline dataset diff flight_features@3f2a1b9c flight_features@90c1d2e4 -n 20",
)
@click.argument("before", metavar="NAME[@ID]", shell_complete=completed)
@click.argument("after", metavar="[NAME[@ID]]", required=False, shell_complete=completed)
@click.option(
    "--rows", "-n", default=5, show_default=True, type=click.IntRange(0, 10_000), help="Rows to show of each."
)
@common
def diff_command(
    before: str, after: str | None, rows: int, project: Path | None, target: str | None, as_json: bool
) -> None:
    """Show what changed from one build to another; of one NAME, between its last two.

    Declaration, schema, upstream loads, labels, columns, and the rows of train and validation by their key. Of the
    sealed parts only whether they differ, and their counts: this is no look. Exit code 1 if the rows differ.
    """
    from trunkline.cli.dataset_shown import compared
    from trunkline.orchestration.datasets import diff

    show = Show(as_json=as_json)
    with session(project, target, show) as opened, show.working():
        one, other, found = diff(opened, before, after, rows)
    show.result(compared(show, one, other, found))
    if not found.same:
        sys.exit(1)


@command.command(
    "verify",
    short_help="Recompute the hashes of all files.",
    epilog="Examples: trunkline dataset verify · trunkline dataset verify flight_features@3f2a1b9c --json",
)
@click.argument("name", metavar="[NAME[@ID]]", required=False, shell_complete=completed)
@click.option("--all", "everything", is_flag=True, help="All whose files are here; so it is without NAME.")
@common
def verify_command(name: str | None, everything: bool, project: Path | None, target: str | None, as_json: bool) -> None:
    """Recompute the hashes of a dataset's files, and of their rows, and say which file is not what was written.

    The sealed part is compared byte by byte and not opened: this is no look. Exit code 1 if something is wrong.
    """
    from trunkline.cli.dataset_shown import checked
    from trunkline.orchestration.datasets import chosen, verified

    if name and everything:
        raise click.UsageError("NAME or --all, not both")
    show = Show(as_json=as_json)
    with session(project, target, show) as opened:
        builds = chosen(opened, name)
        with show.working():
            checks = list(verified(opened, builds))
        record = checked(show, builds, checks, opened.project.root)
    show.result(record)
    if not record["ok"]:
        sys.exit(1)


@command.command(
    "gc",
    short_help="Remove what no model version needs.",
    epilog="Examples: trunkline dataset gc --dry-run · trunkline dataset gc --keep 5 --older-than 30d --yes",
)
@click.option("--keep", default=2, show_default=True, type=click.IntRange(1), help="Newest builds to keep of each.")
@click.option(
    "--older-than", type=Age(), default="0d", help="Remove no build that is younger: 12h, 30d. Default: any age."
)
@click.option("--dry-run", is_flag=True, help="Only tell.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@common
def gc_command(project: Path | None, target: str | None, as_json: bool, **asked: Any) -> None:
    """Remove builds that nothing needs from this disk and from the warehouse's snapshots, and what killed runs left.

    A build stays if a registered model version was trained on it, a deployment answers with one, it is among the newest
    of its dataset, a target of this checkout uses it now, or a process is reading it. What is removed comes back when a
    run needs it. The ledger keeps its rows: only files and snapshots go.
    """
    from trunkline.cli.dataset_shown import collected, rubbish_shown
    from trunkline.orchestration.collecting import collect, rubbish

    show = Show(as_json=as_json)
    with session(project, target, show) as opened:
        with show.working():
            found = rubbish(opened, asked["keep"], asked["older_than"])
        rubbish_shown(show, found)
        gone = []
        if found.rubbish and not asked["dry_run"] and (asked["yes"] or _agreed(show, found)):
            with show.working():
                for item in collect(opened, found, asked["keep"], asked["older_than"]):
                    gone.append(item)
        show.result(collected(show, found, gone, dry_run=asked["dry_run"]))


@command.command(
    "grants",
    short_help="Snowflake SQL that hides the test rows from a role.",
    epilog="Examples: trunkline dataset grants flight_features --target prod > vault.sql",
)
@click.argument("name", metavar="NAME", shell_complete=completed)
@click.option("--trainer", default="TRUNKLINE_TRAINING", show_default=True, help="The role that is to train.")
@click.option("--opener", default="TRUNKLINE_VAULT", show_default=True, help="The role that alone sees test rows.")
@common
def grants_command(
    name: str, trainer: str, opener: str, project: Path | None, target: str | None, as_json: bool
) -> None:
    """Print what an administrator of Snowflake runs so that a training role never sees the rows of the test part.

    Nothing is run. A row access policy on the dbt model's table hides the rows for which the split's condition holds
    from every role that does not have the opener's.
    """
    from trunkline.orchestration.datasets import grants_sql

    show = Show(as_json=as_json)
    with session(project, target, show) as opened:
        sql = grants_sql(opened, name, trainer, opener)
    show.line(sql.rstrip())
    show.result({"dataset": name, "sql": sql})


def _agreed(show: Show, found: Found) -> bool:
    """Ask, where somebody can answer."""
    if show.as_json or not sys.stdin.isatty():
        return False
    return click.confirm(f"Remove {'it' if len(found.rubbish) == 1 else f'these {len(found.rubbish)}'}?")
