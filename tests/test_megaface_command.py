import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from evalkit import cli
from evalkit.errors import DataError, ReportError
from evalkit.vectors import devkit_matrix

pytestmark = pytest.mark.once


class Set:
    """A small MegaFace on disk: 4 x 5 probes, 30 distractors."""

    def __init__(self, folder: Path) -> None:
        rng = np.random.default_rng(0)
        subject = np.repeat(np.arange(4), 5)
        self.x = (rng.normal(size=(4, 8))[subject] + 0.7 * rng.normal(size=(20, 8))).astype("f4")
        self.d = rng.normal(size=(30, 8)).astype("f4")
        self.probes = [f"P_{s}/P_{s}_{i}.png" for i, s in enumerate(subject)]
        self.distractors = [f"1/2@N0/{i}_0.jpg" for i in range(30)]
        self.folder = folder
        (folder / "P.json").write_text(
            json.dumps({"path": self.probes, "id": [f"P_{s}" for s in subject]})
        )
        (folder / "D.json_30_1").write_text(json.dumps({"path": self.distractors}))
        np.save(folder / "F.npy", np.concatenate([self.d, self.x]))
        (folder / "K.txt").write_text("\n".join(self.distractors + self.probes))

    def run(self, *more: str, features: tuple[str, ...] = ("F.npy", "--keys", "K.txt")) -> Result:
        options = ["--features", *features, "--probe-list", "P.json"]
        options += ["--distractor-list", "D.json_30_1"]
        paths = [str(self.folder / o) if (self.folder / o).exists() else o for o in options]
        more = tuple(str(self.folder / o) if (self.folder / o).exists() else o for o in more)
        return CliRunner().invoke(cli.cli, ["megaface", *paths, *more])


@pytest.fixture
def small(tmp_path: Path) -> Set:
    return Set(tmp_path)


def test_embeddings_from_elsewhere_give_one_json_document(small: Set) -> None:
    done = small.run("--json", "-", "--far", "1e-2")
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert report["protocol"] == "megaface"
    assert set(report["metrics"]) == {
        "rank-1@distractors=30",
        "rank-10@distractors=30",
        "tpr@far=1e-2,distractors=30",
        "tpr@far=1e-2,distractors=30,rule=devkit",
        "rank-1@distractors=30,rule=devkit",
        "rank-10@distractors=30,rule=devkit",
    }
    assert report["metrics"]["rank-1@distractors=30"]["n"] == 80


def test_the_devkits_folder_gives_the_same(small: Set) -> None:
    _written(small, np.concatenate([small.x, small.d]))
    of_file = json.loads(small.run("--json", "-").stdout)
    done = small.run("--json", "-", "--file-ending", "_foam.bin", features=("bins",))
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["metrics"] == of_file["metrics"]


def _written(small: Set, x: np.ndarray) -> None:
    for key, row in zip(small.probes + small.distractors, x, strict=True):
        path = small.folder / "bins" / f"{key}_foam.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        devkit_matrix.write_feature(path, row)


@pytest.mark.parametrize("empty", [0.0, np.nan])
def test_an_image_without_a_template_is_refused_or_fails(small: Set, empty: float) -> None:
    """A probe of zeros has the score 0 with all, and so no distractor above its mates."""
    x = np.concatenate([small.x, small.d])
    x[3] = empty
    _written(small, x)
    (small.folder / "K2.txt").write_text("\n".join(small.probes + small.distractors))
    np.save(small.folder / "F2.npy", x)
    rates = []
    for features in (("bins", "--file-ending", "_foam.bin"), ("F2.npy", "--keys", "K2.txt")):
        refused = small.run(features=features)
        assert isinstance(refused.exception, DataError)
        assert "P_0/P_0_3.png" in refused.exception.message
        assert "--allow-failures" in refused.exception.hint
        done = small.run("--json", "-", "--allow-failures", features=features)
        rates.append(json.loads(done.stdout)["metrics"]["rank-1@distractors=30"]["value"])
    x[3] = np.nan
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    score = np.nan_to_num(unit @ unit.T, nan=-9)
    subject = np.repeat(np.arange(4), 5)
    mates = [(i, j) for i in range(20) for j in range(20) if i != j and subject[i] == subject[j]]
    right = [3 not in (i, j) and score[i, j] >= score[i, 20:].max() for i, j in mates]
    assert rates == [pytest.approx(np.mean(right))] * 2


