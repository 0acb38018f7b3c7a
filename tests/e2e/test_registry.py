"""The registry from the command line: it may be away, and what it stores is not believed."""

from __future__ import annotations

import shutil
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from tests.contract.servers import free_port
from tests.e2e.conftest import Project, copy_of

SECRET = "never-on-any-screen"


class Strict(BaseHTTPRequestHandler):
    """Lets nobody in."""

    def do_GET(self) -> None:
        """401, as MLflow says it."""
        self.send_response(401)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_POST = do_GET

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_a_training_survives_a_registry_that_refuses_and_then_is_away(shop: Project) -> None:
    """And its version is there once, as soon as the registry is."""
    before = len(shop.sql("select * from lake.trunkline.versions"))
    port = free_port()
    away = f"http://ann:{SECRET}@127.0.0.1:{port}"
    local, server = '# tracking: {uri: "http://127.0.0.1:5000"}', f'tracking: {{uri: "{away}", patience: 0.2}}'
    shop.edit("trunkline.yml", local, server)
    shop.edit("ml/returns.py", '"leaves", 7', '"leaves", 6')
    with HTTPServer(("127.0.0.1", port), Strict) as strict:
        threading.Thread(target=strict.serve_forever, daemon=True).start()
        outcomes = [shop.run("run", "--json")]
        strict.shutdown()
    (step,) = [step for step in outcomes[0].data["ran"] if step["kind"] == "train"]
    assert step["output"]["reference"] is None
    assert "does not let us in: as 'ann' (set MLFLOW_TRACKING_USERNAME" in step["summary"]
    outcomes += [shop.run("run"), shop.run("summary"), shop.run("plan")]
    assert "no version yet" in step["summary"]
    assert "nothing to do" in outcomes[1].out
    assert "returns: trained, no version yet" in outcomes[2].out
    outcomes += [shop.run("gate", "returns", check=False), shop.run("gate", "returns", "--json", check=False)]
    assert outcomes[4].code == 1
    assert "does not answer" in outcomes[4].err
    assert "returns: trained, and registered when the registry answers" in outcomes[4].err
    doctor = shop.run("doctor", check=False)
    assert "waits for the registry" in doctor.out
    assert SECRET not in "".join(outcome.out + outcome.err for outcome in [*outcomes, doctor])
    files = [path for path in (shop.root / ".trunkline").rglob("*") if path.is_file()]
    assert [path for path in files if SECRET.encode() in path.read_bytes()] == []

    shop.edit("trunkline.yml", server, local)
    versions = shop.sql("select * from lake.trunkline.versions")
    assert len(versions) == before  # no row without a reference
    assert "nothing to do" in shop.run("run").out
    shown = shop.run("summary", "--json").data
    assert shown["waiting"] == []
    assert shown["versions"][-1]["reference"] == "models:/returns/1"
    assert len(shown["versions"]) == before + 1
    ((sha256,),) = shop.sql("select sha256 from lake.trunkline.versions order by version_id desc limit 1")
    assert sha256 == step["output"]["sha256"]
    assert "waits" not in shop.run("doctor").out


@pytest.fixture(scope="module")
def swapped(shop_done: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose model was changed in the artifact store, and which has no copy of it."""
    project = copy_of(shop_done, tmp_path_factory.mktemp("swapped") / "shop")
    project.run("run", "train:returns", "--force")
    (model,) = (project.root / ".trunkline" / "mlflow" / "artifacts").rglob("data/bundle/model.onnx")
    content = bytearray(model.read_bytes())
    content[len(content) // 2] ^= 1
    model.write_bytes(content)
    shutil.rmtree(project.root / ".trunkline" / "bundles")
    project.edit("deploy/returns.yml", "model: null", "model: models:/returns/1")
    return project


@pytest.mark.parametrize(
    "command",
    [
        ["gate", "returns"],
        ["serve", "returns", "--port", "0"],
        ["score", "returns"],
        ["functions", "publish", "returns"],
    ],
    ids=lambda command: str(command[0]),
)
def test_a_file_swapped_in_the_artifact_store_is_refused(swapped: Project, command: list[str]) -> None:
    refused = swapped.run(*command, check=False)
    assert refused.code == 1, refused
    assert "the file 'model.onnx' of models:/returns/1 is not the one that was registered" in refused.err
    assert not list(Path(swapped.root, ".trunkline", "bundles").glob("*"))
    assert swapped.sql("select count(*) from lake.trunkline.looks") == [(0,)]
