"""The project's code and a dataset's open parts, for workers that do not see the project's folder.

Where a `storage` is configured they are copied there, and from there once to each node: the files that the model's file
reaches by import, the two open parts and the manifest; nothing else of the project.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from trunkline.errors import EngineError
from trunkline.project import python
from trunkline.project.ml import Declared
from trunkline.training.placement import Placement
from trunkline.training.subject import dataset_folder

__all__ = ["Shipment", "forget", "ship"]

_PARTS = ("manifest.json", "train.parquet", "validation.parquet")


@dataclass(frozen=True)
class Shipment:
    """The project as workers find it: its own folder, or a copy of what is needed of it at `url`, by name."""

    root: str
    url: str = ""
    name: str = ""

    @contextlib.contextmanager
    def opened(self) -> Iterator[Path]:
        """The folder of the project on this node."""
        if not self.url:
            yield Path(self.root)
            return
        place = Path(tempfile.gettempdir()) / f"trunkline-{self.name}"
        if not place.is_dir():
            _fetch(self.url, place)
        yield place

    def forget(self) -> None:
        """Remove the copy in the storage, if there is one; those of the nodes lie in their temporary folders."""
        if self.url:
            forget(self.url)


def ship(root: Path, declared: Declared, dataset_id: str, placement: Placement, key: str) -> Shipment:
    """Copy what workers need to the placement's storage, unless they see the project's folder."""
    if placement.shared:
        return Shipment(str(root))
    folder = dataset_folder(root, declared, dataset_id)
    files = [*python.closure(root, root / declared.file), *(folder / name for name in _PARTS)]
    url = f"{placement.storage.rstrip('/')}/{key}-project"
    with tempfile.TemporaryDirectory() as scratch:
        for file in files:
            target = Path(scratch) / file.relative_to(root)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(file)
        _copy(scratch, url)
    return Shipment(str(root), url, key)


def _fetch(url: str, place: Path) -> None:
    """Copied beside, and put in place at once: several workers of a node may do so at the same time."""
    fresh = Path(tempfile.mkdtemp(prefix="trunkline-", dir=place.parent))
    try:
        _copy(url, str(fresh))
        with contextlib.suppress(OSError):  # another worker was sooner
            fresh.rename(place)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _copy(source: str, target: str) -> None:
    from pyarrow import ArrowException, fs

    try:
        (store, path), (other, place) = (fs.FileSystem.from_uri(_uri(text)) for text in (source, target))
        other.create_dir(place, recursive=True)
        fs.copy_files(path, place, source_filesystem=store, destination_filesystem=other)
    except (OSError, ArrowException) as exc:
        raise EngineError(
            f"the project cannot be copied from {source} to {target}: {exc}",
            hint="`training: {ray: {storage: …}}` names a folder or store that all nodes of the cluster can use",
        ) from exc


def forget(url: str) -> None:
    """Remove a folder of the storage, if it is there."""
    from pyarrow import ArrowException, fs

    with contextlib.suppress(OSError, ArrowException):  # what is left takes room, and does nothing else
        store, path = fs.FileSystem.from_uri(_uri(url))
        store.delete_dir(path)


def _uri(text: str) -> str:
    return text if "://" in text else Path(text).absolute().as_uri()
