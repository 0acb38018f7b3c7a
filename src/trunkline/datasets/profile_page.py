"""A profile as one HTML file: no script, nothing from elsewhere; in light and dark, on wide and narrow screens."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from trunkline.datasets.drawing import html_page, number, percent, text
from trunkline.datasets.findings import Finding
from trunkline.datasets.manifest import Manifest
from trunkline.datasets.profile import OPEN, Column, Plot, Profile
from trunkline.datasets.profile_svg import findings_bars, formatter, histogram, outcome_text
from trunkline.datasets.wording import split_words, task_words
from trunkline.project.files import write_atomic

FILE = "profile.html"
# The browser itself is told to run nothing and to ask nobody, should a value ever escape its quotes.
_MARKS = {"ok": "fine", "warn": "look at this", "fail": "wrong", "skipped": "not looked at"}
_ROLES = ("target", "time", "key", "used by the split")
_CLASSES = 8  # colours for the classes of the target


def write_page(profile: Profile, folder: Path) -> Path:
    """Write `profile.html` beside the parts; its path."""
    path = folder / FILE
    write_atomic(path, page(profile))
    return path


def page(profile: Profile) -> str:
    """The page."""
    manifest = profile.manifest
    body = "".join(
        [
            *_head(manifest),
            *_nav(profile),
            *_parts(manifest),
            *_findings(profile.findings),
            *_missing(profile.columns),
            *_columns(profile),
        ]
    )
    return html_page(f"{manifest.name} · {manifest.dataset_id[:16]}", _style(), body)


def _style() -> str:
    return Path(__file__).with_name("profile.css").read_text("utf-8")


def _head(manifest: Manifest) -> Iterator[str]:
    facts = [
        ("id", f"<code>{text(manifest.dataset_id[:16])}</code>"),
        ("content", f"<code>{text(manifest.content_id[:16] or 'not known')}</code>"),
        ("built", text(manifest.created_at[:16].replace("T", " ") + " UTC")),
        ("made of", f"<code>{text(manifest.relation)}</code>"),
        ("snapshot", f"<code>{text(manifest.snapshot or 'none: this warehouse keeps no history')}</code>"),
        ("loads upstream", f"{len(manifest.load_ids):,}"),
        ("key", f"<code>{text(manifest.key)}</code>"),
        ("time", f"<code>{text(manifest.time)}</code>" if manifest.time else "none"),
        ("target", f"<code>{text(manifest.target)}</code> ({task_words(manifest)})"),
        ("split", text(split_words(manifest))),
    ]
    yield f'<h1>{text(manifest.name)}</h1><p class="soft">A dataset of {len(manifest.features):,} features'
    yield f" in {len(manifest.groups):,} group{'s' if len(manifest.groups) != 1 else ''}.</p>"
    yield '<dl class="card facts">'
    yield from (f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in facts)
    yield "</dl>"


def _nav(profile: Profile) -> Iterator[str]:
    links = [("parts", "Parts"), ("findings", "Findings"), ("missing", "Missing values")]
    links += [(f"group-{place}", group) for place, group in enumerate(_groups(profile.columns))]
    yield "<nav>" + "".join(f'<a href="#{place}">{text(name, 40)}</a>' for place, name in links) + "</nav>"


def _groups(columns: Sequence[Column]) -> dict[str, list[Column]]:
    """Target, key and time first, then group by group."""
    first = [column for role in _ROLES for column in columns if column.role == role]
    found = {"target, key and time": first}
    for column in columns:
        if not column.role:
            found.setdefault(column.group, []).append(column)
    return {group: listed for group, listed in found.items() if listed}


# -- parts and labels


def _parts(manifest: Manifest) -> Iterator[str]:
    yield '<h2 id="parts">Parts</h2><div class="card">'
    labels = list(dict.fromkeys(label for part in manifest.parts.values() for label in part.labels))
    shown = labels[:_CLASSES] if len(labels) > _CLASSES else labels
    if labels:
        yield f'<ul class="key"><li>{text(manifest.target)}:</li>'
        yield from (
            f'<li><i style="background:var(--c{place % _CLASSES})"></i>{text(label, 40)}</li>'
            for place, label in enumerate(shown)
        )
        yield f"<li>and {len(labels) - len(shown)} more</li></ul>" if len(labels) > len(shown) else "</ul>"
    total = sum(part.rows for part in manifest.parts.values()) or 1
    for part in manifest.parts.values():
        name = part.name + ("" if part.file else " (sealed)")
        segments = [
            f'<span style="width:{rows / (part.rows or 1):.4%};background:var(--c{place % _CLASSES})" '
            f'title="{text(label)}: {rows:,}"></span>'
            for place, label in enumerate(shown)
            if (rows := part.labels.get(label, 0))
        ]
        counts = ", ".join(
            f"{text(label, 24)}: {part.labels[label]:,} ({percent(part.labels[label] / (part.rows or 1))})"
            for label in shown[:4]
            if label in part.labels
        )
        yield f'<div class="row"><div>{name}<div class="small">{part.rows:,} rows ({percent(part.rows / total)})</div>'
        yield f'</div><div><div class="stack{"" if segments else " lock"}">{"".join(segments)}</div>'
        yield f'<div class="small">{counts}</div></div></div>'
    left = [f"{manifest.unlabelled:,} rows have no target"] if manifest.unlabelled else []
    left += [f"{manifest.left_out:,} rows lie in a gap of the split"] if manifest.left_out else []
    if left:
        yield f'<p class="small">In no part: {"; ".join(left)}.</p>'
    if manifest.folds:
        yield '<p class="small">Folds, as rows of train followed by validation:</p><table><tr><th>fold</th>'
        yield '<th class="n">trains on</th><th class="n">is validated on</th></tr>'
        for place, fold in enumerate(manifest.folds, 1):
            yield f'<tr><td>{place}</td><td class="n">{fold.start:,} to {fold.train:,}</td>'
            yield f'<td class="n">{fold.validation[0]:,} to {fold.validation[1]:,}</td></tr>'
        yield "</table>"
    yield '<p class="small">Of the sealed part nothing else is shown here: only the gate reads it.</p></div>'


# -- findings


def _findings(findings: Sequence[Finding]) -> Iterator[str]:
    yield '<h2 id="findings">Findings</h2>'
    if not findings:
        yield '<p class="soft">No probe has looked at this dataset.</p>'
        return
    loud = [finding for finding in findings if finding.outcome in ("fail", "warn")]
    quiet = [finding for finding in findings if finding.outcome not in ("fail", "warn")]
    if not loud:
        yield '<p class="soft">The probes found nothing to worry about.</p>'
    yield f'<div class="two">{"".join(_finding(finding) for finding in loud)}</div>'
    if quiet:
        yield f"<details><summary>{len(quiet)} {'more ' if loud else ''}probes</summary>"
        yield f'<div class="two">{"".join(_finding(finding) for finding in quiet)}</div></details>'


def _finding(finding: Finding) -> str:
    where = f" · <code>{text(finding.column)}</code>" if finding.column else ""
    held = ""
    if finding.value is not None and finding.bound is not None:
        held = f'<p class="small">measured {number(finding.value)}, bound {number(finding.bound)}</p>'
    drawn = findings_bars(finding.bars) if finding.bars else ""
    return (
        f'<div class="card finding {finding.outcome}"><span class="tag">{_MARKS[finding.outcome]}</span>'
        f' <span class="small">{text(finding.probe)}{where}</span><p>{_coded(finding.text)}</p>{held}{drawn}</div>'
    )


def _coded(words: str) -> str:
    """Words for people; what stands between backticks is a name."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", text(words, 2000))


