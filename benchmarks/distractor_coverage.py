"""How often a 95 % interval holds the truth where most people are in no stored comparison.

    python benchmarks/distractor_coverage.py [--trials 200] [--draws 200]

40 or 120 people with one to six images are compared with one to three images each of 60,000 others,
some ten million impostor pairs, of which the highest few are stored, as `trillion` and `megaface`
store them.  Scores have effects of both people, of the image of the probe and of the comparison,
all normal; wolves are a share of the others whose scores with everybody are higher.  Each trial
draws new people.  Measured at each FAR are TPR, and FMR at the threshold whose true FAR it is.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtr

from evalkit.protocols.metrics.operating_point import threshold_text, tpr_of_highest
from evalkit.protocols.uncertainty.intervals import with_intervals
from evalkit.protocols.uncertainty.outcomes import SetOutcomes
from evalkit.types import Estimate

FARS = ("1e-4", "1e-5", "1e-6", "1e-7")
OTHERS = 60_000
GENUINE, IMPOSTOR, IMAGE, NOISE = 0.6, 0.3, 0.2, 0.8  # standard deviations
MEAN, WOLF = 4.5, 1.2
STORED = 4e-4  # of all impostor pairs, on average


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
                m = found[name]
                if m.low is not None and m.high is not None:
                    held[row, column] = m.low <= truth <= m.high
        yield held


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--draws", type=int, default=200)
    options = parser.parse_args()
    margin = np.sqrt(0.05 * 0.95 / options.trials)
    print(f"{options.trials} trials, {options.draws} draws; one standard error {margin:.1%}")
    print(f"{'':36}" + "".join(f"{f'TPR@FAR={x}':>16}{'FMR there':>12}" for x in FARS))
    for world in WORLDS:
        held = np.array([*trials(world, options.trials, options.draws)])
        cells = [np.nanmean(held[:, k], axis=0) for k in range(len(FARS))]
        print(f"{world!s:36}" + "".join(f"{t:16.1%}{f:12.1%}" for t, f in cells), flush=True)


if __name__ == "__main__":
    main()
