"""YAML with places: every complaint names the line and the close match."""

from __future__ import annotations

from pathlib import Path

import pytest

from trunkline.errors import ProjectError
from trunkline.project import yaml
from trunkline.project.config import read_config
from trunkline.project.deploy import read_deployment, rewrite_reference
from trunkline.project.profiles import load_target
from trunkline.project.sources import read_sources

DEPLOY = """\
# who is late?
deployment: delay
model: models:/delay/7   # the promoted one
gate:
  metrics: {roc_auc: {at_least: 0.76, may_lose: 0.003}}
  slices: [carrier]
  latency: {p99_ms: 10}
serve: {port: 8000}
"""


def _write(tmp_path: Path, text: str, name: str = "f.yml") -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ("  metrics:", "  metrcs:", 5, "unknown key 'metrcs'. Did you mean 'metrics'?"),
        ("at_least", "atleast", 5, "unknown key 'atleast'. Did you mean 'at_least'?"),
        ("port: 8000", "port: eight", 8, "serve.port: Expected 'int', got 'str'"),
        ("deployment: delay\n", "", 1, "the key 'deployment' is missing"),
        ("serve: {port: 8000}", "serve: {port: 8000", 9, "not valid YAML"),
        ("serve:", "model:", 8, "the key 'model' is given twice"),
        ("deployment: delay", "deployment: ../x", 2, "may only hold letters"),
    ],
)
def test_bad_deployments(tmp_path: Path, old: str, new: str, line: int, message: str) -> None:
    path = _write(tmp_path, DEPLOY.replace(old, new))
    with pytest.raises(ProjectError) as caught:
        read_deployment(path)
    assert message in caught.value.what
    assert (caught.value.file, caught.value.line) == (path, line)


def test_a_good_deployment(tmp_path: Path) -> None:
    deployment = read_deployment(_write(tmp_path, DEPLOY))
    assert deployment.spec.gate.metrics["roc_auc"].may_lose == 0.003
    assert deployment.spec.gate.latency.p99_ms == 10
    assert deployment.model_line == 3


def test_a_reference_is_rewritten_and_nothing_else(tmp_path: Path) -> None:
    path = _write(tmp_path, DEPLOY)
    assert rewrite_reference(path, "models:/delay/8") == DEPLOY.replace("models:/delay/7", "models:/delay/8")


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("deployment: a\nmodel: 2001-99-99\n", 2, "no such date or number"),
        ("deployment: a\n2001-99-99: b\n", 2, "no such date or number"),
        (f"deployment: a\nport: {'9' * 5000}\n", 2, "no such date or number"),
        ("a: 1\nb: &a [*a]\n", 2, "nested more than 100 deep"),
        (f"a:\n  - {'[' * 3000}", 2, "nested more than 100 deep"),
        (f"a: {'{a: ' * 3000}", 1, "nested more than 100 deep"),
        ("\n".join(["a: &a0 [x, x]", *(f"b{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 40))]), None, "300,000"),
        ("a: \x00", None, "not valid YAML"),
    ],
)
def test_what_would_break_a_parser_is_told(tmp_path: Path, text: str, line: int | None, message: str) -> None:
    path = _write(tmp_path, text)
    with pytest.raises(ProjectError) as caught:
        yaml.load(path)
    assert message in caught.value.what
    assert caught.value.file == path
    assert line is None or caught.value.line == line


def test_what_is_no_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "z.yml").mkdir()
    with pytest.raises(ProjectError, match="cannot read the file: Is a directory"):
        read_deployment(tmp_path / "z.yml")


NEW = "models:/delay/8"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("model: models:/delay/7", f"model: {NEW}"),
        ("model:   'models:/delay/7'  # who?", f"model:   '{NEW}'  # who?"),
        ('"model": "models:/delay/7" # a', f'"model": "{NEW}" # a'),
        ("model: null  # none yet", f"model: {NEW}  # none yet"),
        ("model:", f"model: {NEW}"),
        ("model:  # none yet", f"model: {NEW}  # none yet"),
        ("model:\n  models:/delay/7", f"model:\n  {NEW}"),
        ("model: models:/\n  delay/7", f"model: {NEW}"),
        ("model: >-\n  models:/delay/7", f"model: {NEW}"),
        ("model: &m models:/delay/7", f"model: {NEW}"),
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_one_value_is_replaced_and_each_other_byte_stays(tmp_path: Path, old: str, new: str, end: str) -> None:
    head, tail = "---\n# äh\ndeployment: delay\n", "\ngate:\n    slices:\n        - a   # four spaces\n    looks:   5\n"
    path = tmp_path / "f.yml"
    path.write_bytes(f"{head}{old}{tail}".replace("\n", end).encode())
    assert rewrite_reference(path, NEW) == f"{head}{new}{tail}".replace("\n", end)


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("deployment: a", f"deployment: a\nmodel: {NEW}\n"),
        ("deployment: a\r\n# end\r\n", f"deployment: a\r\n# end\r\nmodel: {NEW}\r\n"),
        ("{deployment: a, model: null}\n", f"{{deployment: a, model: {NEW}}}\n"),
        ("{deployment: a}\n", f"{{deployment: a, model: {NEW}}}\n"),
        ("deployment: &a x\nmodel: *a\n", f"deployment: &a x\nmodel: {NEW}\n"),
    ],
)
def test_a_file_without_a_value_of_its_own_gets_one(tmp_path: Path, text: str, made: str) -> None:
    path = tmp_path / "f.yml"
    path.write_bytes(text.encode())
    assert rewrite_reference(path, NEW) == made
    assert rewrite_reference(path, "models:/a #b/1").count("models:/a #b/1") == 1


