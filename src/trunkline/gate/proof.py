"""The rules on what can be proven without a statistic: parity, leakage, the bundle's size, provenance. Pure.

- `parity`: fails if one row has another score over HTTP, or in the warehouse, than offline. Left out if nobody asked.
- `leakage.probes`: fails if a probe of the dataset failed. A warning is told, and fails nothing.
- `leakage.keys`: fails if the key of one sealed row is in the data that the candidate was trained on.
- `bundle.size_mb`: compares the size of all files of the bundle, in 10^6 bytes.
- `provenance`: fails if an ancestor is not known, where the file says `provenance: required`.
"""

from __future__ import annotations

from collections.abc import Iterator

from trunkline.gate.evidence import WAYS, Evidence, Leakage, Parity, Provenance
from trunkline.gate.policy import GatePolicy
from trunkline.gate.rule import RuleResult

__all__ = ["proven"]


def proven(evidence: Evidence, policy: GatePolicy) -> list[RuleResult]:
    """The rules in the order above, of what there is evidence for, or what the policy asks for."""
    rules: list[RuleResult] = []
    if evidence.parity is not None:
        rules.append(_parity(evidence.parity))
    if evidence.leakage is not None:
        rules += _leakage(evidence.leakage)
    if policy.bundle.size_mb is not None:
        rules.append(_size(policy.bundle.size_mb, evidence.provenance))
    if policy.provenance == "required":
        rules.append(_provenance(evidence.provenance))
    return rules


def _parity(found: Parity) -> RuleResult:
    ways = " and ".join(f"{WAYS[way]}s" for way in found.ways)
    why = f"{found.differ:,} of {found.rows:,} rows differ: {ways} against offline scores"
    return RuleResult("parity", float(found.differ), 0.0, "fail" if found.differ else "pass", why)


def _leakage(found: Leakage) -> Iterator[RuleResult]:
    if found.signs:
        told = {name: sum(sign.outcome == name for sign in found.signs) for name in ("fail", "warn")}
        why = f"of {len(found.signs)} answers of the dataset's probes {told['fail']} failed and {told['warn']} warned"
        yield RuleResult("leakage.probes", float(told["fail"]), 0.0, "fail" if told["fail"] else "pass", why)
    why = f"{found.seen:,} of {found.keys:,} sealed rows have a key that the candidate was trained or chosen with"
    yield RuleResult("leakage.keys", float(found.seen), 0.0, "fail" if found.seen else "pass", why)


def _size(bound: float, found: Provenance | None) -> RuleResult:
    if found is None:
        return RuleResult("bundle.size_mb", None, bound, "undecided", "the bundle was not measured")
    value = found.bundle_bytes / 1e6
    why = f"all files of the bundle are {found.bundle_bytes:,} bytes"
    return RuleResult("bundle.size_mb", value, bound, "pass" if value <= bound else "fail", why)


def _provenance(found: Provenance | None) -> RuleResult:
    if found is None:
        return RuleResult("provenance", None, 0.0, "undecided", "nobody looked where the candidate comes from")
    missing, known = len(found.missing), len(found.known)
    why = f"{missing} of {missing + known} things to know of the candidate are not known"
    return RuleResult("provenance", float(missing), 0.0, "fail" if missing else "pass", why)
