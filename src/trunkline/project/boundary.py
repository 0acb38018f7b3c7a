"""The border between our code and the user's: their errors are shown with their lines, without ours."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from trunkline.errors import ProjectError, TrunklineError

_OURS = Path(__file__).parent.parent


@contextmanager
def user_code(what: str, file: Path, *, error: type[TrunklineError] = ProjectError) -> Iterator[None]:
    """Turn any exception of the user's code into `error`, naming the user's own line and showing their traceback."""
    try:
        yield
    except TrunklineError:
        raise
    except SyntaxError as exc:
        raise error(f"{what}: {exc.msg}", file=exc.filename or file, line=exc.lineno) from exc
    except Exception as exc:
        frames = _theirs(traceback.extract_tb(exc.__traceback__), file)
        line = next((f.lineno for f in reversed(frames) if Path(f.filename) == file), None)
        shown = "".join(traceback.format_list(frames)).rstrip()
        text = f"{what}: {type(exc).__name__}: {exc}"
        raise error(f"{text}\n{shown}" if shown else text, file=file, line=line) from exc


def _theirs(frames: traceback.StackSummary, file: Path) -> list[traceback.FrameSummary]:
    """The frames from the user's file on, without ours."""
    start = next((i for i, frame in enumerate(frames) if Path(frame.filename) == file), 0)
    return [f for f in frames[start:] if not f.filename.startswith("<") and _OURS not in Path(f.filename).parents]
