"""A study as one HTML page: no script, nothing from elsewhere; in light and dark, on wide and narrow screens."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Iterator

from trunkline.datasets.drawing import html_page, number, text
from trunkline.training.records import StudyRecord, TrialRecord
from trunkline.training.search.study_svg import STYLE, curves_svg, front_svg, history_svg, importance_svg

__all__ = ["study_page"]

_MOST_TRIALS = 200
_PAGE = """:root{color-scheme:light dark;--page:#f6f7f9;--card:#fff;--ink:#1a2130;--soft:#5d6778;--line:#dfe3ea}
@media (prefers-color-scheme:dark){:root{--page:#12151b;--card:#1b2029;--ink:#e6eaf2;--soft:#9aa5b8;--line:#303847}}
*{box-sizing:border-box}body{margin:0;background:var(--page);color:var(--ink);
font:15px/1.5 system-ui,"Liberation Sans",sans-serif}main{max-width:64rem;margin:0 auto;padding:1.25rem 1rem 3rem}
h1{font-size:1.5rem;margin:0;overflow-wrap:anywhere}h2{font-size:1.1rem;margin:2rem 0 .6rem}p{margin:.3rem 0}
.soft{color:var(--soft)}.card{background:var(--card);border:1px solid var(--line);border-radius:.6rem;padding:1rem;
overflow-x:auto}svg{display:block;width:100%;min-width:34rem;height:auto;overflow:visible}
table{border-collapse:collapse;width:100%;font-size:.88rem}td,th{padding:.3rem .5rem;text-align:left;
border-bottom:1px solid var(--line);vertical-align:top}th{color:var(--soft);font-weight:400;font-size:.8rem}
.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}tr:last-child td{border-bottom:0}
td.v{overflow-wrap:anywhere}code{font:.88em ui-monospace,"DejaVu Sans Mono",monospace}"""


def study_page(study: StudyRecord) -> str:
    """The page: what was found, how it went, what mattered, and the trials."""
    body = "".join([*_head(study), *_drawings(study), *_trials(study)])
    return html_page(study.name, _PAGE + STYLE, body)


def _head(study: StudyRecord) -> Iterator[str]:
    yield f"<h1>{text(study.name)}</h1>"
    states = [trial.state for trial in study.trials]
    counted = ", ".join(f"{count} {state}" for state, count in Counter(states).items())
    since = ""
    if study.started is not None:
        since = f", begun {dt.datetime.fromtimestamp(study.started, dt.UTC):%Y-%m-%d %H:%M} UTC"
    ways = zip(study.objectives, study.higher_is_better, strict=True)
    weighed = ", ".join(f"{text(name)} ({'more' if up else 'less'} is better)" for name, up in ways)
    yield f'<p class="soft">{len(states)} trials: {counted or "none"}{since}. Validation {weighed}.</p>'
    if study.best is not None:
        params = ", ".join(f"{text(name)} = {_shown(value)}" for name, value in study.best.params.items())
        value = f"{text(study.objectives[0])} {number(study.best.value or 0.0)}"
        yield f"<p>Best: <b>{value}</b> in trial {study.best.number}: <code>{params}</code></p>"


def _drawings(study: StudyRecord) -> Iterator[str]:
    note = "Filled: complete. Hollow: pruned. Crosses: failed. Line: the best so far."
    yield from _card("History", history_svg(study), note)
    for place, objective in enumerate(study.objectives):
        if place:
            note = "Filled and numbered: no other trial is as good in every objective."
            yield from _card(f"{study.objectives[0]} against {objective}", front_svg(study, place), note)
    yield from _card("Learning curves", curves_svg(study), "Strong: the best trial.")
    note = "What made the better trials better, by PED-ANOVA; a hint, not a law."
    yield from _card("Importance of parameters", importance_svg(study), note)


def _card(title: str, drawing: str, note: str) -> Iterator[str]:
    if drawing:
        yield f'<h2>{text(title)}</h2><div class="card">{drawing}<p class="soft">{note}</p></div>'


def _trials(study: StudyRecord) -> Iterator[str]:
    shown = _ranked(study)[:_MOST_TRIALS]
    names = list(dict.fromkeys(name for trial in shown for name in trial.params))
    heads = [f'<th class="n">{text(name)}</th>' for name in study.objectives]
    heads += [f"<th>{text(name)}</th>" for name in names]
    yield '<h2>Trials</h2><div class="card"><table><tr><th class="n">trial</th><th>state</th><th>estimator</th>'
    yield f'{"".join(heads)}<th class="n">s</th></tr>'
    for trial in shown:
        yield _row(trial, study, names)
    yield "</table></div>"
    if len(study.trials) > len(shown):
        yield f'<p class="soft">and {len(study.trials) - len(shown)} more</p>'


def _ranked(study: StudyRecord) -> list[TrialRecord]:
    """Complete trials first, the best first."""
    sign = -1.0 if study.higher_is_better[0] else 1.0
    return sorted(
        study.trials, key=lambda t: (t.state != "complete", t.value is None, sign * (t.value or 0.0), t.number)
    )


def _row(trial: TrialRecord, study: StudyRecord, names: list[str]) -> str:
    values = trial.values or ((trial.value,) if trial.value is not None else ())
    cells = [f'<td class="n">{number(value)}</td>' for value in values]
    cells += ['<td class="n"></td>'] * (len(study.objectives) - len(values))
    cells += [f'<td class="v">{_shown(trial.params[name]) if name in trial.params else ""}</td>' for name in names]
    error = f'<br><span class="soft">{text(trial.error.splitlines()[0], 160)}</span>' if trial.error else ""
    return (
        f'<tr><td class="n">{trial.number}</td><td>{trial.state}{error}</td><td>{text(trial.estimator or "")}</td>'
        f'{"".join(cells)}<td class="n">{trial.seconds:.1f}</td></tr>'
    )


def _shown(value: object) -> str:
    return number(value) if isinstance(value, float) else text(value, 60)
