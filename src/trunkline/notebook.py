"""A project's datasets in a notebook: `trunkline.open(".").dataset("flights")`. Reads files, never the test part."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from trunkline.datasets.manifest import Manifest, read_manifest
from trunkline.errors import DatasetError, IntegrityError, UserError, did_you_mean
from trunkline.models.encoder import Encoder
from trunkline.models.signature import Signature

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from trunkline.datasets.batches import Batches, Last
    from trunkline.datasets.feed import Part
    from trunkline.datasets.targets import Target
    from trunkline.datasets.torch import TorchBatches

__all__ = ["FoldRows", "OpenDataset", "OpenProject", "Rows", "open_project"]

_SHOWN = 16  # characters of a version, as its folder is named


class OpenProject:
    """A project folder, read-only. Made by `trunkline.open`."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def __repr__(self) -> str:
        built = sorted(path.name for path in self._home.glob("*") if path.is_dir())
        return f"<project {self.root}, datasets built here: {', '.join(built) or 'none'}>"

    @property
    def _home(self) -> Path:
        return self.root / ".trunkline" / "datasets"

    def dataset(self, name: str, *, version: str | None = None) -> OpenDataset:
        """The dataset that was built last, or the one whose id begins with `version`.

        Raises DatasetError where it was never built here, saying what to run.
        """
        found = self._built(name)
        if version is None:
            return OpenDataset(self.root / ".trunkline", max(found, key=lambda manifest: manifest.created_at))
        wanted = version.rstrip("…")
        matching = [
            one for one in found if wanted and wanted in (one.dataset_id[: len(wanted)], one.content_id[: len(wanted)])
        ]
        if len(matching) != 1:
            said = "has no version" if not matching else f"has {len(matching)} versions that begin with"
            known = ", ".join(f"{one.dataset_id[:_SHOWN]} ({one.created_at[:16]})" for one in found)
            raise DatasetError(f"dataset {name!r} {said} {version!r}", hint=f"built here: {known}")
        return OpenDataset(self.root / ".trunkline", matching[0])

    def _built(self, name: str) -> list[Manifest]:
        folders = [path for path in sorted((self._home / name).glob("[!.]*")) if path.is_dir()]
        if not folders:
            raise self._unknown(name)
        found, damaged = [], None
        for folder in folders:
            try:
                found.append(read_manifest(folder))
            except (DatasetError, IntegrityError) as exc:  # of no harm while another version is whole
                damaged = exc
        if not found and damaged is not None:
            raise damaged
        return found

    def _unknown(self, name: str) -> DatasetError:
        from trunkline.project.ml import declarations

        declared = {item.name: item for item in declarations(self.root) if item.kind == "dataset"}
        if (item := declared.get(name)) is not None:
            what = f"dataset {name!r} was never built in this checkout"
            return DatasetError(what, file=self.root / item.file, line=item.line, hint="`trunkline run` builds it")
        known = ", ".join(declared) or "none; declare one in ml/*.py with tl.Dataset"
        return DatasetError(f"no dataset is called {name!r}.{did_you_mean(name, declared)}", hint=f"datasets: {known}")


class OpenDataset:
    """One version of a dataset, read-only: its train and validation parts, and its folds if it has some."""

    def __init__(self, state: Path, manifest: Manifest) -> None:
        self.manifest = manifest
        self._state = state

    def __repr__(self) -> str:
        manifest = self.manifest
        lines = [f"dataset {manifest.name}, version {manifest.dataset_id[:_SHOWN]}, built {manifest.created_at[:16]}"]
        for name in ("train", "validation"):
            lines.append(f"  {name:<10} {manifest.parts[name].rows:>12,} rows{_labels(manifest, name)}")
        lines.append(f"  {'test':<10} {manifest.parts['test'].rows:>12,} rows, sealed")
        folds = f", {len(manifest.folds)} folds" if manifest.folds else ""
        lines.append(f"  {len(manifest.features)} features, {manifest.task} target {manifest.target!r}{folds}")
        return "\n".join(lines)

    @cached_property
    def train(self) -> Rows:
        """The rows to learn from."""
        return Rows(self.manifest, "train", self._part("train"), self._fitted)

    @cached_property
    def validation(self) -> Rows:
        """The rows to choose by. What encodes them was fitted on the train part."""
        return Rows(self.manifest, "validation", self._part("validation"), self._fitted)

    @property
    def test(self) -> NoReturn:
        """Refused, always: raises DatasetError."""
        raise DatasetError(
            f"the test part of {self.manifest.name!r} is sealed: its score says how a model does on new data only while"
            " nobody has seen it. `trunkline gate` alone reads it, and each look is counted",
            hint="choose by `.validation`" + (" or `.folds`" if self.manifest.folds else ""),
        )

    @cached_property
    def folds(self) -> tuple[FoldRows, ...]:
        """The dataset's rolling folds, oldest first: what encodes a fold's rows was fitted on its own train rows.

        Raises DatasetError if the dataset has none.
        """
        from trunkline.datasets.feed import Stretch

        if not self.manifest.folds:
            raise DatasetError(f"dataset {self.manifest.name!r} has no folds", hint="declare them in its `split`")
        parts = (self._part("train"), self._part("validation"))
        found = []
        for number, fold in enumerate(self.manifest.folds):
            train, held_out = Stretch(parts, fold.start, fold.train), Stretch(parts, *fold.validation)
            fitted = _Fitted(self.manifest, train)
            sides = (
                Rows(self.manifest, f"fold {number} {name}", part, fitted)
                for name, part in {"train": train, "validation": held_out}.items()
            )
            found.append(FoldRows(*sides))
        return tuple(found)

    @cached_property
    def _fitted(self) -> _Fitted:
        return _Fitted(self.manifest, self._part("train"))

    def _part(self, name: str) -> Part:
        from trunkline.datasets.feed import open_part

        return open_part(self._state, self.manifest, name)


