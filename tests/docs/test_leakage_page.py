"""The page about leakage says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

from trunkline.datasets.probes import PROBES
from trunkline.project.ml import declarations
from trunkline.project.probes import DEFAULTS, settings

PAGE = (Path(__file__).parent.parent.parent / "docs" / "leakage.md").read_text("utf-8")


def test_the_example_is_a_dataset(tmp_path: Path) -> None:
    (python,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "ml").mkdir()
    (tmp_path / "ml" / "flights.py").write_text(python)
    (declared,) = declarations(tmp_path)
    found = settings(declared.data["probes"])
    assert (found["single_feature"].outcome, found["adversarial"].at_most) == ("fail", 0.8)
    assert (found["after_prediction"].ignore, found["shared_keys"].outcome) == (("scheduled_arrival",), "off")


def test_the_table_has_each_probe_and_its_bound() -> None:
    rows = re.findall(
        r"^\| `(\w+)` \| [^|]+\? ?[^|]*\| ([\d.]+) \||^\| `(\w+)` \| Share [^|]+ \| ([\d.]+) \|", PAGE, re.M
    )
    told = {a or c: float(b or d) for a, b, c, d in rows}
    assert told == {probe: setting.at_most for probe, setting in DEFAULTS.items()}
    assert set(PROBES) == set(DEFAULTS)
