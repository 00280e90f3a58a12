"""Influence of each person on a metric: cluster-robust variance, and its degrees of freedom.

A standard error of few people is itself uncertain, so its quantiles are Student's t with as many
degrees of freedom as people stand behind it.  Where three people of a hundred make all of a
difference, that is three, however many pairs they have.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from evalkit.protocols.metrics import eer
from evalkit.protocols.metrics.elementary import inner
from evalkit.protocols.metrics.kfold import best_threshold
from evalkit.protocols.metrics.vocabulary import resampling_of
from evalkit.protocols.uncertainty.bootstrap import excess_of_difference
from evalkit.protocols.uncertainty.resampled_rates import accepts, excess, reaching
from evalkit.protocols.uncertainty.resampled_searches import rate_of
from evalkit.protocols.uncertainty.sample import ComparisonSample, Searches
from evalkit.types import Bools, Floats, Ints


@dataclass(frozen=True, slots=True, kw_only=True)
class Influence:
    """Comparisons of a metric that is their mean, or those of each person summed.

    left, right : (N,) subjects, the same where both sides are one person's.  added : (N,) what
    these comparisons add to the sum behind the metric, between 0 and `count`.  count : (N,) how
    many they are.  subjects : S.  share : of the metric, that these make: of EER half.
    """

    left: Ints
    right: Ints
    added: Floats
    count: Floats
    subjects: int
    share: float = 1.0

    def minus(self, other: Influence) -> Influence:
        """Subtract what another model's decisions of the same comparisons add."""
        return replace(self, added=self.added - other.added)

    @property
    def mean(self) -> float:
        """The metric, or what its genuine side is."""
        return float(self.added.sum() / self.count.sum())

    @property
    def changed(self) -> float:
        """What the mean would be if nothing were taken away: of a difference, how much changed."""
        return self.share * float(np.abs(self.added).sum() / self.count.sum())

    @property
    def people(self) -> int:
        """How many subjects are compared."""
        return len(np.unique(np.concatenate([self.left, self.right])))

    @property
    def nonzero(self) -> int:
        """How many subjects add anything."""
        return int(np.count_nonzero(self._by_person(self.added != 0)))

    @property
    def variance(self) -> float:
        """Variance of the metric by these, if those that share a person depend on each other.

        (sum S_i^2 - sum E_b^2) / N^2 n / (n - 1): S_i the sum of centred comparisons of person i,
        E_b that of two people's, n people [Cameron, Gelbach, Miller 2011; Aronow, Samii, Assenova
        2015].  It is what draws of people with replacement tend to, decisions kept.  Not below the
        sum of all E_b^2, of comparisons that are independent.
        """
        squares, pairs = self._by_person(self._centred) ** 2, self._by_pair(self._centred) ** 2
        apart = self._by_pair(self.left != self.right) > 0
        total = max(squares.sum() - pairs[apart].sum(), pairs.sum())
        n = self.people
        return float(total) * n / max(n - 1, 1) * (self.share / float(self.count.sum())) ** 2

    @property
    def freedom(self) -> float:
        """Degrees of freedom of the variance, at least 1.

        min(3 (sum S^2)^2 / sum S^4 - 2, k), k people who add anything [Satterthwaite 1946, with the
        kurtosis 3 of normal S: n - 2 for n people alike].  k people who change by the same have k,
        which is close to the exact sign test.  The smaller of it by person and by pair of people:
        two who changed in one comparison are not two witnesses.
        """
        groupings = self._by_person, self._by_pair
        return min(_freedom(by(self._centred), by(self.added != 0)) for by in groupings)

    @property
    def _centred(self) -> Floats:
        return self.added - self.mean * self.count

    def _by_person(self, values: Floats | Bools) -> Floats:
        """Sum by person, on both sides where these are two."""
        apart = self.left != self.right
        who, amounts = np.append(self.left, self.right[apart]), np.append(values, values[apart])
        return np.bincount(who, amounts).astype(np.float64)

    def _by_pair(self, values: Floats | Bools) -> Floats:
        """Sum by unordered pair of people."""
        low, high = np.minimum(self.left, self.right), np.maximum(self.left, self.right)
        key = low.astype(np.int64) * self.subjects + high
        pair = np.unique(key, return_inverse=True)[1].reshape(-1)
        return np.bincount(pair, values).astype(np.float64)


def _freedom(sums: Floats, changed: Floats) -> float:
    squares = sums**2
    total = float(squares.sum())
    if total <= 0:
        return 1.0
    ratio = total**2 / inner(squares, squares)
    return max(1.0, min(3 * ratio - 2, float(np.count_nonzero(changed))))


