"""From a dbt-snowflake profile to the connector's arguments: the same keys, the same ways to log in."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trunkline.errors import ProjectError

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
_NETWORK_SECONDS = 300


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
        "login_timeout": int(settings.get("connect_timeout") or 60),
        "network_timeout": int(settings.get("network_timeout") or _NETWORK_SECONDS),
    }


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
    import base64

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
