"""The stale dbt steps of a run, in one dbt invocation."""

from __future__ import annotations

from collections.abc import Sequence

from trunkline.context import Job, StepContext, StepResult
from trunkline.transform.dbt import Dbt, NodeResult
from trunkline.warehouse.protocol import turn


def run_batch(jobs: Sequence[Job], ctx: StepContext, dbt: Dbt) -> dict[str, StepResult | str]:
    """Build and test. For each step either its result or the reason why it did not succeed.

    dbt is the writer while it runs: our own writers wait. Steps that dbt never reached are reported as failed too.
    """
    owner = {unique_id: job.step.name for job in jobs for unique_id in _ids(job)}
    done = 0

    def on_node(unique_id: str, status: str) -> None:
        nonlocal done
        done += status != "start"
        ctx.progress(f"dbt {unique_id.split('.')[2]}", done / max(len(owner), 1))

    selectors = [selector for job in jobs for selector in _selectors(job)]
    ctx.progress(f"dbt builds {len(jobs)} steps")
    with turn(ctx.warehouse):
        nodes = dbt.build(selectors, on_node)
    by_step: dict[str, list[NodeResult]] = {job.step.name: [] for job in jobs}
    for node in nodes:
        if node.unique_id in owner:
            by_step[owner[node.unique_id]].append(node)
    return {job.step.name: _result(job, by_step[job.step.name]) for job in jobs}


def _ids(job: Job) -> list[str]:
    config = job.step.config
    return list(config["unique_ids"]) if job.step.kind == "test" else [config["unique_id"]]


def _selectors(job: Job) -> list[str]:
    config = job.step.config
    return list(config["selectors"]) if job.step.kind == "test" else [config["selector"]]


def _result(job: Job, nodes: Sequence[NodeResult]) -> StepResult | str:
    config = job.step.config
    bad = [node for node in nodes if not node.ok]
    if bad:
        return "; ".join(f"{node.unique_id.split('.')[2]}: {node.message or node.status}" for node in bad)
    seconds = round(sum(node.seconds for node in nodes), 3)
    if job.step.kind == "test":
        if len(nodes) < len(config["unique_ids"]):
            return f"{len(config['unique_ids']) - len(nodes)} of its tests did not run"
        warned = sum(node.status == "warn" for node in nodes)
        return StepResult({"tests": len(nodes), "warned": warned, "seconds": seconds}, f"{len(nodes)} tests passed")
    if not nodes and config["relation"] is not None:
        return "dbt did not reach it"
    rows = next((node.rows for node in nodes if node.rows is not None and node.rows >= 0), None)
    output = {"relation": config["relation"], "rows": rows, "seconds": seconds}
    return StepResult(output, nodes[0].message if nodes else "ephemeral: built into what selects from it")
