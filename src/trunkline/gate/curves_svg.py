"""The drawings of a report's curves: ROC, precision and recall, errors by quantile, outcome by score. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from trunkline.gate.evidence import Curve, Quality
from trunkline.gate.frame import Frame

__all__ = ["TITLES", "curve_svgs"]

TITLES = {
    "roc": "ROC",
    "precision_recall": "Precision and recall",
    "residuals": "Errors by quantile",
    "deciles": "Outcome by score",
}
_AXES = {
    "roc": ("false positive rate", "true positive rate"),
    "precision_recall": ("recall", "precision"),
    "residuals": ("share of rows", "outcome less score"),
    "deciles": ("mean score", "mean outcome"),
}
_SHARES = ("roc", "precision_recall")
_MOST_LABELS = 6


def curve_svgs(quality: Quality) -> Iterator[tuple[str, Sequence[Curve], str]]:
    """Title, curves and drawing, one for each kind and label: both models in one frame."""
    for kind, title in TITLES.items():
        listed = [curve for curve in quality.curves if curve.kind == kind and curve.x]
        labels = list(dict.fromkeys(curve.label for curve in listed))
        for label in labels[:_MOST_LABELS]:
            curves = [curve for curve in listed if curve.label == label]
            name = f"{title}: {label}" if label else title
            yield name, curves, _drawn(name, kind, curves, quality)


def _drawn(name: str, kind: str, curves: Sequence[Curve], quality: Quality) -> str:
    xs, ys = [x for curve in curves for x in curve.x], [y for curve in curves for y in curve.y]
    if kind in _SHARES:
        xs, ys = [0.0, 1.0], [0.0, 1.0]
    if kind == "residuals":
        xs, ys = [0.0, 1.0], [*ys, 0.0]
    frame = Frame.of(name, xs, ys, size=(440, 340))
    frame.axes(*_AXES[kind])
    _rest(frame, kind, quality, xs, ys)
    for curve in sorted(curves, key=lambda curve: curve.model == "candidate"):
        line = "own-line" if curve.model == "candidate" else "rival-line"
        frame.line(list(zip(curve.x, curve.y, strict=False)), line, curve.model)
    return frame.drawn()


def _rest(frame: Frame, kind: str, quality: Quality, xs: Sequence[float], ys: Sequence[float]) -> None:
    """The line of a model that knows nothing, or of one that is never wrong."""
    if kind == "roc":
        frame.line([(0.0, 0.0), (1.0, 1.0)], "z", "scores that know nothing")
    elif kind == "precision_recall" and quality.positives is not None and quality.rows:
        share = quality.positives / quality.rows
        frame.line([(0.0, share), (1.0, share)], "z", f"scores that know nothing: {share:.3f}")
    elif kind == "residuals":
        frame.line([(0.0, 0.0), (1.0, 0.0)], "z", "no error")
    elif kind == "deciles":
        low, high = max(min(xs), min(ys)), min(max(xs), max(ys))
        if low < high:
            frame.line([(low, low), (high, high)], "z", "scores that mean what they say")
