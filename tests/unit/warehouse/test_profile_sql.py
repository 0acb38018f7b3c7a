"""A dbt-duckdb profile means the same to dbt and to us."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import pytest
from dbt.adapters.duckdb.credentials import Attachment
from dbt.adapters.duckdb.secrets import Secret

from trunkline.errors import EngineError
from trunkline.warehouse import profile_sql
from trunkline.warehouse.duckdb import load_extension, open_duckdb

SECRETS: list[dict[str, Any]] = [
    {"type": "s3", "key_id": "AKIA1", "secret": "it's", "region": "eu", "use_ssl": False, "scope": "s3://a"},
    {"type": "s3", "name": "two", "key_id": "AKIA2", "secret": "s", "scope": ["s3://b", "s3://c"]},
    {"type": "gcs", "name": "g", "key_id": "k", "secret": "s"},
    {"type": "postgres", "name": "pg", "host": "h", "port": 5432, "user": "u", "password": "p"},
    {"type": "http", "name": "web", "extra_http_headers": {"X-A": "b'c"}},
]


def _known(statements: list[str]) -> list[tuple[Any, ...]]:
    with duckdb.connect() as connection:
        for extension in ("httpfs", "postgres"):
            load_extension(connection, extension)
        for statement in statements:
            connection.execute(statement)
        return connection.execute(
            "select name, type, provider, scope, secret_string from duckdb_secrets() order by name"
        ).fetchall()


def test_secrets_are_those_dbt_makes() -> None:
    """dbt-duckdb's own SQL is the reference, but for several scopes, where its SQL fails."""
    ours = _known(profile_sql.secrets({"secrets": [s for s in SECRETS if s.get("name") != "two"]}))
    dbts = [
        Secret.create(
            **{"name": f"_dbt_secret_{i}", **{("secret_type" if k == "type" else k): v for k, v in s.items()}}
        )
        for i, s in enumerate(SECRETS, start=1)
        if s.get("name") != "two"
    ]
    assert ours == _known([secret.to_sql() for secret in dbts])
    assert _known(profile_sql.secrets({"secrets": SECRETS}))[-2][3] == ["s3://b", "s3://c"]


@pytest.mark.parametrize(
    "attachment",
    [
        {"path": "other.duckdb", "alias": "other"},
        {"path": "it's.duckdb", "alias": "other", "read_only": True},
        {"path": "x.sqlite", "type": "sqlite", "alias": "other"},
        {"path": "ducklake:postgres:", "alias": "lake", "options": {"data_path": "s3://b/", "meta_secret": "pg"}},
        {"path": "x", "alias": "lake", "secret": "pg", "options": {"override_data_path": True, "snapshot_version": 3}},
    ],
)
def test_attachments_are_those_dbt_makes(attachment: dict[str, Any]) -> None:
    ours = profile_sql.attach(attachment, attachment["alias"])
    dbts = Attachment(**attachment).to_sql()
    assert _words(ours) == _words(dbts)


def _words(sql: str) -> str:
    return sql.lower().replace('"', "").replace(" true", "")


def test_postgres_is_short_for_its_package() -> None:
    assert profile_sql.extension_package("postgres") == "postgres_scanner"
    assert profile_sql.extension_package("httpfs") == "httpfs"


def test_a_secret_without_a_type_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="secret 1 of the profile has no `type`"):
        open_duckdb({"secrets": [{"name": "x"}]}, tmp_path)
    with pytest.raises(EngineError, match="the profile's secrets: .*nosuch") as caught:
        open_duckdb({"secrets": [{"type": "nosuch", "secret": "very-secret"}]}, tmp_path)
    assert "very-secret" not in str(caught.value)
