"""YouTube Faces against plain loops over frames, and on the official list of 5,000 pairs."""

import json
from pathlib import Path

import numpy as np
import pytest

from evalkit.cli import run
from evalkit.datasets import pair_list_layouts, youtube_faces
from evalkit.errors import DataError, ProtocolError
from evalkit.protocols import verification, ytf
from evalkit.protocols.metrics.similarity import exact_scores, normalise
from evalkit.types import PairSet

pytestmark = pytest.mark.once

VIDEOS, PEOPLE = 60, 20


def the_set(seed: int = 0) -> tuple[np.ndarray, np.ndarray, PairSet, np.ndarray]:
    """Draw 3 videos a person of 1 to 7 frames, and 10 folds of 12 pairs."""
    rng = np.random.default_rng(seed)
    subject = np.repeat(np.arange(PEOPLE), 3)
    video = np.repeat(np.arange(VIDEOS), rng.integers(1, 8, VIDEOS))
    x = rng.normal(size=(PEOPLE, 8))[subject[video]] + rng.normal(size=(len(video), 8))
    left = rng.integers(0, VIDEOS, 120)
    genuine = np.arange(120) % 2 == 0
    mate = left // 3 * 3 + (left + 1) % 3
    right = np.where(genuine, mate, (left + 3 * rng.integers(1, PEOPLE, 120)) % VIDEOS)
    return x.astype(np.float32), video, PairSet(left, right, genuine, np.arange(120) // 12), subject


def unit(v: np.ndarray) -> np.ndarray:
    return v / np.sqrt(sum(float(c) ** 2 for c in v))


def slow_score(a: list[np.ndarray], b: list[np.ndarray], comparison: str) -> float:
    """Compare two videos frame by frame."""
    if comparison == "mean-vector":
        return float(unit(sum(a) / len(a)) @ unit(sum(b) / len(b)))
    scores = sorted((float(p @ q) for p in a for q in b), reverse=True)
    kept = {"pairs-mean": scores, "pairs-max": scores[:1], "pairs-top-3": scores[:3]}[comparison]
    return sum(kept) / len(kept)


def frames_of(x: np.ndarray, video: np.ndarray) -> list[list[np.ndarray]]:
    return [[unit(row.astype(float)) for row in x[video == v]] for v in range(VIDEOS)]


@pytest.mark.parametrize("comparison", ["mean-vector", "pairs-mean", "pairs-max", "pairs-top-3"])
def test_every_comparison_is_what_loops_give(comparison: str) -> None:
    x, video, pairs, _ = the_set()
    frames = frames_of(x, video)
    slow = [
        slow_score(frames[a], frames[b], comparison)
        for a, b in zip(pairs.left, pairs.right, strict=True)
    ]
    score = ytf.video_scores(normalise(x), video, pairs, comparison)
    np.testing.assert_allclose(score, slow, atol=3e-7)  # float32 unit vectors


def test_the_report_is_that_of_verification_whatever_the_order_of_rows() -> None:
    x, video, pairs, subject = the_set()
    more = {"comparison": "pairs-mean", "frames": 3, "fars": "0.1"}
    keys = [f"{n:04d}" for n in range(len(x))]
    report = ytf.evaluate(x, video, pairs, subject, keys=keys, **more)  # type: ignore[arg-type]
    rows = ytf.drawn_frames(video, 3)
    score = ytf.video_scores(normalise(x[rows]), video[rows], pairs, "pairs-mean")
    measured = verification.measures(score, pairs.genuine, pairs.fold, ["0.1"])
    assert {name: m.value for name, m in report.metrics.items() if name in measured} == {
        name: m.value for name, m in measured.items()
    }
    assert report["accuracy"].low is not None
    moved = np.random.default_rng(1).permutation(len(x))
    again = ytf.evaluate(
        x[moved], video[moved], pairs, subject, keys=[keys[row] for row in moved], **more
    )  # type: ignore[arg-type]
    assert again.metrics == report.metrics and again.identity == report.identity


def test_the_best_frame_pairs_are_exact_where_float32_cannot_tell() -> None:
    rng = np.random.default_rng(0)
    face = rng.normal(size=64)
    x = normalise((face + 1e-6 * rng.normal(size=(40, 64))).astype(np.float32))
    video = np.arange(40) // 20
    pairs = PairSet(np.array([0]), np.array([1]), np.array([True]))
    i, j = np.repeat(np.arange(20), 20), 20 + np.tile(np.arange(20), 20)
    every = np.sort(exact_scores(x, i, x, j))[::-1]
    assert ytf.video_scores(x, video, pairs, "pairs-max")[0] == every[0]
    five = ytf.video_scores(x, video, pairs, "pairs-top-5")[0]
    assert five == pytest.approx(every[:5].mean(), abs=1e-16)


def test_frames_are_capped_by_a_draw_of_each_video_alone() -> None:
    video = np.repeat([0, 1, 2, -1], [10, 3, 8, 5])
    rows = ytf.drawn_frames(video, 4)
    assert np.bincount(video[rows]).tolist() == [4, 3, 4]
    assert len(np.unique(rows)) == len(rows)
    assert rows.tolist() == ytf.drawn_frames(video, 4).tolist()
    assert rows.tolist() != ytf.drawn_frames(video, 4, 1).tolist()
    alone = np.where(video == 2, 2, -1)
    assert ytf.drawn_frames(alone, 4).tolist() == rows[video[rows] == 2].tolist()
    assert len(ytf.drawn_frames(video, None)) == 21
    with pytest.raises(ProtocolError, match="frames of a video given as 0"):
        ytf.drawn_frames(video, 0)
    drawn = np.array([ytf.drawn_frames(np.zeros(6, int), 2, seed) for seed in range(600)])
    assert np.bincount(drawn.ravel()) == pytest.approx(np.full(6, 200), abs=50)


def test_frames_without_a_vector_are_left_out_and_a_video_of_them_is_rejected() -> None:
    x, video, pairs, _ = the_set()
    longest = int(np.bincount(video).argmax())
    broken, lost = normalise(x), normalise(x)
    broken[np.flatnonzero(video == longest)[0]] = np.nan
    lost[video == longest] = np.nan
    kept = np.isfinite(broken).all(axis=1)
    hit = (pairs.left == longest) | (pairs.right == longest)
    for comparison in ("mean-vector", "pairs-mean", "pairs-max"):
        np.testing.assert_array_equal(
            ytf.video_scores(broken, video, pairs, comparison),
            ytf.video_scores(broken[kept], video[kept], pairs, comparison),
        )
        score = ytf.video_scores(lost, video, pairs, comparison)
        assert np.isneginf(score).tolist() == hit.tolist() and hit.any()
    few = PairSet(pairs.left, pairs.right, pairs.genuine)
    report = ytf.evaluate(lost, video, few, fars="0.5")
    assert report.failures.images == (video == longest).sum()
    assert report.failures.genuine == (hit & pairs.genuine).sum()


def test_what_does_not_fit_is_refused() -> None:
    x, video, pairs, _ = the_set()
    with pytest.raises(ProtocolError, match="no comparison of videos is called 'median'"):
        ytf.evaluate(x, video, pairs, comparison="median")
    with pytest.raises(ProtocolError, match="have videos of shape"):
        ytf.evaluate(x, video[:-1], pairs)
    with pytest.raises(DataError, match=r"no frame: B/2; .* here is called 'x/A/1/0.1.jpg'"):
        youtube_faces.videos_of(["x/A/1/0.1.jpg"], ["A/1", "B/2"])
    found = youtube_faces.videos_of(["A/1/0.1.jpg", "z/B/2/9", "C/1/1.jpg"], ["A/1", "B/2"])
    assert found.tolist() == [0, 1, -1]


def test_the_official_list(
    shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = shared_data / "ytf" / "splits.txt"
    listed = pair_list_layouts.read(path).pairs
    manifest, pairs = listed.resolve()
    assert pairs.fold is not None and pairs.genuine.sum() == 2500
    assert np.bincount(pairs.fold)[-10:].tolist() == [500] * 10
    assert (len(manifest.keys), manifest.subject.max() + 1) == (3226, 1447)
    # Three frames of each video of every 25th pair, drawn around its person.
    lines = path.read_text().splitlines()
    Path(tmp_path / "few.txt").write_text("\n".join(lines[::25]))
    listed = pair_list_layouts.read(tmp_path / "few.txt").pairs
    few = listed.resolve()[0]
    rng = np.random.default_rng(0)
    who = np.repeat(few.subject, 3)
    x = rng.normal(size=(few.subject.max() + 1, 16))[who] + rng.normal(size=(len(who), 16))
    keys = [f"frames/{video}/0.{n}.jpg" for video in few.keys for n in range(3)]
    np.savez(tmp_path / "x.npz", features=x.astype(np.float32), keys=np.array(keys))
    words = ["ytf", str(tmp_path / "few.txt"), "--features", str(tmp_path / "x.npz")]
    words += ["--comparison", "pairs-mean", "--frames", "2", "--frames-seed", "3"]
    assert run([*words, "--quiet", "--json", "-"]) == 0
    made = json.loads(capsys.readouterr().out)
    told = made["provenance"]
    assert (told["pairs"], told["videos"], told["frames"]) == (
        200,
        len(few.keys),
        2 * len(few.keys),
    )
    assert told["frames a video"] == "at most 2, seed 3" and "listed twice" not in told
    accuracy = made["metrics"]["accuracy"]
    assert len(accuracy["folds"]) == 10 and 0.9 < accuracy["value"] < 1
    Path(tmp_path / "few.txt").write_text("\n".join([*lines[::25], lines[25]]))
    assert run([*words, "--quiet", "--json", "-"]) == 0
    told = json.loads(capsys.readouterr().out)["provenance"]
    assert told["listed twice"].startswith("1 of 201 pairs repeat an earlier one")
