"""What the rules of the house are checked on: the text of our own sources."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture(scope="session")
def sources() -> dict[str, str]:
    """Path below `src/trunkline` → text, of every module. What `init` copies for a user is data, not ours to check."""
    package = ROOT / "src" / "trunkline"
    templates = package / "project" / "templates"
    paths = sorted(path for path in package.rglob("*.py") if templates not in path.parents)
    assert len(paths) > 10
    return {path.relative_to(package).as_posix(): path.read_text(encoding="utf-8") for path in paths}
