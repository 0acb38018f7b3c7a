"""From a dbt-snowflake profile to the connector's arguments: the same keys, the same ways to log in."""

from __future__ import annotations

import base64
import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trunkline.errors import EngineError, ProjectError, TransientError

_SAME = (
    "account",
    "user",
    "password",
    "role",
    "warehouse",
    "database",
    "host",
    "port",
    "protocol",
    "proxy_host",
    "proxy_port",
    "authenticator",
    "token",
    "client_session_keep_alive",
    "workload_identity_provider",
    "workload_identity_entra_resource",
    "oauth_client_id",
    "oauth_client_secret",
)
# Every session alike, whatever the account's defaults: times are UTC, waits for a lock end.
_SESSION = {
    "TIMEZONE": "UTC",
    "TIMESTAMP_TYPE_MAPPING": "TIMESTAMP_NTZ",
    "DATE_INPUT_FORMAT": "AUTO",
    "TIMESTAMP_INPUT_FORMAT": "AUTO",
    "TIME_INPUT_FORMAT": "AUTO",
    "QUOTED_IDENTIFIERS_IGNORE_CASE": False,
    "LOCK_TIMEOUT": 600,
}
_LOGIN_SECONDS, _NETWORK_SECONDS = 60, 300


def arguments(settings: Mapping[str, Any], root: Path) -> dict[str, Any]:
    """What `snowflake.connector.connect` is called with. Raises `ProjectError` for a profile that cannot log in."""
    missing = [name for name in ("account", "database") if not settings.get(name)]
    if missing:
        raise ProjectError(
            f"the Snowflake target has no `{missing[0]}`", hint="set it in profiles.yml, see docs/snowflake.md"
        )
    found = {name: settings[name] for name in _SAME if settings.get(name) not in (None, "")}
    found["account"] = str(found["account"]).replace("_", "-")
    if settings.get("authenticator") == "jwt":  # dbt's name for a token from elsewhere
        found["authenticator"] = "oauth"
    if found.get("authenticator") == "oauth" and found.get("oauth_client_id") and found.get("oauth_client_secret"):
        found["token"] = _access_token(found)
        del found["oauth_client_id"], found["oauth_client_secret"]
    key = _private_key(settings, root)
    if key is not None:
        found["private_key"] = key
    tag = {"QUERY_TAG": str(settings["query_tag"])} if settings.get("query_tag") else {}
    return {
        **found,
        "application": "Trunkline",
        "session_parameters": {**_SESSION, **tag},
        "client_store_temporary_credential": True,  # externalbrowser: one log-in lasts
        "client_request_mfa_token": True,
        "login_timeout": int(settings.get("connect_timeout") or _LOGIN_SECONDS),
        "network_timeout": int(settings.get("network_timeout") or _NETWORK_SECONDS),
    }


def _access_token(settings: Mapping[str, Any]) -> str:
    """An access token for the refresh token that `token` is when it comes with a client's id and secret, as for dbt.

    https://docs.snowflake.com/en/user-guide/oauth-custom
    """
    host = settings.get("host") or f"{settings['account']}.snowflakecomputing.com"
    place = f"{settings.get('protocol') or 'https'}://{host}:{settings.get('port') or 443}/oauth/token-request"
    form = {"grant_type": "refresh_token", "refresh_token": settings.get("token"), "redirect_uri": "http://localhost"}
    client = f"{settings['oauth_client_id']}:{settings['oauth_client_secret']}"
    header = {"Authorization": f"Basic {base64.b64encode(client.encode()).decode()}"}
    request = urllib.request.Request(place, urllib.parse.urlencode(form).encode(), header)
    hint = "authorise again for a new refresh token (`token` in profiles.yml)"
    try:
        with urllib.request.urlopen(request, timeout=_LOGIN_SECONDS) as answer:
            return str(json.load(answer)["access_token"])
    except urllib.error.HTTPError as exc:
        exc.close()
        raise EngineError(f"Snowflake gives no access token: HTTP {exc.code}", hint=hint) from exc
    except (OSError, ValueError) as exc:
        raise TransientError(f"{host} cannot be reached for an access token: {exc}", hint="run it again") from exc
    except KeyError as exc:
        raise EngineError("Snowflake gives no access token", hint=hint) from exc


def _private_key(settings: Mapping[str, Any], root: Path) -> bytes | None:
    """The key of a key pair as DER, from `private_key` (PEM, or base64 of DER) or `private_key_path`."""
    text, path = settings.get("private_key"), settings.get("private_key_path")
    if not text and not path:
        return None
    phrase = settings.get("private_key_passphrase")
    secret = str(phrase).encode() if phrase else None
    where = (root / Path(str(path)).expanduser()) if path else None
    try:
        data = where.read_bytes() if where else str(text).encode()
    except OSError as exc:
        raise ProjectError(
            f"cannot read private_key_path: {exc.strerror}", file=where, hint="see docs/snowflake.md"
        ) from exc
    return _der(data, secret, where)


def _der(data: bytes, secret: bytes | None, where: Path | None) -> bytes:
    from cryptography.hazmat.primitives import serialization

    try:
        if data.lstrip().startswith(b"-----"):
            key = serialization.load_pem_private_key(data, secret)
        else:
            key = serialization.load_der_private_key(base64.b64decode(data), secret)
    except (ValueError, TypeError) as exc:
        hint = "is private_key_passphrase right? Make one with `openssl genrsa 2048 | openssl pkcs8 -topk8 -inform PEM`"
        raise ProjectError("the private key of the Snowflake target cannot be read", file=where, hint=hint) from exc
    return key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
