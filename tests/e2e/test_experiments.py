"""Comparing and spinning on the start project: nothing official changes, and the past can be had again exactly."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from tests.e2e.conftest import Project, copy_of
from tests.e2e.pages import run_block

PAGE = Path(__file__).parent.parent.parent / "docs" / "experiments.md"
COMPARE, LISTED, SPUN = re.findall(r"```console\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)


def _official(project: Project) -> list[tuple[object, ...]]:
    """What a spin must leave as it is: steps and versions of the ledger, bundles, datasets."""
    state = project.root / ".trunkline"
    files = sorted(
        str(path.relative_to(state)) for name in ("bundles", "datasets", "vault") for path in (state / name).rglob("*")
    )
    steps = project.sql("select step_run_id from lake.trunkline.step_runs order by 1")
    return [*steps, *project.sql("select version_id from lake.trunkline.versions order by 1"), tuple(files)]


@pytest.mark.timeout(600)
def test_a_past_run_is_spun(shop_done: Project, tmp_path: Path) -> None:
    shop = copy_of(shop_done, tmp_path / "shop")
    before = _official(shop)
    (past,) = shop.run("spin", "train:returns", "--json").data["runs"]
    same = shop.run("spin", "train:returns", "--from", past["run"][:16], "--json").data
    assert (same["same_bundle"], same["sha256"]) == (True, past["output"]["sha256"])  # the same inputs, the same code
    assert same["changed"] == {}
    run_block(shop, LISTED)
    run_block(shop, SPUN)
    assert _official(shop) == before
    # the code of today on the data of then: the table has other rows now, and a step of its own
    shop.edit("ml/returns.py", "rounds=200", "rounds=3")
    shop.edit("models/order_features.sql", "select", "select /* fewer */")
    with (shop.root / "models" / "order_features.sql").open("a") as sql:
        sql.write("\nwhere items > 1\n")
    shop.run("run", "dataset:order_features", "--json")
    short = shop.run("spin", "train:returns", "--from", past["run"], "--json").data
    (auc,) = [one for one in short["against"] if one["metric"] == "roc_auc"]
    assert short["dataset"].endswith(past["output"]["dataset_id"][:8])
    assert auc["before"] == pytest.approx(past["output"]["metrics"]["roc_auc"], abs=1e-6)
    assert auc["value"] == pytest.approx(auc["after"] - auc["before"])
    assert auc["low"] <= auc["value"] <= auc["high"]
    dataset = shop.run("spin", "dataset:order_features", "--from", past["run"], "--json").data
    assert dataset["same"] is True
    assert dataset["content_id"] == dataset["content_id_before"]
    assert {path.name for path in (shop.root / dataset["folder"]).iterdir()} >= {"train.parquet", "manifest.json"}
    assert not (shop.root / dataset["folder"] / "sealed").exists()
    ((looks,),) = shop.sql("select count(*) from lake.trunkline.looks")
    assert looks == 0


def test_what_cannot_be_spun_is_told(shop_done: Project, tmp_path: Path) -> None:
    shop = copy_of(shop_done, tmp_path / "shop")
    (run,) = [past["run"] for past in shop.run("spin", "train:returns", "--json").data["runs"]]
    unknown = shop.run("spin", "train:returns", "--from", "run_0000", check=False)
    assert unknown.code == 2
    assert "there is no run 'run_0000'" in unknown.err
    assert run in unknown.err
    assert "Did you mean 'train:returns'" in shop.run("spin", "train:return", "--from", "last", check=False).err
    assert (
        "only steps of train and dataset" in shop.run("spin", "build:order_features", "--from", "last", check=False).err
    )
    wrong = shop.run("spin", "train:returns", "--from", "last", "--params", "leafs=3", check=False)
    assert "Did you mean 'leaves'" in wrong.err
    seeded = shop.run("spin", "dataset:order_features", "--from", "last", "--seed", "1", check=False)
    assert "has neither parameters nor a seed" in seeded.err
    shutil.rmtree(shop.root / ".trunkline" / "datasets")
    gone = shop.run("spin", "train:returns", "--from", "last", check=False)
    assert gone.code == 2
    assert "are not on this disk" in gone.err
    assert f"spin dataset:order_features --from {run}" in gone.err
    assert list((shop.root / ".trunkline" / "spins").iterdir()) == []


def test_a_comparison_is_kept_and_drawn(shop_done: Project, tmp_path: Path) -> None:
    shop = copy_of(shop_done, tmp_path / "shop")
    (shop.root / "trunkline.yml").write_text("training: {threads: 1}\n")
    asked = ("compare", "returns", "--seeds", "2", "--ablate", "--importance", "--repeats", "2", "--jobs", "2")
    found = shop.run(*asked, "--json").data
    assert [row["groups"] for row in found["rows"]] == [["order"], ["order", "customer"]]
    assert [row["left_out"] for row in found["ablations"]] == ["order", "customer"]
    assert {one["by"] for one in found["importances"]} == {"group", "column"}
    assert found["rows"][1]["tests"]["rung"]["against"]["groups"] == ["order"]
    assert found["known_fits"] == 0
    page = Path(found["page"])
    assert "<svg" in page.read_text()
    assert json.loads(page.with_name("comparison.json").read_text())["seeds"] == found["seeds"]
    assert "were known from before" in shop.run(*asked, "--html", "report.html").out
    assert (shop.root / "report.html").read_text() == page.read_text()
    run_block(shop, COMPARE)
    ((looks,),) = shop.sql("select count(*) from lake.trunkline.looks")
    assert looks == 0
