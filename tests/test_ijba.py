"""IJB-A's splits against plain loops, on synthetic faces and on two of the real splits."""

import json
from pathlib import Path

import numpy as np
import pytest

from evalkit.cli import run
from evalkit.datasets import ijba
from evalkit.errors import DataError, ProtocolError
from evalkit.protocols.ijb import Enrolled, splits
from evalkit.protocols.metrics.similarity import exact_scores, normalise
from evalkit.types import PairSet

pytestmark = pytest.mark.once

RNG = np.random.default_rng(3)
PEOPLE, TEMPLATES = 12, 36
SUBJECT = np.repeat(np.arange(PEOPLE), 3)  # of templates 100, 101, ...


def split(seed: int) -> splits.Split:
    """Draw 36 templates of 1 to 4 faces in media of two; the rows of 144 faces."""
    rng = np.random.default_rng(seed)
    count = rng.integers(1, 5, TEMPLATES)
    template = np.repeat(np.arange(TEMPLATES), count)
    row = 4 * template + np.concatenate([np.arange(n) for n in count])
    media = row // 2
    left, right = rng.integers(0, TEMPLATES, (2, 400))
    kept = left != right
    left, right = left[kept], right[kept]
    pairs = PairSet(left + 100, right + 100, SUBJECT[left] == SUBJECT[right])
    gallery = np.arange(0, 24, 3)  # of 8 people
    probe = np.setdiff1d(np.arange(TEMPLATES), gallery)
    return splits.Split(
        row=row,
        template=template + 100,
        media=media,
        pairs=pairs,
        gallery=Enrolled(gallery + 100, SUBJECT[gallery]),
        probe=Enrolled(probe + 100, SUBJECT[probe]),
    )