def test_a_probe_among_the_distractors_is_refused(small: Set) -> None:
    listed = {"path": [*small.distractors[:-1], small.probes[0]]}
    (small.folder / "D.json_30_1").write_text(json.dumps(listed))
    done = small.run()
    assert "D.json_30_1 lists 1 probes as distractors: P_0/P_0_0.png" in str(done.exception)


def test_the_devkits_json_is_written(small: Set) -> None:
    out = small.folder / "out"
    done = small.run("--quiet", "--devkit-out", str(out), "--file-ending", "_foam.bin")
    assert done.exit_code == 0, done.output
    held = json.loads((out / "cmc_facescrub_megaface_foam_30_1.json").read_text())
    assert set(held) == {"cmc", "roc", "traditional_cmc"} and held["cmc"][1][-1] == 1
    assert len(json.loads((out / "matches_facescrub_megaface_foam_30_1.json").read_text())) == 20


def test_the_devkits_own_curve_stands_labelled_beside_all_probes(small: Set) -> None:
    out = small.folder / "out"
    done = small.run("--json", "-", "--quiet", "--devkit-out", str(out), "--far", "0.05")
    assert done.exit_code == 0, done.output
    assert done.stdout == small.run("--json", "-", "--far", "0.05").stdout
    report = json.loads(done.stdout)
    far, tpr = json.loads((out / "cmc_facescrub_megaface_evalkit_30_1.json").read_text())["roc"]
    kept = [k for k, f in enumerate(far) if f <= 0.05]
    name = "distractors=30,rule=devkit"
    curve = report["curves"][f"roc@{name}"]
    assert curve == {"far": [far[k] for k in kept], "tpr": [tpr[k] for k in kept]}
    beside = report["metrics"][f"tpr@far=0.05,{name}"]
    assert beside["value"] == tpr[kept[-1]] and beside["low"] is None
    assert "first 20 probes" in beside["note"] and "of 4 people: no interval" in beside["note"]
    assert "tpr@far=0.05,distractors=30" in report["metrics"]


def _script_scores(small: Set, rule: str, bad: int, wrong: int) -> tuple[np.ndarray, np.ndarray]:
    """Clean features as the two projects' scripts do, score them as their tests do."""
    subject = np.repeat(np.arange(4), 5)
    x, d = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (small.x, small.d))
    if rule != "none":
        centre = x[(subject == subject[bad]) & (np.arange(20) != bad)].sum(axis=0)
        x[bad] = centre / np.linalg.norm(centre)
    if rule == "insightface":  # one more dimension, 0 for clean files and 100 for noisy distractors
        x, d = (np.pad(v, ((0, 0), (0, 1))) for v in (x, d))
        d[wrong, -1] = 100
    elif rule == "facex":
        d[wrong] = 0
        return x @ x.T, x @ d.T
    square = (x**2).sum(axis=1)[:, None]
    return 2 * x @ x.T - square - square.T, 2 * x @ d.T - square - (d**2).sum(axis=1)


def _rank_1(own: np.ndarray, other: np.ndarray) -> float:
    subject = np.repeat(np.arange(4), 5)
    first = [
        not (other[i] > own[i, j]).any()
        for i in range(20)
        for j in range(20)
        if i != j and subject[i] == subject[j]
    ]
    return float(np.mean(first))


