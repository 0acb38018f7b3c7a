"""Files that mean harm, or are broken: a clear error or a row in the quarantine, and never a row less."""

from __future__ import annotations

import gzip
import os
import resource
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from tests.unit.ingest.filing import Depot, depot
from trunkline.errors import SourceError, TrunklineError
from trunkline.warehouse import headers

MIB = 1 << 20


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Depot]:
    with depot(tmp_path) as made:
        yield made


def zipped(path: Path, *members: tuple[str, bytes], mode: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members:
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = mode << 16
            archive.writestr(info, data)


def repeated(path: Path, head: bytes, piece: bytes, times: int) -> int:
    """A gzip file of `head` and many times `piece`, made without its content ever being in memory; bytes unpacked."""
    packer = zlib.compressobj(9, wbits=-15)
    body = packer.compress(head) + packer.flush(zlib.Z_FULL_FLUSH)
    again = zlib.compressobj(9, wbits=-15)
    packed = again.compress(piece) + again.flush(zlib.Z_FULL_FLUSH)  # each stands for itself: copies of it are valid
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + body)
        for _ in range(times):
            file.write(packed)
        file.write(b"\x03\x00" + struct.pack("<II", 0, 0))
    return len(head) + len(piece) * times


def sparse(path: Path, head: bytes, size: int, tail: bytes) -> None:
    """A file with a line of `size` bytes, most of which the disk does not hold."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(head)
        file.seek(size, os.SEEK_CUR)
        file.write(tail)


def refused(here: Depot, message: str, path: str = "d/*", **options: str) -> None:
    """The load ends with this error and leaves nothing."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(TrunklineError, match=message):
        here.ingest(path, **options)
    assert ("raw", "t") not in here.lake.relations()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400 * 1024


# -- bytes in rows


@pytest.mark.parametrize(
    ("name", "data", "good", "reason"),
    [
        ("nul.csv", b"a,b\n1,2\n3\0,4\n5,x\0y\n", [(1, "2")], "a NUL byte in the row"),
        ("latin.csv", b"a,b\n1,2\n3,caf\xe9\n5,\xff\n", [(1, "2")], "invalid encoding"),
        ("ragged.csv", b"a,b\n1,2\n3\n4,5,6\n", [(1, "2")], "missing columns|too many columns"),
        ("quotes.csv", b'a,b\n1,2\n3,"4"x\n5,"6\n', [(1, "2")], "unquoted value"),
        ("nul.ndjson", b'{"a":1,"b":"2"}\n{"a":\x003}\n\0\n', [(1, "2")], "not a JSON object"),
        ("latin.ndjson", b'{"a":1,"b":"2"}\n{"a":3,"b":"\xe9"}\n{"b":"\xff\xfe"}\n', [(1, "2")], "invalid encoding"),
        # a line with the text that parts columns of lines must not lose what follows it
        ("parts.ndjson", b'{"a":1,"b":"2"}\n\x01{"a":3}\n{"a"\x01:4}\n', [(1, "2")], "not a JSON object"),
    ],
)
def test_bad_bytes_go_to_the_quarantine(here: Depot, name: str, data: bytes, good: object, reason: str) -> None:
    here.write(f"d/{name}", data)
    assert here.ingest("d/*") == {"read": 3, "loaded": 1, "quarantined": 2}
    assert here.rows() == good
    assert all(any(part in found for part in reason.split("|")) for found in here.reasons())


def test_json_of_every_strange_kind(here: Depot) -> None:
    deep = '{"a":2,"z":' + "[" * 200_000 + "]" * 200_000 + "}"
    lines = [
        '{"a":1,"a":9,"z":1,"z":2}',
        deep,
        '{"a":1e999}',
        '{"a":123456789012345678901234567890}',
        "[" * 200_000,
        "7",
    ]
    here.write("d/x.ndjson", "\n".join(lines))
    assert here.ingest("d/*") == {"read": 6, "loaded": 2, "quarantined": 4}
    assert here.rows() == [(1, None), (2, None)]
    ((extra,),) = here.lake.query("select length(cast(_extra as varchar)) from raw.t where a = 2")
    assert extra == 400_000 + len('{"z":}')