@dataclass(frozen=True)
class _Fitted:
    """The encoder of the rows to learn from, fitted when it is first needed."""

    manifest: Manifest
    part: Part

    @cached_property
    def encoder(self) -> Encoder:
        """Numbers as they are, categories as codes: as for `trunkline train`."""
        from trunkline.datasets.feed import whole

        types = dict(self.manifest.schema)
        columns = [(name, types[name]) for name in self.manifest.features]
        signature = Signature.from_schema(columns, target=self.manifest.target)
        return Encoder.fit(self.part.read(whole(self.part), signature.names), signature)

    @cached_property
    def target(self) -> Target:
        """Classes by their place, in the order that `trunkline train` has them, and numbers as they are."""
        import pyarrow as pa

        from trunkline.datasets.feed import whole
        from trunkline.datasets.targets import Target, classes_in, holds_text, list_lengths

        name, task = self.manifest.target, self.manifest.task
        if task == "regression" or dict(self.manifest.schema)[name] == "BOOLEAN":
            return Target(name)
        column = pa.chunked_array(rows.column(0) for rows in self.part.read(whole(self.part), [name]))
        if task == "custom":
            return Target(name, width=int(list_lengths(column).max()))
        classes = classes_in(column)
        numbers = task == "binary" and not holds_text(column.type) and {"0", "1"}.issuperset(classes)
        return Target(name, () if numbers else classes)


class Rows:
    """Some rows of a dataset, as Arrow, Polars, pandas, NumPy or torch."""

    def __init__(self, manifest: Manifest, name: str, part: Part, fitted: _Fitted) -> None:
        self._manifest, self._name, self._part, self._fitted = manifest, name, part, fitted

    def __len__(self) -> int:
        return sum(self._part.sizes)

    def __repr__(self) -> str:
        return f"<{self._name} of {self._manifest.name}: {len(self):,} rows{_labels(self._manifest, self._name)}>"

    @property
    def encoder(self) -> Encoder:
        """What turns these rows into the matrix of `batches` and `torch`; its `columns` say how."""
        return self._fitted.encoder

    def arrow(self) -> pa.Table:
        """All columns, as the file has them: the key, the time, the features and the target."""
        import pyarrow as pa

        from trunkline.datasets.feed import whole

        schema = self._part.schema
        return pa.Table.from_batches(self._part.read(whole(self._part), schema.names), schema.remove_metadata())

    def polars(self) -> Any:
        """A `polars.DataFrame`, without a copy where the types allow. Raises UserError if Polars is not installed."""
        return _library("polars").from_arrow(self.arrow())

    def pandas(self) -> pd.DataFrame:
        """A `pandas.DataFrame`. Raises UserError if pandas is not installed."""
        _library("pandas")
        return self.arrow().to_pandas()  # type: ignore[no-any-return]

    def batches(
        self,
        batch_size: int = 4096,
        *,
        seed: int = 0,
        shuffle: bool = True,
        rank: int = 0,
        world: int = 1,
        last: Last = "keep",
        memory: int | None = None,
    ) -> Batches:
        """Encoded rows and their target, float32 [b, columns] and [b] ([b, k] of lists), each iteration another epoch.

        In memory if they fit into `memory` bytes (half of what is free, if not given), else streamed from the file.
        For `rank`, `world` and `last` see `trunkline.datasets.batches.Order`.
        """
        from trunkline.datasets.batches import Order, batches_of
        from trunkline.datasets.feed import Encoded

        order = Order(batch_size, seed, shuffle, rank, world, last)
        return batches_of(Encoded(self._part, self.encoder, self._fitted.target), order, memory=memory)

    def torch(
        self,
        batch_size: int = 4096,
        *,
        seed: int = 0,
        shuffle: bool = True,
        rank: int = 0,
        world: int = 1,
        last: Last = "keep",
        memory: int | None = None,
    ) -> TorchBatches:
        """`batches` as tensors, without a copy; in pinned memory where there is a GPU."""
        _library("torch")
        from trunkline.datasets.torch import tensors

        batches = self.batches(batch_size, seed=seed, shuffle=shuffle, rank=rank, world=world, last=last, memory=memory)
        return tensors(batches)


class FoldRows(NamedTuple):
    """One rolling fold."""

    train: Rows
    validation: Rows


def open_project(path: Path | str = ".") -> OpenProject:
    """The project in `path` or above it. Raises ProjectError if there is none."""
    from trunkline.project.load import find_root

    return OpenProject(find_root(Path(path).resolve()))


def _library(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as exc:
        install = {"torch": "'trunkline[torch]'"}.get(name, name)
        raise UserError(f"{name} is not installed", hint=f"pip install {install}") from exc


def _labels(manifest: Manifest, part: str) -> str:
    """The rows of each class of the target, if they are known."""
    record = manifest.parts.get(part)
    if record is None or not record.labels:
        return ""
    counts = ", ".join(f"{label} {rows:,}" for label, rows in list(record.labels.items())[:6])
    return f", {manifest.target}: {counts}{', …' if len(record.labels) > 6 else ''}"
