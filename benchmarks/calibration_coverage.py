"""How often an interval of Cllr holds the truth: the cost of the same fits on people yet unseen.

    python benchmarks/calibration_coverage.py [--trials 200] [--people 60]

Genuine scores have effects of the subject and of the comparison, impostor scores of both subjects;
all normal.  Each trial draws new people, in ten folds that share nobody.  Truth is the mean over
folds of the expected cost of that trial's fits, by an integral over the scores of the population.
"""

from __future__ import annotations

import argparse
from collections import Counter

import numpy as np

from evalkit.protocols import calibration
from evalkit.protocols.calibration.fits import FITS, Calibration, fitted
from evalkit.protocols.metrics.cllr import costs
from evalkit.protocols.uncertainty.outcomes import PairOutcomes

IMAGES, FOLDS = 4, 10
GENUINE, SUBJECT, IMPOSTOR, NOISE = 3.4, 0.6, 0.4, 0.8
DEVIATION = {True: np.hypot(SUBJECT, NOISE), False: np.sqrt(2 * IMPOSTOR**2 + NOISE**2)}
STEPS = np.linspace(-8, 8, 20_001)
DENSITY = np.exp(-(STEPS**2) / 2) / np.exp(-(STEPS**2) / 2).sum()


def truth(fit: Calibration) -> float:
    """Cllr of a fit in the population."""
    cost = [
        DENSITY @ costs(fit.of(GENUINE * same + DEVIATION[same] * STEPS), genuine=same)
        for same in (True, False)
    ]
    return float(sum(cost)) / 2


def drawn(rng: np.random.Generator, people: int) -> PairOutcomes:
    """Draw people and the scores of all pairs within a fold."""
    who = np.repeat(np.arange(people), IMAGES)
    left, right = np.triu_indices(len(who), 1)
    fold = who * FOLDS // people
    kept = fold[left] == fold[right]
    left, right = left[kept], right[kept]
    same = who[left] == who[right]
    own, met = rng.normal(size=(2, people))
    score = NOISE * rng.normal(size=len(left))
    score += np.where(
        same, GENUINE + SUBJECT * own[who[left]], IMPOSTOR * (met[who[left]] + met[who[right]])
    )
    return PairOutcomes(
        score=score,
        genuine=same,
        left=left,
        right=right,
        fold=fold[left],
        left_subject=who[left],
        right_subject=who[right],
    )


def trial(seed: int, people: int) -> Counter[str]:
    """Count the fits whose interval holds the truth, and the sides of those that do not."""
    outcomes = drawn(np.random.default_rng(seed), people)
    report = calibration.evaluate(outcomes, seed=seed)
    found: Counter[str] = Counter()
    for fit in FITS:
        true = np.mean([truth(_without(outcomes, k, fit)) for k in range(FOLDS)])
        m = report[f"cllr@fit={fit}"]
        if m.low is not None and m.high is not None:
            found[fit] += m.low <= true <= m.high
            found[f"{fit} too low"] += m.high < true
    return found


def _without(outcomes: PairOutcomes, fold: int, fit: str) -> Calibration:
    others = outcomes.fold != fold
    genuine, impostor = outcomes.genuine & others, ~outcomes.genuine & others
    return fitted(outcomes.score[genuine], outcomes.score[impostor], fit)  # type: ignore[arg-type]


def main() -> None:
    """Print a line per fit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--people", type=int, default=60)
    given = parser.parse_args()
    total: Counter[str] = Counter()
    for seed in range(given.trials):
        total.update(trial(seed, given.people))
    for what, count in total.items():
        print(f"  {what:18} {100 * count / given.trials:5.1f} % of {given.trials}")


if __name__ == "__main__":
    main()
