"""Training code of a real project tries every way to the sealed part and gets none (the gate does: `test_shop.py`)."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e import ways
from tests.e2e.conftest import Project
from trunkline.project.confined import means

KEY = base64.b64encode(bytes(range(32))).decode()


@pytest.fixture
def curious(shop: Project, tmp_path: Path) -> tuple[Project, dict[str, str]]:
    """A project whose model function looks for the test part, and the environment that holds the way to it."""
    shutil.rmtree(shop.root / ".trunkline")  # it is sealed anew, with the key of this test
    shutil.copy(ways.__file__, shop.root / "ml" / "ways.py")
    shop.edit("ml/returns.py", "import trunkline as tl\n", "import trunkline as tl\n\nfrom ml import ways\n")
    shop.edit("ml/returns.py", "orders = tl", "ways.record('import', ways.ORDINARY)\norders = tl")
    shop.edit("ml/returns.py", "    return Light", "    ways.record('training', ways.WAYS)\n    return Light")
    folder = tmp_path / "config" / "trunkline"
    folder.mkdir(parents=True)
    (folder / "vault.key").write_text(KEY)
    (folder / "vault.key").chmod(0o600)
    return shop, {"TRUNKLINE_VAULT_KEY": KEY, "XDG_CONFIG_HOME": str(folder.parent)}


@pytest.mark.skipif(means() != "landlock", reason="what an audit hook does not stop is told in docs/vault.md")
def test_no_way_leads_training_code_to_the_sealed_part(curious: tuple[Project, dict[str, str]]) -> None:
    shop, environ = curious
    ran = shop.run("run", "--json", **environ).data["ran"]
    assert [step["step"] for step in ran] == ["dataset:order_features", "train:returns"]  # it was trained all the same
    for moment, tried in (("import", ways.ORDINARY), ("training", ways.WAYS)):
        found = json.loads((shop.root / "ml" / f"{moment}.json").read_text())
        assert {name: what for name, what in found.items() if what[0] == "got"} == {}
        assert len(found) == len(tried)

    # the same ways lead there for a process that is not confined: they are not refused by a slip of ours
    command = [sys.executable, "ml/ways.py"]
    found = json.loads(subprocess.check_output(command, cwd=shop.root, env=os.environ | environ, timeout=60))
    assert {name: what for name, what in found.items() if what[0] != "got"} == {}
