"""What a function's code may reach is told from its text, with the line."""

from __future__ import annotations

from pathlib import Path

import pytest

from trunkline.errors import ProjectError
from trunkline.transform.allowed import project_modules


def check(project: Path, code: str, packages: tuple[str, ...] = ("pandas", "numpy")) -> dict[str, tuple[str, str]]:
    file = project / "functions" / "f.py"
    file.parent.mkdir(exist_ok=True)
    file.write_text(code)
    return project_modules(project, file, packages)


def helper(project: Path, name: str, code: str = "") -> Path:
    file = project / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(code)
    return file


@pytest.mark.parametrize(
    ("code", "says", "line"),
    [
        ("import socket\n", "socket opens the network", 1),
        ("\ndef main(a):\n    import subprocess\n    return a\n", "subprocess starts processes", 3),
        ("from urllib.request import urlopen\n", "urllib.request opens the network", 1),
        ("from urllib import parse, request\n", "urllib.request opens the network", 1),
        ("import os.path, http.client\n", "http.client opens the network", 1),
        ("from importlib import import_module\n", "importlib imports what nobody can see before", 1),
        ("import concurrent.futures\nimport ctypes\n", "ctypes loads native code", 2),
        ("import requests\n", "imports 'requests', which is neither Python's own, nor declared, nor of this", 1),
        ("import _snowflake\n", "imports '_snowflake'", 1),
        ("try:\n    import polars\nexcept ImportError:\n    polars = None\n", "imports 'polars'", 2),
        ("import functions.g\n", "the project has no module functions.g", 1),
        ("from functions import g\n", "the project has no module functions.g", 1),
        ("from . import g\n", "the project has no module functions.g", 1),
        ("from functions.g import x\n", "the project has no module functions.g", 1),
        ("def main(a):\n    return open('x').read()\n", "open() reads or writes a file", 2),
        ("def main(a):\n    return __import__('x')\n", "__import__() imports what nobody can see", 2),
        ("import os\nHOME = os.environ['HOME']\n", "os.environ is not the same everywhere", 2),
        ("N = 0\ndef main(a):\n    global N\n    N += 1\n", "changes 'N', which outlives the batch", 3),
        ("SEEN = {}\ndef main(a):\n    SEEN[1] = a\n", "changes 'SEEN', which outlives the batch", 3),
        ("SEEN = []\ndef main(a):\n    SEEN.append(a)\n", "changes 'SEEN'", 3),
        (
            "import collections\nSEEN: dict = collections.defaultdict(list)\nf = lambda a: SEEN['x'].append(a)\n",
            "changes",
            3,
        ),
        ("SEEN = {1: [2]}\ndef main(a):\n    def inner():\n        del SEEN[1][0]\n", "changes 'SEEN'", 4),
    ],
)
def test_what_is_not_portable_is_refused_with_its_line(tmp_path: Path, code: str, says: str, line: int) -> None:
    with pytest.raises(ProjectError) as refused:
        check(tmp_path, code)
    assert says in refused.value.what
    assert refused.value.what.startswith("not portable: ")
    assert refused.value.where == f"{tmp_path}/functions/f.py:{line}"
    assert refused.value.hint


@pytest.mark.parametrize(
    ("code", "packages"),
    [
        ("from __future__ import annotations\nimport re, math, datetime as dt\nfrom urllib.parse import quote\n", ()),
        (
            "import sklearn.linear_model\nfrom PIL import Image\nimport dateutil\n",
            ("Scikit-Learn>=1", "pillow", "python-dateutil"),
        ),
        ("import typing_extensions\n", ("typing-extensions==4.0",)),
        ("TABLE = {}\nTABLE['x'] = 1\ndef main(a):\n    TABLE = []\n    TABLE.append(a)\n    return TABLE\n", ()),
        ("TABLE = {}\ndef main(TABLE):\n    TABLE['x'] = 1\n", ()),
        ("TABLE = {1: 2}\ndef main(a):\n    return TABLE.get(a), TABLE[1], dict(TABLE)\n", ()),
        ("import functools\n@functools.cache\ndef slow(a):\n    return a\n", ()),
        ("import os\ndef main(a):\n    return os.path.basename(a)\n", ()),
        ("def main(a):\n    n = 0\n    def inner():\n        nonlocal n\n        n = 1\n    return n\n", ()),
    ],
)
def test_what_is_portable_passes(tmp_path: Path, code: str, packages: tuple[str, ...]) -> None:
    assert list(check(tmp_path, code, packages)) == ["functions.f"]


@pytest.mark.parametrize(
    ("code", "modules"),
    [
        ("import lib.text\n", ["lib", "lib.text"]),
        ("from lib.text import fold\n", ["lib", "lib.text"]),
        ("from lib import text\n", ["lib", "lib.text"]),
        ("from lib import VERSION\n", ["lib"]),
        ("def main(a):\n    from lib.deep import thing\n", ["lib", "lib.deep", "lib.deep.thing", "lib.text"]),
        ("import alone\n", ["alone"]),
        ("from bare import x\n", ["bare.x"]),
        ("import bare.x as y\n", ["bare.x"]),
    ],
)
def test_modules_of_the_project_come_along(tmp_path: Path, code: str, modules: list[str]) -> None:
    helper(tmp_path, "lib/__init__.py", "VERSION = 1\n")
    helper(tmp_path, "lib/text.py", "import re\n")
    helper(tmp_path, "lib/deep/__init__.py", "from . import thing\n")
    helper(tmp_path, "lib/deep/thing.py", "from ..text import re\n")
    helper(tmp_path, "alone.py")
    helper(tmp_path, "bare/x.py")
    assert list(check(tmp_path, code)) == ["functions.f", *modules]


def test_modules_of_the_project_are_held_to_the_same(tmp_path: Path) -> None:
    file = helper(tmp_path, "lib/text.py", "import re\n\nimport socket\n")
    with pytest.raises(ProjectError, match="opens the network") as refused:
        check(tmp_path, "from lib.text import x\n")
    assert refused.value.where == f"{file}:3"
    file.write_text("def broken(:\n")
    with pytest.raises(ProjectError, match="not valid Python") as refused:
        check(tmp_path, "from lib.text import x\n")
    assert refused.value.where == f"{file}:1"


def test_a_declared_package_wins_over_a_folder_of_that_name(tmp_path: Path) -> None:
    helper(tmp_path, "numpy/notes.py")
    assert list(check(tmp_path, "import numpy.linalg\n")) == ["functions.f"]