SOURCES = """\
sources:
  - name: nyc
    schema: raw
    tables:
      - name: flights
        config: {meta: {trunkline: {connector: files, path: "data/*.csv", null_values: ["NA"]}}}
        columns:
          - {name: year, data_type: integer}
          - {name: carrier, data_type: varchar}
      - name: elsewhere
"""


def test_sources(tmp_path: Path) -> None:
    (table,) = read_sources(yaml.load(_write(tmp_path, SOURCES)))
    assert (table.key, table.schema, table.options.path, table.options.load) == (
        "nyc.flights",
        "raw",
        "data/*.csv",
        "append",
    )
    assert [(c.name, c.type, c.line) for c in table.columns] == [("year", "integer", 8), ("carrier", "varchar", 9)]
    assert table.options_line == 6


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ("null_values", "null_value", 6, "unknown key 'null_value'. Did you mean 'null_values'?"),
        ("connector: files", "connector: fils", 6, "connector 'fils' is not known"),
        (", data_type: integer", "", 8, "column 'year' has no data_type"),
        ("name: carrier", "name: Year", 9, "column 'Year' is declared twice"),
        ("name: carrier", "name: _load_id", 9, "audit columns"),
        ('path: "data/*.csv", ', "", 6, "the key 'path' is missing"),
    ],
)
def test_bad_sources(tmp_path: Path, old: str, new: str, line: int, message: str) -> None:
    with pytest.raises(ProjectError) as caught:
        list(read_sources(yaml.load(_write(tmp_path, SOURCES.replace(old, new)))))
    assert message in caught.value.what
    assert caught.value.line == line


PROFILES = """\
flights:
  target: dev
  outputs:
    dev: {type: duckdb, path: ":memory:"}
    prod: {type: snowflake, password: "{{ env_var('SECRET') }}", account: "{{ env_var('ACCOUNT', 'acme') }}"}
"""


def test_targets(tmp_path: Path) -> None:
    _write(tmp_path, PROFILES, "profiles.yml")
    assert load_target(tmp_path, "flights", None, {}).type == "duckdb"
    prod = load_target(tmp_path, "flights", "prod", {"SECRET": "hunter2"})
    assert prod.settings["password"] == "hunter2"
    assert prod.settings["account"] == "acme"
    assert "hunter2" not in repr(prod)


def test_bad_targets(tmp_path: Path) -> None:
    _write(tmp_path, PROFILES, "profiles.yml")
    with pytest.raises(ProjectError, match="no target 'prd'. Did you mean 'prod'"):
        load_target(tmp_path, "flights", "prd", {})
    with pytest.raises(ProjectError, match="no profile 'flihgts'. Did you mean 'flights'"):
        load_target(tmp_path, "flihgts", None, {})
    with pytest.raises(ProjectError, match="environment variable SECRET is not set"):
        load_target(tmp_path, "flights", "prod", {})


def test_config(tmp_path: Path) -> None:
    assert read_config(tmp_path).training.seed == 1
    _write(tmp_path, "training: {seed: 7}\n", "trunkline.yml")
    assert read_config(tmp_path).training.seed == 7
    _write(tmp_path, "trainin: {seed: 7}\n", "trunkline.yml")
    with pytest.raises(ProjectError, match="Did you mean 'training'"):
        read_config(tmp_path)
