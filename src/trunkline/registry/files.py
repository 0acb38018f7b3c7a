"""The files of a registered bundle: listed, digested, put in place whole."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from trunkline.errors import EngineError, IntegrityError


def listing(directory: Path) -> list[str]:
    """Path of every file below `directory`, relative to it and with `/`, sorted."""
    return sorted(path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file())


def digests(directory: Path) -> dict[str, str]:
    """The sha256 of every file of `listing(directory)`."""
    return {name: hashlib.sha256((directory / name).read_bytes()).hexdigest() for name in listing(directory)}


def identity(files: Mapping[str, str]) -> str:
    """The digest of a bundle, from the sha256 of each of its files: as `trunkline.models.bundle` takes it."""
    return hashlib.sha256("".join(f"{name} {files[name]}\n" for name in sorted(files)).encode()).hexdigest()


def check_digests(directory: Path, expected: Mapping[str, str], what: str) -> None:
    """Raise `IntegrityError` unless `directory` holds exactly the files of `expected`, byte for byte."""
    found = digests(directory)
    for name in sorted({*found, *expected}):
        if name not in found:
            raise IntegrityError(f"{what} was registered with the file {name!r}, which the registry no longer has")
        if name not in expected:
            raise IntegrityError(f"{what} has a file {name!r} that was not registered with it")
        if found[name] != expected[name]:
            raise IntegrityError(
                f"the file {name!r} of {what} is not the one that was registered:"
                f" its sha256 is {found[name]}, recorded is {expected[name]}",
                hint="do not use this version; train and register the model again (trunkline train)",
            )


def put(made: Path, place: Path) -> None:
    """Rename the folder `made` to `place`; where another process has put one there meanwhile, that stays."""
    try:
        os.replace(made, place)
    except OSError:
        if not place.is_dir():
            raise


def sync(*paths: Path) -> None:
    """Files and folders as they are now are on the disk when this returns, and outlive a loss of power."""
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def appearing(directory: Path) -> Iterator[Path]:
    """A folder to fill: it becomes `directory` when the block ends, and vanishes when the block raises.

    Raises `EngineError` if `directory` is there already and not an empty folder.
    """
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise EngineError(f"cannot write a bundle to {directory}: there is something already")
    directory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{directory.name}.", dir=directory.parent) as scratch:
        filling = Path(scratch) / "bundle"
        filling.mkdir()
        yield filling
        os.replace(filling, directory)
