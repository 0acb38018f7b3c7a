"""Probes for features that know the label: alone too good a prediction, or missing when the label has one value.

A feature's value becomes a cell: a quantile, or a category. Rows are halved by a hash; the rate of the label in a cell
of one half predicts the other half, so that a category with one row predicts nothing. All of it is one query, whose
result is counts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trunkline.datasets.findings import Finding
from trunkline.datasets.probes_subject import NUMBERS, TIMES, Subject, bars, share

_SAMPLE = 20_000  # rows; of two classes as many each, so that a rare one is not lost
_CELLS, _CELL_ROWS = 64, 25  # quantiles, and the rows one should hold at least
_PRIOR_ROWS = 5  # of the average rate, that each cell's rate is mixed with
_CLASSES = 8  # the most that are asked about, one against the rest
_LEVELS = 20  # of the log odds, to tell scores apart
_STRICTER, _LOOSER = 4.0, 7.5  # times nearer to perfect than the bound, and farther, for one that is far ahead
_STANDS_OUT = 3.0  # times nearer to perfect than the next
_SURE = 23.0  # nats: chance would do it once in 10 thousand million features
_FEW = 4  # features; among fewer nobody stands out
_CERTAIN = 1e-12
_LISTS = "the target is a list of numbers, which has neither classes nor ranks"
_SUMS = [(name, f"sum(case when fold = {{0}} then {what} else 0 end)") for name, what in (("a", "y"), ("q", "y * y"))]


def single_feature(subject: Subject) -> list[Finding]:
    """Does one feature alone predict the label too well? AUC of 0.5 to 1, or the share of variance for numbers."""
    probe = "single_feature"
    if subject.manifest.task == "custom":
        return [subject.skipped(probe, _LISTS)]
    names = subject.single(probe)
    regression = subject.manifest.task == "regression"
    scores = _explained(subject, names) if regression else _aucs(subject, names)
    if not scores:
        return [subject.skipped(probe, "there are too few labelled rows in the training part, or no feature to ask")]
    bound = subject.settings[probe].at_most
    title = "share of the label's variance, by ranks" if regression else "AUC of a feature alone"
    plot = bars(title, {name: score.value for name, score in scores.items()}, bound)
    suspects = _suspects({name: score.value for name, score in scores.items()}, bound)
    best = max(scores, key=lambda name: scores[name].value)
    if not suspects:
        text = f"no feature alone predicts `{subject.manifest.target}` too well: the best is `{best}`, "
        return [subject.ok(probe, text + _said(scores[best], regression), scores[best].value, plot)]
    return [
        subject.found(
            probe,
            f"`{name}` alone predicts `{subject.manifest.target}`, {_said(scores[name], regression)}. "
            "Was it known when the prediction is made, or is it a consequence of the label?",
            scores[name].value,
            column=name,
            bars=plot,
        )
        for name in suspects
    ]


@dataclass(frozen=True)
class _Score:
    value: float
    label: str = ""


def _said(score: _Score, regression: bool) -> str:
    if regression:
        return f"which explains {share(score.value)} of its variance"
    of = f" for the class {score.label!r} against the rest" if score.label else ""
    return f"with an AUC of {score.value:.3f}{of}"


def _suspects(scores: Mapping[str, float], bound: float) -> list[str]:
    """Features that are all but perfect, or beyond the bound among few others; or the one that stands out near it.

    Honest features of an easy task come in company: what one of them knows, others know too. A leak is far ahead.
    """
    ranked = sorted(scores, key=lambda name: -scores[name])
    perfect = [name for name in ranked if 1 - scores[name] <= (1 - bound) / _STRICTER]
    if perfect or not ranked:
        return perfect
    first = scores[ranked[0]]
    if len(ranked) < _FEW:
        return ranked[:1] if first > bound else []
    ahead = 1 - scores[ranked[1]] > _STANDS_OUT * (1 - first)
    return ranked[:1] if ahead and 1 - first <= _LOOSER * (1 - bound) else []


def _cells(subject: Subject, names: Sequence[str], sums: Sequence[tuple[str, str]]) -> str:
    """SQL: one row a feature and cell, with its rows and other `sums` (name, SQL) of each half: `n0`, `n1`, …"""
    count = max(4, min(_CELLS, subject.rows("train") // _CELL_ROWS))
    counts = ", ".join(f"count(case when fold = {fold} then 1 end) as n{fold}" for fold in (0, 1))
    halves = ", ".join([counts, *(f"{sum_.format(fold)} as {name}{fold}" for name, sum_ in sums for fold in (0, 1))])
    branches = []
    for number, name in enumerate(names):
        column = f"x{number}"
        if subject.kind(name) in (*NUMBERS, *TIMES):
            rank = f"(rank() over (order by {column} nulls last) - 1)"
            cell = f"case when {column} is not null then floor({rank} * {count} / count({column}) over ()) end"
        else:
            cell = column
        inner = f"select {cell} as cell, s.fold, s.y from s"
        branches.append(f"select {number} as f, {halves} from ({inner}) c group by cell")
    return " union all ".join(branches)


def _sample(subject: Subject, names: Sequence[str], label: str, rows: str) -> str:
    columns = ", ".join(f"{subject.quote(name)} as x{number}" for number, name in enumerate(names))
    fold = f"case when substr({subject.hashed}, 9, 1) < '8' then 0 else 1 end as fold"
    return f"select {columns}, {fold}, {label} as y from ({rows}) t"


def _balanced(subject: Subject, classes: Sequence[tuple[str, float]]) -> tuple[str, list[tuple[str, float]], list[str]]:
    """SQL of the rows to ask, the rates of the classes among them, the SQL's parameters. An AUC is the same for any."""
    rows = subject.rows("train")
    if len(subject.manifest.parts["train"].labels) != 2:
        return subject.sampled("train", _SAMPLE), list(classes), []
    label, rate = classes[0]
    rare, common = (min(1.0, _SAMPLE / 2 / max(1.0, rows * part)) for part in (rate, 1 - rate))
    is_rare = f"cast({subject.quote(subject.manifest.target)} as varchar) = ?"
    chosen = f"case when {is_rare} then {_flag(subject.chosen(rare))} else {_flag(subject.chosen(common))} end = 1"
    sql = f"select * from ({subject.source.parted_sql()}) p where {subject.part} = 'train' and {chosen}"
    kept = rare * rate
    return sql, [(label, kept / (kept + common * (1 - rate)))], [label]


