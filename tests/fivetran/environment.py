"""Where the tests find an environment with Fivetran's SDK: `make` builds it."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
PYTHON = ROOT / ".venv-fivetran" / "bin" / "python"
CONNECTORS = Path(__file__).parent
