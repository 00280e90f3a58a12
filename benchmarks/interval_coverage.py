"""How often a 95 % interval holds the truth, on scores whose truth is known.

    python benchmarks/interval_coverage.py [--trials 400] [--draws 400]
        [--lists | --searches]

Scores have effects of the subject and of the image: genuine m + a_i + q_k + q_l + e, impostor
b_i + b_j + q_k + q_l + e, all normal, so the true TPR at a FAR is a formula.  Each trial draws new
people, and asks: by subject (evalkit), by pair (the usual bootstrap), by product weights alone.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr, ndtri

from evalkit.protocols import blufr, verification
from evalkit.protocols.metrics import dir_at_fpir
from evalkit.protocols.uncertainty.intervals import logit_interval, with_intervals
from evalkit.protocols.uncertainty.resampling import metric_draws
from evalkit.protocols.uncertainty.sample import ComparisonSample
from evalkit.types import Estimate, Report


@dataclass(frozen=True)
class World:
    """Standard deviations: genuine subject, impostor subject, image, comparison."""

    name: str
    people: int
    images: int
    mean: float
    genuine: float
    impostor: float
    image: float
    noise: float

    def tpr(self, far: float) -> float:
        """Return the true TPR at a true FAR."""
        of_impostor = np.sqrt(2 * self.impostor**2 + 2 * self.image**2 + self.noise**2)
        of_genuine = np.sqrt(self.genuine**2 + 2 * self.image**2 + self.noise**2)
        return float(ndtr((self.mean - ndtri(1 - far) * of_impostor) / of_genuine))

    def auc(self) -> float:
        """Return the true area under the ROC."""
        both = 2 * self.impostor**2 + 4 * self.image**2 + 2 * self.noise**2 + self.genuine**2
        return float(ndtr(self.mean / np.sqrt(both)))

    def eer(self) -> float:
        """Return the true equal error rate."""
        of_impostor = np.sqrt(2 * self.impostor**2 + 2 * self.image**2 + self.noise**2)
        of_genuine = np.sqrt(self.genuine**2 + 2 * self.image**2 + self.noise**2)
        return float(ndtr(-self.mean / (of_impostor + of_genuine)))

    def accuracy(self) -> float:
        """Return the accuracy at the best threshold, as many genuine as impostor pairs."""
        of_impostor = np.sqrt(2 * self.impostor**2 + 2 * self.image**2 + self.noise**2)
        of_genuine = np.sqrt(self.genuine**2 + 2 * self.image**2 + self.noise**2)
        t = np.linspace(0, self.mean, 10001)
        right = ndtr(t / of_impostor) + ndtr((self.mean - t) / of_genuine)
        return float(right.max() / 2)


WORLDS = (
    World("300 people x 6, strong effects", 300, 6, 4.5, 0.6, 0.4, 0.2, 0.8),
    World("300 people x 4, mild effects", 300, 4, 4.0, 0.5, 0.2, 0.2, 0.9),
    World("600 people x 3, strong effects", 600, 3, 4.5, 0.6, 0.4, 0.2, 0.8),
    World("300 people x 4, no impostor effect", 300, 4, 4.0, 0.5, 0.0, 0.0, 1.0),
)
FARS = ("1e-2", "1e-3", "1e-4")


def trial(world: World, rng: np.random.Generator, stored: int) -> ComparisonSample:
    """Draw people, images and all their comparisons; keep the impostor tail."""
    n, m = world.people, world.images
    image = rng.normal(0, world.image, (n, m))
    first, second = np.triu_indices(m, 1)
    own = world.mean + rng.normal(0, world.genuine, n)
    genuine = (
        own[:, None]
        + image[:, first]
        + image[:, second]
        + rng.normal(0, world.noise, (n, len(first)))
    )
    offset = (rng.normal(0, world.impostor, n)[:, None] + image).ravel().astype(np.float32)
    score = rng.standard_normal((n * m, n * m), np.float32)
    score *= np.float32(world.noise)
    score += offset[:, None]
    score += offset
    for o in range(n):  # each unordered pair once, nobody with himself
        score[o * m : (o + 1) * m, : (o + 1) * m] = -np.inf
    flat = score.ravel()
    top = np.flatnonzero(flat > np.partition(flat, len(flat) - stored)[len(flat) - stored])
    top = top[np.argsort(-flat[top])]
    subject = np.repeat(np.arange(n), len(first))
    order = np.argsort(-genuine.ravel())
    images = np.full(n, float(m))
    return ComparisonSample(
        subjects=n,
        genuine=genuine.ravel()[order],
        genuine_subject=subject[order],
        impostor=flat[top].astype(np.float64),
        left=top // (n * m) // m,
        right=top % (n * m) // m,
        impostors=n * (n - 1) // 2 * m * m,
        left_images=images,
        right_images=images,
    )


def pair_draws(s: ComparisonSample, draws: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Resample comparisons one by one, as is commonly done."""
    out = {f"tpr@far={far}": np.empty(draws) for far in FARS}
    for d in range(draws):
        impostor = np.cumsum(_times(len(s.impostor), rng))
        genuine = np.append(0, np.cumsum(_times(len(s.genuine), rng)))
        for far in FARS:
            k = np.searchsorted(impostor, float(far) * s.impostors, "right")
            above = np.searchsorted(-s.genuine, -s.impostor[min(k, len(s.impostor) - 1)], "left")
            out[f"tpr@far={far}"][d] = genuine[above] / genuine[-1]
    return out


