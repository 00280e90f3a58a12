"""A face detector without a network: a face is five dots, each of its own colour."""

import numpy as np
from numpy.typing import NDArray

# left eye, right eye, nose, left and right mouth corner
COLOURS = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (0, 255, 255))


class Dots:
    """`--align dots`."""

    fingerprint = "dots 1.0"

    def detect(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        points = []
        for colour in COLOURS:
            near = np.abs(image.astype(int) - colour).sum(axis=2) < 90
            if not near.any():
                return np.empty((0, 5, 2), np.float32)
            points.append(np.argwhere(near).mean(axis=0)[::-1])
        return np.array([points], np.float32)