def test_five_thousand_columns(here: Depot) -> None:
    names = [f"c{i}" for i in range(5000)]
    here.columns = (("c0", "BIGINT"), ("c4999", "VARCHAR"))
    here.write("d/x.csv", "\n".join([",".join(names), ",".join(map(str, range(5000))), "1,2"]))
    assert here.ingest("d/*") == {"read": 2, "loaded": 1, "quarantined": 1}
    assert here.rows() == [(0, "4999")]


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("x.csv", "a,b\n1,2\n".encode("utf-16"), "is UTF-16"),
        ("x.csv", "a,b\n1,2\n".encode("utf-16-le"), "is UTF-16"),
        ("x.csv", b"a,b\xe9\n1,2\n", "its header is not UTF-8"),
        ("x.csv", b"a,b,A\n1,2,3\n", "has the column 'a' twice"),
        ("x.csv", b"\n\na,b\n1,2\n", "its first line is empty"),
        ("x.csv", b'a,"b' + b"\n," * MIB, "the header, is longer than 1 MiB"),
        ("x.csv", gzip.compress(b"a,b\n1,2\n", mtime=0), "is no text but a .gz file"),
        ("x.csv.gz", b"a,b\n1,2\n", "is not a whole gzip file"),
        ("x.csv.gz", gzip.compress(b"a,b\n" + b"1,2\n" * 9, mtime=0)[:-9], "is cut off"),
        ("x.csv.gz", gzip.compress(b"a,b\n1,2\n", mtime=0)[:-8] + bytes(8), "is not a whole gzip file"),
        ("x.csv.zst", b"\x28\xb5\x2f\xfd\x04", "is not a whole zstd file"),
        ("x.csv.bz2", b"BZh9", ".bz2 files are not read"),
        ("x.json", b'[{"a":1},{"a":', "Malformed JSON"),
        ("x.parquet", b"PAR1", "too small to be a Parquet file"),
        ("x.parquet", b"no magic at all, and long enough", "No magic bytes"),
        ("x.zip", b"no zip", "not a readable zip"),
        ("x.csv", b"a,b\r\n1,2\n3,4\r\n", "CSV Parser"),
    ],
)
def test_files_that_are_not_what_they_say(here: Depot, name: str, data: bytes, message: str) -> None:
    here.write(f"d/{name}", data)
    with pytest.raises(SourceError, match=message) as caught:
        here.ingest("d/*")
    assert caught.value.hint or "zip" in name or "gz" in name
    assert (caught.value.file, caught.value.line) == (here.root / "models/s.yml", 4)
    assert ("raw", "t") not in here.lake.relations()


def test_damage_within_parquet(here: Depot) -> None:
    path = here.write("d/x.parquet", b"")
    duckdb.sql(f"copy (select i * i as a, 'x' || i as b from range(50000) t(i)) to '{path}' (format parquet)")
    data = bytearray(path.read_bytes())
    data[1000:3000] = bytes(2000)
    path.write_bytes(data)
    refused(here, "Failed to read file|decompression|corrupt")


# -- size


@pytest.mark.parametrize(
    ("name", "mib", "head", "tail"),
    [
        ("x.csv", 1024, b"a,b\n1,2\n", b",3\n4,5\n"),
        ("x.csv", 64, b'a,b\n1,2\n"', b'",3\n4,5\n'),
        ("x.csv", 64, b"a,b", b"\n"),
        ("x.ndjson", 64, b'{"a":1}\n{"a":2,"b":"', b'"}\n{"a":3}\n'),
    ],
)
def test_a_line_of_a_gigabyte(here: Depot, name: str, mib: int, head: bytes, tail: bytes) -> None:
    sparse(here.root / "d" / name, head, mib * MIB, tail)
    refused(here, "longer than 16 MiB")


