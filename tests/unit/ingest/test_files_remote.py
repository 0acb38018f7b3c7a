"""Stores: the secrets that open them, and what their answers mean."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.unit.ingest.filing import Depot, depot
from trunkline.errors import EngineError, SourceError, TransientError, TrunklineError
from trunkline.ingest import remote

STORES = [
    ("s3://lake/in/*.csv", {"type": "s3", "key_id": "me", "secret": "it's", "use_ssl": False}, "s3://lake/in/"),
    ("gs://lake/in/{date:%Y}.csv", {"type": "gcs", "key_id": "me", "secret": "x"}, "gs://lake/in/"),
    ("r2://lake/x.csv", {"type": "r2", "key_id": "me", "secret": "x", "account_id": "a"}, "r2://lake/x.csv"),
    ("https://host/x.csv", {"type": "http", "extra_http_headers": {"X-Key": "x"}}, "https://host/x.csv"),
    (
        "az://lake/**",
        {"type": "azure", "connection_string": "AccountName=x;AccountKey=eA==;DefaultEndpointsProtocol=https"},
        "az://lake/",
    ),
]


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Depot]:
    with depot(tmp_path) as made:
        yield made


@pytest.mark.parametrize(("url", "storage", "scope"), STORES, ids=lambda value: str(value)[:4])
def test_secrets_are_what_duckdb_takes(here: Depot, url: str, storage: dict[str, object], scope: str) -> None:
    if url.startswith("az://") and find_spec("duckdb_extension_azure") is None:
        pytest.skip("no azure extension here: pip install 'trunkline[azure]'")
    with remote.opened(here.lake, url, storage):
        ((name, scopes, persistent),) = here.lake.query("select name, scope, persistent from duckdb_secrets()")
        assert (str(name).startswith("trunkline_"), scopes, persistent) == (True, [scope], False)
    assert here.lake.query("from duckdb_secrets()") == []


def test_a_secret_as_sql() -> None:
    sql = remote.secret_sql("x", *STORES[0][:2])
    assert sql == (
        "create temporary secret \"x\" (type \"s3\", key_id 'me', secret 'it''s', use_ssl false, scope 's3://lake/in/')"
    )


def test_what_is_no_secret_shows_none(here: Depot) -> None:
    with (
        pytest.raises(SourceError, match="no secret that DuckDB knows") as caught,
        remote.opened(here.lake, "s3://b/x", {"type": "s3", "sekret": "do-not-show-me"}),
    ):
        pass
    assert "do-not-show-me" not in str(caught.value)
    with pytest.raises(SourceError, match="ftp:// is no store"), remote.opened(here.lake, "ftp://b/x", {}):
        pass


@pytest.mark.parametrize(
    ("said", "error"),
    [
        ("HTTP GET error reading 's3://b' (HTTP 403 Forbidden)", SourceError),
        ("HTTP GET error reading 's3://b/x' (HTTP 404 Not Found)", SourceError),
        ("HTTP GET error (HTTP 503 Service Unavailable)", TransientError),
        ("Could not connect to server error for HTTP GET", TransientError),
        ("Could not resolve hostname error for HTTP GET", TransientError),
        ("something else", EngineError),
    ],
)
def test_what_a_refusal_means(said: str, error: type[TrunklineError]) -> None:
    with pytest.raises(error) as caught, remote.judged("s3://b"):
        raise EngineError(said)
    assert type(caught.value) is error
