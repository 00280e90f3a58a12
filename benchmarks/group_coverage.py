"""How often a group's 95 % interval holds the truth, and how often equal groups are called unequal.

    python benchmarks/group_coverage.py [--trials 200] [--draws 200]

Two groups of one set, all pairs compared; scores have effects of the subject and of the comparison,
all normal, so that FMR and FNMR within a group and FMR between both are known at every threshold.
Each trial draws new people.  The truth is that at the threshold of the trial: of a FAR over its own
pairs, or a given one.  A share of 200 trials is known to 3 points (two standard errors at 95 %).
"""

from __future__ import annotations

import argparse
from collections import Counter
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from evalkit.protocols.groups import Grouping, indices
from evalkit.protocols.groups.cells import cells_of
from evalkit.protocols.groups.partition import parted
from evalkit.protocols.groups.rates import CellRates, rates_at
from evalkit.protocols.metrics import threshold_at_far
from evalkit.protocols.uncertainty.outcomes import PairOutcomes
from evalkit.protocols.uncertainty.sample import sample_of
from evalkit.types import Estimate

GENUINE, GENUINE_SUBJECT, IMPOSTOR_SUBJECT, NOISE = 4.0, 0.6, 0.4, 0.8


@dataclass(frozen=True)
class TwoGroups:
    """People of the groups a and b, images of each, and how much higher b's impostors score."""

    name: str
    people: tuple[int, int]
    images: int
    shift: float

    def truth(self, cell: str, threshold: float) -> dict[str, float]:
        """Return the true FMR and FNMR of a cell at a threshold."""
        mean = {"a": 0.0, "b": self.shift, "a+b": 0.0}[cell]
        impostor = np.sqrt(2 * IMPOSTOR_SUBJECT**2 + NOISE**2)
        genuine = np.hypot(GENUINE_SUBJECT, NOISE)
        return {
            "fmr": float(ndtr((mean - threshold) / impostor)),
            "fnmr": float(ndtr((threshold - GENUINE) / genuine)),
        }

    def draw(self, rng: np.random.Generator) -> tuple[PairOutcomes, Grouping]:
        """Draw people, and score all pairs of their images."""
        count = sum(self.people)
        who = np.repeat(np.arange(count), self.images)
        of_b = who >= self.people[0]
        i, j = np.triu_indices(len(who), 1)
        same = who[i] == who[j]
        own, met = rng.normal(size=(2, count))
        score = NOISE * rng.normal(size=len(i))
        score += np.where(same, GENUINE + GENUINE_SUBJECT * own[who[i]], 0)
        crossed = IMPOSTOR_SUBJECT * (met[who[i]] + met[who[j]]) + self.shift * (of_b[i] & of_b[j])
        score += np.where(same, 0, crossed)
        outcomes = PairOutcomes(
            score=score,
            genuine=same,
            left=i,
            right=j,
            left_subject=who[i],
            right_subject=who[j],
        )
        return outcomes, Grouping("group", ("a", "b"), of_b.astype(int))


WORLDS = [
    TwoGroups("30 + 30 people x 4, alike", (30, 30), 4, 0.0),
    TwoGroups("60 + 20 people x 3, b higher", (60, 20), 3, 0.4),
]
AT = {"FAR 1e-2": "1e-2", "threshold 2": None}


def trial(world: TwoGroups, seed: int, draws: int) -> Counter[tuple[str, str]]:
    """Count what holds the truth, or rejects equality, in one draw of people."""
    outcomes, by = world.draw(np.random.default_rng(seed))
    whole = sample_of(outcomes)
    found: Counter[tuple[str, str]] = Counter()
    cells = list(cells_of(parted(outcomes, by, (), whole.subjects), outcomes, whole))
    chosen = {n: threshold_at_far(whole.impostor, x) if x else 2.0 for n, x in AT.items()}
    thresholds = {name: t for name, t in chosen.items() if t is not None}
    measured = rates_at(cells, whole, list(thresholds.values()), draws, seed)
    for name, t in thresholds.items():
        for r in measured[t]:
            for rate, true in world.truth(r.cell.name, t).items():
                m: Estimate = getattr(r, rate)
                if m.low is not None and m.high is not None:
                    found[name, f"{rate} {r.cell.name}"] += m.low <= true <= m.high
        within = [r for r in measured[t] if r.cell.within]
        for rate in ("fmr", "fnmr"):
            found[name, f"{rate} p < 0.05"] += _unequal(within, rate)
    return found


def _unequal(within: list[CellRates], rate: str) -> bool:
    values = np.array([getattr(r, rate).value for r in within])
    if not values.all():
        return False
    drawn = np.stack([getattr(r, f"{rate}_drawn") for r in within])
    return indices.equality(drawn, values, min(getattr(r, rate).people for r in within)) < 0.05


def main() -> None:
    """Print a line per world, threshold and rate."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--draws", type=int, default=200)
    given = parser.parse_args()
    for world in WORLDS:
        total: Counter[tuple[str, str]] = Counter()
        for seed in range(given.trials):
            total.update(trial(world, seed, given.draws))
        print(f"{world.name}, {given.trials} trials")
        for (at, what), count in total.items():
            share = count / given.trials
            margin = 2 * np.sqrt(max(share * (1 - share), 0.0025) / given.trials)
            print(f"  {at:12} {what:14} {100 * share:5.1f} % +- {100 * margin:.1f}")


if __name__ == "__main__":
    main()
