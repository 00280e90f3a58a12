"""IJB-A's splits against plain loops, on synthetic faces and on two of the real splits."""

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evalkit.cli import run
from evalkit.datasets import ijba
from evalkit.errors import DataError, ProtocolError
from evalkit.protocols.ijb import Enrolled, splits
from evalkit.protocols.metrics.similarity import exact_scores, normalise
from evalkit.protocols.uncertainty.bootstrap import shrinkage
from evalkit.protocols.uncertainty.intervals import rising
from evalkit.protocols.uncertainty.sample import ComparisonSample
from evalkit.protocols.uncertainty.weights import SCALE, weight_draws
from evalkit.types import Estimate, PairSet
from evalkit.verdict.compare import compare
from evalkit.verdict.gate import Rule, check

pytestmark = pytest.mark.once

RNG = np.random.default_rng(3)
PEOPLE, TEMPLATES, TESTED = 12, 36, 9
SUBJECT = np.repeat(np.arange(PEOPLE), 3)  # of templates 100, 101, ...
WHO = np.repeat(SUBJECT, 4)  # of rows


@pytest.fixture(autouse=True)
def few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(splits, "DRAWS", 40)


def split(seed: int) -> splits.Split:
    """Draw 9 of 12 people, three templates each, of 1 to 4 faces in media of two."""
    rng = np.random.default_rng(seed)
    tested = np.flatnonzero(np.isin(SUBJECT, rng.permutation(PEOPLE)[:TESTED]))
    count = rng.integers(1, 5, len(tested))
    template = np.repeat(tested, count)
    row = 4 * template + np.concatenate([np.arange(n) for n in count])
    media = row // 2
    left, right = tested[rng.integers(0, len(tested), (2, 400))]
    kept = left != right
    left, right = left[kept], right[kept]
    pairs = PairSet(left + 100, right + 100, SUBJECT[left] == SUBJECT[right])
    gallery = tested[:18:3]  # of 6 people
    probe = np.setdiff1d(tested, gallery)
    return splits.Split(
        row=row,
        template=template + 100,
        media=media,
        pairs=pairs,
        gallery=Enrolled(gallery + 100, SUBJECT[gallery]),
        probe=Enrolled(probe + 100, SUBJECT[probe]),
    )


FEATURES = (RNG.normal(size=(PEOPLE, 8))[WHO] + RNG.normal(size=(144, 8))).astype(np.float32)
SPLITS = [split(seed) for seed in range(3)]
RATES: dict[str, Any] = {"fars": "0.05", "fpirs": "0.2", "depths": (5,)}
NAMES = ("tpr@far=0.05,mean=split", "rank-5@mean=split", "tpir@fpir=0.2,mean=split")
Scored = list[tuple[float, ...]]  # rank where there is one, score, person or two


@cache
def compared(number: int) -> tuple[Scored, Scored, Scored, Scored]:
    """Pool, compare and search one split, template by template.

    Genuine and impostor pairs, searches with a mate and without.
    """
    s, vectors = SPLITS[number], {}
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
    genuine, impostor, hits, alarms = list[Any](), list[Any](), list[Any](), list[Any]()
    for a, b in zip(s.pairs.left.tolist(), s.pairs.right.tolist(), strict=True):
        p, q = SUBJECT[a - 100], SUBJECT[b - 100]
        (genuine if p == q else impostor).append((score(a, b), p, q))
    for p, who in zip(s.probe.template.tolist(), s.probe.subject.tolist(), strict=True):
        found = {
            int(w): score(p, g)
            for g, w in zip(s.gallery.template.tolist(), s.gallery.subject, strict=True)
        }
        if who in found:
            hits.append((1 + sum(v > found[who] for v in found.values()), found[who], who))
        else:
            alarms.append((max(found.values()), who))
    return genuine, sorted(impostor, reverse=True), hits, sorted(alarms, reverse=True)


def border(scores: Scored, weights: Sequence[float], rate: float) -> float:
    """Score of the first of the highest that a rate does not allow."""
    allowed = np.cumsum(weights) <= rate * sum(weights) * (1 + 1e-12)
    return scores[int(np.argmin(allowed))][0]


