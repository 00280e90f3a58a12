"""Pictures of docs/losses.md: the drawn faces, ten people in the plane, compactness by separation.

python examples/losses/picture.py    three minutes of one core
"""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from experiments import Experiment, faces
from losses import LOSSES
from measure import class_means, student
from network import embed, train
from page import read, whole

IMAGES = Path(__file__).resolve().parents[2] / "docs" / "images"
PLANE = Experiment(people=10, fewest=15, most=150, tested=60, strangers=1, dim=2, epochs=40)


def draw_faces(path):
    """Ten images of each of six people."""
    held = faces(Experiment(), 0)
    rows = [np.concatenate(list(held.new[held.new_y == k, 0]), axis=1) for k in range(6)]
    plt.imsave(path, np.concatenate(rows).repeat(3, 0).repeat(3, 1), cmap="gray")


def draw_planes(path):
    """Embeddings in the plane of images not trained on, for each loss, by seed 0."""
    held = faces(PLANE, 0)
    figure, axes = plt.subplots(2, 5, figsize=(14.5, 6.6), layout="constrained")
    for axis, (name, make) in zip(axes.flat, LOSSES.items(), strict=True):
        net, _ = train(held.fit, held.fit_y, make, PLANE.dim, 0, PLANE.epochs)
        x = embed(net, held.test)
        axis.scatter(*x.T, c=held.test_y, cmap="tab10", s=5, alpha=0.6, linewidths=0)
        axis.plot(0, 0, "+", color="black", markersize=9)
        for person, mean in enumerate(class_means(x, held.test_y)):
            axis.text(*mean, str(person), weight="bold", ha="center", va="center", bbox=LABEL)
        reach = 1.08 * np.quantile(np.abs(x), 0.998)
        axis.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal", title=name)
        axis.set_axis_off()
    figure.savefig(path, dpi=80)


def draw_shape(runs, path):
    """Angle within people by the angle to the nearest other person, each with its interval."""
    runs = whole(runs)
    figure, axis = plt.subplots(figsize=(7.5, 5.5), layout="constrained")
    for name in LOSSES:
        held = [numbers for (loss, _), numbers in runs.items() if loss == name]
        (x, across), (y, up) = (student([n[k] for n in held]) for k in ("mates", "nearest"))
        axis.errorbar(x, y, up, across, fmt=MARKS[name], markersize=6, linewidth=1, label=name)
    axis.plot([0, 80], [0, 80], "--", color="gray", linewidth=1)
    axis.set(xlim=(0, 80), ylim=(0, 80))
    axis.legend(loc="upper left", frameon=False)
    axis.set(xlabel="angle between two images of a person (compact: left)")
    axis.set(ylabel="angle to the nearest image of another person (separate: up)")
    figure.savefig(path, dpi=80)


MARKS = dict(zip(LOSSES, "osv^D<>*PX", strict=True))
LABEL = {"boxstyle": "circle,pad=0.15", "facecolor": "white", "edgecolor": "none", "alpha": 0.75}

if __name__ == "__main__":
    draw_faces(IMAGES / "losses-faces.png")
    draw_shape(read(), IMAGES / "losses-shape.png")
    draw_planes(IMAGES / "losses-plane.png")
