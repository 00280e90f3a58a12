"""How often a 95 % interval holds the truth, in worlds whose truth is known: one table.

    python benchmarks/interval_coverage.py [--trials 400] [--draws 200] [--only TEXT]
        [--by-pair | --blufr | --ijba]

Scores have effects of the subject, of the image and of the comparison, all normal; goats are people
whose genuine scores are lower; in Zipf worlds a few people have most of the images.  Each trial
draws new people, and asks `with_intervals` for the interval of every metric.  A cell shows how
often it held the truth, and !< or !> where that is below 92 % or above 98 %; the reason that every
interval prints stands below.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri

from evalkit.protocols import blufr, verification
from evalkit.protocols.ijb import Enrolled, splits
from evalkit.protocols.metrics import dir_at_fpir
from evalkit.protocols.uncertainty.intervals import with_intervals
from evalkit.types import Estimate, PairSet, Report

MEAN = "tpr@far=1e-2,mean=subject"
PAIRS = ("tpr@far=1e-1", "tpr@far=1e-2", MEAN, "eer", "auc", "accuracy")
SEARCHES = ("rank-1", "tpir@fpir=1e-1")
IMPOSTORS = 1500  # of each list, at random
REASON = 'above 98 %: few people; each interval says "room for one unseen beside N"'


@dataclass(frozen=True)
class World:
    """Standard deviations: genuine subject, impostor subject, image, comparison."""

    name: str
    people: int
    images: int
    mean: float
    genuine: float = 0.6
    impostor: float = 0.4
    image: float = 0.2
    noise: float = 0.8
    goats: float = 0.0
    lower: float = 2.5  # genuine scores of goats
    zipf: bool = False

    def spreads(self) -> tuple[float, float]:
        """Return the standard deviation of a genuine and of an impostor score."""
        rest = 2 * self.image**2 + self.noise**2
        return np.sqrt(self.genuine**2 + rest), np.sqrt(2 * self.impostor**2 + rest)

    def missed(self, threshold: float) -> float:
        """Return the true FNMR at a threshold."""
        z = threshold - self.mean
        sd = self.spreads()[0]
        return (1 - self.goats) * ndtr(z / sd) + self.goats * ndtr((z + self.lower) / sd)

    def truth(self) -> dict[str, float]:
        """Return the true value of every metric of pairs that has a formula."""
        genuine, impostor = self.spreads()
        both = np.hypot(genuine, impostor)
        crossing = brentq(lambda t: self.missed(t) - ndtr(-t / impostor), -5, 20)
        of_goats = self.goats * ndtr((self.mean - self.lower) / both)
        return {
            "tpr@far=1e-1": 1 - self.missed(ndtri(0.9) * impostor),
            "tpr@far=1e-2": 1 - self.missed(ndtri(0.99) * impostor),
            MEAN: 1 - self.missed(ndtri(0.99) * impostor),
            "eer": self.missed(crossing),
            "auc": (1 - self.goats) * ndtr(self.mean / both) + of_goats,
        }


LIKE = [World(f"{n} x {m}", n, m, 4.0) for n, m in ((10, 8), (30, 5), (100, 4), (300, 3))]
GOATS = [
    World(f"{n} x {m}, {share:.0%} goats", n, m, 5.0, goats=share)
    for n, m, share in (
        (30, 5, 0.05),
        (100, 4, 0.05),
        (300, 3, 0.05),
        (100, 4, 0.01),
        (300, 3, 0.01),
    )
]
ZIPF = [World(f"{n}, Zipf sizes", n, 3, 4.0, zipf=True) for n in (30, 100)]
# Misses to be expected at FAR 1e-2 among 300, 600 and 900 genuine pairs: 0.1, 1 and 3.
SURE = [
    World("30 x 5, 0.1 misses", 30, 5, 6.0),
    World("100 x 4, 1 miss", 100, 4, 5.52),
    World("300 x 3, 3 misses", 300, 3, 5.34),
]
WORLDS = (*LIKE, *GOATS, *ZIPF, *SURE)


def pair_list(world: World, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Draw people, images, their genuine pairs and some of their impostor pairs."""
    n = world.people
    sizes = np.full(n, world.images)
    if world.zipf:
        of_rank = 2 * world.images * n / np.log(n) / np.arange(1, n + 1)
        sizes = np.clip(np.round(of_rank), 2, 30).astype(int)
    who = np.repeat(np.arange(n), sizes)
    left, right = np.triu_indices(len(who), 1)
    same = who[left] == who[right]
    some = rng.choice(np.flatnonzero(~same), IMPOSTORS, replace=False)
    pairs = np.concatenate([np.flatnonzero(same), some])
    left, right, genuine = left[pairs], right[pairs], same[pairs]
    own = world.mean + rng.normal(0, world.genuine, n) - world.lower * (rng.random(n) < world.goats)
    alike, image = rng.normal(0, world.impostor, n), rng.normal(0, world.image, len(who))
    score = np.where(genuine, own[who[left]], alike[who[left]] + alike[who[right]])
    score += image[left] + image[right] + rng.normal(0, world.noise, len(pairs))
    people = {"left_subject": who[left], "right_subject": who[right]}
    fold = np.where(rng.random(len(pairs)) < 0.5, who[left], who[right]) * 10 // n
    return {"score": score, "genuine": genuine, "fold": fold, "left": left, "right": right} | people


