"""The report's Markdown on what can be proven: the server's speed, parity, leakage, provenance. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from trunkline.gate.evidence import MEBIBYTE, WAYS, CounterExample, Evidence, Latency, Leakage, Own, Parity, Provenance
from trunkline.gate.markdown import code, details, table, words

__all__ = [
    "Listing",
    "SHARED",
    "farthest",
    "leakage_lines",
    "parity_lines",
    "prose",
    "provenance_lines",
    "scores_told",
    "server_lines",
    "server_listings",
    "size",
]

SHARED = 0.05
"""Cores that others kept busy, from which on it is said."""

_SIGNS = {"ok": "fine", "warn": "⚠ look at this", "fail": "✗ **wrong**", "skipped": "not looked at"}


@dataclass(frozen=True)
class Listing:
    """A table to be: what it says, its head, its rows; the first column is text, the others are numbers."""

    say: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    @property
    def align(self) -> str:
        """As `markdown.table` takes it."""
        return "l" + "r" * (len(self.head) - 1)


def server_lines(evidence: Evidence) -> list[str]:
    """Latency, throughput, start and memory of both servers."""
    listings = server_listings(evidence)
    if not listings:
        return ["No server was measured."]
    lines: list[str] = []
    for one in listings:
        lines += ["", one.say, "", *table(one.head, one.rows, one.align)]
    return lines[1:]


def server_listings(evidence: Evidence) -> list[Listing]:
    """What was measured of both servers, as tables; none if none was."""
    own, rival = evidence.latency, evidence.champion_latency
    if own is None:
        return []
    servers = [("candidate", own), *([("champion", rival)] if rival is not None else [])]
    head = ("", "p50", "p95", "p99", "max", "requests/s", "cold start", "memory")
    rows = tuple(_server(who, found) for who, found in servers)
    return [_cleared(Listing(_said(own), head, rows)), *_single(servers)]


def _said(own: Latency) -> str:
    how = (
        f"sent at {own.rate:,.0f} a second whether or not earlier ones were answered, timed from when each was due"
        if own.rate is not None
        else "over one connection, one after the other"
    )
    rounds = f" in {own.rounds} rounds" if own.rounds else ""
    said = f"Requests of one row, {how}, in milliseconds: {own.requests:,} each{rounds}, servers in turn. Requests a"
    said += f" second over {own.connections} connections, each asking again as soon as it is answered."
    if own.others_cores >= SHARED:
        said += f" Others kept {own.others_cores:.1f} of {own.cores} cores busy meanwhile."
    return said


def _server(who: str, found: Latency) -> tuple[str, ...]:
    times = (found.p50_ms, found.p95_ms, found.p99_ms, found.max_ms)
    start = f"{found.cold_start_s:.2f} s" if found.cold_start_s is not None else ""
    memory = f"{found.memory.peak_mb * MEBIBYTE:,.0f} MB" if found.memory is not None else ""
    return (who, *(f"{time:.2f}" for time in times), f"{found.requests_per_second:,.0f}", start, memory)


def _single(servers: list[tuple[str, Latency]]) -> Iterator[Listing]:
    """Of the requests that were sent one at a time, by which the two are compared."""
    names = ("p50", "p95", "p99")
    timed = [(who, found) for who, found in servers if found.single_ms]
    if not timed:
        return
    rows = tuple((who, *(_once(found, name) for name in names)) for who, found in timed)
    slower = servers[0][1].slower
    if slower:
        rows = (*rows, ("times slower", *(_ratio(slower.get(name)) for name in names)))
    said = f"One at a time, {timed[0][1].single_requests:,} each, without the time that others had the CPU:"
    yield Listing(said, ("", *names), rows)


def _once(found: Latency, name: str) -> str:
    """With its limits, where they are known."""
    if name in found.single:
        return _ratio(found.single[name])
    return f"{found.single_ms[name]:.2f}" if name in found.single_ms else ""


def _ratio(found: Own | None) -> str:
    if found is None:
        return ""
    if found.low is None and found.high is None:
        return f"{found.value:.2f}"
    ends = [f"{end:.2f}" if end is not None else "?" for end in (found.low, found.high)]
    return f"{found.value:.2f} ({ends[0]} to {ends[1]})"


def _cleared(listing: Listing) -> Listing:
    """Without the columns that nobody fills."""
    kept = [place for place in range(len(listing.head)) if not place or any(row[place] for row in listing.rows)]
    rows = tuple(tuple(row[place] for place in kept) for row in listing.rows)
    return Listing(listing.say, tuple(listing.head[place] for place in kept), rows)


def parity_lines(parity: Parity, most: int) -> list[str]:
    """How many rows differ, and the first that does with at most `most` of its columns."""
    of_size = " of the score's size" if parity.relative else ""
    ways = " and ".join(WAYS[way] for way in parity.ways)
    lines = [
        f"{ways} against offline score: **{parity.differ:,} of {parity.rows:,} differ**"
        f" (by more than {parity.tolerance:g}{of_size}; {farthest(parity)})."
    ]
    if parity.left_out:
        lines += ["", f"Not compared: {words(parity.left_out)}"]
    if parity.example is not None:
        numbers = ", ".join(f"{name} {code(value)}" for name, value in scores_told(parity.example))
        lines += ["", f"First difference: {numbers}, for this row:", ""]
        rows = [[code(name), code(repr(value))] for name, value in parity.example.row.items()]
        lines += table(["column", "value"], rows[:most], "ll")
    return lines


def farthest(parity: Parity) -> str:
    """How far scores are from each other, and how many are no numbers."""
    none = f", and in {parity.not_finite:,} rows one is no number" if parity.not_finite else ""
    return f"largest difference {parity.largest:.2g}{none}"


def scores_told(found: CounterExample) -> list[tuple[str, str]]:
    """Each way to score a row that was asked, and what it said."""
    told = {"offline": found.offline, "HTTP": found.http, "warehouse": found.warehouse}
    return [(name, _score(value)) for name, value in told.items() if value is not None]


def _score(value: float | tuple[float, ...]) -> str:
    return repr(value[0] if isinstance(value, tuple) and len(value) == 1 else value)


def leakage_lines(leakage: Leakage, most: int) -> list[str]:
    """What the probes found, and how many sealed rows were seen in training."""
    loud = [sign for sign in leakage.signs if sign.outcome in ("warn", "fail")]
    seen = f"{leakage.seen:,} of {leakage.keys:,} sealed rows are in the data that the candidate was trained on"
    if leakage.seen_by_champion is not None:
        seen += f", {leakage.seen_by_champion:,} in the champion's"
    told = {outcome: sum(sign.outcome == outcome for sign in leakage.signs) for outcome in ("ok", "skipped")}
    lines = [f"{seen}. Of {len(leakage.signs):,} answers of the dataset's probes {told['ok']:,} are fine and"]
    lines[0] += f" {told['skipped']:,} could not be given."
    if loud:
        rows = [[_SIGNS.get(sign.outcome, "?"), words(sign.probe), prose(sign.text)] for sign in loud]
        lines += ["", *table(["", "probe", "found"], rows[:most], "lll")]
    return lines


def provenance_lines(provenance: Provenance, most: int) -> list[str]:
    """What the candidate came from, folded away; what is not known, in sight."""
    missing = ", ".join(map(code, provenance.missing[:most]))
    lines = [f"Not known: {missing}.", ""] if missing else []
    rows = [[words(name), code(value)] for name, value in provenance.known.items()][:most]
    told = f"{len(provenance.known):,} ancestors, bundle of {size(provenance.bundle_bytes)}"
    return [*lines, *(details(told, table(["what", "which"], rows, "ll")) if rows else [f"{told}."])]


def prose(text: str) -> str:
    """Words for people in which what stands between backticks is a name."""
    parts = text[:1000].split("`")
    if len(parts) % 2 == 0:
        return code(text, 400)
    spans = (code(part) if place % 2 else _between(part) for place, part in enumerate(parts))
    return "".join(spans)


def _between(text: str) -> str:
    """What stands between two names, with the spaces at its ends."""
    inner = text.strip(" ")
    if not inner:
        return " " * bool(text)
    return f"{' ' * text.startswith(' ')}{words(inner)}{' ' * text.endswith(' ')}"


def size(count: int) -> str:
    """Bytes for people, in decimal units."""
    if abs(count) < 1000:
        return f"{count} B"
    for unit, step in (("kB", 1e3), ("MB", 1e6), ("GB", 1e9)):
        if abs(count) < step * 999.5:
            return f"{count / step:.3g} {unit}"
    return f"{count / 1e12:,.0f} TB"
