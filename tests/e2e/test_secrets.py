"""A secret that a source needs is found nowhere afterwards: not after success, and not after failures of every kind."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.e2e.conftest import Outcome, Project

SECRET = "hunter2-s3cr3t-w0rd"
SOURCES = """\
sources:
  - name: crm
    schema: raw
    tables:
      - name: people
        config:
          meta:
            trunkline:
              {connector: python, function: "sources/crm.py:people", arguments: {token: env:CRM_TOKEN}, load: append}
        columns: [{name: id, data_type: bigint}]
      - name: orders
        config:
          meta:
            trunkline: {connector: sql, dsn: env:CRM_DSN, load: replace}
        columns: [{name: id, data_type: bigint}]
"""
CODE = """\
import trunkline as tl


@tl.source
def people(token):
    assert token.startswith("hunter2")
    how = open("how.txt").read()
    if how == "raise":
        raise ValueError(f"cannot log in with {token}")
    if how == "cause":
        try:
            raise KeyError(token)
        except KeyError as exc:
            raise RuntimeError("no login") from exc
    yield {"id": 1 if how == "well" else "bad"}
"""


@pytest.fixture
def crm(tmp_path: Path) -> Project:
    (tmp_path / "crm").mkdir()
    project = Project(tmp_path / "crm")
    Project(tmp_path).run("init", "crm")
    for file in ("order_features.sql", "order_features.yml"):
        (project.root / "models" / file).unlink()
    for file in (*(project.root / "ml").glob("*.py"), *(project.root / "deploy").glob("*.yml")):
        file.unlink()
    (project.root / "models" / "sources.yml").write_text(SOURCES)
    (project.root / "models" / "people.sql").write_text("select * from {{ source('crm', 'people') }}")
    (project.root / "sources").mkdir()
    (project.root / "sources" / "crm.py").write_text(CODE)
    return project


def _leaks(project: Project) -> list[str]:
    """Every file of the project that holds the secret: the catalog with the ledger, state, dbt's artifacts, logs."""
    found = []
    for folder, _, names in os.walk(project.root):
        found += [str(Path(folder, name)) for name in names if SECRET.encode() in Path(folder, name).read_bytes()]
    return found


def test_a_secret_is_found_nowhere(crm: Project) -> None:
    environ = {"CRM_TOKEN": SECRET, "CRM_DSN": f"postgresql://reader:{SECRET}@127.0.0.1:9/crm?no_such_parameter=2"}
    (crm.root / "how.txt").write_text("well")
    said: list[Outcome] = [crm.run("ingest", "crm.people", **environ), crm.run("run", "people", **environ)]
    assert set(crm.sql("select id from lake.raw.people")) == {(1,)}
    for how in ("raise", "cause", "badly"):
        (crm.root / "how.txt").write_text(how)
        said.append(crm.run("ingest", "crm.people", "--json", check=False, **environ))
        assert (said[-1].code != 0) == (how != "badly"), said[-1]
    said += [
        crm.run(*command, check=False, **environ)
        for command in (
            ("ingest", "crm.orders"),
            ("ingest", "--infer", "crm.people", "--dry-run"),
            ("plan", "--json"),
            ("doctor",),
            ("quarantine", "show", "people"),
            ("audit", "crm.people", "--json"),
        )
    ]
    tables = [name for (name,) in crm.sql("select table_name from duckdb_tables() where schema_name = 'trunkline'")]
    assert {"loads", "cursors", "quarantine", "step_runs", "runs"} <= set(tables)
    for table in tables:
        assert SECRET not in str(crm.sql(f"from lake.trunkline.{table}"))
    for outcome in said:
        assert SECRET not in outcome.out + outcome.err
    assert _leaks(crm) == []
    assert "***" in said[2].out  # the message is told, without the secret


def test_doctor_tells_which_references_lead_nowhere(crm: Project) -> None:
    outcome = crm.run("doctor", check=False, CRM_TOKEN="x")
    assert outcome.code == 1
    assert "source crm.orders: environment variable CRM_DSN is not set" in outcome.out
    assert "CRM_TOKEN" not in outcome.out


def test_a_secret_written_down_is_refused_at_its_line(crm: Project) -> None:
    crm.edit("models/sources.yml", "token: env:CRM_TOKEN", f"token: {SECRET}")
    refused = crm.run("plan", check=False)
    assert refused.code == 2
    assert "models/sources.yml:9: token: a secret is named here, not written down" in refused.err
    assert SECRET not in refused.err
