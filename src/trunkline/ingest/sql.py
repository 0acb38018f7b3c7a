"""The `sql` connector: the tables of other databases, whole or what is new in them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib import import_module
from typing import TYPE_CHECKING

from trunkline.errors import SourceError
from trunkline.ingest.protocol import Batch, Known, Reach, Since

if TYPE_CHECKING:
    from trunkline.ingest.sql_dialect import Dialect

# By the scheme of the URL, without its driver: `mysql+pymysql` is `mysql`.
_DIALECTS = {
    "postgresql": "trunkline.ingest.sql_postgres:Postgres",
    "postgres": "trunkline.ingest.sql_postgres:Postgres",
    "mysql": "trunkline.ingest.sql_mysql:MySQL",
    "mariadb": "trunkline.ingest.sql_mysql:MySQL",
    "sqlite": "trunkline.ingest.sql_sqlite:SQLite",
}


class Sql:
    """A table or a query of a database.

    PostgreSQL, MySQL, MariaDB and SQLite are scanned by DuckDB, so that no row passes through Python; others come as
    Arrow through ADBC or dlt.
    """

    exclusive = False

    def __init__(self, reach: Reach) -> None:
        self._reach = reach

    def batches(self, since: Since) -> Iterator[Batch]:
        """One batch, or with a cursor one for each window of it."""
        through = self._reach.tables[0].options["through"]
        if through == "adbc":
            from trunkline.ingest.adbc import Adbc

            return Adbc(self._reach).batches(since)
        if through == "dlt":
            from trunkline.ingest.dlt_sql import DltSql

            return DltSql(self._reach).batches(since)
        from trunkline.ingest.sql_native import Native

        return Native(self._reach, self._dialect()).batches(since)

    def known(self) -> Sequence[Known]:
        """What the database itself says of the columns."""
        through = self._reach.tables[0].options["through"]
        if through == "adbc":
            from trunkline.ingest.adbc import Adbc

            return Adbc(self._reach).known()
        if through == "dlt":
            from trunkline.ingest.dlt_sql import DltSql

            return DltSql(self._reach).known()
        from trunkline.ingest.sql_native import Native

        return Native(self._reach, self._dialect()).known()

    def _dialect(self) -> Dialect:
        dsn = str(self._reach.secret(self._reach.tables[0].options["dsn"]))
        scheme = dsn.partition("://")[0].partition("+")[0].lower() if "://" in dsn else ""
        if scheme not in _DIALECTS:
            shown = f"a URL that begins with {scheme}://" if scheme else "a `dsn` that is no URL"
            raise SourceError(
                f"{self._reach.name}: {shown} is none that DuckDB scans",
                hint="write postgresql://…, mysql://… or sqlite:///…; any other database is read with `through: adbc` "
                "and a `driver`, or with `through: dlt` and a URL of SQLAlchemy",
            )
        module, _, attribute = _DIALECTS[scheme].partition(":")
        dialect: Dialect = getattr(import_module(module), attribute)()
        return dialect
