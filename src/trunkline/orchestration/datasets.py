"""The datasets of a project, as the ledger and this disk know them: listed, looked at, compared, verified."""

from __future__ import annotations

import datetime as dt
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from trunkline.datasets.collect import size
from trunkline.datasets.compare import Comparison, column_changes, compare, row_changes, sides
from trunkline.datasets.grants import Roles, grants
from trunkline.datasets.manifest import FILE, Manifest, manifest_of, read_manifest
from trunkline.datasets.profile import Profile, profile
from trunkline.datasets.profile_page import write_page
from trunkline.datasets.run import folder
from trunkline.datasets.sealed import sealed_id
from trunkline.datasets.source import open_source
from trunkline.datasets.splits import parted
from trunkline.datasets.steps import step_name
from trunkline.datasets.vault import sealed_file
from trunkline.datasets.verify import Check, verify
from trunkline.errors import DatasetError, EngineError, UserError, did_you_mean
from trunkline.orchestration.session import Session
from trunkline.warehouse.protocol import Loader, Snapshots, SourceReader

_SHORTEST = 4  # of an id, that still means one


@dataclass(frozen=True)
class Known:
    """One build of a dataset. `rows` by part; `versions` are the model versions trained on it; `bytes` on this disk;
    `looks` those at its sealed part, by whichever build.

    `recorded` builds are in the ledger of the target; `here` says whether the files are on this disk; `current` is what
    `trunkline train` would use now.
    """

    name: str
    dataset_id: str
    content_id: str
    rows: Mapping[str, int]
    created_at: dt.datetime
    snapshot: str
    location: str
    versions: tuple[str, ...]
    looks: int
    bytes: int
    here: bool
    recorded: bool
    current: bool

    @property
    def label(self) -> str:
        """How it is called: the name, and as much of the id as tells it apart."""
        return f"{self.name}@{self.dataset_id[:8]}"

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {**asdict(self), "created_at": self.created_at.isoformat()}


def known(session: Session) -> list[Known]:
    """Every build that the ledger or this disk knows: by name, the newest first."""
    ledger, state = session.context.ledger, session.project.state
    versions: dict[str, list[str]] = {}
    for row in ledger.read("versions", "order by version_id"):
        versions.setdefault(str(row["dataset_id"]), []).append(str(row["reference"]))
    looks = Counter(str(row["sealed_id"] or row["dataset_id"]) for row in ledger.read("looks"))
    current = {str(last.output.get("dataset_id")) for name, last in session.past.items() if name.startswith("dataset:")}
    raw = {str(row["dataset_id"]): row["manifest"] for row in ledger.read("datasets")}
    found = {id_: _known(data, recorded=True) for id_, data in raw.items()}
    for data in _on_disk(state):
        id_ = str(data["dataset_id"])
        raw.setdefault(id_, data)
        found.setdefault(id_, _known(data, recorded=False))
    listed = [
        replace(
            one,
            versions=tuple(versions.get(id_, ())),
            looks=looks[id_] + looks[_sealed_id(raw[id_])],
            current=id_ in current,
            here=(folder(state, one.name, id_) / FILE).is_file(),
            bytes=size(folder(state, one.name, id_)) + size(sealed_file(state, one.name, id_)),
        )
        for id_, one in found.items()
    ]
    return sorted(listed, key=lambda one: (one.name, -one.created_at.timestamp()))


def _known(data: Mapping[str, Any], *, recorded: bool) -> Known:
    """From a manifest as plain data: of an older Trunkline, too."""
    created = dt.datetime.fromisoformat(str(data["created_at"]))
    return Known(
        name=str(data["name"]),
        dataset_id=str(data["dataset_id"]),
        content_id=str(data.get("content_id", "")),
        rows={str(name): int(part["rows"]) for name, part in data["parts"].items()},
        created_at=created if created.tzinfo else created.replace(tzinfo=dt.UTC),
        snapshot=str(data.get("snapshot") or ""),
        location=str(data.get("location") or ""),
        versions=(),
        looks=0,
        bytes=0,
        here=False,
        recorded=recorded,
        current=False,
    )


