"""Error versus discard characteristic (EDC): FNMR of what is left without the lowest quality.

The quality of a pair is the lower one of its two images, so discarding pairs from the lowest on is
discarding images from the lowest on: the two ways differ in what the share discarded is a share of,
genuine pairs or images [Grother and Tabassi, PAMI 29(4), 2007; ISO/IEC 29794-1:2024].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from evalkit.protocols.metrics import few_errors, tpr_at_far
from evalkit.protocols.metrics.elementary import inner
from evalkit.protocols.metrics.operating_point import threshold_at_far
from evalkit.protocols.uncertainty.sample import ComparisonSample
from evalkit.types import Bools, Estimate, Floats, Ints


@dataclass(frozen=True, slots=True, kw_only=True)
class Discarding:
    """The comparisons of a sample by quality, and what is discarded of them.

    levels : U, of distinct qualities; at level k everything below the k-th lowest is discarded, at
    level 0 nothing.  item, item_subject : (M,) level of each genuine pair or image, and the subject
    that it is drawn with.  genuine, impostor : (G,), (I,) level of each, in the sample's order.
    Equal qualities stand or fall together.
    """

    levels: int
    item: Ints
    item_subject: Ints
    genuine: Ints
    impostor: Ints

    def below(self, weight: Ints) -> Ints:
        """Weight of the items that each level discards: (U,), from 0 on."""
        at = np.bincount(self.item, weight[self.item_subject], self.levels)
        return (np.cumsum(at) - at).astype(np.int64)

    def level(self, share: str) -> int:
        """Highest level that discards at most a share of the items, in exact arithmetic."""
        below = self.below(np.ones(int(self.item_subject.max(initial=0)) + 1, np.int64))
        return int(np.searchsorted(below, int(Fraction(share) * len(self.item)), "right")) - 1


def by_pair(sample: ComparisonSample, genuine: Floats, impostor: Floats) -> Discarding:
    """Discard shares of the genuine pairs.

    genuine, impostor : (G,), (I,) quality of each pair, in the sample's order.
    """
    return _discarding(genuine, sample.genuine_subject, genuine, impostor)


def by_image(image: Floats, subject: Ints, genuine: Floats, impostor: Floats) -> Discarding:
    """Discard shares of the images.

    image, subject : (M,) quality of each image that is compared, and whom it shows.
    genuine, impostor : as `by_pair` takes them.
    """
    return _discarding(image, subject, genuine, impostor)


def _discarding(item: Floats, subject: Ints, genuine: Floats, impostor: Floats) -> Discarding:
    quality = np.unique(item)
    levels = [np.searchsorted(quality, q, "right") - 1 for q in (item, genuine, impostor)]
    return Discarding(
        levels=len(quality),
        item=levels[0],
        item_subject=subject,
        genuine=levels[1],
        impostor=np.maximum(levels[2], 0),  # at level 0 nothing is discarded
    )


def fnmr_at(
    sample: ComparisonSample, discarding: Discarding, share: str, far: str, *, anew: bool
) -> Estimate:
    """FNMR of the genuine pairs left when at most a share of the items is discarded.

    anew : whether the threshold is the one with FAR at most x of the impostor pairs left, instead
    of all of them.  `far` and `false_accepts` are those of the pairs left.  None with the reason
    where no pair is left, or the FAR needs more impostor pairs.
    """
    level = discarding.level(share)
    genuine = sample.genuine[discarding.genuine >= level]
    impostor = sample.impostor[discarding.impostor >= level]
    deciding = impostor if anew else sample.impostor
    m = tpr_at_far(genuine, deciding, far)
    if m.value is None or m.threshold is None:
        note = m.note or f"no genuine pair is left of {len(sample.genuine):,}"
        return Estimate(value=None, n=len(genuine), note=note)
    missed = int(np.count_nonzero(genuine < m.threshold))
    false = int(np.count_nonzero(impostor >= m.threshold))
    chosen_by = int(np.count_nonzero(deciding >= m.threshold))
    return replace(
        m,
        value=missed / len(genuine),
        n=len(genuine),
        far=false / len(impostor) if len(impostor) else None,
        false_accepts=false,
        note=few_errors(false_accepts=chosen_by, misses=missed),
    )


def partial_area(
    sample: ComparisonSample, discarding: Discarding, share: str, far: str
) -> Estimate:
    """Partial area under the EDC from 0 to a share discarded, over its width: the mean FNMR.

    The curve is one of steps, a step at every level; the threshold has FAR at most x of all
    impostor pairs and stays.  None as in `fnmr_at`.
    """
    m = fnmr_at(sample, discarding, "0", far, anew=False)
    if m.value is None or m.threshold is None:
        return m
    weight = np.ones(sample.subjects, np.int64)
    missed, kept = left_at(discarding, sample.genuine < m.threshold, weight[sample.genuine_subject])
    width = widths(discarding.below(weight), len(discarding.item), float(Fraction(share)))
    if not kept[width > 0].all():
        note = "no genuine pair is left before that share is discarded"
        return Estimate(value=None, n=len(sample.genuine), note=note)
    on = width > 0
    return replace(m, value=inner(width[on], missed[on] / kept[on]) / float(width.sum()))


def left_at(discarding: Discarding, missed: Bools, weight: Ints) -> tuple[Floats, Floats]:
    """Weight of the misses, and of all genuine pairs, that each level leaves: (U,) both.

    missed, weight : (G,) of the genuine pairs.
    """
    at = discarding.genuine
    sums = (np.bincount(at, w, discarding.levels) for w in (weight * missed, weight))
    misses, kept = (np.cumsum(s[::-1])[::-1].astype(np.float64) for s in sums)
    return misses, kept


def widths(below: Ints, total: int, share: float) -> Floats:
    """How far each level reaches along the share discarded, from 0 to `share`: (U,)."""
    ends: Floats = np.minimum(np.append(below, total) / total, share)
    return np.diff(ends)


def curve(
    sample: ComparisonSample, discarding: Discarding, far: str, points: int = 400
) -> dict[str, list[float]]:
    """Columns of the EDC for a picture: `discarded`, and `fnmr` from there on; none without FAR.

    The threshold stays.  Of more steps than `points` those nearest to an even spacing are kept.
    """
    threshold = threshold_at_far(sample.impostor, far) if len(sample.impostor) else None
    if threshold is None or not len(sample.genuine):
        return {}
    weight = np.ones(sample.subjects, np.int64)
    missed, kept = left_at(discarding, sample.genuine < threshold, weight[sample.genuine_subject])
    share = discarding.below(weight) / len(discarding.item)
    on = np.flatnonzero((kept > 0) & (share < 0.95))
    even: Sequence[float] = np.linspace(0, share[on[-1]], points).tolist()
    kept_on = on[np.unique(np.searchsorted(share[on], even))] if len(on) > points else on
    fnmr = missed[kept_on] / kept[kept_on]
    return {"discarded": share[kept_on].tolist(), "fnmr": fnmr.tolist()}
