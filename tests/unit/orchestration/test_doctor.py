"""What the doctor says of the outbox; and who sends what lies there."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from trunkline.errors import EngineError
from trunkline.orchestration.doctor import _waiting
from trunkline.orchestration.session import Session
from trunkline.registry.memory import MemoryRegistry
from trunkline.registry.outbox import Outbox, deliver
from trunkline.registry.parcels import Parcel, keep, send
from trunkline.registry.protocol import InvalidRecord, RunRecord
from trunkline.testing.registry_suite import a_run


class Strict(MemoryRegistry):
    """Takes nothing, or but one."""

    def __init__(self, error: EngineError) -> None:
        super().__init__()
        self.error = error

    def log_runs(self, runs: Any) -> list[str]:
        """Refused, all or the bad one."""
        if type(self.error) is EngineError or any(run.name == "bad" for run in runs):
            raise self.error
        return super().log_runs(runs)

    def log_run(self, run: RunRecord) -> str:
        """Refused."""
        raise self.error


def searched(outbox: Path) -> None:
    """What a search left that found nobody home."""
    runs = Outbox(outbox / "s.jsonl", lambda: Strict(EngineError("not opened")))
    runs.add(a_run(key="s"))
    runs.add(a_run(name="bad", key="s/0"), below="s")
    runs.close(patience=0.1)


def test_what_waits_and_why_is_said(tmp_path: Path) -> None:
    searched(tmp_path)
    keep(tmp_path, Parcel(a_run(key="look", name="the look")))
    told = [finding.what for finding in _waiting(tmp_path, {})]
    assert told == [
        "the run 'the look' waits for the registry: it was not sent yet",
        "the study s (runs: 2) waits for the registry: it was not sent yet",
    ]
    forbidding = Strict(EngineError("you may not"))
    send(tmp_path, forbidding)
    told = [finding.what for finding in _waiting(tmp_path, deliver(tmp_path, forbidding))]
    assert [text.partition("the registry: ")[2] for text in told] == ["it did not take it: you may not"] * 2


def test_what_is_refused_and_why_is_said(tmp_path: Path) -> None:
    searched(tmp_path)
    keep(tmp_path, Parcel(a_run(key="look", name="the look")))
    registry = Strict(InvalidRecord("a name it does not take"))
    send(tmp_path, registry)
    assert deliver(tmp_path, registry) == {}
    run, study = _waiting(tmp_path, {})
    assert run.what == "the run 'the look' waits for the registry, which refuses it: a name it does not take"
    assert study.what == "the study s (runs: 1) was refused by the registry: a name it does not take"
    assert "s.refused" in study.mend


@pytest.mark.parametrize("left", ["nothing", "runs", "a parcel"])
def test_a_command_that_trained_sends_what_lies_there(tmp_path: Path, left: str) -> None:
    if left == "runs":
        searched(tmp_path / "outbox")
    elif left == "a parcel":
        keep(tmp_path / "outbox", Parcel(a_run(key="look")))
    opened: list[bool] = []
    context = SimpleNamespace(registry=lambda: opened.append(True))
    session: Any = SimpleNamespace(project=SimpleNamespace(state=tmp_path), context=context)
    Session.catch_up(session)
    assert len(opened) == (left != "nothing")
