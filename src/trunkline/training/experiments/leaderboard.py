"""A comparison as one HTML page: no script, nothing from elsewhere; in light and dark, on wide and narrow screens."""

from __future__ import annotations

from collections.abc import Iterator

from trunkline.datasets.drawing import html_page, text
from trunkline.datasets.manifest import Manifest
from trunkline.training.experiments.comparison import Comparison, Row, signed
from trunkline.training.experiments.leaderboard_svg import chance, leaderboard_svg

__all__ = ["leaderboard_page", "leaderboard_svg"]

_STYLE = """:root{color-scheme:light dark;--page:#f6f7f9;--card:#fff;--ink:#1a2130;--soft:#5d6778;--line:#dfe3ea}
@media (prefers-color-scheme:dark){:root{--page:#12151b;--card:#1b2029;--ink:#e6eaf2;--soft:#9aa5b8;--line:#303847}}
*{box-sizing:border-box}body{margin:0;background:var(--page);color:var(--ink);
font:15px/1.5 system-ui,"Liberation Sans",sans-serif}main{max-width:64rem;margin:0 auto;padding:1.25rem 1rem 3rem}
h1{font-size:1.5rem;margin:0}h2{font-size:1.1rem;margin:2rem 0 .6rem}p{margin:.3rem 0}.soft{color:var(--soft)}
.card{background:var(--card);border:1px solid var(--line);border-radius:.6rem;padding:1rem;overflow-x:auto}
svg{display:block;width:100%;min-width:38rem;height:auto}table{border-collapse:collapse;width:100%;font-size:.88rem}
td,th{padding:.3rem .5rem;text-align:left;border-bottom:1px solid var(--line);vertical-align:top}
th{color:var(--soft);font-weight:400;font-size:.8rem}.n{text-align:right;font-variant-numeric:tabular-nums;
white-space:nowrap}tr:last-child td{border-bottom:0}code{font:.88em ui-monospace,"DejaVu Sans Mono",monospace}"""


def leaderboard_page(model: str, manifest: Manifest, comparison: Comparison) -> str:
    """The page: the leaderboard as a table, the drawing, and how to read both."""
    title = f"{model}: comparison on {manifest.name}"
    seeds = len(comparison.seeds)
    facts = (
        f"{comparison.measured:,} validation rows of <code>{text(manifest.name)}@{manifest.dataset_id[:8]}</code>, "
        f"{seeds} seed{'s' if seeds > 1 else ''}. The sealed test part was not looked at."
    )
    body = [
        f'<h1>{text(title)}</h1><p class="soft">{facts}</p><h2>Leaderboard</h2><div class="card">',
        *_table(comparison),
        f'</div><h2>Intervals and tests</h2><div class="card">{leaderboard_svg(comparison)}</div>',
        *_reading(comparison),
    ]
    return html_page(title, _STYLE, "".join(body))


def _table(found: Comparison) -> Iterator[str]:
    several = len(found.seeds) > 1
    seeds = '<th class="n">seeds ±</th>' if several else ""
    yield (
        '<table><tr><th>#</th><th>feature groups</th><th class="n">features</th><th>variation</th>'
        f'<th class="n">{text(found.metric)}</th><th class="n">95% interval (rows)</th>'
        f'{seeds}<th class="n">against the rung below</th><th class="n">time</th></tr>'
    )
    for rank, row in enumerate(found.leaderboard(), 1):
        yield _line(found, rank, row, several)
    yield "</table>"


def _line(found: Comparison, rank: int, row: Row, several: bool) -> str:
    contrast = found.contrast("rung", found.rows.index(row))
    against = f"{signed(contrast.value)}, {chance(contrast.adjusted)}" if contrast else ""
    spread = f'<td class="n">{row.spread:.2g}</td>' if several and row.spread is not None else ""
    return (
        f'<tr><td>{rank}</td><td>{text(row.name)}</td><td class="n">{row.features}</td><td>{text(row.variation)}</td>'
        f'<td class="n">{row.value:.5g}</td><td class="n">{row.low:.5g} to {row.high:.5g}</td>{spread}'
        f'<td class="n">{text(against)}</td><td class="n">{row.seconds:.1f} s</td></tr>'
    )


def _reading(found: Comparison) -> Iterator[str]:
    yield "<h2>How to read it</h2>"
    yield (
        "<p>The whiskers of a model say where its metric would lie on other rows of the same kind. Two models are "
        "scored on the very same rows: whether one is better is told by the interval of their <em>difference</em>, "
        "which is much narrower, and not by whether their whiskers overlap.</p>"
    )
    if len(found.seeds) > 1:
        yield "<p>± is the standard deviation over the seeds: what training by another chance alone would change.</p>"
    yield (
        "<p>p is the chance of so large a difference where there is none, after Holm: who believes every p below 0.05 "
        "of one drawing is wrong even once with a chance of 5% at most.</p>"
    )
    if found.importances:
        yield (
            "<p>Importance is what the model loses when values are shuffled among the rows. Where columns tell the "
            "same thing, each of them may look worthless, for the other one still tells it: look at the groups.</p>"
        )
