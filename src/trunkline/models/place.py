"""Where bundles lie in a checkout."""

from __future__ import annotations

from pathlib import Path


def bundle_folder(state: Path, sha256: str) -> Path:
    """Where a bundle lies in this checkout, by what it is."""
    return state / "bundles" / sha256[:16]