def _times(n: int, rng: np.random.Generator) -> np.ndarray:
    """How often each of n comparisons comes up: independent Poisson counts of mean 1."""
    return np.bincount(rng.integers(0, n, rng.poisson(n)), minlength=n)


def covered(value: float, drawn: np.ndarray, truth: float) -> tuple[bool, float]:
    low, high = logit_interval(value, float(drawn.std(ddof=1)))
    return low <= truth <= high, high - low


def product_weights(s: ComparisonSample, draws: int, seed: int) -> dict[str, np.ndarray]:
    """Impostor pairs weighted by w_i w_j without the correction."""
    names = [f"tpr@far={far}" for far in FARS]
    return metric_draws(s, names, draws, seed, c=dict.fromkeys(names, 1.0))


def pair_list(world: World, rng: np.random.Generator, pairs: int = 3000) -> dict[str, np.ndarray]:
    """Draw people in ten folds and a list of pairs within the folds, as LFW's is."""
    n = world.people
    fold = np.arange(n) * 10 // n
    left = rng.integers(0, n, pairs)
    genuine = np.arange(pairs) % 2 == 0
    in_fold = n // 10
    other = fold[left] * in_fold + (left + rng.integers(1, in_fold, pairs)) % in_fold
    right = np.where(genuine, left, other)
    own, open_ = rng.normal(0, world.genuine, n), rng.normal(0, world.impostor, n)
    score = np.where(genuine, world.mean + own[left], open_[left] + open_[right])
    score += rng.normal(0, np.sqrt(2) * world.image, pairs) + rng.normal(0, world.noise, pairs)
    names = {"left": left, "right": right, "left_subject": left, "right_subject": right}
    return {"score": score, "genuine": genuine, "fold": fold[left], **names}


def of_pair_lists(options: argparse.Namespace) -> None:
    """Print the coverage of every metric of a pair list, by subject and by pair."""
    names = ("accuracy", "auc", "eer", "tpr@far=1e-2")
    print(f"\npair lists: 3,000 pairs in ten folds, {options.trials} trials")
    print(f"{'':36}{'':12}" + "".join(f"{n:>15}" for n in names))
    for people in (100, 300, 2000):
        world = World(f"{people} people, strong effects", people, 2, 3.5, 0.6, 0.4, 0.2, 0.8)
        truth = (world.accuracy(), world.auc(), world.eer(), world.tpr(0.01))
        rng = np.random.default_rng(options.seed)
        hits: dict[str, list[list[bool]]] = {"by subject": [], "by pair": []}
        for t in range(options.trials):
            o = pair_list(world, rng)
            found = verification.measures(o["score"], o["genuine"], o["fold"], ("1e-2",))
            alone = {**o, "left_subject": np.arange(3000), "right_subject": np.arange(3000, 6000)}
            alone["right_subject"] = np.where(o["genuine"], np.arange(3000), alone["right_subject"])
            for method, outcomes in (("by subject", o), ("by pair", alone)):
                bounded = with_intervals(found, outcomes, draws=options.draws, seed=t)
                ends = [(bounded[n].low or 0.0, bounded[n].high or 1.0) for n in names]
                inside = [a <= v <= b for (a, b), v in zip(ends, truth, strict=True)]
                hits[method].append(inside)
        print(f"{world.name:36}{'truth':12}" + "".join(f"{v:15.4f}" for v in truth))
        for method, ok in hits.items():
            print(f"{'':36}{method:12}" + "".join(f"{v:15.1%}" for v in np.mean(ok, axis=0)))


def searches(rng: np.random.Generator, people: int = 150, images: int = 3) -> dict[str, np.ndarray]:
    """Draw a gallery of one image a person, and probes with and without a mate in it."""
    who = np.repeat(np.arange(2 * people), images)
    offset = rng.normal(0, 0.4, 2 * people)[who] + rng.normal(0, 0.2, len(who))
    score = rng.normal(0, 0.8, (len(who), people)) + offset[:, None] + rng.normal(0, 0.4, people)
    mated = who < people
    row, mate = np.flatnonzero(mated), who[mated]
    score[row, mate] = 5.0 + rng.normal(0, 0.6, people)[mate] + rng.normal(0, 0.8, len(row))
    rank = 1 + np.count_nonzero(score[row] > score[row, mate][:, None], axis=1)
    return {
        "rank": rank,
        "rank_subject": mate,
        "mate_score": np.where(rank == 1, score[row, mate], -np.inf),
        "mate_subject": mate,
        "nonmate_score": score[~mated].max(axis=1),
        "nonmate_subject": who[~mated],
    }


