"""Options every command takes, and the session they open."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from trunkline.cli.show import Show
    from trunkline.orchestration.session import Session

F = TypeVar("F", bound=Callable[..., Any])
_ON = "trunkline.on"
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}

_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of text.")
_project = click.option(
    "--project",
    "-p",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="The project folder; default: the nearest one upwards.",
)


def common(function: F) -> F:
    """`--project`, `--target`, `--json`: handed to the command as `where`."""
    target = click.option("--target", "-t", metavar="NAME", help="The dbt target; default: that of profiles.yml.")
    return _project(target(_json(function)))


def without_target(function: F) -> F:
    """`--project`, `--json`: for commands that open no target."""
    return _project(_json(function))


class Place(click.ParamType[str]):
    """Where models are trained."""

    name = "place"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """`inline`, `ray`, or the address of a Ray cluster."""
        from trunkline.project.config import ADDRESS

        if value not in ("inline", "ray") and not re.fullmatch(ADDRESS, str(value)):
            self.fail(f"{value!r} is no place: say inline, ray, or HOST:6379", param, ctx)
        return str(value)


placed = click.option(
    "--on",
    type=Place(),
    metavar="PLACE",
    expose_value=False,
    callback=lambda ctx, param, value: ctx.meta.update({_ON: value}),
    help="Train inline, on ray (of this command's own), or on the Ray cluster at HOST:PORT; default: trunkline.yml.",
)
"""`--on`, for commands that train: the session that they open knows it."""


def root_of(project: Path | None) -> Path:
    """The project's folder."""
    from trunkline.project.load import find_root

    return find_root((project or Path.cwd()).resolve())


@contextmanager
def session(project: Path | None, target: str | None, show: Show) -> Iterator[Session]:
    """Open the project for one command, with its `--on` if it takes one."""
    from trunkline.orchestration.session import open_session

    context = click.get_current_context(silent=True)
    on = context.meta.get(_ON) if context else None
    with open_session(root_of(project), target, show.progress, on=on) as opened:
        yield opened


class Age(click.ParamType[dt.timedelta]):
    """A span of time that something is old."""

    name = "age"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dt.timedelta:
        """`90m`, `12h`, `7d`, `2w`."""
        found = re.fullmatch(r"(\d{1,5})\s*([mhdw])[a-z]*", str(value).strip().lower())
        if not found:
            self.fail(f"{value!r} is no age: say 90m, 12h, 7d or 2w", param, ctx)
        return dt.timedelta(**{_UNITS[found[2]]: int(found[1])})
