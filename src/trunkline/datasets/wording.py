"""A manifest's declarations in words."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from trunkline.datasets.manifest import Manifest


def task_words(manifest: Manifest) -> str:
    """What is to be predicted: two classes, several, a number, a list of them."""
    if manifest.task in ("regression", "custom"):
        return "a number" if manifest.task == "regression" else "a list of numbers"
    classes = len(manifest.parts["train"].labels)
    return "two classes" if manifest.task == "binary" else f"{classes} classes"


def split_words(manifest: Manifest) -> str:
    """How the rows were parted. A kind of split that is not known here is told as it was declared."""
    split = manifest.split
    match split.get("by"):
        case "time":
            return f"by time: validation from {split['validation']}, test from {split['test']}{_gap(split)}"
        case "rolling":
            window = f" of {split['window']}" if split.get("window") else " of all before"
            folds = f"{split['folds']} folds, each trained on a window{window} and validated on {split['horizon']}"
            return f"rolling: {folds}, test from {split['test']}{_gap(split)}"
        case "group":
            return f"by {split['column']}, whose rows stay together: {_shares(split)}"
        case "key":
            return f"by a hash of {manifest.key}: {_shares(split)}"
        case "stratified":
            by = split.get("stratify") or manifest.target
            return f"by a hash of {manifest.key}, stratified by {by}: {_shares(split)}"
        case by:
            return f"by {by}: {', '.join(f'{name} {value}' for name, value in split.items() if name != 'by')}"


def _gap(split: Mapping[str, Any]) -> str:
    gap = str(split.get("gap") or "0d")
    return "" if re.fullmatch(r"0+\s*[a-z]*", gap) else f", with a gap of {gap} before each"


def _shares(split: Mapping[str, Any]) -> str:
    salt = f", salt {split['salt']!r}" if split.get("salt") else ""
    return f"{split['validation']:.4g} validation, {split['test']:.4g} test{salt}"
