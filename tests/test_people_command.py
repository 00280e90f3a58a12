"""`evalkit people`: folders in, a table, thresholds and doubtful labels out; mistakes in a line."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from evalkit.bench import read_sets
from evalkit.cli import run
from evalkit.protocols import allpairs, people
from evalkit.report import read

pytestmark = pytest.mark.once  # what it holds does not depend on Python or packages

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

FED = ["--input-size", "8", "--color", "rgb", "--mean", "0", "--std", "1"]


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Six people of five images each, two strangers; noise around a picture of each."""
    import small_models

    monkeypatch.setenv("EVALKIT_CACHE", str(tmp_path / "cache"))
    rng = np.random.default_rng(1)
    for person in range(8):
        face = rng.integers(40, 215, (8, 8, 3))
        root = tmp_path / ("FACES" if person < 6 else "STRANGERS") / f"p{person}"
        root.mkdir(parents=True)
        for k in range(5):
            noise = rng.integers(-25, 26, face.shape)
            Image.fromarray((face + noise).astype(np.uint8)).save(root / f"{k}.png")
    small_models.save(tmp_path / "m.onnx")
    return tmp_path


def _run(folders: Path, *options: str) -> int:
    return run(
        ["people", str(folders / "FACES"), "--model", str(folders / "m.onnx"), *FED, *options]
    )


def test_a_folder_gives_numbers_thresholds_and_a_page(
    folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, page = folders / "r.json", folders / "p.html"
    unknown = str(folders / "STRANGERS")
    code = _run(folders, "--unknown", unknown, "--out", str(out), "--page", str(page))
    shown = capsys.readouterr()
    assert code == 0, shown.err
    report = json.loads(out.read_text())
    assert report["protocol"] == people.NAME
    assert {"auc", "eer", "rank-1", "tpir@fpir=1e-1", "tpr@far=1e-1"} <= set(report["metrics"])
    assert report["metrics"]["rank-1"]["n"] == 6 * 4
    assert "Thresholds to deploy" in shown.out and "safe at 95%" in shown.out
    assert "People: 40 images of 6" in shown.out
    drawn = page.read_text()
    assert "<html" in drawn and "Hardest genuine pairs" in drawn
    _, _, table = shown.out.partition("Thresholds to deploy")
    rows = [line.split() for line in table.splitlines() if line.startswith("  1e-")]
    assert rows and "safe at 95%" in drawn
    for far, *cells in rows:  # the page has the same thresholds, measured and safe
        assert f'<th scope="row">{far}</th><td>{cells[0]}</td><td>{cells[1]}</td>' in drawn


def test_a_report_of_embeddings_without_a_name_says_that_it_stands_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    x, who = np.random.default_rng(0).normal(size=(40, 8)), np.arange(40) // 4
    np.save(tmp_path / "x.npy", x + 3 * np.eye(10)[who, :8])
    np.save(tmp_path / "who.npy", who)
    files = ["--features", str(tmp_path / "x.npy"), "--subjects", str(tmp_path / "who.npy")]
    told = "without --set NAME it can be compared with no other report"
    paths = [str(tmp_path / f"{k}.json") for k in range(2)]
    for named, expected in (([], True), (["--set", "mine"], False)):
        for path in paths:
            assert run(["people", *files, *named, "--out", path]) == 0
        assert (told in capsys.readouterr().err) == expected
        assert (run(["compare", *paths]) != 0) == expected
        capsys.readouterr()
    assert run(["people", *files]) == 0  # what is not kept is not compared
    assert told not in capsys.readouterr().err


def test_where_most_images_have_no_template_thresholds_are_none_and_say_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    x, who = np.random.default_rng(0).normal(size=(80, 8)), np.arange(80) // 4
    x[np.arange(80) % 4 > 1] = np.nan  # 760 of 3,040 impostor pairs have two templates: a quarter
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "who.npy", who)
    files = ["--features", str(tmp_path / "x.npy"), "--subjects", str(tmp_path / "who.npy")]
    fars = ["--far", "0.3", "--far", "0.05"]
    out = str(tmp_path / "r.json")
    assert run(["people", *files, "--allow-failures", *fars, "--out", out]) == 0
    table = " ".join(capsys.readouterr().out.partition("Thresholds to deploy")[2].split())
    why = "at FAR 0.3 every comparison of two templates is accepted: give a lower FAR"
    assert f"none: {why}" in table and "0.05 0." in table
    assert run(["threshold", out, "--far", "0.3"]) == 0
    shown = capsys.readouterr().out
    assert "far        0.25" in shown and shown.endswith(f"confidence\n{why}\n")
    assert run(["threshold", out, "--far", "0.05"]) == 0
    assert "safe: FAR <= 0.05 at 0.95 confidence\n" in capsys.readouterr().out


