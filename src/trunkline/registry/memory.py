"""A registry in memory: the fake for tests, ours and yours. Nothing outlives the process."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from trunkline.errors import EngineError
from trunkline.registry.files import appearing, listing
from trunkline.registry.protocol import ModelVersion, RunRecord
from trunkline.registry.reference import (
    check_alias,
    check_model_name,
    check_tags,
    parse_reference,
    unknown_alias,
    unknown_model,
    unknown_version,
    version_uri,
)


@dataclass
class _Model:
    versions: list[ModelVersion] = field(default_factory=list)
    aliases: dict[str, int] = field(default_factory=dict)


class MemoryRegistry:
    """`Registry` in memory.

    `runs` holds what was logged, by run id, children as records of their own; `files` the bytes of every version by
    its uri, and of every run's artifacts by its id. Both are for tests to look at.
    """

    def __init__(self) -> None:
        self.runs: dict[str, RunRecord] = {}
        self.files: dict[str, dict[str, bytes]] = {}
        self._models: dict[str, _Model] = {}
        self._keys: dict[tuple[str, str], str] = {}
        self._lock = threading.RLock()

    def log_run(self, run: RunRecord) -> str:
        """See `Registry.log_run`."""
        with self._lock:
            if run.key:
                run_id = self._log(run)
            else:
                run_id = uuid.uuid4().hex
                self.runs[run_id] = run
            if run.artifacts is not None:
                self.files[run_id] = {path: (run.artifacts / path).read_bytes() for path in listing(run.artifacts)}
            for place, child in enumerate(run.children):
                named = replace(child, experiment=run.experiment, parent_run_id=run_id)
                self.log_run(replace(named, key=f"{run.key}/{place}") if run.key else named)
        return run_id

    def log_runs(self, runs: Sequence[RunRecord]) -> list[str]:
        """See `Registry.log_runs`."""
        with self._lock:
            return [self._log(run) for run in runs]

    def _log(self, run: RunRecord) -> str:
        key = (run.experiment, run.key)
        run_id = self._keys.get(key) if run.key else None
        if run_id is None:
            run_id = self._keys[key] = uuid.uuid4().hex
            self.runs[run_id] = replace(run, children=(), artifacts=None)
        elif self.runs[run_id].status == "RUNNING" or run.status == "RUNNING":
            known = self.runs[run_id]
            self.runs[run_id] = replace(
                known,
                metrics={**known.metrics, **run.metrics},
                curves={**known.curves, **run.curves},
                tags={**known.tags, **run.tags},
                status=run.status,
                ended_at=run.ended_at,
            )
        return run_id

    def register(
        self,
        name: str,
        bundle_dir: Path,
        *,
        run_id: str,
        sha256: str,
        tags: Mapping[str, str],
        example: Mapping[str, object] | None,
    ) -> ModelVersion:
        """See `Registry.register`."""
        check_model_name(name)
        content = {path: (bundle_dir / path).read_bytes() for path in listing(bundle_dir)}
        with self._lock:
            if run_id not in self.runs:
                raise EngineError(f"cannot register {name!r}: there is no run {run_id!r}")
            model = self._models.setdefault(name, _Model())
            number = len(model.versions) + 1
            version = ModelVersion(
                name=name,
                version=number,
                uri=version_uri(name, number),
                sha256=sha256,
                run_id=run_id,
                tags={**tags, "sha256": sha256},
                metrics=dict(self.runs[run_id].metrics),
                created_at=datetime.now(UTC),
            )
            self.files[version.uri] = content
            model.versions.append(version)
        return version

    def resolve(self, reference: str) -> ModelVersion:
        """See `Registry.resolve`."""
        parsed = parse_reference(reference)
        with self._lock:
            model = self._model(parsed.name)
            number = parsed.version
            if parsed.alias is not None:
                number = model.aliases.get(parsed.alias)
                if number is None:
                    there = [version.version for version in model.versions]
                    raise unknown_alias(parsed.name, parsed.alias, model.aliases, there)
            return self._version(parsed.name, number or 0)

    def versions(self, name: str) -> list[ModelVersion]:
        """See `Registry.versions`."""
        check_model_name(name)
        with self._lock:
            model = self._models.get(name)
            return list(model.versions) if model else []

    def fetch(self, version: ModelVersion, directory: Path) -> Path:
        """See `Registry.fetch`."""
        with self._lock:
            self._version(version.name, version.version)
            content = self.files[version.uri]
        return _written(content, directory)

    def artifacts(self, run_id: str, directory: Path) -> Path:
        """See `Registry.artifacts`."""
        with self._lock:
            if run_id not in self.runs:
                raise EngineError(f"there is no run {run_id!r}")
            content = self.files.get(run_id, {})
        return _written(content, directory)

    def tag(self, version: ModelVersion, tags: Mapping[str, str]) -> None:
        """See `Registry.tag`."""
        check_tags(tags)
        with self._lock:
            known = self._version(version.name, version.version)
            self._models[version.name].versions[known.version - 1] = replace(known, tags={**known.tags, **tags})

    def set_alias(self, name: str, alias: str, version: int) -> None:
        """See `Registry.set_alias`."""
        check_model_name(name)
        check_alias(alias)
        with self._lock:
            self._version(name, version)
            self._models[name].aliases[alias] = version

    def alias(self, name: str, alias: str) -> ModelVersion | None:
        """See `Registry.alias`."""
        check_model_name(name)
        check_alias(alias)
        with self._lock:
            model = self._models.get(name)
            number = model.aliases.get(alias) if model else None
            return self._version(name, number) if number else None

    def _model(self, name: str) -> _Model:
        if name not in self._models:
            raise unknown_model(name, self._models)
        return self._models[name]

    def _version(self, name: str, number: int) -> ModelVersion:
        versions = self._model(name).versions
        if not 1 <= number <= len(versions):
            raise unknown_version(name, number, [version.version for version in versions])
        return versions[number - 1]


def _written(content: Mapping[str, bytes], directory: Path) -> Path:
    with appearing(directory) as filling:
        for name, data in content.items():
            path = filling / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
    return directory
