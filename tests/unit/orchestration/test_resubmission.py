"""Exported files that somebody mended, read back."""

from __future__ import annotations

from pathlib import Path

import pytest

from trunkline.errors import UserError
from trunkline.orchestration.resubmission import read_mended


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("a.ndjson", '{"order_id": "1"}\n', "row 1 has no _quarantine_id"),
        ("a.ndjson", '{"_quarantine_id": "a"}\n\n{"_quarantine_id": "a"}\n', "_quarantine_id a is there twice"),
        ("a.ndjson", '{"_quarantine_id": "a"}\nno json\n', "a.ndjson:2: not JSON"),
        ("a.ndjson", "[1]\n", "a.ndjson:1: not a JSON object"),
        ("a.csv", "_quarantine_id,a\nx,1,2\n", "a.csv:2: a row with more cells"),
        ("a.csv", "a\n1\n", "row 1 has no _quarantine_id"),
        ("a.xlsx", "", "the suffix is none of"),
    ],
)
def test_a_file_that_was_mended_wrongly_is_refused(tmp_path: Path, name: str, text: str, says: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError) as refused:
        read_mended(tmp_path / name)
    assert says in str(refused.value)


def test_a_spreadsheet_marks_the_beginning_and_leaves_empty_cells(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("_quarantine_id,_errors,a,b\nq1,why,,x\n", encoding="utf-8-sig")
    assert read_mended(tmp_path / "a.csv") == {"q1": {"a": None, "b": "x"}}


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no file"):
        read_mended(tmp_path / "a.csv")
