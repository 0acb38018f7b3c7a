"""The process apart: its result, its errors, its end; and what it is not given."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.processes import alive
from trunkline.errors import ProjectError, TrainingError
from trunkline.project.apart import run_apart
from trunkline.project.hidden import hidden_paths, open_environ

PROFILE = """\
shop:
  target: dev
  outputs:
    dev:
      type: duckdb
      path: ":memory:"
      attach: [{path: "ducklake:sqlite:warehouse/catalog.sqlite", alias: lake, options: {data_path: warehouse/data}}]
    file: {type: duckdb, path: shop.duckdb}
    prod: {type: snowflake, password: "{{ env_var('SHOP_PASSWORD') }}", private_key_path: /keys/prod.p8}
    team: {type: duckdb, path: ":memory:", attach: [{path: "ducklake:postgres:dbname=lake host=db", alias: lake}]}
"""
SOURCES = """\
sources:
  - name: shop
    tables:
      - name: orders
        config: {meta: {trunkline: {connector: files, path: "data/orders*.csv"}}}
        columns: [{name: id, data_type: bigint}]
      - name: stores
        config: {meta: {trunkline: {connector: sql, dsn: "env:STORE_KEY", table: stores, load: replace}}}
        columns: [{name: id, data_type: bigint}]
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project with a job of its own: `ml.job` is ours as far as `run_apart` is concerned."""
    (tmp_path / "ml").mkdir()
    (tmp_path / "dbt_project.yml").write_text("name: shop\nprofile: shop\n")
    (tmp_path / "profiles.yml").write_text(PROFILE)
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "sources.yml").write_text(SOURCES)
    (tmp_path / "data").mkdir()
    for file in ("data/orders_1.csv", "data/cities.csv", "shop.duckdb", "shop.duckdb.wal", "shop.duckdb2"):
        (tmp_path / file).write_text("")
    return tmp_path


def job(root: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> str:
    (root / "ml" / "job.py").write_text(text)
    monkeypatch.setenv("PYTHONPATH", str(root))
    return "ml.job:job"


def test_what_is_told_and_given_back(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (
        "import os\ndef job(request, tell):\n    tell([1, 0.5]), tell('two')\n    return {**request, 'in': os.getcwd()}"
    )
    heard: list[object] = []
    found = run_apart(job(root, monkeypatch, text), {"a": [1]}, root=root, hear=heard.append)
    assert (found, heard) == ({"a": [1], "in": str(root)}, [[1, 0.5], "two"])


def test_an_error_comes_back_as_itself(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raising = "raise ProjectError('no', file='f', line=3)"
    text = f"from trunkline.errors import ProjectError\ndef job(request, tell):\n    {raising}"
    with pytest.raises(ProjectError) as caught:
        run_apart(job(root, monkeypatch, text), {}, root=root)
    assert (caught.value.what, caught.value.where) == ("no", "f:3")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("os.kill(os.getpid(), 9)", "was ended by SIGKILL"),
        ("os._exit(3)", "ended with exit code 3, without a result"),
    ],
)
def test_an_end_without_a_word_is_told(root: Path, monkeypatch: pytest.MonkeyPatch, line: str, message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        run_apart(job(root, monkeypatch, f"import os\ndef job(request, tell):\n    {line}"), {}, root=root)


def test_a_process_of_the_users_that_stays_holds_nothing_up(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "import os, time\ndef job(request, tell):\n    if os.fork() == 0:\n        time.sleep(20)\n    os._exit(4)"
    began = time.monotonic()
    with pytest.raises(TrainingError, match="exit code 4"):
        run_apart(job(root, monkeypatch, text), {}, root=root)
    assert time.monotonic() - began < 15


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_it_ends_with_its_parent(root: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals) -> None:
    text = "import os, time\ndef job(request, tell):\n    tell(os.getpid())\n    time.sleep(60)"
    path = job(root, monkeypatch, text)
    code = f"""
from pathlib import Path
from trunkline.project.apart import run_apart
try:
    run_apart({path!r}, {{}}, root=Path({str(root)!r}), hear=lambda what: print(what, flush=True))
except KeyboardInterrupt:
    pass
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.send_signal(number)
        parent.wait(20)
    until = time.monotonic() + 10
    while alive(child):
        assert time.monotonic() < until, "the child outlived its parent"
        time.sleep(0.02)


def test_what_is_hidden(root: Path) -> None:
    found = set(hidden_paths(root, {"XDG_CONFIG_HOME": "/c", "HOME": os.environ["HOME"]}))
    ours = {path.relative_to(root).as_posix() for path in found if path.is_relative_to(root)}
    assert ours == {
        *(f".trunkline/{name}" for name in ("vault", "tmp", "gates", "mlflow")),
        *("profiles.yml", "warehouse/catalog.sqlite", "warehouse/data", "shop.duckdb", "shop.duckdb.wal"),
        *("data/orders_1.csv", "seeds"),
    }
    assert Path("/c/trunkline") in found
    assert Path("/keys/prod.p8") not in found  # a target whose variables are not set here leads nowhere
    assert Path("/keys/prod.p8") in hidden_paths(root, {"SHOP_PASSWORD": "x"})


def test_the_environment_keeps_no_key(root: Path) -> None:
    kept = {"PATH": "p", "HOME": "h", "MLFLOW_TRACKING_URI": "m", "WANDB_API_KEY": "w"}
    secret = dict.fromkeys(("TRUNKLINE_VAULT_KEY", "SHOP_PASSWORD", "STORE_KEY", "AWS_SECRET_ACCESS_KEY"), "s")
    assert open_environ(root, kept | secret) == kept
