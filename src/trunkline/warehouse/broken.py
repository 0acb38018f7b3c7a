"""The error of a load whose policy is to fail."""

from __future__ import annotations

import json
from collections.abc import Sequence

from trunkline.errors import ContractError

_SHOWN = 5


def broken(name: str, found: int, examples: Sequence[str]) -> ContractError:
    """`found` rows of the source table `name` do not fit; `examples` are errors of the first few, as JSON arrays."""
    shown = [
        f"column {error['column']!r}: {error['value']!r} {error['reason']}" if error["column"] else error["reason"]
        for errors in examples
        for error in json.loads(errors)
    ]
    rows = "row does" if found == 1 else "rows do"
    return ContractError(
        f"{name}: {found:,} {rows} not fit the contract: {'; '.join(shown[:_SHOWN])}",
        hint="mend the data or the contract, or say `policy: quarantine` to set such rows aside",
    )
