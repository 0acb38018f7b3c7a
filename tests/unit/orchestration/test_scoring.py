"""Which rows a version is for: the dataset as the project declares it, else as the ledger remembers it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from trunkline.errors import DatasetError
from trunkline.ledger.ledger import Ledger
from trunkline.orchestration.scoring import _dataset
from trunkline.orchestration.versions import Resolved
from trunkline.warehouse.duckdb import open_duckdb

DECLARED = """
import trunkline as tl

orders = tl.Dataset("orders_now", name="orders", key="id", time="at", target="late", groups={"one": ["a"]},
                    split=tl.split.by_time(validation="2025-01-01", test="2025-02-01"))
"""


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Any]:
    warehouse = open_duckdb({"path": "local.duckdb"}, tmp_path)
    ledger = Ledger(warehouse)
    manifest = {"relation": "orders_then", "key": "order_id"}
    ledger.add("datasets", [{"dataset_id": "d1", "name": "orders", "manifest": manifest}])
    yield SimpleNamespace(project=SimpleNamespace(root=tmp_path), context=SimpleNamespace(ledger=ledger))
    warehouse.close()


def found(session: Any, dataset_id: str) -> tuple[str, str]:
    bundle: Any = SimpleNamespace(metadata={"dataset": "orders"})
    dataset = _dataset(session, Resolved("models:/late/1", "0" * 64, dataset_id, Path()), bundle)
    return dataset["relation"], dataset["key"]


def test_what_the_project_declares_goes_first(session: Any) -> None:
    assert found(session, "d1") == ("orders_then", "order_id")
    (session.project.root / "ml").mkdir()
    (session.project.root / "ml" / "late.py").write_text(DECLARED)
    assert found(session, "d1") == ("orders_now", "id")


def test_a_dataset_that_nobody_knows_is_said(session: Any) -> None:
    with pytest.raises(
        DatasetError, match="models:/late/1 was trained on dataset 'orders', which the project does not"
    ):
        found(session, "d2")
