import numpy as np
import pytest

from evalkit.errors import DataError
from evalkit.images import ImageSource
from evalkit.images.alignment import TEMPLATES, aligned, similarity, warp

_, TEMPLATE = TEMPLATES["arcface-112"]


def test_a_similarity_is_recovered() -> None:
    turn, shift = 1.7 * np.exp(0.4j), np.array([5.0, -3.0])
    linear = np.array([[turn.real, -turn.imag], [turn.imag, turn.real]])
    moved = TEMPLATE @ linear.T + shift
    matrix = similarity(moved, TEMPLATE)
    np.testing.assert_allclose(moved @ matrix[:, :2].T + matrix[:, 2], TEMPLATE, atol=1e-9)


def test_no_fit_is_nearer_than_the_similarity() -> None:
    rng = np.random.default_rng(0)
    points = TEMPLATE + rng.normal(0, 3, (5, 2))
    matrix = similarity(points, TEMPLATE)

    def miss(m: np.ndarray) -> float:
        return float(((points @ m[:, :2].T + m[:, 2] - TEMPLATE) ** 2).sum())

    for _ in range(200):
        a, b, *shift = rng.normal(0, 0.01, 4)
        nearby = matrix + np.array([[a, -b, shift[0]], [b, a, shift[1]]])
        assert miss(nearby) >= miss(matrix)


def test_the_identity_moves_no_pixel() -> None:
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    np.testing.assert_array_equal(warp(image, np.eye(2, 3), (20, 30)), image)


def test_a_shift_by_whole_pixels_is_exact() -> None:
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    shift = np.array([[1.0, 0, -4], [0, 1, -2]])
    np.testing.assert_array_equal(warp(image, shift, (10, 12)), image[2:12, 4:16])


def test_a_marked_point_lands_on_its_place() -> None:
    image = np.zeros((250, 250, 3), np.uint8)
    points = TEMPLATE * 1.5 + 40
    x, y = np.rint(points[2]).astype(int)
    image[y - 2 : y + 3, x - 2 : x + 3] = 255
    source = ImageSource(("a",), lambda _: image, "drawn")
    face = aligned(source, points[None].astype(np.float32), "arcface-112").read(0)
    bright = np.argwhere(face[..., 0] > 128).mean(0)
    np.testing.assert_allclose(bright, TEMPLATE[2][::-1], atol=0.6)


def test_one_point_five_times_is_refused() -> None:
    with pytest.raises(DataError, match="one point"):
        similarity(np.ones((5, 2)), TEMPLATE)


def test_an_unknown_crop_is_refused() -> None:
    source = ImageSource((), lambda _: np.zeros((1, 1, 3), np.uint8), "")
    with pytest.raises(DataError, match="no template for crop 'tight'"):
        aligned(source, np.zeros((0, 5, 2), np.float32), "tight")
