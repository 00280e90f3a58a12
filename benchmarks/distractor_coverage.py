"""How often a 95 % interval holds the truth of few people's probes against many others.

    python benchmarks/distractor_coverage.py [--trials 200] [--draws 200] [--rates]

40 or 120 people with one to six images are compared with one to three images each of 60,000 others,
some ten million impostor pairs, of which the highest few are stored, as `trillion` and `megaface`
store them.  Scores have effects of both people, of the image of the probe and of the comparison,
all normal; wolves are a share of the others whose scores with everybody are higher.  Each trial
draws new people.  Measured at each FAR are TPR, and FMR at the threshold whose true FAR it is.
With --rates each person of 6,000 or 60 others and of the probes is taken for people at a rate of
his own, lognormal, at every threshold: `spread` is the deviation of its logarithm.  Wolves are
probes that are taken for people ten times as often.  Measured are FMR, the threshold of a FAR, and
how often two equally good models are called different.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import ndtr

from evalkit.protocols.metrics.operating_point import threshold_text, tpr_of_highest
from evalkit.protocols.uncertainty.deployed_threshold import interval_of_threshold
from evalkit.protocols.uncertainty.intervals import with_intervals
from evalkit.protocols.uncertainty.outcomes import SetOutcomes
from evalkit.protocols.uncertainty.paired import differences
from evalkit.protocols.uncertainty.sample import sample_of
from evalkit.types import Estimate, Floats

FARS = ("1e-4", "1e-5", "1e-6", "1e-7")
OTHERS = 60_000
GENUINE, IMPOSTOR, IMAGE, NOISE = 0.6, 0.3, 0.2, 0.8  # standard deviations
MEAN, WOLF = 4.5, 1.2
STORED = 4e-4  # of all impostor pairs, on average

RATES, TAIL = ("1e-3", "1e-4", "1e-5", "1e-6"), 2e-3
THERE = "1e-4"  # where thresholds and equal models are measured
OF_OTHERS, OF_MODELS, TIMES = 0.5, 0.5, 10  # spread of rates; how often wolves are taken for people


@dataclass(frozen=True)
class World:
    """Probes' people, and the share of wolves among the others."""

    probes: int
    wolves: float = 0.0

    def __str__(self) -> str:
        wolves = f", {self.wolves:.0%} wolves" if self.wolves else ""
        return f"{self.probes} people against {OTHERS:,}{wolves}"

    def far(self, threshold: float) -> float:
        """Return the true FAR of a threshold."""
        deviation = np.sqrt(2 * IMPOSTOR**2 + IMAGE**2 + NOISE**2)
        of_others, of_wolves = ndtr((np.array([0.0, WOLF]) - threshold) / deviation)
        return float((1 - self.wolves) * of_others + self.wolves * of_wolves)

    def threshold(self, far: float) -> float:
        """Return the threshold whose true FAR is this."""
        return float(brentq(lambda t: np.log(self.far(t) / far), -1, 9))

    def tpr(self, threshold: float) -> float:
        """Return the true TPR of a threshold."""
        return float(ndtr((MEAN - threshold) / np.sqrt(GENUINE**2 + 2 * IMAGE**2 + NOISE**2)))

    def draw(self, rng: np.random.Generator) -> SetOutcomes:
        """Draw people, the genuine pairs of the probes, and the highest impostor pairs."""
        images, others = rng.integers(1, 7, self.probes), rng.integers(1, 4, OTHERS)
        who, whom = (np.repeat(np.arange(len(n)), n) for n in (images, others))
        own, of_image = rng.normal(0, GENUINE, self.probes), rng.normal(0, IMAGE, len(who))
        i, j = np.nonzero(np.triu(who[:, None] == who, 1))
        genuine = MEAN + own[who[i]] + of_image[i] + of_image[j] + rng.normal(0, NOISE, len(i))
        probe = (rng.normal(0, IMPOSTOR, self.probes)[who] + of_image).astype(np.float32)
        gallery = rng.normal(0, IMPOSTOR, OTHERS) + WOLF * (rng.random(OTHERS) < self.wolves)
        of_gallery, border = gallery.astype(np.float32)[whom], self.threshold(STORED)
        score, left, right = [], [], []
        for row, of_probe in enumerate(probe):
            s = rng.standard_normal(len(whom), np.float32) * np.float32(NOISE)
            s += of_gallery + of_probe
            high = np.flatnonzero(s > border)
            score.append(s[high].astype(np.float64))
            left.append(np.full(len(high), who[row]))
            right.append(self.probes + whom[high])
        nobody, none = np.zeros(OTHERS, np.int32), np.zeros(self.probes, np.int32)
        return SetOutcomes(
            genuine_score=genuine,
            genuine_subject=who[i],
            impostor_score=np.concatenate(score),
            impostor_left=np.concatenate(left),
            impostor_right=np.concatenate(right),
            left_images=np.append(images.astype(np.int32), nobody),
            right_images=np.append(none, others.astype(np.int32)),
            impostors=len(who) * len(whom),
        )