# -- missing values


def _missing(columns: Sequence[Column]) -> Iterator[str]:
    yield '<h2 id="missing">Missing values</h2>'
    lacking = [c for c in columns if any(c.summary[part].missing for part in OPEN)]
    if not lacking:
        yield '<p class="soft">No value is missing in train and validation.</p>'
        return
    lacking.sort(key=lambda c: -max(c.summary[part].missing_share for part in OPEN))
    yield f'<p class="soft">{len(lacking)} of {len(columns)} columns lack values.</p><div class="card">{_key(False)}'
    yield '<div class="grid">'
    for column in lacking[:60]:
        meters = "".join(
            f'<div class="meter"><span style="width:{column.summary[part].missing_share:.3%};'
            f'background:var(--{part})"></span></div>'
            for part in OPEN
        )
        shares = " / ".join(percent(column.summary[part].missing_share) for part in OPEN)
        yield f'<div><div class="small"><code>{text(column.name, 60)}</code> {shares}</div>{meters}</div>'
    more = f'<p class="small">and {len(lacking) - 60} more, with fewer</p>' if len(lacking) > 60 else ""
    yield f"</div>{more}</div>"


# -- columns


def _columns(profile: Profile) -> Iterator[str]:
    for place, (group, columns) in enumerate(_groups(profile.columns).items()):
        yield f'<h2 id="group-{place}">{text(group)} <span class="soft small">{len(columns)}</span></h2>'
        yield _key(True, profile.outcome)
        yield f'<div class="grid">{"".join(_card(column, profile.outcome) for column in columns)}</div>'