def _sealed_id(data: Mapping[str, Any]) -> str:
    """What looks at its sealed part are counted by: other builds have the same one, as long as its rows are chosen
    the same way."""
    try:
        return sealed_id(manifest_of(data))
    except (ValueError, KeyError, TypeError, AttributeError):
        return ""  # of an older Trunkline


def _on_disk(state: Path) -> Iterator[dict[str, Any]]:
    for file in sorted(state.glob(f"datasets/*/[!.]*/{FILE}")):
        try:
            data = json.loads(file.read_text("utf-8"))
            _known(data, recorded=False)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue  # damaged: `verify` says so of those that the ledger knows
        yield data


# -- one, or two


def find(builds: Sequence[Known], text: str) -> Known:
    """The build that NAME, NAME@ID or ID means; of a name the one that is used now. Raises `DatasetError`."""
    listed = _matching(builds, text)
    return next((one for one in listed if one.current), listed[0]) if "@" not in text else listed[0]


def _matching(builds: Sequence[Known], text: str) -> list[Known]:
    """The builds of a name, the newest first; or the one of an id."""
    name, _, short = text.partition("@")
    named = [one for one in builds if one.name == name]
    if named and not short:
        return named
    candidates = named if short else list(builds)
    wanted = short or name
    if not named and short:
        raise _unknown(builds, name)
    matching = [one for one in candidates if one.dataset_id.startswith(wanted.lower())]
    if len(matching) == 1 and len(wanted) >= _SHORTEST:
        return matching
    if not short and not matching:
        raise _unknown(builds, name)
    ids = ", ".join(one.label for one in (matching or candidates)[:6])
    what = f"{text!r} may be {len(matching)} datasets" if matching else f"{name!r} has no build {short!r}"
    if len(matching) == 1:
        what = f"{wanted!r} is too short for an id: give {_SHORTEST} digits or more"
    raise DatasetError(what, hint=f"builds: {ids}")


def _unknown(builds: Sequence[Known], name: str) -> DatasetError:
    names = list(dict.fromkeys(one.name for one in builds))
    hint = f"datasets: {', '.join(names)}" if names else "none is built yet: `trunkline run` builds them"
    return DatasetError(f"no dataset {name!r}.{did_you_mean(name, names)}", hint=hint)


def pair(builds: Sequence[Known], one: str, other: str | None) -> tuple[Known, Known]:
    """The two to compare, the older first where it is one dataset's last two."""
    if other is not None:
        return find(builds, one), find(builds, other)
    listed = _matching(builds, one)
    if len(listed) < 2:
        raise DatasetError(
            f"{one!r} is one build: there is nothing to compare it with",
            hint=f"trunkline dataset diff {listed[0].label} NAME@ID; `trunkline dataset list` shows them",
        )
    return listed[1], listed[0]


def manifest(session: Session, one: Known) -> Manifest:
    """Its manifest: from this disk, else as the ledger has it. Raises `DatasetError` for one of an older Trunkline."""
    if one.here:
        return read_manifest(folder(session.project.state, one.name, one.dataset_id))
    rows = session.context.ledger.read("datasets", "where dataset_id = ?", [one.dataset_id])
    try:
        return manifest_of(rows[0]["manifest"])
    except (IndexError, ValueError, KeyError, TypeError, AttributeError) as exc:
        raise DatasetError(f"{one.label} was built by an older Trunkline, and its files are not here") from exc


def reader(session: Session) -> SourceReader:
    """The engine that reads Parquet files of this disk."""
    warehouse = session.context.warehouse
    if not isinstance(warehouse, Loader):
        raise EngineError(f"the {warehouse.name} warehouse cannot read files")
    return warehouse.reader()


