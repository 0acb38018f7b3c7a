"""Whether the gate's verdicts on speed are the same each time, on an idle machine and on a loaded one.

    python benchmarks/gate_latency.py [--gates 20] [--loads idle loaded] [--pairs equal slower]

Each gate starts the real servers of a small model anew, measures them, and judges: the same model as candidate and
champion, and a candidate that is 1.5 times slower at p50, by bounds on p50, p95 and p99 far above, above, just at and
below what the first gate found, and by the rules of docs/gate.md all together. "Loaded" has a process a core that does
nothing but compute. What counts is how many gates say the same, and how many agree on whether the rule passes.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from networks import network

NUMBERS = 20
BURNER = "while True: pass"


def main() -> None:
    """Prints a table for each load of the machine."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gates", type=int, default=20)
    parser.add_argument("--loads", nargs="+", choices=["idle", "loaded"], default=["idle", "loaded"])
    parser.add_argument("--pairs", nargs="+", choices=list(DEPTHS), default=list(DEPTHS))
    parser.add_argument("--burners", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="trunkline-") as folder:
        bundles = {name: bundle(Path(folder) / name, depth) for name, depth in DEPTHS.items()}
        bounds: dict[str, float] = {}
        for load in options.loads:
            with burning(options.burners if load == "loaded" else 0):
                for candidate in options.pairs:
                    gates(f"{load}, {candidate}", bundles[candidate], bundles["equal"], options.gates, bounds)


DEPTHS = {"equal": 1, "slower": 24}
"""Layers of each candidate; the champion is the first. 24 make an answer 1.5 times as slow, where one takes 0.3 ms."""


def gates(title: str, candidate: Path, champion: Path, count: int, bounds: dict[str, float]) -> None:
    """As many gates of one pair; what each rule said, how often."""
    from trunkline.gate.latency_rules import latency_rules
    from trunkline.gate.rule import RuleResult
    from trunkline.project.deploy import LatencyRule, MaySlow

    teams = LatencyRule(
        p50_ms=5,
        p95_ms=10,
        p99_ms=25,
        may_slow=MaySlow(p50=1.3, p99=2),
        throughput_at_least=500,
        cold_start_s=10,
        memory_mb=500,
    )
    said: dict[str, Counter[str]] = {}
    values: dict[str, list[float]] = {}
    took, others = [], []
    for place in range(count):
        found, rival = measured(candidate, champion, teams)
        took.append(found.seconds)
        others.append(found.others_cores)
        if not bounds:
            bounds.update({name: own.value for name, own in found.single.items()})
        results = {r.name.removeprefix("latency."): r for r in latency_rules(teams, found, rival)}
        for name in ("p50", "p99"):
            for times in (1.2, 1.5, 2.0):
                slow = LatencyRule(may_slow=MaySlow(**{name: times}))
                results[f"may_slow.{name} = {times:g}"] = latency_rules(slow, found, rival)[0]
        for name, bound in bounds.items():
            for times in (0.5, 1.0, 1.3, 2.0, 5.0, 10.0, 20.0):
                one = LatencyRule(**{f"{name}_ms": bound * times})
                results[f"{name}_ms = {times:g}x ({bound * times:.2f})"] = latency_rules(one, found, rival)[0]
        verdicts = [result.status for result in latency_rules(teams, found, rival)]
        together = "pass" if set(verdicts) == {"pass"} else "fail" if "fail" in verdicts else "undecided"
        results["the rules of docs/gate.md"] = RuleResult("", None, None, together, "")
        for name, result in results.items():
            said.setdefault(name, Counter())[result.status] += 1
            values.setdefault(name, []).append(result.value or 0.0)
        sys.stderr.write(f"\r{title} {place + 1}/{count} ")
    print(f"\n{title}: {statistics.median(took):.1f} s of rounds, others {statistics.median(others):.1f} cores")
    for name, counter in said.items():
        low, middle, high = min(values[name]), statistics.median(values[name]), max(values[name])
        verdicts = ", ".join(f"{n} {status}" for status, n in counter.most_common())
        same = counter.most_common(1)[0][1]
        passing = max(counter["pass"], count - counter["pass"])
        agree = f"{same:3} same, {passing:3} on passing: {verdicts}"
        print(f"  {name:28} {agree:60} value {low:.2f} to {high:.2f}, median {middle:.2f}")


def measured(candidate: Path, champion: Path, rule: Any) -> Any:
    """One phase: the servers of both, started anew."""
    from trunkline.gate.latency import Load, Target, measure
    from trunkline.serving.process import start

    with tempfile.TemporaryDirectory(prefix="trunkline-") as spool, ExitStack() as stack:
        targets = []
        for name, path in (("candidate", candidate), ("champion", champion)):
            server = stack.enter_context(
                start(path, reference="models:/bench/1", deployment="bench", spool=Path(spool, name))
            )
            targets.append(Target(server.url, rows(), pid=server.pid, cold_start=server.cold_start))
        return [one.latency for one in measure(targets, Load(), rule)]


def rows(count: int = 500) -> list[dict[str, object]]:
    """Rows to send."""
    import numpy as np

    draw = np.random.default_rng(1).normal(size=(count, NUMBERS))
    return [{f"number_{place}": value for place, value in enumerate(row)} for row in draw.tolist()]


def bundle(directory: Path, depth: int) -> Path:
    """A bundle whose network has `depth` hidden layers of 256."""
    import numpy as np
    import pyarrow as pa

    from trunkline.models.bundle import Bundle
    from trunkline.models.encoder import Encoder
    from trunkline.models.signature import Field, Signature

    draw = np.random.default_rng(0)
    table = pa.table({f"number_{place}": draw.normal(size=100) for place in range(NUMBERS)})
    fields = [Field(name, "number", example=table[name][0].as_py()) for name in table.column_names]
    signature = Signature(tuple(fields), target="late")
    encoder = Encoder.fit(table, signature, min_count=1)
    Bundle.write(
        directory, signature=signature, encoder=encoder, onnx=network([NUMBERS, *[256] * depth, 1]), metadata={}
    )
    return directory


@contextmanager
def burning(count: int) -> Iterator[None]:
    """So many processes that take all the CPU they get."""
    burners = [subprocess.Popen([sys.executable, "-IS", "-c", BURNER]) for _ in range(count)]
    try:
        yield
    finally:
        for burner in burners:
            burner.kill()
        for burner in burners:
            burner.wait()


if __name__ == "__main__":
    main()
