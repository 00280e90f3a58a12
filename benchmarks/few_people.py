"""How often intervals hold the truth, and equal things differ, where people are few or unlike.

    python benchmarks/few_people.py [--trials 400] [--draws 200] [--only TEXT]

Pairs: all of a set in which one person has half of the genuine pairs, some people are twins (two
labels of one person, for scores), or one label holds images of two people.  Searches: one to three
probes of each of five to thirty people.  Equal groups: three, all pairs of each.  Equal models:
lists like LFW's with five to fifteen errors.  Scores are as in `interval_coverage.py`.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import group_coverage
import interval_coverage
import numpy as np
import paired_tests
from scipy.optimize import brentq
from scipy.special import ndtr

from evalkit.protocols import verification
from evalkit.protocols.uncertainty.intervals import with_intervals
from evalkit.types import Estimate

FARS = ("1e-1", "1e-2", "1e-3")
METRICS = (*(f"tpr@far={far}" for far in FARS), "eer", "auc")
SCORES = interval_coverage.World("", 0, 0, 4.0)
Held = Iterator[dict[str, float]]


@dataclass(frozen=True)
class Set:
    """Images a label, and whose they are: `twins` pairs of labels share a person."""

    name: str
    images: tuple[int, ...]
    twins: int = 0
    mislabelled: int = 0  # images of the first label that show the second's person

    def rows(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the label of each image, and the person."""
        label = np.repeat(np.arange(len(self.images)), self.images)
        person = np.where(label < 2 * self.twins, label // 2 * 2, label)
        person[: self.mislabelled] = 1
        return label, person

    def truth(self) -> dict[str, float]:
        """Return TPR at each FAR, EER and AUC: pairs of a kind are in part of the other kind."""
        label, person = self.rows()
        i, j = np.triu_indices(len(label), 1)
        same, alike = label[i] == label[j], person[i] == person[j]
        genuine, impostor = (float(alike[of].mean()) for of in (same, ~same))

        def above(share: float, t: float) -> float:
            return share * (1 - SCORES.missed(t)) + (1 - share) * ndtr(-t / SCORES.spreads()[1])

        def at(gap: Callable[[float], float]) -> float:
            return above(genuine, brentq(gap, -8, 20))

        found = {f"tpr@far={x}": at(lambda t, x=x: above(impostor, t) - float(x)) for x in FARS}
        found["eer"] = 1 - at(lambda t: above(impostor, t) + above(genuine, t) - 1)
        t = np.linspace(-8, 14, 40_001)
        far, tpr = (np.array([above(share, x) for x in t]) for share in (impostor, genuine))
        return found | {"auc": float(np.trapezoid(tpr, -far))}

    def draw(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Draw scores of all pairs."""
        label, person = self.rows()
        i, j = np.triu_indices(len(label), 1)
        n, w = len(self.images), SCORES
        own, met = rng.normal(0, w.genuine, n), rng.normal(0, w.impostor, n)
        image = rng.normal(0, w.image, len(label))
        a, b = person[i], person[j]
        score = np.where(a == b, w.mean + own[a], met[a] + met[b]) + image[i] + image[j]
        score += rng.normal(0, w.noise, len(i))
        found = {"score": score, "genuine": label[i] == label[j], "left": i, "right": j}
        return found | {"left_subject": label[i], "right_subject": label[j]}


def held(found: dict[str, Estimate], truth: dict[str, float]) -> dict[str, float]:
    """Whether each interval holds the truth."""
    ends = {n: (m.low, m.high) for n, m in found.items() if n in truth and m.low is not None}
    return {name: float(low <= truth[name] <= high) for name, (low, high) in ends.items()}


def of_pairs(world: Set, trials: int, draws: int) -> Held:
    """Yield what holds the truth of a set."""
    rng, truth = np.random.default_rng(0), world.truth()
    for t in range(trials):
        o = world.draw(rng)
        found = verification.measures(o["score"], o["genuine"], None, FARS)
        yield held(with_intervals({n: found[n] for n in METRICS}, o, draws=draws, seed=t), truth)


def of_searches(people: int, probes: int, trials: int, draws: int) -> Held:
    """Yield what holds the truth of searches, which is the mean of all; a threshold of 2.5."""
    rng, at = np.random.default_rng(0), 2.5
    world = interval_coverage.World("", people, probes, 4.0)
    every = []
    for t in range(trials):
        o = interval_coverage.searches(world, rng)
        missed = Estimate(value=float(np.mean(o["mate_score"] < at)))
        alarm = Estimate(value=float(np.mean(o["nonmate_score"] >= at)))
        found = {f"fnir@threshold={at}": missed, f"fpir@threshold={at}": alarm}
        found |= interval_coverage.searched(o)
        every.append(with_intervals(found, o, draws=draws, seed=t))
    truth = {name: float(np.mean([m[name].value or 0 for m in every])) for name in every[0]}
    yield from (held(found, truth) for found in every)


def of_groups(people: tuple[int, ...], trials: int, draws: int) -> Held:
    """Yield what holds the truth of three groups, and whether equal ones differ at p < 0.05."""
    world = group_coverage.Groups("", people, 4, 0.0)
    for seed in range(trials):
        found = group_coverage.trial(world, seed, draws)
        yield {f"{what}, {at}": float(count) for (at, what), count in found.items()}


def of_models(world: paired_tests.World, trials: int, draws: int) -> Held:
    """Yield whether two equal models differ at p < 0.05, and whether the gate fails the second.

    And whether the interval of the first one's accuracy holds the mean of all trials.
    """
    rng, sizes, every = np.random.default_rng(0), [], []
    for t in range(trials):
        _, tests = paired_tests.trial(world, rng, 0.0, draws, t)
        differ = {f"{name} p < 0.05": float(d.p < 0.05) for name, d in tests.items()}
        sizes.append(differ | {"gate fails": float(paired_tests.gate_fails(tests))})
        o, _ = world.draw(rng, 0.0)
        found = verification.measures(o["score"], o["genuine"], o["fold"], ())
        every.append(with_intervals({"accuracy": found["accuracy"]}, o, draws=draws, seed=t))
    truth = {"accuracy": float(np.mean([m["accuracy"].value or 0 for m in every]))}
    yield from (held(found, truth) | size for found, size in zip(every, sizes, strict=True))


SETS = (
    Set("30 people, one has half of the genuine pairs", (14, *[3] * 30)),
    Set("60 people x 4, 3 pairs of twins", (4,) * 60, twins=3),
    Set("60 people x 4, all twins", (4,) * 60, twins=30),
    Set("15 people x 4, 3 pairs of twins", (4,) * 15, twins=3),
    Set("60 people x 4, one half mislabelled", (4,) * 60, mislabelled=2),
    Set("15 people x 4, one half mislabelled", (4,) * 15, mislabelled=2),
)
PEOPLE = ((5, 1), (5, 3), (10, 1), (30, 1))
GROUPS = ((8, 15, 30), (20, 20, 20), (20, 30, 60), (30, 30, 30))
ERRORS = {5: 7.0, 10: 6.5, 15: 6.2}  # mean of genuine scores; of 3,000 pairs, about
WORLDS: dict[str, Callable[[int, int], Held]] = {
    **{world.name: partial(of_pairs, world) for world in SETS},
    **{f"searches, {n} people x {m}": partial(of_searches, n, m) for n, m in PEOPLE},
    **{f"groups of {', '.join(map(str, of))}": partial(of_groups, of) for of in GROUPS},
    **{
        f"equal models, {count} errors": partial(
            of_models, paired_tests.World("", paired_tests.pair_list(3000, mean=mean), 2.5)
        )
        for count, mean in ERRORS.items()
    },
}


def main() -> None:
    """Print a line per world and number."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=400)
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--only", default="", help="worlds whose name holds this text")
    options = parser.parse_args()
    for name, trials in WORLDS.items():
        if options.only in name:
            found = defaultdict(list)
            for each in trials(options.trials, options.draws):
                for what, value in each.items():
                    found[what].append(value)
            for what, values in found.items():
                share, n = float(np.mean(values)), len(values)
                error = np.sqrt(max(share * (1 - share), 0.01) / n)
                print(f"{name:48}{what:28}{share:7.1%} +- {error:.1%} of {n}", flush=True)


if __name__ == "__main__":
    main()
