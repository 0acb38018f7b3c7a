"""The page about estimators: its settings are sound, and its own estimator passes the conformance suite."""

from __future__ import annotations

import re
import sys
import types
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parent.parent.parent / "docs" / "estimators.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)


def _run(block: str, name: str) -> dict[str, Any]:
    """The block as a module."""
    module = types.ModuleType(name)
    sys.modules[name] = module  # dataclasses look their module up
    exec(compile(block, f"{PAGE.name}:{name}", "exec"), module.__dict__)
    return module.__dict__


(own,) = (block for block in BLOCKS if "EstimatorSuite" in block)
TestRidge = _run(own, "estimators_page")["TestRidge"]
TestRidge.__test__ = True


def test_the_settings_of_the_page_are_taken() -> None:
    for place, block in enumerate(BLOCKS):
        if block != own and "nn." not in block and "net." not in block:  # networks have a test of their own
            _run(block, f"estimators_page_{place}")
