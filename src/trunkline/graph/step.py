"""A step: one unit of work as plain data, and its fingerprint."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Step:
    """One unit of work. `name` is `kind:subject`; two steps meet only through what they leave behind.

    `needs` are steps whose output goes in: they are part of the fingerprint. `after` are steps that must have
    succeeded first (tests), without their output going in. `code` is a digest of the code that runs; `config` is
    plain data handed to the runner; `versions` are the libraries that shape the output; `where` is the user's file and
    line, for messages only. What a `polled` step reads can change without our knowing: it runs whenever it is asked
    for, and what is below it is stale only if that brought something new. `aliases` are other names it is selected by.
    """

    name: str
    kind: str
    needs: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    code: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    where: str = field(default="", compare=False)
    polled: bool = field(default=False, compare=False)
    aliases: tuple[str, ...] = field(default=(), compare=False)

    @property
    def subject(self) -> str:
        """The name without the kind."""
        return self.name.partition(":")[2]


@dataclass(frozen=True)
class Fingerprint:
    """What a step's output depends on, kept in parts so that a plan can say which one changed."""

    code: str
    config: str
    versions: Mapping[str, str]
    inputs: Mapping[str, str]

    @property
    def value(self) -> str:
        """One digest over all parts."""
        return digest(self.to_json())

    def to_json(self) -> dict[str, Any]:
        """The parts as plain data."""
        return {
            "code": self.code,
            "config": self.config,
            "versions": dict(self.versions),
            "inputs": dict(self.inputs),
        }


def digest(data: Any) -> str:
    """A digest of plain data: the same for equal data, whatever the order of its keys."""
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def fingerprint(step: Step, inputs: Mapping[str, str]) -> Fingerprint:
    """The fingerprint of `step`, given the fingerprint values of the steps it needs."""
    return Fingerprint(
        code=step.code,
        config=digest(step.config),
        versions=dict(step.versions),
        inputs={name: inputs[name] for name in step.needs},
    )
