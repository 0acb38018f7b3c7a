"""What is committed works anywhere: it names no folder of the machine it was written on and no package index."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

# Written so that this file does not find itself.
PLACES = re.compile(
    "|".join(
        (
            r"(?<![\w.}])/(work|opt/pypi|opt/wheels|root)" + "/",
            "pypi" + r"\.org",
            "pythonhosted" + r"\.org",
            "download" + r"\.pytorch\.org",
            "registry" + r"\.npmjs",
            "(deb|security)" + r"\.debian\.org",
            "--(extra-)?index" + "-url",
            "--trusted" + "-host",
        )
    )
)


def committed(root: Path) -> list[Path]:
    """Every file that is in git or would be added by `git add .`."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listing = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout
    return [root / name for name in sorted(set(listing.split("\0"))) if name and (root / name).is_file()]


def test_nothing_names_a_place_of_ours(root: Path) -> None:
    files = committed(root)
    assert root / "pyproject.toml" in files
    assert [
        f"{file.relative_to(root)}:{number} {line.strip()}"
        for file in files
        for number, line in enumerate(file.read_text(encoding="utf-8", errors="replace").splitlines(), start=1)
        if PLACES.search(line)
    ] == []


def test_a_place_is_noticed() -> None:
    assert PLACES.search("see /" + "work/shared")
    assert not PLACES.search("examples/work/flights.csv")
