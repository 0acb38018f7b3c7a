"""`trunkline init`."""

from __future__ import annotations

from pathlib import Path

import click

from trunkline.cli.show import Show


@click.command(
    epilog="Examples: trunkline init --example flights demo · trunkline init shop · trunkline init . (adopts dbt)"
)
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), default=Path("."))
@click.option("--example", metavar="NAME", help="Write a whole working example: flights.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of text.")
def command(folder: Path, example: str | None, as_json: bool) -> None:
    """Start a project in FOLDER.

    Without an example: a small project that runs at once, or, where a dbt project lies already, only what Trunkline
    adds to it. Nothing that is there is overwritten.
    """
    from trunkline.project.init import init_project

    show = Show(as_json=as_json)
    written = init_project(folder, example=example)
    for name in written.added:
        show.line(f"  + {name}")
    for name in written.kept:
        show.line(f"  = {name} (kept as it was)")
    where = "" if folder == Path(".") else f"cd {folder} && "
    if written.adopted:
        show.line("adopted. Next: give a source `config: {meta: {trunkline: …}}` in its yml, then `trunkline plan`")
    else:
        show.line(f"next: {where}trunkline run")
    show.result({"root": str(folder), "added": written.added, "kept": written.kept, "adopted": written.adopted})