def _key(line: bool, outcome: str = "") -> str:
    mark = "l" if line else ""
    colour = "" if line else ' style="background:var(--validation)"'
    dot = f'<li><i class="d" style="background:var(--outcome)"></i>{text(outcome)} in train</li>' if outcome else ""
    return (
        '<ul class="key"><li><i style="background:var(--train)"></i>train</li>'
        f'<li><i class="{mark}"{colour}></i>validation</li>{dot}</ul>'
    )


def _card(column: Column, outcome: str) -> str:
    train, validation = (column.summary[part] for part in OPEN)
    chips = [f"{text(column.type)}"]
    if train.missing or validation.missing:
        shares = " / ".join(percent(summary.missing_share) for summary in (train, validation))
        chips.append(f"missing {shares}")
    if column.kind in ("number", "text"):
        chips.append(f"{max(train, validation, key=lambda summary: summary.distinct).different} different")
    if train.mean is not None and column.kind == "number" and column.role != "key":
        means = [number(s.mean) if s.mean is not None else "–" for s in (train, validation)]
        chips.append(f"mean {means[0]} / {means[1]}")
    if train.odd or validation.odd:
        chips.append(f"<b>{train.odd + validation.odd:,} infinite or no number</b>")
    if column.plot and column.plot.overlap is not None and column.role != "time":
        share = percent(column.plot.overlap)
        chips.append(f"<b>overlap {share}</b>" if column.plot.overlap < 0.8 else f"overlap {share}")
    drawn = _drawn(column, column.plot, outcome) if column.plot else f'<p class="small">{text(column.note)}</p>'
    span = _range(column)
    listed = "".join(f"<span>{chip}</span>" for chip in [*chips, *span])
    return f'<div class="card"><h3>{text(column.name)}</h3><div class="chips">{listed}</div>{drawn}</div>'


def _range(column: Column) -> list[str]:
    """From where to where, if the drawing does not show it."""
    lows = [s.low for s in column.summary.values() if s.low is not None]
    highs = [s.high for s in column.summary.values() if s.high is not None]
    if not lows or not highs or not (column.plot and column.plot.clipped):
        return []
    told = formatter(column, column.plot.bars)
    return [f"{text(told(min(lows)))} to {text(told(max(highs)))}"]


def _drawn(column: Column, plot: Plot, outcome: str) -> str:
    words = "" if column.role == "target" else outcome
    return _table(plot, words) if plot.shape == "top" else histogram(column, plot, words)


def _table(plot: Plot, outcome: str) -> str:
    """The most frequent values: a bar for each part, and the outcome."""
    totals = [(sum(bar.rows[part] for bar in plot.bars) + plot.other[part]) or 1 for part in (0, 1)]
    top = max((bar.rows[part] / totals[part] for bar in plot.bars for part in (0, 1)), default=1.0) or 1.0
    head = f'<th class="n" title="{text(outcome)}">outcome</th>' if outcome else ""
    lines = [f'<tr><th></th><th></th><th class="n">share</th>{head}</tr>']
    for bar in plot.bars:
        shares = [bar.rows[part] / totals[part] for part in (0, 1)]
        meters = "".join(
            f'<div class="meter"><span style="width:{share / top:.2%};background:var(--{part})"></span></div>'
            for share, part in zip(shares, OPEN, strict=True)
        )
        cells = [f'<td class="v" title="{text(bar.text)}">{text(bar.text or "(empty text)", 40)}</td>']
        cells.append(f'<td class="b">{meters}</td>')
        cells.append(f'<td class="n" title="{bar.rows[0]:,} and {bar.rows[1]:,} rows">{percent(shares[0])}</td>')
        if outcome:
            told = outcome_text(bar.outcome, outcome) if bar.outcome is not None and bar.rows[0] >= 30 else "–"
            cells.append(f'<td class="n">{told}</td>')
        lines.append(f"<tr>{''.join(cells)}</tr>")
    rest = " / ".join(percent(plot.other[part] / totals[part]) for part in (0, 1))
    more = f'<p class="small">other values: {rest}</p>' if any(plot.other) else ""
    return f"<table>{''.join(lines)}</table>{more}"
