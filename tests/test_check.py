"""`evalkit check`: the right input spec is found, and so are the mistakes."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evalkit.adapters.presets import PRESETS, describe, resolve
from evalkit.cli import run, spec_trial
from evalkit.embedding import input_check
from evalkit.errors import ModelError
from evalkit.types import InputSpec

PEOPLE, SIZE = 40, 8
TRUE = InputSpec(size=(SIZE, SIZE), color="bgr", mean=(127.5,) * 3, std=(127.5,) * 3)


def faces(people: int = PEOPLE, noise: float = 25.0, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    own = rng.normal(127.5, 45, (people, SIZE, SIZE)).repeat(2, axis=0)
    images = rng.normal(127.5, 45, (2 * people, SIZE, SIZE, 3))
    images[..., 2] = own + rng.normal(0, noise, own.shape)  # only blue tells people apart
    return images.clip(0, 255).astype(np.uint8)


class Projection:
    """A model that looks at its first channel, and likes it centred."""

    dim, fingerprint = 12, "projection"

    def __init__(self, spec: InputSpec, sizes: tuple[tuple[int, int], ...] = ((SIZE, SIZE),)):
        if spec.size not in sizes:
            raise ModelError(f"no {spec.size}")
        self.spec = spec

    def embed(self, images: np.ndarray) -> np.ndarray:
        x = images[..., ::-1] if self.spec.color == "bgr" else images
        x = ((x - np.array(self.spec.mean)) / self.spec.std)[:, :SIZE, :SIZE]
        return x[..., 0].reshape(len(x), -1)[:, : self.dim].astype(np.float32)


def brute_force(x: np.ndarray, weight: np.ndarray) -> float:
    u = x / np.linalg.norm(x, axis=1, keepdims=True)
    genuine, impostor = [], []
    for a in range(len(x)):
        for b in range(a + 1, len(x)):
            p, q = a // 2, b // 2
            if p == q:
                genuine += [u[a] @ u[b]] * weight[p]
            else:
                impostor += [u[a] @ u[b]] * (weight[p] * weight[q])
    return (np.mean(genuine) - np.mean(impostor)) / np.sqrt(
        (np.var(genuine) + np.var(impostor)) / 2
    )


def test_d_prime_is_that_of_the_weighted_scores() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(14, 5)) + rng.normal(size=(7, 5)).repeat(2, axis=0)
    weights = np.array([np.ones(7, int), [2, 0, 1, 1, 0, 3, 0]])
    wanted = [brute_force(x, w) for w in weights]
    np.testing.assert_allclose(input_check.d_prime(x, weights), wanted, rtol=1e-9)


def test_vectors_without_a_length_separate_nothing() -> None:
    for x in (np.zeros((8, 3)), np.full((8, 3), np.nan), np.ones((8, 3))):
        assert input_check.d_prime(x, np.ones((1, 4))).tolist() == [0.0]


@pytest.mark.parametrize("color", ["rgb", "bgr"])
@pytest.mark.parametrize("k", range(len(input_check.NORMALISATIONS)))
def test_the_right_spec_is_found_from_any_declared_one(color: str, k: int) -> None:
    mean, std = input_check.NORMALISATIONS[k]
    declared = InputSpec(size=(SIZE, SIZE), color=color, mean=mean, std=std)  # type: ignore[arg-type]
    trials = input_check.compare_specs(Projection, declared, faces())
    good = [t for t in trials if t.verdict in ("best", "as good")]
    assert {t.spec.color for t in good} == {"bgr"}
    assert TRUE in [t.spec for t in good]
    assert {t.verdict for t in trials if t.spec.color == "rgb"} == {"worse"}
    refused = [t.spec for t in trials if t.verdict == "refused"]
    assert [s.size for s in refused] == list(input_check.SIZES)
    assert refused[1].crop == "sphereface-112x96"


def test_the_declared_spec_is_tried_first_and_no_spec_twice() -> None:
    for preset in PRESETS.values():
        found = input_check.candidates(preset)
        assert found[0] == preset
        assert len({(s.color, s.mean, s.std) for s in found}) == len(found)
    assert len(input_check.candidates(PRESETS["arcface"])) == 8
    assert len(input_check.candidates(PRESETS["sphereface"])) == 8  # 128 is 127.5 to anybody


def test_the_imagenet_numbers_turn_with_the_colours() -> None:
    turned = next(
        s
        for s in input_check.candidates(PRESETS["arcface"])
        if s.color == "bgr" and 57 < s.std[0] < 58
    )
    assert turned.mean == PRESETS["imagenet"].mean[::-1]


def test_specs_that_feed_the_same_are_as_good() -> None:
    class Deaf(Projection):
        def embed(self, images: np.ndarray) -> np.ndarray:
            return images.reshape(len(images), -1)[:, :12].astype(np.float32) - 127.5

    trials = input_check.compare_specs(Deaf, TRUE, faces())
    assert {t.verdict for t in trials[1:8]} == {"as good"}


def test_a_112x96_crop_is_the_112x112_one_without_its_sides() -> None:
    wide = np.random.default_rng(0).integers(0, 256, (2, 112, 112, 3), dtype=np.uint8)
    narrow = input_check.resized(wide, (112, 96))
    np.testing.assert_array_equal(narrow, wide[:, :, 8:104])
    np.testing.assert_array_equal(input_check.resized(narrow, (112, 112))[:, :, 8:104], narrow)
    assert input_check.resized(wide, (160, 160)).shape == (2, 160, 160, 3)


def test_a_model_whose_rows_depend_on_their_batch_is_caught() -> None:
    class Leaky(Projection):
        def embed(self, images: np.ndarray) -> np.ndarray:
            x = super().embed(images)
            return x - x.mean(axis=0) if len(x) > 1 else x

    assert input_check.behaviour(Projection(TRUE), faces(), 0).rows_are_independent
    assert not input_check.behaviour(Leaky(TRUE), faces(), 0).rows_are_independent


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    rng = np.random.default_rng(2)
    own = rng.normal(127.5, 45, (30, SIZE, SIZE, 3)).repeat(2, axis=0)
    seen = (own + rng.normal(0, 15, own.shape)).clip(0, 255).astype(np.uint8)
    for k, image in enumerate(seen):
        folder = tmp_path / "faces" / f"P{k // 2:02}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{k}.png")
    return tmp_path / "faces"


@pytest.fixture
def model(tmp_path: Path) -> list[str]:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    sys.path.insert(0, str(Path(__file__).parent))
    import small_models

    path = small_models.save(tmp_path / "small.onnx")
    return ["--model", str(path), "--preset", "arcface", "--input-size", "8x8"]


def test_the_command_says_all_of_it(
    model: list[str], photographs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["check", *model, "--data", str(photographs), "--json", "-"]) == 0
    held = json.loads(capsys.readouterr().out)
    assert held["dimension"] == 4 and held["people"] == 30 and held["fine"]
    assert held["norms"][0] <= held["norms"][1] <= held["norms"][2]
    assert sum(t["declared"] for t in held["trials"]) == 1
    assert len(held["trials"]) == 11 and "CPUExecutionProvider" in held["runtime"]
    assert run(["check", *model, "--data", str(photographs)]) == 0
    assert (
        "30 genuine and 1,740 impostor pairs of 30 people, of the images at hand"
        in capsys.readouterr().out
    )


def test_a_wrong_spec_is_exit_code_1(
    model: list[str], photographs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = [*model, "--mean", "0", "--std", "1"]  # all images point the same way
    assert run(["check", *raw, "--data", str(photographs)]) == 1
    assert "wrong: it is better fed 8x8" in capsys.readouterr().out.splitlines()[-1]


def test_without_photographs_the_user_is_told_what_to_add(
    model: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["check", *model]) == 0
    out = capsys.readouterr().out
    assert (
        "fine as far as noise shows; to try colours and scale, add --data" in out
        and "at least 20 people" in out
        and "trial" not in out
    )


def test_too_few_people_are_one_line(
    model: list[str], photographs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["check", *model, "--data", str(photographs / "P01")]) == 3
    assert "20 people with two images are needed, 0 found" in capsys.readouterr().err


def test_without_a_spec_it_is_found_and_declared(
    model: list[str], photographs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = [*model[:2], "--data", str(photographs)]
    assert run(["check", *bare]) == 0
    verdict = capsys.readouterr().out.splitlines()[-1]
    assert verdict.startswith("found by trial: 8x8 rgb nchw") or "8x8 bgr" in verdict
    declared = verdict.partition("declare it: ")[2].split()
    assert "--input-size" in declared
    assert run(["check", *bare, *declared]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("fine")
    assert run(["check", *bare[:2]]) == 3
    assert "the input spec of small.onnx is not declared" in capsys.readouterr().err


@pytest.mark.parametrize("to", ["toml", "onnx"])
def test_the_found_spec_is_written_and_obeyed(
    model: list[str], photographs: Path, capsys: pytest.CaptureFixture[str], to: str
) -> None:
    bare = ["check", *model[:2], "--data", str(photographs)]
    assert run([*bare, "--write", *(["onnx"] if to == "onnx" else [])]) == 0
    assert "written" in capsys.readouterr().err
    assert Path(model[1]).with_suffix(".evalkit.toml").exists() == (to == "toml")
    spec = resolve(model[1])
    assert spec is not None and run(bare) == 0
    out = capsys.readouterr().out
    assert f"fed as     {describe(spec)}" in out and out.splitlines()[-1].startswith("fine")
    assert run([*bare[:3], "--write"]) == 3


@pytest.mark.parametrize("dim", [1, 5])
def test_vectors_on_one_line_are_collapsed(dim: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, (8, *TRUE.size, 3), np.uint8)

    class OnOneLine:
        spec, fingerprint = TRUE, "on one line"

        def __init__(self) -> None:
            self.dim = dim

        def embed(self, x: np.ndarray) -> np.ndarray:
            length = x.reshape(len(x), -1).mean(axis=1) - 127.5  # of either sign
            return np.outer(length, 1 + np.arange(dim)).astype(np.float32)

    seen = input_check.behaviour(OnOneLine(), images, seconds=0)
    assert seen.collapsed and seen.norms[0] < seen.norms[2]


@pytest.mark.parametrize("value", ["0", "1", "np.nan"])
def test_a_collapsed_model_is_never_fine(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    value: str,
) -> None:
    module = f"collapsed_{value[-1]}"
    (tmp_path / f"{module}.py").write_text(
        "import numpy as np\nfrom evalkit.adapters.presets import PRESETS\n"
        "class Same:\n    spec, dim = PRESETS['arcface'], 3\n"
        f"    def embed(self, x): return np.full((len(x), 3), {value}, np.float32)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert run(["check", "--model", f"{module}:Same", "--trust-model"]) == 1
    assert capsys.readouterr().out.splitlines()[-1].startswith("wrong: ")


class Own:
    """An adapter that brings its own spec."""

    dim = 12

    def __init__(self, heeds: bool) -> None:
        self.spec, self._heeds = replace(TRUE, color="rgb"), heeds

    def embed(self, images: np.ndarray) -> np.ndarray:
        return Projection(self.spec if self._heeds else replace(TRUE, color="rgb")).embed(images)


def test_an_adapter_of_its_own_spec_is_fed_another_or_refuses() -> None:
    heeding, deaf = Own(True), Own(False)
    grey = replace(TRUE, color="rgb", mean=(0.0,) * 3)
    for spec in (TRUE, grey):
        made = spec_trial.Refed(heeding, spec).embed(faces())
        np.testing.assert_array_equal(made, Projection(spec).embed(faces()))
        assert heeding.spec == replace(TRUE, color="rgb")
    swapped = spec_trial.Refed(deaf, TRUE).embed(faces())
    np.testing.assert_array_equal(swapped, Projection(TRUE).embed(faces()))
    with pytest.raises(ModelError, match="takes no other"):
        spec_trial.Refed(deaf, grey).embed(faces())


@pytest.mark.slow  # half a minute of forward passes each
@pytest.mark.parametrize("preset", ["imagenet", "arcface", "adaface", "sface"])
def test_the_real_model_is_fed_as_imagenet(
    shared_data: Path, capsys: pytest.CaptureFixture[str], preset: str
) -> None:
    pytest.importorskip("onnxruntime")
    model = shared_data / "models" / "mobilefacenet_foamliu.onnx"
    data = shared_data / "lfw" / "lfw_pairs_aligned112_q90.zip"
    given = ["--model", model, "--preset", preset, "--data", data, "--people", 100, "--json", "-"]
    code = run(["check", *map(str, given)])
    trials = json.loads(capsys.readouterr().out)["trials"]
    assert trials[0]["spec"].startswith("112x112 rgb nchw, (pixel - (123.675, 116.28, 103.53))")
    assert code == (0 if preset in ("imagenet", "arcface") else 1)  # 0.23 ± 0.09 behind
    page = Path(__file__).resolve().parents[1] / "docs" / "check.md"
    text = page.read_text("utf-8").partition("\n| fed as |")[2] if page.is_file() else ""
    rows = [line.strip("|").split("|") for line in text.partition("\n\n")[0].splitlines()[2:]]
    for (_, d_prime, behind, verdict), made in zip(rows, trials, strict=False):
        assert float(d_prime) == pytest.approx(made["d_prime"], abs=0.02)
        assert float(behind.split()[0] if behind.strip() else 0) == pytest.approx(
            made["behind"], abs=0.02
        )
        assert verdict.strip() == made["verdict"]
