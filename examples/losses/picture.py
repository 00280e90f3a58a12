"""The embeddings that each loss makes of the same digits, side by side, as the papers draw them."""

import matplotlib.pyplot as plt
import numpy as np
from measure import class_means


def draw(planes, path):
    """Draw (N, 2) embeddings of held-out images for each loss, each digit in its own colour.

    planes : loss name -> (embeddings, labels, line under the name).  The cross is the origin, the
    number stands at the mean of its class.
    """
    columns = -(-len(planes) // 2)
    figure, axes = plt.subplots(2, columns, figsize=(2.9 * columns, 6.6), layout="constrained")
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, (name, (x, labels, line)) in zip(axes.flat, planes.items(), strict=False):
        axis.scatter(*x.T, c=labels, cmap="tab10", s=5, alpha=0.6, linewidths=0, rasterized=True)
        axis.plot(0, 0, "+", color="black", markersize=9)
        for digit, mean in enumerate(class_means(x, labels)):
            axis.text(*mean, str(digit), weight="bold", ha="center", va="center", bbox=LABEL)
        reach = 1.08 * np.quantile(np.abs(x), 0.998)
        axis.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
        axis.set_title(f"{name}\n{line}", fontsize=10)
    figure.savefig(path, dpi=80)
    plt.close(figure)


LABEL = {"boxstyle": "circle,pad=0.15", "facecolor": "white", "edgecolor": "none", "alpha": 0.75}
