"""`evalkit bench`: any mix of sets, one table, reports and gates; a bad set before any work."""

import json
import pickle
import re
import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

from test_people_command import FED, folders  # noqa: F401 (a fixture)

from evalkit.cli import run

pytestmark = pytest.mark.once  # what it holds does not depend on Python or packages


@pytest.fixture
def sets(folders: Path) -> Path:  # noqa: F811
    """Beside the folders of people, two .bin sets of them and a list of pairs."""
    files = sorted((folders / "FACES").rglob("*.png"))
    for seed, name in enumerate(("agedb_30", "cfp_fp")):
        rng = np.random.default_rng(seed)
        who = rng.integers(0, 6, 80)
        other = np.where(np.arange(80) % 2 == 0, who, (who + rng.integers(1, 6, 80)) % 6)
        image = np.arange(80) % 5
        rows = zip(who * 5 + image, other * 5 + (image + 1) % 5, strict=True)
        held = [files[row].read_bytes() for pair in rows for row in pair]
        same = [bool(a == b) for a, b in zip(who, other, strict=True)]
        (folders / f"{name}.bin").write_bytes(pickle.dumps((held, same)))
    keys = [path.relative_to(folders / "FACES").as_posix() for path in files]
    lines = [f"{keys[a]} {keys[b]} {int(a // 5 == b // 5)}" for a in range(30) for b in range(a)]
    (folders / "pairs.txt").write_text("\n".join(lines))
    return folders


@pytest.fixture
def ijb(sets: Path) -> Path:
    """Write the pictures of people as IJB's folder: two images a template, three templates each."""
    root = sets / "IJBX"
    (root / "meta").mkdir(parents=True)
    (root / "loose_crop").mkdir()
    media, detections = [], []
    for n, path in enumerate(sorted((sets / "FACES").rglob("*.png"))):
        Image.open(path).resize((112, 112), Image.Resampling.NEAREST).save(
            root / "loose_crop" / f"{n}.png"
        )
        media.append(f"{n}.png {n * 3 // 5} {n}")
        points = "38.3 51.7 73.5 51.5 56 71.7 41.5 92.4 70.7 92.2"
        detections.append(f"{n}.png {points} 0.{n % 9 + 1}")
    templates = [(a, b) for a in range(18) for b in range(a)]
    pairs = [f"{a} {b} {int(a // 3 == b // 3)}" for a, b in templates]
    for name, lines in (
        ("ijbx_face_tid_mid", media),
        ("ijbx_name_5pts_score", detections),
        ("ijbx_template_pair_label", pairs),
    ):
        (root / "meta" / f"{name}.txt").write_text("\n".join(lines))
    return root


def _bench(sets: Path, *words: str) -> int:
    return run(["bench", *words, "--model", str(sets / "m.onnx"), *FED])


