"""What a command shows: lines and a progress line for people, or one JSON document for programs."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import click

from trunkline.errors import TrunklineError


class Show:
    """One command's output. In JSON mode nothing is printed before `result`."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self._live: Any = None
        self._task: Any = None

    def line(self, text: str = "", **style: Any) -> None:
        """One line for people."""
        if not self.as_json:
            self._print(click.style(text, **style) if style else text)

    def step(self, name: str, summary: str, seconds: float, *, ok: bool = True, skipped: bool = False) -> None:
        """One finished step: mark, name, what it did, how long it took."""
        mark, colour = ("-", "yellow") if skipped else (("✓", "green") if ok else ("✗", "red"))
        took = f"{seconds:6.1f} s" if seconds >= 0.05 else "        "
        self.line(f"{click.style(mark, fg=colour)} {name:<34} {took}  {summary}")

    def table(self, head: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> None:
        """A plain table; columns whose index is in `right` are right-aligned."""
        cells = [list(head), *[list(row) for row in rows]]
        widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
        for number, row in enumerate(cells):
            text = "  ".join(
                c.rjust(w) if i in right else c.ljust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))
            )
            self.line(f"  {text}".rstrip(), **({"bold": True} if number == 0 else {}))

    def result(self, data: Mapping[str, Any]) -> None:
        """The command's result: the JSON document. People have seen the lines."""
        if self.as_json:
            click.echo(json.dumps(data, default=str))

    def end(self, data: Mapping[str, Any], error: TrunklineError | None) -> None:
        """The result, and the error that one of several things ended with: what else was done is not lost.

        The error's fields stand beside it in JSON; people are shown it as any error. Either way its exit code counts.
        """
        if error and not self.as_json:
            raise error
        self.result({**data, **(error.to_json() if error else {})})
        if error:
            sys.exit(error.exit_code)

    def progress(self, text: str, done: float | None = None) -> None:
        """The progress line: only on a terminal, gone when the command ends."""
        if self._live is None:
            return
        total = 100 if done is not None else None
        self._live.update(self._task, description=text, completed=(done or 0.0) * 100, total=total, visible=True)

    @contextmanager
    def working(self) -> Iterator[None]:
        """A live progress line around long work, on a terminal; a job's log, which may look like one, would fill up."""
        if self.as_json or not sys.stderr.isatty() or "GITHUB_ACTIONS" in os.environ:
            yield
            return
        from rich.console import Console
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TimeElapsedColumn(),
        )
        console = Console(stderr=True)
        with Progress(*columns, console=console, transient=True, redirect_stdout=False) as live:
            self._live, self._task = live, live.add_task("starting", total=None)
            try:
                yield
            finally:
                self._live = None

    def _print(self, text: str) -> None:
        if self._live is not None:
            from rich.text import Text

            self._live.console.print(Text.from_ansi(text), soft_wrap=True)
        else:
            click.echo(text)
