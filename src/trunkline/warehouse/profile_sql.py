"""What a dbt-duckdb profile says as SQL: its secrets and attachments, spelt as dbt-duckdb spells them. Text only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trunkline.errors import EngineError
from trunkline.warehouse.load_sql import literal, quote

_BARE = ("type", "provider")  # of a secret's parameters, these are words and not texts
_KNOWN_AS = {"postgres": "postgres_scanner", "sqlite": "sqlite_scanner", "mysql": "mysql_scanner"}


def secrets(settings: Mapping[str, Any]) -> list[str]:
    """CREATE SECRET for each of the profile's `secrets`. One without a name has the name dbt-duckdb gives it."""
    listed = settings.get("secrets") or []
    if settings.get("use_credential_provider") == "aws":
        listed = [*listed, {"type": "s3", "provider": "credential_chain"}]
    for number, item in enumerate(listed, start=1):
        if not isinstance(item, Mapping) or not item.get("type"):
            raise EngineError(f"secret {number} of the profile has no `type`", hint="see `secrets:` in profiles.yml")
    return [secret(item, f"_dbt_secret_{number}") for number, item in enumerate(listed, start=1)]


def secret(secret: Mapping[str, Any], name: str) -> str:
    """CREATE SECRET. `name` is for one that says none."""
    parameters = {
        key: value for key, value in secret.items() if key not in ("name", "persistent") and value is not None
    }
    listed = ", ".join(f"{key} {_parameter(str(key), value)}" for key, value in parameters.items())
    kept = "persistent " if secret.get("persistent") else ""
    return f"create or replace {kept}secret {quote(str(secret.get('name') or name))} ({listed})"


def extension_for(url: str) -> str:
    """The extension that reads files behind such a URL."""
    return "azure" if url.startswith(("az://", "azure://", "abfss://")) else "httpfs"


def _parameter(key: str, value: Any) -> str:
    if key in _BARE:
        return quote(str(value))
    if isinstance(value, Mapping):
        pairs = ", ".join(f"{literal(str(name))}: {literal(str(item))}" for name, item in value.items())
        return f"map {{{pairs}}}"
    if isinstance(value, list):
        return f"[{', '.join(literal(str(item)) for item in value)}]"
    return option(value) if isinstance(value, bool) else literal(str(value))


def attach(attachment: Mapping[str, Any], alias: str, *more: str) -> str:
    """ATTACH for one of the profile's attachments, with `more` options."""
    options = [
        f"{key} {option(value)}" for key, value in (attachment.get("options") or {}).items() if value is not None
    ]
    if attachment.get("secret"):
        options.insert(0, f"secret {quote(str(attachment['secret']))}")
    if attachment.get("type"):
        options.insert(0, f"type {attachment['type']}")
    if attachment.get("read_only"):
        options.append("read_only")
    options += more
    rendered = f" ({', '.join(options)})" if options else ""
    return f"attach if not exists {literal(str(attachment['path']))} as {quote(alias)}{rendered}"


def option(value: Any) -> str:
    """A setting's value."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else literal(str(value))


def extension_package(name: str) -> str:
    """The name under which an extension is packaged: `postgres` is DuckDB's short word for `postgres_scanner`."""
    return _KNOWN_AS.get(name.lower(), name)
