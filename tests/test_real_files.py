"""Files as others publish them: whole, with the counts and the numbers that were known before."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from evalkit.datasets import blufr, cfp, group_table, megaface, score_lists
from evalkit.images import landmarks
from evalkit.keys import read_keys
from evalkit.protocols import verification
from evalkit.protocols.metrics.similarity import normalise
from evalkit.vectors import embeddings

pytestmark = pytest.mark.once


@pytest.mark.parametrize(("split", "flip"), [("FF", "none"), ("FP", "sum")])
def test_cfp_gives_the_figures_of_an_independent_script(
    split: str, flip: str, shared_data: Path
) -> None:
    folder = shared_data / "cfp"
    reference = folder / "REFERENCE_cfp_mobilefacenet_foamliu.json"
    expected = json.loads(reference.read_text())[f"{split} flip={flip}"]
    x = np.load(folder / "cfp_mobilefacenet_foamliu_orig_and_flip.npy", mmap_mode="r")
    keys = read_keys(folder / "cfp_keys.txt")
    manifest, pairs = cfp.read(folder, split).resolve()  # type: ignore[arg-type]
    row = {key.partition(".")[0]: r for r, key in enumerate(keys)}
    views = np.asarray(x)[[row[key.partition(".")[0]] for key in manifest.keys]]
    features = views[:, 0] if flip == "none" else views.sum(axis=1)
    report = verification.evaluate(
        normalise(features), pairs, fars=["1e-1", "1e-2", "1e-3"], keys=manifest.keys
    )
    got = {name: estimate.value for name, estimate in report.metrics.items()}
    assert got["accuracy"] == pytest.approx(expected["accuracy"], abs=1e-12)
    assert got["auc"] == pytest.approx(expected["auc"], abs=1e-12)
    for far in ("1e-1", "1e-2", "1e-3"):
        assert got[f"tpr@far={far}"] == pytest.approx(expected[f"tpr@far={far}"], abs=1e-12)


def test_the_landmarks_of_cfp_are_of_every_image_of_its_list(shared_data: Path) -> None:
    folder = shared_data / "cfp"
    marks = landmarks.read(folder / "cfp_landmarks5_retinaface_m025.npz")
    assert marks.of(read_keys(folder / "cfp_keys.txt")).shape == (7000, 5, 2)


@pytest.mark.parametrize(
    ("name", "scores", "genuine"),
    [
        ("dev-4col.txt", 910, 390),
        ("test-5col.txt", 910, 390),
        ("scores-cmc-4col.txt", 2000, 100),
        ("scores-cmc-5col.txt", 2000, 100),
        ("scores-nonorm-openset-dev", 1000, 50),
    ],
)
def test_the_score_files_of_bob(name: str, scores: int, genuine: int, shared_data: Path) -> None:
    held = score_lists.read(shared_data / "peers_bob" / name)
    assert held.claims is not None and held.genuine is not None
    assert (len(held.score), int(held.genuine.sum())) == (scores, genuine)


def test_features_of_magface_keep_their_lengths(shared_data: Path) -> None:
    made = embeddings.read(shared_data / "formats" / "magface_toy_feat.list")
    assert made.features.shape == (10, 512) and made.keys[0] == "toy_imgs/0.jpg"
    norms = np.linalg.norm(made.features, axis=1)
    assert (np.diff(norms) > 0).all() and norms[0] == pytest.approx(21.78, abs=0.01)


@pytest.mark.parametrize("size", [100, 1000, 10000])
def test_the_lists_of_megaface_2(size: int, shared_data: Path) -> None:
    path = shared_data / "megaface2" / f"megaface_features_list.json_{size}_1"
    assert len({*megaface.read_distractor_list(path).keys}) == size


def test_the_configuration_of_blufr(shared_data: Path) -> None:
    config = blufr.read_config(shared_data / "blufr" / "blufr_lfw_config.mat")
    assert (len(config.keys), len(config.trials)) == (13233, 10)
    assert len({*config.subject.tolist()}) == 5749


def test_the_qualities_of_xqlfw(shared_data: Path) -> None:
    table = group_table.read(shared_data / "quality" / "faceqan_xqlfw_quality.csv")
    quality = np.array(table.columns["quality"], np.float64)
    assert len({*table.names}) == 13233 and np.median(quality) == pytest.approx(0.3024, abs=5e-5)
    assert (quality.min(), quality.max()) == pytest.approx((0.0008, 0.7235), abs=5e-5)


@pytest.mark.parametrize(
    ("name", "order"),
    [("sphereface_pytorch_lfw_landmark.txt", "xy"), ("pfe_ldmark_lfw_mtcnncaffe.txt", "mtcnn")],
)
def test_both_files_of_lfws_landmarks(name: str, order: str, shared_data: Path) -> None:
    marks = landmarks.read(shared_data / "lfw_landmarks" / name, order)
    assert marks.points.shape == (13233, 5, 2) and not np.isnan(marks.points).all(axis=(1, 2)).any()
