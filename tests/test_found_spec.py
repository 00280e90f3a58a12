"""A bare model is fed by the spec that a trial on development images finds, and it is said."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evalkit.adapters import presets
from evalkit.adapters.presets import PRESETS
from evalkit.cli import run
from evalkit.datasets import lfw
from evalkit.embedding import development, found_spec
from evalkit.embedding.input_check import SpecTrial
from evalkit.errors import DataError, ModelError, UndeclaredInputError
from evalkit.images import encoded
from evalkit.keys import subjects_of
from evalkit.types import InputSpec, Manifest

pytestmark = pytest.mark.once

sys.path.insert(0, str(Path(__file__).parent))
PEOPLE, SIZE = 40, 8


def faces(noise: float = 25.0) -> np.ndarray:
    rng = np.random.default_rng(0)
    own = rng.normal(127.5, 45, (PEOPLE, SIZE, SIZE)).repeat(2, axis=0)
    images = rng.normal(127.5, 45, (2 * PEOPLE, SIZE, SIZE, 3))
    images[..., 2] = own + rng.normal(0, noise, own.shape)  # only blue tells people apart
    return images.clip(0, 255).astype(np.uint8)


class Blue:
    """A model that looks at its first channel, of images of one size in one layout."""

    dim = 12

    def __init__(self, spec: InputSpec) -> None:
        if (spec.size, spec.layout) != ((SIZE, SIZE), "nhwc"):
            raise ModelError(f"no {spec.size} {spec.layout}")
        self.spec = spec

    def embed(self, images: np.ndarray) -> np.ndarray:
        x = images[..., ::-1] if self.spec.color == "bgr" else images
        x = (x - np.array(self.spec.mean)) / self.spec.std
        return x[..., 0].reshape(len(x), -1)[:, : self.dim].astype(np.float32)


def of_size(spec: InputSpec) -> np.ndarray:
    if spec.size != (SIZE, SIZE):
        raise DataError("of another size")
    return faces()


def test_size_layout_and_colours_are_found() -> None:
    trials = found_spec.try_specs(Blue, of_size, (None, None), (SIZE, SIZE))
    found = found_spec.best(trials, "m", "40 people")
    assert (found.spec.size, found.spec.layout, found.spec.color) == ((8, 8), "nhwc", "bgr")
    assert found.told.startswith("found by trial: 8x8 bgr nhwc") and "40 people" in found.told


def test_what_no_size_can_load_is_the_first_reason() -> None:
    with pytest.raises(DataError, match="of another size"):
        found_spec.try_specs(Blue, of_size, (None, None), (112, 112))
    with pytest.raises(ModelError, match=r"no \(8, 8\) nchw"):
        found_spec.try_specs(Blue, of_size, ((SIZE, SIZE), "nchw"), (SIZE, SIZE))


def test_two_specs_that_cannot_be_told_apart_are_both_named() -> None:
    class Deaf(Blue):
        def embed(self, images: np.ndarray) -> np.ndarray:
            return images[..., 2].reshape(len(images), -1)[:, :12].astype(np.float32) - 127.5

    trials = found_spec.try_specs(Deaf, of_size, (None, None), (SIZE, SIZE))
    told = found_spec.best(trials, "m", "faces").told
    assert "which cannot be told from 8x8" in told and "0.00 ± 0.00 behind" in told


def test_of_equal_specs_one_with_a_name_is_taken() -> None:
    nameless = replace(PRESETS["magface"], color="rgb")
    trials = [
        SpecTrial(nameless, 5.2),
        SpecTrial(PRESETS["adaface"], 5.15, 0.05, 0.1, "as good"),
        SpecTrial(PRESETS["arcface"], 5.1, 0.1, 0.1, "as good"),
        SpecTrial(PRESETS["imagenet"], 3.0, 2.2, 0.1, "worse"),
    ]
    found = found_spec.best(trials, "m", "faces")
    assert found.spec == PRESETS["adaface"]
    behind = "(0.05 ± 0.10 ahead), arcface; a preset is preferred; faces"
    assert found.told.startswith("found by trial: adaface, d' 5.15, which cannot be told from 112")
    assert found.told.endswith(behind)
    alone = [trials[0], *(replace(t, verdict="worse") for t in trials[1:])]
    assert found_spec.preferred(alone).spec == nameless


def test_of_view_1_images_that_are_not_measured_go_first() -> None:
    tested = lfw.official_pairs().resolve()[0]
    fetched = development.view_1(tested.keys)
    assert len(set(fetched)) == 200 and not set(fetched) & set(tested.keys)
    source = encoded(sorted({*tested.keys, *fetched}), lambda row: b"")
    chosen = development.choose(source, tested, 100)
    assert set(chosen.keys) == set(fetched) and not chosen.measured
    assert str(chosen).endswith("LFW's View 1")
    more = development.choose(source, tested, 300)
    assert len(more.keys) == 600 and more.keys[:200] == chosen.keys and more.measured


def test_a_model_that_tells_nobody_apart_stops() -> None:
    class Collapsed(Blue):
        def embed(self, images: np.ndarray) -> np.ndarray:
            return np.ones((len(images), 12), np.float32)

    trials = found_spec.try_specs(Collapsed, of_size, (None, None), (SIZE, SIZE))
    with pytest.raises(ModelError, match=r"in none of \d+ ways tried does it separate people"):
        found_spec.best(trials, "m", "faces")


def test_view_1_goes_before_the_people_at_hand() -> None:
    listed = lfw.development_pairs()
    assert (len(listed), int(listed.genuine.sum())) == (2200, 1100)
    known = sorted({*listed.left, *listed.right})
    source = encoded([f"lfw/{key}" for key in known], lambda row: b"")
    manifest = Manifest(source.keys, subjects_of(source.keys))
    view_1 = development.choose(source, manifest, 100)
    assert view_1.of == "LFW's View 1" and len(view_1.keys) == 200
    assert str(view_1).endswith("LFW's View 1 (200 of these 200 images are measured too)")
    other = Manifest(("lfw/Nobody/Nobody_0001.jpg",), np.zeros(1, np.int32))
    assert str(development.choose(source, other, 100)).endswith(" 100 people, LFW's View 1")
    assert len({lfw.subject(key) for key in view_1.keys}) == 100
    genuine = {frozenset(p) for p in zip(listed.left, listed.right, strict=True)}
    pairs = zip(view_1.keys[::2], view_1.keys[1::2], strict=True)
    assert all(frozenset(k.removeprefix("lfw/") for k in pair) in genuine for pair in pairs)
    own = encoded([f"P{k // 3}/{k}.png" for k in range(90)], lambda row: b"")
    at_hand = development.choose(own, own.manifest(), 25)
    assert at_hand.of == "of the images at hand" and len(at_hand.keys) == 50
    assert str(at_hand).startswith("25 genuine and 1,200 impostor pairs of 25 people")
    with pytest.raises(DataError, match="20 people with two images are needed, 2 found"):
        few = encoded(own.keys[:6], lambda row: b"")
        development.choose(few, few.manifest(), 25)


@pytest.fixture
def at(tmp_path: Path) -> Path:
    """Faces by person, a list of their pairs, and an ONNX model that looks at its first channel."""
    pytest.importorskip("onnxruntime")
    onnx = pytest.importorskip("onnx")
    import small_models

    for k, image in enumerate(faces()):
        folder = tmp_path / "faces" / f"P{k // 2:02}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{k}.png")
    name = [f"P{k // 2:02}/{k}.png" for k in range(2 * PEOPLE)]
    lines = [f"{name[k]} {name[k + 1]} 1" for k in range(0, 2 * PEOPLE, 2)]
    lines += [f"{name[k]} {name[k - 1]} 0" for k in range(2, 2 * PEOPLE, 2)]
    (tmp_path / "pairs.txt").write_text("\n".join(lines))
    model = onnx.load(small_models.save(tmp_path / "m.onnx"))
    weights = small_models.weights()
    weights[SIZE * SIZE :] = 0
    model.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(weights, "w"))
    onnx.save(model, tmp_path / "m.onnx")
    return tmp_path


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVALKIT_CACHE", str(tmp_path / "cache"))


def verify(at: Path, *more: str) -> list[str]:
    given = ["--data", str(at / "faces"), "--json", str(at / "r.json")]
    return ["verify", str(at / "pairs.txt"), "--model", str(at / "m.onnx"), *given, *more]


def test_a_bare_model_is_measured_as_if_its_spec_were_declared(
    at: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(verify(at)) == 0
    said = capsys.readouterr().err.splitlines()
    line = next(one for one in said if one.startswith("input spec found by trial: 8x8 bgr nchw"))
    assert "of 40 people, of the images at hand" in line
    bare = json.loads((at / "r.json").read_text())
    assert bare["provenance"].pop("spec") == line.removeprefix("input spec ")
    options = next(one for one in said if one.startswith("declare it: "))
    assert run(verify(at, *options.removeprefix("declare it: ").split())) == 0
    assert "found by trial" not in capsys.readouterr().err
    declared = json.loads((at / "r.json").read_text())
    assert declared["metrics"] == bare["metrics"]
    assert declared["provenance"]["input spec"] == bare["provenance"]["input spec"]


def test_a_found_spec_is_remembered_for_this_model_and_these_images(
    at: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = ["--out", str(at / "kept.json")]

    def line() -> str:
        assert run([*verify(at)[:-2], *kept]) == 0
        return next(x for x in capsys.readouterr().err.splitlines() if x.startswith("input spec "))

    first = line()
    again = line()
    assert again == first.replace("input spec ", "input spec found earlier, ")
    report = json.loads((at / "kept.json").read_text())
    assert report["provenance"]["cache"].endswith("embedded; input spec found earlier")
    assert report["provenance"]["spec"] == first.removeprefix("input spec ")
    (place,) = (at / "cache" / "specs").iterdir()
    place.write_text('{"spec": {"size": [8]}}')
    assert line() == first
    image = at / "faces" / "P00" / "0.png"
    Image.fromarray(faces()[2]).save(image)  # other pixels under the same name
    assert "found earlier" not in line()
    with (at / "m.onnx").open("ab") as f:
        f.write(b"\x32\x01x")  # a model version's text: another file, the same network
    assert "found earlier" not in line()
    assert run(["cache", "clear"]) == 0 and not [*(at / "cache" / "specs").iterdir()]
    assert "found earlier" not in line()


def test_the_spec_of_a_plug_ins_model_is_found_anew(
    at: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The plug-in reads a second file, which nobody but itself knows of."""

    class TwoFiles(Blue):
        name = "twofiles"

        def __init__(self, model: str, spec: InputSpec | None, **_: object) -> None:
            if spec is None:
                raise UndeclaredInputError("not declared")
            super().__init__(spec)
            self.first = Path(model).with_suffix(".weights").read_text() == "first channel"

        def embed(self, images: np.ndarray) -> np.ndarray:
            return super().embed(images if self.first else images[..., ::-1])

    class Entry:
        name = "twofiles"

        def load(self) -> type:
            return TwoFiles

    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: [Entry()])
    (at / "m.twofiles").write_text("the network alone")
    given = ["--data", str(at / "faces"), "--json", str(at / "r.json")]
    fed = []
    for weights in ("first channel", "last channel"):
        (at / "m.weights").write_text(weights)
        line = ["verify", str(at / "pairs.txt"), "--model", str(at / "m.twofiles"), *given]
        assert run(line) == 0, capsys.readouterr().err
        fed.append(json.loads((at / "r.json").read_text())["provenance"]["input spec"])
    assert "8x8 bgr nhwc" in fed[0] and "8x8 rgb nhwc" in fed[1]


