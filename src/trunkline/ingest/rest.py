"""The `rest` connector: an HTTP API declared in sources.yml. dlt's `rest_api` reads it, over a session of ours."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from trunkline.ingest import streams
from trunkline.ingest.dlt import require_dlt, same_for_all
from trunkline.ingest.protocol import Batch, Reach, Since, Table

_DISPOSITIONS = {"append": "append", "merge": "merge", "replace": "replace", "replace-when-changed": "replace"}


class Rest:
    """All tables that are filled from one API: read in one go with one state, as one may ask for what another gave."""

    exclusive = False

    def __init__(self, reach: Reach) -> None:
        self._reach = reach
        self.notes: list[str] = []

    def batches(self, since: Since) -> Iterator[Batch]:
        """What the endpoints answer; the cursor is dlt's own state."""
        require_dlt()
        from trunkline.ingest.dlt_extract import Extraction
        from trunkline.ingest.dlt_hints import ordered
        from trunkline.ingest.dlt_rest import Api

        same_for_all(self._reach, "client", "requests_per_second", "retries", "timeout")
        tables = {name_of(table): table for table in self._reach.tables}
        secret = self._reach.secret
        api = Api(
            self._reach,
            secret(self._reach.tables[0].options["client"]),
            [secret(resource(table)) for table in tables.values()],
        )
        extraction = Extraction(self._reach, tables, streams.last_state(since), api.source)
        self.notes = extraction.notes
        try:
            batches = streams.batches(self._reach, since, extraction.events, interrupt=api.stop)
            yield from ordered(batches, extraction.orders)
        finally:
            api.close()


def name_of(table: Table) -> str:
    """What dlt calls the table's resource, and other endpoints in `{resources.NAME.column}`."""
    return str(table.options["resource"].get("name") or table.name)


def resource(table: Table) -> dict[str, Any]:
    """A table as dlt's `rest_api` wants it: as declared, with the table's name as path, and its key."""
    declared = table.options["endpoint"]
    endpoint = {"path": declared} if isinstance(declared, str) else dict(declared)
    endpoint["path"] = endpoint.get("path") or table.name
    key = {"primary_key": [_source_name(table, name) for name in table.contract.key]} if table.contract.key else {}
    return {
        **key,
        **table.options["resource"],
        "name": name_of(table),
        "write_disposition": _DISPOSITIONS[table.load],
        "endpoint": endpoint,
    }


def _source_name(table: Table, name: str) -> str:
    return next((c.source_name for c in table.contract.columns if c.name.lower() == name.lower()), name)
