"""Addresses of registries: what of them may be shown, and what of them is a login. Pure."""

from __future__ import annotations

import re
from urllib.parse import unquote, urlsplit, urlunsplit

__all__ = ["login", "scrubbed", "shown"]

_USERINFO = re.compile(r"(?<=://)[^/?#\s]*@")
_SECRET_OPTION = re.compile(r"((?:password|passwd|pwd|token|secret|sslpassword)=)[^&\s]*", re.IGNORECASE)


def shown(uri: str) -> str:
    """`uri` without who logs in and with what.

    >>> shown("https://ann:secret@mlflow.example/team")
    'https://mlflow.example/team'
    """
    return _SECRET_OPTION.sub(r"\1***", _USERINFO.sub("", uri))


def login(uri: str) -> tuple[str, str, str]:
    """An `http(s)` address without its login, the user and the password (empty if it has none). Others as they are.

    >>> login("https://ann:s%40fe@mlflow.example")
    ('https://mlflow.example', 'ann', 's@fe')
    """
    parts = urlsplit(uri)
    if parts.scheme not in ("http", "https") or "@" not in parts.netloc:
        return uri, "", ""
    userinfo, _, host = parts.netloc.rpartition("@")
    user, _, password = userinfo.partition(":")
    return urlunsplit(parts._replace(netloc=host)), unquote(user), unquote(password)


def scrubbed(text: str, uri: str) -> str:
    """`text`, as an engine said it, without the login of any address in it, nor the password of `uri`."""
    parts = urlsplit(uri)
    password = parts.netloc.rpartition("@")[0].partition(":")[2]
    for secret in {password, unquote(password)} - {""}:
        text = text.replace(secret, "***")
    return shown(text)
