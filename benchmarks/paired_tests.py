"""How often paired tests call equal models different, and find the drop they say they detect.

    python benchmarks/paired_tests.py [WORLD ...] [--trials 400] [--draws 100] [--power 0]
    EVALKIT_SHARED_DATA=FOLDER python benchmarks/paired_tests.py lfw

Two models are what they share and noise of their own, of people, images and comparisons; each
trial draws new people.  `p < .05` is to be 3 to 7 %, or less where so few people differ that a p
near 0.05 does not exist, or where an error by few false accepts is overestimated.  `gate` is how
often the default gate fails the second model, on any metric.  `found` (--power trials) is how often
a model is called different that is worse by the median `detectable` drop: to be 75 to 85 %.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evalkit.protocols import verification
from evalkit.protocols.uncertainty.paired import Difference, differences, holm
from evalkit.protocols.uncertainty.sample import sample_of

Outcomes = dict[str, NDArray[Any]]
FARS = ("1e-1", "1e-2")


@dataclass(frozen=True)
class World:
    """draw : of a generator, and by how much the second is worse, outcomes of two models."""

    name: str
    draw: Callable[[np.random.Generator, float], tuple[Outcomes, Outcomes]]
    most: float  # how much worse is certainly seen


def pair_list(
    people: int, mean: float = 3.5, goats: float = 0.0, zipf: bool = False
) -> Callable[[np.random.Generator, float], tuple[Outcomes, Outcomes]]:
    """3,000 pairs in ten folds (two for ten people); goats score 2.5 lower with themselves."""

    def draw(rng: np.random.Generator, worse: float) -> tuple[Outcomes, Outcomes]:
        n = 3000
        often = 1 / np.arange(1, people + 1) if zipf else np.ones(people)
        left = rng.choice(people, n, p=often / often.sum())
        genuine = np.arange(n) % 2 == 0
        folds = 10 if people >= 20 else 2
        fold = left * folds // people
        first = -(-fold * people // folds)
        within = -(-(fold + 1) * people // folds) - first
        other = first + (left - first + 1 + rng.integers(0, within - 1)) % within
        right = np.where(genuine, left, other)
        shared = _of_pairs(rng, people, left, right, genuine, 1.0)
        shared += np.where(genuine, mean - 2.5 * (rng.random(people) < goats)[left], 0.0)
        names = {"genuine": genuine, "fold": fold, "left": left, "right": right}
        names |= {"left_subject": left, "right_subject": right}
        base, other_ = (
            shared + _of_pairs(rng, people, left, right, genuine, 0.7) for _ in range(2)
        )
        return {**names, "score": base}, {**names, "score": other_ - worse * genuine}

    return draw


def _of_pairs(
    rng: np.random.Generator,
    people: int,
    left: NDArray[Any],
    right: NDArray[Any],
    genuine: NDArray[Any],
    scale: float,
) -> NDArray[Any]:
    """Effects of people, genuine and impostor, and noise of each pair."""
    own, open_ = rng.normal(0, 0.6, people), rng.normal(0, 0.4, people)
    effect = np.where(genuine, own[left], open_[left] + open_[right])
    return scale * (effect + rng.normal(0, 0.8, len(left)))


def megaface(
    people: int, images: int, distractors: int = 300
) -> Callable[[np.random.Generator, float], tuple[Outcomes, Outcomes]]:
    """Every ordered pair of images of one person among distractors; images differ in quality."""

    def draw(rng: np.random.Generator, worse: float) -> tuple[Outcomes, Outcomes]:
        quality = 0.6 * np.exp(rng.normal(0, 0.5, (people, images, 1)))
        x = rng.normal(size=(people, 1, 32)) + quality * rng.normal(size=(people, images, 32))
        d = 1.2 * rng.normal(size=(distractors, 32))
        i, j = np.nonzero(~np.eye(images, dtype=bool))
        found = []
        for noise in (0.35, 0.35 + worse):
            a, e = (_unit(v + noise * rng.normal(size=v.shape)) for v in (x, d))
            mate = (a @ a.transpose(0, 2, 1))[:, i, j]
            against = np.sort(a @ e.T, axis=2)
            above = [
                distractors - np.searchsorted(s, m.reshape(images, -1)[k], "right")
                for s_of, m in zip(against, mate, strict=True)
                for k, s in enumerate(s_of)
            ]
            who = np.repeat(np.arange(people), len(i))
            found.append({"rank": 1 + np.concatenate(above), "rank_subject": who})
        return found[0], found[1]

    return draw


def closed_set(rng: np.random.Generator, worse: float) -> tuple[Outcomes, Outcomes]:
    """50 people, one gallery image and 30 probes each."""
    quality = 0.7 * np.exp(rng.normal(0, 0.4, (50, 1, 1)))
    x = rng.normal(size=(50, 1, 16)) + quality * rng.normal(size=(50, 31, 16))
    who, found = np.repeat(np.arange(50), 30), []
    for noise in (0.35, 0.35 + worse):
        a = _unit(x + noise * rng.normal(size=x.shape))
        score = a[:, 1:].reshape(-1, 16) @ a[:, 0].T
        rank = 1 + np.count_nonzero(score > score[np.arange(1500), who][:, None], axis=1)
        found.append({"rank": rank, "rank_subject": who})
    return found[0], found[1]


@cache
def _lfw() -> tuple[NDArray[Any], Outcomes]:
    """Vectors of all LFW images, and its 6,000 pairs as rows of them."""
    folder = Path(os.environ["EVALKIT_SHARED_DATA"])
    x = np.load(folder / "features" / "lfw_mobilefacenet_flipsum_l2.npy")
    paths = (folder / "features" / "lfw_paths.txt").read_text().split()
    row = {Path(p).stem: k for k, p in enumerate(paths)}
    person = {name.rsplit("_", 1)[0]: 0 for name in row}
    number = {name: k for k, name in enumerate(person)}
    lines = (folder / "lfw" / "pairs.txt").read_text().split("\n")[1:6001]
    left, right = [], []
    for words in map(str.split, lines):
        a, first, b, second = words if len(words) == 4 else (words[0], *words[1:2], *words[::2])
        left.append(row[f"{a}_{int(first):04}"])
        right.append(row[f"{b}_{int(second):04}"])
    who = np.array([number[name.rsplit("_", 1)[0]] for name in row])
    pairs = {"left": np.array(left), "right": np.array(right), "fold": np.arange(6000) // 600}
    pairs |= {f"{side}_subject": who[pairs[side]] for side in ("left", "right")}
    return x, pairs | {"genuine": pairs["left_subject"] == pairs["right_subject"]}


@cache
def _people_of_lfw() -> NDArray[Any]:
    """Person of each row of the vectors."""
    paths = Path(os.environ["EVALKIT_SHARED_DATA"]) / "features" / "lfw_paths.txt"
    names = [Path(p).stem.rsplit("_", 1)[0] for p in paths.read_text().split()]
    return np.unique(names, return_inverse=True)[1]


def lfw(rng: np.random.Generator, worse: float) -> tuple[Outcomes, Outcomes]:
    """Two copies of real vectors with noise of their own on LFW's pairs, people as they are."""
    x, pairs = _lfw()
    rows = np.unique(np.concatenate([pairs["left"], pairs["right"]]))
    found = []
    for noise in (0.03, 0.03 + worse):
        a = x.copy()
        a[rows] = _unit(x[rows] + noise * rng.normal(size=(len(rows), x.shape[1])))
        score = np.einsum("nd,nd->n", a[pairs["left"]], a[pairs["right"]]).astype(np.float64)
        found.append({**pairs, "score": score})
    return found[0], found[1]


