"""A process that is kept from files: what is refused, what is not, by either means."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from trunkline.project.confined import _NETWORK, _version, beside, means

TRY = """
import json, os, pathlib, subprocess, sys
root, by = pathlib.Path(sys.argv[1]), sys.argv[2]
from trunkline.project.confined import confine
confine([root / "vault", root / "deep" / "key", root / "later"], by)
ways = {
    "open": lambda: (root / "vault" / "test").read_text(),
    "low level": lambda: os.open(root / "deep" / "key", os.O_RDONLY),
    "link": lambda: (root / "beside" / "link" / "test").read_text(),
    "new link": lambda: (os.symlink(root / "vault", root / "deep/open/n"), (root / "deep/open/n/test").read_text()),
    "move": lambda: os.rename(root / "vault", root / "beside" / "vault"),
    "another": lambda: subprocess.run(["cat", root / "vault" / "test"], check=True, capture_output=True),
    "parent": lambda: open(f"/proc/{os.getppid()}/environ", "rb").read(),
    "write": lambda: (root / "vault" / "test").write_text("x"),
    "make": lambda: (root / "later").write_text("x"),
    "beside": lambda: (root / "beside" / "new file").write_text((root / "file").read_text()),
    "moved beside": lambda: (root / "beside" / "new file").rename(root / "deep" / "open" / "moved"),
    "change": lambda: (root / "deep" / "open" / "moved").write_text("y"),
}
found = {}
for name, way in ways.items():
    try:
        way()
        found[name] = True
    except (OSError, subprocess.CalledProcessError):
        found[name] = False
print(json.dumps(found))
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    for folder in ("vault", "beside", "deep/open"):
        (tmp_path / folder).mkdir(parents=True)
    for file in ("vault/test", "deep/key", "file"):
        (tmp_path / file).write_text("secret")
    (tmp_path / "beside" / "link").symlink_to(tmp_path / "vault")
    return tmp_path


@pytest.mark.parametrize("by", ["landlock", "audit hook"])
def test_what_is_refused(place: Path, by: str) -> None:
    if by == "landlock" and means() != by:
        pytest.skip("this kernel has no Landlock of version 2")
    command = [sys.executable, "-c", TRY, str(place), by]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    found = json.loads(done.stdout)
    assert [name for name, got in found.items() if got] == ["beside", "moved beside", "change"]
    assert (place / "vault" / "test").read_text() == "secret"


def test_what_lies_beside(place: Path) -> None:
    found = set(beside([place / "vault", place / "deep" / "key", place / "deep" / "key" / "in it"]))
    assert {path for path in found if path.is_relative_to(place)} == {
        place / "beside",
        place / "file",
        place / "deep" / "open",
    }
    assert Path("/proc") in found
    assert not [path for path in found if place.is_relative_to(path)]


ONLY = """
import json, os, pathlib, socket, subprocess, sys, tempfile
root, by, port = pathlib.Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
from trunkline.project.confined import confine
confine([root / "vault"], by, only=root / "beside")
ways = {
    "hidden": lambda: (root / "vault" / "test").read_text(),
    "elsewhere": lambda: (root / "deep" / "open" / "new").write_text("x"),
    "over": lambda: (root / "file").write_text("x"),
    "append": lambda: open(root / "file", "a"),
    "remove": lambda: (root / "file").unlink(),
    "folder": lambda: (root / "deep" / "open" / "new").mkdir(),
    "move": lambda: os.rename(root / "file", root / "deep" / "open" / "file"),
    "out": lambda: os.rename(root / "beside" / "mine", root / "deep" / "open" / "mine"),
    "another": lambda: subprocess.run(["touch", root / "deep" / "open" / "new"], check=True, capture_output=True),
    "connect": lambda: socket.create_connection(("127.0.0.1", port), timeout=5).close(),
    "read": lambda: (root / "file").read_text(),
    "inside": lambda: (root / "beside" / "mine").write_text("x"),
    "nowhere": lambda: open(os.devnull, "w").write("x"),
}
found = {}
for name in sorted(ways, key="inside".__ne__):
    try:
        ways[name]()
        found[name] = True
    except (OSError, subprocess.CalledProcessError):
        found[name] = False
print(json.dumps(found))
"""


@pytest.mark.parametrize("by", ["landlock", "audit hook"])
def test_where_it_may_write_only(place: Path, by: str) -> None:
    if by == "landlock" and means() != by:
        pytest.skip("this kernel has no Landlock of version 2")
    with socket.create_server(("127.0.0.1", 0)) as server:
        command = [sys.executable, "-c", ONLY, str(place), by, str(server.getsockname()[1])]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    found = json.loads(done.stdout)
    connects = by == "landlock" and _version() < _NETWORK
    assert {name for name, worked in found.items() if worked} == {
        *("read", "inside", "nowhere"),
        *(["connect"] if connects else []),
    }
    assert (place / "file").read_text() == "secret"
