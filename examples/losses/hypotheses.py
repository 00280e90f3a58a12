"""The survey's claims as hypotheses: a number per seed, its interval over seeds, a verdict."""

from dataclasses import dataclass
from math import inf

from measure import student

HOLDS, FAILS, OPEN = "holds", "does not hold", "cannot be told"


@dataclass(frozen=True)
class Hypothesis:
    """A claim that the true mean of one number lies between two bounds.

    measured : the number in words.  loss, name : whose it is, and how the results call it.
    against : the loss whose number of the same seed is taken off, if any.
    factor, unit : how it is printed.
    """

    claim: str
    measured: str
    loss: str
    name: str
    against: str = ""
    above: float = -inf
    below: float = inf
    factor: float = 100.0
    unit: str = " %"

    def values(self, runs):
        """The number of each seed that ran; runs : (loss, seed) -> {name: number}."""
        seeds = sorted(seed for loss, seed in runs if loss == self.loss)
        own = {seed: runs[self.loss, seed][self.name] for seed in seeds}
        if not self.against:
            return [*own.values()]
        return [
            value - runs[self.against, seed][self.name]
            for seed, value in own.items()
            if (self.against, seed) in runs
        ]

    def judged(self, runs):
        """Mean, half the width of its 95 % interval, and the verdict."""
        mean, half = student(self.values(runs))
        if mean - half > self.above and mean + half < self.below:
            return mean, half, HOLDS
        fails = mean + half < self.above or mean - half > self.below
        return mean, half, FAILS if fails else OPEN


SOFTMAX = "Softmax separates without compacting"
CROSSED = "Same-class distances exceed different-class ones"
MULTIPLICATIVE = "Multiplicative margins need annealing"
ADDITIVE = "Additive margins do not need it"
CENTER = "Center Loss compacts without separating"
REGION = "Classes with more samples take a larger region"
COSINE = "Cosine serves Center Loss better than its own L2"

NAMED = "people named rightly on other images of them"
TPR = "TPR@FAR=1e-3 on new people, cosine"
MATES, NEAREST = "angle between two images of a person", "angle to the nearest image of another"
DEGREES = {"factor": 1.0, "unit": "°"}
RANKS = {"factor": 1.0, "unit": ""}
TOLERANCE = 0.03  # "no worse than": of TPR

HYPOTHESES = (
    Hypothesis(SOFTMAX, f"separates: {NAMED}, above 50 %", "softmax", "accuracy", above=0.5),
    Hypothesis(
        SOFTMAX,
        f"does not compact: {MATES} minus Center Loss's, above 0",
        "softmax",
        "mates",
        "center",
        above=0.0,
        **DEGREES,
    ),
    Hypothesis(
        CROSSED,
        "pairs farther apart than the nearest stranger by L2, softmax, above 50 %",
        "softmax",
        "crossed",
        above=0.5,
    ),
    Hypothesis(CROSSED, "the same under Center Loss, above 50 %", "center", "crossed", above=0.5),
    *(
        Hypothesis(
            MULTIPLICATIVE,
            f"{TPR}: {loss} annealed minus {how}, above 0",
            loss,
            "tpr",
            f"{loss}-{variant}",
            above=0.0,
        )
        for loss in ("l-softmax", "a-softmax")
        for variant, how in (
            ("at-once", "its final blend (λ = 5) from the first step"),
            ("whole", "the whole margin (λ = 0) from the first step"),
        )
    ),
    *(
        Hypothesis(
            ADDITIVE,
            f"{TPR}: {loss} at once minus eased in, above -3 %",
            loss,
            "tpr",
            f"{loss}-eased",
            above=-TOLERANCE,
        )
        for loss in ("cosface", "arcface")
    ),
    Hypothesis(
        CENTER,
        f"compacts: {MATES} minus softmax's, below 0",
        "center",
        "mates",
        "softmax",
        below=0.0,
        **DEGREES,
    ),
    Hypothesis(
        CENTER,
        f"does not separate: {NEAREST} minus softmax's, below 0",
        "center",
        "nearest",
        "softmax",
        below=0.0,
        **DEGREES,
    ),
    Hypothesis(
        CENTER,
        f"its term alone, without softmax: {NAMED}, below 5 %",
        "center-alone",
        "accuracy",
        below=0.05,
    ),
    *(
        Hypothesis(REGION, f"{what}, softmax, above {above}", "softmax", name, above=at, **how)
        for name, what, above, at, how in (
            ("region_l2", "rank correlation of images and region by L2", "0", 0.0, RANKS),
            ("region_angle", "the same in degrees", "0", 0.0, RANKS),
            ("region_norm", "of images and length of the class mean", "0", 0.0, RANKS),
            ("rich_region", "strangers taken for one of the richer half", "50 %", 0.5, {}),
        )
    ),
    Hypothesis(COSINE, f"{TPR} minus by L2", "center", "cosine_gain", above=0.0),
    Hypothesis(
        COSINE,
        "the same on other images of trained people",
        "center",
        "test_cosine_gain",
        above=0.0,
    ),
    Hypothesis(
        COSINE,
        "share of L2² that is a difference of lengths: same-class pairs minus others",
        "center",
        "length_gap",
        above=0.0,
    ),
    Hypothesis(
        COSINE,
        "what cosine gains under softmax minus under Center Loss",
        "softmax",
        "cosine_gain",
        "center",
        above=0.0,
    ),
)
