"""Ways to the sealed part, as training code would try them: copied into a project's `ml/`, and run there.

A way gives what it got, or nothing; what it raises is its refusal. `ORDINARY` ways lead there for anybody but training
code, which a test shows beside.
"""

import ctypes
import gc
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

KEY = "TRUNKLINE_VAULT_KEY"
ROOT = Path(__file__).resolve().parent.parent
LAKE = f"attach 'ducklake:sqlite:{ROOT}/warehouse/catalog.sqlite' as lake"
ROWS = "select order_id, ordered_at from lake.main.order_features where ordered_at >= '2025-04-01' limit 3"


def sealed_file() -> Path:
    return next((ROOT / ".trunkline" / "vault").rglob("*.parquet"))


def key_file() -> Path:
    return Path(os.environ["XDG_CONFIG_HOME"]) / "trunkline" / "vault.key"


def read_part() -> object:
    from trunkline.datasets.feed import open_part
    from trunkline.datasets.manifest import read_manifest

    folder = next((ROOT / ".trunkline" / "datasets").rglob("manifest.json")).parent
    return sum(open_part(ROOT / ".trunkline", read_manifest(folder), "test").sizes)


def notebook() -> object:
    import trunkline

    return trunkline.open(".").dataset("order_features").test


def session() -> object:
    from trunkline.orchestration.session import open_session

    with open_session(ROOT, None, lambda text, done=None: None) as opened:
        return opened.context.warehouse.query(ROWS)


def with_pyarrow() -> object:
    import pyarrow.parquet as pq

    return pq.read_table(sealed_file()).num_rows


def its_bytes() -> object:
    return sealed_file().read_bytes()


def with_duckdb() -> object:
    import duckdb

    duckdb.execute(f"pragma add_parquet_key('k', '{vault_key()}')")
    settings = "encryption_config = {footer_key: 'k'}"
    return duckdb.sql(f"from read_parquet('{sealed_file()}', {settings})").fetchone()


def environment() -> object:
    return os.environ.get(KEY)


def own_environment() -> object:
    return KEY.encode() in Path("/proc/self/environ").read_bytes()


def parents_environment() -> object:
    return Path(f"/proc/{os.getppid()}/environ").read_bytes()


def all_environments() -> object:
    found = []
    for process in Path("/proc").glob("[0-9]*/environ"):
        try:
            found.append(KEY.encode() in process.read_bytes())
        except OSError:
            continue
    return any(found)


def key_in_its_file() -> object:
    return key_file().read_text()


def vault_key() -> object:
    import base64

    from trunkline.datasets.vault import vault_key

    return base64.b64encode(vault_key(os.environ)).decode()


def lake() -> object:
    import duckdb

    with duckdb.connect() as connection:
        connection.execute("load icu; load ducklake; load sqlite_scanner")
        connection.execute(f"{LAKE} (data_path '{ROOT}/warehouse/data', override_data_path true)")
        return connection.execute(ROWS).fetchall()


def catalog() -> object:
    return sqlite3.connect(ROOT / "warehouse" / "catalog.sqlite").execute("select * from ducklake_table").fetchall()


def lakes_files() -> object:
    import duckdb

    return duckdb.sql(f"from '{ROOT}/warehouse/data/main/*/*.parquet'").fetchmany(3)


def raw_files() -> object:
    return next((ROOT / "data").glob("*.csv")).read_text()[-200:]


def profile() -> object:
    return (ROOT / "profiles.yml").read_text()


def objects() -> object:
    ours = ("duckdb", "_duckdb", "trunkline.warehouse.duckdb", "trunkline.context", "trunkline.ledger.ledger")
    return [repr(each) for each in gc.get_objects() if type(each).__module__ in ours]


def fork() -> object:
    end, far = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(far, key_file().read_bytes() + sealed_file().read_bytes()[:10])
        finally:
            os._exit(0)
    os.close(far)
    os.waitpid(child, 0)
    return os.read(end, 100)


def another_python() -> object:
    code = f"from pathlib import Path; print(Path({str(key_file())!r}).read_text())"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).stdout


def another_program() -> object:
    return subprocess.run(["cat", key_file(), sealed_file()], capture_output=True, check=False).stdout


def the_gate() -> object:
    gate = subprocess.run(
        [sys.executable, "-m", "trunkline", "gate", "returns", "--json"], cwd=ROOT, capture_output=True, check=False
    )
    return b"metrics" in gate.stdout


def link() -> object:
    (ROOT / "ml" / "link").symlink_to(key_file())
    return (ROOT / "ml" / "link").read_text()


def hard_link() -> object:
    os.link(key_file(), ROOT / "ml" / "hard")
    return (ROOT / "ml" / "hard").read_text()


def moved() -> object:
    (ROOT / ".trunkline" / "vault").rename(ROOT / ".trunkline" / "studies")
    return True


def roots() -> object:
    found = []
    for process in ("self", str(os.getppid()), "1"):
        try:
            found.append(Path(f"/proc/{process}/root{key_file()}").read_text())
        except OSError:
            continue
    return found


def parents_folder() -> object:
    return Path(f"/proc/{os.getppid()}/cwd/profiles.yml").read_text()


def parents_memory() -> object:
    return open(f"/proc/{os.getppid()}/mem", "rb").name


def parents_threads() -> object:
    return ctypes.CDLL(None).ptrace(16, os.getppid(), 0, 0) == 0  # PTRACE_ATTACH


def parents_files() -> object:
    libc = ctypes.CDLL(None)
    process = libc.syscall(434, os.getppid(), 0)  # pidfd_open
    return [number for number in range(64) if libc.syscall(438, process, number, 0) >= 0]  # pidfd_getfd


ORDINARY: list[Callable[[], object]] = [
    its_bytes,
    with_duckdb,
    environment,
    own_environment,
    key_in_its_file,
    vault_key,
    lake,
    catalog,
    lakes_files,
    raw_files,
    profile,
    another_program,
    roots,
]
WAYS: list[Callable[[], object]] = [
    read_part,
    notebook,
    session,
    with_pyarrow,
    *ORDINARY,
    parents_environment,
    all_environments,
    objects,
    fork,
    another_python,
    the_gate,
    link,
    hard_link,
    moved,
    parents_folder,
    parents_memory,
    parents_threads,
    parents_files,
]


def tried(ways: list[Callable[[], object]]) -> dict[str, list[str]]:
    """What each way came to: `got` and what, or `nothing` and why."""
    found = {}
    for way in ways:
        try:
            got = way()
        except Exception as exc:  # noqa: BLE001 - whatever it is
            found[way.__name__] = ["nothing", f"{type(exc).__name__}: {exc}"]
        else:
            found[way.__name__] = ["got", repr(got)[:200]] if got else ["nothing", repr(got)]
    return found


def record(moment: str, ways: list[Callable[[], object]]) -> None:
    """Keep it where training code may write."""
    (ROOT / "ml" / f"{moment}.json").write_text(json.dumps(tried(ways)))


if __name__ == "__main__":
    print(json.dumps(tried(ORDINARY)))  # noqa: T201
