"""What is rolled out, in what order, and the way back; the bundle is checked elsewhere."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.unit.orchestration.test_verdicts import FILE, judged, session, version
from trunkline.errors import GateFailed, ModelReferenceError
from trunkline.orchestration import deploying
from trunkline.orchestration.deploying import deploy
from trunkline.project.deploy import read_deployment

__all__ = ["session"]  # a fixture


@pytest.fixture
def shop(session: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A project with deployments `delay` and, if a test writes it, another one."""
    session.context.progress = lambda text: None
    session.context.who = "test"
    (tmp_path / "delay.yml").write_text(FILE)
    project = session.project
    project.root = tmp_path
    project.deployment = lambda name: next(one for one in project.deployments if one.name == name)
    monkeypatch.setattr(deploying, "fetched", lambda *_: SimpleNamespace(bundle=tmp_path / "bundle"))
    return session


def names(session: Any, name: str, reference: str) -> None:
    """The file of `name` deploys `reference`, by a command that writes it down."""
    file = session.project.root / f"{name}.yml"
    rollout = "rollout:\n  - [sh, -c, 'echo $TRUNKLINE_DEPLOYMENT {version} >> rolled']\n"
    file.write_text(FILE.replace("delay", name, 1).replace("null", reference) + rollout)
    others = [one for one in session.project.deployments if one.name != name]
    session.project.deployments = [*others, read_deployment(file)]


def rolled(session: Any) -> list[str]:
    return (session.project.root / "rolled").read_text().splitlines()


def test_the_way_back_is_to_what_was_deployed_here_before(shop: Any) -> None:
    names(shop, "delay", "models:/delay/1")
    first, second = version(shop), version(shop)
    for candidate in (first, second):
        names(shop, "delay", candidate.uri)
        judged(shop, shop.project.deployments[0], candidate, passed=True)
        shop.context.there.set_alias("delay", "champion", 1)
        if candidate is second:
            continue
        assert deploy(shop, "delay").done == "deployed"
    names(shop, "delay", first.uri)
    assert deploy(shop, "delay").done == "already"
    shop.context.there.set_alias("delay", "champion", 2)  # somebody rolled the second out
    with pytest.raises(GateFailed, match="models:/delay/2 is the champion now"):
        deploy(shop, "delay")
    back = deploy(shop, "delay", back=True)
    assert (back.done, back.reference) == ("deployed", first.uri)
    assert rolled(shop) == ["delay 1", "delay 1"]
    champion = shop.context.there.alias("delay", "champion")
    assert (champion.version, len(shop.context.ledger.read("deployments"))) == (1, 2)
    names(shop, "delay", second.uri)
    with pytest.raises(GateFailed, match="models:/delay/2 was never deployed as delay"):
        deploy(shop, "delay", back=True)


def test_two_deployments_of_one_model_do_not_hold_up_each_other(shop: Any) -> None:
    first, second = version(shop), version(shop)
    for name, candidate in (("eu", first), ("us", second)):
        names(shop, name, candidate.uri)
    for name, candidate in (("eu", first), ("us", second)):
        judged(shop, shop.project.deployment(name), candidate, passed=True)
    for _ in range(2):
        assert [deploy(shop, name).reference for name in ("eu", "us")] == [first.uri, second.uri]
    assert rolled(shop) == ["eu 1", "us 2"]
    assert [shop.context.there.alias("delay", f"champion-{name}").version for name in ("eu", "us")] == [1, 2]


def test_an_alias_is_not_deployed(shop: Any) -> None:
    version(shop)
    names(shop, "delay", "models:/delay@champion")
    with pytest.raises(ModelReferenceError, match="may mean another version tomorrow"):
        deploy(shop, "delay")