def test_both_noise_rules_and_neither_stand_side_by_side(small: Set) -> None:
    """A probe of somebody else and a distractor that is a probe's person, both on the lists."""
    bad, wrong = 7, 3
    small.x[bad], small.d[wrong] = small.x[17], 2 * small.x[0]
    np.save(small.folder / "F.npy", np.concatenate([small.d, small.x]))
    (small.folder / "fn.txt").write_text(f"# noisy\n{Path(small.probes[bad]).name}\nX_1.png\n")
    (small.folder / "mn.txt").write_text(f"# noisy\n9\t{small.distractors[wrong]}\n")
    lists = ("--probe-noises", "fn.txt", "--distractor-noises", "mn.txt")
    out = small.folder / "out"
    both = ("--clean", "insightface", "--clean", "facex", "--devkit-out", str(out))
    done = small.run(*lists, *both, "--json", "-", "--quiet")
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    names = list(report["metrics"])
    at = names.index("rank-1@distractors=30")
    cleaned = [f"rank-1@distractors=30,cleaned={rule}" for rule in ("insightface", "facex")]
    assert names[at + 1 : at + 3] == cleaned
    found = {name: report["metrics"][name]["value"] for name in names}
    for rule, name in zip(("none", "insightface", "facex"), names[at : at + 3], strict=True):
        assert found[name] == _rank_1(*_script_scores(small, rule, bad, wrong)), name
    assert found[names[at]] < min(found[name] for name in cleaned)
    assert report["provenance"]["noisy_probes"] == 1
    assert report["provenance"]["noisy_distractors"] == {"distractors=30": 1}
    for rule in ("insightface", "facex"):
        assert (out / f"cleaned={rule}" / "cmc_facescrub_megaface_evalkit_30_1.json").exists()
    assert small.run(*lists).exit_code == 2 and small.run("--clean", "facex").exit_code == 2


def test_a_joint_bayesian_model_of_the_devkit(small: Set) -> None:
    """Rank-1 by 2 <Ux, Uy> - |Vx|^2 - |Vy|^2 of the centred features; jb_identity.bin is cosine."""
    plain = json.loads(small.run("--json", "-").stdout)["metrics"]
    (small.folder / "jb_identity.bin").write_bytes(bytes(48))
    done = small.run("--jb-model", "jb_identity.bin", "--json", "-")
    assert json.loads(done.stdout)["metrics"] == plain
    rng = np.random.default_rng(1)
    mean, u, v = (rng.normal(size=shape).astype("f4") for shape in ((1, 8), (5, 8), (6, 8)))
    model = b"".join(devkit_matrix.header(*m.shape) + m.tobytes() for m in (mean, u, v))
    (small.folder / "jb.bin").write_bytes(model)
    done = small.run("--jb-model", "jb.bin", "--json", "-")
    found = json.loads(done.stdout)
    x, d = (y.astype(float) - mean for y in (small.x, small.d))
    minus = [-((y @ v.T) ** 2).sum(axis=1) for y in (x, d)]
    own = 2 * (x @ u.T) @ (x @ u.T).T + minus[0][:, None] + minus[0]
    other = 2 * (x @ u.T) @ (d @ u.T).T + minus[0][:, None] + minus[1]
    assert found["metrics"]["rank-1@distractors=30"]["value"] == _rank_1(own, other)
    assert found["provenance"]["score"] == "Joint Bayesian" and found["metrics"] != plain


def test_views_and_lists_that_do_nothing_are_told(small: Set) -> None:
    """Features of one view are not fused, and a noise list that names nobody says so."""
    done = small.run("--flip", "sum")
    assert "these features hold one view per image" in str(done.exception)
    (small.folder / "fn.txt").write_text("Someone_1.png\n")
    done = small.run("--clean", "facex", "--probe-noises", "fn.txt")
    assert (
        "on the noise lists: 0 of 20 probes; distractors 0 of 30 at distractors=30" in done.stderr
    )


def test_a_missing_feature_is_an_error_that_lists_it(small: Set) -> None:
    small.folder.joinpath("K.txt").write_text(
        "\n".join(["?", *small.distractors[1:], *small.probes])
    )
    done = small.run("--json", "-")
    assert done.stdout == "" and "missing for 1 of 30 images: 1/2@N0/0_0" in str(done.exception)


def test_reports_of_other_lists_are_not_compared(small: Set) -> None:
    out = str(small.folder / "a.json")
    assert small.run("--out", out, "--far", "1e-2").exit_code == 0
    assert small.run("--far", "1e-2", "--gate", out).exit_code == 0
    listed = json.loads((small.folder / "D.json_30_1").read_text())["path"]
    (small.folder / "D.json_30_1").write_text(json.dumps({"path": listed[::-1]}))
    done = small.run("--far", "1e-2", "--gate", out)
    assert isinstance(done.exception, ReportError)
    assert "differ in 'keys'" in str(done.exception)