def test_a_value_of_a_gigabyte_in_a_document(here: Depot) -> None:
    path = here.write("d/x.json", b'[{"a":1,"b":"')
    with path.open("ab") as file:
        for _ in range(64):
            file.write(b"x" * MIB)
    refused(here, "maximum_object_size")


def test_a_quote_that_is_never_closed(here: Depot) -> None:
    here.write("d/x.csv", b'a,b\n1,2\n3,"4\n' + b"5,6\n" * (6 * MIB))
    refused(here, "the line at byte 8 is longer than 16 MiB")


def test_long_lines_that_are_short_enough(here: Depot) -> None:
    here.write("d/x.csv", b'a,b\n1,"' + b"5,6\n" * (15 * MIB // 4) + b'"\n2,' + b"x" * (15 * MIB) + b"\n3,4\n")
    assert here.ingest("d/*") == {"read": 3, "loaded": 3, "quarantined": 0}


def test_rows_within_quotes_are_no_rows(here: Depot) -> None:
    """DuckDB reads a large file from several places at once; here each of them looks like rows, and is none."""
    field = b"5,6\n7,8\n" * (2 * MIB // 8)
    with (here.write("d/x.csv", b"a,b\n")).open("ab") as file:
        for number in range(20):
            file.write(b'%d,"' % number + field + b'"\n')
    assert here.ingest("d/*") == {"read": 20, "loaded": 20, "quarantined": 0}
    assert here.lake.query("select min(length(b)), max(length(b)) from raw.t") == [(2 * MIB, 2 * MIB)]


@pytest.mark.parametrize(
    ("name", "piece", "times"), [("x.csv.gz", b"1,2\n", 300), ("x.ndjson.gz", b"{}\n", 300), ("x.csv.gz", b"\0", 2500)]
)
def test_a_gzip_bomb(here: Depot, name: str, piece: bytes, times: int) -> None:
    size = repeated(here.root / "d" / name, b"a,b\n1,2\n", piece * (4 * MIB // len(piece)), times)
    assert size > times * 4_000_000
    assert (here.root / "d" / name).stat().st_size * 200 < size
    refused(here, "unpacks to more than|longer than 16 MiB")


def test_a_limit_can_be_set(here: Depot) -> None:
    here.write("d/x.csv.gz", gzip.compress(b"a,b\n" + b"1,2\n" * 1000, mtime=0))
    refused(here, "unpacks to more than", unpacked_limit="1 KB")
    assert here.ingest("d/*", unpacked_limit="4 KiB")["loaded"] == 1000


# -- archives


def test_names_in_archives_lead_nowhere(here: Depot) -> None:
    zipped(
        here.root / "d/x.zip",
        ("../../../ledout.csv", b"a,b\n1,2\n"),
        ("/abs/x.csv", b"a,b\n3,4\n"),
        ("..", b"a,b\n"),
    )
    refused(here, "the suffix tells no format")
    zipped(
        here.root / "d/x.zip",
        ("../../../ledout.csv", b"a,b\n1,2\nx,2\n"),
        ("c:\\..\\x.csv", b"a,b\n3,4\n"),
    )
    assert here.ingest("d/*") == {"read": 3, "loaded": 2, "quarantined": 1}
    assert not list(here.root.parent.rglob("ledout.csv"))
    ((file,),) = here.lake.query("select file from trunkline.quarantine")
    assert str(file).endswith("x.zip/0/ledout.csv")
    assert ".trunkline" not in str(file)


def test_archives_that_are_refused(here: Depot) -> None:
    archive = here.root / "d/x.zip"
    zipped(archive, ("a.csv", b"1,2\n" * MIB))
    data = bytearray(archive.read_bytes())
    entry = data.index(b"PK\1\2")
    archive.write_bytes(data[: entry + 24] + struct.pack("<I", 3 << 30) + data[entry + 28 :])
    refused(here, "would unpack to 3,221,225,472")
    zipped(archive, ("inner.zip", b"PK"))
    refused(here, "an archive in an archive")
    zipped(archive, ("link.csv", b"/etc/passwd"), mode=stat.S_IFLNK | 0o777)
    refused(here, "is a link")
    zipped(archive, *((f"{number}.csv", b"") for number in range(10_001)))
    refused(here, "holds 10,001 files")
    zipped(archive, ("folder/", b""), ("__MACOSX/._a.csv", b"x"))
    refused(here, "holds no files")
    zipped(archive, ("a.csv", b"a,b\n" + b"1,2\n" * 1000))
    data = bytearray(archive.read_bytes())
    entry = data.index(b"PK\1\2")
    archive.write_bytes(data[: entry + 24] + struct.pack("<I", 10) + data[entry + 28 :])
    refused(here, "not a readable zip archive: Bad CRC-32")
    archive.write_bytes(data[:6] + b"\1" + data[7 : entry + 8] + b"\1" + data[entry + 9 :])
    refused(here, "is encrypted")


def test_members_that_count(here: Depot) -> None:
    zipped(here.root / "d/x.zip", ("in/a.csv", b"a,b\n1,2\n"), ("read.me", b"hello"))
    refused(here, "the suffix tells no format")
    assert here.ingest("d/*", members="*.csv")["loaded"] == 1


# -- names


@pytest.mark.parametrize(
    "name",
    [
        "it's",
        'say "x"',
        "two\nlines",
        "ünïcode",
        "100%20",
        "br[ack]et",
        "st*r",
        "-dash",
        "what?",
        "back\\slash",
        "a=b",
        " ",
    ],
)
def test_any_name_is_just_this_file(here: Depot, name: str) -> None:
    here.write(f"d/{name}.csv", "a,b\n1,2\nx,3\n")
    for other in ("stxxr", "whatx", "bra", "brk"):
        here.write(f"d/{other}.txt", "a,b\n9,9\n")
        here.write(f"d/{other}.csv.part", "a,b\n9,9\n")
    assert here.ingest(f"d/{name}.csv") == {"read": 2, "loaded": 1, "quarantined": 1}
    assert here.ledger_files() == [f"d/{name}.csv"]
    assert here.lake.query("select file from trunkline.quarantine") == [(f"{here.root}/d/{name}.csv",)]


def test_names_that_are_no_text(here: Depot) -> None:
    os.makedirs(here.root / "d")
    with open(os.fsencode(here.root / "d") + b"/\xff.csv", "wb") as file:
        file.write(b"a,b\n1,2\n")
    with pytest.raises(SourceError, match="is not UTF-8"):
        here.ingest("d/*")


@pytest.mark.parametrize("path", ["../*.csv", "d/../../*.csv", "./../x.csv"])
def test_paths_do_not_lead_out_of_the_project(here: Depot, path: str) -> None:
    with pytest.raises(SourceError, match="leads out of the project"):
        here.ingest(path)


def test_a_file_is_read_once_whatever_links_lead_to_it(here: Depot) -> None:
    here.write("d/x.csv", "a,b\n1,2\n")
    (here.root / "d/a-link.csv").symlink_to("x.csv")
    (here.root / "d/loop").symlink_to(".")
    (here.root / "d/gone.csv").symlink_to("nowhere")
    os.mkfifo(here.root / "d/pipe.csv")
    assert here.ingest("d/**/*.csv")["read"] == 1
    assert here.ledger_files() == ["d/x.csv"]


def test_quotes_are_counted_over_the_ends_of_pieces(tmp_path: Path) -> None:
    """What `look` says does not depend on where a file is cut into pieces."""
    path = tmp_path / "x.csv"
    for text, orderly in ((b'1,"2 ""and"" 3"\n' * 700_000, True), (b'1,"2\n3"\n' * 1_400_000, False)):
        for shift in range(3):
            path.write_bytes(b"a" * shift + b",b\n" + text)
            found = headers.look(str(path), quoted=True)
            assert found is not None
            assert found.orderly is orderly
