"""Rank-k and TPIR@FPIR in a bootstrap draw of probe subjects; the gallery stays."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from evalkit.errors import ProtocolError
from evalkit.protocols.metrics import exact_rate
from evalkit.protocols.uncertainty.bootstrap import Draw, Ends, Statistic, ends
from evalkit.protocols.uncertainty.resampled_at_threshold import reaching_threshold
from evalkit.protocols.uncertainty.sample import ComparisonSample, Searches
from evalkit.protocols.uncertainty.weights import Counts
from evalkit.types import Ints


def rank_statistic(sample: ComparisonSample, k: str) -> Statistic | None:
    """Share of searches whose mate is within rank k."""
    if not k.isdigit() or sample.rank is None or sample.rank_subject is None:
        return None
    hit = (sample.rank >= 1) & (sample.rank <= int(k))
    subject, of, searches = np.unique(sample.rank_subject, return_inverse=True, return_counts=True)
    hits = np.bincount(of[hit], minlength=len(subject))

    def rank_k(draw: Draw) -> Ends:
        w = draw.weight[subject]
        return ends(float(w @ hits), float(w @ searches), draw.unseen * float(searches.mean()))

    return rank_k


def tpir_statistic(sample: ComparisonSample, fpir: str) -> Statistic | None:
    """Mean over the galleries of TPIR at the lowest threshold with weighted FPIR at most x."""
    x = rate_of(fpir)
    if x is None or not sample.searches:
        return None
    if not all(len(s.mate) and len(s.nonmate) for s in sample.searches):
        return None

    galleries = [_Found(s) for s in sample.searches]

    def of_gallery(g: _Found, draw: Draw) -> Ends:
        false = np.cumsum(draw.weight[g.searches.nonmate_subject])
        k = int(np.searchsorted(false, float(x) * false[-1] * (1 + 1e-12), "right"))
        looked, unseen = draw.weight[g.subject], draw.unseen * float(g.looked.mean())
        return ends(float(looked @ g.above(k)), float(looked @ g.looked), unseen)

    def tpir(draw: Draw) -> Ends:
        fails, succeeds = np.mean([of_gallery(g, draw) for g in galleries], axis=0)
        return float(fails), float(succeeds)

    return tpir


def search_error_statistic(sample: ComparisonSample, kind: str, threshold: str) -> Statistic | None:
    """Mean over the galleries of FPIR, FNIR or TPIR ("dir") at a threshold that stays."""
    sides = [
        (s.nonmate, s.nonmate_subject) if kind == "fpir" else (s.mate, s.mate_subject)
        for s in sample.searches
    ]
    counts = [reaching_threshold(score, threshold) for score, _ in sides]
    if not sides or None in counts or not all(len(score) for score, _ in sides):
        return None

    def of_gallery(subject: Ints, count: int | None, draw: Draw) -> Ends:
        weight = draw.weight[subject]
        every, reached = float(weight.sum()), float(weight[:count].sum())
        unseen = draw.unseen * len(subject) / len(np.unique(subject))
        return ends(every - reached if kind == "fnir" else reached, every, unseen)

    def of_draw(draw: Draw) -> Ends:
        of = [of_gallery(who, n, draw) for (_, who), n in zip(sides, counts, strict=True)]
        fails, succeeds = np.mean(of, axis=0)
        return float(fails), float(succeeds)

    return of_draw


class _Found:
    """Mates of each subject above the (k+1)-th highest nonmate; draws differ little in k.

    subject : (U,) those who were searched for.  looked : (U,) how often.
    """

    def __init__(self, searches: Searches) -> None:
        self.searches = searches
        self.subject, self._of, self.looked = np.unique(
            searches.mate_subject, return_inverse=True, return_counts=True
        )
        borders = np.append(searches.nonmate, -np.inf)
        self._upto = np.searchsorted(-searches.mate, -borders, "left")
        self._k = len(borders) - 1
        self._count = self._between(0, self._upto[-1])

    def _between(self, a: int, b: int) -> Counts:
        return np.bincount(self._of[a:b], minlength=len(self.subject))

    def above(self, k: int) -> Counts:
        """Count them, (U,); past the last nonmate, all that are finite."""
        a, b = self._upto[self._k], self._upto[k]
        self._count = self._count + self._between(a, b) - self._between(b, a)
        self._k = k
        return self._count


def rate_of(text: str) -> Fraction | None:
    """Read the rate in a metric's name as `metrics.exact_rate` does; None for any other text."""
    try:
        return exact_rate(text)
    except ProtocolError:
        return None
