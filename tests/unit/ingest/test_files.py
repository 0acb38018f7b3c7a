"""The `files` connector: patterns, formats, archives."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from trunkline.errors import SourceError
from trunkline.ingest.files import find, format_of, readable
from trunkline.project.connectors import FilesOptions
from trunkline.project.contracts import Column
from trunkline.project.sources import SourceTable


def _table(path: str) -> SourceTable:
    options = FilesOptions(connector="files", path=path)
    return SourceTable("s", "t", None, "raw", (Column("a", "integer", 5),), options, Path("models/s.yml"), 3, 4)


def test_patterns_find_files_in_order(tmp_path: Path) -> None:
    for name in ("b.csv", "a.csv", "c.txt"):
        (tmp_path / name).write_text("a\n1\n")
    assert [p.name for p in find(tmp_path, _table("*.csv"))] == ["a.csv", "b.csv"]


def test_a_file_that_is_not_there_is_named_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "orders.csv").write_text("a\n")
    with pytest.raises(SourceError, match=r"no file matches 'data/order\.csv'") as caught:
        find(tmp_path, _table("data/order.csv"))
    assert (str(caught.value.file), caught.value.line) == ("models/s.yml", 4)
    assert caught.value.hint == "that folder holds: orders.csv"


@pytest.mark.parametrize(
    ("name", "declared", "expected"),
    [
        ("a.csv", None, "csv"),
        ("a.CSV.gz", None, "csv"),
        ("a.tsv.zst", None, "csv"),
        ("a.jsonl", None, "ndjson"),
        ("a.parquet", None, "parquet"),
        ("a.dat", "ndjson", "ndjson"),
        ("a.csv.zip", None, "csv"),
    ],
)
def test_formats(name: str, declared: str | None, expected: str) -> None:
    assert format_of(name, declared) == expected


def test_an_unknown_suffix_is_refused() -> None:
    with pytest.raises(SourceError, match="the suffix tells no format"):
        format_of("a.xlsx", None)


def test_archives_are_unpacked_and_cannot_lead_out(tmp_path: Path) -> None:
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w") as out:
        out.writestr("one.csv", "a\n1\n")
        out.writestr("../../evil.csv", "a\n2\n")
        out.writestr("/abs/deep.ndjson", "{}\n")
        out.writestr("folder/", "")
        out.writestr("__MACOSX/._one.csv", "junk")
    scratch = tmp_path / "scratch"
    found = readable([archive], scratch, None)
    assert sorted(found) == ["csv", "ndjson"]
    files = [Path(p).resolve() for paths in found.values() for p in paths]
    assert len(files) == 3
    assert all(file.is_relative_to(scratch.resolve()) and file.exists() for file in files)


@pytest.mark.parametrize(
    ("content", "message"), [(b"no zip at all", "not a readable zip"), (b"PK\x05\x06" + bytes(18), "holds no files")]
)
def test_broken_archives(tmp_path: Path, content: bytes, message: str) -> None:
    archive = tmp_path / "a.csv.zip"
    archive.write_bytes(content)
    with pytest.raises(SourceError, match=message):
        readable([archive], tmp_path / "scratch", None)
