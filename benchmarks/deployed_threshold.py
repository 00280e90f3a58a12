"""How often the true FAR of a threshold exceeds the one asked for, on people whose truth is known.

    python benchmarks/deployed_threshold.py [--trials 400] [--confidence 0.95]

A score of two people is b_i + b_j + q_k + q_l + e, all normal: effects of the people, of their
images, of the comparison.  Wolves are people for whom others are taken: 1.2 is added to the scores
of a share of them.  Each trial draws new people, takes the measured threshold and the safe one of
`evalkit threshold`, and reads off a formula what these let through among all people.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from evalkit.protocols.metrics import threshold_at_far
from evalkit.protocols.uncertainty.deployed_threshold import safe_threshold
from evalkit.protocols.uncertainty.outcomes import PairOutcomes

NOISE, WOLF, GENUINE = 0.8, 1.2, 200


@dataclass(frozen=True)
class World:
    """Standard deviations of the effects of people and images; share of wolves."""

    name: str
    people: float = 0.0
    image: float = 0.0
    wolves: float = 0.0

    def far(self, threshold: float) -> float:
        """Return the true FAR of a threshold."""
        deviation = np.sqrt(2 * self.people**2 + 2 * self.image**2 + NOISE**2)
        w, at = self.wolves, (WOLF * np.arange(3) - threshold) / deviation
        return float(np.array([(1 - w) ** 2, 2 * w * (1 - w), w**2]) @ ndtr(at))

    def draw(self, rng: np.random.Generator, design: Design) -> PairOutcomes:
        """Draw people, images, impostor comparisons, and some genuine ones that play no part."""
        n, m = design.people, design.images
        person = rng.normal(0, self.people, n) + WOLF * (rng.random(n) < self.wolves)
        of_image = (person[:, None] + rng.normal(0, self.image, (n, m))).ravel()
        i, j = design.pairs(rng)
        score = of_image[i] + of_image[j] + rng.normal(0, NOISE, len(i))
        mates = rng.integers(0, n, GENUINE)
        left, right = np.concatenate([mates, i // m]), np.concatenate([mates, j // m])
        return PairOutcomes(
            score=np.concatenate([rng.normal(5, 1, GENUINE), score]),
            genuine=np.arange(len(left)) < GENUINE,
            left=left,
            right=right,
            left_subject=left,
            right_subject=right,
        )


@dataclass(frozen=True)
class Design:
    """People, images each, impostor comparisons listed (None: all of them), FAR asked for."""

    people: int
    images: int
    listed: int | None
    far: str

    def pairs(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Return the images compared, as rows."""
        rows = self.people * self.images
        if self.listed is None:
            i, j = np.triu_indices(rows, 1)
        else:
            i, j = rng.integers(0, rows, (2, self.listed * 2))
        other = i // self.images != j // self.images
        return i[other][: self.listed], j[other][: self.listed]

    def __str__(self) -> str:
        what = "all" if self.listed is None else f"{self.listed:,}"
        return f"{self.people} x {self.images}, {what} pairs, FAR {self.far}"


WORLDS = (
    World("no effects"),
    World("mild effects", people=0.2, image=0.2),
    World("strong effects", people=0.4, image=0.2),
    World("5 % wolves", people=0.2, image=0.2, wolves=0.05),
    World("2 % wolves", people=0.2, image=0.2, wolves=0.02),
)
DESIGNS = (
    Design(300, 2, 1_000, "1e-3"),
    Design(300, 2, 3_000, "1e-3"),
    Design(300, 2, 10_000, "1e-3"),
    Design(300, 2, 20_000, "1e-3"),
    Design(300, 2, None, "1e-3"),
    Design(100, 4, 10_000, "1e-2"),
    Design(100, 4, None, "1e-2"),
)


def trials(world: World, design: Design, count: int, confidence: float) -> np.ndarray:
    """Return (count, 2) true FARs over the one asked for, measured and safe; NaN for none."""
    rng, found = np.random.default_rng(0), np.full((count, 2), np.nan)
    for t in range(count):
        o = world.draw(rng, design)
        measured = threshold_at_far(o.score[~o.genuine], design.far)
        safe = safe_threshold(o, design.far, confidence, draws=2).threshold
        for k, threshold in enumerate((measured, safe)):
            if threshold is not None:
                found[t, k] = world.far(threshold) / float(design.far)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=400)
    parser.add_argument("--confidence", type=float, default=0.95)
    options = parser.parse_args()
    n, nominal = options.trials, 1 - options.confidence
    margin = 1.96 * np.sqrt(nominal * (1 - nominal) / n)
    print(
        f"{n} samples a row: how often the true FAR exceeds the one asked for "
        f"(at most {nominal:.3f} +- {margin:.3f} for the safe threshold), over all samples"
    )
    print(f"{'':52}{'measured':>17}{'safe':>17}{'answered':>10}")
    for world in WORLDS:
        for design in DESIGNS:
            found = trials(world, design, n, options.confidence)
            cells = []
            for column in found.T:
                given = column[~np.isnan(column)]
                mean = f"{given.mean():5.2f} x" if len(given) else "      -"
                cells.append(f"{np.count_nonzero(given > 1) / n:8.3f} {mean:>8}")
            answered = np.mean(~np.isnan(found[:, 1]))
            few = world.wolves * design.people
            told = f"  *{(1 - world.wolves) ** design.people:.0%}" if 0 < few < 3 else ""
            label = f"{world.name:16}{design!s:36}"
            print(f"{label}{cells[0]}{cells[1]}{answered:10.2f}{told}", flush=True)
    print("* of the samples hold no wolf: what nobody in a sample does, no bound can foresee")


if __name__ == "__main__":
    main()
