#!/usr/bin/env python3
"""Make constraints.txt anew (`make lock`): every version that an installation of this project may contain.

pip resolves the extras of each lock in an empty temporary environment and reports what it would install; nothing is
installed. The result holds sorted `name==version` lines and no hosts, paths or hashes: where packages come from is
the machine's own pip configuration. Why there is more than one file: docs/decisions/0002-dependencies.md.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import tomllib
import venv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# The set that was tried as a whole. Everything else is what pip finds to fit it.
PINS = (
    "dbt-core==1.11.16",
    "dbt-duckdb==1.11.1",
    "dbt-snowflake==1.12.3",
    "dlt==1.31.0",
    "duckdb==1.5.5",
    "duckdb-extension-azure==1.5.5",
    "duckdb-extension-ducklake==1.5.5",
    "duckdb-extension-httpfs==1.5.5",
    "duckdb-extension-mysql-scanner==1.5.5",
    "duckdb-extension-postgres-scanner==1.5.5",
    "duckdb-extension-sqlite-scanner==1.5.5",
    "duckdb-extension-tpch==1.5.5",
    "duckdb-extensions==1.5.5",
    "mlflow==3.17.2",
    "numpy==2.4.*",
    "onnx==1.23.*",
    "onnxruntime==1.32.*",
    "optuna==5.0.0",
    "pyarrow==25.0.1",
    "ray==2.60.*",
    "scikit-learn==1.9.*",
    "snowflake-connector-python==4.8.0",
    "snowflake-snowpark-python==1.56.*",
    "torch==2.13.0",
)

# The Snowflake emulator of the tests, which has a DuckDB of its own age. onnxruntime and pandas are for the Python
# functions that it runs as Snowflake would.
EMULATOR = (
    "fakesnow[server]==0.12.1",
    "numpy==2.4.*",
    "onnxruntime==1.32.*",
    "pandas==3.1.*",
    "pyarrow==25.0.1",
    "snowflake-connector-python==4.8.*",
)

# Accelerator libraries that some builds of torch require and others do not: they follow from the chosen build.
FOLLOWS_TORCH = re.compile(r"^(nvidia|cuda)-|^(pytorch-)?triton$")


@dataclass(frozen=True)
class Lock:
    """One constraints file: the extras that are resolved together into it.

    `beside` is False for an environment that holds the requirements of the extras without the project itself;
    `packages` are the whole of an environment that has nothing of the project.
    """

    file: str
    extras: tuple[str, ...]
    use: str
    beside: bool = True
    packages: tuple[str, ...] = ()

    @property
    def pins(self) -> tuple[str, ...]:
        """The versions that are chosen and not found."""
        return () if self.packages else PINS

    @property
    def asked(self) -> str:
        """What was resolved, for the header of the file."""
        if self.packages:
            return ", ".join(self.packages)
        return f"{'trunkline' if self.beside else 'what is in trunkline'}[{','.join(self.extras)}]"

    def requirements(self) -> list[str]:
        """What pip is asked for."""
        if self.packages:
            return list(self.packages)
        if self.beside:
            return [f"{ROOT}[{','.join(self.extras)}]"]
        project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        return [requirement for extra in self.extras for requirement in project["optional-dependencies"][extra]]


LOCKS = (
    Lock("constraints.txt", ("all", "dev", "bench"), "the project, but for Fivetran's SDK"),
    Lock("constraints-fivetran.txt", ("fivetran",), "Fivetran's SDK in an environment of its own", beside=False),
    Lock("constraints-emulator.txt", (), "the Snowflake emulator of the tests", packages=EMULATOR),
)


def resolve(lock: Lock, workspace: Path) -> dict[str, str]:
    """Name → version of all that pip would install for `lock`, without installing it."""
    python = workspace / "bin" / "python"
    pins, report = workspace / "pins.txt", workspace / f"{lock.file}.json"
    pins.write_text("\n".join(lock.pins) + "\n", encoding="utf-8")
    command = [python, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet"]
    subprocess.run([*command, "--report", report, "--constraint", pins, *lock.requirements()], check=True)
    installs = json.loads(report.read_text(encoding="utf-8"))["install"]
    found = {normalise(item["metadata"]["name"]): item["metadata"]["version"] for item in installs}
    return {name: version.partition("+")[0] for name, version in found.items() if is_locked(name)}


def is_locked(name: str) -> bool:
    """Whether a resolved distribution belongs into the file: not ourselves, nothing that follows torch's build."""
    return name != "trunkline" and not FOLLOWS_TORCH.match(name)


def normalise(name: str) -> str:
    """The spelling under which an index knows a distribution (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def render(lock: Lock, versions: dict[str, str]) -> str:
    """The text of one constraints file."""
    header = (
        f"# Made by `make lock` (scripts/lock.py); do not edit. For {lock.use}.",
        f"# Resolved for Python {sys.version_info.major}.{sys.version_info.minor} on {sys.platform}: {lock.asked}.",
    )
    return "\n".join([*header, *(f"{name}=={version}" for name, version in sorted(versions.items()))]) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the files named on the command line, or all."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("files", nargs="*", metavar="FILE", help="only these (default: all)")
    chosen = parser.parse_args(arguments).files
    with tempfile.TemporaryDirectory(prefix="trunkline-lock-") as folder:
        venv.create(folder, with_pip=True)
        for lock in LOCKS:
            if not chosen or lock.file in chosen:
                (ROOT / lock.file).write_text(render(lock, resolve(lock, Path(folder))), encoding="utf-8")
                print(f"wrote {lock.file}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
