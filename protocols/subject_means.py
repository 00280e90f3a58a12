"""TPR as a mean over people, beside the TPR over pairs that one person of many images decides.

A rate over genuine pairs weighs a person by the square of his images: 500 images make 124,750
pairs, two make one.  Of LFW's 242,257 genuine pairs one man has 58 %.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from evalkit.protocols.metrics.vocabulary import read
from evalkit.protocols.uncertainty.outcomes import Outcomes
from evalkit.protocols.uncertainty.sample import genuine_by_subject
from evalkit.types import Estimate

DOMINANT = 0.1  # share of the genuine pairs from which on one person decides much of a TPR
POOLED, MEAN = "tpr@far=FAR", "tpr@far={},mean=subject"


def with_subject_means(measured: Mapping[str, Estimate], outcomes: Outcomes) -> dict[str, Estimate]:
    """Add tpr@far=x,mean=subject after each tpr@far=x where one person has many of the pairs.

    It is the mean, over the people with a genuine pair, of the share of each one's that scores at
    or above the threshold of tpr@far=x; its note gives the share of the person with most.
    Nothing is added where nobody has over a tenth of the genuine pairs, where all have as many, so
    that both means are one, or where nobody knows who is in them; nor beside a TPR without a
    value.  outcomes : of the comparisons that `measured` is of.
    """
    score, who = genuine_by_subject(outcomes)
    pairs = np.unique(who, return_counts=True)[1]
    if pairs.max(initial=0) <= max(DOMINANT * len(who), pairs.min(initial=len(who))):
        return dict(measured)
    of = np.unique(who, return_inverse=True)[1]
    most = f"one person has {pairs.max() / len(who):.0%} of the {len(who):,} genuine pairs"
    estimates: dict[str, Estimate] = {}
    for name, m in measured.items():
        estimates[name] = m
        reading = read(name)
        if reading is None or reading.metric.grammar != POOLED or reading.rest:
            continue
        if m.value is not None and m.threshold is not None:
            shares = np.bincount(of, score >= m.threshold) / pairs
            estimates[MEAN.format(reading.values["FAR"])] = replace(
                m,
                value=math.fsum(shares) / len(shares),
                note="; ".join(filter(None, (most, m.note))),
            )
    return estimates
