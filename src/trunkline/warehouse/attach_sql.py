"""How DuckDB attaches a source's database, told from a URL or a connection string. Text only."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote, urlsplit
from urllib.parse import quote as encoded

from trunkline.errors import SourceError
from trunkline.warehouse.load_sql import literal, quote

EXTENSIONS = {"postgres": "postgres_scanner", "mysql": "mysql_scanner", "sqlite": "sqlite_scanner"}

_SCHEMES = {"postgres": ("postgres", "postgresql"), "mysql": ("mysql", "mariadb"), "sqlite": ("sqlite",)}
_PASSWORD = re.compile(r"(?i)\b(?:password|passwd|sslpassword)\s*=\s*(?:'((?:[^'\\]|\\.)*)'|([^\s']+))")


@dataclass(frozen=True)
class Attachment:
    """The statements that attach and detach a database. `secrets` are the texts that no message may show; `file` is
    where a SQLite database lies."""

    kind: str
    name: str
    attach: str = field(repr=False)
    before: tuple[str, ...] = field(default=(), repr=False)
    after: tuple[str, ...] = ()
    secrets: tuple[str, ...] = field(default=(), repr=False)
    file: str = ""


def attachment(kind: str, dsn: str, name: str) -> Attachment:
    """The database at `dsn` as `name`, read-only. Raises `SourceError` for a kind or a URL that is not known."""
    if kind not in EXTENSIONS:
        raise SourceError(f"DuckDB reads no databases of kind {kind!r}", hint=f"kinds: {', '.join(EXTENSIONS)}")
    scheme, _, rest = dsn.partition("://") if "://" in dsn.partition("=")[0] else ("", "", dsn)
    if scheme and scheme.partition("+")[0].lower() not in _SCHEMES[kind]:
        raise SourceError(f"a URL that begins with {scheme}:// is none of {kind}", hint=f"say {kind}://…")
    rest = _encoded(rest) if scheme else rest
    how, detach = f"as {quote(name)} (type {kind}, read_only", (f"detach database if exists {quote(name)}",)
    hidden = tuple(_passwords(dsn))
    if kind == "sqlite":
        path = unquote(rest.partition("?")[0]).removeprefix("/") if scheme else dsn  # sqlite:///relative, ////absolute
        return Attachment(kind, name, f"attach {literal(path)} {how})", after=detach, secrets=hidden, file=path)
    if kind == "mysql" and scheme:
        secret = quote(f"{name}_secret")
        given = ", ".join(f"{key} {literal(value)}" for key, value in _mysql(f"mysql://{rest}").items())
        return Attachment(
            kind,
            name,
            f"attach '' {how}, secret {secret})",
            (  # a TIMESTAMP is a moment, told in the session's time zone: of two alike as summer ends one is lost
                "set mysql_session_time_zone = '+00:00'",
                f"create temporary secret {secret} (type mysql, {given})",
            ),
            (*detach, f"drop temporary secret if exists {secret}"),
            hidden,
        )
    target = f"postgresql://{rest}" if scheme else dsn
    return Attachment(kind, name, f"attach {literal(target)} {how})", after=detach, secrets=hidden)


def _encoded(rest: str) -> str:
    """What follows `://`, with a password that is as it should be in a URL even if the user wrote it as it is."""
    login, at, where = rest.rpartition("@")
    user, colon, password = login.partition(":")
    return f"{user}{colon}{encoded(unquote(password), safe='')}{at}{where}"


def _mysql(url: str) -> dict[str, str]:
    """A MySQL URL as what CREATE SECRET takes: the extension's own strings cannot hold every password."""
    parts = urlsplit(url)
    found = {
        "host": parts.hostname or "localhost",
        "port": str(parts.port or 3306),
        "user": unquote(parts.username or ""),
        "password": unquote(parts.password or ""),
        "database": unquote(parts.path.lstrip("/")),
    }
    options = {key.replace("-", "_"): value for key, value in parse_qsl(parts.query)}
    found |= {key: value for key, value in options.items() if key.startswith("ssl_") or key == "socket"}
    return {key: value for key, value in found.items() if value}


def _passwords(dsn: str) -> list[str]:
    """What in it is a password, as it is written and as it is meant."""
    found = [one or other for one, other in _PASSWORD.findall(dsn)]
    if "://" in dsn:
        # not urlsplit: a password with a slash or a # in it must be hidden as well
        login = dsn.partition("://")[2].rpartition("@")[0]
        found += [login.partition(":")[2]] if ":" in login else []
        found += [value for key, value in parse_qsl(dsn.partition("?")[2]) if "pass" in key.lower()]
    return [text for word in found if word for text in {word, unquote(word), encoded(unquote(word), safe="")}]
