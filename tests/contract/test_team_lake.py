"""DuckLake for a team: the catalog in PostgreSQL, the data in an object store, several writers at once."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.contract import servers
from trunkline.errors import EngineError, TransientError
from trunkline.project.profiles import load_target
from trunkline.warehouse.duckdb import DuckDB, open_duckdb

PROFILES = """
team:
  target: dev
  outputs:
    dev:
      type: duckdb
      path: ":memory:"
      database: lake
      schema: main
      threads: 1
      extensions: [ducklake, postgres, httpfs]
      settings: {TimeZone: UTC}
      secrets:
        - type: s3
          name: data
          key_id: "{{ env_var('LAKE_KEY_ID') }}"
          secret: "{{ env_var('LAKE_SECRET') }}"
          endpoint: "{{ env_var('LAKE_ENDPOINT') }}"
          region: us-east-1
          url_style: path
          use_ssl: false
        - type: postgres
          name: catalog
          host: 127.0.0.1
          port: "{{ env_var('LAKE_PORT') }}"
          database: "{{ env_var('LAKE_DATABASE') }}"
          user: team
          password: "{{ env_var('LAKE_PASSWORD') }}"
      attach:
        - path: "ducklake:postgres:"
          alias: lake
          options: {data_path: "s3://team/{{ env_var('LAKE_DATABASE') }}/", meta_secret: catalog}
      plugins:
        - module: trunkline.transform.functions
"""


@pytest.fixture
def environ(postgres: servers.Postgres, store: servers.ObjectStore, fresh: str) -> dict[str, str]:
    return {
        "LAKE_KEY_ID": store.key_id,
        "LAKE_SECRET": store.secret,
        "LAKE_ENDPOINT": store.endpoint,
        "LAKE_PORT": str(postgres.port),
        "LAKE_DATABASE": postgres.database(fresh),
        "LAKE_PASSWORD": postgres.password,
    }


@pytest.fixture
def settings(environ: dict[str, str], tmp_path: Path) -> dict[str, Any]:
    """The target's settings, read from the profile as every command reads them."""
    (tmp_path / "profiles.yml").write_text(PROFILES)
    return dict(load_target(tmp_path, "team", None, environ).settings)


@pytest.fixture
def opened(settings: dict[str, Any], tmp_path: Path) -> Callable[[], DuckDB]:
    return lambda: open_duckdb(settings, tmp_path)


def test_the_profile_of_a_team(opened: Callable[[], DuckDB]) -> None:
    one, other = opened(), opened()
    with one.transaction():
        one.execute("create table main.t as select range as a from range(100000)")
    assert other.query("select count(*), sum(a) from main.t") == [(100000, 4999950000)]
    files = other.query("select data_file from ducklake_list_files('lake', 't')")
    assert all(str(file).startswith("s3://team/") for (file,) in files)
    assert len(files) > 0


@pytest.mark.parametrize("where", ["secret", "path", "url", "store"])
def test_a_refused_login_shows_no_password(
    settings: dict[str, Any], environ: dict[str, str], tmp_path: Path, where: str
) -> None:
    s3, login = (dict(secret) for secret in settings["secrets"])
    wrong = "wrong-and-still-secret"
    target = f"host=127.0.0.1 port={environ['LAKE_PORT']} dbname={environ['LAKE_DATABASE']} user=team"
    path = {
        "secret": "ducklake:postgres:",
        "path": f"ducklake:postgres:{target} password={wrong}",
        "url": f"ducklake:postgres:postgresql://team:{wrong}@127.0.0.1:{environ['LAKE_PORT']}/{environ['LAKE_DATABASE']}",
        "store": "ducklake:postgres:",
    }[where]
    changed = {**settings, "secrets": [{**s3, "secret": wrong} if where == "store" else s3]}
    options = {"data_path": "s3://team/x/"}
    if where in ("secret", "store"):
        changed["secrets"].append(login if where == "store" else {**login, "password": wrong})
        options["meta_secret"] = "catalog"
    changed["attach"] = [{"path": path, "alias": "lake", "options": options}]
    with pytest.raises(EngineError, match="authentication failed|Signature|403|Forbidden") as caught:
        open_duckdb(changed, tmp_path).execute("create table main.t as select range as a from range(100000)")
    assert wrong not in "".join(traceback.format_exception(caught.value))
    assert not isinstance(caught.value, TransientError)


def test_a_catalog_out_of_reach_may_come_back(settings: dict[str, Any], tmp_path: Path) -> None:
    away = {**settings["secrets"][1], "port": str(servers.free_port())}
    with pytest.raises(TransientError, match="Connection refused"):
        open_duckdb({**settings, "secrets": [settings["secrets"][0], away]}, tmp_path)


WRITER = """
import json, sys
from pathlib import Path
from trunkline.warehouse.duckdb import open_duckdb
from trunkline.warehouse.relation import Relation
from trunkline.warehouse.retry import again

settings, who, tables = json.loads(sys.argv[1]), int(sys.argv[2]), sys.argv[3].split(",")
warehouse = open_duckdb(settings, Path("."))
columns = (("who", "INTEGER"), ("n", "INTEGER"))

def write(table, n):
    with warehouse.transaction():
        warehouse.insert(Relation("team", table), columns, [[who, n]])
        warehouse.execute("update team.totals set n = n + 1")

for table in tables:
    warehouse.create(Relation("team", table), columns)
    for n in range(12):
        again(lambda: write(table, n), lambda text, done=None: None)
"""


