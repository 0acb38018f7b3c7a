"""Damaged files below `.trunkline`: made again without a word, or one clear message with the next thing to type.

Never a traceback, and never a number that was computed from damaged bytes.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults import killing, state
from tests.faults.conftest import Scene
from trunkline.registry.parcels import waiting


@pytest.fixture
def shop(whole_line: Scene, tmp_path: Path) -> Path:
    """A copy of the project after the whole line, without the registry (its paths are absolute)."""
    root = tmp_path / "shop"
    shutil.copytree(whole_line.done, root, ignore=shutil.ignore_patterns("mlflow"))
    return root


@pytest.fixture
def promoted(whole_line: Scene) -> Iterator[Path]:
    """The undisturbed project itself, registry and all, with its model named in the deployment. Put back at the end."""
    deployment = whole_line.done / "deploy" / "returns.yml"
    before = deployment.read_text()
    deployment.write_text(before.replace("model: null", "model: models:/returns/1"))
    yield whole_line.done
    deployment.write_text(before)


def _cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def _flipped(content: bytes) -> bytes:
    """One bit of the middle byte is another."""
    place = len(content) // 2
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


def _one(root: Path, pattern: str) -> Path:
    (found,) = (root / ".trunkline").glob(pattern)
    return found


CONTENTS: dict[str, Callable[[bytes], bytes]] = {
    "cut": _cut,
    "binary": lambda _: bytes(range(256)),
    "list": lambda _: b"[1]",
    "hollow": lambda held: json.dumps(dict.fromkeys(json.loads(held))).encode(),
}


@pytest.mark.parametrize("content", CONTENTS)
def test_a_damaged_cache_is_made_again(content: str, shop: Path) -> None:
    killing.must_end_well(killing.run(shop, "run"))  # a copy has other inodes: here its caches become its own
    caches = sorted((shop / ".trunkline" / "cache").glob("*.json"))
    assert {"dbt-dev.json", "files.json", "ml.json", "state-dev.json"} <= {cache.name for cache in caches}
    for cache in caches:
        cache.write_bytes(CONTENTS[content](cache.read_bytes()))
    done = killing.must_end_well(killing.run(shop, "run", "--json"))
    assert state.outputs(done.out) == []
    for cache in caches:
        assert isinstance(json.loads(cache.read_bytes()), dict)


DATASET = "datasets/order_features/*"
PARTS: dict[str, tuple[str, Callable[[bytes], bytes] | None]] = {
    "manifest cut": (f"{DATASET}/manifest.json", _cut),
    "train flipped": (f"{DATASET}/train.parquet", _flipped),
    "validation gone": (f"{DATASET}/validation.parquet", None),
}


@pytest.mark.parametrize(("pattern", "damage"), PARTS.values(), ids=PARTS)
def test_a_damaged_dataset_trains_nothing(
    pattern: str, damage: Callable[[bytes], bytes] | None, shop: Path, whole_line: Scene
) -> None:
    """`train` makes it again, or says what to do; done that, the model is the one of the undisturbed run."""
    _damage(_one(shop, pattern), damage)
    done = killing.run(shop, "train", "--force", "--json")
    if done.code:
        _do_what_it_says(shop, killing.error_of(done))
        done = killing.must_end_well(killing.run(shop, "train", "--force", "--json"))
    assert _bundle_of(done) == state.registered(whole_line.done, "returns")[0][1]


BUNDLE = "bundles/*"
PIECES: dict[str, tuple[str, Callable[[bytes], bytes] | None]] = {
    "model flipped": (f"{BUNDLE}/model.onnx", _flipped),
    "record gone": (f"{BUNDLE}/bundle.json", None),
}


@pytest.mark.parametrize(("pattern", "damage"), PIECES.values(), ids=PIECES)
def test_a_damaged_bundle_can_be_trained_again(
    pattern: str, damage: Callable[[bytes], bytes] | None, shop: Path, whole_line: Scene
) -> None:
    from trunkline.models.bundle import Bundle

    _damage(_one(shop, pattern), damage)
    done = killing.run(shop, "train", "--force", "--json")
    if done.code:
        _do_what_it_says(shop, killing.error_of(done))
        done = killing.must_end_well(killing.run(shop, "train", "--force", "--json"))
    sha256 = state.registered(whole_line.done, "returns")[0][1]
    assert _bundle_of(done) == sha256
    Bundle.open(_one(shop, BUNDLE), expect_sha256=sha256)


def test_a_damaged_bundle_is_not_served(promoted: Path) -> None:
    with _damaged(_one(promoted, f"{BUNDLE}/model.onnx"), _flipped):
        refused = killing.error_of(killing.run(promoted, "serve", "returns", "--port", "0", "--json"))
        assert refused["error"] == "IntegrityError"
        assert refused["hint"], refused


@pytest.mark.parametrize("damage", [_cut, _flipped], ids=["cut", "flipped"])
def test_a_damaged_test_part_gives_no_verdict(damage: Callable[[bytes], bytes], promoted: Path) -> None:
    with _damaged(_one(promoted, "vault/order_features/*.parquet"), damage):
        error = killing.error_of(killing.run(promoted, "gate", "returns", "--json"))
        assert error["hint"], error
        assert state.query(promoted, "select count(*) from lake.trunkline.verdicts") == [(0,)]


@pytest.mark.parametrize("damage", [_cut, lambda _: b"no database" * 1000], ids=["cut", "other"])
def test_a_damaged_registry_is_named(damage: Callable[[bytes], bytes], promoted: Path) -> None:
    with _damaged(_one(promoted, "mlflow/mlflow.db"), damage):
        trained = killing.must_end_well(
            killing.run(promoted, "train", "--force", "--json")
        )  # and waits for its version
        assert "mlflow.db" in json.loads(trained.out)["ran"][0]["summary"]
        error = killing.error_of(killing.run(promoted, "gate", "returns", "--json"))
        assert "mlflow.db" in error["message"]
        assert error["hint"], error
    killing.must_end_well(killing.run(promoted, "train", "--json"))
    assert not waiting(promoted / ".trunkline" / "outbox")


@pytest.mark.parametrize("damage", [_cut, lambda _: b"no database" * 1000], ids=["cut", "other"])
def test_a_damaged_catalog_is_named(damage: Callable[[bytes], bytes], shop: Path) -> None:
    _damage(shop / "warehouse" / "catalog.sqlite", damage)
    error = killing.error_of(killing.run(shop, "run", "--json"))
    assert "catalog.sqlite" in error["message"] + str(error["file"])
    assert error["hint"], error


def _damage(path: Path, damage: Callable[[bytes], bytes] | None) -> None:
    if damage is not None:
        path.write_bytes(damage(path.read_bytes()))
    elif path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


@contextlib.contextmanager
def _damaged(path: Path, damage: Callable[[bytes], bytes]) -> Iterator[None]:
    before = path.read_bytes()
    path.write_bytes(damage(before))
    try:
        yield
    finally:
        path.write_bytes(before)


def _do_what_it_says(root: Path, error: dict[str, str]) -> None:
    """A message names what is damaged and the command to type next; a test does it as a user would."""
    assert error["hint"], error
    if "delete" in error["hint"]:
        text = f"{error['file']} {error['message']} {error['hint']}"
        named = [Path(name) for name in re.findall(r"/[^\s:'`,]+", text)]
        damaged = next(path for path in named if path.is_relative_to(root / ".trunkline"))
        folder = damaged if damaged.is_dir() else damaged.parent
        shutil.rmtree(folder)
    commands = re.findall(r"`trunkline ([^`]+)`", error["hint"])
    assert commands, error
    killing.must_end_well(killing.run(root, *commands[0].split()))


def _bundle_of(done: killing.Run) -> str:
    trained = [step["output"] for step in json.loads(done.out)["ran"] if step["kind"] == "train"]
    return str(trained[-1]["sha256"])
