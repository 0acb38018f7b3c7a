"""The pages on stream connectors, followed to the letter; and what the command line shows and keeps of a failure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import api as apis
from tests.e2e.conftest import Project

DOCS = Path(__file__).parent.parent.parent / "docs"


@pytest.fixture(scope="module")
def server() -> Iterator[apis.Api]:
    with apis.serving() as api:
        yield api


def _block(page: str, language: str) -> str:
    return re.findall(rf"```{language}\n(.*?)```", (DOCS / page).read_text("utf-8"), re.DOTALL)[0]


def _follow(project: Project, page: str, code: str | None, changes: dict[str, str]) -> None:
    """Do what a page says: its YAML, with changes, and its Python as `sources/CODE`."""
    text = _block(page, "yaml")
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    (project.root / "models" / "streams.yml").write_text(text)
    if code:
        (project.root / "sources").mkdir(exist_ok=True)
        (project.root / "sources" / code).write_text(_block(page, "python"))


def _ingested(project: Project, unit: str, **environ: str) -> list[tuple[int, int]]:
    done = project.run("ingest", f"ingest:{unit}", "--json", **environ).data["ran"]
    return [(step["output"].get("read", 0), step["output"].get("loaded", 0)) for step in done]


def test_the_page_on_python_sources(fresh_shop: Project) -> None:
    _follow(fresh_shop, "python-sources.md", "quakes.py", {})
    assert _ingested(fresh_shop, "geo.quakes", QUAKES_URL="https://example.org") == [(12, 12)]
    assert _ingested(fresh_shop, "geo.quakes", QUAKES_URL="https://example.org") == [(0, 0)]
    (fresh_shop.root / "sources" / "quakes.py").write_text(
        _block("python-sources.md", "python")
        .replace("2024", "2026")
        .replace("yield [", "assert year < 2025\n        yield [")
    )
    failed = fresh_shop.run("ingest", "ingest:geo.quakes", check=False, QUAKES_URL="https://example.org")
    assert failed.code != 0
    assert "AssertionError" in failed.err
    assert "sources/quakes.py:7" in failed.err
    assert fresh_shop.sql("select count(*), count(distinct id), max(happened)::date::varchar from lake.raw.quakes") == [
        (15, 15, "2024-06-03")
    ]
    unset = fresh_shop.run("ingest", "ingest:geo.quakes", check=False)
    assert "environment variable QUAKES_URL is not set" in unset.err


def test_the_page_on_dlt_sources(fresh_shop: Project) -> None:
    _follow(fresh_shop, "dlt.md", "shop.py", {"name: shop\n": "name: store\n"})
    assert _ingested(fresh_shop, "store") == [(18, 18)]
    found = "select id, placed::varchar, buyer ->> 'name' from lake.raw.orders order by id limit 1"
    assert fresh_shop.sql(found) == [(202101, "2021-03-01", "N1")]
    assert fresh_shop.sql("select count(*) from lake.raw.lines where item = 'book'") == [(9,)]
    assert _ingested(fresh_shop, "store") == [(0, 0)]


def test_the_page_on_rest_apis(fresh_shop: Project, server: apis.Api) -> None:
    server.reset()
    server.token, server.page = "open-sesame", 4
    server.tables["issues"] = apis.rows(10, lambda n: {"title": f"t{n}", "labels": [{"name": "bug"}]})
    server.tables["comments"] = apis.rows(20, lambda n: {"issues_id": n % 10 + 1, "text": "why?"})
    server.fault("page=2", status=429, headers={"Retry-After": "0"})
    _follow(
        fresh_shop, "rest.md", None, {"https://api.example.com/v1": server.url, "requests_per_second: 5": "timeout: 30"}
    )
    refused = fresh_shop.run("ingest", "ingest:tracker", check=False, TRACKER_TOKEN="friend-or-foe")
    assert "HTTP 401" in refused.err
    assert "see `auth` of the client" in refused.err
    assert "models/streams.yml:" in refused.err
    assert "friend-or-foe" not in refused.err
    assert _ingested(fresh_shop, "tracker", TRACKER_TOKEN="open-sesame") == [(30, 30)]
    assert fresh_shop.sql("select labels ->> '$[0].name' from lake.raw.issues where id = 10") == [("bug",)]
    server.tables["issues"] = [*server.tables["issues"], {"id": 11, "title": "new", "labels": []}]
    server.tables["comments"] = [*server.tables["comments"], {"id": 21, "issues_id": 11, "text": "why not?"}]
    assert _ingested(fresh_shop, "tracker", TRACKER_TOKEN="open-sesame") == [(2, 2)]
    assert fresh_shop.sql("select count(*), count(distinct id) from lake.raw.comments") == [(21, 21)]
    everything = " ".join(map(str, fresh_shop.sql("select * from lake.trunkline.cursors")))
    assert "open-sesame" not in everything
