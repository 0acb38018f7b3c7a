"""Serving a deployment: the bundle it names, and its prediction log on the way to the ledger."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from trunkline.ledger.ledger import Ledger
from trunkline.orchestration.versions import Resolved
from trunkline.project.load import Project
from trunkline.serving.app import Service
from trunkline.serving.server import ServerConfig, serve
from trunkline.serving.spool import backlog, drain
from trunkline.warehouse.protocol import open_warehouse


def spool_folder(project: Project, deployment: str) -> Path:
    """Where a deployment's predictions wait for the warehouse."""
    return project.state / "spool" / project.target.name / deployment


def serve_deployment(
    project: Project, name: str, resolved: Resolved, *, host: str, port: int, on_ready: Callable[[str], None]
) -> None:
    """Serve until SIGINT or SIGTERM. Predictions reach the ledger every few seconds, and all of them at the end."""
    deployment = project.deployment(name)
    spool = spool_folder(project, name)
    service = Service(resolved.bundle, resolved.reference, name, spool, sha256=resolved.sha256)
    config = ServerConfig(service, host=host, port=port, workers=deployment.spec.serve.workers)

    def flush() -> None:
        flush_predictions(project, spool)

    serve(config, flush=flush, on_ready=on_ready)


def flush_predictions(project: Project, spool: Path) -> int:
    """Move what lies in the spool into the ledger; rows added. Opens the warehouse only if there is something."""
    if not backlog(spool):
        return 0
    warehouse = open_warehouse(project.target.type, project.target.settings, project.root)
    try:
        return drain(spool, Ledger(warehouse).add_predictions)
    finally:
        warehouse.close()