def _flag(condition: str) -> str:
    return f"case when {condition} then 1 else 0 end"


def _aucs(subject: Subject, names: Sequence[str]) -> dict[str, _Score]:
    """Of each feature for its best class, the mean of both halves."""
    classes = _classes(subject)
    if not names or not classes:
        return {}
    rows, classes, parameters = _balanced(subject, classes)
    target = f"cast({subject.quote(subject.manifest.target)} as varchar)"
    numbered = " ".join(f"when {target} = ? then {number}" for number in range(len(classes)))
    sums = [
        (f"a{number}_", f"count(case when fold = {{0}} and y = {number} then 1 end)") for number in range(len(classes))
    ]
    levels = " union all ".join(
        f"select f, {number} as class, {fold} as fold, {_level(number, 1 - fold, rate)} as level, "
        f"n{fold} as n, a{number}_{fold} as a from cells"
        for number, (_, rate) in enumerate(classes)
        for fold in (0, 1)
    )
    found = subject.warehouse.query(
        f"with s as ({_sample(subject, names, f'case {numbered} else -1 end', rows)}), "
        f"cells as ({_cells(subject, names, sums)}) "
        f"select f, class, fold, level, sum(n), sum(a) from ({levels}) l group by f, class, fold, level "
        "order by f, class, fold, level",
        [*(text for text, _ in classes), *parameters],
    )
    return _best(names, classes if len(classes) > 1 else [("", 0.0)], found)


def _classes(subject: Subject) -> list[tuple[str, float]]:
    """The classes to ask about and their rates: the rarer one of two, else the largest."""
    labels = subject.manifest.parts["train"].labels
    rows = sum(labels.values())
    ordered = sorted(labels.items(), key=lambda item: -item[1])
    chosen = ordered[1:2] if len(ordered) == 2 else ordered[:_CLASSES]
    return [(text, count / rows) for text, count in chosen if count >= _FEW] if len(ordered) > 1 else []


