"""`deploy/*.yml`: one deployment a file."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import msgspec

from trunkline.project import yaml


class MetricRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Bounds on one metric: a floor or ceiling, and how much may be lost against the champion."""

    at_least: float | None = None
    at_most: float | None = None
    may_lose: float | None = None


class LatencyRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Ceilings on the single-row latency of the real server, in milliseconds."""

    p50_ms: float | None = None
    p99_ms: float | None = None


class Gate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a candidate must show before its reference may be promoted.

    `looks` is how often the gate may look at one sealed test part: each look tells something of its rows.
    """

    metrics: dict[str, MetricRule] = {}
    slices: tuple[str, ...] = ()
    latency: LatencyRule = LatencyRule()
    looks: int = 100

    def __post_init__(self) -> None:
        if self.looks < 1:
            raise ValueError("looks must be 1 or more")


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
    """The file as written. `model` is null until the first promotion."""

    deployment: str
    model: str | None = None
    gate: Gate = Gate()
    serve: Serve = Serve()
    monitor: Monitor = Monitor()


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


def rewrite_reference(path: Path, reference: str) -> str:
    """`path`'s text with `model:` set to `reference`; everything else, comments too, stays as the user wrote it."""
    import io

    from ruamel.yaml import YAML

    editor = YAML(typ="rt")
    editor.preserve_quotes = True
    editor.width = 4096
    data = editor.load(path.read_text("utf-8"))
    data["model"] = reference
    out = io.StringIO()
    editor.dump(data, out)
    return out.getvalue()