WORLDS = (World(40), World(40, wolves=0.01), World(120))


def measured(world: World, o: SetOutcomes) -> dict[str, Estimate]:
    """Measure TPR at each FAR, and FMR at the threshold whose true FAR it is."""
    highest = -np.sort(-o.impostor_score)
    found = {}
    for far in FARS:
        tpr = tpr_of_highest(far, o.genuine_score, highest, o.impostors)
        t = world.threshold(float(far))
        fmr = Estimate(value=float(np.count_nonzero(highest >= t) / o.impostors))
        found |= {f"tpr@far={far}": tpr, f"fmr@threshold={threshold_text(t)}": fmr}
    return found


def trials(world: World, count: int, draws: int) -> Iterator[np.ndarray]:
    """Yield whether each interval holds the truth, of new people: (FARs, 2); NaN for none."""
    rng = np.random.default_rng(0)
    for t in range(count):
        o = world.draw(rng)
        found = with_intervals(measured(world, o), o, draws=draws, seed=t)
        held = np.full((len(FARS), 2), np.nan)
        for row, far in enumerate(FARS):
            threshold = world.threshold(float(far))
            truths = {
                f"tpr@far={far}": world.tpr(threshold),
                f"fmr@threshold={threshold_text(threshold)}": float(far),
            }
            for column, (name, truth) in enumerate(truths.items()):
                held[row, column] = holds(found[name], truth)
        yield held


def holds(m: Estimate, truth: float) -> float:
    """Whether an interval holds the truth; NaN where there is none."""
    return np.nan if m.low is None or m.high is None else float(m.low <= truth <= m.high)


@dataclass(frozen=True)
class Rates:
    """Probes' people, the spread of their rates, the share of wolves among them, and the others."""

    probes: int
    spread: float
    wolves: float = 0.0
    others: int = 6_000

    def __str__(self) -> str:
        alike = f"spread {self.spread:g}" if self.spread else "all alike"
        wolves = f", {self.wolves:.0%} wolves" if self.wolves else ""
        return f"{self.probes} against {self.others:,}, {alike}{wolves}"

    def draw(self, rng: np.random.Generator, models: int = 1) -> list[SetOutcomes]:
        """Draw people, and the highest pairs of each model; of two models half are of both."""
        images, theirs = rng.integers(1, 7, self.probes), rng.integers(1, 4, self.others)
        rate = lognormal(rng, self.spread, self.probes)
        rate *= 1 + (TIMES - 1) * (rng.random(self.probes) < self.wolves)
        rate *= TAIL / (1 + (TIMES - 1) * self.wolves)
        chance = theirs * lognormal(rng, min(self.spread, OF_OTHERS), self.others)
        counts = np.append(images, 0 * theirs), np.append(0 * images, theirs)

        def pairs(rate: Floats) -> NDArray[Any]:
            left = np.repeat(np.arange(self.probes), rng.poisson(rate * images * chance.sum()))
            right = rng.choice(self.others, len(left), p=chance / chance.sum()) + self.probes
            return np.stack([left, right, rng.integers(0, 1 << 62, len(left))])

        def outcomes(found: NDArray[Any]) -> SetOutcomes:
            left, right, place = found
            return SetOutcomes(
                genuine_score=np.full(1, np.inf),
                genuine_subject=np.zeros(1, np.int64),
                impostor_score=-np.log1p(-place / (1 << 62)),  # FAR falls by e with each point
                impostor_left=left,
                impostor_right=right,
                left_images=counts[0],
                right_images=counts[1],
                impostors=int(images.sum() * theirs.sum()),
                impostor_place=place,
            )

        if models == 1:
            return [outcomes(pairs(rate))]
        both = pairs(rate / 2)
        own = (rate / 2 * lognormal(rng, OF_MODELS, self.probes) for _ in range(models))
        return [outcomes(np.append(both, pairs(each), axis=1)) for each in own]


