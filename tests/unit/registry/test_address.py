"""No login is shown."""

from __future__ import annotations

import traceback

import pytest

from trunkline.errors import ProjectError
from trunkline.registry.address import login, scrubbed, shown
from trunkline.registry.ancestry import listed
from trunkline.registry.mlmodel import dataset_source


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("https://ann:pw@mlflow.example:8443/team?x=1", "https://mlflow.example:8443/team?x=1"),
        ("https://token@mlflow.example", "https://mlflow.example"),
        ("https://ann:p@w@mlflow.example", "https://mlflow.example"),
        ("postgresql+psycopg://ann:pw@db/mlflow", "postgresql+psycopg://db/mlflow"),
        ("postgresql://db/mlflow?user=ann&password=pw", "postgresql://db/mlflow?user=ann&password=***"),
        ("sqlite:////home/a@b/mlflow.db", "sqlite:////home/a@b/mlflow.db"),
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000"),
        ("postgresql://ann:p/w@db/mlflow", "postgresql://db/mlflow"),
        ("postgresql://ann:p?w#@x@db/mlflow", "postgresql://db/mlflow"),
        ("postgresql://ann@example.com:pw@db/mlflow", "postgresql://db/mlflow"),
        ("postgresql://db:5432/mlflow?user=ann&password=p@w", "postgresql://db:5432/mlflow?user=ann&password=***"),
        ("https://ann:p/w@mlflow.example/team", "https://mlflow.example/team"),
        ("s3://team/data/a@b.parquet", "s3://team/data/a@b.parquet"),
    ],
)
def test_an_address_is_shown_without_its_login(uri: str, expected: str) -> None:
    assert shown(uri) == expected


def test_a_login_is_taken_out_of_web_addresses_only() -> None:
    assert login("https://ann:p%40w@mlflow.example/team") == ("https://mlflow.example/team", "ann", "p@w")
    assert login("https://token@mlflow.example") == ("https://mlflow.example", "token", "")
    database = "postgresql+psycopg://ann:pw@db/mlflow"
    assert login(database) == (database, "", "")


def test_what_an_engine_said_is_scrubbed() -> None:
    said = "API request to https://ann:p%40w@mlflow.example/api failed for 'p@w'"
    assert (
        scrubbed(said, "https://ann:p%40w@mlflow.example")
        == "API request to https://mlflow.example/api failed for '***'"
    )


@pytest.mark.parametrize("password", ["sec/ret", "sec?ret", "sec#ret", "sec@ret", "sec%2Fret"])
def test_whatever_is_in_a_password_it_is_scrubbed(password: str) -> None:
    uri = f"postgresql://ann:{password}@db/mlflow"
    for said in (f"cannot parse {uri}", f"password {password!r} is wrong", "sec/ret" if "%" in password else password):
        assert "ret" not in scrubbed(said, uri)


@pytest.mark.parametrize("uri", ["https://[x", "https://ann:sec/ret@mlflow.example", "http://mlflow.example:port"])
def test_an_address_that_is_none_is_a_fault_of_the_project(uri: str) -> None:
    with pytest.raises(ProjectError, match="is no address of a server") as caught:
        login(uri)
    assert "sec" not in "".join(traceback.format_exception(caught.value))


def test_a_source_is_told_without_a_login() -> None:
    assert dataset_source("https://ann:pw@data.example/t.parquet") == (
        "http",
        {"url": "https://data.example/t.parquet"},
    )
    assert dataset_source("/data/t.parquet") == ("local", {"uri": "/data/t.parquet"})
    assert dataset_source("az://data/t.parquet") == ("trunkline", {"uri": "az://data/t.parquet"})


def test_many_words_take_several_tags() -> None:
    words = [f"load_{number:032x}" for number in range(400)]
    tags = listed("trunkline.load_ids", words)
    assert list(tags) == [f"trunkline.load_ids{end}" for end in ("", ".2", ".3", ".4")]
    assert " ".join(tags.values()).split() == words
    assert max(map(len, tags.values())) <= 5000
    assert listed("trunkline.load_ids", []) == {"trunkline.load_ids": ""}
