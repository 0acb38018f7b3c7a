"""What docs/estimators.md shows of networks is what happens."""

from __future__ import annotations

import re
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from tests.unit.training.torch_cases import fitted, made, of
from trunkline.estimators import Torch
from trunkline.models.encoder import EncodedColumn, Encoder
from trunkline.models.task import Task
from trunkline.project import python
from trunkline.training.networks.settings import MLP, Loop, TabM

PAGE = (Path(__file__).parent.parent.parent / "docs" / "estimators.md").read_text("utf-8")
NETWORKS = PAGE[PAGE.index("## Networks") :]


def test_the_networks_of_the_page_learn(tmp_path: Path) -> None:
    blocks: list[str] = re.findall(r"```python\n(.*?)```", NETWORKS, re.DOTALL)
    (net,) = (block for block in blocks if block.startswith("# ml/net.py"))
    (shown,) = (block for block in blocks if "Torch(module=net.wide" in block)
    (tmp_path / "ml").mkdir()
    (tmp_path / "ml" / "net.py").write_text(net)
    names: dict[str, Any] = {"net": python.load(tmp_path, tmp_path / "ml" / "net.py"), "Torch": Torch}
    calls = re.findall(r"^Torch\(.*\)$", shown, re.MULTILINE)
    assert len(calls) == 3
    random = np.random.default_rng(0)
    orders = random.normal(size=(300, 5)).astype(np.float32)
    orders[::2, 3:] = np.nan
    vectors = of(
        Encoder([EncodedColumn("orders", "vector", shape=(5,))], {}),
        Task(),
        orders,
        (orders[:, 0] > 0).astype(np.float32),
    )
    for call, data in zip(calls, (made(Task()), vectors, made(Task("regression"))), strict=True):
        model, heard = fitted(replace(eval(call, names), epochs=1), data)
        assert len(heard) == 1
        assert np.isfinite(model.predict(data.validation.x)).all()


def test_the_page_names_every_setting() -> None:
    for setting in {field.name for kind in (Loop, Torch) for field in fields(kind)}:
        assert re.search(rf"`(Torch\()?{setting}[`=]", NETWORKS) or setting == "arguments", setting
    assert (TabM().k, TabM().width, TabM().clip, MLP().clip, MLP().patience) == (32, 512, 1.0, None, 2)
