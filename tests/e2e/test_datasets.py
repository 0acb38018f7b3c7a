"""`trunkline dataset` by the command line: the page's examples, damage, collecting, and what a newcomer mistypes."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

from tests.e2e.conftest import Project

PAGE = Path(__file__).parent.parent.parent / "docs" / "dataset-commands.md"
NEW = """\
order_id,ordered_at,country,items,amount,first_order,returned
2401,2025-02-03 10:00:00,FR,2,31.5,true,false
2402,2025-03-04 11:00:00,DE,1,12.0,false,true
"""


def _like(shown: str) -> re.Pattern[str]:
    """A line of the page: `…` stands for anything, a gap for any other gap."""
    parts = [r"\s+".join(map(re.escape, part.split())) for part in shown.split("…")]
    return re.compile(r"^\s*" + ".*".join(rf"\s*{part}\s*" for part in parts) + r"$", re.MULTILINE)


def _run(project: Project, block: str) -> None:
    for command, *shown in (part.splitlines() for part in re.split(r"^\$ ", block, flags=re.MULTILINE) if part):
        words = shlex.split(command)[1:]
        done = project.run(*words, check=False)
        assert done.code == (1 if words[1] == "diff" else 0), done.err
        for line in shown:
            assert _like(line).search(done.out), f"{command}: {line!r} is not in\n{done.out}"


def test_the_page_and_beyond(shop: Project) -> None:
    listed, shown, changed, verified, collected = re.findall(
        r"```console\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL
    )
    _run(shop, listed)
    _run(shop, shown)
    (shop.root / "data" / "orders_2.csv").write_text(NEW)
    shop.edit("ml/returns.py", '"country", "first_order"', '"country"')
    for block in (changed, verified, collected):
        _run(shop, block)
    _whatever_is_mistyped(shop)
    _damage(shop)
    _rubbish(shop)


def _whatever_is_mistyped(shop: Project) -> None:
    for words, meant in (
        (("shwo",), "Did you mean 'show'?"),
        (("order_featurs",), "Did you mean 'order_features'?"),
        (("grants", "order_features"), "only Snowflake has roles"),
    ):
        done = shop.run("dataset", *words, check=False)
        assert (done.code, meant in done.err) == (2, True), done.err
    nothing = shop.run("dataset", "order_features", "--json").data
    assert (nothing["ran"], nothing["fresh"]) == ([], 1)


def _damage(shop: Project) -> None:
    new, old = shop.run("dataset", "list", "--json").data["datasets"]
    place = shop.root / ".trunkline" / "datasets" / "order_features" / new["dataset_id"][:16]
    kept = (place / "train.parquet").read_bytes()
    (place / "train.parquet").write_bytes(kept[:-100])
    done = shop.run("dataset", "verify", check=False)
    assert done.code == 1
    assert f"{place.name}/train.parquet: its bytes are not those that were written" in done.out
    assert shop.run("dataset", "verify", f"order_features@{old['dataset_id'][:6]}").code == 0
    assert shop.run("dataset", "show", "order_features", check=False).code == 1
    (place / "train.parquet").write_bytes(kept)


def _rubbish(shop: Project) -> None:
    """A build that no model was trained on goes, once it is said that it shall; the version's own stays."""
    shop.edit("ml/returns.py", 'validation="2025-03-01"', 'validation="2025-03-03"')
    shop.run("dataset", "build", "order_features")
    gone = json.loads(shop.run("dataset", "gc", "--keep", "1", "--yes", "--json").out)
    assert [item["kind"] for item in gone["removed"]] == ["dataset"]
    here = [one for one in shop.run("dataset", "list", "--json").data["datasets"] if one["here"]]
    assert sorted(bool(one["versions"]) for one in here) == [False, True]
    assert shop.run("dataset", "verify").code == 0
