"""What Snowflake refuses, in our words: the class, its own text without noise, and SQL that mends it."""

from __future__ import annotations

import pytest
from snowflake.connector.errors import OperationalError, ProgrammingError

from trunkline.errors import TransientError
from trunkline.warehouse.snowflake_errors import translate

PROFILE = {"account": "acc", "user": "me", "role": "loader", "warehouse": "wh", "password": "s3cret"}


def refused(errno: int, message: str) -> ProgrammingError:
    return ProgrammingError(msg=message, errno=errno, sqlstate="42501", sfqid="01b2-query")


@pytest.mark.parametrize(
    ("errno", "message", "mends"),
    [
        (
            3001,
            "SQL access control error:\nInsufficient privileges to operate on schema 'RAW'",
            "`grant all privileges on schema RAW to role LOADER;`",
        ),
        (
            2003,
            "SQL compilation error:\nTable 'DB.RAW.T' does not exist or not authorized.",
            "`grant usage on table DB.RAW.T to role LOADER;`",
        ),
        (
            390189,
            "Role 'LOADER' specified in the connect string does not exist or not authorized.",
            "`grant role LOADER to user ME;`",
        ),
        (606, "No active warehouse selected in the current session.", "alter warehouse WH resume;"),
        (390114, "Authentication token has expired.", "log in again"),
        (390144, "JWT token is invalid.", "set rsa_public_key"),
    ],
)
def test_a_refusal_names_the_sql_to_run(errno: int, message: str, mends: str) -> None:
    error = translate(refused(errno, message), PROFILE)
    assert not isinstance(error, TransientError)
    assert error.what == f"{' '.join(message.split())} (Snowflake {errno:06d})"
    assert mends in (error.hint or "")
    assert "s3cret" not in str(error)


@pytest.mark.parametrize("errno", [625, 628, 603])
def test_what_may_pass_is_transient(errno: int) -> None:
    assert isinstance(translate(OperationalError(msg="gone", errno=errno), PROFILE), TransientError)


@pytest.mark.parametrize("errno", [250001, 250003, 290503, 253003])
def test_what_the_connector_has_tried_for_long_is_not(errno: int) -> None:
    error = translate(OperationalError(msg="gone", errno=errno), PROFILE)
    assert not isinstance(error, TransientError)
    assert error.hint == "is acc reachable? Then run the same command again"


def test_values_of_rows_are_not_repeated() -> None:
    error = translate(refused(100090, 'Duplicate row detected during DML action\nRow Values: [12345, "Ann"]'), PROFILE)
    assert "Ann" not in error.what
    assert "Duplicate row detected" in error.what
