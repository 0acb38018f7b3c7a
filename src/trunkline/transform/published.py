"""Published models on dbt's DuckDB connections: the code of what `trunkline functions publish` made on another."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trunkline.errors import IntegrityError
from trunkline.ledger.schema import SCHEMA
from trunkline.models.place import bundle_folder
from trunkline.warehouse.arrow_functions import Code, give
from trunkline.warehouse.load_sql import literal, quote

if TYPE_CHECKING:
    from trunkline.models.runtime import Scorer

__all__ = ["recall"]


def recall(connection: Any, cursor: Any, project: Path, database: str) -> None:
    """Register the Arrow function behind each published model that the ledger in `database` knows.

    `cursor` reads the ledger. The functions go to its `connection`: those of a cursor are freed with it, while they
    can still be called from others. No bundle is read before its function is called.
    """
    mine = f"lower(database_name) = {literal(database.lower())} and schema_name = '{SCHEMA}'"
    known = f"select count(*) from duckdb_tables() where {mine} and table_name = 'publications'"
    if not cursor.execute(known).fetchall()[0][0]:
        return
    rows = cursor.execute(
        f"select schema_name, function_name, arguments, reference, sha256 from {quote(database)}.{SCHEMA}.publications "
        "qualify row_number() over (partition by schema_name, function_name order by publication_id desc) = 1"
    ).fetchall()
    # a database file that Trunkline has open too has its functions already
    there = {name for (name,) in cursor.execute("select function_name from duckdb_functions()").fetchall()}
    for schema, function, arguments, reference, sha256 in rows:
        if (name := f"__py_{schema}.{function}") not in there:
            _register(connection, name, json.loads(arguments), _opener(project, reference, sha256))


def _register(connection: Any, name: str, arguments: list[list[str]], scorer: Callable[[], Scorer]) -> None:
    from trunkline.models.function import RETURNS, over_arrow

    call = over_arrow([argument for argument, _ in arguments], scorer)
    give(connection, Code(name, call, [type_ for _, type_ in arguments], RETURNS))


def _opener(project: Path, reference: str, sha256: str) -> Callable[[], Scorer]:
    def opened() -> Scorer:
        from trunkline.models.bundle import Bundle
        from trunkline.models.runtime import Scorer

        place = bundle_folder(project / ".trunkline", sha256)
        if not place.is_dir():
            raise IntegrityError(f"{reference} is not in this checkout: `trunkline functions publish {reference}`")
        return Scorer(Bundle.open(place, expect_sha256=sha256))

    return opened
