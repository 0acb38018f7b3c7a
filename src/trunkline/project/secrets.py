"""Secrets by reference: the project's files name where a secret is, never the secret."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from trunkline.errors import ProjectError

_ENV = re.compile(r"env:([A-Za-z_][A-Za-z0-9_]*)\Z")
_PASSWORD = re.compile(r"(?i)\bpass(?:word|wd)\s*=\s*(?:'((?:[^'\\]|\\.)*)'|([^\s'&;]+))")
_ENV_VAR = re.compile(r"""\{\{\s*env_var\(\s*['"]([A-Za-z_][A-Za-z0-9_]*)['"]\s*\)\s*\}\}""")


@dataclass
class Secrets:
    """Resolves references and remembers what it gave out, so that messages can be cleaned of it. Its repr is empty."""

    root: Path
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ, repr=False)
    given: set[str] = field(default_factory=set, repr=False)

    def resolve(self, value: Any) -> Any:
        """`value` with every reference in it replaced: `env:NAME`, `file:PATH`, `{{ env_var('NAME') }}`.

        Raises `ProjectError` for one that leads nowhere.
        """
        if isinstance(value, Mapping):
            return {key: self.resolve(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.resolve(item) for item in value]
        return self._text(value) if isinstance(value, str) else value

    def _text(self, text: str) -> str:
        if found := _ENV.match(text):
            return self._variable(found[1])
        if text.startswith("file:") and not text.startswith("file://"):
            return self._keep(self._file(self.root / Path(text.removeprefix("file:")).expanduser()))
        return _ENV_VAR.sub(lambda found: self._variable(found[1]), text)

    def _variable(self, name: str) -> str:
        if name not in self.environ:
            raise ProjectError(f"environment variable {name} is not set", hint=f"export {name}=…")
        return self._keep(self.environ[name])

    @staticmethod
    def _file(path: Path) -> str:
        try:
            return path.read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as exc:
            raise ProjectError(f"cannot read the secret: {exc}", file=path) from exc

    def _keep(self, secret: str) -> str:
        if secret:
            self.given |= {secret, *_passwords(secret)}
        return secret

    def clean(self, text: str) -> str:
        """`text` without any secret that was given out, and without passwords in URLs."""
        from trunkline.project.redact import redact

        return redact(text, {"secret": sorted(self.given)})


def _passwords(text: str) -> set[str]:
    """The passwords in a URL or a connection string, as they are written and as they are meant: a driver may show one
    alone."""
    found = {one or other for one, other in _PASSWORD.findall(text)}
    login = text.partition("://")[2].rpartition("@")[0]  # not urlsplit: a password may hold a slash
    found |= {login.partition(":")[2]} if ":" in login else set()
    return {form for password in found if password for form in (password, unquote(password))}