def test_a_mix_of_sets_is_one_table_and_a_report_each(
    sets: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["agedb_30.bin", "pairs.txt", "FACES"]
    paths = [str(sets / name) for name in names]
    out, groups = sets / "runs", sets / "groups.csv"
    images = [path.relative_to(sets / "FACES") for path in (sets / "FACES").rglob("*.png")]
    lines = [f"{path.as_posix()},{path.parts[0] < 'p3'}" for path in images]
    groups.write_text("\n".join(["key,early", *lines]))
    more = ["--data", str(sets / "FACES"), "--out", str(out), "--groups", str(groups)]
    assert _bench(sets, *paths, *more) == 0
    shown = capsys.readouterr()
    assert "agedb_30 is not measured by group: groups.csv names none of the" in shown.err
    for number, name in enumerate(names, 1):
        assert f"[{number}/3] {name}" in shown.err
    rows = [line.split()[0] for line in shown.out.split("\n") if re.match(r"\w+ +\d", line)]
    assert {"agedb_30", "pairs", "FACES"} <= set(rows)
    below = shown.out.partition("pairs by early, FAR 1e-1 of all pairs")[2]
    assert re.search(r"\n +FMR .*\n[ *]+False ", below) and "FACES by early, FAR" in below
    assert "agedb_30 by" not in shown.out
    held = {path.stem: json.loads(path.read_text()) for path in out.glob("*.json")}
    assert {n: r["protocol"] for n, r in held.items()} == {
        "agedb_30": "verification",
        "pairs": "verification",
        "FACES": "people",
    }
    by_group = {n for n, r in held.items() if any("early=True" in name for name in r["metrics"])}
    assert by_group == {"pairs", "FACES"}
    assert _bench(sets, paths[0], "--groups", str(groups)) == 3
    assert capsys.readouterr().err.count("groups.csv names none of the") == 1


def test_what_out_may_not_replace_is_told_before_any_image_is_embedded(
    sets: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The second set's vectors beside its report to be were found after the first was measured."""
    (sets / "runs").mkdir()
    np.savez(sets / "runs" / "FACES.npz", features=np.eye(3))
    paths = [str(sets / name) for name in ("agedb_30.bin", "FACES")]
    assert _bench(sets, *paths, "--out", str(sets / "runs")) == 3
    said = capsys.readouterr().err
    assert "FACES.npz is there already" in said and "[1/2]" not in said
    assert [path.name for path in (sets / "runs").iterdir()] == ["FACES.npz"]


def test_a_set_measures_what_its_own_command_measures(
    sets: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [str(sets / name) for name in ("agedb_30.bin", "FACES")]
    assert _bench(sets, *paths, "--out", str(sets / "runs"), "--flip", "sum") == 0
    for command, path in zip(("verify", "people"), paths, strict=True):
        alone = sets / f"{command}.json"
        fed = ["--model", str(sets / "m.onnx"), *FED, "--flip", "sum", "--out", str(alone)]
        assert run([command, path, *fed]) == 0
        together = json.loads((sets / "runs" / f"{Path(path).stem}.json").read_text())
        single = json.loads(alone.read_text())
        assert together["metrics"] == single["metrics"]
        assert together["identity"] == single["identity"]
    capsys.readouterr()


def test_a_folder_of_ijb_is_measured_as_its_own_command_does(
    sets: Path, ijb: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import small_models

    by = np.random.default_rng(0).standard_normal((3 * 112 * 112, 4)).astype(np.float32)
    small_models.save(sets / "m.onnx", by=by, image=[3, 112, 112])
    fed = ["--model", str(sets / "m.onnx"), "--preset", "arcface", "--flip", "sum"]
    both = [str(sets / "agedb_30.bin"), str(ijb), "--resize", *fed, "--far", "1e-1"]
    assert run(["bench", *both, "--out", str(sets / "runs")]) == 0
    assert "[2/2] IJBX" in capsys.readouterr().err
    meta = ijb / "meta" / "ijbx"
    alone = ["--media", f"{meta}_face_tid_mid.txt", "--pairs", f"{meta}_template_pair_label.txt"]
    alone += ["--detections", f"{meta}_name_5pts_score.txt", "--data", str(ijb / "loose_crop")]
    assert (
        run(["ijb", *alone, *fed, "--resize", "--far", "1e-1", "--json", "-", "--set", "IJBX"]) == 0
    )
    single = json.loads(capsys.readouterr().out)
    together = json.loads((sets / "runs" / "IJBX.json").read_text())
    assert together["protocol"] == "ijb-1:1"
    for field in ("metrics", "identity", "provenance"):
        given = {k: v for k, v in together[field].items() if k != "cache"}
        assert given == single[field]
    from evalkit import bench

    held = bench.evaluate(str(sets / "m.onnx"), str(ijb), preset="arcface", flip="sum", fars="1e-1")
    assert held["IJBX"].flat() == pytest.approx(
        {name: m["value"] for name, m in single["metrics"].items()}
    )


def test_far_recipe_and_one_document_that_table_and_report_read(
    sets: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [str(sets / name) for name in ("agedb_30.bin", "FACES")]
    words = ["--far", "0.2", "--recipe", "insightface", "--json", "-", "--out", str(sets / "runs")]
    assert _bench(sets, *paths, *words) == 0
    printed = capsys.readouterr().out
    document = json.loads(printed)
    assert document["format"] == "evalkit-reports" and [*document["reports"]] == [
        "agedb_30",
        "FACES",
    ]
    for report in document["reports"].values():
        assert [n for n in report["metrics"] if n.startswith("tpr")] == ["tpr@far=0.2"]
        assert report["provenance"]["recipe"].startswith("insightface ")
    (sets / "all.json").write_text(printed)
    for held in ("runs", "all.json"):
        assert run(["table", str(sets / held)]) == 0
        shown = capsys.readouterr().out
        assert re.search(r"^agedb_30 +\d", shown, re.M) and re.search(r"^FACES ", shown, re.M)
        assert run(["report", str(sets / held), "--markdown"]) == 0
        assert capsys.readouterr().out.count("tpr@far=0.2") == 2
    shutil.copytree(sets / "runs", sets / "other")
    assert run(["table", str(sets / "runs"), str(sets / "other")]) == 0
    assert re.search(r"^other +\d", capsys.readouterr().out, re.M)


def test_a_recipe_that_learns_on_folds_is_for_pairs_alone(
    sets: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    learning = ["--recipe", "sphereface"]
    assert _bench(sets, str(sets / "agedb_30.bin"), *learning) == 0
    assert _bench(sets, str(sets / "agedb_30.bin"), str(sets / "FACES"), *learning) == 2
    shown = capsys.readouterr()
    assert "recipe 'sphereface' learns on training folds" in shown.err


def test_a_folder_of_sets_and_a_list_of_sets(
    sets: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _bench(sets, str(sets)) == 0
    assert "[2/2] cfp_fp.bin" in capsys.readouterr().err
    written = '[[set]]\npath = "{}"\n{}\n'
    (sets / "bench.toml").write_text(
        written.format("agedb_30.bin", 'name = "AgeDB"')
        + written.format("pairs.txt", 'data = "FACES"')
        + written.format("STRANGERS", "")
    )
    assert _bench(sets, str(sets / "bench.toml")) == 0
    shown = capsys.readouterr()
    assert "[3/3] STRANGERS" in shown.err and "AgeDB" in shown.out


def test_each_set_is_held_against_its_baseline(
    sets: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    paths, base = [str(sets / "agedb_30.bin"), str(sets / "FACES")], sets / "base"
    assert _bench(sets, *paths, "--out", str(base)) == 0
    assert _bench(sets, *paths, "--gate", str(base)) == 0
    shown = capsys.readouterr().out
    assert shown.count("gate passed") == 2 and "2 of 2 sets passed" in shown
    (base / "spec.json").write_text("{}")  # no report
    assert _bench(sets, paths[0], "--gate", str(base)) == 1
    shown = capsys.readouterr().out
    assert "FACES: has a baseline, and was not measured" in shown
    assert "1 of 2 sets passed; failed: FACES" in shown
    codes = iter([0, 1])
    monkeypatch.setattr("evalkit.cli.bench.apply_gate", lambda *_, **__: next(codes))
    assert _bench(sets, *paths, "--gate", str(base)) == 1
    assert "1 of 2 sets passed; failed: FACES" in capsys.readouterr().out
    (base / "FACES.json").unlink()
    capsys.readouterr()
    assert _bench(sets, *paths, "--gate", str(base)) == 3
    shown = capsys.readouterr()
    assert "no report at" in shown.err and "[1/2]" not in shown.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["pairs.txt"], "holds no images"),
        (["agedb_30.bin", "EMPTY"], "no images in"),
        (["agedb_30.bin", "agedb_30.bin"], "2 sets are called 'agedb_30': "),
        (["agedb_30.bin", "broken.bin"], "broken.bin"),
        (["agedb_30.bin", "cut.bin"], "its end is missing"),
        (["agedb_30.bin", "alone"], "no person in"),
        (["bad.toml"], "unknown key 'pth'"),
        (["none.toml"], "lists no set"),
    ],
)
def test_a_bad_set_is_told_before_any_is_embedded(
    sets: Path, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (sets / "EMPTY").mkdir()
    (sets / "broken.bin").write_bytes(b"nonsense")
    (sets / "cut.bin").write_bytes((sets / "agedb_30.bin").read_bytes()[:2000])
    (sets / "alone" / "ada").mkdir(parents=True)
    (sets / "alone" / "ada" / "0.png").write_bytes((sets / "FACES/p0/0.png").read_bytes())
    (sets / "bad.toml").write_text('[[set]]\npth = "agedb_30.bin"\n')
    (sets / "none.toml").write_text("# nothing yet\n")
    assert _bench(sets, *(str(sets / word) for word in words)) == 3
    shown = capsys.readouterr()
    assert said in shown.err and "[1/" not in shown.err and shown.out == ""
    assert len(shown.err.strip().split("\n")) <= 2


def _pictures(root: Path, names: list[str]) -> None:
    for number, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (8, 8, 3), np.uint8)
        Image.fromarray(pixels).save(root / name)


def _rows_of(sets: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    """Measure a folder in one line; name of each set -> its protocol."""
    out = (folder if folder.is_dir() else folder.parent) / "runs"
    assert _bench(sets, str(folder), "--out", str(out)) == 0, capsys.readouterr().err
    made = {p.stem: json.loads(p.read_text()) for p in out.glob("*.json")}
    return {name: report["protocol"] for name, report in made.items()}


@pytest.mark.parametrize("given", ["RFW/images/test", "RFW", "bench.toml"])
def test_rfw_as_it_comes_is_four_sets(
    sets: Path, given: str, capsys: pytest.CaptureFixture[str]
) -> None:
    root, groups = sets / "RFW/images/test", ("African", "Asian", "Caucasian", "Indian")
    (sets / "bench.toml").write_text('[[set]]\npath = "RFW"\n')
    for k, group in enumerate(groups):
        who = [f"m.0{k}{j}" for j in range(4)]
        _pictures(root / "data" / group, [f"{w}/{w}_000{n}.png" for w in who for n in (1, 2)])
        lines = [f"{w}\t1\t2" for w in who]
        lines += [f"{a}\t1\t{b}\t2" for a, b in pairwise(who)]
        (root / "txts" / group).mkdir(parents=True)
        (root / "txts" / group / f"{group}_pairs.txt").write_text("\n".join(lines))
    assert _rows_of(sets, sets / given, capsys) == dict.fromkeys(
        [f"{group}_pairs" for group in groups], "verification"
    )


def test_a_name_is_that_of_one_set(sets: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (sets / "TWO").mkdir()
    for name in ("agedb_30.bin", "cfp_fp.bin"):
        (sets / name).rename(sets / "TWO" / name)
    (sets / "bench.toml").write_text('[[set]]\npath = "TWO"\nname = "both"\n')
    assert _bench(sets, str(sets / "bench.toml")) == 3
    assert "set 1: " in (said := capsys.readouterr().err)
    assert "TWO is 2 sets, agedb_30, cfp_fp\nhint: leave name out" in said


def test_a_list_of_pairs_in_the_folder_of_its_images(
    sets: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = sets / "CALFW"
    who = "ABCDEFGHIJK"
    _pictures(root / "aligned images", [f"{w}_000{n}.png" for w in who for n in (1, 2)])
    lines = []
    for k, (w, other) in enumerate(pairwise(who), 1):
        lines += [
            f"{w}_0001.png {k}",
            f"{w}_0002.png {k}",
            f"{w}_0001.png 0",
            f"{other}_0002.png 0",
        ]
    (root / "pairs_CALFW.txt").write_text("\n".join(lines))
    assert _rows_of(sets, root, capsys) == {"pairs_CALFW": "verification"}
    assert "aligned images" not in capsys.readouterr().err
    first = (root / "runs" / "pairs_CALFW.json").read_text()
    photographs = root / "images&landmarks" / "images"  # beside the crops, of other sizes
    _pictures(photographs, [f"{w}_000{n}.png" for w in who for n in (1, 2)])
    for path in photographs.iterdir():
        Image.open(path).resize((20, 20)).save(path)
    assert _bench(sets, str(root), "--out", str(sets / "again")) == 0
    assert "images are those of aligned images/ alone" in capsys.readouterr().err
    again = json.loads((sets / "again" / "pairs_CALFW.json").read_text())
    assert again["metrics"] == json.loads(first)["metrics"]
    (root / "aligned images").rename(root / "crops")
    assert _bench(sets, str(root)) == 3
    assert "hint: give the folder of one of them alone, or rename it" in capsys.readouterr().err


def test_a_folder_that_is_alone_is_told(sets: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (sets / "SURV").mkdir()
    (sets / "FACES" / "p0").rename(sets / "SURV" / "verification_images")
    assert _bench(sets, str(sets / "SURV")) == 0
    said = "1 folder alone is there and counts as the only person: verification_images (if not"
    assert said in capsys.readouterr().err
    assert _bench(sets, str(sets / "FACES")) == 0
    assert "alone" not in capsys.readouterr().err


def test_what_is_doubtful_of_a_set_is_told(sets: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with (sets / "pairs.txt").open("a") as f:
        f.write("\np0/0.png p0/0.png 1")
    words = [str(sets / "pairs.txt"), "--data", str(sets / "FACES")]
    assert _bench(sets, *words, str(sets / "agedb_30.bin")) == 0
    told = [line for line in capsys.readouterr().err.splitlines() if "with itself" in line]
    assert len(told) == 1 and told[0].startswith("warning: pairs: 1 genuine and 0 impostor pairs")


def test_cfp_as_it_comes_is_two_sets(sets: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = sets / "CFP"
    names = [(w, kind, n) for w in ("001", "002") for kind in ("frontal", "profile") for n in "12"]
    _pictures(root / "Data" / "Images", [f"{w}/{kind}/0{n}.jpg" for w, kind, n in names])
    for letter, kind in (("F", "frontal"), ("P", "profile")):
        held = [f"../Data/Images/{w}/{k}/0{n}.jpg" for w, k, n in names if k == kind]
        path = root / "Protocol" / f"Pair_list_{letter}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(f"{k} {name}" for k, name in enumerate(held, 1)))
    for split in ("FF", "FP"):
        for fold in range(1, 11):
            folder = root / "Protocol" / "Split" / split / f"{fold:02d}"
            folder.mkdir(parents=True)
            (folder / "same.txt").write_text("1,2\n3,4")
            (folder / "diff.txt").write_text("1,3\n2,4")
    assert _rows_of(sets, root, capsys) == dict.fromkeys(["cfp-ff", "cfp-fp"], "verification")


def test_scface_is_a_search_for_each_distance_and_equals_the_searchs_command(
    sets: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, gallery = sets / "SCface", "mugshot_frontal_cropped_all"
    _pictures(root, [f"{gallery}/00{w}_frontal.png" for w in range(1, 6)])
    for far in (1, 2, 3):
        held = [f"cam_{c}/00{w}_cam{c}_{far}.png" for c in (1, 2) for w in range(1, 6)]
        _pictures(root / f"surveillance_cameras_distance_{far}", held)
    assert _rows_of(sets, root, capsys) == {f"scface-{k}": "search" for k in (1, 2, 3)}
    assert "rank-1" in capsys.readouterr().out
    probe = root / "surveillance_cameras_distance_2"
    words = ["--gallery", str(root / gallery), "--probe", str(probe), "--data", str(root)]
    words += ["--model", str(sets / "m.onnx"), *FED, "--json", "-"]
    assert run(["search", *words]) == 0
    shown = capsys.readouterr()
    alone, beside = json.loads(shown.out), json.loads((root / "runs/scface-2.json").read_text())
    assert alone["metrics"] == beside["metrics"]
    assert "read from: image names up to the first _" in shown.err
    assert beside["provenance"]["people"] == "image names up to the first _"
