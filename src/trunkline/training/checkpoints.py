"""Checkpoints of a fit in a folder: `.trunkline/checkpoints/<key>/step-12/`, the last one only. Light."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from trunkline.errors import EngineError

__all__ = ["FolderCheckpoints", "Paced"]

_PAUSE = 2.0


@runtime_checkable
class Paced(Protocol):
    """Checkpoints that are not to be saved at every step: what a quick fit lost would be fitted again sooner."""

    @property
    def pause(self) -> float:
        """Seconds of fitting between two saves, at least."""


@dataclass(frozen=True)
class FolderCheckpoints:
    """The last checkpoint of one fit. One process writes at a time; killed at any point, it leaves the one before."""

    folder: Path
    pause: float = _PAUSE

    def load(self) -> Mapping[str, bytes] | None:
        """The files of the last `save`."""
        steps = self._steps()
        if not steps:
            return None
        return {file.name: file.read_bytes() for file in sorted(steps[max(steps)].iterdir())}

    def save(self, step: int, files: Mapping[str, bytes] | None) -> None:
        """Written beside the last one, to the disk, and put in its place by one rename."""
        if files is None:
            return
        place, fresh = self.folder / f"step-{step}", self.folder / f".new-{os.getpid()}"
        try:
            shutil.rmtree(fresh, ignore_errors=True)
            fresh.mkdir(parents=True)
            for name, content in files.items():
                _write(fresh / name, content)
            before = self._steps()
            shutil.rmtree(place, ignore_errors=True)
            fresh.rename(place)
            _sync(self.folder)
            for old in before.values():
                if old != place:
                    shutil.rmtree(old, ignore_errors=True)
        except OSError as exc:
            raise EngineError(
                f"the checkpoint of step {step} cannot be written: {exc}",
                file=self.folder,
                hint="make room on the disk; the fit can be taken up from the checkpoint before",
            ) from exc

    def _steps(self) -> dict[int, Path]:
        if not self.folder.is_dir():
            return {}
        names = {place.name.partition("step-")[2]: place for place in self.folder.iterdir()}
        return {int(name): place for name, place in names.items() if name.isdigit()}


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
