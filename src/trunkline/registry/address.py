"""Addresses of registries: what of them may be shown, and what of them is a login. Pure."""

from __future__ import annotations

import re
from urllib.parse import unquote, urlsplit, urlunsplit

from trunkline.errors import ProjectError

__all__ = ["login", "scrubbed", "shown"]

# To the last @: who wrote no %2F for a '/' of a password, nor %40 for an '@', still has no part of it shown.
_USERINFO = re.compile(r"(?<=://)(?:[^:/?#\s]*:\S*|[^/?#\s]*)@")
_SECRET_OPTION = re.compile(
    r"""(?<![^\s?&;"'])((?:password|passwd|pwd|token|secret|sslpassword)=)([^&\s]*)""", re.IGNORECASE
)


def shown(uri: str) -> str:
    """`uri` without who logs in and with what.

    >>> shown("https://ann:secret@mlflow.example/team")
    'https://mlflow.example/team'
    """
    return _USERINFO.sub("", _SECRET_OPTION.sub(r"\1***", uri))


def login(uri: str) -> tuple[str, str, str]:
    """An `http(s)` address without its login, the user and the password (empty if it has none). Others as they are.

    Raises `ProjectError` for one that cannot be read.

    >>> login("https://ann:s%40fe@mlflow.example")
    ('https://mlflow.example', 'ann', 's@fe')
    """
    if not uri.lower().startswith(("http://", "https://")):
        return uri, "", ""
    try:
        parts = urlsplit(uri)
        _ = parts.port
    except ValueError:
        hint = "https://HOST:PORT; '/', '?', '#' and '@' of a password are written %2F, %3F, %23 and %40"
        raise ProjectError(f"{shown(uri)!r} is no address of a server", hint=hint) from None  # it says a part of it
    userinfo, _, host = parts.netloc.rpartition("@")
    user, _, password = userinfo.partition(":")
    return urlunsplit(parts._replace(netloc=host)), unquote(user), unquote(password)


def scrubbed(text: str, uri: str) -> str:
    """`text`, as an engine said it, without the login of any address in it, nor the password of `uri`."""
    for secret in sorted(_secrets(uri), key=len, reverse=True):
        text = text.replace(secret, "***")
    return shown(text)


def _secrets(uri: str) -> set[str]:
    """What of `uri` lets one in, as it is written, as it is meant, and as SQLAlchemy reads it: to the first `@`."""
    found = {option[2] for option in _SECRET_OPTION.finditer(uri)}
    if userinfo := _USERINFO.search(uri):
        user, mark, password = userinfo[0].removesuffix("@").partition(":")
        token = user if uri.startswith("http") else ""
        found |= {password, password.partition("@")[0]} if mark else {token}
    return (found | set(map(unquote, found))) - {""}
