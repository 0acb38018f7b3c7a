"""Model references as text: parse them, check names, say what there is instead. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from trunkline.errors import EngineError, ModelReferenceError, did_you_mean
from trunkline.project.declare import MODEL_NAME

FORMS = "write models:/NAME/VERSION or models:/NAME@ALIAS, as in models:/delay/7 or models:/delay@champion"

# Narrower than what MLflow takes: these names become folder names, tags and words of a command line.
_ALIAS = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_VERSION = re.compile(r"[1-9][0-9]{0,8}")
_LOOKS_LIKE_VERSION = re.compile(r"v[0-9]+", re.IGNORECASE)
_SHOWN = 10

FILES_TAG = "trunkline.files"
"""The tag of a version with the sha256 of each of its files, as JSON."""

_SETTLED = ("sha256", FILES_TAG)


@dataclass(frozen=True)
class Reference:
    """A parsed reference: exactly one of `version` and `alias` is there."""

    name: str
    version: int | None = None
    alias: str | None = None

    def __str__(self) -> str:
        return version_uri(self.name, self.version) if self.version else f"models:/{self.name}@{self.alias}"


def version_uri(name: str, version: int) -> str:
    """The reference of one version.

    >>> version_uri("delay", 7)
    'models:/delay/7'
    """
    return f"models:/{name}/{version}"


def parse_reference(text: str) -> Reference:
    """The reference that `text` spells. Raises `ModelReferenceError`, which shows the two forms.

    >>> parse_reference("models:/delay@champion")
    Reference(name='delay', version=None, alias='champion')
    """
    body = text.removeprefix("models:/")
    if body == text:
        raise ModelReferenceError(f"{text!r} is not a model reference", hint=FORMS)
    name, mark, rest = body.partition("@") if "@" in body else body.partition("/")
    if mark == "@" and _is_alias(rest) and MODEL_NAME.fullmatch(name):
        return Reference(name, alias=rest)
    if mark == "/" and _VERSION.fullmatch(rest) and MODEL_NAME.fullmatch(name):
        return Reference(name, version=int(rest))
    raise ModelReferenceError(f"{text!r} is not a model reference", hint=FORMS)


def check_model_name(name: str) -> None:
    """Raise `ModelReferenceError` unless `name` can name a model."""
    if not MODEL_NAME.fullmatch(name):
        raise ModelReferenceError(
            f"{name!r} cannot name a model", hint="use letters, digits, '_' and '-', and do not begin with '-'"
        )


def check_alias(alias: str) -> None:
    """Raise `ModelReferenceError` unless `alias` can be one: a name that is not `latest` nor looks like a version."""
    if not _is_alias(alias):
        raise ModelReferenceError(
            f"{alias!r} cannot be an alias",
            hint="use letters, digits, '_', '-' and '.', and neither 'latest' nor 'v' with a number",
        )


def check_tags(tags: Mapping[str, str]) -> None:
    """Raise `EngineError` for a tag that says what a bundle is: it was settled when the version was registered."""
    for name in _SETTLED:
        if name in tags:
            raise EngineError(f"the tag {name!r} of a version cannot change: it says which bundle that is")


def unknown_model(name: str, known: Iterable[str]) -> ModelReferenceError:
    """The error for a name that the registry lacks."""
    names = sorted(known)
    hint = f"there are: {_some(names)}" if names else "the registry is empty: train a model first (trunkline train)"
    return ModelReferenceError(f"there is no model {name!r}.{did_you_mean(name, names)}", hint=hint)


def unknown_version(name: str, version: int, known: Sequence[int]) -> ModelReferenceError:
    """The error for a version that the model lacks. `known` ascends."""
    has = f"its versions are: {_some([str(number) for number in known])}" if known else "it has no version yet"
    return ModelReferenceError(f"model {name!r} has no version {version}; {has}", hint=FORMS)


def unknown_alias(name: str, alias: str, aliases: Iterable[str], versions: Sequence[int]) -> ModelReferenceError:
    """The error for an alias that the model lacks. `versions` ascends."""
    names = sorted(aliases)
    has = f"its aliases are: {_some(names)}" if names else "it has no alias yet"
    there = f"; its versions are: {_some([str(number) for number in versions])}" if versions else ""
    return ModelReferenceError(f"model {name!r} has no alias {alias!r}; {has}{there}.{did_you_mean(alias, names)}")


def _is_alias(text: str) -> bool:
    return bool(_ALIAS.fullmatch(text)) and text.lower() != "latest" and not _LOOKS_LIKE_VERSION.fullmatch(text)


def _some(words: Sequence[str]) -> str:
    if len(words) <= _SHOWN:
        return ", ".join(words)
    return f"{', '.join(words[:3])}, …, {', '.join(words[-5:])} ({len(words)} in all)"
