import json
from pathlib import Path

import numpy as np
import pytest

from evalkit.errors import ProtocolError
from evalkit.protocols.megaface import devkit
from evalkit.protocols.recipes.joint_bayesian import JointBayesian

GOLDEN = Path(__file__).parent / "golden" / "megaface"


def _same_curves(ours: dict[str, devkit.Points], official: dict[str, devkit.Points]) -> None:
    assert ours.keys() == official.keys() == {"cmc", "roc", "traditional_cmc"}
    for name, points in official.items():
        np.testing.assert_allclose(ours[name], points, rtol=0, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("name", ["a", "tie"])
@pytest.mark.parametrize("block", [100, 4096])
def test_the_official_programs_json_in_every_point(name: str, block: int) -> None:
    held = np.load(GOLDEN / f"{name}.npz")
    subject = np.unique(held["ids"], return_inverse=True)[1]
    probe, distractor = devkit.project(held["probe"]), devkit.project(held["distractor"])
    ours = devkit.evaluate(probe, subject, distractor, block=block, threads=2)
    _same_curves(ours.curves(), json.loads((GOLDEN / f"{name}.cmc.json").read_text()))
    official = json.loads((GOLDEN / f"{name}.matches.json").read_text())
    assert _rounded(ours.matches) == _rounded(official)


def _rounded(matches: list) -> list:
    """Scores as the float32 they are: the official file prints 16 digits."""
    return [
        (m["distractors"]["idx"], np.float32(m["distractors"]["score"]).tolist(), m["probes"])
        for m in matches
    ]


@pytest.mark.parametrize("size", [10, 100, 1000, 4000])
def test_the_official_programs_json_on_real_features(shared_data: Path, size: int) -> None:
    run = shared_data / "megaface" / "official_devkit_run"
    x = np.load(shared_data / "features" / "lfw_mobilefacenet_flipsum_l2.npy")
    keys = (shared_data / "features" / "lfw_paths.txt").read_text().splitlines()
    row = {key: r for r, key in enumerate(keys)}
    probes = json.loads((run / "probe_list.json").read_text())
    distractors = json.loads((run / f"dist_list.json_{size}_1").read_text())
    ours = devkit.evaluate(
        devkit.project(x[[row[p] for p in probes["path"]]]),
        np.unique(probes["id"], return_inverse=True)[1],
        devkit.project(x[[row[p] for p in distractors["path"]]]),
        threads=2,
    )
    official = json.loads((run / f"cmc_facescrub_megaface_foam_{size}_1.json").read_text())
    _same_curves(ours.curves(), official)
    if size == 10:
        matches = json.loads((run / "matches_10_first100probes.json").read_text())
        assert _rounded(ours.matches[:100]) == _rounded(matches)


def test_a_joint_bayesian_of_identity_matrices_is_the_distance() -> None:
    x = np.random.default_rng(0).normal(size=(7, 5)).astype(np.float32)
    eye = np.eye(5, dtype=np.float32)
    model = JointBayesian(x[0], eye, eye)
    given = devkit.scores(devkit.project(x - x[0]), devkit.project(x - x[0]))
    assert np.array_equal(devkit.scores(devkit.project(x, model), devkit.project(x, model)), given)
    distance = np.square(x[:, None].astype(float) - x).sum(axis=2)
    np.testing.assert_allclose(given, -distance, atol=1e-5)


def test_a_model_of_another_width_is_refused() -> None:
    model = JointBayesian(*(np.zeros(s, np.float32) for s in [(4,), (2, 4), (3, 4)]))
    with pytest.raises(ProtocolError, match="5 dimensions, the Joint Bayesian model 4"):
        devkit.project(np.zeros((2, 5)), model)


def test_without_a_genuine_pair_there_is_no_answer() -> None:
    x = devkit.project(np.eye(3))
    with pytest.raises(ProtocolError, match="no pair is genuine"):
        devkit.evaluate(x, np.arange(3), x)


def test_a_failed_template_never_helps() -> None:
    rng = np.random.default_rng(1)
    x, d = rng.normal(size=(12, 4)), rng.normal(size=(50, 4))
    subject = np.repeat(np.arange(3), 4)
    x[5], d[7] = np.nan, np.nan
    done = devkit.evaluate(devkit.project(x), subject, devkit.project(d))
    ranks = [m["probes"]["rank"] for m in done.matches]
    assert all(r == 49 for r in ranks[5])  # all finite distractors outrank it
    assert all(7 not in m["distractors"]["idx"] for k, m in enumerate(done.matches) if k != 5)


def test_draws_are_those_of_libstdcxx() -> None:
    draw = devkit._minstd_rand0()
    assert [next(draw) for _ in range(3)] == [16807, 282475249, 1622650073]
    for _ in range(10_000 - 4):
        next(draw)
    assert next(draw) == 1043618065  # the C++ standard gives the 10,000th value
