"""The state of the whole line, read from the ledger alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from trunkline.ingest.resubmit import CONNECTOR
from trunkline.orchestration.session import Session
from trunkline.registry.parcels import waiting


@dataclass(frozen=True)
class SourceCounts:
    """Rows of all loads of one source table: read = loaded + quarantined."""

    source: str
    loads: int
    read: int
    loaded: int
    quarantined: int


@dataclass(frozen=True)
class Summary:
    """What a project's ledger says. `leaderboard` rows are those of each model's last `compare`, best first; `waiting`
    are models that are trained and have no version yet: the registry was away."""

    sources: tuple[SourceCounts, ...]
    nodes: int
    tests: int
    datasets: tuple[Mapping[str, Any], ...]
    leaderboard: tuple[Mapping[str, Any], ...]
    versions: tuple[Mapping[str, Any], ...]
    verdicts: tuple[Mapping[str, Any], ...]
    predictions: int
    waiting: tuple[Mapping[str, Any], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "sources": [vars(counts) for counts in self.sources],
            "nodes": self.nodes,
            "tests": self.tests,
            "datasets": list(self.datasets),
            "leaderboard": list(self.leaderboard),
            "versions": list(self.versions),
            "verdicts": list(self.verdicts),
            "predictions": self.predictions,
            "waiting": list(self.waiting),
        }


def summarise(session: Session) -> Summary:
    """Read the ledger. Everything in it may be empty."""
    past = session.past
    rows = [
        {**row, "model": step.partition(":")[2]}
        for step, last in past.items()
        if step.startswith("compare:")
        for row in _best_first(last.output)
    ]
    ledger = session.context.ledger
    verdicts = ledger.read("verdicts", "qualify row_number() over (partition by deployment order by look_id desc) = 1")
    versions = ledger.read("versions", "order by version_id")
    return Summary(
        sources=tuple(_sources(session)),
        nodes=sum(step.startswith("build:") for step in past),
        tests=sum(int(last.output["tests"]) for step, last in past.items() if step.startswith("test:")),
        datasets=tuple(dict(last.output) for step, last in past.items() if step.startswith("dataset:")),
        leaderboard=tuple(rows),
        versions=tuple({k: v[k] for k in ("model", "reference", "params", "metrics")} for v in versions),
        verdicts=tuple({k: v for k, v in row.items() if k != "decided_at"} for row in verdicts),
        predictions=_predictions(session),
        waiting=tuple(asdict(one) for one in waiting(session.project.state / "outbox") if one.model),
    )


def _best_first(compared: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return sorted(compared["rows"], key=lambda row: row["value"], reverse=compared.get("rising", True))


def _sources(session: Session) -> list[SourceCounts]:
    found: dict[str, SourceCounts] = {}
    for row in session.context.ledger.read("loads", "order by load_id"):
        before = found.get(row["source"], SourceCounts(row["source"], 0, 0, 0, 0))
        again = row["rows_read"] if row["connector"] == CONNECTOR else 0  # out of the quarantine: not read anew
        found[row["source"]] = SourceCounts(
            row["source"],
            before.loads + 1,
            before.read + row["rows_read"] - again,
            before.loaded + row["rows_loaded"],
            before.quarantined + row["rows_quarantined"] - again,
        )
    return list(found.values())


def _predictions(session: Session) -> int:
    ledger, warehouse = session.context.ledger, session.context.warehouse
    place = ledger.relation("predictions")
    if (place.schema, place.name) not in warehouse.relations():
        return 0
    return int(warehouse.query(f"select count(*) from {ledger.table('predictions')}")[0][0])
