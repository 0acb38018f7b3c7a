"""The conformance suite on every registry we ship."""

from __future__ import annotations

from pathlib import Path

import pytest

from trunkline.registry.memory import MemoryRegistry
from trunkline.registry.mlflow import MlflowRegistry
from trunkline.registry.protocol import Registry
from trunkline.testing.registry_suite import RegistrySuite

# MLflow 3.17 uses a loader option that SQLAlchemy 2.1 deprecates; Python shows such warnings in tests only.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning")


class TestMemoryRegistry(RegistrySuite):
    @pytest.fixture
    def registry(self) -> Registry:
        return MemoryRegistry()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> MlflowRegistry:
    folder: Path = tmp_path_factory.mktemp("mlflow")
    return MlflowRegistry(f"sqlite:///{folder}/deep/mlflow.db")


class TestMlflowRegistryOnSqlite(RegistrySuite):
    @pytest.fixture
    def registry(self, store: MlflowRegistry) -> Registry:
        return store
