"""The ledger's tables. Every row has an id and names its parents, so that a trace can walk both ways."""

from __future__ import annotations

from trunkline.warehouse.relation import Relation

SCHEMA = "trunkline"

TABLES: dict[str, tuple[tuple[str, str], ...]] = {
    # one command that ran steps
    "runs": (
        ("run_id", "varchar"),
        ("target", "varchar"),
        ("git_commit", "varchar"),
        ("status", "varchar"),
        ("started_at", "timestamptz"),
        ("finished_at", "timestamptz"),
    ),
    # one step of a run; `fingerprint` and `parts` decide whether it must run again, `output` is what it left behind
    "step_runs": (
        ("step_run_id", "varchar"),
        ("run_id", "varchar"),
        ("step", "varchar"),
        ("kind", "varchar"),
        ("status", "varchar"),
        ("fingerprint", "varchar"),
        ("parts", "json"),
        ("output", "json"),
        ("error", "varchar"),
        ("started_at", "timestamptz"),
        ("finished_at", "timestamptz"),
    ),
    # one load of one source table: read = loaded + quarantined
    "loads": (
        ("load_id", "varchar"),
        ("run_id", "varchar"),
        ("source", "varchar"),
        ("relation", "varchar"),
        ("mode", "varchar"),
        ("connector", "varchar"),
        ("contract", "json"),
        ("rows_read", "bigint"),
        ("rows_loaded", "bigint"),
        ("rows_quarantined", "bigint"),
        ("started_at", "timestamptz"),
        ("finished_at", "timestamptz"),
    ),
    "load_files": (
        ("load_id", "varchar"),
        ("source", "varchar"),
        ("path", "varchar"),
        ("size", "bigint"),
        ("digest", "varchar"),
    ),
    # one row a batch of a source: where it goes on; the last one counts
    "cursors": (
        ("load_id", "varchar"),
        ("unit", "varchar"),
        ("cursor", "json"),
        ("saved_at", "timestamptz"),
    ),
    # one row for each row that did not fit its contract; `resolved_by` is the load that took it in after all
    "quarantine": (
        ("load_id", "varchar"),
        ("table_name", "varchar"),
        ("file", "varchar"),
        ("line", "bigint"),
        ("errors", "json"),
        ("raw", "json"),
        ("quarantined_at", "timestamptz"),
        ("quarantine_id", "varchar"),
        ("resolved_by", "varchar"),
    ),
    "datasets": (
        ("dataset_id", "varchar"),
        ("run_id", "varchar"),
        ("name", "varchar"),
        ("relation", "varchar"),
        ("snapshot", "varchar"),
        ("manifest", "json"),
        ("created_at", "timestamptz"),
    ),
    "versions": (
        ("version_id", "varchar"),
        ("run_id", "varchar"),
        ("model", "varchar"),
        ("reference", "varchar"),
        ("sha256", "varchar"),
        ("dataset_id", "varchar"),
        ("registry_run_id", "varchar"),
        ("params", "json"),
        ("metrics", "json"),
        ("created_at", "timestamptz"),
    ),
    # one read of a sealed test part, written before the read; `sealed_id` is the part as it was asked for, by which
    # looks are counted, `content` the hash of its rows, `released` (after the gate) the metrics that were shown
    "looks": (
        ("look_id", "varchar"),
        ("dataset_id", "varchar"),
        ("deployment", "varchar"),
        ("candidate", "varchar"),
        ("sha256", "varchar"),
        ("who", "varchar"),
        ("looked_at", "timestamptz"),
        ("sealed_id", "varchar"),
        ("content", "varchar"),
        ("released", "json"),
    ),
    "verdicts": (
        ("look_id", "varchar"),
        ("deployment", "varchar"),
        ("candidate", "varchar"),
        ("sha256", "varchar"),
        ("champion", "varchar"),
        ("passed", "boolean"),
        ("metrics", "json"),
        ("report", "varchar"),
        ("decided_at", "timestamptz"),
    ),
    # one rollout of a deployment that succeeded; `settings` is the digest of how it is served and rolled out
    "deployments": (
        ("deployment_id", "varchar"),
        ("deployment", "varchar"),
        ("reference", "varchar"),
        ("sha256", "varchar"),
        ("look_id", "varchar"),
        ("settings", "varchar"),
        ("git_commit", "varchar"),
        ("who", "varchar"),
        ("deployed_at", "timestamptz"),
    ),
    # one model made a SQL function; the last row of a function is what it is now. `arguments` are [name, type] in
    # order, or {arguments, returns} where the function gives several numbers
    "publications": (
        ("publication_id", "varchar"),
        ("schema_name", "varchar"),
        ("function_name", "varchar"),
        ("arguments", "json"),
        ("reference", "varchar"),
        ("sha256", "varchar"),
        ("who", "varchar"),
        ("published_at", "timestamptz"),
    ),
    # one run of batch scoring; the rows it wrote carry its id
    "batches": (
        ("batch_id", "varchar"),
        ("reference", "varchar"),
        ("sha256", "varchar"),
        ("relation", "varchar"),
        ("condition", "varchar"),
        ("output", "varchar"),
        ("in_warehouse", "boolean"),
        ("row_count", "bigint"),
        ("seconds", "double"),
        ("who", "varchar"),
        ("scored_at", "timestamptz"),
    ),
    # one row of a request that was answered; `answer` is what was told where that is more than the score
    "predictions": (
        ("prediction_id", "varchar"),
        ("at", "timestamptz"),
        ("deployment", "varchar"),
        ("model", "varchar"),
        ("sha256", "varchar"),
        ("key", "varchar"),
        ("row", "json"),
        ("score", "double"),
        ("latency_us", "double"),
        ("answer", "json"),
    ),
}


def relation(table: str) -> Relation:
    """Where a ledger table lives."""
    return Relation(SCHEMA, table)
