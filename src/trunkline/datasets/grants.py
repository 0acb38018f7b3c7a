"""What an administrator of Snowflake runs so that a training role never sees the rows of a test part. Pure text.

A row access policy on the dbt model's table hides the rows for which the split's own condition holds, from every role
that does not have the vault's role. The role that builds (dbt's, and Trunkline's) has it; the role of those who train
has not.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from trunkline.datasets.source import Source

SCHEMA = "TRUNKLINE_VAULT"
_TYPES = {
    "BIGINT": "number",
    "BOOLEAN": "boolean",
    "DATE": "date",
    "DOUBLE": "float",
    "TIMESTAMP": "timestamp_ntz",
    "TIMESTAMP WITH TIME ZONE": "timestamp_tz",
    "VARCHAR": "varchar",
}


@dataclass(frozen=True)
class Roles:
    """`builder` is the target's role, in `database`; `trainer` is to train; `opener` alone sees test rows."""

    database: str
    builder: str
    trainer: str = "TRUNKLINE_TRAINING"
    opener: str = "TRUNKLINE_VAULT"


def grants(source: Source, roles: Roles) -> str:
    """The SQL, with comments, for a dataset whose split has its conditions (`splits.parted`)."""
    schema, table = (source.quote(name) for name in source.config["table"])
    database, builder, trainer, opener = (
        source.quote(name) for name in (roles.database, roles.builder, roles.trainer, roles.opener)
    )
    relation = f"{database}.{schema}.{table}"
    vault = f"{database}.{source.quote(SCHEMA)}"
    policy = f"{vault}.{source.quote(_policy_name(source))}"
    columns = _columns(source)
    listed = ", ".join(source.quote(name) for name in columns)
    typed = ", ".join(f"{source.quote(name)} {_type(source, name)}" for name in columns)
    return f"""\
-- The test rows of dataset {_plain(source.config["name"])}, hidden from {trainer}. Run as SECURITYADMIN and owner of
-- {database}, once.
create role if not exists {opener};
create role if not exists {trainer};
grant role {opener} to role {builder};
create schema if not exists {vault} with managed access;
grant usage on database {database} to role {trainer};
grant usage on schema {database}.{schema} to role {trainer};
grant select on table {relation} to role {trainer};
grant usage on schema {vault} to role {builder};
-- {trainer} gets nothing else: raw tables, other dbt models and Trunkline's own schema hold test rows too.
create or replace row access policy {policy} as ({typed}) returns boolean ->
  not coalesce({source.conditions["test"]}, false) or is_role_in_session({_literal(roles.opener)});
alter table {relation} drop all row access policies;
alter table {relation} add row access policy {policy} on ({listed});
grant apply on row access policy {policy} to role {builder};
-- dbt makes the table anew, without its policies. Have it set this one each time, in the model's config:
--   post_hook=["alter table {{{{ this }}}} drop all row access policies",
--              "alter table {{{{ this }}}} add row access policy {_in_hook(policy)} on ({_in_hook(listed)})"]
"""


def _policy_name(source: Source) -> str:
    return re.sub(r"\W+", "_", f"{source.config['name']}_test").upper()


def _columns(source: Source) -> tuple[str, ...]:
    """The columns that the split's condition reads."""
    split = source.config["split"]
    match split["by"]:
        case "time" | "rolling":
            return (str(source.time),)
        case "group":
            return (str(split["column"]),)
        case "key":
            return (source.key,)
        case _:
            return tuple(dict.fromkeys((str(split["stratify"] or source.target), source.key)))


def _type(source: Source, name: str) -> str:
    """The column's type as Snowflake's policies want it: that of the table, which for a zoned time may be ltz."""
    type_ = dict(source.schema)[name].upper()
    return _TYPES.get(type_, type_.lower().replace("decimal", "number"))


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _in_hook(sql: str) -> str:
    return sql.replace('"', '\\"')


def _plain(text: str) -> str:
    return " ".join(text.split())