def _level(number: int, other: int, rate: float) -> str:
    """The log odds that the other half gives a cell, rounded."""
    positive = f"(a{number}_{other} + {_PRIOR_ROWS * rate:.9f})"
    negative = f"(n{other} - a{number}_{other} + {_PRIOR_ROWS * (1 - rate):.9f})"
    return f"round({_LEVELS} * ln({positive} / {negative}), 0)"


def _best(
    names: Sequence[str], classes: Sequence[tuple[str, float]], rows: Sequence[Sequence[Any]]
) -> dict[str, _Score]:
    grouped: dict[tuple[int, int, int], list[tuple[int, int]]] = {}
    for feature, class_, fold, _, n, positives in rows:
        grouped.setdefault((int(feature), int(class_), int(fold)), []).append((int(n), int(positives)))
    halves: dict[tuple[int, int], list[float]] = {}
    for (feature, class_, _), counts in grouped.items():
        value = _auc(counts)
        if value is not None:
            halves.setdefault((feature, class_), []).append(value)
    best: dict[str, _Score] = {}
    for (feature, class_), values in halves.items():
        score = _Score(max(0.5, sum(values) / len(values)), classes[class_][0])
        if names[feature] not in best or score.value > best[names[feature]].value:
            best[names[feature]] = score
    return best


def _auc(counts: Sequence[tuple[int, int]]) -> float | None:
    """Of (rows, positives) by rising score; ties count half. None where there is one class only."""
    below = won = 0.0
    for n, positives in counts:
        won += positives * (below + (n - positives) / 2)
        below += n - positives
    total = sum(positives for _, positives in counts)
    return won / (below * total) if below and total else None


def _ranked(target: str) -> str:
    """SQL: a number's rank of 0 to 1, ties in the middle."""
    ties = f"(count(*) over (partition by {target}) - 1) / 2.0"
    return f"(rank() over (order by {target}) - 0.5 + {ties}) / count(*) over ()"


def _explained(subject: Subject, names: Sequence[str]) -> dict[str, _Score]:
    """Of each feature the share of the variance of the label's ranks that the other half's cell means explain."""
    if not names:
        return {}
    label = _ranked(subject.quote(subject.manifest.target))
    mean = "(a{0} + {1} * 0.5) / (n{0} + {1})"
    error = " + ".join(
        f"q{fold} - 2 * {guess} * a{fold} + n{fold} * {guess} * {guess}"
        for fold in (0, 1)
        for guess in [mean.format(1 - fold, _PRIOR_ROWS)]
    )
    total = "q0 + q1 - (a0 + a1) + (n0 + n1) * 0.25"
    rows = subject.warehouse.query(
        f"with s as ({_sample(subject, names, label, subject.sampled('train', _SAMPLE))}), "
        f"cells as ({_cells(subject, names, _SUMS)}) "
        f"select f, sum({error}), sum({total}) from cells group by f order by f"
    )
    return {names[int(f)]: _Score(max(0.0, 1 - float(error) / float(total))) for f, error, total in rows if total}


# -- missing values


def missing_with_label(subject: Subject) -> list[Finding]:
    """Do the rows in which a feature is missing, or those in which it is not, (nearly) all have one label?

    The value is how far from the label's own distribution they are: 0 as it is everywhere, 1 if all have one label.
    """
    probe = "missing_with_label"
    if subject.manifest.task == "custom":
        return [subject.skipped(probe, _LISTS)]
    names = subject.features(probe)
    ask = _missing_by_rank if subject.manifest.task == "regression" else _missing_by_class
    asked = ask(subject, names) if names else {}
    bound = subject.settings[probe].at_most
    if not asked:
        return [subject.ok(probe, "no feature is missing in some rows of the training part and there in others", 0.0)]
    plot = bars("how far missing values tell the label", {name: tell.value for name, tell in asked.items()}, bound)
    suspects = sorted((n for n in asked if asked[n].value > bound), key=lambda name: -asked[name].value)
    if not suspects:
        best = max(asked, key=lambda name: asked[name].value)
        text = f"missing values do not give the label away: the most telling are those of `{best}`"
        return [subject.ok(probe, text, asked[best].value, plot)]
    return [
        subject.found(
            probe,
            f"`{name}` {asked[name].text}. Is it filled in, or cleared, after the label is known?",
            asked[name].value,
            column=name,
            bars=plot,
        )
        for name in suspects
    ]


@dataclass(frozen=True)
class _Tell:
    value: float
    text: str