def test_a_bare_model_that_separates_nobody_is_one_line(
    at: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import onnx
    import small_models

    model = onnx.load(at / "m.onnx")
    model.graph.initializer[0].CopyFrom(
        onnx.numpy_helper.from_array(np.zeros_like(small_models.weights()), "w")
    )
    onnx.save(model, at / "m.onnx")
    assert run(verify(at)) == 3
    said = capsys.readouterr().err.splitlines()
    assert "in none of 8 ways tried does it separate people" in said[0] and len(said) == 2


def test_with_too_few_people_it_is_to_be_declared(
    at: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (at / "pairs.txt").write_text("P00/0.png P00/1.png 1\nP00/0.png P01/2.png 0\n")
    assert run(verify(at)) == 3
    said = capsys.readouterr().err
    assert "cannot be found by trial: 20 people with two images are needed, 1 found" in said
    assert "|sphereface, or give two images or more of at least 20 people" in said


def test_images_that_are_missing_are_no_matter_of_the_spec(
    at: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["lfw", *verify(at)[2:]]) == 3
    assert capsys.readouterr().err.startswith(
        "evalkit: error: images are missing for 7701 of 7701 images: AJ_Lamas/"
    )


def test_the_options_that_a_spec_lacks_are_named() -> None:
    with pytest.raises(ModelError) as e:
        presets.build({"mean": 127.5})
    assert e.value.message == "the input spec lacks size, color, std"
    assert e.value.hint == "give --input-size, --color, --std, or --preset NAME as a base"


def test_a_spec_is_spelled_by_its_nearest_preset() -> None:
    for name, spec in presets.PRESETS.items():
        assert presets.name(spec) == name and presets.options(spec) == f"--preset {name}"
    odd = presets.build({"preset": "imagenet", "size": (8, 9), "layout": "nhwc", "mean": 0.5})
    assert presets.options(odd) == "--preset imagenet --input-size 8x9 --mean 0.5 --layout nhwc"
    assert (
        presets.usual(presets.build({"preset": "arcface", "std": 128}))
        == (presets.PRESETS["arcface"])
    )


@pytest.mark.slow  # a minute of forward passes
def test_the_bare_line_on_a_real_model_is_its_declared_run(
    shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxruntime")
    (tmp_path / "m.onnx").write_bytes(
        (shared_data / "models" / "mobilefacenet_foamliu.onnx").read_bytes()
    )
    data = str(shared_data / "lfw" / "lfw_pairs_aligned112_q90.zip")
    line = ["lfw", "--model", str(tmp_path / "m.onnx"), "--data", data, "--json", "-"]
    assert run(line) == 0
    told = capsys.readouterr()
    assert "input spec found by trial: imagenet" in told.err and "LFW's View 1" in told.err
    assert run([*line, "--preset", "imagenet"]) == 0
    assert json.loads(capsys.readouterr().out)["metrics"] == json.loads(told.out)["metrics"]
