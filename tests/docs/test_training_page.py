"""What docs/training.md shows is what happens: its files are a project, and its models learn."""

from __future__ import annotations

import doctest
import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from tests.unit.datasets.building import build, context
from trunkline.models.task import DEFAULT_METRICS, Task, TaskKind
from trunkline.project.ml import Declared, declarations
from trunkline.project.probes import DEFAULTS
from trunkline.training.inputs import Inputs, load_inputs
from trunkline.training.metrics import METRICS, metrics_of
from trunkline.training.run import TrainSpec, train
from trunkline.warehouse.duckdb import open_duckdb

PAGE = Path(__file__).parent.parent.parent / "docs" / "training.md"
TEXT = PAGE.read_text("utf-8")
ROWS = 1_500


def pictures(count: int, size: int) -> list[bytes]:
    """Small images with a bright square each."""
    found = []
    for number in range(count):
        pixels = np.zeros((8, 8), np.uint8)
        pixels[number % 4 : number % 4 + size, : 2 + number % 3] = 255
        out = io.BytesIO()
        Image.fromarray(pixels).save(out, "PNG")
        found.append(out.getvalue())
    return found


def house_features() -> pa.Table:
    """Prices that follow from area and district."""
    random = np.random.default_rng(0)
    area, district = random.uniform(40, 200, ROWS), random.integers(0, 4, ROWS)
    return pa.table(
        {
            "house_id": np.arange(ROWS),
            "area": area,
            "rooms": (area // 25).astype(np.int32),
            "district": [f"d{number}" for number in district],
            "photo": pa.array(pictures(ROWS, 3)),
            "sold_for": pa.array([random.normal(100, 9, n % 4).tolist() for n in range(ROWS)], pa.list_(pa.float64())),
            "price": area * (1_000 + 400 * district) + random.normal(0, 3_000, ROWS),
        }
    )


def scan_features() -> pa.Table:
    """Three kinds of finding."""
    return pa.table(
        {
            "scan_id": np.arange(ROWS),
            "picture": pa.array(pictures(ROWS, 3)),
            "pulse": pa.array([[60.0 + n % 3, 70.0] for n in range(ROWS)]),
            "found": [["nothing", "v9", "v10"][n % 3] for n in range(ROWS)],
            "width_and_height": pa.array([[2.0 + n % 3, 3.0 + n % 2] for n in range(ROWS)]),
        }
    )


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Declared]]:
    """The page's files, with their datasets built."""
    root = tmp_path_factory.mktemp("page")
    for block in re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL):
        file = root / block.splitlines()[0].removeprefix("# ")
        file.parent.mkdir(exist_ok=True)
        file.write_text(block)
    declared = {item.name: item for item in declarations(root)}
    given = {"house_features": house_features(), "scan_features": scan_features()}
    warehouse = open_duckdb({"path": "local.duckdb"}, root)
    try:
        for item in declared.values():
            if item.kind == "dataset":
                warehouse._connection.register("given", given[item.data["relation"]])
                warehouse.execute("create or replace table main.mart as select * from given")
                build(context(warehouse, root), {**item.data, "probes": dict.fromkeys(DEFAULTS, "off")}, _id(item.name))
    finally:
        warehouse.close()
    return root, declared


def _id(name: str) -> str:
    return name.encode().hex().ljust(64, "0")


def loaded(project: tuple[Path, dict[str, Declared]], model: str) -> Inputs:
    """What a training of the model gets."""
    root, declared = project
    return load_inputs(root, declared[model], _id(declared[model].data["dataset"]))


def test_the_trees_learn(project: tuple[Path, dict[str, Declared]], tmp_path: Path) -> None:
    values: dict[str, float] = {}
    tasks: dict[str, Any] = {}
    for model in ("price", "near_price", "price_range", "found"):
        inputs = loaded(project, model)
        trained = train(TrainSpec(model, inputs.model.build), inputs.data, out=tmp_path / model)
        values[model], tasks[model] = trained.value, trained.bundle.signature.task
        assert set(trained.metrics) >= {metric.name for metric in metrics_of(inputs.data.task)}
    assert tasks["price"] == tasks["near_price"] == Task("regression")
    assert tasks["price_range"] == Task("quantile", quantiles=(0.1, 0.5, 0.9))
    assert tasks["found"] == Task("multiclass", classes=("nothing", "v9", "v10"))
    assert values["price"] < 30_000  # the mean alone is 60,000 off
    assert values["near_price"] > 0.4
    assert values["price_range"] < 15_000
    assert values["found"] > 0.9


def test_inputs_are_as_wide_as_the_page_says(project: tuple[Path, dict[str, Declared]]) -> None:
    data = loaded(project, "price").data
    assert data.encoder.places == {
        "area": slice(0, 1), "rooms": slice(1, 2), "district": slice(2, 3), "photo": slice(3, 67),
        "sold_for": slice(67, 70),
    }  # fmt: skip
    assert loaded(project, "size").data.task == Task("custom", outputs=2)
    assert loaded(project, "found_by_network").data.metric.name == "log_loss"


def test_the_module_learns_lists(project: tuple[Path, dict[str, Declared]], tmp_path: Path) -> None:
    inputs = loaded(project, "size")
    trained = train(TrainSpec("size", inputs.model.build), inputs.data, out=tmp_path / "size")
    assert trained.bundle.signature.task.width == 2
    assert trained.value < 1.5


def test_the_tables_are_those_of_the_code() -> None:
    listed = {row[0]: set(re.findall(r"`(\w+)`", row[1])) for row in re.findall(r"^\| (\w+) \| (`.*) \|$", TEXT, re.M)}
    known: dict[TaskKind, set[str]] = {}
    for metric in METRICS.values():
        for kind in metric.tasks:
            known.setdefault(kind, set()).add(metric.name)
    assert listed == known
    chosen = dict(re.findall(r"^\| (\w+) \| .* \| `(\w+)` \|$", TEXT, re.M))
    assert chosen == DEFAULT_METRICS


def test_the_session() -> None:
    blocks = "\n".join(re.findall(r"```pycon\n(.*?)```", TEXT, re.DOTALL))
    test = doctest.DocTestParser().get_doctest(blocks, {}, "training.md", str(PAGE), 0)
    assert len(test.examples) >= 7
    said: list[str] = []
    doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, out=said.append)
    assert not said, "".join(said)
