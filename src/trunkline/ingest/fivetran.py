"""The `fivetran` connector: a `connector.py` of Fivetran's Connector SDK, or a connection that Fivetran runs."""

from __future__ import annotations

import re
from collections.abc import Callable

from trunkline.errors import ProjectError
from trunkline.ingest.protocol import Reach, Source, Table
from trunkline.project.redact import redact

_INTEGERS = {"TINYINT": 3, "SMALLINT": 5, "INTEGER": 10, "BIGINT": 19, "HUGEINT": 39}
_EXACT_AS_DOUBLE = ("TINYINT", "SMALLINT", "INTEGER", "FLOAT")
_DECIMAL = re.compile(r"DECIMAL\((\d+),\s*(\d+)\)")
_TIMES = ("DATE", "TIMESTAMP", "TIMESTAMP WITH TIME ZONE")


def open_fivetran(reach: Reach) -> Source:
    """The source that the options name. Raises `ProjectError` where the tables of a source do not agree on it."""
    options = reach.tables[0].options
    for name in ("sdk", "connection", "configuration", "python", "api_key", "api_secret", "api_url"):
        if any(table.options[name] != options[name] for table in reach.tables):
            raise ProjectError(
                f"the tables of {reach.name} have more than one `{name}`: all of a source are read in one go",
                hint=f"say `{name}` once, in the `config` of the source",
            )
    if options["sdk"]:
        from trunkline.ingest.fivetran_sdk import Sdk

        return Sdk(reach)
    from trunkline.ingest.fivetran_managed import Managed

    return Managed(reach)


def contract_types(reach: Reach, table: Table) -> dict[str, str]:
    """The contract's types in their canonical spelling, by the name the source has for the column, in lower case."""
    columns = table.contract.columns
    listed = ", ".join(f"null::{column.type} as c{i}" for i, column in enumerate(columns))
    described = reach.reader().describe(f"select {listed}")
    return {column.source_name.lower(): type_ for column, (_, type_) in zip(columns, described, strict=True)}


def fits(given: str, held: str) -> bool:
    """Whether every value of one canonical type has a place in another.

    >>> fits("INTEGER", "BIGINT"), fits("VARCHAR", "DATE"), fits("DECIMAL(15,2)", "DECIMAL(18,3)")
    (True, False, True)
    """
    if given == held or held == "VARCHAR":
        return True
    if given in _TIMES and held in _TIMES:
        return _TIMES.index(given) < _TIMES.index(held)
    if held == "DOUBLE":
        return given in _EXACT_AS_DOUBLE
    if given in _INTEGERS and held in _INTEGERS:
        return _INTEGERS[given] <= _INTEGERS[held]
    sizes = [_DECIMAL.fullmatch(type_) for type_ in (given, held)]
    if sizes[1] is None or (sizes[0] is None and given not in _INTEGERS):
        return False
    whole, fraction = (int(sizes[0][1]) - int(sizes[0][2]), int(sizes[0][2])) if sizes[0] else (_INTEGERS[given], 0)
    return int(sizes[1][2]) >= fraction and int(sizes[1][1]) - int(sizes[1][2]) >= whole


def cleaner(secrets: list[str]) -> Callable[[str], str]:
    """A function that takes these secrets, and what looks like a password, out of a text."""
    return lambda text: redact(text, {"secret": secrets})
