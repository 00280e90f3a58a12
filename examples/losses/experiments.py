"""Four small experiments: train one network with one loss from one seed, and measure it."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from data import digits, faces
from measure import by_recipe, circle, class_means, classify, verification
from network import embed, train


@dataclass(frozen=True)
class Experiment:
    """What is trained on, and how; what is left over is measured.

    classes : trained on, drawn anew by each seed.  Pairs of the classes left out are verified, or,
    where none are, pairs of the images left out.  share : of each trained class's images.
    mirror : mirror images are trained on, and fused as a recipe says.
    poor : training images of a class in the first half of the drawn classes; None = its share.
    """

    load: Callable
    classes: int
    share: float
    dim: int
    epochs: int
    mirror: bool = False
    poor: int | None = None

    def quick(self):
        """The same, hardly trained."""
        return replace(self, epochs=2)

    def __call__(self, seed, make_loss=None, recipe="softmax"):
        """Return name -> number, and (embeddings, labels) of what was verified.

        Without a loss, the pixels of each image are its embedding.  recipe : of `RECIPES`, where
        images have mirror images.
        """
        x, y = self.load()
        fit, fit_y, test, test_y, unseen = self.split(y, np.random.default_rng(seed))
        if make_loss is None:
            return self.verified(
                lambda images: images.reshape(len(images), -1), x, y, unseen, recipe
            )
        images = x[fit]
        if self.mirror:
            images, fit_y = np.concatenate([images, images[..., ::-1]]), np.tile(fit_y, 2)
        net, loss = train(images, fit_y, make_loss, self.dim, seed, self.epochs)
        seen, tested = embed(net, images), embed(net, x[test])
        right = classify(loss, tested, seen, fit_y) == test_y
        scored = unseen if len(unseen) else test
        numbers, verified = self.verified(lambda images: embed(net, images), x, y, scored, recipe)
        numbers["accuracy"] = right.mean()
        if self.poor:
            half = self.classes // 2
            norm = np.linalg.norm(class_means(seen, fit_y), axis=1)
            numbers |= {
                "poor_accuracy": right[test_y < half].mean(),
                "rich_accuracy": right[test_y >= half].mean(),
                "rich_region": (classify(loss, circle(), seen, fit_y) >= half).mean(),
                "rich_norm": norm[half:].mean() / norm[:half].mean(),
                "per_class": sum(t.numel() for t in loss.state_dict().values()) / self.classes,
            }
        return numbers, verified

    def verified(self, made, x, y, rows, recipe):
        """Score pairs of x[rows] by what `made` makes of images; also what it made, and labels."""
        first, who = made(x[rows]), y[rows]
        numbers = verification(first, who)
        if self.mirror:
            views = np.stack([first, made(x[rows][..., ::-1].copy())], axis=1)
            numbers |= by_recipe(views, who, recipe)
        return numbers, (first, who)

    def split(self, y, rng):
        """Rows to train on and to test on, each with labels from 0, and rows of unseen classes."""
        drawn = rng.permutation(np.unique(y))[: self.classes]
        fit, test = [], []
        for k, name in enumerate(drawn):
            rows = rng.permutation(np.flatnonzero(y == name))
            cut = round(self.share * len(rows))
            kept = self.poor if self.poor and k < self.classes // 2 else cut
            fit.append(rows[:kept])
            test.append(rows[cut:])
        fit_y, test_y = (
            np.repeat(np.arange(self.classes), [len(rows) for rows in part]) for part in (fit, test)
        )
        unseen = np.flatnonzero(~np.isin(y, drawn))
        return np.concatenate(fit), fit_y, np.concatenate(test), test_y, unseen


EXPERIMENTS = {
    "plane": Experiment(digits, classes=10, share=0.5, dim=2, epochs=100),
    "digits": Experiment(digits, classes=7, share=0.5, dim=16, epochs=40),
    "faces": Experiment(faces, classes=20, share=0.8, dim=32, epochs=40, mirror=True),
    "uneven": Experiment(digits, classes=10, share=0.5, dim=2, epochs=100, poor=9),
}
