"""What a dataset is, as one JSON file beside its parts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from trunkline.errors import DatasetError, IntegrityError
from trunkline.project.files import write_atomic

FILE = "manifest.json"
Task = Literal["binary", "multiclass", "regression", "custom"]


@dataclass(frozen=True)
class Part:
    """One part of the split: its file (relative to the manifest's folder; the sealed part names none), its counts.

    `labels` maps a class, as text, to its rows: at most 50, the largest; none where a number is regressed on. `content`
    is an order-independent hash over the rows, computed in the warehouse; `file_digest` is the file's BLAKE3.
    """

    name: str
    rows: int
    labels: Mapping[str, int]
    content: str
    file: str | None
    file_digest: str
    bytes: int


@dataclass(frozen=True)
class Fold:
    """One rolling-origin fold: row ranges over the train part followed by the validation part.

    It trains on the rows [`start`, `train`) and is validated on [`validation[0]`, `validation[1]`).
    """

    train: int
    validation: tuple[int, int]
    start: int = 0


@dataclass(frozen=True)
class Manifest:
    """An immutable dataset. `dataset_id` is its fingerprint: equal ids mean equal declarations over equal inputs.

    `content_id` is equal for equal rows in equal parts, wherever they were built. `sql` is the SELECT that was
    exported, with the part as `_part`. `unlabelled` rows have no target, `left_out` ones lie in a gap of the split:
    they are in no part. `location` is the URL of the published copy, or empty.
    """

    dataset_id: str
    content_id: str
    name: str
    relation: str
    snapshot: str
    sql: str
    key: str
    time: str | None
    target: str
    task: Task
    groups: Mapping[str, list[str]]
    split: Mapping[str, Any]
    schema: tuple[tuple[str, str], ...]
    parts: Mapping[str, Part]
    load_ids: tuple[str, ...]
    unlabelled: int
    left_out: int
    created_at: str
    folds: tuple[Fold, ...] = ()
    location: str = ""

    @property
    def features(self) -> tuple[str, ...]:
        """All feature columns, group by group."""
        return tuple(column for columns in self.groups.values() for column in columns)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)

    def write(self, folder: Path) -> None:
        """Write `manifest.json` into `folder`."""
        write_atomic(folder / FILE, json.dumps(self.to_json(), indent=1))


def read_manifest(folder: Path) -> Manifest:
    """The manifest in `folder`. Raises `DatasetError` if there is none, `IntegrityError` if it is damaged."""
    path = folder / FILE
    try:
        return manifest_of(json.loads(path.read_text("utf-8")))
    except FileNotFoundError as exc:
        raise DatasetError(f"no dataset at {folder}", hint="`trunkline run` builds it") from exc
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise IntegrityError(f"{path} is damaged: {exc}", hint="delete its folder and `trunkline run`") from exc


def manifest_of(data: Mapping[str, Any]) -> Manifest:
    """The manifest that `to_json` gave. Raises `ValueError`, `KeyError` or `TypeError` for anything else."""
    read = {
        "parts": {name: Part(**part) for name, part in data["parts"].items()},
        "schema": tuple((name, type_) for name, type_ in data["schema"]),
        "load_ids": tuple(data["load_ids"]),
        "folds": tuple(Fold(f["train"], (f["validation"][0], f["validation"][1]), f["start"]) for f in data["folds"]),
    }
    return Manifest(**{**data, **read})