def searches(world: World, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Draw a gallery of one image a person, and probes of as many people with and without one."""
    n = world.people
    who = np.repeat(np.arange(2 * n), world.images)
    offset = rng.normal(0, world.impostor, 2 * n)[who] + rng.normal(0, world.image, len(who))
    score = rng.normal(0, world.noise, (len(who), n)) + offset[:, None]
    score += rng.normal(0, world.impostor, n)
    mated = who < n
    row, mate = np.flatnonzero(mated), who[mated]
    own = world.mean + rng.normal(0, world.genuine, n) - world.lower * (rng.random(n) < world.goats)
    score[row, mate] = own[mate] + rng.normal(0, world.noise, len(row))
    rank = 1 + np.count_nonzero(score[row] > score[row, mate][:, None], axis=1)
    return {
        "rank": rank,
        "rank_subject": mate,
        "mate_score": np.where(rank == 1, score[row, mate], -np.inf),
        "mate_subject": mate,
        "nonmate_score": score[~mated].max(axis=1),
        "nonmate_subject": who[~mated],
    }


def over_people(o: dict[str, np.ndarray], pooled: Estimate) -> Estimate:
    """Mean over people of the share of each one's genuine pairs that is accepted."""
    who, hit = o["left_subject"][o["genuine"]], o["score"][o["genuine"]] >= pooled.threshold
    pairs = np.bincount(who)
    return Estimate(value=float(np.mean((np.bincount(who, hit) / pairs)[pairs > 0])))


def searched(o: dict[str, np.ndarray]) -> dict[str, Estimate]:
    """Measure the searches."""
    tpir = dir_at_fpir(o["mate_score"], o["rank"], o["nonmate_score"], "1e-1")
    return {"rank-1": Estimate(value=float(np.mean(o["rank"] == 1))), "tpir@fpir=1e-1": tpir}


def trials(world: World, options: argparse.Namespace) -> Iterator[dict[str, Estimate]]:
    """Yield every metric with its interval, of new people each time."""
    rng = np.random.default_rng(options.seed)
    known = ("score", "genuine", "fold") if options.by_pair else None
    for t in range(options.trials):
        pairs, looked = pair_list(world, rng), searches(world, rng)
        found = verification.measures(
            pairs["score"], pairs["genuine"], pairs["fold"], ("1e-1", "1e-2")
        )
        found[MEAN] = over_people(pairs, found["tpr@far=1e-2"])
        of_pairs = {name: pairs[name] for name in known or pairs}
        yield with_intervals(
            {name: found[name] for name in PAIRS}, of_pairs, draws=options.draws, seed=t
        ) | with_intervals(searched(looked), looked, draws=options.draws, seed=t)


def covered(world: World, options: argparse.Namespace) -> dict[str, tuple[float, float]]:
    """Find how often each metric's interval holds the truth, and the median length of intervals.

    The truth of ten-fold accuracy and of searches is the mean of all trials.
    """
    every, found = list(trials(world, options)), {}
    for name in (*PAIRS, *SEARCHES):
        ends = np.array([(m[name].low, m[name].high) for m in every], float)
        truth = world.truth().get(name, float(np.mean([m[name].value for m in every])))
        held = float(np.mean((ends[:, 0] <= truth) & (truth <= ends[:, 1])))
        found[name] = held, float(np.median(ends[:, 1] - ends[:, 0]))
    return found


def mark(held: float) -> str:
    """Mark a coverage below 92 % or above 98 %."""
    return "!<" if held < 0.92 else "!>" if held > 0.98 else ""


def of_worlds(options: argparse.Namespace) -> None:
    """Print the table: world x metric x coverage, and the median length of the intervals."""
    names = (*PAIRS, *SEARCHES)
    margin = np.sqrt(0.95 * 0.05 / options.trials)
    print(f"{options.trials} trials, {options.draws} draws; one standard error {margin:.1%}")
    print(
        f"{'people x images':24}"
        + "".join(f"{n.replace(',mean=subject', ' mean'):>18}" for n in names)
    )
    for world in WORLDS:
        if options.only not in world.name:
            continue
        cells = covered(world, options).values()
        print(f"{world.name:24}" + "".join(f"{mark(held):>11}{held:7.1%}" for held, _ in cells))
        print(f"{'':24}" + "".join(f"{length:18.4f}" for _, length in cells), flush=True)
    print(f"!> {REASON}")


def blufr_report(rng: np.random.Generator, seed: int) -> Report:
    """Evaluate four trials of 80 among 120 people; some people's images vary more than others'."""
    subject = np.repeat(np.arange(120), 4)
    spread = rng.lognormal(-0.5, 0.4, 120)[subject, None]
    x = rng.normal(size=(120, 24))[subject] + spread * rng.normal(size=(480, 24))
    trials = []
    for _ in range(4):
        people = rng.permutation(120)[:80]
        test = np.flatnonzero(np.isin(subject, people))
        gallery = 4 * people[:40]
        trials.append(blufr.Trial(test, gallery, np.setdiff1d(test, gallery)))
    return blufr.evaluate(x.astype("f4"), subject, trials, far="1e-3", fpir="5e-2", seed=seed)


def ijba_report(rng: np.random.Generator, seed: int) -> Report:
    """Evaluate five splits of 30 among 90 people, three templates of two images each.

    Some people's images vary more than others'.
    """
    subject = np.repeat(np.arange(90), 3)  # of templates
    spread = rng.lognormal(-0.4, 0.4, 90)[subject, None]
    centre = rng.normal(size=(90, 24))[subject]
    x = np.repeat(centre, 2, axis=0) + np.repeat(spread, 2, axis=0) * rng.normal(size=(540, 24))
    made = []
    for _ in range(5):
        people = np.sort(rng.permutation(90)[:30])
        tested = np.flatnonzero(np.isin(subject, people))
        i, j = np.triu_indices(len(tested), 1)
        same = subject[tested[i]] == subject[tested[j]]
        some = rng.choice(np.flatnonzero(~same), IMPOSTORS, replace=False)
        kept = np.concatenate([np.flatnonzero(same), some])
        gallery = 3 * people[:20]
        probe = np.setdiff1d(tested, gallery)
        row = (2 * tested[:, None] + np.arange(2)).ravel()
        made.append(
            splits.Split(
                row=row,
                template=row // 2,
                media=row,
                pairs=PairSet(tested[i[kept]], tested[j[kept]], same[kept]),
                gallery=Enrolled(gallery, subject[gallery]),
                probe=Enrolled(probe, subject[probe]),
            )
        )
    who = np.repeat(subject, 2)
    return splits.evaluate(x.astype("f4"), made, who, fpirs="1e-1", depths=(1, 5), seed=seed)


def of_protocol(
    report: Callable[[np.random.Generator, int], Report], options: argparse.Namespace
) -> None:
    """Print the coverage of numbers over trials that share people; the truth is the mean of all."""
    blufr.DRAWS = splits.DRAWS = options.draws
    rng = np.random.default_rng(options.seed)
    found = [report(rng, t) for t in range(options.trials)]
    for name in found[0].metrics:
        every = [r.metrics[name] for r in found]
        truth = float(np.mean([m.value for m in every]))
        inside = [(m.low or 0) <= truth <= (m.high or 1) for m in every]
        print(f"{name:28}{truth:10.4f}{np.mean(inside):10.1%}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=400)
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--only", default="", help="worlds whose name holds this text")
    parser.add_argument("--seed", type=int, default=0)
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--by-pair", action="store_true", help="as if nobody knew who was compared")
    kind.add_argument("--blufr", action="store_true", help="mu - sigma of four trials")
    kind.add_argument("--ijba", action="store_true", help="means of five splits of templates")
    options = parser.parse_args()
    if options.blufr or options.ijba:
        of_protocol(blufr_report if options.blufr else ijba_report, options)
    else:
        of_worlds(options)


if __name__ == "__main__":
    main()
