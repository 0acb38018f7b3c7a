"""The user's Python: closures by import, digests of meaning, declarations remembered."""

from __future__ import annotations

from pathlib import Path

import pytest

from trunkline.errors import DatasetError, ProjectError
from trunkline.project import python
from trunkline.project.hidden import CLOSED
from trunkline.project.ml import declarations, find_model, load_model

MODEL = """\
import trunkline as tl
from ml.helper import GROUPS

data = tl.Dataset("mart", key="id", time="at", target="late", groups=GROUPS,
                  split=tl.split.by_time(validation="2025-01-01", test="2025-02-01"))


@tl.model(dataset=data, metric="roc_auc", first={"leaves": 31})
def delay(trial):
    return trial.suggest_int("leaves", 3, 60)
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "ml").mkdir()
    (tmp_path / "ml" / "model.py").write_text(MODEL)
    (tmp_path / "ml" / "helper.py").write_text("from . import deep\nGROUPS = {'g': deep.COLUMNS}\n")
    (tmp_path / "ml" / "deep.py").write_text("COLUMNS = ['a', 'b']  # a comment\n")
    return tmp_path


def _code(root: Path) -> str:
    return python.digest(root, python.closure(root, root / "ml" / "model.py"))


def test_the_closure_follows_imports(root: Path) -> None:
    files = python.closure(root, root / "ml" / "model.py")
    assert [f.name for f in files] == ["deep.py", "helper.py", "model.py"]


def test_code_two_imports_away_counts_and_comments_do_not(root: Path) -> None:
    before = _code(root)
    (root / "ml" / "deep.py").write_text("COLUMNS = [\n    'a', 'b',\n]\n# another comment\n")
    assert _code(root) == before
    (root / "ml" / "deep.py").write_text("COLUMNS = ['a', 'c']\n")
    assert _code(root) != before


def test_declarations(root: Path) -> None:
    dataset, model = declarations(root)
    assert (dataset.kind, dataset.name, dataset.file, dataset.line) == ("dataset", "mart", "ml/model.py", 4)
    assert dataset.data["groups"] == {"g": ["a", "b"]}
    assert (model.kind, model.name, model.data["first"]) == ("model", "delay", {"leaves": 31})
    assert load_model(root, model).build.__name__ == "delay"
    with pytest.raises(ProjectError, match="Did you mean 'delay'"):
        find_model((dataset, model), "dealy")


def test_unchanged_code_is_not_run_again(root: Path) -> None:
    marker = root / "ml" / "ran"
    text = f"import pathlib\nmark = pathlib.Path({str(marker)!r})\n"
    text += "mark.write_text((mark.read_text() if mark.exists() else '') + 'x')\n"
    (root / "ml" / "model.py").write_text(text + MODEL)
    assert declarations(root) == declarations(root)
    assert marker.read_text() == "x"
    (root / "ml" / "deep.py").write_text("COLUMNS = ['a']\n")
    assert declarations(root)[0].data["groups"] == {"g": ["a"]}
    assert marker.read_text() == "xx"


def test_what_is_closed_to_the_code_is_explained(root: Path) -> None:
    (root / "ml" / "model.py").write_text("open('profiles.yml').read()\n")
    (root / "profiles.yml").write_text("")
    (root / "dbt_project.yml").write_text("name: a\n")
    with pytest.raises(ProjectError, match="Permission denied: 'profiles.yml'") as caught:
        declarations(root)
    assert (caught.value.line, caught.value.hint) == (1, CLOSED)


def test_the_users_traceback_is_shown_and_ours_is_not(root: Path) -> None:
    (root / "ml" / "deep.py").write_text("COLUMNS = 1 / 0\n")
    with pytest.raises(ProjectError) as caught:
        declarations(root)
    assert "ZeroDivisionError: division by zero" in caught.value.what
    assert "deep.py" in caught.value.what
    assert "trunkline" not in caught.value.what
    assert (caught.value.file, caught.value.line) == (root / "ml" / "deep.py", 1)


def test_bad_declarations_name_their_line(root: Path) -> None:
    (root / "ml" / "model.py").write_text(MODEL.replace("groups=GROUPS", "groups={'g': ['id']}"))
    with pytest.raises(DatasetError) as caught:
        declarations(root)
    assert "'id' is the key or the target" in caught.value.what
    assert caught.value.line == 4
    (root / "ml" / "model.py").write_text("def broken(:\n")
    with pytest.raises(ProjectError) as broken:
        declarations(root)
    assert broken.value.line == 1