def influence(sample: ComparisonSample, name: str) -> Influence | None:
    """Find what each person adds to a metric; None where the sample does not tell.

    Accuracy and rank-k are means of decisions.  Of TPR, EER and AUC it is the genuine side, for
    each person in sum; of TPIR the mates looked for.
    """
    decided = decisions(sample, name)
    if decided is not None:
        left, right = _sides(sample, name)
        return Influence(
            left=left,
            right=right,
            added=decided.astype(np.float64),
            count=np.ones(len(decided)),
            subjects=sample.subjects,
        )
    sums = _sums(sample, name)
    if sums is None:
        return None
    added, count = sums
    people = np.flatnonzero(count)
    return Influence(
        left=people,
        right=people,
        added=added[people],
        count=count[people],
        subjects=sample.subjects,
        share=0.5 if resampling_of(name)[0] == "eer" else 1.0,
    )


def of_impostors(base: ComparisonSample, other: ComparisonSample, name: str) -> Influence | None:
    """Find what each person's impostors add to the difference of two models.

    Of tails those that one model alone accepts.  None where nothing differs, or none count.
    """
    a, b = reaching(base, name), reaching(other, name)
    excesses = excess_of_difference(a, b, excess(a, name), excess(b, name))
    if excesses is None or not excesses[2].any():
        return None
    left, right, e = excesses
    return Influence(left=left, right=right, added=e, count=np.ones(len(e)), subjects=a.subjects)


def decisions(sample: ComparisonSample, name: str) -> Bools | None:
    """Right or wrong of each comparison behind `name`, in an order shared by every model."""
    kind, k = resampling_of(name)
    if kind == "accuracy":
        return sample.decided
    if kind == "rank" and sample.rank is not None and sample.rank_subject is not None:
        return (sample.rank >= 1) & (sample.rank <= int(k)) if k.isdigit() else None
    return None


def _sides(sample: ComparisonSample, name: str) -> tuple[Ints, Ints]:
    """Subject on each side of every decision of `decisions`; of a search, the probe's twice."""
    if resampling_of(name)[0] == "rank" and sample.rank_subject is not None:
        return sample.rank_subject, sample.rank_subject
    genuine = sample.genuine_subject
    order = np.arange(len(genuine) + len(sample.left)) if sample.order is None else sample.order
    left, right = np.empty((2, len(order)), np.int64)
    left[order] = np.concatenate([genuine, sample.left])
    right[order] = np.concatenate([genuine, sample.right])
    return left, right


def _sums(sample: ComparisonSample, name: str) -> tuple[Floats, Floats] | None:
    """Sum what the genuine comparisons of each subject add, and count them: (S,) each."""
    kind, at = resampling_of(name)
    if kind == "tpir":
        return _mates_found(sample, at)
    added = _added(reaching(sample, name), kind, at) if len(sample.genuine) else None
    if added is None:
        return None
    who, n = sample.genuine_subject, sample.subjects
    each: Floats = np.bincount(who, added, n).astype(np.float64)
    count: Floats = np.bincount(who, minlength=n).astype(np.float64)
    if kind == "mean tpr":  # each subject counts once
        return each / np.maximum(count, 1), np.minimum(count, 1)
    return each, count


def _added(sample: ComparisonSample, kind: str | None, at: str) -> Floats | Bools | None:
    """Give what each genuine comparison adds: 1 if accepted; of AUC the impostors below it."""
    genuine, impostor = sample.genuine, sample.impostor
    if kind in ("tpr", "mean tpr") and rate_of(at) is not None:
        allowed = accepts(sample, at)
        if allowed is None:
            return None
        return genuine > (impostor[allowed] if allowed < len(impostor) else -np.inf)
    if len(impostor) != sample.impostors or not sample.impostors:
        return None
    if kind == "eer":
        threshold = eer(genuine, impostor).threshold
        return None if threshold is None else genuine >= threshold
    if kind == "best accuracy":
        score = np.concatenate([genuine, impostor])
        return genuine >= best_threshold(score, np.arange(len(score)) < len(genuine))
    if kind == "auc":
        below = np.searchsorted(impostor[::-1], genuine, "left")
        not_above = np.searchsorted(impostor[::-1], genuine, "right")
        placed: Floats = np.isfinite(genuine) * (below + not_above) / (2 * len(impostor))
        return placed
    return None


def _mates_found(sample: ComparisonSample, fpir: str) -> tuple[Floats, Floats] | None:
    """Mates of each subject found at FPIR <= x, and mates looked for, over all galleries."""
    x = rate_of(fpir)
    if x is None or not sample.searches:
        return None
    if not all(len(s.mate) and len(s.nonmate) for s in sample.searches):
        return None

    def found(s: Searches) -> Floats:
        k = int(x * len(s.nonmate))
        border = s.nonmate[k] if k < len(s.nonmate) else -np.inf
        return np.bincount(s.mate_subject, s.mate > border, sample.subjects).astype(np.float64)

    looked = [np.bincount(s.mate_subject, minlength=sample.subjects) for s in sample.searches]
    each = np.sum([found(s) for s in sample.searches], axis=0)
    return each, np.sum(looked, axis=0).astype(np.float64)
