"""A bundle on its way to this disk, where another process may be as quick."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tests.unit.registry.tiny import write_tiny
from trunkline.models.bundle import Bundle
from trunkline.models.place import bundle_folder
from trunkline.orchestration.versions import fetched
from trunkline.registry.memory import MemoryRegistry
from trunkline.registry.protocol import ModelVersion
from trunkline.testing.registry_suite import a_run


def test_two_that_fetch_one_bundle_both_have_it(tmp_path: Path) -> None:
    bundle = write_tiny(tmp_path / "made")
    place = bundle_folder(tmp_path / "state", bundle.sha256)

    class Overtaken(MemoryRegistry):
        def fetch(self, version: ModelVersion, directory: Path) -> Path:
            write_tiny(place)  # by the other process, just now
            return super().fetch(version, directory)

    registry = Overtaken()
    run_id = registry.log_run(a_run())
    version = registry.register("tiny", bundle.path, run_id=run_id, sha256=bundle.sha256, tags={}, example=None)
    project: Any = SimpleNamespace(state=tmp_path / "state")
    context: Any = SimpleNamespace(registry=lambda: registry)
    assert fetched(project, context, version).bundle == place
    assert Bundle.open(place, expect_sha256=bundle.sha256).path == place
    assert list((tmp_path / "state" / "fetch").iterdir()) == []
