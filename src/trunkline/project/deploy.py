"""`deploy/*.yml`: one deployment a file."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from math import inf, isfinite
from pathlib import Path
from typing import Literal

import msgspec

from trunkline.errors import ProjectError
from trunkline.project import yaml


class MetricRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Bounds on one metric: a floor or ceiling, and how much may be lost against the champion."""

    at_least: float | None = None
    at_most: float | None = None
    may_lose: float | None = None

    def __post_init__(self) -> None:
        for name, value in (("at_least", self.at_least), ("at_most", self.at_most)):
            if value is not None and not isfinite(value):
                raise ValueError(f"{name} must be a number")
        _not_negative(self, "may_lose")


class SliceRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How much may be lost against the champion in any slice of a column; without a bound slices are shown only."""

    may_lose: float | None = None

    def __post_init__(self) -> None:
        _not_negative(self)


class CalibrationRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A ceiling on the expected calibration error of probabilities."""

    ece_at_most: float | None = None

    def __post_init__(self) -> None:
        _not_negative(self)


class MaySlow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How many times the champion's latency the candidate's may be, one request at a time: 1.2 is 20% slower."""

    p50: float | None = None
    p95: float | None = None
    p99: float | None = None

    def __post_init__(self) -> None:
        _positive(self)


class LatencyRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the real server must show on requests of one row; a number for `may_slow` is of p50.

    `rate` is how many requests a second it is sent; without it, 0.3 of what the slower server manages.
    """

    p50_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None
    throughput_at_least: float | None = None
    cold_start_s: float | None = None
    memory_mb: float | None = None
    may_slow: float | MaySlow | None = None
    rate: float | None = None

    def __post_init__(self) -> None:
        _positive(self)
        if self.rate is not None and self.rate > 100_000:
            raise ValueError("rate must be 100,000 requests a second or less")


def _positive(rule: msgspec.Struct) -> None:
    """Raise ValueError for a number that is not above 0."""
    for name in rule.__struct_fields__:
        value = getattr(rule, name)
        if isinstance(value, int | float) and not 0 < value < inf:
            raise ValueError(f"{name} must be above 0")


def _not_negative(rule: msgspec.Struct, *names: str) -> None:
    """Raise ValueError for a number below 0, and for none at all; of all fields unless some are named."""
    for name in names or rule.__struct_fields__:
        value = getattr(rule, name)
        if value is not None and not 0 <= value < inf:
            raise ValueError(f"{name} must be 0 or more")


class BundleRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A ceiling on the size of all files of a bundle, in 10^6 bytes."""

    size_mb: float | None = None

    def __post_init__(self) -> None:
        _positive(self)


class Gate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a candidate must show before its reference may be promoted.

    `slices` are columns whose slices are shown, or columns with a rule for their slices. `looks` is how often the gate
    may look at one sealed test part: each look tells something of its rows.
    """

    metrics: dict[str, MetricRule] = {}
    slices: tuple[str, ...] | dict[str, SliceRule] = ()
    calibration: CalibrationRule = CalibrationRule()
    latency: LatencyRule = LatencyRule()
    bundle: BundleRule = BundleRule()
    provenance: Literal["told", "required"] = "told"
    looks: int = 100

    def __post_init__(self) -> None:
        if self.looks < 1:
            raise ValueError("looks must be 1 or more")

    @property
    def slice_rules(self) -> dict[str, SliceRule]:
        """Each slice column with its rule, which may be empty."""
        return self.slices if isinstance(self.slices, dict) else dict.fromkeys(self.slices, SliceRule())


class Serve(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the deployment answers."""

    port: int = 8000
    host: str = "127.0.0.1"
    workers: int = 1


class Drift(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Bounds on drift of the inputs."""

    psi_at_most: float = 0.2


class Monitor(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is watched once the deployment answers."""

    label_delay: str = "1d"
    drift: Drift = Drift()


class DeploymentFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file as written. `model` is null until the first promotion.

    `rollout` are the commands that bring the model to where it answers, each a list of words, run one after the other
    and without a shell by `trunkline deploy`.
    """

    deployment: str
    model: str | None = None
    gate: Gate = Gate()
    serve: Serve = Serve()
    rollout: tuple[tuple[str, ...], ...] = ()
    monitor: Monitor = Monitor()

    def __post_init__(self) -> None:
        if not all(words and words[0] for words in self.rollout):
            raise ValueError(
                "each command of rollout is a list of words, the program first: [[kubectl, apply, -f, x.yml]]"
            )


@dataclass(frozen=True)
class Deployment:
    """A deployment and where it is declared."""

    name: str
    spec: DeploymentFile
    file: Path
    model_line: int


def read_deployment(path: Path) -> Deployment:
    """Parse and validate one file. Raises `ProjectError` with file and line."""
    document = yaml.load(path)
    spec = yaml.convert(document, DeploymentFile)
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", spec.deployment):
        raise document.error(
            f"deployment name {spec.deployment!r} may only hold letters, digits, '_', '-', '.'", ("deployment",)
        )
    return Deployment(spec.deployment, spec, path, document.line(("model",)))


def policy_digest(deployment: Deployment) -> str:
    """The SHA-256 of the `gate:` section: a verdict by other rules is another verdict.

    Comments, order and what is not set do not count, so a newer Trunkline that knows more rules finds the same.
    """
    gate = deployment.spec.gate
    written = _set(msgspec.to_builtins(msgspec.structs.replace(gate, slices=gate.slice_rules)))
    return sha256(json.dumps(written, sort_keys=True).encode()).hexdigest()


def _set(value: object) -> object:
    if not isinstance(value, dict):
        return value
    kept = {name: _set(item) if name != "slices" else item for name, item in value.items()}
    return {name: item for name, item in kept.items() if item is not None and item != {}}


def rewrite_reference(path: Path, reference: str, text: str | None = None) -> str:
    """The text of `path`, or `text` in its place, with `model:` set to `reference` and nothing else changed.

    Comments, line ends and quotes stay as the user wrote them, unless the value is one that only an editor of YAML can
    replace (an alias, a mapping on one line without the key): then what means nothing may be laid out anew.
    """
    source = path.read_bytes().decode("utf-8") if text is None else text
    wanted = {**yaml.load(path, text=source).data, "model": reference}
    for made in _replaced(source, reference):
        if _means(path, made) == wanted:
            return made
    return _edited(source, reference)


def _replaced(text: str, reference: str) -> Iterator[str]:
    """`text` with the reference in the place of the value, or on a line of its own: bare or quoted, as fits."""
    end = "\r\n" if "\r\n" in text else "\n"
    span = yaml.scalar_span(text, "model")
    written = [reference, json.dumps(reference)]
    if span is None:
        before = text if not text or text.endswith("\n") else text + end
        yield from (f"{before}model: {word}{end}" for word in written)
        return
    start, stop, style = span
    if style in ("'", '"'):
        written.insert(0, f"{style}{reference}{style}")
    gap = "" if text[:start].endswith((" ", "\n")) else " "  # `model:` and nothing behind it
    tail = end if style in ("|", ">") else ""
    yield from (f"{text[:start]}{gap}{word}{tail}{text[stop:]}" for word in written)


def _means(path: Path, text: str) -> object:
    try:
        return yaml.load(path, text=text).data
    except ProjectError:
        return None


def _edited(text: str, reference: str) -> str:
    import io

    from ruamel.yaml import YAML

    editor = YAML(typ="rt")
    editor.preserve_quotes = True
    editor.width = 4096
    data = editor.load(text)
    data["model"] = reference
    out = io.StringIO()
    editor.dump(data, out)
    return out.getvalue()
