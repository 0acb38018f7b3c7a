"""What `trunkline dataset` shows people."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from trunkline.cli.quarantine import shortened
from trunkline.cli.show import Show

if TYPE_CHECKING:
    from trunkline.datasets.collect import Rubbish
    from trunkline.datasets.compare import ColumnChange, Comparison, PartChange, RowChanges
    from trunkline.datasets.profile import Column
    from trunkline.datasets.verify import Check
    from trunkline.orchestration.collecting import Found
    from trunkline.orchestration.datasets import Known, Shown

_PARTS = ("train", "validation", "test")
_MOST_COLUMNS = 12


def megabytes(size: int | None) -> str:
    """A size as people read it; nothing where only the warehouse knows it."""
    if size is None:
        return ""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size} B"


def _minute(at: dt.datetime) -> str:
    return at.astimezone(dt.UTC).strftime("%Y-%m-%d %H:%M")


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else "–"


# -- list


def listed(show: Show, builds: Sequence[Known]) -> None:
    """One line a build."""
    if not builds:
        show.line("no dataset is built yet: `trunkline run` builds those of ml/*.py")
        return
    head = ["name", "id", *_PARTS, "built (UTC)", "snapshot", "model versions", "looks", "on disk", "files"]
    cells = [
        [
            one.name,
            one.dataset_id[:8] + ("*" if one.current else ""),
            *(f"{one.rows[part]:,}" if part in one.rows else "" for part in _PARTS),
            _minute(one.created_at),
            shortened(one.snapshot, 36),
            _versions(one.versions),
            f"{one.looks:,}" if one.looks else "",
            megabytes(one.bytes) if one.bytes else "",
            "here" if one.here else ("published" if one.location else "not here"),
        ]
        for one in builds
    ]
    kept = [i for i in range(len(head)) if i not in (6, 7, 8) or any(row[i] for row in cells)]
    right = [kept.index(i) for i in (2, 3, 4, 8, 9) if i in kept]
    show.table([head[i] for i in kept], [[row[i] for i in kept] for row in cells], right=right)
    if any(one.current for one in builds):
        show.line("  * used now", dim=True)
    strange = sum(not one.recorded for one in builds)
    if strange:
        show.line(f"  {strange} of these {'is' if strange == 1 else 'are'} not in this target's ledger", dim=True)


def _versions(versions: Sequence[str]) -> str:
    names = [uri.removeprefix("models:/") for uri in versions]
    return ", ".join(names[-3:]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


# -- show


def shown(show: Show, found: Shown, page: str | None) -> None:
    """A dataset's identity, parts, columns and findings."""
    from trunkline.datasets.wording import split_words, task_words

    one, manifest = found.known, found.manifest
    show.line(f"{one.label}: {len(manifest.features):,} features of {manifest.relation}", bold=True)
    when = f"{_minute(one.created_at)} UTC" + (f" from snapshot {manifest.snapshot}" if manifest.snapshot else "")
    facts = [
        ("id", manifest.dataset_id[:16]),
        ("content", manifest.content_id[:16]),
        ("built", when),
        ("loads", f"{len(manifest.load_ids):,} upstream" + _ids(manifest.load_ids)),
        ("key", manifest.key + (f", time {manifest.time}" if manifest.time else "")),
        ("target", f"{manifest.target} ({task_words(manifest)})"),
        ("split", split_words(manifest)),
        ("trained on it", _versions(one.versions)),
        ("looks", f"{one.looks:,} at the sealed part" if one.looks else ""),
        ("published", manifest.location),
    ]
    for name, value in facts:
        if value:
            show.line(f"  {name:<14}{value}")
    _parts(show, found)
    if found.profile is None:
        show.line(f"its files are not here: `trunkline dataset {one.name}` builds it anew", fg="yellow")
        return
    _columns(show, found.profile.columns)
    _findings(show, found)
    show.line(f"profile: {page}", bold=True)


def _ids(ids: Sequence[str]) -> str:
    return f" (…{', …'.join(load[-8:] for load in ids[-3:])})" if ids else ""


def _parts(show: Show, found: Shown) -> None:
    manifest = found.manifest
    labels = list(dict.fromkeys(label for part in manifest.parts.values() for label in part.labels))[:6]
    total = sum(part.rows for part in manifest.parts.values())
    show.line()
    cells = [
        [
            part.name + ("" if part.file else " (sealed)"),
            f"{part.rows:,}",
            _share(part.rows, total),
            *(f"{part.labels.get(label, 0):,} ({_share(part.labels.get(label, 0), part.rows)})" for label in labels),
        ]
        for part in manifest.parts.values()
    ]
    head = ["part", "rows", "share", *(f"{manifest.target} = {_value(label, 16)}" for label in labels)]
    show.table(head, cells, right=range(1, len(head)))
    if manifest.unlabelled:
        show.line(f"  {manifest.unlabelled:,} rows have no target and are in no part", dim=True)
    if manifest.left_out:
        show.line(f"  {manifest.left_out:,} rows lie in a gap of the split and are in no part", dim=True)
    for number, fold in enumerate(manifest.folds, 1):
        first, last = fold.validation
        show.line(
            f"  fold {number}: trains on rows {fold.start:,} to {fold.train:,}, validated on {first:,} to {last:,}"
        )


