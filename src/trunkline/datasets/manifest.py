"""What a dataset is, as one JSON file beside its parts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from trunkline.errors import DatasetError, IntegrityError
from trunkline.project.files import write_atomic

FILE = "manifest.json"


@dataclass(frozen=True)
class Part:
    """One part of the split: its file (relative to the manifest's folder; the sealed part names none), its counts.

    `content` is an order-independent hash over the rows, computed in the warehouse; `file_digest` is the file's BLAKE3.
    """

    name: str
    rows: int
    positives: int
    content: str
    file: str | None
    file_digest: str


@dataclass(frozen=True)
class Manifest:
    """An immutable dataset. `dataset_id` is its fingerprint: equal ids mean equal declarations over equal inputs."""

    dataset_id: str
    name: str
    relation: str
    snapshot: str
    key: str
    time: str
    target: str
    groups: Mapping[str, list[str]]
    split: Mapping[str, str]
    schema: tuple[tuple[str, str], ...]
    parts: Mapping[str, Part]
    load_ids: tuple[str, ...]
    unlabelled: int
    created_at: str

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
        data = json.loads(path.read_text("utf-8"))
        data["parts"] = {name: Part(**part) for name, part in data["parts"].items()}
        data["schema"] = tuple((name, type_) for name, type_ in data["schema"])
        data["load_ids"] = tuple(data["load_ids"])
        return Manifest(**data)
    except FileNotFoundError as exc:
        raise DatasetError(f"no dataset at {folder}", hint="`trunkline run` builds it") from exc
    except (ValueError, KeyError, TypeError) as exc:
        raise IntegrityError(f"{path} is damaged: {exc}", hint="delete its folder and `trunkline run`") from exc