def in_loops(
    lists: tuple[Scored, ...], w: Sequence[float], c: float, unseen: float | None
) -> list[list[float]]:
    """TPR, rank-5 and TPIR where people weigh w: alone, or where the unseen fails and succeeds."""
    genuine, impostor, hits, alarms = lists
    of_impostor = [1 + c * (w[int(p)] * w[int(q)] - 1) for _, p, q in impostor]
    bar = border(impostor, of_impostor, 0.05)
    alarm = border(alarms, [w[int(p)] for _, p in alarms], 0.2)
    accepted = [(v > bar, int(p)) for v, p, _ in genuine]
    near = [(r <= 5, int(p)) for r, _, p in hits]
    first = [(r == 1 and v > alarm, int(p)) for r, v, p in hits]
    shares = []
    for decided in (accepted, near, first):
        part, whole = sum(w[p] for right, p in decided if right), sum(w[p] for _, p in decided)
        each = len(decided) / len({p for _, p in decided})
        more = [0.0] if unseen is None else [0.0, each * unseen]
        shares.append([(part + more_of) / (whole + more[-1]) for more_of in more])
    return shares


def test_every_split_is_what_loops_give() -> None:
    report = splits.evaluate(FEATURES, SPLITS, **RATES)
    slow = np.array([in_loops(compared(k), np.ones(PEOPLE), 1, None) for k in range(3)])[..., 0]
    assert tuple(report.metrics) == NAMES and report.outcomes is None
    for name, each in zip(NAMES, slow.T, strict=True):
        m = report[name]
        assert m.folds == pytest.approx(each, abs=1e-15), name
        assert m.value == pytest.approx(np.mean(each)) and m.low is None
        assert m.standard_error == pytest.approx(np.std(each, ddof=1) / 3**0.5)
        assert f"{100 * np.std(each, ddof=1):.2f} points" in m.note
    assert 0 < (report[NAMES[0]].value or 0) < 1


def test_a_draw_weighs_the_same_people_in_every_split_as_loops_do() -> None:
    report = splits.evaluate(FEATURES, SPLITS, WHO, **RATES, seed=5)
    lists = [compared(k) for k in range(3)]
    c = []
    for _, impostor, *_ in lists:
        e = (np.arange(len(impostor)) < int(0.05 * len(impostor))).astype(float)
        p, q = (np.array([int(row[k]) for row in impostor]) for k in (1, 2))
        pairs = ComparisonSample(
            subjects=PEOPLE,
            genuine=np.empty(0),
            genuine_subject=p[:0],
            impostor=-np.arange(len(p), dtype=float),
            left=p,
            right=q,
            impostors=len(p),
        )
        c.append(shrinkage(pairs, e - e.mean()))
    drawn, ends = [], []
    for weight, unseen in weight_draws(PEOPLE, 40, 5):
        w, more = weight / SCALE, round(unseen * TESTED / PEOPLE) / SCALE
        each = zip(lists, c, strict=True)
        drawn.append(np.mean([in_loops(of, w, k, None) for of, k in each], axis=0)[:, 0])
        each = zip(lists, c, strict=True)
        ends.append(np.mean([in_loops(of, w, k, more) for of, k in each], axis=0))
    for n, name in enumerate(NAMES):
        kept = (report.outcomes or {})[f"drawn:{name}"]
        assert kept == pytest.approx(np.array(drawn)[:, n]), name
        m, of_name = report[name], np.array(ends)[:, n]
        assert m.low == pytest.approx(np.quantile(of_name[:, 0], 0.025, method="weibull"))
        assert m.high == pytest.approx(np.quantile(of_name[:, 1], 0.975, method="weibull"))
        assert m.people == PEOPLE and "room for one unseen beside 12" in (m.interval or "")
        assert m.folds == splits.evaluate(FEATURES, SPLITS, **RATES)[name].folds
    renamed = splits.evaluate(FEATURES, SPLITS, 100 - WHO, **RATES, seed=5)
    assert renamed.metrics == report.metrics


