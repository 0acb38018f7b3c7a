"""Names of files in SQL: as DuckDB must be given them, as people know them, and what their folders say. Text only."""

from __future__ import annotations

import re
from collections.abc import Iterable

from trunkline.warehouse.load_sql import literal

NO_FILE = "cast(null as varchar)"
_PARTITION = re.compile(r"/([A-Za-z_][A-Za-z0-9_ ]*)=[^/]*(?=/)")
_SCRATCH = r"^.*/\.trunkline/tmp/[^/]+/files/"


def listed(files: Iterable[str]) -> str:
    """A list of files, each just itself: DuckDB takes every name for a glob."""
    return "[" + ", ".join(literal(escaped(file)) for file in files) + "]"


def escaped(path: str) -> str:
    """A path or URL as a glob that means just this one.

    >>> escaped("s3://b/[x]*.csv")
    's3://b/[[]x][*].csv'
    """
    if path.startswith(("http://", "https://")):  # never globs
        return path
    return re.sub(r"([*?\[])", r"[\1]", path)


def shown(columns: Iterable[str], beneath: str) -> str:
    """DuckDB's own column with the file's name, unless the file has a column of that name; without the folder
    `beneath`."""
    if "filename" in (name.lower() for name in columns):
        return NO_FILE
    return f"replace(filename, {literal(beneath + '/')}, '')" if beneath else "filename"


def shown_anywhere(file: str) -> str:
    """The name of a file as people know it, where it is not known which folder it was copied to."""
    return f"regexp_replace({file}, {literal(_SCRATCH)}, '')"


def partitions(file: str) -> tuple[str, ...]:
    """The names in folders that are called `name=value`, as Hive and Spark write them."""
    return tuple(dict.fromkeys(_PARTITION.findall(file)))


def partition(name: str) -> str:
    """The value of a partition in the name of a row's file; NULL where there is none."""
    value = f"url_decode(regexp_extract(filename, {literal(f'/{re.escape(name)}=([^/]*)/')}, 1))"
    return f"nullif(nullif({value}, ''), '__HIVE_DEFAULT_PARTITION__')"
