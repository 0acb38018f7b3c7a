"""The `files` connector: patterns, formats, archives."""

from __future__ import annotations

import gzip
import os
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from tests.unit.ingest.filing import Depot, depot
from trunkline.errors import ContractError, SourceError
from trunkline.ingest import files
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
        ("a.json", None, "json"),
        ("https://host/a.csv?version=1.2", None, "csv"),
    ],
)
def test_formats(name: str, declared: str | None, expected: str) -> None:
    assert format_of(name, declared) == expected


def test_an_unknown_suffix_is_refused() -> None:
    with pytest.raises(SourceError, match="the suffix tells no format"):
        format_of("a.dat", None)
    with pytest.raises(SourceError, match=".xlsx files are not read"):
        format_of("a.xlsx", "csv")


def test_archives_are_unpacked_and_cannot_lead_out(tmp_path: Path) -> None:
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w") as out:
        out.writestr("one.csv", "a\n1\n")
        out.writestr("../../evil.csv", "a\n2\n")
        out.writestr("/abs/deep.ndjson", "{}\n")
        out.writestr("folder/", "")
        out.writestr("__MACOSX/._one.csv", "junk")
    scratch = tmp_path / "scratch"
    found = readable({"a.zip": str(archive)}, scratch, None)
    assert sorted(format_ for format_, _ in found) == ["csv", "csv", "ndjson"]
    files = [Path(path).resolve() for _, path in found]
    assert len(files) == 3
    assert all(file.is_relative_to(scratch.resolve()) and file.exists() for file in files)


@pytest.mark.parametrize(
    ("content", "message"), [(b"no zip at all", "not a readable zip"), (b"PK\x05\x06" + bytes(18), "holds no files")]
)
def test_broken_archives(tmp_path: Path, content: bytes, message: str) -> None:
    archive = tmp_path / "a.csv.zip"
    archive.write_bytes(content)
    with pytest.raises(SourceError, match=message):
        readable({"a.csv.zip": str(archive)}, tmp_path / "scratch", None)


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Depot]:
    with depot(tmp_path) as made:
        yield made


def test_what_json_files_hold_is_told_by_their_beginning(here: Depot) -> None:
    here.write("d/array.json", '\ufeff[{"a":1},\n {"a":2, "b":"x"}, 3]')
    here.write("d/object.json", '{\n "a": 3\n}')
    here.write("d/lines.json.gz", gzip.compress(b'\n{"a":4}\nnot one\n{"a":5}'))
    here.write("d/none.json", "[]")
    assert here.ingest("d/*") == {"read": 7, "loaded": 5, "quarantined": 2}
    assert [a for a, _ in here.rows()] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    "text",
    ["a\tb\n1\tx;y\n", "a;b\n1;x\ty\n", "\ufeffa,b\r\n1,x\r\n", "a|b\n1|x", "a,b\r1,x\r", '"a","b\nc",b\n1,2,"x\ny"\n'],
)
def test_tables_of_every_dialect(here: Depot, text: str) -> None:
    here.write("d/x.csv", text)
    assert here.ingest("d/*") == {"read": 1, "loaded": 1, "quarantined": 0}
    ((a, b),) = here.rows()
    assert (a, b[0]) == (1, "x")


def test_a_delimiter_of_several_characters(here: Depot) -> None:
    here.write("d/x.txt", "a||b\n1||x|y\n")
    assert here.ingest("d/*", delimiter="||")["loaded"] == 1
    assert here.rows() == [(1, "x|y")]


def test_folders_as_columns(here: Depot) -> None:
    here.columns = (("a", "BIGINT"), ("day", "DATE"), ("land", "VARCHAR"))
    here.write("d/day=2025-01-01/land=De%20Es/x.csv", "a\n1\n")
    here.write("d/day=2025-01-02/land=__HIVE_DEFAULT_PARTITION__/x.ndjson", '{"a":2}\n')
    here.write("d/day=soon/land=fr/x.csv", "a\n3\n")
    assert here.ingest("d/**/x.*") == {"read": 3, "loaded": 2, "quarantined": 1}
    assert [(a, str(day), land) for a, day, land in here.rows()] == [
        (1, "2025-01-01", "De Es"),
        (2, "2025-01-02", None),
    ]


def test_dates_in_paths(here: Depot) -> None:
    for day in ("2024/12/31", "2025/01/01", "2025/02/01"):
        here.write(f"d/{day}/x-{day[:4]}.csv", f"a,b\n{day[5:7]},x\n")
    here.write("d/2025/other/x.csv", "a,b\n99,x\n")
    path = "d/{date:%Y/%m/%d}/x-*.csv"
    assert here.ingest(path, since="2025-01-15")["loaded"] == 1
    assert here.ingest(path, since="2025-01-01")["loaded"] == 1
    assert [a for a, _ in here.rows()] == [1, 2]
    here.write("d/2025/02/30/x-1.csv", "a,b\n1,x\n")
    with pytest.raises(SourceError, match=r"d/2025/02/30/x-1.csv: the date in its name is none"):
        here.ingest(path)


