"""`evalkit.embed`: images in, named vectors out, in memory or in a feature file."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import evalkit
from evalkit.embedding.from_images import embed, source_of
from evalkit.errors import DataError, ModelError, WrongTypeError
from evalkit.types import InputSpec
from evalkit.vectors.matching import Vectors

KEYS = [f"P{k // 4}/{k}.png" for k in range(12)]
PIXELS = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 3), dtype=np.uint8)
PAIRS = evalkit.PairSet([0, 4, 8, 0, 4, 8], [1, 5, 9, 4, 8, 0], [1, 1, 1, 0, 0, 0])  # type: ignore[arg-type]


class Grey:
    spec = InputSpec(size=(8, 8), color="rgb", mean=(0.0,) * 3, std=(1.0,) * 3)
    dim, fingerprint, runtime = 64, "grey", "numpy"

    def embed(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        made: NDArray[np.float32] = images.mean(axis=3, dtype=np.float32)
        return made.reshape(len(images), -1) - 128


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVALKIT_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def crops(tmp_path: Path) -> Path:
    for key, pixels in zip(KEYS, PIXELS, strict=True):
        (tmp_path / "crops" / key).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / "crops" / key)
    return tmp_path / "crops"


def test_a_model_file_and_a_folder_are_enough(
    crops: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxruntime")
    from small_models import save, weights

    model = save(crops.parent / "model.onnx")
    side = '[input]\nsize = [8, 8]\ncolor = "rgb"\nmean = 127.5\nstd = 127.5\n'
    model.with_suffix(".evalkit.toml").write_text(side)
    x = evalkit.embed(str(model), str(crops))
    assert capfd.readouterr() == ("", "")
    assert x.keys == tuple(sorted(KEYS)) and x.features.shape == (12, 4)
    row = KEYS.index(x.keys[5])
    fed = (PIXELS[row].astype(np.float32).transpose(2, 0, 1).ravel() - 127.5) / 127.5
    np.testing.assert_allclose(x.features[5], fed @ weights(), rtol=1e-4)
    assert np.array_equal(x.features, evalkit.embed(model, crops, preset=None).features)
    spec = InputSpec(size=(8, 8), color="bgr", mean=(0.0,) * 3, std=(1.0,) * 3)
    other = evalkit.embed(model, crops, spec=spec)
    assert other.provenance["input spec"].startswith("8x8 bgr")


def test_in_memory_it_writes_nothing_and_a_file_holds_the_same(crops: Path) -> None:
    before = sorted(crops.parent.rglob("*"))
    x = embed(Grey(), crops)
    assert sorted(crops.parent.rglob("*")) == before
    kept = embed(Grey(), crops, crops.parent / "x.h5")
    for name in ("features", "images", "subject"):
        assert np.array_equal(getattr(x, name), getattr(kept, name)), name
    assert x.keys == kept.keys
    assert x.provenance == {k: v for k, v in kept.provenance.items() if k != "features"}
    with evalkit.FeatureStore.open(crops.parent / "x.h5") as store:
        assert np.array_equal(store.features[:, 0], x.features)
    told: list[str] = []
    embed(Grey(), crops, crops.parent / "x.h5", say=told.append)
    assert told == ["12 vectors from x.h5, 0 to embed"]


@pytest.mark.parametrize("path", [None, "x.h5"])
def test_the_result_goes_straight_into_every_evaluate(crops: Path, path: str | None) -> None:
    x = embed(Grey(), crops, None if path is None else crops.parent / path, keys=KEYS)
    assert isinstance(x, Vectors) and x.keys == tuple(KEYS)
    assert x.subject is not None and x.subject.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    direct = evalkit.verification.evaluate(x, PAIRS, x.subject, keys=x.keys, images=x.images)  # type: ignore[arg-type]
    lines = [
        f"{KEYS[a]} {KEYS[b]} {genuine:d}"
        for a, b, genuine in zip(PAIRS.left, PAIRS.right, PAIRS.genuine, strict=True)
    ]
    (crops.parent / "pairs.txt").write_text("\n".join(lines))
    by_list = evalkit.evaluate("verification", x, crops.parent / "pairs.txt")
    assert by_list.metrics == direct.metrics
    assert by_list.identity.images == direct.identity.images is not None
    assert evalkit.evaluate("geometry", x).provenance["subjects"] == 3
    assert np.array_equal(np.asarray(x), x.features)
    assert np.array(x, np.float64).dtype == np.float64


def test_pixels_are_embedded_as_their_files_are(crops: Path) -> None:
    of_files, of_pixels = embed(Grey(), crops, keys=KEYS), embed(Grey(), PIXELS, keys=KEYS)
    assert np.array_equal(of_files.features, of_pixels.features)
    assert of_pixels.images is not None and of_pixels.images.any(axis=1).all()
    assert embed(Grey(), PIXELS).keys == tuple(f"{k:07d}" for k in range(12))
    assert embed(Grey(), source_of(PIXELS, KEYS), keys=KEYS[3:5]).keys == tuple(KEYS[3:5])
    made = evalkit.evaluate("geometry", Grey(), [0] * 6 + [1] * 6, images=PIXELS)
    assert made.provenance["decoder"] == "pixels as given"


@pytest.mark.parametrize("path", [None, "x.h5"])
def test_two_views_are_fused_by_the_protocol(crops: Path, path: str | None) -> None:
    x = embed(Grey(), PIXELS, None if path is None else crops.parent / path, views=2)
    assert np.array_equal(
        x.features[:, 1].reshape(-1, 8, 8)[:, :, ::-1].reshape(12, -1), x.features[:, 0]
    )
    assert repr(x) == "<Vectors of 12 images: 2 views of 64 dimensions>"
    report = evalkit.verification.evaluate(x, PAIRS, flip="sum")  # type: ignore[arg-type]
    assert report.provenance["flip"] == "sum"


@pytest.mark.parametrize("path", [None, "x.h5"])
def test_a_failed_image_is_told_and_counted(
    crops: Path, path: str | None, capfd: pytest.CaptureFixture[str]
) -> None:
    (crops / KEYS[0]).write_bytes(b"no image")
    x = embed(Grey(), crops, None if path is None else crops.parent / path, keys=KEYS)
    reason = f"{KEYS[0]} cannot be read: not an image file"
    told = f"1 of 12 images have no vector: {KEYS[0]} ({reason})\n"
    assert capfd.readouterr() == ("", told)
    assert np.isnan(x.features[0]).all() and np.isfinite(x.features[1:]).all()
    assert evalkit.verification.evaluate(x, PAIRS).failures.images == 1  # type: ignore[arg-type]
    for key in KEYS:
        (crops / key).write_bytes(b"no image")
    with pytest.raises(DataError, match="not one of 12 images has a vector"):
        embed(Grey(), crops)


def test_batches_and_progress_change_no_bit() -> None:
    seen: list[tuple[int, int]] = []
    whole = embed(Grey(), PIXELS, batch=12)
    parts = embed(Grey(), PIXELS, batch=5, workers=1, progress=lambda *n: seen.append(n))
    assert np.array_equal(whole.features, parts.features)
    assert seen == [(5, 12), (10, 12), (12, 12)]


@pytest.mark.parametrize("fixed", [None, 4])
def test_a_model_may_answer_in_the_same_memory_each_time(fixed: int | None) -> None:
    """As runtimes do that bind their output once."""

    class Bound(Grey):
        batch, answer = fixed, np.zeros((256, 64), np.float32)

        def embed(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
            self.answer[: len(images)] = super().embed(images)
            return self.answer[: len(images)]

    expected = embed(Grey(), PIXELS).features
    assert np.array_equal(embed(Bound(), PIXELS, batch=5).features, expected)
    if fixed is None:
        function = embed(Bound().embed, PIXELS, batch=5, spec=Grey.spec)
        assert np.array_equal(function.features, expected)


def test_a_random_model_is_refused_in_memory_too() -> None:
    class Random(Grey):
        def embed(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
            return np.random.default_rng().normal(size=(len(images), 64)).astype(np.float32)

    with pytest.raises(ModelError, match="answers differently to the same image"):
        embed(Random(), PIXELS)


@pytest.mark.parametrize(
    ("images", "told"),
    [
        (PIXELS.astype(np.float32), r"images are float32 of shape \(12, 8, 8, 3\)"),
        (PIXELS[0], r"images are uint8 of shape \(8, 8, 3\)"),
        (PIXELS.transpose(0, 3, 1, 2), r"images are uint8 of shape \(12, 3, 8, 8\)"),
        (PIXELS[:0], r"images are uint8 of shape \(0, 8, 8, 3\)"),
        (PIXELS[:, :4], "0000000 is 4x8, the model expects 8x8"),
        ("nowhere", "no images at nowhere"),
    ],
)
def test_images_that_cannot_be_embedded(images: object, told: str) -> None:
    with pytest.raises(DataError, match=told):
        embed(Grey(), images)  # type: ignore[arg-type]


def test_arguments_that_do_not_belong() -> None:
    with pytest.raises(DataError, match="12 images have 2 keys"):
        embed(Grey(), PIXELS, keys=["a", "b"])
    with pytest.raises(DataError, match="views is 3"):
        embed(Grey(), PIXELS, views=3)
    with pytest.raises(ModelError, match="a loaded model takes no preset"):
        embed(Grey(), PIXELS, preset="arcface")
    with pytest.raises(WrongTypeError, match="a int where a model belongs") as told:
        embed(3, PIXELS)  # type: ignore[arg-type]
    assert told.value.hint.endswith("or a function of (N, H, W, 3) RGB uint8")


def test_paths_of_images_are_embedded_in_their_order(
    crops: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(crops)
    of_folder, chosen = embed(Grey(), crops), ["P1/6.png", "P0/1.png", "P1/4.png"]
    rows = [of_folder.keys.index(key) for key in chosen]
    for paths in (chosen, tuple(map(Path, chosen)), np.array(chosen)):
        x = embed(Grey(), paths)
        assert x.keys == tuple(chosen) and np.array_equal(x.subject, [1, 0, 1])
        assert np.array_equal(x.features, of_folder.features[rows])
        assert np.array_equal(x.images, of_folder.images[rows])
    assert embed(Grey(), chosen, keys=["a", "b", "c"]).keys == ("a", "b", "c")
    with pytest.raises(DataError, match=r"1 of 4 images are not there, first 'P9/9\.png'"):
        embed(Grey(), [*chosen, "P9/9.png"])
    with pytest.raises(DataError, match="3 images have 2 keys"):
        embed(Grey(), chosen, keys=["a", "b"])