def lfw_searches(rng: np.random.Generator, worse: float) -> tuple[Outcomes, Outcomes]:
    """All ordered pairs of up to 12 images of 80 people of LFW, among 1,000 others' images."""
    x, who = _lfw()[0], _people_of_lfw()
    images = np.bincount(who)
    chosen = rng.choice(np.flatnonzero(images >= 6), 80, replace=False)
    others = rng.choice(np.flatnonzero(~np.isin(who, chosen)), 1000, replace=False)
    rows = [rng.permutation(np.flatnonzero(who == c))[:12] for c in chosen]
    found = []
    for noise in (0.06, 0.06 + worse):
        e = _unit(x[others] + noise * rng.normal(size=(1000, x.shape[1])))
        ranks, names = [], []
        for k, of_person in enumerate(rows):
            a = _unit(x[of_person] + noise * rng.normal(size=(len(of_person), x.shape[1])))
            against, mates = a @ e.T, a @ a.T
            for p in range(len(a)):
                mate = np.delete(mates[p], p)
                ranks.append(1 + np.count_nonzero(against[p] > mate[:, None], axis=1))
                names.append(np.full(len(mate), k))
        found.append({"rank": np.concatenate(ranks), "rank_subject": np.concatenate(names)})
    return found[0], found[1]


def _unit(x: NDArray[Any]) -> NDArray[Any]:
    scaled: NDArray[Any] = x / np.linalg.norm(x, axis=-1, keepdims=True)
    return scaled


WORLDS = {
    "40x12": World("searches 40 x 12, 300 distractors", megaface(40, 12), 0.3),
    "20x30": World("searches 20 x 30, 300 distractors", megaface(20, 30), 0.3),
    "80x44": World("searches 80 x 44, 300 distractors", megaface(80, 44), 0.3),
    "closed": World("closed set, 50 people x 30 probes", closed_set, 0.5),
    "10": World("list, 10 people", pair_list(10), 1.5),
    "30": World("list, 30 people", pair_list(30), 1.5),
    "100": World("list, 100 people", pair_list(100), 1.5),
    "300": World("list, 300 people", pair_list(300), 1.5),
    "goats5": World("list, 100 people, 5 % goats", pair_list(100, goats=0.05), 1.5),
    "goats1": World("list, 300 people, 1 % goats", pair_list(300, goats=0.01), 1.5),
    "zipf": World("list, 100 people, Zipf sizes", pair_list(100, zipf=True), 1.5),
    "near1": World("list, 100 people, TPR near 1", pair_list(100, mean=6.0), 2.5),
    "lfw": World("LFW's pairs, real vectors", lfw, 0.05),
    "lfw-searches": World("searches in LFW, real vectors", lfw_searches, 0.1),
}


