"""The name of a table or view."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Relation:
    """A table or view. `database` None is the target's own database."""

    schema: str
    name: str
    database: str | None = None

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}"