def test_an_exchanged_label_and_a_copy_are_named(
    folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    faces = folders / "FACES"
    shutil.move(faces / "p0" / "3.png", faces / "p1" / "wrong.png")
    shutil.copy(faces / "p2" / "0.png", faces / "p3" / "copy.png")
    shutil.copy(faces / "p4" / "0.png", faces / "p4" / "again.png")
    listed = folders / "doubtful.csv"
    assert _run(folders, "--doubtful", str(listed)) == 0
    shown = capsys.readouterr()
    assert "1 image is there as two people: p2/0.png=p3/copy.png" in shown.err
    assert "1 image is there more than once: p4/0.png=p4/again.png" in shown.err
    rows = list(csv.DictReader(listed.read_text().splitlines()))
    assert {rows[0]["image"], rows[1]["image"]} == {"p1/wrong.png", "p3/copy.png"}
    assert len(rows) == 32
    assert "p1/wrong.png" in shown.out.partition("Doubtful labels")[2]


def test_folders_that_may_be_no_people_are_named_and_a_list_says_who_they_are(
    folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    faces, out = folders / "FACES", folders / "r.json"
    who = []
    for face in sorted(faces.glob("*/*.png")):
        session = face.parent / f"session{int(face.stem) % 2}"
        session.mkdir(exist_ok=True)
        shutil.move(face, session / face.name)
        who.append(f"FACES/{face.parent.name}/{session.name}/{face.name} {face.parent.name}")
    shutil.move(faces / "p0" / "session0" / "0.png", faces / "p0" / "0.png")
    who[0] = "FACES/p0/0.png p0"
    assert _run(folders, "--out", str(out)) == 0
    expected = [
        "2 folders are inside others' and count as people: p0/session0, p0/session1 (if not",
        "12 folders share their names and count as people: p0/session0, p1/session0, p2/session0, ",
    ]
    said, kept = capsys.readouterr().err, json.loads(out.read_text())["provenance"]
    assert kept["subjects"] == 13
    for line, of_report in zip(expected, kept["data check"], strict=False):
        assert line in said and of_report.startswith(line)
    (of_bench,) = read_sets([faces])
    assert list(of_bench.images.left_out) == kept["data check"][:2]
    listed = folders / "who.txt"
    listed.write_text("\n".join(who))
    model = ["--model", str(folders / "m.onnx"), *FED]
    assert run(["people", str(listed), *model, "--out", str(out)]) == 0
    assert "count as people" not in capsys.readouterr().err
    provenance = json.loads(out.read_text())["provenance"]
    assert (provenance["subjects"], provenance["data check"]) == (6, [])


def test_folders_that_are_called_as_parts_of_a_set_are_named(
    folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, part in enumerate(("train", "Probe")):
        (folders / "FACES" / f"p{number}").rename(folders / "FACES" / part)
    assert _run(folders) == 0
    told = "2 folders are called as parts of a set and count as people: Probe, train (if not, give"
    assert told in capsys.readouterr().err


def test_embeddings_give_what_the_model_gives(
    folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(folders, "--json", "-") == 0
    by_model = json.loads(capsys.readouterr().out)["metrics"]
    store = folders / "f.h5"
    faces = str(folders / "FACES")
    model = ["--model", str(folders / "m.onnx"), *FED]
    assert run(["embed", str(store), *model, "--data", faces]) == 0
    capsys.readouterr()
    assert run(["people", "--features", str(store), "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["metrics"] == by_model


def test_a_bare_model_is_tried_on_the_known_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import small_models

    monkeypatch.setenv("EVALKIT_CACHE", str(tmp_path / "cache"))
    rng = np.random.default_rng(2)
    for person in range(23):
        face = rng.integers(40, 215, (8, 8, 3))
        root = tmp_path / ("FACES" if person < 21 else "STRANGERS") / f"p{person}"
        root.mkdir(parents=True)
        for k in range(2):
            noise = rng.integers(-9, 10, face.shape)
            Image.fromarray((face + noise).astype(np.uint8)).save(root / f"{k}.png")
    weights = rng.standard_normal((3 * 8 * 8, 64)).astype(np.float32)
    small_models.save(tmp_path / "m.onnx", by=weights)
    bare = [str(tmp_path / "FACES"), "--model", str(tmp_path / "m.onnx")]
    assert run(["people", *bare, "--unknown", str(tmp_path / "STRANGERS"), "--json", "-"]) == 0
    shown = capsys.readouterr()
    assert shown.err.count("found by trial") == 1 and "of 21 people" in shown.err
    report = json.loads(shown.out)
    assert report["metrics"]["tpir@fpir=1e-1"]["n"] and report["provenance"]["unknown"] == 4


def test_a_gallery_of_its_own_is_enrolled(
    folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for person in (folders / "FACES").iterdir():
        enrolled = folders / "GALLERY" / person.name
        enrolled.mkdir(parents=True)
        for k in (0, 1):
            shutil.move(person / f"{k}.png", enrolled / f"{k}.png")
    for template in ("max", "mean"):
        gallery = str(folders / "GALLERY")
        assert _run(folders, "--gallery", gallery, "--template", template, "--json", "-") == 0
        report = json.loads(capsys.readouterr().out)
        assert report["metrics"]["rank-1"]["n"] == 6 * 3
        assert report["provenance"]["template"] == template


@pytest.mark.parametrize(
    ("options", "said", "code"),
    [
        (["--model", "m.onnx"], "give the FOLDER of the people", 2),
        (
            ["--features", "f.npy", "--keys", "k.txt", "FACES"],
            "--features holds vectors: give one kind",
            2,
        ),
        (["FACES", "--model", "m.onnx", *FED, "--unknown", "FACES"], "of a person who is known", 3),
        (["FACES", "--model", "m.onnx", *FED, "--subjects", "few.txt"], "2 lines for 30 images", 3),
        (["FACES/p0", "--model", "m.onnx", *FED], "FACES/p0 has no folder per person", 3),
        (["single", "--model", "m.onnx", *FED], "no person in single has two images", 3),
    ],
)
def test_mistakes_are_said(
    folders: Path,
    options: list[str],
    said: str,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(folders)
    np.save("f.npy", np.eye(3, dtype=np.float32))
    Path("k.txt").write_text("a/1\na/2\nb/1\n")
    Path("few.txt").write_text("a\nb\n")
    for person in ("p0", "p1"):
        Path("single", person).mkdir(parents=True)
        shutil.copy(Path("FACES", person, "0.png"), Path("single", person))
    assert run(["people", *options]) == code
    assert said in capsys.readouterr().err


def test_subjects_need_no_names_of_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    people = np.repeat(np.arange(6), 5)
    np.save("f.npy", (rng.normal(size=(6, 8))[people] + rng.normal(0, 0.3, (30, 8))).astype("f4"))
    Path("who.txt").write_text("\n".join(f"p{n}" for n in people))
    Path("keys.txt").write_text("\n".join(f"p{n}/{k}" for k, n in enumerate(people)))
    metrics = []
    for named in (["--subjects", "who.txt"], ["--keys", "keys.txt"]):
        assert run(["people", "--features", "f.npy", *named, "--json", "-"]) == 0
        metrics.append(json.loads(capsys.readouterr().out)["metrics"]["auc"]["value"])
    assert metrics[0] == metrics[1]
    assert run(["people", "--features", "f.npy"]) == 3
    assert "add --keys LIST.txt" in capsys.readouterr().err


@pytest.mark.parametrize("head", ["", "image_id,identity\n"])
def test_subjects_by_name_are_those_of_their_images_in_any_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], head: str
) -> None:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    people = np.repeat(np.arange(6), 5)
    np.save("f.npy", rng.normal(size=(6, 8))[people] + rng.normal(0, 0.5, (30, 8)))
    names = [f"{n:06d}.jpg" for n in range(30)]
    Path("keys.txt").write_text("\n".join(names))
    Path("who.txt").write_text("\n".join(str(n) for n in people))
    lines = [f"{names[n]}{',' if head else ' '}{100 - people[n]}" for n in rng.permutation(30)]
    Path("identity.txt").write_text(head + "\n".join([*lines, lines[0].replace("0000", "0009")]))
    metrics = []
    for subjects in ("who.txt", "identity.txt"):
        words = ["--features", "f.npy", "--keys", "keys.txt", "--subjects", subjects]
        assert run(["people", *words, "--json", "-"]) == 0
        metrics.append(json.loads(capsys.readouterr().out)["metrics"])
    assert metrics[0] == metrics[1] and metrics[0]["rank-1"]["value"] < 1
    Path("identity.txt").write_text("\n".join(lines[:20]))
    assert run(["people", *words]) == 3
    assert "subjects in identity.txt are missing for 10 of 30 images" in capsys.readouterr().err


def test_a_table_alone_takes_no_pass_for_plots(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    x, who = np.random.default_rng(0).normal(size=(40, 8)), np.arange(40) // 4
    np.save(tmp_path / "x.npy", x + 3 * np.eye(10)[who, :8])
    np.save(tmp_path / "who.npy", who)
    files = ["--features", str(tmp_path / "x.npy"), "--subjects", str(tmp_path / "who.npy")]
    passes = list[str]()
    histogram = allpairs.histogram

    def seen(*arguments: Any, **options: Any) -> allpairs.Histogram:
        passes.append("histogram")
        return histogram(*arguments, **options)

    monkeypatch.setattr(allpairs, "histogram", seen)
    tables = list[str]()
    out, page = tmp_path / "r.json", tmp_path / "p.html"
    ways = ([], ["--out", str(out)], ["--page", str(page)], ["--json"])
    for words, count in zip(ways, (0, 1, 1, 1), strict=True):
        passes.clear()
        assert run(["people", *files, *words]) == 0
        assert len(passes) == count
        tables.append(capsys.readouterr().out)
    assert tables[0] == tables[1] == tables[2]
    assert json.loads(out.read_text())["curves"] == json.loads(tables[3])["curves"] != {}


def test_rows_without_names_are_enrolled_in_their_order(tmp_path: Path) -> None:
    """Row 9 before row 10, as from Python, and as keys of the same order have it."""
    x = np.random.default_rng(3).normal(size=(24, 4)).astype(np.float32)
    who = np.arange(24) // 3
    np.save(tmp_path / "F.npy", x)
    (tmp_path / "S.txt").write_text("\n".join(f"p{n}" for n in who))
    (tmp_path / "K.txt").write_text("\n".join(f"p{n}/{k:02}" for k, n in enumerate(who)))
    expected = people.evaluate(x, who).metrics
    for named in ("--subjects", str(tmp_path / "S.txt")), ("--keys", str(tmp_path / "K.txt")):
        out = tmp_path / "r.json"
        words = ["people", "--features", str(tmp_path / "F.npy"), *named, "--json", str(out)]
        assert run(words) == 0
        assert read(out).metrics == expected