def _columns(show: Show, columns: Sequence[Column]) -> None:
    show.line()
    cells, last = [], None
    for column in columns:
        group = column.group or column.role
        both = [column.summary[part] for part in ("train", "validation")]
        drawn = column.plot is not None and column.role not in ("key", "time")
        means = [_mean(summary.mean) if drawn and column.kind in ("number", "boolean") else "" for summary in both]
        overlap = f"{column.plot.overlap:.0%}" if drawn and column.plot and column.plot.overlap is not None else ""
        missing = [_share(summary.missing, summary.rows) if summary.missing else "" for summary in both]
        different = both[0].different if column.kind != "time" else ""
        cells.append([group if group != last else "", column.name, column.type, *missing, different, *means, overlap])
        last = group
    head = ["group", "column", "type", "missing: train", "validation", "different"]
    show.table([*head, "mean: train", "validation", "overlap"], cells, right=range(3, 9))


def _mean(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _findings(show: Show, found: Shown) -> None:
    assert found.profile is not None  # its caller asked
    marks = {"ok": ("✓", "green"), "warn": ("!", "yellow"), "fail": ("✗", "red"), "skipped": ("-", None)}
    show.line()
    for finding in found.profile.findings:
        mark, colour = marks[finding.outcome]
        show.line(f"{click.style(mark, fg=colour)} {finding.text}")
    if found.profile.findings:
        show.line()


# -- diff


def compared(show: Show, one: Known, other: Known, found: Comparison) -> dict[str, Any]:
    """What changed; the same as plain data."""
    show.line(f"{one.label} ({_minute(one.created_at)}) → {other.label} ({_minute(other.created_at)})", bold=True)
    changes(show, found)
    return _record(one, other, found)


def changes(show: Show, found: Comparison) -> None:
    """What changed from one dataset to another."""
    for change in found.declared:
        show.line(f"  declared  {change.what}: {change.before} → {change.after}")
    for sign, columns, colour in (("+", found.added_columns, "green"), ("-", found.removed_columns, "red")):
        for name, type_ in columns:
            show.line(f"  schema    {click.style(f'{sign} {name} {type_}', fg=colour)}")
    for name, old, new in found.retyped:
        show.line(f"  schema    {name}: {old} → {new}")
    if found.new_loads or found.gone_loads:
        told = f"{len(found.new_loads):,} new{_ids(found.new_loads)}"
        told += f", {len(found.gone_loads):,} no longer in it" if found.gone_loads else ""
        show.line(f"  loads     {told}")
    _compared_parts(show, found.parts)
    _compared_columns(show, found.columns)
    if found.rows is not None:
        _compared_rows(show, found.rows)
    elif found.why:
        show.line(f"rows were not compared: {found.why}", fg="yellow")
    if found.same:
        show.line(f"{click.style('✓', fg='green')} the same rows in the same parts")


def _compared_parts(show: Show, parts: Sequence[PartChange]) -> None:
    cells = [
        [
            part.name + (" (sealed)" if part.name == "test" else ""),
            *(f"{rows:,}" for rows in part.rows),
            f"{part.rows[1] - part.rows[0]:+,}" if part.rows[0] != part.rows[1] else "",
            ", ".join(_label(label, part) for label in list(dict.fromkeys([*part.labels[0], *part.labels[1]]))[:4]),
            "same rows" if part.same else "differs",
        ]
        for part in parts
    ]
    show.table(["part", "rows before", "after", "", "labels", "content"], cells, right=(1, 2, 3))


def _label(label: str, part: PartChange) -> str:
    before, after = (_share(labels.get(label, 0), rows) for labels, rows in zip(part.labels, part.rows, strict=True))
    return f"{_value(label, 16)}: {before}" + (f" → {after}" if after != before else "")


def _compared_columns(show: Show, changes: Sequence[ColumnChange]) -> None:
    cells = []
    for change in changes:
        old, new = change.before, change.after
        missing = _share(old.missing, old.rows), _share(new.missing, new.rows)
        means = ("", "") if old.kind not in ("number", "boolean") else (_mean(old.mean), _mean(new.mean))
        different = old.different, new.different
        cell = ["" if a == b else f"{a} → {b}" for a, b in (missing, means, different)]
        if any(cell):
            cells.append([change.part, change.name, *cell])
    if cells:
        show.line()
        show.table(["part", "column", "missing", "mean", "different values"], cells[:_MOST_COLUMNS])
    if len(cells) > _MOST_COLUMNS:
        show.line(f"  … and {len(cells) - _MOST_COLUMNS} more: --json has them all")


def _compared_rows(show: Show, rows: RowChanges) -> None:
    show.line()
    counts = [("added", rows.added, "green"), ("removed", rows.removed, "red"), ("changed", rows.changed, "yellow")]
    counts.append(("moved to the other part", rows.moved, "yellow"))
    told = [click.style(f"{count:,} {word}", fg=colour) for word, count, colour in counts if count]
    show.line(f"rows of train and validation: {', '.join([*told, f'{rows.same:,} the same'])}", bold=not told)
    if rows.columns:
        most = [f"{name} ({count:,})" for name, count in list(rows.columns.items())[:_MOST_COLUMNS]]
        more = f" and {len(rows.columns) - len(most)} more" if len(rows.columns) > len(most) else ""
        show.line(f"  changed in {', '.join(most)}{more}")
    for key, part in rows.added_keys:
        show.line(f"  {click.style('+', fg='green')} {_value(key, 60)} in {part}")
    for key, part in rows.removed_keys:
        show.line(f"  {click.style('-', fg='red')} {_value(key, 60)} from {part}")
    for row in rows.examples:
        place = f"from {row.parts[0]} to {row.parts[1]}" if row.parts[0] != row.parts[1] else f"in {row.parts[1]}"
        values = [f"{name}: {_value(old)} → {_value(new)}" for name, old, new in row.values[:6]]
        more = f" and {len(row.values) - 6} more" if len(row.values) > 6 else ""
        show.line(f"  {click.style('~', fg='yellow')} {_value(row.key, 60)} {place}  {', '.join(values)}{more}")


def _value(value: Any, width: int = 40) -> str:
    """A value of somebody's data: what a terminal would take for a command is spelt out."""
    if value is None:
        return "NULL"
    return shortened("".join(c if c.isprintable() or c.isspace() else f"\\x{ord(c):02x}" for c in str(value)), width)


def _record(one: Known, other: Known, found: Comparison) -> dict[str, Any]:
    data = asdict(found)
    rows: Mapping[str, Any] | None = data["rows"]
    return {
        "before": one.to_json(),
        "after": other.to_json(),
        "same": found.same,
        **{name: value for name, value in data.items() if name not in ("before", "after", "rows")},
        "rows": rows,
    }


# -- verify


def checked(show: Show, builds: Sequence[Known], checks: Sequence[tuple[Known, Check]], root: Path) -> dict[str, Any]:
    """What is wrong, and how much is right; the same as plain data."""
    records = []
    for one in builds:
        mine = [check for known, check in checks if known is one]
        wrong = [check for check in mine if not check.ok]
        files = len({check.file for check in mine})
        mark = click.style("✗", fg="red") if wrong else click.style("✓", fg="green")
        show.line(f"{mark} {one.label}  {files} files, {megabytes(one.bytes)}")
        for check in wrong:
            show.line(f"    {_relative(check.file, root)}: {check.wrong}")
        records.append(
            {
                "name": one.name,
                "dataset_id": one.dataset_id,
                "ok": not wrong,
                "checks": [
                    {"file": _relative(check.file, root), "what": check.what, "ok": check.ok, "wrong": check.wrong}
                    for check in mine
                ],
            }
        )
    bad = [record["name"] for record in records if not record["ok"]]
    if not records:
        show.line("no dataset has files here: `trunkline run` builds them")
    elif bad:
        show.line("delete the folder of a damaged dataset, and `trunkline dataset` builds it anew", fg="yellow")
    return {"ok": not bad, "datasets": records}


def _relative(file: Path, root: Path) -> str:
    return str(file.relative_to(root)) if file.is_relative_to(root) else str(file)


# -- gc


def rubbish_shown(show: Show, found: Found) -> None:
    """What nobody needs, and a word on what stays."""
    cells = [[item.kind, item.what, megabytes(item.bytes), item.why] for item in found.rubbish]
    if cells:
        show.table(["", "what", "size", "why"], cells, right=(2,))
    reasons: dict[str, int] = {}
    for why in found.kept.values():
        reasons[why] = reasons.get(why, 0) + 1
    told = [f"{count} ({why})" if count > 1 else why for why, count in sorted(reasons.items(), key=lambda i: -i[1])[:6]]
    if found.kept:
        show.line(f"  kept: {len(found.kept)} build{'s' if len(found.kept) != 1 else ''}: {'; '.join(told)}", dim=True)
    if found.strange:
        names = ", ".join(one.label for one in found.strange[:4])
        show.line(f"  kept: {names}, which this target's ledger does not know: another target may", dim=True)


def collected(show: Show, found: Found, gone: Sequence[Rubbish], *, dry_run: bool) -> dict[str, Any]:
    """What was removed; the same as plain data."""
    total = sum(item.bytes or 0 for item in (gone or found.rubbish))
    if not found.rubbish:
        show.line("nothing to remove: everything here is needed")
    elif gone:
        show.line(f"removed {len(gone)} of {len(found.rubbish)}, {megabytes(total)}", bold=True)
    else:
        hint = "" if dry_run else ": --yes removes it"
        show.line(f"nothing was removed{hint} ({megabytes(total) or 'a snapshot'})", bold=True)
    return {
        "removed": [item.to_json() for item in gone],
        "found": [item.to_json() for item in found.rubbish],
        "kept": dict(found.kept),
        "unknown": [one.label for one in found.strange],
        "bytes": total if gone else 0,
    }
