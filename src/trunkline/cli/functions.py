"""`trunkline functions`: list, test, publish."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from trunkline.cli.options import common, root_of, session, without_target
from trunkline.cli.show import Show

if TYPE_CHECKING:
    from trunkline.transform.agreement import Agreement, Difference
    from trunkline.transform.portable import Function

_EPILOG = "Examples: trunkline functions list · trunkline functions test crosswind --rows 10000"


@click.group(epilog=_EPILOG)
def command() -> None:
    """The functions of functions/*.py, which run in DuckDB and in Snowflake alike."""


@command.command("list", epilog="Examples: trunkline functions list · trunkline functions list --json")
@without_target
def list_command(project: Path | None, as_json: bool) -> None:
    """Show every function: kind, types, packages and file."""
    from trunkline.orchestration.functions import list_functions

    show = Show(as_json=as_json)
    functions = list_functions(root_of(project))
    if not functions:
        show.line("no functions: write functions/NAME.py and functions/NAME.yml")
    else:
        head = ("name", "kind", "arguments", "returns", "packages", "file")
        show.table(head, [_row(function) for function in functions])
    show.result({"functions": [_record(function) for function in functions]})


def _record(function: Function) -> dict[str, Any]:
    return {
        "name": function.name,
        "kind": "vectorised" if function.vectorised else "scalar",
        "arguments": [{"name": name, "type": kind} for name, kind in function.arguments],
        "returns": function.returns,
        "packages": list(function.packages),
        "file": function.file.relative_to(function.root).as_posix(),
        "modules": [file for file, _ in function.sources.values()],
    }


def _row(function: Function) -> tuple[str, ...]:
    record = _record(function)
    arguments = ", ".join(f"{name} {kind}" for name, kind in function.arguments)
    return (record["name"], record["kind"], arguments, record["returns"], ", ".join(record["packages"]), record["file"])


@command.command("test", epilog="Examples: trunkline functions test · trunkline functions test crosswind --seed 7")
@click.argument("name", required=False)
@click.option("--rows", default=2500, show_default=True, type=click.IntRange(1, 1_000_000), help="Random rows to try.")
@click.option("--seed", default=0, show_default=True, help="The same seed gives the same rows.")
@without_target
def test_command(name: str | None, rows: int, seed: int, project: Path | None, as_json: bool) -> None:
    """Try functions on random rows: plain, in DuckDB, and as Snowflake calls them. Exit code 2 if they differ."""
    from trunkline.orchestration.functions import try_functions

    show = Show(as_json=as_json)
    results = []
    with show.working():
        for agreement in try_functions(root_of(project), name, rows, seed, show.progress):
            results.append(agreement)
            _tell(show, agreement)
    show.result({"seed": seed, "functions": [_outcome(agreement) for agreement in results]})
    if not all(agreement.ok for agreement in results):
        sys.exit(2)


@command.command("publish", epilog="Examples: trunkline functions publish delay · trunkline functions publish --name p")
@click.argument("model", required=False)
@click.option("--name", metavar="NAME", help="The function's name. Default: predict_ and the model's name.")
@click.option("--schema", metavar="SCHEMA", help="Where it lives. Default: the schema of the target.")
@common
def publish_command(
    model: str | None, name: str | None, schema: str | None, project: Path | None, target: str | None, as_json: bool
) -> None:
    """Make a model a SQL function of the warehouse: one argument an input, in order; a score a row, or a list of them.

    MODEL is a deployment, whose promoted model it means, or a reference (models:/delay/7, models:/delay@champion).
    """
    from trunkline.orchestration.publishing import publish

    show = Show(as_json=as_json)
    with session(project, target, show) as opened, show.working():
        done = publish(opened, model, name, schema)
        names = ", ".join(argument for argument, _ in done.arguments)
        show.line(f"{done.reference} is {done.function}: select {done.function}({names}) from …")
        numbers = list(done.task.names) if done.task else []
        if numbers:
            show.line(f"a row's list has {len(numbers)} numbers: {', '.join(numbers)}")
        arguments = [{"name": argument, "type": type_} for argument, type_ in done.arguments]
        record = {"function": str(done.function), "model": done.reference, "sha256": done.sha256}
        show.result({**record, "arguments": arguments, "returns": done.returns, "numbers": numbers})


def _tell(show: Show, agreement: Agreement) -> None:
    mark = click.style("✓", fg="green") if agreement.ok else click.style("✗", fg="red")
    sides = ", ".join(f"{side}: {count or 'no'} differ" for side, count in agreement.differing.items())
    same = f"the plain function, {', '.join(agreement.differing)} agree" if agreement.ok else sides
    show.line(f"{mark} {agreement.function.name:<24} {agreement.rows} rows, {agreement.nulls} NULL results: {same}")
    if agreement.first is not None:
        first = agreement.first
        show.line(f"    first in row {first.row}: {agreement.function.name}({_arguments(agreement, first)})")
        show.line(f"      plain      {first.plain!r}")
        show.line(f"      {first.side:<10} {first.answer!r}")


def _arguments(agreement: Agreement, difference: Difference) -> str:
    names = (name for name, _ in agreement.function.arguments)
    return ", ".join(f"{name}={value!r}" for name, value in zip(names, difference.arguments, strict=True))


def _outcome(agreement: Agreement) -> dict[str, Any]:
    """The result as plain data. Values are Python literals: JSON has no NaN, no infinity and no dates."""
    first = agreement.first
    return {
        "name": agreement.function.name,
        "agree": agreement.ok,
        "rows": agreement.rows,
        "nulls": agreement.nulls,
        "differing": agreement.differing,
        "first": first
        and {
            "side": first.side,
            "row": first.row,
            "arguments": [repr(value) for value in first.arguments],
            "plain": repr(first.plain),
            "answer": repr(first.answer),
        },
    }
