"""Leakage probes: what a dataset gives away that a model will not have when it is used, in plain words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module

from trunkline.context import StepContext
from trunkline.datasets.findings import Finding
from trunkline.datasets.manifest import Manifest
from trunkline.datasets.probes_subject import Subject
from trunkline.datasets.source import Source
from trunkline.project import probes

# Loaded when asked: LightGBM is heavy, and a probe may be off.
PROBES: Mapping[str, str] = {
    "single_feature": "trunkline.datasets.probes_label:single_feature",
    "missing_with_label": "trunkline.datasets.probes_label:missing_with_label",
    "shared_rows": "trunkline.datasets.probes_shared:shared_rows",
    "shared_keys": "trunkline.datasets.probes_shared:shared_keys",
    "shared_groups": "trunkline.datasets.probes_shared:shared_groups",
    "after_prediction": "trunkline.datasets.probes_time:after_prediction",
    "adversarial": "trunkline.datasets.adversarial:adversarial",
    "as_of_change": "trunkline.datasets.probes_time:as_of_change",
}


def examine(source: Source, ctx: StepContext, manifest: Manifest) -> tuple[Finding, ...]:
    """Ask every probe that is on. Findings come in the probes' order; one that fails stops nothing here."""
    settings = probes.settings(source.config.get("probes"))
    subject = Subject(source, ctx.warehouse, ctx.ledger, manifest, settings, ctx.seed, ctx.threads)
    found: list[Finding] = []
    for name, path in PROBES.items():
        if settings[name].outcome != "off":
            with ctx.observed(f"looking for leaks: {name}"):
                found += _probe(path)(subject)
    return tuple(found)


def _probe(path: str) -> Callable[[Subject], list[Finding]]:
    module, _, name = path.partition(":")
    probe: Callable[[Subject], list[Finding]] = getattr(import_module(module), name)
    return probe