@dataclass(frozen=True)
class Shown:
    """A dataset to look at. Without its files here there is no profile and no page."""

    known: Known
    manifest: Manifest
    profile: Profile | None
    page: Path | None


def show(session: Session, text: str) -> Shown:
    """Look at a dataset, and write its page beside its parts."""
    one = find(known(session), text)
    made = manifest(session, one)
    if not one.here:
        return Shown(one, made, None, None)
    place = folder(session.project.state, one.name, one.dataset_id)
    found = profile(reader(session), made, place, session.context.progress)
    return Shown(one, made, found, write_page(found, place))


def diff(session: Session, one: str, other: str | None, examples: int) -> tuple[Known, Known, Comparison]:
    """What changed from one build to another, down to rows where the files of both are here."""
    before, after = pair(known(session), one, other)
    manifests = manifest(session, before), manifest(session, after)
    found = compare(*manifests)
    absent = [side.label for side in (before, after) if not side.here]
    if absent:
        return before, after, replace(found, why=f"the files of {' and '.join(absent)} are not here")
    if manifests[0].key != manifests[1].key:
        return before, after, replace(found, why="their keys are different columns")
    state = session.project.state
    places = folder(state, before.name, before.dataset_id), folder(state, after.name, after.dataset_id)
    files = sides(*manifests, places)
    tell = session.context.progress
    if found.same and all(part.same for part in found.parts):
        return before, after, found
    tell("comparing columns")
    columns = column_changes(reader(session), found, files)
    rows = row_changes(reader(session), found, files, examples, tell)
    return before, after, replace(found, columns=columns, rows=rows)


# -- grants


def grants_sql(session: Session, name: str, trainer: str, opener: str) -> str:
    """What an administrator runs so that a training role never sees the test rows. Raises `UserError` elsewhere than
    on Snowflake."""
    target = session.project.target
    if target.type != "snowflake":
        raise UserError(
            f"target {target.name!r} is {target.type}: only Snowflake has roles to grant to",
            hint="trunkline dataset grants NAME --target prod",
        )
    step = session.compile(("ingest", "build", "test", "dataset")).graph.steps.get(step_name(name))
    if step is None:
        raise _unknown(known(session), name)
    warehouse = session.context.warehouse
    source = parted(open_source(step, warehouse), warehouse)
    if isinstance(warehouse, Snapshots):
        warehouse.release(source.snapshot)  # it was not taken to be kept
    settings = target.settings
    return grants(source, Roles(str(settings["database"]), str(settings.get("role") or "PUBLIC"), trainer, opener))


# -- verify


def chosen(session: Session, text: str | None) -> list[Known]:
    """What to verify: the named one, else all that are on this disk. Raises `DatasetError` if the named one is not."""
    builds = known(session)
    if text is None:
        return [one for one in builds if one.here]
    one = find(builds, text)
    if not one.here:
        raise DatasetError(f"the files of {one.label} are not here", hint=f"`trunkline dataset {one.name}` builds it")
    return [one]


def verified(session: Session, builds: Sequence[Known]) -> Iterator[tuple[Known, Check]]:
    """Check them one by one; each check as soon as it is done."""
    state, context = session.project.state, session.context
    recorded = {str(row["dataset_id"]): row["manifest"] for row in context.ledger.read("datasets")}
    total, done = sum(one.bytes for one in builds) or 1, 0
    for one in builds:
        context.progress(f"verifying {one.label}", done / total)
        place, sealed = folder(state, one.name, one.dataset_id), sealed_file(state, one.name, one.dataset_id)
        seen: set[Path] = set()
        for check in verify(context.warehouse, place, sealed, recorded.get(one.dataset_id)):
            if check.file not in seen:
                done += size(check.file)
                seen.add(check.file)
            context.progress(f"verifying {one.label}", min(done / total, 1.0))
            yield one, check