def _missing_by_class(subject: Subject, names: Sequence[str]) -> dict[str, _Tell]:
    """By the purity of either side, beyond what the class has anyway, where chance cannot do it."""
    target = f"cast({subject.quote(subject.manifest.target)} as varchar)"
    counts = ", ".join(f"count({subject.quote(name)})" for name in names)
    rows = subject.warehouse.query(
        f"select {target}, count(*), {counts} from ({subject.source.parted_sql()}) p "
        f"where {subject.part} = 'train' group by {target} order by {target}"
    )
    total = sum(int(row[1]) for row in rows)
    found: dict[str, _Tell] = {}
    for index, name in enumerate(names, 2):
        sides = {
            "missing": {str(row[0]): int(row[1]) - int(row[index]) for row in rows},
            "there": {str(row[0]): int(row[index]) for row in rows},
        }
        if not all(sum(side.values()) for side in sides.values()):
            continue
        tells = [
            _purity(side, {str(row[0]): int(row[1]) / total for row in rows}, word) for word, side in sides.items()
        ]
        found[name] = max(tells, key=lambda tell: tell.value)
    return found


def _purity(side: Mapping[str, int], rates: Mapping[str, float], word: str) -> _Tell:
    """One side: the class that is commonest in it, beyond its rate. 0 where chance may do as much."""
    rows = sum(side.values())
    best = _Tell(0.0, "")
    for label, count in side.items():
        rate = rates[label]
        if rate >= 1 or count / rows <= rate:
            continue
        value = (count / rows - rate) / (1 - rate)
        if rows * _divergence(count / rows, rate) > _SURE and value > best.value:
            said = f"is {word} in {rows:,} rows of the training part, and {share(count / rows)} of them are {label!r}"
            best = _Tell(value, f"{said}, against {share(rate)} of all")
    return best


def _divergence(p: float, q: float) -> float:
    """Kullback-Leibler, of coins: rows times this is about the negative logarithm of the chance (Chernoff)."""
    rest = (1 - p) * math.log((1 - p) / (1 - q)) if p < 1 else 0.0
    return p * math.log(p / q) + rest


def _missing_by_rank(subject: Subject, names: Sequence[str]) -> dict[str, _Tell]:
    """By how little the label varies on one side, and by how well missingness parts low from high."""
    columns = ", ".join(f"{subject.quote(name)} as x{number}" for number, name in enumerate(names))
    sums = ", ".join(
        f"sum(case when x{number} is null then {what} else 0 end)"
        for number in range(len(names))
        for what in ("1", "y", "y * y")
    )
    label = _ranked(subject.quote(subject.manifest.target))
    row = subject.warehouse.query(
        f"select count(*), sum(y), sum(y * y), {sums} from (select {columns}, {label} as y "
        f"from ({subject.source.parted_sql()}) p where {subject.part} = 'train') s"
    )[0]
    everything = tuple(float(value or 0) for value in row[:3])
    found: dict[str, _Tell] = {}
    for number, name in enumerate(names):
        missing = tuple(float(value or 0) for value in row[3 + 3 * number : 6 + 3 * number])
        there = tuple(whole - part for whole, part in zip(everything, missing, strict=True))
        if missing[0] and there[0]:
            found[name] = _parted(missing, there, everything)
    return found


def _parted(missing: Sequence[float], there: Sequence[float], everything: Sequence[float]) -> _Tell:
    """Each is rows, sum and sum of squares of the label's ranks."""
    if min(missing[0], there[0]) < _SURE:
        return _Tell(0.0, "")
    whole = max(_variance(everything), _CERTAIN)
    means = missing[1] / missing[0], there[1] / there[0]
    parting = min(1.0, 2 * abs(means[0] - means[1]))  # of ranks: twice the AUC's distance from one half
    tells = [_Tell(parting, f"is missing in {missing[0]:,.0f} rows, which lie all at one end of the label")]
    for word, side in (("missing", missing), ("there", there)):
        said = f"is {word} in {side[0]:,.0f} rows of the training part, which have (nearly) one and the same label"
        tells.append(_Tell(max(0.0, 1 - _variance(side) / whole), said))
    return max(tells, key=lambda tell: tell.value)


def _variance(sums: Sequence[float]) -> float:
    return max(0.0, sums[2] / sums[0] - (sums[1] / sums[0]) ** 2)