def lognormal(rng: np.random.Generator, spread: float, count: int) -> Floats:
    """Draw numbers of mean 1 whose logarithm has this standard deviation: (count,)."""
    return np.exp(rng.normal(-(spread**2) / 2, spread, count))


RATE_WORLDS = (
    *(Rates(probes, spread) for probes in (10, 40) for spread in (0.0, 0.5, 1.0, 1.5)),
    *(Rates(100, spread) for spread in (1.0, 1.5)),
    Rates(40, 0.0, wolves=0.1),
    Rates(40, 1.0, others=60),
)


def rate_trials(world: Rates, count: int, draws: int) -> Iterator[np.ndarray]:
    """Yield whether intervals hold the truth, of FMR at each FAR and of the threshold of one FAR.

    Last whether two equally good models differ at p < 0.05.
    """
    rng, truths = np.random.default_rng(0), {fmr_name(far): float(far) for far in RATES}
    for t in range(count):
        (o,) = world.draw(rng)
        found = with_intervals(fmr(o, truths), o, draws=draws, seed=t)
        ends = interval_of_threshold(sample_of(o), THERE, draws, t)
        threshold = (
            Estimate(value=None, low=ends[0], high=ends[1]) if ends else Estimate(value=None)
        )
        base, other = world.draw(rng, models=2)
        at = fmr_name(THERE)
        change = (fmr(other, [at])[at].value or 0) - (fmr(base, [at])[at].value or 0)
        samples = sample_of(base), sample_of(other)
        tested = differences(*samples, [at], {at: change}, draws=draws, seed=t).get(at)
        yield np.array(
            [
                *(holds(found[name], truth) for name, truth in truths.items()),
                holds(threshold, threshold_at(THERE)),
                np.nan if tested is None else tested.p < 0.05,
            ]
        )


def threshold_at(far: str) -> float:
    """Give the threshold whose true FAR is this, of people with rates."""
    return float(np.log(TAIL / float(far)))


def fmr_name(far: str) -> str:
    """Name the FMR there."""
    return f"fmr@threshold={threshold_text(threshold_at(far))}"


def fmr(o: SetOutcomes, names: Iterable[str]) -> dict[str, Estimate]:
    """Measure FMR by name."""
    counts = {n: np.count_nonzero(o.impostor_score >= float(n.partition("=")[2])) for n in names}
    return {name: Estimate(value=count / o.impostors) for name, count in counts.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--rates", action="store_true")
    options = parser.parse_args()
    margin = np.sqrt(0.05 * 0.95 / options.trials)
    print(f"{options.trials} trials, {options.draws} draws; one standard error {margin:.1%}")
    if options.rates:
        heads = [*(f"FMR at {far}" for far in RATES), "threshold", "p < 0.05"]
        print(f"{'':42}" + "".join(f"{head:>13}" for head in heads))
        for rates in RATE_WORLDS:
            shares = np.nanmean([*rate_trials(rates, options.trials, options.draws)], axis=0)
            print(f"{rates!s:42}" + "".join(f"{share:13.1%}" for share in shares), flush=True)
        return
    print(f"{'':36}" + "".join(f"{f'TPR@FAR={x}':>16}{'FMR there':>12}" for x in FARS))
    for world in WORLDS:
        held = np.array([*trials(world, options.trials, options.draws)])
        cells = [np.nanmean(held[:, k], axis=0) for k in range(len(FARS))]
        print(f"{world!s:36}" + "".join(f"{t:16.1%}{f:12.1%}" for t, f in cells), flush=True)


if __name__ == "__main__":
    main()
