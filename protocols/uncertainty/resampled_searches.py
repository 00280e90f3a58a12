"""Rank-k and TPIR@FPIR in a bootstrap draw of probe subjects; the gallery stays."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from evalkit.errors import ProtocolError
from evalkit.protocols.metrics import exact_rate
from evalkit.protocols.uncertainty.accepted_by_subject import AcceptedBySubject
from evalkit.protocols.uncertainty.bootstrap import Draws, Statistic, shares
from evalkit.protocols.uncertainty.columns import above, counts_of, falling
from evalkit.protocols.uncertainty.resampled_at_threshold import threshold_of
from evalkit.protocols.uncertainty.sample import ComparisonSample, Searches
from evalkit.types import Floats, Ints


def rank_statistic(sample: ComparisonSample, k: str) -> Statistic | None:
    """Share of searches whose mate is within rank k."""
    if not k.isdigit() or sample.rank is None or sample.rank_subject is None:
        return None
    hit = (sample.rank >= 1) & (sample.rank <= int(k))
    every = counts_of(sample.rank_subject)
    subject = np.flatnonzero(every)
    hits = counts_of(sample.rank_subject, hit, len(every))[subject]
    searches = every[subject]

    def rank_k(draws: Draws) -> Floats:
        w = draws.weight.take(subject, axis=1)
        return shares(w @ hits, w @ searches, draws.unseen * searches.mean())

    return rank_k


def tpir_statistic(sample: ComparisonSample, fpir: str) -> Statistic | None:
    """Mean over the galleries of TPIR at the lowest threshold with weighted FPIR at most x."""
    x = rate_of(fpir)
    if x is None or not sample.searches:
        return None
    if not all(len(s.mate) and len(s.nonmate) for s in sample.searches):
        return None

    galleries = [_Found(s) for s in sample.searches]

    def of_gallery(g: _Found, draws: Draws) -> Floats:
        false = np.cumsum(draws.weight.take(g.nonmate_subject, axis=1), axis=1)
        allowed = float(x) * false[:, -1:] * (1 + 1e-12)
        hits = g.mates.among(g.above[np.count_nonzero(false <= allowed, axis=1)])
        weight, unseen = draws.weight.take(g.mates.subject, axis=1), g.mates.count.mean()
        part = (weight * hits).sum(axis=1)
        return shares(part, weight @ g.mates.count, draws.unseen * unseen)

    return lambda draws: np.concatenate([of_gallery(g, draws) for g in galleries], axis=1)


def search_error_statistic(sample: ComparisonSample, kind: str, threshold: str) -> Statistic | None:
    """Mean over the galleries of FPIR, FNIR or TPIR ("dir") at a threshold that stays."""
    sides = [
        (s.nonmate, s.nonmate_subject) if kind == "fpir" else (s.mate, s.mate_subject)
        for s in sample.searches
    ]
    t = threshold_of(threshold)
    if not sides or t is None or not all(len(score) for score, _ in sides):
        return None
    galleries = [_reaching(score, who, t) for score, who in sides]

    def of_gallery(subject: Ints, every: Ints, reached: Ints, draws: Draws) -> Floats:
        weight = draws.weight.take(subject, axis=1)
        part = every - reached if kind == "fnir" else reached
        unseen = draws.unseen * every.sum() / len(subject)
        return shares(weight @ part, weight @ every, unseen)

    def of_draws(draws: Draws) -> Floats:
        return np.concatenate([of_gallery(*gallery, draws) for gallery in galleries], axis=1)

    return of_draws


def _reaching(score: Floats, who: Ints, threshold: float) -> tuple[Ints, Ints, Ints]:
    """Who has searches, (U,) each: the subject, how many, and how many reach the threshold."""
    every = counts_of(who)
    subject = np.flatnonzero(every)
    return subject, every[subject], counts_of(who, score >= threshold, len(every))[subject]


class _Found:
    """Mates of each subject, and how many score above the (k+1)-th highest nonmate.

    above : (R+1,) of k; past the last nonmate, all that are finite.
    """

    def __init__(self, searches: Searches) -> None:
        self.nonmate_subject = searches.nonmate_subject
        self.mates = AcceptedBySubject(*falling(searches.mate, searches.mate_subject))
        self.above = above(np.append(searches.nonmate, -np.inf), searches.mate)


def rate_of(text: str) -> Fraction | None:
    """Read the rate in a metric's name as `metrics.exact_rate` does; None for any other text."""
    try:
        return exact_rate(text)
    except ProtocolError:
        return None
