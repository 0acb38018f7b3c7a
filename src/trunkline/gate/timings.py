"""Timings to numbers with limits that hold whatever their distribution. Pure.

A quantile's limits are order statistics (Woodruff, 1952, "Confidence intervals for medians and other position
measures", JASA 47): of each, whether so many requests above it can be chance, by exact binomial probabilities of as
many requests as they are worth. Requests of one round share what happened in it, so their number is divided by the
design effect (Korn & Graubard, 1998, "Confidence intervals for proportions with small expected number of positive
counts estimated from survey data", Survey Methodology 24).
The candidate's ratio to the champion is the median over blocks, with the limits of the sign test.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, floor

import numpy as np
import numpy.typing as npt

from trunkline.gate.evidence import Own
from trunkline.gate.metrics import Floats

ALPHA = 0.01
"""The probability that a limit is on the wrong side of the truth at any of the looks of a phase."""
LOOKS = 3
"""How often a phase asks at most whether it has seen enough."""
QUANTILES = (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))

_LIMITS = 20
"""So many of the slowest times it is asked of whether rounds differ."""

_PAIRED = ((0.99, 100), (0.95, 50), (0.0, 10))
"""Requests of each block in which candidate and champion are compared, by the quantile from which on."""


@dataclass(frozen=True)
class Block:
    """Requests to one server within one round, in ms, [n]: what the client saw, how long those who worked on each

    waited for a CPU, and whether others surely took time from it. `shared`: somebody else kept a core busy.
    """

    seen: Floats
    waited: Floats
    disturbed: npt.NDArray[np.bool_]
    shared: bool

    @property
    def own(self) -> Floats:
        """What the server took: of the requests that were not disturbed; on a shared machine of all,

        without what they waited. Some waiting is the server's own even there: threads of one server wait for each
        other, at every request. One request in twenty waits no more than that, and so much is taken off none.
        """
        if not len(self.seen):
            return self.seen
        if not self.shared:
            return self.seen[~self.disturbed]
        stolen = np.maximum(self.waited - np.quantile(self.waited, 0.05), 0.0)
        own: Floats = np.maximum(self.seen - stolen, self.seen.min())
        return own


def own_times(blocks: Sequence[Block]) -> list[Floats]:
    """What the server took, of each block that tells it; if none does, what the client saw."""
    return [found for block in blocks if len(found := block.own)] or [block.seen for block in blocks]


def paired(candidate: Sequence[Block], champion: Sequence[Block]) -> tuple[list[Floats], list[Floats]]:
    """What two servers took of requests that were sent in turn: of both or of neither, so that they stay pairs."""
    ours, theirs = list[Floats](), list[Floats]()
    for one, other in zip(candidate, champion, strict=True):
        if one.shared:
            ours.append(one.own)
            theirs.append(other.own)
        elif len(calm := np.flatnonzero(~(one.disturbed | other.disturbed))):
            ours.append(one.seen[calm])
            theirs.append(other.seen[calm])
    if not ours:
        return [block.seen for block in candidate], [block.seen for block in champion]
    return ours, theirs


def quantile(values: Floats, share: float) -> float:
    """The smallest value such that `share` of all are not above it."""
    return float(np.quantile(values, share, method="inverted_cdf"))


def limits(rounds: Sequence[Floats], share: float) -> Own:
    """The quantile at `share` of the values of all rounds, and its limits at `ALPHA / LOOKS` each.

    The higher one is the least value seen that the true quantile is surely not above: so few requests were slower.
    """
    from scipy.special import bdtr, bdtrc

    values, counts = np.concatenate(rounds), np.array([len(each) for each in rounds], np.float64)
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]]).astype(np.int64)
    pooled, value = np.sort(values), quantile(values, share)
    place = int(np.searchsorted(pooled, value))
    slowest = pooled[max(3 * place - 2 * len(pooled), 0) :]
    unseen = _worth_of_unseen(slowest, values, starts, counts)

    def few_above(rank: int) -> bool:  # so few are above it that 1 - share of all would hardly ever be
        above, worth = _worth(np.add.reduceat(values > pooled[rank], starts), counts)
        worth = worth if above else min(worth, unseen)
        return bool(bdtr(ceil(above * worth), worth, 1 - share) <= ALPHA / LOOKS)

    def many_above(back: int) -> bool:  # so many are not below it that no more than 1 - share would hardly ever be
        above, worth = _worth(np.add.reduceat(values >= pooled[place - back], starts), counts)
        least = floor(above * worth)
        return bool(least and bdtrc(least - 1, worth, 1 - share) <= ALPHA / LOOKS)

    high, back = _first(place, len(pooled), few_above), _first(0, place + 1, many_above)
    return Own(
        value,
        float(pooled[place - back]) if back is not None else None,
        float(pooled[high]) if high is not None else None,
    )


def _first(start: int, stop: int, holds: Callable[[int], bool]) -> int | None:
    """The first place for which it holds; it holds for all that come after one."""
    place = bisect.bisect_left(range(start, stop), True, key=holds) + start
    return place if place < stop else None


def _worth(true: npt.NDArray[np.int64], counts: Floats) -> tuple[float, int]:
    """The share of all that are true, by `true` of `counts` in each round, and as how many independent ones they count:

    all, over the design effect, which is how much more the share differs from round to round than by chance; 1 at
    least.
    """
    total = float(counts.sum())
    share = float(true.sum()) / total
    effect = 1.0
    if len(counts) > 1 and 0 < share < 1:
        differ = true - counts * share
        found = float(np.einsum("i,i", differ, differ)) * len(counts) / (len(counts) - 1)
        effect = min(max(found / (total * share * (1 - share)), 1.0), float(counts.max()))
    return share, max(int(total / effect), 1)


def _worth_of_unseen(slowest: Floats, values: Floats, starts: npt.NDArray[np.int64], counts: Floats) -> int:
    """As how many requests all of them count where it is asked about times that none of them took.

    How such would be spread over the rounds nobody knows; if the slowest differ from round to round by more than
    chance, they might as much.
    """
    from scipy.special import chdtri

    limits = np.unique(slowest[np.linspace(0, len(slowest) - 1, _LIMITS).astype(np.int64)])
    worth = min(_worth(np.add.reduceat(values > limit, starts), counts)[1] for limit in limits)
    effect, free = len(values) / worth, len(counts) - 1
    return worth if free and effect * free > chdtri(free, ALPHA / 10) else len(values)


def ratio(candidate: Sequence[Floats], champion: Sequence[Floats], share: float) -> Own:
    """How many times the champion's quantile the candidate's is: the median over short blocks of the same moments.

    Requests are those of `paired`, so block by block both saw the same machine.
    """
    size = next(size for least, size in _PAIRED if share >= least)
    ours, theirs = np.concatenate(candidate), np.concatenate(champion)
    blocks = max(len(ours) // size, 1)
    pairs = zip(np.array_split(ours, blocks), np.array_split(theirs, blocks), strict=True)
    ratios = np.sort([quantile(one, share) / quantile(other, share) for one, other in pairs])
    lower, upper = _ranks(len(ratios))
    low = float(ratios[lower - 1]) if lower else None
    high = float(ratios[upper - 1]) if upper <= len(ratios) else None
    return Own(float(np.median(ratios)), low, high)


def _ranks(count: int) -> tuple[int, int]:
    """Ranks, from 1, of the order statistics that bound the median from below and above; 0 and `count + 1`: none."""
    from scipy.special import bdtr

    lower = int(np.searchsorted(bdtr(np.arange(count + 1), count, 0.5), ALPHA / LOOKS, side="right"))
    return lower, count + 1 - lower


def throughput(rates: Sequence[float], stolen: Sequence[float]) -> Own:
    """Answers a second: the median round's. `stolen` is the share of each round that was spent waiting for a CPU.

    The upper limit is of rates as they would be without the waiting.
    """
    seen = np.sort(np.asarray(rates, np.float64))
    possible = np.sort(np.asarray(rates) / (1 - np.clip(stolen, 0.0, 0.9)))
    lower, upper = _ranks(len(seen))
    low = float(seen[lower - 1]) if lower else None
    high = float(possible[upper - 1]) if upper <= len(possible) else None
    return Own(float(np.median(seen)), low, high)
