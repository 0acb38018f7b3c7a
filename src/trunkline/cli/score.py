"""`trunkline score`."""

from __future__ import annotations

from pathlib import Path

import click

from trunkline.cli.options import common, session
from trunkline.cli.show import Show


@click.command(
    epilog="Examples: trunkline score · trunkline score delay --in-warehouse · "
    "trunkline score models:/delay/7 --on analytics.today --where \"origin = 'JFK'\""
)
@click.argument("model", required=False)
@click.option("--on", metavar="RELATION", help="SCHEMA.TABLE or a dbt model. Default: what the model was trained on.")
@click.option(
    "--into", metavar="SCHEMA.TABLE", help="Where the scores go. Default: MODEL_scores in the target's schema."
)
@click.option("--where", metavar="SQL", help="Score only rows for which this holds.")
@click.option("--in-warehouse", is_flag=True, help="Run the model where the rows are, as a SQL function.")
@common
def command(
    model: str | None, in_warehouse: bool, project: Path | None, target: str | None, as_json: bool, **rows: str | None
) -> None:
    """Score the rows of a table into another: the key, the score, the model and the batch.

    MODEL is a deployment, whose promoted model it means, or a reference (models:/delay/7, models:/delay@champion). The
    output holds one row a key: a batch replaces what earlier ones wrote for its keys, all of it or nothing.
    """
    from trunkline.orchestration.scoring import score

    show = Show(as_json=as_json)
    with session(project, target, show) as opened:
        with show.working():
            request, done = score(opened, model, in_warehouse=in_warehouse, **rows)
        speed = f"{done.rows / done.seconds:,.0f} a second"
        show.line(
            f"{done.rows:,} rows of {request.source} scored with {request.reference} in {done.seconds:.1f} s ({speed})"
        )
        show.line(f"they are in {done.output}, batch {done.batch_id}")
        show.result(
            {
                "batch_id": done.batch_id,
                "model": request.reference,
                "source": str(request.source),
                "output": str(done.output),
                "rows": done.rows,
                "seconds": round(done.seconds, 3),
                "scored_at": done.scored_at.isoformat(),
            }
        )
