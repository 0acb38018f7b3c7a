"""What Snowflake's refusals mean and what to do about them: each known code with its class and the SQL that mends it.

Codes: https://docs.snowflake.com/en/user-guide/client-connectivity-troubleshooting/error-messages and what the
connector's own `errorcode.py` lists.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from trunkline.errors import EngineError, TransientError

_NAMED = re.compile(r"(?:on|Object|Table|Schema|Database|Stage|View|Function)\s+(?:(\w+)\s+)?'([^']+)'", re.IGNORECASE)
_AGAIN = "run the same command again"

# (codes, whether the same call may succeed later, the hint; {role} … come from the profile, {object} from the message)
_RULES: tuple[tuple[frozenset[int], bool, str], ...] = (
    (
        frozenset({390100, 390101, 390103, 390127, 390422}),
        False,
        "check user, password and authenticator in profiles.yml",
    ),
    (
        frozenset({390144, 390145}),
        False,
        "the key pair does not fit: `alter user {user} set rsa_public_key = '…';` (private_key_path in profiles.yml)",
    ),
    (frozenset({390102, 390106}), False, "the user is locked: `alter user {user} set mins_to_unlock = 0;`"),
    (frozenset({390189, 390186}), False, "`grant role {role} to user {user};` or another `role` in profiles.yml"),
    (
        frozenset({390201, 390202, 2043, 2003}),
        False,
        "is it there? Then `grant usage on {kind} {object} to role {role};`",
    ),
    (frozenset({3001, 3041, 3003}), False, "`grant all privileges on {kind} {object} to role {role};` as its owner"),
    (
        frozenset({606, 57014606}),
        False,
        "`grant usage, operate on warehouse {warehouse} to role {role}; alter warehouse {warehouse} resume;`",
    ),
    (
        frozenset({90073, 90064, 90114, 609}),
        False,
        "the warehouse cannot run: `show warehouses like '{warehouse}'; alter warehouse {warehouse} resume;`, or raise "
        "the quota of its resource monitor",
    ),
    (
        frozenset({390110, 390111, 390112, 390114, 390115, 390195, 390303, 390318}),
        False,
        f"the token has expired: log in again (for OAuth a fresh `token` in profiles.yml), and {_AGAIN}",
    ),
    (frozenset({625, 628}), True, f"another statement holds the table: `show locks;`, then {_AGAIN}"),
    (frozenset({603}), True, f"an error inside Snowflake; {_AGAIN}, and tell its support the query id if it stays"),
    (
        frozenset({604, 630}),
        False,
        "the statement was cancelled or timed out: `alter warehouse {warehouse} set statement_timeout_in_seconds = …;`",
    ),
)
_NETWORK = frozenset({250001, 250003, 250005, 251011, 251012, 253003, 253005, 253008, 254002, 255001})


def translate(exc: BaseException, settings: Mapping[str, Any], what: str = "") -> EngineError:
    """The connector's error as ours: what Snowflake said, its code, and the SQL to run. `settings` is the profile."""
    errno = int(getattr(exc, "errno", None) or 0)
    message = _text(exc)
    text = f"{what}: {message}" if what else message
    code = f" (Snowflake {errno:06d})" if errno > 0 else ""
    if _is_network(errno):
        # not transient: the connector itself has tried for minutes, and knows which requests may be sent twice
        hint = f"is {settings.get('host') or settings.get('account')} reachable? Then {_AGAIN}"
        return EngineError(f"{text}{code}", hint=hint)
    for codes, passing, hint in _RULES:
        if errno in codes:
            return (TransientError if passing else EngineError)(f"{text}{code}", hint=_fill(hint, message, settings))
    return EngineError(f"{text}{code}")


def _is_network(errno: int) -> bool:
    return errno in _NETWORK or 290_400 <= errno < 290_600 or 580_400 <= errno < 580_600  # HTTP 4xx and 5xx


def _fill(hint: str, message: str, settings: Mapping[str, Any]) -> str:
    named = _NAMED.search(message)
    kind = next(
        (word for word in ("database", "schema", "warehouse", "stage", "view", "table") if word in message.lower()),
        "table",
    )
    values = {name: str(settings.get(name) or f"<{name}>").upper() for name in ("user", "role", "warehouse")}
    return hint.format(**values, object=named[2] if named else f"<{kind}>", kind=kind)


def _text(exc: BaseException) -> str:
    """One line, without the connector's own prefix of code, state and query id, and without values of rows."""
    text = str(getattr(exc, "raw_msg", None) or getattr(exc, "msg", None) or exc)
    text = re.sub(r"Row Values: \[.*\]", "Row Values: […]", text, flags=re.DOTALL)
    text = re.sub(r"^\d{6} \(\w{5}\): (\d{6} \(\w{5}\): )?([0-9a-f-]{36}: )?", "", text.strip())
    return " ".join(text.split()) or type(exc).__name__
