"""How often a group's 95 % interval holds the truth, and equal groups or models are called unequal.

    python benchmarks/group_coverage.py [--trials 200] [--draws 200] [--seed 0]

Groups of one set, all pairs compared; scores have effects of the subject and of the comparison,
all normal, so that FMR and FNMR within a group and FMR between both are known at every threshold.
Each trial draws new people.  The truth is that at the threshold of the trial: of a FAR over its own
pairs, or a given one.  A share of 200 trials is known to 3 points (two standard errors at 95 %).
In as many trials again two models that are equal in truth score the same people, each with noise of
its own, and every rate by group is tested between them.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from evalkit.protocols.groups import Grouping, indices
from evalkit.protocols.groups.cells import GroupCell, cells_of
from evalkit.protocols.groups.paired import differences_by_group
from evalkit.protocols.groups.partition import Partition, parted
from evalkit.protocols.groups.rates import CellRates, counted_at, rates_at
from evalkit.protocols.groups.report import FEWEST_PEOPLE
from evalkit.protocols.metrics import threshold_at_far, threshold_text
from evalkit.protocols.metrics.operating_point import FEW_ERRORS
from evalkit.protocols.uncertainty.outcomes import PairOutcomes
from evalkit.protocols.uncertainty.sample import sample_of
from evalkit.types import Estimate

GENUINE, GENUINE_SUBJECT, IMPOSTOR_SUBJECT, NOISE = 4.0, 0.6, 0.4, 0.8


@dataclass(frozen=True)
class Groups:
    """People of the groups a, b, ..., images of each, and how much higher b's impostors score."""

    name: str
    people: tuple[int, ...]
    images: int
    shift: float

    def truth(self, cell: str, threshold: float) -> dict[str, float]:
        """Return the true FMR and FNMR of a cell at a threshold."""
        mean = self.shift if cell == "b" else 0.0
        impostor = np.sqrt(2 * IMPOSTOR_SUBJECT**2 + NOISE**2)
        genuine = np.hypot(GENUINE_SUBJECT, NOISE)
        return {
            "fmr": float(ndtr((mean - threshold) / impostor)),
            "fnmr": float(ndtr((threshold - GENUINE) / genuine)),
        }

    def draw(
        self, rng: np.random.Generator, models: int = 1
    ) -> tuple[list[PairOutcomes], Grouping]:
        """Draw people, and score all pairs of their images by models that are equal in truth."""
        count = sum(self.people)
        who = np.repeat(np.arange(count), self.images)
        group = np.repeat(np.arange(len(self.people)), self.people)[who]
        of_b = group == 1
        i, j = np.triu_indices(len(who), 1)
        same = who[i] == who[j]
        own, met = rng.normal(size=(2, count))
        crossed = IMPOSTOR_SUBJECT * (met[who[i]] + met[who[j]]) + self.shift * (of_b[i] & of_b[j])
        mean = np.where(same, GENUINE + GENUINE_SUBJECT * own[who[i]], crossed)
        outcomes = [
            PairOutcomes(
                score=mean + NOISE * rng.normal(size=len(i)),
                genuine=same,
                left=i,
                right=j,
                left_subject=who[i],
                right_subject=who[j],
            )
            for _ in range(models)
        ]
        return outcomes, Grouping("group", tuple("abc"[: len(self.people)]), group)


WORLDS = [
    Groups("30 + 30 people x 4, alike", (30, 30), 4, 0.0),
    Groups("60 + 20 people x 3, b higher", (60, 20), 3, 0.4),
]
AT = {"FAR 1e-2": "1e-2", "threshold 2": None}


def trial(world: Groups, seed: int, draws: int) -> Counter[tuple[str, str]]:
    """Count what holds the truth, or rejects equality, in one draw of people."""
    (outcomes,), by = world.draw(np.random.default_rng(seed))
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
    """Whether a report calls groups unequal, p < 0.05: of few people or errors it does not say."""
    of = [getattr(r, rate) for r in within]
    fewest = min(m.people or 0 for m in of)
    if fewest < FEWEST_PEOPLE or min(round(m.value * m.n) for m in of) < FEW_ERRORS:
        return False
    drawn = np.stack([getattr(r, f"{rate}_drawn") for r in within])
    return indices.equality(drawn, np.array([m.value for m in of]), fewest) < 0.05


def paired_trial(world: Groups, seed: int) -> Counter[tuple[str, str]]:
    """Count the rates by group in which two equal models are called different, p < 0.05."""
    models, by = world.draw(np.random.default_rng(seed), models=2)
    held: list[tuple[PairOutcomes, dict[str, Partition], dict[str, Estimate]]] = []
    for outcomes in models:
        whole = sample_of(outcomes)
        parts = parted(outcomes, by, (), whole.subjects)
        found: dict[str, Estimate] = {}
        for far in AT.values():
            t = (threshold_at_far(whole.impostor, far) or np.inf) if far else 2.0
            cells = cells_of(parts, outcomes, whole)
            found |= _rates(cells, t, f"far={far}" if far else "threshold=2")
        held.append((outcomes, {by.column: parts}, found))
    differences, _ = differences_by_group(*held)
    return Counter(
        ("two equal models", f"{n} p < 0.05") for n, d in differences.items() if d.p < 0.05
    )


def _rates(cells: Iterable[GroupCell], threshold: float, point: str) -> dict[str, Estimate]:
    found = {}
    for cell in cells:
        rates = counted_at(cell.sample, threshold, threshold_text(threshold))
        for rate, m in zip(("fmr", "fnmr"), rates, strict=True):
            found[f"{rate}@{point},group={cell.name}"] = m
    return found


def main() -> None:
    """Print a line per world, threshold and rate."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0, help="of the first trial")
    given = parser.parse_args()
    for world in WORLDS:
        total: Counter[tuple[str, str]] = Counter()
        for seed in range(given.seed, given.seed + given.trials):
            total.update(trial(world, seed, given.draws))
            total.update(paired_trial(world, seed))
        print(f"{world.name}, {given.trials} trials")
        for (at, what), count in total.items():
            share = count / given.trials
            margin = 2 * np.sqrt(max(share * (1 - share), 0.0025) / given.trials)
            print(f"  {at:12} {what:14} {100 * share:5.1f} % +- {100 * margin:.1f}")


if __name__ == "__main__":
    main()
