"""References to secrets, and messages without what they lead to."""

from __future__ import annotations

from pathlib import Path

import pytest

from trunkline.errors import ProjectError
from trunkline.project.secrets import Secrets


def test_references_are_resolved_wherever_they_stand(tmp_path: Path) -> None:
    (tmp_path / "key.txt").write_text("k3y\n")
    secrets = Secrets(tmp_path, {"TOKEN": "t0ken"})
    options = {"auth": {"token": "env:TOKEN"}, "keys": ["file:key.txt", "file:///x"], "n": 1, "env": "env: none"}
    assert secrets.resolve(options) == {
        "auth": {"token": "t0ken"},
        "keys": ["k3y", "file:///x"],
        "n": 1,
        "env": "env: none",
    }
    assert secrets.clean("t0ken and k3y, not t0kens") == "*** and ***, not t0kens"
    assert "t0ken" not in repr(secrets)


@pytest.mark.parametrize(("reference", "says"), [("env:NOPE", "NOPE is not set"), ("file:nope.txt", "cannot read")])
def test_one_that_leads_nowhere_is_named(tmp_path: Path, reference: str, says: str) -> None:
    with pytest.raises(ProjectError, match=says):
        Secrets(tmp_path, {}).resolve(reference)


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://ann:p%40ss/w0rd@db:5432/crm",
        "host=db password='p@ss/w0rd' user=ann",
        "mysql://ann:p%40ss/w0rd@db/crm?ssl=1",
        "DRIVER=x;PASSWORD=p@ss/w0rd;UID=ann",
    ],
)
def test_a_password_is_hidden_also_when_a_driver_shows_it_alone(dsn: str) -> None:
    secrets = Secrets(Path(), {"DSN": dsn})
    secrets.resolve("env:DSN")
    for shown in ("no login with p@ss/w0rd for ann", f"cannot open {dsn}"):
        assert "w0rd" not in secrets.clean(shown)
