"""What workers that do not see the project's folder are sent, and what never leaves it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from trunkline.errors import EngineError
from trunkline.project.ml import Declared
from trunkline.training.on_ray.files import ship
from trunkline.training.on_ray.head import connect
from trunkline.training.placement import Placement

_ID = "f00d" * 16


class RayError(Exception):
    """As that of Ray, which takes seconds to load."""


def _project(root: Path) -> Declared:
    files = {
        "ml/net.py": "from ml.shared import width\n",
        "ml/shared.py": "width = 3\n",
        "ml/other.py": "",
        "profiles.yml": "secret",
        ".trunkline/vault/trips/x.parquet": "sealed",
        **{
            f".trunkline/datasets/trips/{_ID[:16]}/{name}": name
            for name in ("manifest.json", "train.parquet", "validation.parquet", "profile.json")
        },
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return Declared("model", "net", {"dataset": "trips"}, "ml/net.py", 1, "")


def _files(root: Path) -> set[str]:
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}


def test_where_the_folder_is_seen_nothing_is_copied(tmp_path: Path) -> None:
    declared = _project(tmp_path)
    with ship(tmp_path, declared, _ID, Placement(on="ray", storage=str(tmp_path / "ray")), "key").opened() as root:
        assert root == tmp_path
    assert not (tmp_path / "ray").exists()


def test_what_the_model_needs_is_copied_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "node"))
    (tmp_path / "node").mkdir()
    declared = _project(tmp_path / "here")
    away = Placement(on="ray", storage=str(tmp_path / "store"), shared=False)
    shipment = ship(tmp_path / "here", declared, _ID, away, "key")
    with shipment.opened() as root, shipment.opened() as again:
        assert root == again
        assert root.is_relative_to(tmp_path / "node")
        folder = f".trunkline/datasets/trips/{_ID[:16]}"
        parts = {f"{folder}/{name}" for name in ("manifest.json", "train.parquet", "validation.parquet")}
        assert _files(root) == {"ml/net.py", "ml/shared.py", *parts}
    assert len(list((tmp_path / "node").iterdir())) == 1


def test_the_copy_is_removed_in_the_end(tmp_path: Path) -> None:
    declared = _project(tmp_path / "here")
    away = Placement(on="ray", storage=str(tmp_path / "store"), shared=False)
    shipment = ship(tmp_path / "here", declared, _ID, away, "key")
    assert _files(tmp_path / "store")
    shipment.forget()
    assert not list((tmp_path / "store").iterdir())
    shipment.forget()  # nothing is there
    ship(tmp_path / "here", declared, _ID, Placement(on="ray", storage=str(tmp_path / "store")), "key").forget()
    assert (tmp_path / "here" / declared.file).exists()


@pytest.mark.parametrize("error", [ConnectionError("nobody"), RayError("the token is wrong\nmore")])
def test_a_ray_that_lets_nobody_in_is_told(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def init(**given: object) -> None:
        raise error

    ray = SimpleNamespace(init=init, exceptions=SimpleNamespace(RayError=RayError))
    monkeypatch.setattr("trunkline.training.on_ray.head._ray", lambda token: ray)
    with pytest.raises(EngineError, match=f"Ray at there:1 cannot be reached: {str(error).splitlines()[0]}"):
        connect(Placement(on="ray", address="there:1"))


def test_a_store_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    declared = _project(tmp_path / "here")
    (tmp_path / "store").write_text("a file")
    away = Placement(on="ray", storage=str(tmp_path / "store"), shared=False)
    with pytest.raises(EngineError, match="cannot be copied"):
        ship(tmp_path / "here", declared, _ID, away, "key")