def test_writers_in_several_processes_lose_nothing(opened: Callable[[], DuckDB], settings: dict[str, Any]) -> None:
    """Four processes, two tables all write to and one of each one's own; each transaction also updates one row."""
    warehouse = opened()
    warehouse.execute("create schema team")
    warehouse.execute("create table team.totals as select 0 as n")
    commands = [
        [sys.executable, "-c", WRITER, json.dumps(settings), str(who), f"shared,own_{who},both"] for who in range(4)
    ]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for command in commands]
    for process in processes:
        _, err = process.communicate(timeout=240)
        assert process.returncode == 0, err
    for table, writers in (("shared", 4), ("both", 4), *((f"own_{who}", 1) for who in range(4))):
        counted = warehouse.query(f"select count(*), count(distinct (who, n)) from team.{table}")
        assert counted == [(12 * writers, 12 * writers)], table
    assert warehouse.query("select n from team.totals") == [(4 * 3 * 12,)]


def test_a_writer_outside_the_turn_is_refused_whole(opened: Callable[[], DuckDB]) -> None:
    """dbt takes no turn on such a catalog: where both change the same table, who commits second has done nothing."""
    ours, dbts = opened(), opened()
    ours.execute("create table main.t as select range as a from range(10)")

    def too_late() -> None:
        with ours.transaction():
            ours.execute("delete from main.t where a = 3")
            ours.execute("create table main.made as select 1 as a")
            dbts.execute("delete from main.t where a = 4")

    with pytest.raises(TransientError, match="Transaction conflict"):
        too_late()
    assert dbts.query("select count(*) from main.t") == [(9,)]
    assert ("main", "made") not in dbts.relations()
    with ours.transaction():  # and the connection is fit for more
        ours.execute("delete from main.t where a = 3")
    assert dbts.query("select count(*) from main.t") == [(8,)]


def test_builds_into_one_schema_take_turns(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trunkline.warehouse.duckdb._TURN_SECONDS", 1)
    ann, ben, also_ann = (
        open_duckdb({**settings, "schema": name}, tmp_path) for name in ("dbt_ann", "dbt_ben", "DBT_ANN")
    )
    with ann.writing():
        with ben.writing(), ben.transaction():
            ben.execute("create table main.by_ben as select 1 as a")
        with pytest.raises(TransientError, match="another process is writing.*lock timeout"), also_ann.writing():
            pytest.fail("two builds into one schema at once")
    with also_ann.writing():
        assert also_ann.relations() == {("main", "by_ben")}


def test_who_dies_holds_nobody_up(opened: Callable[[], DuckDB], settings: dict[str, Any]) -> None:
    code = (
        "import json, os, sys; from pathlib import Path; from trunkline.warehouse.duckdb import open_duckdb\n"
        "w = open_duckdb(json.loads(sys.argv[1]), Path('.'))\n"
        "with w.transaction():\n"
        "    w.execute('create table main.half as select 1 as a'); os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, json.dumps(settings)], timeout=120, check=False)
    assert done.returncode == -9
    warehouse = opened()
    with warehouse.transaction():
        warehouse.execute("create table main.whole as select 1 as a")
    assert warehouse.relations() == {("main", "whole")}


def test_a_project_of_several_people(environ: dict[str, str], tmp_path: Path) -> None:
    """Three checkouts of one project ingest and build at the same time, one of them into a schema of its own: every row
    is there once, every model built."""
    first = tmp_path / "a" / "shop"
    first.parent.mkdir()
    _trunkline(first.parent, environ, "init", "shop")
    (first / "profiles.yml").write_text(PROFILES.replace("team:\n  target", "shop:\n  target"))
    for name in ("b", "c"):
        shutil.copytree(first, tmp_path / name / "shop")
    own = tmp_path / "c" / "shop" / "profiles.yml"
    own.write_text(own.read_text().replace("schema: main", "schema: dbt_cleo"))
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "trunkline", "run", "ingest", "build", "--json"],
            cwd=tmp_path / name / "shop",
            env={**os.environ, **environ},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in ("a", "b", "c")
    ]
    ends = [(process.communicate(timeout=280), process.returncode) for process in processes]
    for (out, err), code in ends:
        assert code == 0, out + err
        assert environ["LAKE_PASSWORD"] not in out + err
    warehouse = open_duckdb(dict(load_target(first, "shop", None, environ).settings), first)
    assert warehouse.query("select count(*), count(distinct order_id), count(distinct _load_id) from raw.orders") == [
        (2400, 2400, 1)
    ]
    assert warehouse.query("select count(*), sum(rows_loaded) from trunkline.loads") == [(1, 2400)]
    assert _trunkline(tmp_path / "b" / "shop", environ, "run", "ingest", "--json")["ran"] == []
    for schema in ("main", "dbt_cleo"):
        assert warehouse.query(f"select count(*) from {schema}.order_features") == [(2400,)]


def _trunkline(folder: Path, environ: dict[str, str], *arguments: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-m", "trunkline", *arguments],
        cwd=folder,
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout) if "--json" in arguments else done.stdout
