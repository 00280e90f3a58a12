"""`--recipe` on every protocol: what of it is applied, what is refused, how images were fed."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
import pytest

from evalkit.adapters.presets import PRESETS, describe
from evalkit.cli import cli, run
from evalkit.cli.terminal import be_quiet
from evalkit.cli.vector_options import input_provenance, warn_if_slow
from evalkit.protocols import blas
from evalkit.protocols.recipes import RECIPES
from evalkit.types import Manifest
from evalkit.vectors.store import FeatureStore

pytestmark = pytest.mark.once

PEOPLE, IMAGES = 6, 4
KEYS = [f"p{i // IMAGES}/p{i // IMAGES}_{i % IMAGES:04d}.jpg" for i in range(PEOPLE * IMAGES)]
Command = Callable[[str], list[str]]


def views(seed: int = 0) -> np.ndarray:
    """Two views an image, of unequal lengths."""
    rng = np.random.default_rng(seed)
    who = np.repeat(np.arange(PEOPLE), IMAGES)
    x = rng.normal(size=(PEOPLE, 1, 8))[who] + rng.normal(0, 0.7, (len(who), 2, 8))
    return (x * rng.uniform(0.2, 3, (len(who), 2, 1))).astype(np.float32)


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.sqrt((x * x).sum(axis=-1, keepdims=True))


def side_by_side(x: np.ndarray) -> np.ndarray:
    y = x.astype(np.float64)
    return np.hstack([unit(y[:, 0]), unit(y[:, 1])]).astype(np.float32)


def trillion(name: str) -> list[str]:
    who = [str(i // IMAGES) if i < 12 else "-" for i in range(len(KEYS))]
    Path("who.txt").write_text("\n".join(who))
    words = ["trillion", "--subjects", "who.txt", "--far", "1e-1", "--fpir", "0.5"]
    return [*words, "--features", f"{name}.npy"]


def ijb(name: str) -> list[str]:
    media = [f"{key} {i // 2} {i // 2}" for i, key in enumerate(KEYS)]
    Path("media.txt").write_text("\n".join(media))
    pairs = [f"{a} {b} {int(a // 2 == b // 2)}" for a in range(12) for b in range(a)]
    Path("pairs.txt").write_text("\n".join(pairs))
    words = ["ijb", "--media", "media.txt", "--pairs", "pairs.txt", "--far", "0.1"]
    return [*words, "--features", f"{name}.npz"]


def blufr(name: str) -> list[str]:
    from scipy.io import savemat

    def cells(*rows: range) -> np.ndarray:
        held = np.empty((1, len(rows)), object)
        held[0] = [np.array(r, float)[:, None] for r in rows]
        return held

    names = np.empty((len(KEYS), 1), object)
    names[:, 0] = [Path(k).name for k in KEYS]
    trials = {
        "testIndex": cells(range(1, 25), range(1, 25)),
        "galIndex": cells(range(1, 13, 4), range(9, 21, 4)),
        "probIndex": cells(range(2, 25, 2), range(2, 25, 2)),
    }
    labels = np.repeat(np.arange(1, PEOPLE + 1), IMAGES)[:, None]
    savemat("c.mat", {"imageList": names, "labels": labels, **trials})
    words = ["blufr", "--config", "c.mat", "--far", "0.1", "--fpir", "0.5"]
    return [*words, "--features", f"{name}.npz"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    x = views()
    of_blufr = [f"{Path(k).name[:-9]}/{Path(k).name}" for k in KEYS]
    for name, held in (("two", x), ("fused", side_by_side(x)), ("first", x[:, 0])):
        np.save(f"{name}.npy", held)
        np.savez(f"{name}.npz", features=held, keys=np.array(of_blufr))
    return tmp_path


def told(capsys: pytest.CaptureFixture[str], words: list[str]) -> dict:
    capsys.readouterr()
    assert run([*words, "--json", "-", "--quiet"]) == 0, capsys.readouterr().err
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("command", [trillion, ijb, blufr])
def test_a_recipe_fuses_as_its_system_does(
    here: Path, capsys: pytest.CaptureFixture[str], command: Command
) -> None:
    got = told(capsys, [*command("two"), "--recipe", "facenet"])
    assert got["metrics"] == told(capsys, command("fused"))["metrics"]
    assert got["provenance"]["recipe"] == f"facenet {RECIPES['facenet'].digest()}"
    assert got["metrics"] != told(capsys, [*command("two"), "--flip", "concat"])["metrics"]
    got = told(capsys, [*command("two"), "--recipe", "softmax"])  # the first view
    assert got["metrics"] == told(capsys, command("first"))["metrics"]
    got = told(capsys, [*command("two"), "--recipe", "insightface"])
    assert got["metrics"] == told(capsys, [*command("two"), "--flip", "sum"])["metrics"]


@pytest.mark.parametrize("command", [trillion, ijb, blufr])
def test_a_recipe_for_lists_of_pairs_is_refused_where_there_are_none(
    here: Path, capsys: pytest.CaptureFixture[str], command: Command
) -> None:
    for name, recipe in RECIPES.items():
        if recipe.unfit:
            capsys.readouterr()
            assert run([*command("two"), "--recipe", name]) == 2
            said = capsys.readouterr()
            assert f"recipe {name!r} {recipe.unfit}" in said.err
            assert "here go: softmax, facenet, l-softmax" in said.err and not said.out
    assert run([*command("first"), "--recipe", "insightface"]) == 3
    assert "needs the mirrored view" in capsys.readouterr().err
    told(capsys, [*command("first"), "--recipe", "insightface", "--flip", "none"])


def test_every_protocol_on_vectors_takes_a_recipe() -> None:
    context = click.Context(cli)
    held = {name: cli.get_command(context, name) for name in cli.list_commands(context)}
    takes = {n for n, c in held.items() if c and "recipe_name" in {p.name for p in c.params}}
    of_pairs = {"lfw", "verify", "bench", "quality"}
    of_sets = {"people", "megaface", "trillion", "blufr"}
    assert takes == of_pairs | of_sets | {"ijb", "ijba", "ytf", "search"}


def test_a_model_fed_as_the_recipe_takes_it(capsys: pytest.CaptureFixture[str]) -> None:
    recipe, spec = RECIPES["sphereface"], PRESETS["sphereface"]
    for same in (spec, replace(spec, layout="nhwc")):
        held = input_provenance(recipe, same)["recipe_input"]
        assert held.startswith("as sphereface takes them: 112x96")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "change",
    [{"size": (112, 112)}, {"color": "rgb"}, {"std": (127.5,) * 3}, {"crop": "arcface-112"}],
)
def test_a_model_fed_otherwise_is_warned_of_and_kept(
    capsys: pytest.CaptureFixture[str], change: dict
) -> None:
    spec = replace(PRESETS["sphereface"], **change)
    kept = input_provenance(RECIPES["sphereface"], spec)["recipe_input"]
    assert kept.startswith(f"not as sphereface takes them: {describe(spec)}; sphereface: 112x96")
    assert f"these are fed as {describe(spec)}" in capsys.readouterr().err
    with click.Context(cli):
        be_quiet(True)
        input_provenance(RECIPES["sphereface"], spec)
    assert capsys.readouterr().err == ""


def test_of_features_made_elsewhere_nobody_knows(here: Path) -> None:
    kept = input_provenance(RECIPES["sphereface"], here / "two.npz")["recipe_input"]
    assert kept.startswith("not known: features computed elsewhere; sphereface: 112x96 bgr")
    unstated = input_provenance(RECIPES["softmax"], here / "two.npz")
    assert unstated == {"recipe_input": "not stated by softmax"}
    assert input_provenance(None, here / "two.npz") == {}


def test_a_feature_file_remembers_how_its_images_were_fed(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = Manifest(("a", "b"), np.array([0, 1], np.int32))
    for name in ("sphereface", "arcface"):
        key = {"model": "m", "input spec": describe(replace(PRESETS[name], layout="nhwc"))}
        FeatureStore.create(here / f"{name}.h5", manifest, dim=4, key=key).close()
    recipe = RECIPES["sphereface"]
    assert input_provenance(recipe, here / "sphereface.h5")["recipe_input"].startswith(
        "as sphereface"
    )
    assert input_provenance(recipe, here / "arcface.h5")["recipe_input"].startswith(
        "not as sphereface"
    )
    assert "warning: recipe 'sphereface' is of images 112x96 bgr" in capsys.readouterr().err


def test_the_report_of_a_model_says_how_it_was_fed(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    import small_models
    from PIL import Image

    monkeypatch.setenv("EVALKIT_CACHE", str(here / "cache"))
    small_models.save(here / "m.onnx")
    rng = np.random.default_rng(0)
    for key in KEYS:
        (here / "x" / key).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).save(here / "x" / key, "PNG")
    words = ["--model", "m.onnx", "--data", "x", "--input-size", "8x8", "--color", "rgb"]
    words += ["--mean", "127.5", "--std", "128", "--recipe", "insightface"]
    (here / "list.txt").write_text(
        "\n".join(f"{a} {b} {int(a[:2] == b[:2])}" for a in KEYS for b in KEYS if a < b)
    )
    for command in (["verify", "list.txt", "--far", "1e-1"], trillion("two")[:-2], ijb("two")[:-2]):
        kept = told(capsys, [*command, *words])["provenance"]
        assert kept["input spec"] == "8x8 rgb nchw, (pixel - 127.5) / 128, arcface-112"
        assert kept["recipe_input"].startswith("not as insightface takes them: 8x8 rgb nchw")
        assert kept["recipe_fields"]["input"] == "arcface"


def test_how_joint_bayesian_becomes_quick_is_said_where_it_is_slow(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(blas, "find_spec", lambda name: None)
    for name, said in (("deepid2", 1), ("all", 1), ("sphereface", 0), (None, 0)):
        warn_if_slow(name)
        assert capsys.readouterr().err.count("pip install 'face-evalkit[threads]'") == said
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    warn_if_slow("deepid2")
    assert capsys.readouterr().err == ""
