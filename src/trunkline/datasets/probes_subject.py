"""What the leakage probes are handed: one dataset, and the SQL they share. It is the same text on every warehouse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from trunkline.datasets.findings import Bars, Finding, Outcome
from trunkline.datasets.manifest import Manifest
from trunkline.datasets.source import PART, Source
from trunkline.ledger.ledger import Ledger
from trunkline.project.probes import Setting
from trunkline.warehouse.compare_sql import DIALECTS, kind_of
from trunkline.warehouse.protocol import Warehouse

Kind = str  # a family of types, as `compare_sql.kind_of` names them
NUMBERS = ("integer", "decimal", "double")
TIMES = ("date", "timestamp", "timestamptz")
_MOST_BARS, _MOST_NAMED = 12, 5
_HASHES = 16**8


@dataclass(frozen=True)
class Subject:
    """One dataset under examination. Nothing of it goes through Python but counts (and `adversarial`'s sample)."""

    source: Source
    warehouse: Warehouse
    ledger: Ledger
    manifest: Manifest
    settings: Mapping[str, Setting]
    seed: int = 1
    threads: int = 1

    def features(self, probe: str) -> tuple[str, ...]:
        """Those that a probe is to look at."""
        return tuple(name for name in self.manifest.features if name not in self.settings[probe].ignore)

    def single(self, probe: str) -> tuple[str, ...]:
        """Those of them that have one value a row, which can be ranked or counted: neither lists nor images."""
        types = dict(self.source.schema)
        return tuple(name for name in self.features(probe) if not types[name].endswith("]") and types[name] != "BLOB")

    def kind(self, name: str) -> Kind:
        """The family of an exported column's type."""
        return kind_of(dict(self.source.schema)[name])

    def rows(self, *parts: str) -> int:
        """Rows in these parts."""
        return sum(self.manifest.parts[part].rows for part in parts)

    @property
    def random(self) -> bool:
        """Whether each row was put into its part by chance alone."""
        return self.manifest.split["by"] in ("key", "stratified")

    def quote(self, name: str) -> str:
        """A column as SQL."""
        return self.source.quote(name)

    @property
    def part(self) -> str:
        """The column with a row's part."""
        return self.source.quote(PART)

    @property
    def hashed(self) -> str:
        """SQL of a row's own hash in hexadecimal: what is sampled by it is the same in every run, and apart from the
        hash that a split may go by."""
        return f"md5('probe:' || cast({self.quote(self.manifest.key)} as varchar))"

    def chosen(self, share: float) -> str:
        """SQL that is true for this share of the rows."""
        bound = format(int(share * _HASHES), "08x")
        return "1 = 1" if share >= 1 else f"substr({self.hashed}, 1, 8) < '{bound}'"

    def sampled(self, part: str, most: int) -> str:
        """SQL: the rows of a part, about `most` of them where it has more. Columns are the exported ones."""
        chosen = self.chosen(most / max(1, self.rows(part)))
        return f"select * from ({self.source.parted_sql()}) p where {self.part} = '{part}' and {chosen}"

    def moment(self, column: str) -> str:
        """A time as microseconds since 1970; one without a zone is taken as UTC."""
        return DIALECTS[self.warehouse.name].microseconds.format(column)

    def ok(self, probe: str, text: str, value: float | None = None, bars: Bars | None = None) -> Finding:
        """Nothing suspicious."""
        return Finding(probe, "ok", text, None, value, self.settings[probe].at_most, bars)

    def skipped(self, probe: str, why: str) -> Finding:
        """A probe that could not ask."""
        return Finding(probe, "skipped", why)

    def found(
        self, probe: str, text: str, value: float, *, column: str | None = None, bars: Bars | None = None
    ) -> Finding:
        """Something suspicious: it warns or fails as the project says."""
        setting = self.settings[probe]
        outcome: Outcome = "fail" if setting.outcome == "fail" else "warn"
        return Finding(probe, outcome, text, column, value, setting.at_most, bars)


def bars(title: str, values: Mapping[str, float], bound: float | None) -> Bars:
    """The largest of `values`, the largest first."""
    largest = sorted(values.items(), key=lambda item: -item[1])[:_MOST_BARS]
    return Bars(title, tuple(name for name, _ in largest), tuple(round(value, 4) for _, value in largest), bound)


def listed(names: Sequence[str]) -> str:
    """`a`, `b` and 3 more."""
    shown = [f"`{name}`" for name in names[:_MOST_NAMED]]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def share(value: float) -> str:
    """A share as percent, with as many digits as it takes to differ from 0 and from 100%."""
    percent = 100 * value
    if 0 < percent < 0.1 or 99.9 < percent < 100:
        return f"{percent:.3g}%" if percent < 1 else f"{percent:.2f}%"
    return f"{percent:.1f}%".replace(".0%", "%")
