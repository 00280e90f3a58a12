"""Drawn faces: a vector of traits a person, painted under pose, light, expression and cover.

Not faces, but what makes recognising them hard: few traits tell people apart, and what changes
between two images of a person moves more pixels than what tells two people apart.
"""

import numpy as np

# trait -> (mean, spread over people), in half widths of the image or in grey (0 black, 1 white)
TRAITS = {
    "face_width": (0.56, 0.06),
    "face_height": (0.76, 0.06),
    "jaw": (0.0, 0.12),
    "skin": (0.68, 0.10),
    "hair": (0.25, 0.15),
    "hair_line": (-0.42, 0.10),
    "hair_width": (0.66, 0.06),
    "eye_distance": (0.24, 0.03),
    "eye_height": (-0.10, 0.04),
    "eye_width": (0.12, 0.02),
    "eye_open": (0.06, 0.015),
    "iris": (0.20, 0.12),
    "brow_height": (0.15, 0.03),
    "brow_tilt": (0.0, 0.25),
    "brow_thickness": (0.035, 0.012),
    "nose_length": (0.20, 0.05),
    "nose_width": (0.09, 0.025),
    "mouth_height": (0.40, 0.04),
    "mouth_width": (0.22, 0.04),
    "lips": (0.055, 0.015),
    "beard": (0.0, 0.12),
}
DAY = 0.1  # spread of a person's traits between images, over that between people


def people(count, rng):
    """Draw the traits of `count` people: (count, T) float64, standard normal."""
    return rng.normal(size=(count, len(TRAITS)))


def drawn(traits, rng, side=24):
    """Draw an image of each row of (N, T) traits: (N, 1, side, side) float32 in [-0.5, 0.5]."""
    n = len(traits)
    traits = traits + DAY * rng.normal(size=traits.shape)
    t = {
        name: mean + spread * 1.5 * np.tanh(traits[:, k, None, None] / 1.5)
        for k, (name, (mean, spread)) in enumerate(TRAITS.items())
    }

    def spread(size):
        return rng.normal(0, size, (n, 1, 1))

    yaw, pitch, smile, surprise = spread(0.25), spread(0.15), spread(0.02), spread(0.02)
    at = (np.arange(side) + 0.5) / side * 2 - 1
    z = at[None, None, :] + 1j * at[None, :, None] - spread(0.03) - 1j * spread(0.03)
    z = z * np.exp(1j * spread(0.08) + spread(0.05))  # roll and distance

    def blob(x, y, width, height, depth=0.0, tilt=0.0):
        """Soft ellipse; what lies deeper than the eyes' plane moves less as the head turns."""
        x, y = x * np.cos(yaw) + depth * np.sin(yaw), y + depth * np.sin(pitch)
        across, down = z.real - x, z.imag - y
        down = down - tilt * across
        r = np.hypot(across / width, down / height)
        return 1 / (1 + np.exp(np.clip((r - 1) * np.minimum(width, height) * side * 2, -30, 30)))

    image = rng.uniform(0.1, 0.9, (n, 1, 1)) + 0 * z.real  # background

    def paint(mask, tone):
        nonlocal image
        image = image + mask * (tone - image)

    paint(blob(0, -0.15, t["hair_width"], 0.80, -0.2), t["hair"])
    width = t["face_width"] * (1 + t["jaw"] * z.imag)
    face = blob(0, 0.05, width, t["face_height"])
    paint(face, t["skin"])
    paint(blob(0, t["hair_line"] - 0.45, 0.6, 0.45, -0.1) * face, t["hair"])
    paint(blob(0, 0.62, 0.40, 0.30, 0.1) * face, t["skin"] - 2 * np.maximum(t["beard"], 0))
    for way in (-1, 1):
        x, y = way * t["eye_distance"], t["eye_height"]
        paint(blob(x, y, t["eye_width"], t["eye_open"] + surprise / 2, 0.15), 0.9)
        paint(blob(x, y, 0.055, t["eye_open"] + surprise / 2, 0.17), t["iris"])
        brow = y - t["brow_height"] - surprise
        tilt = way * t["brow_tilt"]
        paint(blob(x, brow, 0.15, t["brow_thickness"], 0.15, tilt), t["hair"])
    nose = t["eye_height"] + t["nose_length"]
    paint(blob(0, nose / 2, t["nose_width"] / 2, t["nose_length"], 0.3), t["skin"] + 0.08)
    paint(blob(0, nose, t["nose_width"], 0.05, 0.35), t["skin"] - 0.2)
    mouth = blob(0, t["mouth_height"], t["mouth_width"] + smile * 2, t["lips"] + smile, 0.15)
    paint(mouth, t["skin"] - 0.3)

    image = image * (1 + spread(0.2) * z.real + spread(0.1) * z.imag)  # where light comes from
    image = (image - 0.5) * np.exp(spread(0.15)) + 0.5 + spread(0.05)
    cover = blob(spread(0.5), spread(0.5), rng.uniform(0.1, 0.4, (n, 1, 1)), 0.2)
    paint(cover * (rng.random((n, 1, 1)) < 0.2), rng.random((n, 1, 1)))
    image = image + rng.normal(0, 0.03, image.shape)
    return (np.clip(image, 0, 1) - 0.5).astype(np.float32)[:, None]
