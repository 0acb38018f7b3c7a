"""Projects with functions, written for a test; and one function of each shape for the tests that compare engines."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from trunkline.transform.portable import Function, find_functions


def write(project: Path, name: str, code: str, arguments: str, returns: str, config: str = "{}") -> Path:
    """One function file with its YAML. `arguments` is like "a: double, n: bigint"."""
    folder = project / "functions"
    folder.mkdir(exist_ok=True)
    pairs = [pair.split(":") for pair in arguments.split(",") if pair.strip()]
    listed = ", ".join(f"{{name: {name.strip()}, data_type: {kind.strip()}}}" for name, kind in pairs)
    (folder / f"{name}.yml").write_text(
        f"functions:\n  - name: {name}\n    config: {config}\n"
        f"    arguments: [{listed}]\n    returns: {{data_type: {returns}}}\n"
    )
    path = folder / f"{name}.py"
    path.write_text(code)
    return path


@dataclass(frozen=True)
class Sample:
    """A function and what else its project needs."""

    code: str
    arguments: str
    returns: str
    config: str = "{}"
    modules: tuple[tuple[str, str], ...] = ()

    def write(self, project: Path, name: str) -> Function:
        """Write it and read it back."""
        write(project, name, self.code, self.arguments, self.returns, self.config)
        for file, text in self.modules:
            path = project / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return next(function for function in find_functions(project) if function.name == name)


FOLD = (
    "lib/text.py",
    'import re\n\nGAPS = re.compile(r"\\s+")\n\n\ndef fold(text):\n    return GAPS.sub(" ", text).strip().casefold()\n',
)

SAMPLES = {
    "ratio": Sample("def main(a, b):\n    return a / b\n", "a: double, b: double", "double"),
    "halved": Sample("def main(n):\n    return n // 2 - 1\n", "n: bigint", "bigint"),
    "windy": Sample(
        "import pandas as pd\n\ndef main(a: pd.Series, ok: 'pd.Series[bool]') -> pd.Series:\n    return (a > 0) & ok\n",
        "a: double, ok: boolean",
        "boolean",
    ),
    "shouted": Sample("def main(s):\n    return s.str.strip().str.upper()\n", "s: varchar", "varchar"),
    "listed": Sample("def main(s):\n    return [None if len(str(v)) > 5 else v for v in s]\n", "s: varchar", "varchar"),
    "length": Sample(
        "def main(s, n):\n    return s.str.len().fillna(-1) + n.fillna(0) % 7\n", "s: varchar, n: bigint", "bigint"
    ),
    "year": Sample("def main(d, t):\n    return d.dt.year - t.dt.year\n", "d: date, t: timestamp", "bigint"),
    "second": Sample("def main(t):\n    return t.dt.floor('s')\n", "t: timestamp", "timestamp"),
    "start": Sample("def main(t):\n    return t\n", "t: timestamp", "date"),
    "root": Sample(
        "import numpy as np\n\ndef main(a):\n    return np.sqrt(np.abs(a.to_numpy()))\n", "a: double", "double"
    ),
    "label": Sample(
        "from lib.text import fold\n\n\ndef main(name: str | None, n: int) -> str | None:\n"
        "    return None if name is None else f\"{{{fold(name)}}}{{% {n} %}} $$ '''\"\n",
        "name: varchar, n: bigint",
        "varchar",
        "{volatility: deterministic}",
        (FOLD,),
    ),
    "rest": Sample("def main(n: int | None) -> int:\n    return -1 if n is None else n % 97\n", "n: bigint", "bigint"),
    "positive": Sample("def main(x: float) -> bool:\n    return x > 0\n", "x: double", "boolean"),
    "scaled": Sample(
        "def main(x: float, ok: bool) -> float:\n    return x * 2 if ok else 1\n", "x: double, ok: boolean", "double"
    ),
    "written": Sample(
        "import datetime\n\ndef main(d: datetime.date, t: datetime.datetime | None) -> str:\n"
        "    return f'{d.isoformat()} {t!r}'\n",
        "d: date, t: timestamp",
        "varchar",
    ),
    "whole": Sample(
        "import datetime as dt\n\ndef main(t: dt.datetime) -> dt.datetime:\n    return t.replace(microsecond=0)\n",
        "t: timestamp",
        "timestamp",
    ),
}