FEATURES = (RNG.normal(size=(PEOPLE, 8))[np.arange(144) // 12] + RNG.normal(size=(144, 8))).astype(
    np.float32
)
SPLITS = [split(seed) for seed in range(3)]


def in_loops(s: splits.Split, far: float, fpir: float) -> dict[str, float]:
    """Pool, compare and search one split, template by template."""
    vectors = {}
    for t in np.unique(s.template).tolist():
        media: dict[int, list[np.ndarray]] = {}
        for row, of, medium in zip(s.row, s.template, s.media, strict=True):
            if of == t:
                unit = FEATURES[row].astype(float)
                media.setdefault(int(medium), []).append(unit / np.linalg.norm(unit))
        total = sum(np.mean(held, axis=0) for held in media.values())
        vectors[t] = normalise(np.asarray(total)[None])
    zero = np.zeros(1, int)
    score = lambda a, b: float(exact_scores(vectors[a], zero, vectors[b], zero)[0])  # noqa: E731
    assert s.pairs is not None and s.gallery is not None and s.probe is not None
    each = [score(a, b) for a, b in zip(s.pairs.left.tolist(), s.pairs.right.tolist(), strict=True)]
    impostor = sorted(
        (v for v, g in zip(each, s.pairs.genuine, strict=True) if not g), reverse=True
    )
    genuine = [v for v, g in zip(each, s.pairs.genuine, strict=True) if g]
    made = {"tpr": np.mean([v > impostor[int(far * len(impostor))] for v in genuine])}
    hits, alarms = [], []
    for p, who in zip(s.probe.template.tolist(), s.probe.subject.tolist(), strict=True):
        found = {
            int(w): score(p, g)
            for g, w in zip(s.gallery.template.tolist(), s.gallery.subject, strict=True)
        }
        if who in found:
            hits.append((1 + sum(v > found[who] for v in found.values()), found[who]))
        else:
            alarms.append(max(found.values()))
    bar = sorted(alarms, reverse=True)[int(fpir * len(alarms))]
    made["rank"] = np.mean([r <= 5 for r, _ in hits])
    made["tpir"] = np.mean([r == 1 and v > bar for r, v in hits])
    return {name: float(v) for name, v in made.items()}


def test_every_split_is_what_loops_give() -> None:
    report = splits.evaluate(FEATURES, SPLITS, fars="0.05", fpirs="0.2", depths=(5,))
    slow = [in_loops(s, 0.05, 0.2) for s in SPLITS]
    names = {
        "tpr": "tpr@far=0.05,mean=split",
        "rank": "rank-5@mean=split",
        "tpir": "tpir@fpir=0.2,mean=split",
    }
    assert set(report.metrics) == {*names.values()}
    for short, name in names.items():
        each = [found[short] for found in slow]
        m = report[name]
        assert m.folds == pytest.approx(each, abs=1e-15), name
        assert m.value == pytest.approx(np.mean(each)) and m.low is None
        assert m.standard_error == pytest.approx(np.std(each, ddof=1) / 3**0.5)
        assert f"{100 * np.std(each, ddof=1):.2f} points" in m.note
    assert 0 < (report["tpr@far=0.05,mean=split"].value or 0) < 1


def test_faces_without_a_vector_lower_the_rates() -> None:
    whole = splits.evaluate(FEATURES, SPLITS, fars="0.1")
    lost = FEATURES.copy()
    lost[:16] = np.nan  # four templates
    broken = splits.evaluate(lost, SPLITS, fars="0.1")
    assert broken.failures.images == 16 and broken.failures.genuine and broken.failures.impostor
    name = "rank-1@mean=split"
    assert (broken[name].value or 0) < (whole[name].value or 0)


def test_what_is_no_set_of_splits_is_refused() -> None:
    with pytest.raises(ProtocolError, match="1 split has no deviation"):
        splits.evaluate(FEATURES, SPLITS[:1])
    bare = splits.Split(row=SPLITS[0].row, template=SPLITS[0].template, media=SPLITS[0].media)
    with pytest.raises(ProtocolError, match="split 2 has neither pairs nor a gallery"):
        splits.evaluate(FEATURES, [SPLITS[0], bare])


def write(folder: Path, number: int, s: splits.Split) -> None:
    """Write a split as NIST does."""
    assert s.pairs is not None and s.gallery is not None and s.probe is not None
    lists = {"verify_metadata": s.template, "search_gallery": s.gallery.template}
    lists["search_probe"] = s.probe.template
    for name, held in lists.items():
        rows = ["TEMPLATE_ID,SUBJECT_ID,FILE,MEDIA_ID,SIGHTING_ID"]
        for row, template, medium in zip(s.row, s.template, s.media, strict=True):
            if template in held:
                rows.append(f"{template},{SUBJECT[template - 100]},img/{row}.jpg,{medium},1")
        (folder / f"{name}_{number}.csv").write_text("\n".join(rows))
    pairs = [f"{a},{b}" for a, b in zip(s.pairs.left, s.pairs.right, strict=True)]
    (folder / f"verify_comparisons_{number}.csv").write_text("\n".join(pairs))


def test_the_folder_as_nist_has_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number, s in enumerate(SPLITS, 1):
        (tmp_path / f"split{number}").mkdir()
        write(tmp_path / f"split{number}", number, s)
    keys = np.array([f"crops/img/{row}.png" for row in range(144)])
    np.savez(tmp_path / "x.npz", features=FEATURES, keys=keys)
    words = ["ijba", str(tmp_path), "--features", str(tmp_path / "x.npz"), "--far", "0.05"]
    assert run([*words, "--fpir", "0.2", "--quiet", "--json", "-"]) == 0
    made = json.loads(capsys.readouterr().out)
    expected = splits.evaluate(FEATURES, SPLITS, fars="0.05", fpirs="0.2")
    assert {n: m["value"] for n, m in made["metrics"].items()} == expected.flat()
    assert made["provenance"]["lists"].startswith("splits 1, 2, 3 in ")
    (tmp_path / "split2" / "search_probe_2.csv").unlink()
    with pytest.raises(DataError, match=r"split 2 in .* lacks search_probe_2\.csv"):
        ijba.read(tmp_path)
    with pytest.raises(DataError, match="holds no split of IJB-A"):
        ijba.read(tmp_path / "split9")


def test_two_real_splits(shared_data: Path) -> None:
    listed = ijba.read(shared_data / "ijba")
    assert listed.numbers == (1, 2)
    held = [s.pairs for s in listed.splits if s.pairs is not None]
    assert [(len(p), int(p.genuine.sum())) for p in held] == [(11787, 1803), (11779, 1779)]
    assert [len(np.unique(s.template)) for s in listed.splits] == [1970, 1952]
    who = listed.manifest.subject
    face = np.random.default_rng(0).normal(size=(int(who.max()) + 1, 16))[who]
    x = (face + 0.8 * np.random.default_rng(1).normal(size=face.shape)).astype(np.float32)
    report = splits.evaluate(x, listed.splits)
    assert list(report.metrics) == [f"tpr@far={far},mean=split" for far in splits.FARS]
    values = [m.value or 0 for m in report.metrics.values()]
    assert 1 >= values[0] >= values[1] >= values[2] > 0.8
