"""How often an interval of FNMR without low quality holds the truth, and equal qualities differ.

    python benchmarks/quality_coverage.py [--trials 200] [--draws 100] [--people 60]

Genuine scores have effects of the subject, of the quality of the worse image and of the comparison,
impostor scores of both subjects; all normal.  Each trial draws new people, images and qualities.
Truth is FNMR at the threshold that has the FAR in the population, without the share of images of
lowest quality, by a million pairs of people of their own.  Two qualities that see the same signal
through noise of their own are equal: their test should say p < 0.05 in 5 trials of 100.
"""

from __future__ import annotations

import argparse
from collections import Counter

import numpy as np
from scipy.special import ndtri

from evalkit.protocols.quality.discarding import by_image, fnmr_at, partial_area
from evalkit.protocols.quality.resampled import difference, edc_draws
from evalkit.protocols.uncertainty.intervals import bounded
from evalkit.protocols.uncertainty.outcomes import PairOutcomes
from evalkit.protocols.uncertainty.sample import sample_of
from evalkit.types import Floats

IMAGES, FAR, SHARE = 3, "1e-2", "0.2"
GENUINE, SUBJECT, QUALITY, NOISE, IMPOSTOR = 3.4, 0.5, 0.7, 0.8, 0.4
POINTS = [("before", SHARE), ("anew", SHARE), ("area", SHARE)]


def seen(rng: np.random.Generator, true: Floats) -> Floats:
    """See a quality through noise."""
    return true + rng.normal(0, 0.5, true.shape)


def truth(rng: np.random.Generator, pairs: int = 1_000_000) -> dict[str, float]:
    """FNMR at the share discarded, and its mean up to there, of independent pairs."""
    threshold = np.hypot(IMPOSTOR * np.sqrt(2), NOISE) * ndtri(1 - float(FAR))
    true = rng.normal(size=(pairs, 2))
    score = GENUINE + SUBJECT * rng.normal(size=pairs) + QUALITY * true.min(axis=1)
    missed = score + NOISE * rng.normal(size=pairs) < threshold
    lower = seen(rng, true).min(axis=1)
    spread = np.hypot(1, 0.5)

    def fnmr(share: float) -> float:
        return float(missed[lower >= spread * ndtri(share)].mean())

    rate, mean = fnmr(float(SHARE)), np.mean([fnmr(x) for x in (np.arange(20) + 0.5) / 100])
    return {"before": rate, "anew": rate, "area": float(mean)}


def trial(seed: int, draws: int, people: int, true: dict[str, float]) -> Counter[str]:
    """Count what holds the truth, and whether two equal qualities are told apart."""
    rng = np.random.default_rng(seed)
    who = np.repeat(np.arange(people), IMAGES)
    quality = rng.normal(size=len(who))
    left, right = np.triu_indices(len(who), 1)
    same = who[left] == who[right]
    own, met = rng.normal(size=(2, people))
    score = NOISE * rng.normal(size=len(left))
    genuine = (
        GENUINE + SUBJECT * own[who[left]] + QUALITY * np.minimum(quality[left], quality[right])
    )
    score += np.where(same, genuine, IMPOSTOR * (met[who[left]] + met[who[right]]))
    sample = sample_of(
        PairOutcomes(
            score=score,
            genuine=same,
            left=left,
            right=right,
            left_subject=who[left],
            right_subject=who[right],
        )
    )
    assert sample.order is not None
    found: Counter[str] = Counter()
    areas = []
    for q in (seen(rng, quality), seen(rng, quality)):
        lower = np.minimum(q[left], q[right])[sample.order]
        of = by_image(q, who, lower[: same.sum()], lower[same.sum() :])
        drawn = edc_draws(sample, of, FAR, POINTS, draws, seed)
        for kind, share in POINTS:
            m = (
                partial_area(sample, of, share, FAR)
                if kind == "area"
                else fnmr_at(sample, of, share, FAR, anew=kind == "anew")
            )
            if kind == "area":
                areas.append((m, drawn[kind, share][:, 2]))
            m = bounded(m, drawn[kind, share][:, :2], people, seed)
            if m.low is not None and m.high is not None:
                found[kind] += m.low <= true[kind] <= m.high
    (base, first), (other, second) = areas
    found["p < 0.05"] += difference(base, other, second - first, people)[1] < 0.05
    return found


def main() -> None:
    """Print a line per number."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--people", type=int, default=60)
    given = parser.parse_args()
    true = truth(np.random.default_rng(0))
    print(", ".join(f"{name} {100 * rate:.2f} %" for name, rate in true.items()))
    total: Counter[str] = Counter()
    for seed in range(given.trials):
        total.update(trial(seed, given.draws, given.people, true))
    for what, count in total.items():
        tries = given.trials * (1 if what.startswith("p") else 2)
        print(f"  {what:10} {100 * count / tries:5.1f} % of {tries}")


if __name__ == "__main__":
    main()