def test_a_changed_file_is_merged(here: Depot) -> None:
    here.write("d/x.csv", "a,b\n1,old\n2,old\n")
    merge = {"load": "merge", "key": ["a"]}
    assert here.ingest("d/*", **merge)["loaded"] == 2
    here.write("d/x.csv", "a,b\n2,newer\n3,new\n")
    assert here.ingest("d/*", **merge)["loaded"] == 2
    assert here.ingest("d/*", **merge)["read"] == 0
    assert here.rows() == [(1, "old"), (2, "newer"), (3, "new")]


def test_files_that_vanish(here: Depot) -> None:
    first = here.write("d/x.csv", "a,b\n1,x\n")
    here.ingest("d/*")
    first.unlink()
    here.write("d/y.csv", "a,b\n2,y\n")
    assert here.ingest("d/*")["loaded"] == 1
    assert here.rows() == [(1, "x"), (2, "y")]
    here.columns = (("a", "VARCHAR"), ("b", "VARCHAR"))
    with pytest.raises(ContractError, match=r"its file d/x.csv is no longer there"):
        here.ingest("d/*")
    assert here.ingest("d/*", load="replace")["loaded"] == 1
    assert here.rows() == [("2", "y")]


def test_a_file_that_vanishes_after_the_plan(here: Depot) -> None:
    path = here.write("d/x.csv", "a,b\n1,x\n")
    job = here.job("d/*")
    path.unlink()
    with pytest.raises(SourceError, match=r"d/x.csv cannot be read any more"):
        here.run(job)


def test_a_file_that_is_still_written_is_not_loaded_by_half(here: Depot, monkeypatch: pytest.MonkeyPatch) -> None:
    path = here.write("d/x.csv", "a,b\n1,x\n")
    job = here.job("d/*")
    path.write_text("a,b\n1,x\n2,y\n")
    with pytest.raises(SourceError, match="was changed after this run began"):
        here.run(job)

    class Growing(files.Files):
        def _batch(self, *arguments: object, **more: object) -> Iterator[object]:  # type: ignore[override]
            for batch in super()._batch(*arguments, **more):  # type: ignore[arg-type]
                with path.open("a") as file:
                    file.write("3,z\n")
                yield batch

    monkeypatch.setattr(files, "Files", Growing)
    with pytest.raises(SourceError, match="was changed while it was read") as caught:
        here.ingest("d/*")
    assert "rename" in str(caught.value.hint)
    assert ("raw", "t") not in here.lake.relations()
    monkeypatch.undo()
    assert here.ingest("d/*")["loaded"] == 3


def test_files_that_have_not_settled_wait(here: Depot) -> None:
    old, _ = here.write("d/x.csv", "a,b\n1,x\n"), here.write("d/y.csv", "a,b\n2,y\n")
    hour_ago = time.time() - 3600
    os.utime(old, (hour_ago, hour_ago))
    assert here.ingest("d/*", settled="10 minutes")["loaded"] == 1
    assert here.ingest("d/*")["loaded"] == 1


def test_empty_files_wait_to_be_filled(here: Depot) -> None:
    empty = here.write("d/x.csv", "")
    with pytest.raises(SourceError, match=r"d/x.csv is empty"):
        here.ingest("d/*")
    here.write("d/y.csv", "a,b\n")
    here.write("d/z.csv.gz", gzip.compress(b""))
    assert here.ingest("d/*") == {"read": 0, "loaded": 0, "quarantined": 0}
    assert here.ledger_files() == ["d/y.csv"]
    empty.write_text("a,b\n1,x\n")
    assert here.ingest("d/*")["loaded"] == 1


def test_a_long_load_is_committed_in_parts(here: Depot, monkeypatch: pytest.MonkeyPatch) -> None:
    here.write("d/0.csv", "a,b\n0,x\n")
    here.ingest("d/*")
    for number in range(1, 6):
        here.write(f"d/{number}.csv", f"a,b\n{number},x\n")
    monkeypatch.setattr(files, "BATCH_BYTES", 16)
    assert here.ingest("d/*")["loaded"] == 5
    assert here.lake.query("select count(*) from trunkline.loads") == [(4,)]
    assert here.ingest("d/*", refresh=True)["loaded"] == 6
    assert here.lake.query("select count(distinct _load_id) from raw.t") == [(1,)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"path": "d/{date:%Y}/{date:%m}"}, "may hold one date"),
        ({"path": "d/{date:%Q}"}, "%Q in `path`"),
        ({"path": "d/{date:%m}"}, "needs a year"),
        ({"path": "d/*", "since": "2025-01-01"}, "needs a date in `path`"),
        ({"path": "d/{date:%Y}", "since": "soon"}, "Invalid isoformat"),
        ({"path": "d/*", "settled": "soon"}, "no span of time"),
        ({"path": "d/*", "unpacked_limit": "much"}, "no amount of bytes"),
        ({"path": "d/*", "storage": {"type": "s3"}}, "for stores"),
        ({"path": "s3://b/*", "storage": {"key_id": "env:K"}}, "needs a `type`"),
        ({"path": "https://h/x.csv?sig=abc"}, "a secret has no place"),
        ({"path": "file:///x.csv"}, "without file://"),
        ({"path": "d/*", "delimiter": ""}, "one to four characters"),
    ],
)
def test_options_that_cannot_be_meant(options: dict[str, object], message: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=message):
        msgspec.convert({"connector": "files", **options}, FilesOptions)
