"""How one rule came out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["RuleResult", "Status"]

Status = Literal["pass", "fail", "undecided"]


@dataclass(frozen=True)
class RuleResult:
    """One rule: its path in the deployment's file, what was found, what was asked, and why it is so.

    `why` holds numbers and fixed words only, no text of the user's.
    """

    name: str
    value: float | None
    bound: float | None
    status: Status
    why: str
