"""Four fixed images show any change of a model, and a model whose answers are not its own."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from evalkit.adapters import answers, calling
from evalkit.adapters.functions import FunctionModel
from evalkit.adapters.presets import PRESETS
from evalkit.errors import ModelError
from evalkit.types import InputSpec

SPEC = replace(PRESETS["arcface"], size=(32, 24))
Forward = Callable[[NDArray[np.float32]], NDArray[np.float32]]


class Network:
    """An adapter around a function of (N, H, W, 3) float32, as evalkit would feed it."""

    dim = 8

    def __init__(self, forward: Forward, spec: InputSpec = SPEC) -> None:
        self.spec, self._forward = spec, forward

    def embed(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        x = images if self.spec.color == "rgb" else images[..., ::-1]
        mean, std = np.float32(self.spec.mean), np.float32(self.spec.std)
        return self._forward((x.astype(np.float32) - mean) / std)


def project(x: NDArray[np.float32]) -> NDArray[np.float32]:
    size = x[0].size
    w = np.random.default_rng(0).standard_normal((size, 8)).astype(np.float32)
    return x.reshape(len(x), size) @ w


def test_the_images_are_the_same_for_ever() -> None:
    digest = hashlib.sha256(answers.pictures(PRESETS["arcface"]).tobytes()).hexdigest()
    assert digest.startswith("71bf97ac10cd0809")
    assert answers.pictures(SPEC).shape == (4, 32, 24, 3)
    assert answers.pictures(replace(SPEC, size=(1, 1))).shape == (4, 1, 1, 3)


@pytest.mark.parametrize("swap", [np.s_[:, ::-1], np.s_[:, :, ::-1], np.s_[..., ::-1]])
def test_no_image_is_its_own_mirror(swap: tuple[object, ...]) -> None:
    x = answers.pictures(SPEC)
    for one, other in zip(x, x[swap], strict=True):  # type: ignore[index]
        assert np.abs(one.astype(int) - other).mean() > 5


@pytest.mark.parametrize(
    "other",
    [
        Network(project, replace(SPEC, color="bgr")),
        Network(project, replace(SPEC, std=(128.0,) * 3)),
        Network(project, replace(SPEC, mean=(128.0, 127.5, 127.5))),
        Network(lambda x: project(np.maximum(x, -0.99))),
        Network(lambda x: project(x[:, :, ::-1])),
        Network(lambda x: project(np.roll(x, 1, axis=1))),
        Network(lambda x: np.tanh(project(x) / 1000) * 1000),
    ],
    ids=["colour", "std", "mean", "clip", "flip", "shift", "activation"],
)
def test_another_model_answers_differently(other: Network) -> None:
    kept = answers.answers(Network(project))
    assert answers.prove(kept) and answers.agree(kept, answers.answers(Network(project)))
    assert not answers.agree(kept, answers.answers(other))


def test_roundings_agree_and_nan_must_be_where_it_was() -> None:
    kept = np.float32([[1000, 0.001], [3, np.nan]])
    assert answers.agree(kept, kept + np.float32(0.009))
    assert not answers.agree(kept, kept + np.float32(0.011))
    assert not answers.agree(kept, np.nan_to_num(kept))
    assert not answers.agree(kept[:1], np.float32([[1000, np.nan]]))
    assert not answers.agree(np.float32([[np.inf]]), np.float32([[-np.inf]]))


@pytest.mark.parametrize(
    ("made", "proves"),
    [
        (np.full((4, 3), np.nan), False),  # no face was found
        (np.ones((4, 3)), False),
        (np.vstack([np.ones((1, 3)), np.full((3, 3), np.nan)]), False),
        (np.vstack([np.eye(2), np.full((2, 2), np.nan)]), True),
    ],
)
def test_answers_that_prove_nothing(made: NDArray[np.float64], proves: bool) -> None:
    assert answers.prove(made.astype(np.float32)) is proves


def test_a_model_that_answers_by_chance_is_refused() -> None:
    rng = np.random.default_rng(0)
    model = Network(lambda x: project(x) * rng.integers(0, 2, (len(x), 8)).astype(np.float32))
    with pytest.raises(ModelError, match="Network answers differently to the same image") as told:
        answers.refuse_random(model, answers.answers(model))
    assert "eval()" in told.value.hint


def flipped(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    images[:] = images[..., ::-1]
    return project(images.astype(np.float32))


@pytest.mark.parametrize("kind", ["adapter", "function"])
def test_what_a_model_writes_into_its_images_is_its_own(kind: str) -> None:
    images = answers.pictures(SPEC)
    model: Any = FunctionModel(flipped, SPEC)
    if kind == "adapter":
        model = Network(project)
        model.embed = flipped
    for _ in range(2):
        made = calling.embed(model, images)
        np.testing.assert_allclose(made, project(images[..., ::-1].astype(np.float32)), rtol=1e-5)


def test_statistics_of_the_batch_are_refused() -> None:
    def normalised(x: NDArray[np.float32]) -> NDArray[np.float32]:
        return project((x - x.mean(axis=(0, 1, 2))) / x.std(axis=(0, 1, 2)))

    model = Network(normalised)
    with pytest.raises(ModelError, match="alone and among others") as told:
        answers.refuse_random(model, answers.answers(model))
    assert "batch normalisation" in told.value.hint


def test_quantisation_by_the_pass_is_told() -> None:
    def quantised(x: NDArray[np.float32]) -> NDArray[np.float32]:
        step = np.abs(x).max() / 7
        return project(np.round(x / step) * step)

    model = Network(quantised)
    told = answers.refuse_random(model, answers.answers(model))
    assert "change with the other images of a pass" in told
    assert answers.refuse_random(Network(project), answers.answers(Network(project))) == ""


def test_a_memory_of_one_image_is_enough() -> None:
    def small(x: NDArray[np.float32]) -> NDArray[np.float32]:
        if len(x) > 1:
            raise MemoryError
        return project(x)

    made = answers.answers(Network(small))
    assert answers.agree(answers.answers(Network(project)), made)


def test_probabilities_are_told() -> None:
    def softmax(x: NDArray[np.float32]) -> NDArray[np.float32]:
        e = np.exp(project(x) / 100)
        return e / e.sum(axis=1, keepdims=True)

    for forward, told in ((softmax, True), (lambda x: 2 * softmax(x), False), (project, False)):
        network = Network(forward)
        assert ("probabilities" in answers.refuse_random(network, answers.answers(network))) is told


def test_a_vector_of_zeros_is_none() -> None:
    """Of a last layer that is rectified: it has no direction."""
    x = answers.pictures(SPEC)
    made = calling.embed(Network(lambda x: np.maximum(project(x), 0) * (x[:, -1:, 0, 0] > 0)), x)
    dead = x[:, -1, 0, 0] < 127.5
    assert dead.any() and not dead.all()
    assert np.isnan(made[dead]).all() and np.isfinite(made[~dead]).all()
