"""What `connector: fivetran` may say in a project, and which Python a connector gets."""

from __future__ import annotations

from pathlib import Path

import pytest

from trunkline.errors import ProjectError
from trunkline.project import yaml
from trunkline.project.fivetran import connector_environment, sdk_python
from trunkline.project.sources import read_sources

SOURCE = """sources:
  - name: crm
    config:
      meta:
        trunkline:
          connector: fivetran
          {}
    tables:
      - {{name: customers, columns: [{{name: id, data_type: bigint}}]}}
"""


def _read(root: Path, *options: str) -> None:
    (root / "crm.yml").write_text(SOURCE.format("\n          ".join(options)))
    list(read_sources(yaml.load(root / "crm.yml")))


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (["wait: 1 hour"], "say either 'sdk', the folder of a connector.py, or 'connection'"),
        (["sdk: crm", "connection: warm_tea"], "say either 'sdk'"),
        (["sdk: crm", "patience: soon"], "'soon' is no span of time"),
        (["connection: a", "api_key: env:KEY"], "needs an 'api_key' and its 'api_secret'"),
        (
            ["connection: a", "api_key: abc123", "api_secret: env:S"],
            "api_key: a secret is named here, not written down",
        ),
        (["sdk: crm", "configuration: {port: 5432}"], "configuration: Expected 'str', got 'int'"),
        (["sdk: crm", "sdks: crm"], "unknown key 'sdks'. Did you mean 'sdk'?"),
    ],
)
def test_options_that_do_not_go_together(tmp_path: Path, options: list[str], error: str) -> None:
    with pytest.raises(ProjectError, match="crm.yml:") as caught:
        _read(tmp_path, *options)
    assert error in str(caught.value)


def test_options_that_do(tmp_path: Path) -> None:
    _read(tmp_path, "sdk: crm", "patience: 2 hours")
    _read(tmp_path, "connection: a", "api_key: env:K", "api_secret: file:s", "schedule: manual")


def test_which_python_runs_connectors(tmp_path: Path) -> None:
    usual, named = tmp_path / ".venv-fivetran" / "bin" / "python", {"TRUNKLINE_FIVETRAN_PYTHON": "/other/python"}
    assert sdk_python(tmp_path, None, {}) is None
    usual.parent.mkdir(parents=True)
    usual.touch()
    assert sdk_python(tmp_path, None, {}) == usual
    assert sdk_python(tmp_path, None, named) == Path("/other/python")
    assert sdk_python(tmp_path, "env/bin/python", named) == tmp_path / "env" / "bin" / "python"


def test_what_of_our_environment_a_connector_sees() -> None:
    ours = {"PATH": "/bin", "https_proxy": "http://proxy", "SNOWFLAKE_PASSWORD": "x", "FIVETRAN_API_SECRET": "y"}
    assert connector_environment("crm", ours) == {
        "PATH": "/bin",
        "https_proxy": "http://proxy",
        "FIVETRAN_CONNECTION_ID": "crm",
        "FIVETRAN_CONNECTION_NAME": "crm",
        "FIVETRAN_GROUP_ID": "crm",
        "FIVETRAN_DEPLOYMENT_MODEL": "local_debug",
    }
