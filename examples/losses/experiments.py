"""One experiment: train one network with one loss from one seed on drawn faces, and measure it."""

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from faces import drawn, people
from measure import by_recipe, classify, regions, shape, verification
from network import embed, train


@dataclass(frozen=True)
class Drawn:
    """Images and labels of one seed.

    fit : trained on, `counts` images a person, few of the first person, many of the last.
    test : other images of the same people.  new : images of people never trained on.
    """

    fit: np.ndarray
    fit_y: np.ndarray
    test: np.ndarray
    test_y: np.ndarray
    new: np.ndarray
    new_y: np.ndarray


@dataclass(frozen=True)
class Experiment:
    """How many people, with how many images, of how many numbers each, trained for how long.

    fewest, most : training images of the poorest and of the richest person, geometric between.
    tested : further images of each of them.  strangers : people never trained on, ten images each.
    """

    people: int = 120
    fewest: int = 4
    most: int = 40
    tested: int = 5
    strangers: int = 60
    dim: int = 64
    epochs: int = 25

    def quick(self):
        """The same, of few people and hardly trained."""
        return replace(self, people=20, strangers=20, epochs=2)

    def __call__(self, seed, make_loss=None, recipe="softmax"):
        """Return name -> number.  Without a loss, the pixels of an image are its embedding."""
        held = faces(self, seed)
        if make_loss is None:
            return strangers(lambda x: x.reshape(len(x), -1), held, recipe)
        net, loss = train(held.fit, held.fit_y, make_loss, self.dim, seed, self.epochs)
        seen, tested, new = (embed(net, x) for x in (held.fit, held.test, held.new))
        rich = held.test_y >= self.people // 2
        right = classify(loss, tested, seen, held.fit_y) == held.test_y
        numbers = strangers(lambda x: embed(net, x), held, recipe)
        numbers |= {
            "accuracy": right.mean(),
            "poor_accuracy": right[~rich].mean(),
            "rich_accuracy": right[rich].mean(),
            "rich_region": (classify(loss, new, seen, held.fit_y) >= self.people // 2).mean(),
        }
        numbers |= {f"test_{k}": v for k, v in verification(tested, held.test_y).items()}
        return numbers | shape(tested, held.test_y) | regions(seen, held.fit_y)


def strangers(made, held, recipe):
    """Score pairs of people never trained on by what `made` makes of images: name -> number."""
    first = made(held.new)
    views = np.stack([first, made(held.new[..., ::-1].copy())], axis=1)
    return verification(first, held.new_y) | by_recipe(views, held.new_y, recipe)


@lru_cache(maxsize=1)
def faces(experiment, seed):
    """Draw the people of a seed and their images: `Drawn`."""
    e, rng = experiment, np.random.default_rng(seed)
    counts = np.geomspace(e.fewest, e.most, e.people).round().astype(int)
    known, new = people(e.people, rng), people(e.strangers, rng)
    labels = (
        np.repeat(np.arange(e.people), counts),
        np.repeat(np.arange(e.people), e.tested),
        np.repeat(np.arange(e.strangers), 10),
    )
    fit, test = (drawn(known[y], rng) for y in labels[:2])
    return Drawn(fit, labels[0], test, labels[1], drawn(new[labels[2]], rng), labels[2])
