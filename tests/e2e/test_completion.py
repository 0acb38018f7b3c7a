"""Tab completes commands and tables: at once, and without a word when something is wrong."""

from __future__ import annotations

import pytest

from tests.e2e.conftest import Project


def _tab(project: Project, *words: str) -> list[str]:
    environ = {"_TRUNKLINE_COMPLETE": "bash_complete", "COMP_WORDS": " ".join(["trunkline", *words])}
    done = project.run(check=False, **environ, COMP_CWORD=str(len(words)))
    assert done.err == ""
    return [line.partition(",")[2] for line in done.out.splitlines() if line]


def test_commands_and_tables_are_completed(fresh_shop: Project) -> None:
    assert _tab(fresh_shop, "quar") == ["quarantine"]
    assert set(_tab(fresh_shop, "quarantine", "")) == {"list", "show", "export", "resubmit"}
    assert _tab(fresh_shop, "quarantine", "show", "shop.") == ["shop.orders"]
    assert _tab(fresh_shop, "audit", "ord") == ["orders"]
    assert _tab(fresh_shop, "ingest", "--full") == ["--full-refresh"]
    for build in ("mart/0123456789abcdef", "mart/fedcba9876543210", "other/0011223344556677", "mart/.0123.77"):
        (fresh_shop.root / ".trunkline" / "datasets" / build).mkdir(parents=True)
    assert _tab(fresh_shop, "dataset", "show", "") == ["mart", "other"]
    assert _tab(fresh_shop, "dataset", "diff", "mart@") == ["mart@01234567", "mart@fedcba98"]


@pytest.mark.parametrize("damage", ["sources: [", "sources: [{name: shop, tables: [{meta: {trunkline: {}}}]}]"])
def test_a_broken_project_completes_nothing_in_silence(fresh_shop: Project, damage: str) -> None:
    (fresh_shop.root / "models" / "sources.yml").write_text(damage + " # trunkline")
    assert _tab(fresh_shop, "audit", "") == []
