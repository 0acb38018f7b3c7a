"""The border between our code and the user's: their errors are shown with their lines, without ours."""

from __future__ import annotations

import sys
import sysconfig
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from trunkline.errors import ProjectError, TrunklineError

_OURS = str(Path(__file__).parent.parent)
# `<string>` and the like hold code that a library has generated, such as the `__init__` of a dataclass.
_LIBRARIES = ("<", *{sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})


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
        line = next((f.lineno for f in reversed(user_frames(exc)) if Path(f.filename) == file), None)
        raise error(f"{what}: {told(exc)}", file=file, line=line) from exc


def told(exc: BaseException) -> str:
    """An exception with the lines of its traceback that are neither ours nor a library's."""
    lines = [f"{type(exc).__name__}: {exc}"]
    lines += [f"  {frame.filename}:{frame.lineno} in {frame.name}: {frame.line}" for frame in user_frames(exc)]
    return "\n".join(lines)


def user_frames(exc: BaseException) -> list[traceback.FrameSummary]:
    """The frames of a traceback that are the user's."""
    frames = traceback.extract_tb(exc.__traceback__)
    return [f for f in frames if not f.filename.startswith((_OURS, *_LIBRARIES))]


def user_place(
    exc: BaseException, otherwise: tuple[Path | str | None, int | None] = (None, None)
) -> tuple[Path | str | None, int | None]:
    """File and line of the user's code that an exception came out of, or those given."""
    frames = user_frames(exc)
    return (frames[-1].filename, frames[-1].lineno) if frames else otherwise


def caller() -> tuple[Path, int]:
    """File and line of the user's code that is running now: the nearest frame outside this package."""
    frame = sys._getframe(1)
    while frame.f_back is not None:
        name = frame.f_code.co_filename
        if not name.startswith("<") and not name.startswith(_OURS):
            break
        frame = frame.f_back
    return Path(frame.f_code.co_filename), frame.f_lineno
