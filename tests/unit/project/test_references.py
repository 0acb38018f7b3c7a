"""Secrets in sources.yml are references; a secret itself is refused at its line and never shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from trunkline.errors import ProjectError
from trunkline.project import yaml
from trunkline.project.references import check, references
from trunkline.project.sources import read_sources

SOURCES = """\
sources:
  - name: crm
    config:
      meta:
        trunkline:
          connector: rest
          client:
            base_url: https://crm.example.org
            auth: {type: bearer, token: %s}
    tables:
      - name: people
        config: {meta: {trunkline: {endpoint: people}}}
        columns: [{name: id, data_type: bigint}]
"""


def _check(options: dict[str, Any]) -> None:
    check(yaml.load(Path("s.yml"), text="a: 1\n"), options, ((),))


@pytest.mark.parametrize(
    "options",
    [
        {"dsn": "env:CRM_DSN"},
        {"dsn": "file:secrets/dsn.txt"},
        {"dsn": "sqlite:///data/shop.db"},
        {"dsn": "postgresql://reader@db.example.org/crm"},
        {"path": "s3://bucket/{date:%Y}/*.csv", "storage": {"type": "s3", "key_id": "AKIA1", "secret": "env:S3"}},
        {"client": {"auth": {"type": "api_key", "name": "X-Api-Key", "api_key": "env:KEY", "location": "header"}}},
        {"resource": {"primary_key": "id", "merge_key": "day"}, "endpoint": {"params": {"page_token": "env:T"}}},
        {"client": {"auth": {"type": "oauth2_client_credentials", "access_token_url": "https://a.example.org/token"}}},
        {"path": "{{ env_var('DATA') }}/*.csv"},
        {"configuration": {"region": "eu", "client_secret": "env:S"}},
    ],
    ids=str,
)
def test_references_and_plain_options_pass(options: dict[str, Any]) -> None:
    _check(options)


@pytest.mark.parametrize(
    "options",
    [
        {"dsn": "postgresql://reader:hunter2@db.example.org/crm"},
        {"dsn": "host=db password=hunter2 dbname=crm"},
        {"path": "https://ann:hunter2@files.example.org/a.csv"},
        {"storage": {"type": "s3", "key_id": "AKIA1", "secret": "hunter2"}},
        {"storage": {"type": "azure", "connection_string": "AccountKey=hunter2"}},
        {"client": {"auth": {"type": "bearer", "token": "hunter2"}}},
        {"client": {"headers": {"Authorization": "Bearer hunter2"}}},
        {"endpoint": {"params": {"apikey": "hunter2"}}},
        {"configuration": {"api_key": "hunter2"}},
        {"api_secret": "hunter2"},
        {"arguments": {"logins": [{"password": "hunter2"}]}},
        {"dsn": "postgresql://reader:{{ env_var('hunter2') }}@db.example.org/crm"},
        {"client": {"auth": {"token": "{{ env_var('hunter2') }}"}}},
    ],
    ids=lambda options: next(iter(options)),
)
def test_a_secret_is_refused_and_not_shown(options: dict[str, Any]) -> None:
    with pytest.raises(ProjectError) as refused:
        _check(options)
    assert "hunter2" not in str(refused.value)
    assert "env:" in str(refused.value.hint)


def test_the_complaint_names_the_line_also_of_what_stands_at_the_source() -> None:
    with pytest.raises(ProjectError) as refused:
        list(read_sources(yaml.load(Path("s.yml"), text=SOURCES % "hunter2")))
    assert refused.value.line == 9
    assert refused.value.hint == "say token: env:TOKEN and export TOKEN=…, or token: file:PATH"
    with pytest.raises(ProjectError, match="dbt writes the value of env_var into target/manifest.json"):
        list(read_sources(yaml.load(Path("s.yml"), text=SOURCES % "\"{{ env_var('CRM') }}\"")))
    (table,) = read_sources(yaml.load(Path("s.yml"), text=SOURCES % "env:CRM"))
    assert table.key == "crm.people"


def test_references_are_found_wherever_they_stand() -> None:
    options = {"dsn": "env:A", "client": {"auth": [{"token": "file:b"}]}, "path": "file:///x", "query": "env: none"}
    assert list(references(options)) == ["env:A", "file:b"]
