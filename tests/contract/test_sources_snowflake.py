"""Every kind of source into Snowflake, by the driver that every run has. Files have tests of their own."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest

from tests import api
from tests.contract import origins
from trunkline.ledger.ledger import Ledger
from trunkline.testing.source_line import Line, rows
from trunkline.warehouse.protocol import Warehouse
from trunkline.warehouse.snowflake import open_snowflake

KINDS: dict[str, Callable[[Path, api.Api], Any]] = {
    "sql": lambda root, _: origins.SqliteTable(root),
    "python": lambda root, _: origins.Script(root, origins.PYTHON),
    "dlt": lambda root, _: origins.Script(root, origins.DLT, "dlt"),
    "rest": lambda _, server: origins.HttpApi(server),
    "fivetran": lambda root, _: origins.Script(root, origins.FIVETRAN, "fivetran"),
}


class OnSnowflake(Line):
    """The table `suite.t` in Snowflake."""

    into: ClassVar[Warehouse]

    def __post_init__(self) -> None:
        self.warehouse = self.into  # type: ignore[assignment]  # a line's own is a DuckLake
        self._ledger = Ledger(self.warehouse)


def test_every_kind_of_source_appends_and_merges(
    tmp_path: Path, snowflake: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = rows(5, 9, version=100, name="changed")
    with contextlib.closing(open_snowflake(snowflake, tmp_path)) as warehouse, api.serving() as server:
        monkeypatch.setattr(OnSnowflake, "into", warehouse, raising=False)
        for kind, made in KINDS.items():
            (root := tmp_path / kind).mkdir()
            origin = made(root, server)
            line = OnSnowflake(root, origin, monkeypatch)
            origin.add(rows(1, 12))
            line.load()
            origin.change(changed)
            line.load("merge")
            assert line.rows() == [*rows(1, 4), *changed, *rows(10, 12)], kind
            read = [load["rows_read"] for load in line.ledger("loads") if load["connector"] == kind]
            assert read in ([12, 5], [12, 6]), kind  # an API gives its last row again
            warehouse.execute("drop table raw.t")
