"""Searches of a gallery against plain loops, their lists, and LFW's by Best-Rowden's rules."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
from PIL import Image

from evalkit.cli import run
from evalkit.datasets import lfw_images, search_lists
from evalkit.errors import DataError, ProtocolError
from evalkit.protocols import search
from evalkit.protocols.metrics.similarity import exact_scores, normalise

pytestmark = pytest.mark.once

RNG = np.random.default_rng(5)
WHO = np.repeat(np.arange(16), 4)
X = (RNG.normal(size=(16, 6))[WHO] + 0.9 * RNG.normal(size=(64, 6))).astype(np.float32)
# Two images of 12 people and 8 distractors are enrolled; probes are of all 16.
SUBJECT = np.append(WHO, np.full(8, -1))
FEATURES = np.append(X, RNG.normal(size=(8, 6)).astype(np.float32), axis=0)
GALLERY = np.append(np.flatnonzero((np.arange(64) % 4 < 2) & (WHO < 12)), np.arange(64, 72))
PROBE = np.setdiff1d(np.arange(64), GALLERY)


def in_loops(
    features: np.ndarray, template: str, fpir: float, gallery: Any = GALLERY
) -> dict[str, float]:
    """Search a gallery probe by probe; probes of those who are not in `GALLERY` are the others."""
    u = normalise(features)
    entries: list[tuple[int, np.ndarray]] = []  # whom, and vectors
    for g in gallery.tolist():
        who = int(SUBJECT[g]) if SUBJECT[g] >= 0 else 1000 + g
        known = [held for name, held in entries if name == who]
        if known and template != "image":
            known[0].append(u[g])  # type: ignore[attr-defined]
        else:
            entries.append((who, [u[g]]))  # type: ignore[arg-type]
    hits: list[tuple[int, float]] = []
    alarms: list[float] = []
    for p in PROBE.tolist():
        scores = []
        for who, held in entries:
            rows = np.array(held)
            if template == "mean":
                fine = rows[np.isfinite(rows).all(axis=1)]
                rows = normalise(fine.astype(np.float64).sum(axis=0)[None])
            each = exact_scores(u[[p]], np.zeros(len(rows), int), rows, np.arange(len(rows)))
            scores.append((float(each.max()), who))
        mates = [s for s, who in scores if who == SUBJECT[p]]
        if mates:
            best = max(mates)
            above = sum(s > best for s, who in scores if who != SUBJECT[p])
            hits.append((1 + above if np.isfinite(best) else 0, best))
        elif SUBJECT[p] not in SUBJECT[GALLERY]:
            alarms.append(max(s for s, _ in scores))
    alarms.sort(reverse=True)
    bar = alarms[int(fpir * len(alarms))]
    made = {f"rank-{k}": float(np.mean([0 < r <= k for r, _ in hits])) for k in (1, 3)}
    found = {k: float(np.mean([0 < r <= k and s > bar for r, s in hits])) for k in (1, 3)}
    made |= {"tpir@fpir=0.2": found[1]}
    if gallery is not GALLERY:
        made = {f"fnir@rank={k}": 1 - made[f"rank-{k}"] for k in (1, 3)}
        made |= {f"fnir@fpir=0.2,rank={k}": 1 - found[k] for k in (1, 3)}
    return made


@pytest.mark.parametrize("template", ["image", "max", "mean"])
@pytest.mark.parametrize("broken", [False, True])
def test_a_search_is_what_loops_give(template: str, broken: bool) -> None:
    features = FEATURES.copy()
    if broken:  # a gallery image, a mated probe, one without a mate
        features[[GALLERY[0], PROBE[1], PROBE[-1]]] = np.nan
    how: Any = {"template": template, "depths": (1, 3), "fpirs": 0.2}
    report = search.evaluate(features, SUBJECT, GALLERY, PROBE, **how)
    assert report.flat() == pytest.approx(in_loops(features, template, 0.2), abs=1e-15)
    assert 0 < report["tpir@fpir=0.2"].value < 1
    assert all(m.low is not None and m.people == 12 for m in report.metrics.values())
    assert report.provenance["probes"] == {"mated": 24, "others": 16}
    assert report.failures.images == 3 * broken
    held, tpir = report.outcomes or {}, report["tpir@fpir=0.2"]  # what intervals are drawn from
    np.testing.assert_array_equal(np.isneginf(held["mate_score"]), held["rank"] != 1)
    assert float(np.mean(held["mate_score"] >= tpir.threshold)) == tpir.value


@pytest.mark.parametrize("template", ["image", "max", "mean"])
def test_fnir_of_drawn_galleries_is_what_loops_give(
    template: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "GALLERIES", 3)
    features = FEATURES.copy()
    features[[GALLERY[0], PROBE[1], PROBE[-1]]] = np.nan  # the lowest score
    sizes = (6, 20)  # of 12 people and 8 distractors
    how: Any = {"template": template, "depths": (1, 3), "fpirs": 0.2, "seed": 4}
    report = search.evaluate(features, SUBJECT, GALLERY, PROBE, sizes=sizes, **how)
    rng, of = np.random.default_rng(4), np.where(SUBJECT < 0, 1000 + np.arange(72), SUBJECT)
    orders = [rng.permutation(np.unique(of[GALLERY])) for _ in range(3)]
    for size in sizes:
        galleries = [GALLERY[np.isin(of[GALLERY], order[:size])] for order in orders]
        drawn = [in_loops(features, template, 0.2, held) for held in galleries[: 21 - size]]
        for name in drawn[0]:
            each, m = [found[name] for found in drawn], report[f"{name},gallery={size}"]
            assert m.value == pytest.approx(np.mean(each), abs=1e-15)
            if size < 20:
                assert m.folds == pytest.approx(each, abs=1e-15)
                spread = 100 * np.std(each, ddof=1)
                assert m.note.startswith(f"3 galleries, seed 4: standard deviation {spread:.2f} p")
    assert report["fnir@rank=1,gallery=20"].value == 1 - report["rank-1"].value
    assert report["fnir@fpir=0.2,rank=1,gallery=20"].value == 1 - report["tpir@fpir=0.2"].value
    assert report["fnir@rank=1,gallery=6"].value < report["fnir@rank=1,gallery=20"].value
    plain = search.evaluate(features, SUBJECT, GALLERY, PROBE, **how)
    assert plain.metrics == {n: m for n, m in report.metrics.items() if "gallery=" not in n}


def test_a_gallery_that_cannot_be_drawn_or_says_nothing() -> None:
    how: Any = {"depths": (1,), "fpirs": "1e-2", "sizes": (1,)}
    report = search.evaluate(FEATURES, SUBJECT, GALLERY, PROBE, **how)
    assert report["fnir@rank=1,gallery=1"].note == "no searches with a mate"
    needs = "FPIR 1e-2 needs at least 100 searches without a mate, there are 16"
    assert report["fnir@fpir=1e-2,rank=1,gallery=1"].note == needs
    closed = search.evaluate(FEATURES, SUBJECT, GALLERY, PROBE[WHO[PROBE] < 12], sizes=(20,))
    assert not any(name.startswith("fnir@fpir") for name in closed.metrics)
    for size in (0, 21):
        with pytest.raises(ProtocolError, match=f"a gallery of {size} people cannot be drawn"):
            search.evaluate(FEATURES, SUBJECT, GALLERY, PROBE, sizes=(size,))


def test_a_closed_set_has_ranks_alone() -> None:
    mated = PROBE[WHO[PROBE] < 12]
    report = search.evaluate(FEATURES, SUBJECT, GALLERY, mated)
    assert set(report.metrics) == {"rank-1", "rank-5", "rank-10"}


def test_what_cannot_be_searched_is_refused() -> None:
    for gallery, probe, told in (
        ([0, 1], [1, 2], "row 1 is in the gallery and among the probes"),
        ([0, 1], [60], "no probe shows anybody in the gallery"),
        ([0, 99], [2], "'gallery' is empty or names a row outside 0 to 71"),
        ([], [2], "'gallery' is empty"),
    ):
        with pytest.raises(ProtocolError, match=told):
            search.evaluate(FEATURES, SUBJECT, np.array(gallery, int), np.array(probe, int))


def test_lists_of_a_search(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keys = [f"{n:02d}.jpg" for n in range(72)]
    np.savez(tmp_path / "x.npz", features=FEATURES, keys=np.array(keys))
    lines = {
        "gallery": [f"{keys[g]} P{SUBJECT[g]}" for g in GALLERY if g < 64],
        "probe": [f"{keys[p]}\tP{SUBJECT[p]}" for p in PROBE],
        "distractors": keys[64:],
    }
    words = ["search", "--features", str(tmp_path / "x.npz"), "--rank", "1", "--fpir", "0.2"]
    for name, held in lines.items():
        (tmp_path / name).write_text("\n".join(held))
        words += [f"--{name}", str(tmp_path / name)]
    assert run([*words, "--gallery-size", "21", "--quiet"]) == 3
    assert "a gallery of 21 people cannot be drawn" in capsys.readouterr().err
    assert run([*words, "--rank", "3", "--quiet", "--json", "-"]) == 0
    made = json.loads(capsys.readouterr().out)
    found = {name: m["value"] for name, m in made["metrics"].items()}
    assert found == pytest.approx(in_loops(FEATURES, "max", 0.2), abs=1e-15)
    assert made["provenance"]["lists"] == "gallery, probe, distractors"
    (tmp_path / "probe").write_text("00.jpg P0")
    assert run(words) == 3
    assert "00 is in the gallery and among the probes" in capsys.readouterr().err
    (tmp_path / "probe").write_text("a.jpg P0\nb.jpg\n")
    with pytest.raises(DataError, match=r"line 2: expected 'image person', got 'b.jpg'"):
        search_lists.read(tmp_path / "gallery", tmp_path / "probe")


def drawn_images(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (2, 2)).save(root / name)


def test_folders_of_a_search(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    drawn_images(tmp_path, "gallery/A/1.png", "gallery/B/1.png", "distractors/x.png")
    drawn_images(tmp_path, "probe/A_2.png", "probe/A_3.png", "probe/C.png")
    lists = search_lists.below(tmp_path)["search"]
    assert lists.gallery == {
        "gallery/A/1.png": "A",
        "gallery/B/1.png": "B",
        "distractors/x.png": "-",
    }
    assert lists.probe == {"probe/A_2.png": "A", "probe/A_3.png": "A", "probe/C.png": "C"}
    assert lists.named_by == "folders; image names up to the first _"
    np.savez(
        tmp_path / "x.npz",
        features=RNG.normal(size=(6, 4)).astype(np.float32),
        keys=np.array([*lists.gallery, *lists.probe]),
    )
    words = ["search", "--features", str(tmp_path / "x.npz"), "--fpir", "0.5", "--json", "-"]
    for name in ("gallery", "probe", "distractors"):
        words += [f"--{name}", str(tmp_path / name)]
    assert run(words) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["provenance"]["probes"] == {"mated": 2, "others": 1}
    assert "read from: folders; image names up to the first _" in shown.err
    with pytest.raises(DataError, match="probe is not below "):
        search_lists.read(tmp_path / "gallery", tmp_path / "probe", root=tmp_path / "gallery")


def test_tinyface_by_its_own_lists(tmp_path: Path) -> None:
    drawn_images(tmp_path, "Gallery_Match/a.png", "Probe/b.png", "Probe/c.png")
    drawn_images(tmp_path, "Gallery_Distractor/7_1.png")
    for name, images, who in (
        ("gallery_match", ["a.png"], [7]),
        ("probe", ["b.png", "c.png"], [7, 9]),
    ):
        kind = name.split("_")[0]
        cells = {f"{kind}_set": np.array([[i] for i in images], object), f"{kind}_ids": [who]}
        scipy.io.savemat(tmp_path / f"{name}_img_ID_pairs.mat", cells)
    lists = search_lists.below(tmp_path)["tinyface"]
    assert lists.gallery == {"Gallery_Match/a.png": "7", "Gallery_Distractor/7_1.png": "-"}
    assert lists.probe == {"Probe/b.png": "7", "Probe/c.png": "9"}
    file = tmp_path / "probe_img_ID_pairs.mat"
    for names, who, told in (
        (["b.png", "c.png", "b.png"], [7, 9, 9], "calls b.png both 7 and 9"),
        (["b.png", "c.png"], [7, 9.5], "is not a list of TinyFace"),
        (["b.png", "c.png"], [7, np.nan], "is not a list of TinyFace"),
    ):
        wrong = {"probe_set": np.array([[i] for i in names], object), "probe_ids": [who]}
        scipy.io.savemat(file, wrong)
        with pytest.raises(DataError, match=told):
            search_lists.below(tmp_path)
    drawn_images(tmp_path, "Probe/d.png")
    scipy.io.savemat(file, cells)
    with pytest.raises(DataError, match="does not name d"):
        search_lists.below(tmp_path)
    scipy.io.savemat(tmp_path / "probe_img_ID_pairs.mat", {"other": [1]})
    with pytest.raises(DataError, match="is not a list of TinyFace"):
        search_lists.below(tmp_path)


def test_sets_are_known_where_their_archives_unpack_them(tmp_path: Path) -> None:
    inside = tmp_path / "Testing_Set"
    drawn_images(inside, "Gallery_Match/7_1.png", "Probe/7_2.png", "Gallery_Distractor/8_1.png")
    lists = search_lists.below(tmp_path)["tinyface"]
    assert lists.gallery["Testing_Set/Gallery_Match/7_1.png"] == "7"
    assert lists.probe == {"Testing_Set/Probe/7_2.png": "7"}


@pytest.mark.parametrize(
    "text",
    [
        "path,subject\na.jpg,A\nb c.jpg,B\n",
        "who;image\nA;a.jpg\nB;b c.jpg\n",
        '"a.jpg"\tA\n"b c.jpg"\tB\n',
    ],
)
def test_a_list_of_a_search_is_a_table(tmp_path: Path, text: str) -> None:
    (tmp_path / "g").write_text(text)
    (tmp_path / "p").write_text("x/d.jpg\n")
    lists = search_lists.read(tmp_path / "g", tmp_path / "p")
    assert lists.gallery == {"a.jpg": "A", "b c.jpg": "B"} and lists.probe == {"x/d.jpg": "x"}


@pytest.mark.parametrize(
    ("name", "gallery", "mated", "others"),
    [
        ("lfw-closed", 4665, 3143, 0),
        ("lfw-closed-4249", 4249, 3143, 0),
        ("lfw-open", 596, 596, 9494),
        ("lfw-open-3143", 3143, 596, 9494),
    ],
)
def test_lfws_lists_have_the_counts_of_the_papers(
    name: str, gallery: int, mated: int, others: int
) -> None:
    lists = search_lists.LFW[name](lfw_images.landmarks().keys)
    assert len(lists.gallery) == gallery
    unknown = sum(who == search_lists.NOBODY for who in lists.probe.values())
    assert (len(lists.probe) - unknown, unknown) == (mated, others)
    manifest, enrolled, probes = lists.resolve()
    assert len({*manifest.keys}) == len(enrolled) + len(probes)
    people = {*manifest.subject[probes].tolist()} - {-1}
    assert len(people) == 596 and people <= {*manifest.subject[enrolled].tolist()}


@pytest.mark.parametrize(
    ("lists", "metric", "value", "row"),
    [
        ("lfw-closed", "rank-1", 3081 / 3143, "closed, rank-1, 4,665 enrolled"),
        ("lfw-closed-4249", "rank-1", 3083 / 3143, "closed, rank-1, 4,249 enrolled"),
        ("lfw-open", "tpir@fpir=1e-2", 570 / 596, "open, DIR at FAR 1 %, one image"),
        ("lfw-open-3143", "tpir@fpir=1e-2", 577 / 596, "open, DIR at FAR 1 %, 3,143 images"),
    ],
)
def test_lfw_searched_by_a_real_model(
    shared_data: Path,
    capsys: pytest.CaptureFixture[str],
    lists: str,
    metric: str,
    value: float,
    row: str,
) -> None:
    held = shared_data / "features"
    words = ["search", "--lists", lists, "--features"]
    words += [str(held / "lfw_mobilefacenet_flipsum_l2.npy"), "--keys", str(held / "lfw_paths.txt")]
    assert run([*words, "--quiet", "--json", "-"]) == 0
    found = json.loads(capsys.readouterr().out)["metrics"][metric]
    assert found["value"] == pytest.approx(value, abs=1e-9)
    page = Path(__file__).resolve().parents[1] / "docs" / "protocols" / "search.md"
    if page.is_file():
        shown = "{value:.2f} [{low:.2f}, {high:.2f}]".format(
            **{name: 100 * found[name] for name in ("value", "low", "high")}
        )
        assert f"| {row} | {shown} |" in page.read_text("utf-8")