def of_searches(options: argparse.Namespace) -> None:
    """Print the coverage of rank-1 and TPIR; the truth is that of 2,000 worlds together.

    And of BLUFR's mu - sigma of four trials, whose truth is its mean over the trials run.
    """
    names = ("rank-1", "tpir@fpir=1e-1", "tpir@fpir=2e-2")
    rng = np.random.default_rng(options.seed + 1)
    worlds = [searches(rng) for _ in range(2000)]
    whole = {n: np.concatenate([w[n] for w in worlds]) for n in worlds[0]}
    truth = searched(whole, names)
    rng = np.random.default_rng(options.seed)
    hits = []
    for t in range(options.trials):
        o = searches(rng)
        found = {n: Estimate(value=v) for n, v in zip(names, searched(o, names), strict=True)}
        bounded = with_intervals(found, o, draws=options.draws, seed=t)
        ends = [(bounded[n].low or 0.0, bounded[n].high or 1.0) for n in names]
        hits.append([a <= v <= b for (a, b), v in zip(ends, truth, strict=True)])
    print(f"searches, {options.trials} trials" + "".join(f"{n:>18}" for n in names))
    print(f"{'truth':20}" + "".join(f"{v:18.4f}" for v in truth))
    print(f"{'by subject':20}" + "".join(f"{v:18.1%}" for v in np.mean(hits, axis=0)), flush=True)

    found = [blufr_report(rng, t) for t in range(options.trials)]
    truth = [float(np.mean([r.metrics[n].value for r in found])) for n in found[0].metrics]
    print(f"{'BLUFR':20}" + "".join(f"{n:>28}" for n in found[0].metrics))
    print(f"{'truth':20}" + "".join(f"{v:28.4f}" for v in truth))
    inside = [
        [(m.low or 0) <= v <= (m.high or 1) for m, v in zip(r.metrics.values(), truth, strict=True)]
        for r in found
    ]
    print(f"{'by subject':20}" + "".join(f"{v:28.1%}" for v in np.mean(inside, axis=0)))


def searched(o: dict[str, np.ndarray], names: tuple[str, ...]) -> list[float]:
    """Measure the searches."""
    fpirs = [n.removeprefix("tpir@fpir=") for n in names[1:]]
    tpir = [dir_at_fpir(o["mate_score"], o["rank"], o["nonmate_score"], x).value for x in fpirs]
    return [float(np.mean(o["rank"] == 1)), *(v or 0.0 for v in tpir)]


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=400)
    parser.add_argument("--draws", type=int, default=400)
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--lists", action="store_true", help="pair lists instead of all pairs")
    kind.add_argument("--searches", action="store_true", help="rank-1, TPIR@FPIR and BLUFR")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.lists:
        of_pair_lists(options)
    elif options.searches:
        of_searches(options)
    else:
        of_all_pairs(options)


def of_all_pairs(options: argparse.Namespace) -> None:
    """Print the coverage of TPR over all pairs, by each way of drawing."""
    names = [f"tpr@far={far}" for far in FARS]
    print(f"{options.trials} trials, {options.draws} draws: 95 % intervals that hold the truth")
    print(f"{'':36}{'':12}" + "".join(f"{n:>15}" for n in names))
    for world in WORLDS:
        rng = np.random.default_rng(options.seed)
        total = world.people * (world.people - 1) // 2 * world.images**2
        hits: dict[str, list[list[bool]]] = {"by subject": [], "products": [], "by pair": []}
        values, widths = [], []
        for t in range(options.trials):
            s = trial(world, rng, int(0.03 * total))
            value = [
                float(np.mean(s.genuine > s.impostor[int(float(far) * s.impostors)]))
                for far in FARS
            ]
            values.append(value)
            for method, drawn in (
                ("by subject", metric_draws(s, names, options.draws, t)),
                ("products", product_weights(s, options.draws, t)),
                ("by pair", pair_draws(s, options.draws, rng)),
            ):
                seen = [
                    covered(v, drawn[n], world.tpr(float(far)))
                    for v, n, far in zip(value, names, FARS, strict=True)
                ]
                hits[method].append([ok for ok, _ in seen])
                if method == "by subject":
                    widths.append([w for _, w in seen])
        truth = [world.tpr(float(far)) for far in FARS]
        print(f"{world.name:36}{'truth':12}" + "".join(f"{v:15.4f}" for v in truth))
        spread = np.std(values, axis=0, ddof=1) * 2 * 1.96
        print(f"{'':36}{'true width':12}" + "".join(f"{v:15.4f}" for v in spread))
        print(f"{'':36}{'our width':12}" + "".join(f"{v:15.4f}" for v in np.mean(widths, axis=0)))
        for method, ok in hits.items():
            print(
                f"{'':36}{method:12}" + "".join(f"{v:15.1%}" for v in np.mean(ok, axis=0)),
                flush=True,
            )


if __name__ == "__main__":
    main()
