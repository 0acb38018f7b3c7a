"""A verdict is kept in the ledger whatever the registry does, and `deploy` finds it there or in the version's tag."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.unit.gate.test_report import RICH
from trunkline.datasets.sealed import Shown, Standing
from trunkline.errors import EngineError, GateFailed, TransientError
from trunkline.gate.release import Released, release
from trunkline.gate.report import Identity, Looks, Report
from trunkline.gate.report_files import write
from trunkline.gate.run import GateResult
from trunkline.gate.verdict import Verdict
from trunkline.ledger.ledger import Ledger
from trunkline.orchestration.verdicts import keep, passing, past
from trunkline.project.deploy import Deployment, policy_digest, read_deployment
from trunkline.registry import parcels
from trunkline.registry.memory import MemoryRegistry
from trunkline.registry.protocol import ModelVersion, RunRecord
from trunkline.warehouse.duckdb import open_duckdb

MANIFEST: Any = SimpleNamespace(
    name="flights",
    dataset_id="d7" * 32,
    location="",
    snapshot="41",
    load_ids=("load_1", "load_2"),
    parts={"test": SimpleNamespace(content="c0" * 32, file=None)},
)
FILE = "deployment: delay\nmodel: null\ngate:\n  metrics:\n    roc_auc: {at_least: 0.7}\n"


class Away(MemoryRegistry):
    """A registry that is away, or refuses."""

    def __init__(self, error: EngineError) -> None:
        super().__init__()
        self.error: EngineError | None = error

    def log_run(self, run: RunRecord) -> str:
        if self.error:
            raise self.error
        return super().log_run(run)


@pytest.fixture
def spec(tmp_path: Path) -> Deployment:
    (tmp_path / "delay.yml").write_text(FILE)
    return read_deployment(tmp_path / "delay.yml")


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Any]:
    """A ledger in DuckDB, a registry in memory."""
    warehouse = open_duckdb({"path": "local.duckdb"}, tmp_path)
    ledger = Ledger(warehouse)
    ledger.prepare()
    context = SimpleNamespace(
        root=tmp_path,
        state=tmp_path / ".trunkline",
        warehouse=warehouse,
        ledger=ledger,
        experiment="flights",
        now=lambda: dt.datetime.now(dt.UTC),
        git_commit=lambda: "1f0c2d9",
        dbt_manifest=lambda: "ab" * 32,
        run_id="run_1",
        target="dev",
        registry=lambda: context.there,
        there=MemoryRegistry(),
    )
    yield SimpleNamespace(context=context, project=SimpleNamespace(deployments=[]))
    warehouse.close()


def version(session: Any, registry: MemoryRegistry | None = None) -> ModelVersion:
    """A new version of `delay` with a bundle of its own."""
    registry = registry or session.context.there
    bundle = session.context.root / "bundle"
    bundle.mkdir(exist_ok=True)
    (bundle / "bundle.json").write_text("{}")
    run = MemoryRegistry.log_run(registry, RunRecord("flights", "train"))
    number = len(registry.versions("delay")) + 1
    return registry.register("delay", bundle, run_id=run, sha256=f"{number:064x}", tags={}, example=None)


def judged(session: Any, spec: Deployment, of: ModelVersion, *, passed: bool, released: Released | None = None) -> Any:
    """`of` with a verdict; what `keep` says, and the look."""
    look = f"look_{len(session.context.ledger.read('looks')):03}"
    session.context.ledger.add("looks", [{"look_id": look, "deployment": spec.name}])
    shown = released or Released(RICH.evidence, RICH.verdict)
    rules = tuple(rule for rule in shown.verdict.rules if not passed or rule.status == "pass")
    report: Report = replace(
        RICH,
        candidate=Identity(of.uri, of.sha256),
        verdict=Verdict(rules),
        evidence=shown.evidence,
        looks=Looks(7, 100, bool(shown.withheld), shown.withheld),
    )
    files = write(report, session.context.state / "gates" / look)
    result = GateResult(report, replace(shown, verdict=report.verdict), files.markdown, files.json, files.html)
    return keep(session, spec, of, MANIFEST, result, look), look


def test_a_verdict_is_in_the_ledger_in_a_run_and_in_a_tag(session: Any, spec: Deployment) -> None:
    version(session)
    candidate = version(session)
    kept, look = judged(session, spec, candidate, passed=True)
    (row,) = past(session, "delay")
    assert (row.look_id, row.passed, row.sha256, row.policy) == (look, True, candidate.sha256, policy_digest(spec))
    assert row.metrics["roc_auc"] == (0.7712, 0.7655, 0.7768)
    assert row.served["p99_ms"] == pytest.approx(1.204)
    assert session.context.ledger.read("looks")[0]["released"]["metrics"]["roc_auc"]["own"] is True
    run = session.context.there.runs[kept.run_id]
    assert (run.experiment, run.name, run.key) == ("flights/gate", "delay v2", look)
    assert run.params["version"] == 2
    assert run.curves["roc_auc"] == ((2, 0.7712),)  # at the step of the version: a chart shows it over the versions
    assert {"champion_roc_auc", "loss_roc_auc", "brier", "p50_ms", "cold_start_s", "bundle_mb", "passed"} <= set(
        run.curves
    )
    assert [(one.name, one.context) for one in run.datasets] == [("flights test", "test")]
    ancestors = {"git_commit": "1f0c2d9", "dbt_manifest": "ab" * 32, "snapshot": "41", "load_ids": "load_1 load_2"}
    assert run.tags.items() >= {f"trunkline.{name}": value for name, value in ancestors.items()}.items()
    tag = json.loads(session.context.there.resolve(candidate.uri).tags["trunkline.gate.delay"])
    assert (tag["passed"], tag["look_id"], tag["run_id"], tag["sha256"]) == (True, look, kept.run_id, candidate.sha256)
    assert passing(session, spec, candidate) == row


def test_what_is_withheld_is_in_no_chart(session: Any, spec: Deployment) -> None:
    standing = Standing(90, 100, (Shown("5ha", "roc_auc", 0.9, 0.89, 0.91),))
    candidate = version(session)
    kept, _ = judged(session, spec, candidate, passed=True, released=release(RICH.evidence, RICH.verdict, standing))
    run = session.context.there.runs[kept.run_id]
    assert not [name for name in run.curves if "roc_auc" in name]
    assert "brier" in run.curves
    assert set(past(session, "delay")[0].metrics) == {"brier"}


def test_a_registry_that_is_away_loses_no_verdict(session: Any, spec: Deployment) -> None:
    session.context.there = registry = Away(TransientError("MLflow does not answer"))
    candidate = version(session)
    kept, look = judged(session, spec, candidate, passed=True)
    assert kept.run_id is None
    assert kept.why == "the registry does not answer: the verdict is sent once it does"
    assert passing(session, spec, candidate).look_id == look
    registry.error = None
    parcels.send(session.context.state / "outbox", registry)
    (sent,) = [run for run in registry.runs.values() if run.key == look]
    assert sent.curves["roc_auc"] == ((1, 0.7712),)
    registry.error = EngineError("no space left")
    kept, look = judged(session, spec, candidate, passed=True)
    assert kept.why == "the registry did not take it: no space left"
    assert passing(session, spec, candidate).look_id == look


def test_a_job_with_another_ledger_reads_the_tag(session: Any, spec: Deployment) -> None:
    candidate = version(session)
    _, look = judged(session, spec, candidate, passed=True)
    session.context.warehouse.execute("delete from trunkline.verdicts")
    tagged = session.context.there.resolve(candidate.uri)
    found = passing(session, spec, tagged)
    assert (found.look_id, found.passed, found.policy) == (look, True, policy_digest(spec))
    for broken in ("", "{}", "[]", "null", '{"passed": 1}', "{" * 10):
        with pytest.raises(GateFailed, match="has no verdict of the gate of delay"):
            passing(session, spec, replace(tagged, tags={"trunkline.gate.delay": broken}))
    says_true = json.loads(tagged.tags["trunkline.gate.delay"]) | {"passed": "yes"}
    with pytest.raises(GateFailed, match="the gate of delay refused models:/delay/1"):
        passing(session, spec, replace(tagged, tags={"trunkline.gate.delay": json.dumps(says_true)}))


def test_what_was_not_gated_like_this_is_not_deployed(session: Any, spec: Deployment) -> None:
    candidate, other = version(session), version(session)
    with pytest.raises(GateFailed, match="models:/delay/1 has no verdict of the gate of delay") as caught:
        passing(session, spec, candidate)
    assert caught.value.hint == "trunkline gate delay --model models:/delay/1"
    assert caught.value.file == spec.file
    judged(session, spec, candidate, passed=True)
    with pytest.raises(GateFailed, match="models:/delay/2 has no verdict"):
        passing(session, spec, other)
    with pytest.raises(GateFailed, match="is not the bundle that was gated"):
        passing(session, spec, replace(candidate, sha256="f" * 64))
    spec.file.write_text(FILE.replace("0.7}", "0.8}"))
    stricter = read_deployment(spec.file)
    with pytest.raises(GateFailed, match="passed by other rules than those in the file now"):
        passing(session, stricter, candidate)
    judged(session, spec, candidate, passed=False)  # the last verdict counts
    with pytest.raises(GateFailed, match="the gate of delay refused models:/delay/1") as caught:
        passing(session, spec, candidate)
    assert (caught.value.hint or "").startswith("read .trunkline/gates/look_001/report.md")


def test_a_verdict_against_the_champion_before_is_none_against_todays(session: Any, spec: Deployment) -> None:
    """Of two pull requests that passed side by side, the second to be merged has not met the first."""
    first, second = version(session), version(session)
    judged(session, spec, first, passed=True)
    session.context.there.set_alias("delay", "champion", 1)
    assert passing(session, spec, first)  # what is deployed already may be deployed again
    judged(session, spec, second, passed=True)
    with pytest.raises(GateFailed, match="models:/delay/2 passed against .*, and models:/delay/1 is the champion now"):
        passing(session, spec, second)


def test_of_ledger_and_tag_the_later_verdict_counts(session: Any, spec: Deployment) -> None:
    """A laptop's ledger says yes; another's, which only the tag tells of, has said no since."""
    candidate = version(session)
    judged(session, spec, candidate, passed=True)
    tag = json.loads(session.context.there.resolve(candidate.uri).tags["trunkline.gate.delay"])
    later = dt.datetime.now(dt.UTC) + dt.timedelta(days=1)
    refused = tag | {"passed": False, "look_id": "look_later", "decided_at": later.isoformat()}
    with pytest.raises(GateFailed, match="the gate of delay refused models:/delay/1"):
        passing(session, spec, replace(candidate, tags={"trunkline.gate.delay": json.dumps(refused)}))
    earlier = refused | {"decided_at": "2020-01-01T00:00:00"}
    assert passing(session, spec, replace(candidate, tags={"trunkline.gate.delay": json.dumps(earlier)})).passed
    outside = refused | {"look_id": "../../elsewhere"}
    assert passing(session, spec, replace(candidate, tags={"trunkline.gate.delay": json.dumps(outside)})).passed


def test_a_later_verdict_by_other_rules_is_another_matter(session: Any, spec: Deployment) -> None:
    candidate = version(session)
    judged(session, spec, candidate, passed=True)
    spec.file.write_text(FILE.replace("0.7}", "0.8}"))
    stricter = read_deployment(spec.file)
    judged(session, stricter, candidate, passed=False)
    assert passing(session, spec, candidate).passed
    with pytest.raises(GateFailed, match="refused"):
        passing(session, stricter, candidate)


def test_what_was_judged_against_another_model_is_none_against_its_successor(session: Any, spec: Deployment) -> None:
    """The verdict names its champion, whatever its name: that one is replaced, and nobody has met the new one."""
    candidate = version(session)
    judged(session, spec, candidate, passed=True)
    (row,) = past(session, "delay")
    assert row.champion is not None
    name = row.champion.removeprefix("models:/").partition("/")[0]
    for _ in range(9):
        version(session)
    session.context.there.set_alias(name, "champion", 9)
    with pytest.raises(GateFailed, match="models:/delay/9 is the champion now"):
        passing(session, spec, candidate)
