"""`trunkline serve`."""

from __future__ import annotations

from pathlib import Path

import click

from trunkline.cli.options import common, session
from trunkline.cli.show import Show


@click.command(
    epilog="Examples: trunkline serve · trunkline serve delay --port 0 · trunkline serve --model models:/delay/3"
)
@click.argument("deployment", required=False)
@click.option("--model", "reference", metavar="REF", help="Serve this version instead of the promoted one.")
@click.option("--port", type=int, help="Port; 0 takes a free one. Default: the deployment's.")
@click.option("--host", help="Address to listen at. Default: the deployment's (127.0.0.1).")
@common
def command(
    deployment: str | None,
    reference: str | None,
    port: int | None,
    host: str | None,
    project: Path | None,
    target: str | None,
    as_json: bool,
) -> None:
    """Answer predictions over HTTP with the model that DEPLOYMENT names.

    POST /predict, POST /invocations (MLflow's protocol), GET /health, GET /docs. Each prediction is logged to the
    warehouse with its model's version. Ctrl-C ends the server when all of them are there.
    """
    from trunkline.orchestration.serving import serve_deployment
    from trunkline.orchestration.versions import deployed_reference, resolve

    show = Show(as_json=as_json)
    with session(project, target, show) as opened:
        spec = opened.project.deployment(deployment)
        name, promoted = (spec.name, reference) if reference else deployed_reference(opened.project, deployment)
        resolved = resolve(opened.project, opened.context, promoted or "")

        def ready(url: str) -> None:
            show.line(f"{resolved.reference} answers at {url} (docs: {url}/docs); Ctrl-C ends it")
            show.result({"url": url, "model": resolved.reference, "sha256": resolved.sha256})

        serve_deployment(
            opened.project,
            name,
            resolved,
            host=host or spec.spec.serve.host,
            port=spec.spec.serve.port if port is None else port,
            on_ready=ready,
        )