def measured(o: Outcomes) -> dict[str, float]:
    """Measure each metric of the outcomes."""
    if "rank" in o:
        return {f"rank-{k}": float(np.mean(o["rank"] <= k)) for k in (1, 10)}
    found = verification.measures(o["score"], o["genuine"], o["fold"], FARS)
    return {name: m.value for name, m in found.items() if m.value is not None}


def trial(
    world: World, rng: np.random.Generator, worse: float, draws: int, seed: int
) -> tuple[dict[str, float], dict[str, Difference]]:
    """Compare two models of one world: values of the base, and differences."""
    base, other = world.draw(rng, worse)
    before, after = measured(base), measured(other)
    gaps = {name: after[name] - before[name] for name in before if name in after}
    found = differences(sample_of(base), sample_of(other), gaps, gaps, draws=draws, seed=seed)
    return before, found


def drop_of(d: Difference, name: str) -> float:
    """Say by how much the second model is worse."""
    return d.value if name == "eer" else -d.value


def gate_fails(found: dict[str, Difference]) -> bool:
    """Whether the default gate fails the second model."""
    adjusted = holm([d.p for d in found.values()])
    worse = [drop_of(d, name) > 0 for name, d in found.items()]
    return any(bad and p < 0.05 for bad, p in zip(worse, adjusted, strict=True))


def found_at(world: World, name: str, drop: float, trials: int, draws: int) -> tuple[float, float]:
    """Share of trials that find a true drop, and that drop: the mean over them."""
    low, high = 0.0, world.most
    for _ in range(7):
        middle = (low + high) / 2
        rng, gaps = np.random.default_rng(99), []
        for _ in range(20):
            a, b = (measured(o)[name] for o in world.draw(rng, middle))
            gaps.append(b - a if name == "eer" else a - b)
        low, high = (middle, high) if np.mean(gaps) < drop else (low, middle)
    rng = np.random.default_rng(1)
    seen = [trial(world, rng, (low + high) / 2, draws, t)[1][name] for t in range(trials)]
    return float(np.mean([d.p < 0.05 for d in seen])), float(
        np.mean([drop_of(d, name) for d in seen])
    )


@dataclass(frozen=True, kw_only=True)
class Cell:
    """What the tests of one metric did in a world where two models are equally good.

    size : share with p < 0.05.  ratio : spread of the differences over their standard error.
    detectable : the median.  drop, found : a true drop near it, and how often it is found; or None.
    """

    base: float
    size: float
    freedom: float
    ratio: float
    detectable: float
    drop: float | None = None
    found: float | None = None


def cells(world: World, options: argparse.Namespace) -> tuple[dict[str, Cell], float]:
    """Test equal models: a cell for each metric, and how often the default gate fails."""
    rng = np.random.default_rng(0)
    trials = [trial(world, rng, 0.0, options.draws, t) for t in range(options.trials)]
    found = {}
    for name in trials[0][1]:
        of = [tests[name] for _, tests in trials if name in tests]
        detectable = float(np.median([d.detectable for d in of]))
        drop = power = None
        if options.power:
            power, drop = found_at(world, name, detectable, options.power, options.draws)
        found[name] = Cell(
            base=float(np.mean([before[name] for before, tests in trials if name in tests])),
            size=float(np.mean([d.p < 0.05 for d in of])),
            freedom=float(np.median([d.freedom for d in of])),
            ratio=float(np.std([d.value for d in of]) / np.sqrt(np.mean([d.error**2 for d in of]))),
            detectable=detectable,
            drop=drop,
            found=power,
        )
    return found, float(np.mean([gate_fails(tests) for _, tests in trials]))


def show(world: World, options: argparse.Namespace) -> None:
    """Print a line for each metric of a world, and one of its gate."""
    found, fails = cells(world, options)
    for name, c in found.items():
        line = f"{world.name:36}{name:14}{c.base:8.4f}{c.size:9.1%}{c.freedom:9.0f}{c.ratio:9.2f}"
        line += f"{c.detectable:12.4f}"
        print(line if c.found is None else f"{line}{c.drop:9.4f}{c.found:8.1%}", flush=True)
    print(f"{world.name:36}{'gate fails':14}{'':8}{fails:9.1%}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("worlds", nargs="*", choices=[*WORLDS, []], metavar="WORLD")
    parser.add_argument("--trials", type=int, default=400)
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--power", type=int, default=0, metavar="TRIALS")
    options = parser.parse_args()
    margin = np.sqrt(0.05 * 0.95 / options.trials)
    print(f"{options.trials} trials of {options.draws} draws; one standard error {margin:.1%}")
    print(
        f"{'':36}{'metric':14}{'base':>8}{'p < .05':>9}{'freedom':>9}{'sd/error':>9}"
        f"{'detectable':>12}{'drop':>9}{'found':>8}"
    )
    for key in options.worlds or [k for k in WORLDS if not k.startswith("lfw")]:
        show(WORLDS[key], options)


if __name__ == "__main__":
    main()