def test_the_same_people_are_drawn_for_both_models() -> None:
    noisier = FEATURES + 2 * RNG.normal(size=FEATURES.shape).astype("f4")
    base, now, again = (
        splits.evaluate(x, SPLITS, WHO, **RATES, keys=range(144), set_name="people")
        for x in (FEATURES, noisier, 2 * FEATURES)
    )
    found = compare(base, now)
    assert tuple(found.differences) == NAMES and not found.why_unpaired
    for name, d in found.differences.items():
        gap = (now.outcomes or {})[f"drawn:{name}"] - (base.outcomes or {})[f"drawn:{name}"]
        singly = [(r.outcomes or {})[f"drawn:{name}"].std() for r in (base, now)]
        assert 0 < gap.std() < np.hypot(*singly)  # what both find hard cancels
        assert d.test == "subject bootstrap" and d.people == PEOPLE
    assert compare(base, again).differences[NAMES[0]].p == 1
    assert not check(now, base, [Rule(metric=NAMES[0])]).passed
    other = splits.evaluate(FEATURES, SPLITS[::-1], WHO, **RATES)
    assert "'trials' differs" in compare(base, other, ignore=["comparisons"]).why_unpaired


def test_the_interval_of_tpr_never_rises_as_far_falls() -> None:
    names = [f"tpr@far={far},mean=split" for far in ("0.01", "0.1")]
    crossing = [(0.5, 0.9), (0.4, 0.8)]
    found = rising(
        {n: Estimate(value=0.6, low=a, high=b) for n, (a, b) in zip(names, crossing, strict=True)}
    )
    assert [(found[n].low, found[n].high) for n in names] == [(0.4, 0.9), (0.4, 0.9)]


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
    mixed = WHO.copy()
    mixed[SPLITS[0].row[1]] = 50
    with pytest.raises(ProtocolError, match=r"template 10\d has faces of two subjects"):
        splits.evaluate(FEATURES, SPLITS, mixed)


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
    assert {m["people"] for m in made["metrics"].values()} == {PEOPLE}
    assert made["provenance"]["lists"].startswith("splits 1, 2, 3 in ")
    listed = [s.pairs for s in SPLITS if s.pairs is not None]
    each = [{*map(frozenset, zip(p.left.tolist(), p.right.tolist(), strict=True))} for p in listed]
    for number, (pairs, once) in enumerate(zip(listed, each, strict=True), 1):
        told = f"split {number}: {len(pairs) - len(once)} of {len(pairs)} pairs repeat another one"
        assert told in made["provenance"]["listed twice"]
    (tmp_path / "split2" / "search_probe_2.csv").unlink()
    with pytest.raises(DataError, match=r"split 2 in .* lacks search_probe_2\.csv"):
        ijba.read(tmp_path)
    with pytest.raises(DataError, match="holds no split of IJB-A"):
        ijba.read(tmp_path / "split9")


def test_two_real_splits(shared_data: Path) -> None:
    listed = ijba.read(shared_data / "ijba")
    assert not ijba.doubts(listed)
    assert listed.numbers == (1, 2)
    held = [s.pairs for s in listed.splits if s.pairs is not None]
    assert [(len(p), int(p.genuine.sum())) for p in held] == [(11787, 1803), (11779, 1779)]
    assert [len(np.unique(s.template)) for s in listed.splits] == [1970, 1952]
    who = listed.manifest.subject
    face = np.random.default_rng(0).normal(size=(int(who.max()) + 1, 16))[who]
    x = (face + 0.8 * np.random.default_rng(1).normal(size=face.shape)).astype(np.float32)
    report = splits.evaluate(x, listed.splits, who)
    assert list(report.metrics) == [f"tpr@far={far},mean=split" for far in splits.FARS]
    values = [m.value or 0 for m in report.metrics.values()]
    assert 1 >= values[0] >= values[1] >= values[2] > 0.8
    for m in report.metrics.values():
        assert m.people == len(np.unique(who)) and (m.low or 0) < (m.value or 0) <= (m.high or 0)
