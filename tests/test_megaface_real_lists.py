"""The devkit's own lists from end to end: FG-NET's probes, FaceScrub's with both noise lists.

The images cannot be had, so features are drawn: whatever the vectors are, ranks are defined.
"""

import json
from pathlib import Path

import numpy as np
import pytest

from evalkit.cli import run
from evalkit.datasets import megaface
from evalkit.keys import ending_in
from evalkit.protocols.metrics.similarity import normalise
from evalkit.vectors import devkit_matrix

pytestmark = pytest.mark.once


def _drawn(subject: np.ndarray, others: int, noise: float) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    centre = rng.normal(size=(subject.max() + 1, 24))
    x = centre[subject] + noise * rng.normal(size=(len(subject), 24))
    return normalise(x), normalise(rng.normal(size=(others, 24)))


def _rank_1(x: np.ndarray, d: np.ndarray, subject: np.ndarray) -> tuple[float, int]:
    """Of all ordered pairs of a subject, those with no distractor above, in float64."""
    own, best = x.astype(float) @ x.T, (x.astype(float) @ d.T).max(axis=1)
    mate = np.equal.outer(subject, subject) & ~np.eye(len(x), dtype=bool)
    return float((own >= best[:, None])[mate].mean()), int(mate.sum())


def _numbers(capsys: pytest.CaptureFixture[str], *words: str | Path) -> dict:
    capsys.readouterr()
    assert run([*map(str, words), "--json", "-", "--quiet"]) == 0, capsys.readouterr().err
    return json.loads(capsys.readouterr().out)["metrics"]


def test_fgnet_from_the_devkits_folder_and_from_a_feature_file(
    shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lists = shared_data / "megaface" / "templatelists"
    probe_list, distractor_list = (
        lists / "fgnet_feature_list.json",
        lists / "megaface_features_list.json_1000_1",
    )
    probes = megaface.read_probe_list(probe_list)
    others = megaface.read_distractor_list(distractor_list)
    x, d = _drawn(probes.subject, 1000, 0.9)
    for folder, keys, rows in (("fgnet", probes.keys, x), ("megaface", others.keys, d)):
        for key, row in zip(keys, rows, strict=True):
            path = tmp_path / folder / f"{key}_drawn.bin"
            path.parent.mkdir(parents=True, exist_ok=True)
            devkit_matrix.write_feature(path, row)
    asked = ["megaface", "--probe-list", probe_list, "--distractor-list", distractor_list]
    devkit = ["--file-ending", "_drawn.bin", "--devkit-out", tmp_path / "out"]
    folders = ["--features", tmp_path / "fgnet", "--distractor-features", tmp_path / "megaface"]
    found = _numbers(capsys, *asked, *folders, *devkit)
    rank_1, searches = _rank_1(x, d, probes.subject)
    assert (len(probes.keys), probes.subject.max() + 1, searches) == (975, 82, 11_084)
    held = found["rank-1@distractors=1000"]
    assert (held["value"], held["n"]) == (rank_1, searches) and 0.1 < rank_1 < 0.9
    assert held["low"] < rank_1 < held["high"]
    written = json.loads((tmp_path / "out/cmc_fgnet_megaface_drawn_1000_1.json").read_text())
    assert written["cmc"][1][0] == pytest.approx(rank_1, abs=1e-7)
    assert (
        len(json.loads((tmp_path / "out/matches_fgnet_megaface_drawn_1000_1.json").read_text()))
        == 975
    )
    for name in ("fgnet", "megaface"):
        assert run(["import", str(tmp_path / name), str(tmp_path / f"{name}.h5"), "--quiet"]) == 0
    stores = ["--features", tmp_path / "fgnet.h5"]
    stores += ["--distractor-features", tmp_path / "megaface.h5"]
    assert _numbers(capsys, *asked, *stores) == found


@pytest.mark.slow  # 3,530 probes, 10,000 distractors, three times: 10 s
def test_both_noise_lists_by_both_rules(
    shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lists, noises = (shared_data / "megaface" / n for n in ("templatelists", "noise_lists"))
    probe_list = lists / "facescrub_features_list.json"
    distractor_list = lists / "megaface_features_list.json_10000_1"
    probes = megaface.read_probe_list(probe_list)
    others = megaface.read_distractor_list(distractor_list)
    first, second = (noises / f"{n}_noises.txt" for n in ("facescrub", "megaface"))
    bad = ending_in(probes.keys, megaface.read_noises(first)) >= 0
    wrong = ending_in(others.keys, megaface.read_noises(second)) >= 0
    assert (bad.sum(), wrong.sum()) == (24, 7)
    x, d = _drawn(probes.subject, 10_000, 0.5)
    x[bad] = np.roll(x, 1000, axis=0)[bad]  # somebody else
    d[wrong] = x[~bad][:: len(x) // 7][:7]  # the probes' people
    np.save(tmp_path / "x.npy", np.concatenate([x, d]))
    (tmp_path / "keys.txt").write_text("\n".join([*probes.keys, *others.keys]))
    found = _numbers(
        capsys,
        *("megaface", "--probe-list", probe_list, "--distractor-list", distractor_list),
        *("--features", tmp_path / "x.npy", "--keys", tmp_path / "keys.txt"),
        *("--clean", "insightface", "--clean", "facex"),
        *("--probe-noises", first, "--distractor-noises", second),
    )
    name = "rank-1@distractors=10000"
    assert found[name]["value"] == _rank_1(x, d, probes.subject)[0]
    for row in np.flatnonzero(bad):
        of = (probes.subject == probes.subject[row]) & ~bad
        x[row] = normalise(x[of].astype(np.float64).sum(axis=0)[None])[0]
    never = _rank_1(x, d[~wrong], probes.subject)[0]
    assert found[f"{name},cleaned=insightface"]["value"] == never
    d[wrong] = 0
    assert found[f"{name},cleaned=facex"]["value"] == _rank_1(x, d, probes.subject)[0]
    assert {found[n]["n"] for n in found if n.startswith(name)} == {153_634}
