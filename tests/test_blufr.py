import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from scipy.io import savemat
from scipy.special import stdtrit

from evalkit import cli
from evalkit.datasets.blufr import read_config
from evalkit.errors import DataError, ProtocolError
from evalkit.keys import rows_of
from evalkit.protocols import all_vs_all, blufr
from evalkit.protocols.metrics.similarity import exact_scores, normalise
from evalkit.protocols.uncertainty.intervals import bounded
from evalkit.types import Estimate
from evalkit.verdict.compare import compare
from evalkit.verdict.gate import Rule, check


def _set() -> tuple[np.ndarray, np.ndarray, list[blufr.Trial]]:
    rng = np.random.default_rng(0)
    subject = np.repeat(np.arange(30), 4)
    x = rng.normal(size=(30, 8))[subject] + 0.7 * rng.normal(size=(120, 8))
    trials = []
    for _ in range(3):
        people = rng.permutation(30)[:20]
        test = np.flatnonzero(np.isin(subject, people))
        gallery = np.array([4 * p for p in people[:10]])
        trials.append(blufr.Trial(test, gallery, np.setdiff1d(test, gallery)))
    return x.astype(np.float32), subject, trials


def _slow(x: np.ndarray, subject: np.ndarray, t: blufr.Trial, far: float, fpir: float) -> Any:
    """Compute one trial's rates by the at-most rule and by BLUFR's code, in loops."""
    u = normalise(x)
    score = lambda a, b: exact_scores(u, np.array([a]), u, np.array([b]))[0]  # noqa: E731
    pairs = [(a, b) for a in t.test for b in t.test if a > b]
    genuine = np.array([score(a, b) for a, b in pairs if subject[a] == subject[b]])
    impostor = sorted((score(a, b) for a, b in pairs if subject[a] != subject[b]), reverse=True)
    vr = np.mean(genuine > impostor[int(far * len(impostor))])
    theirs = np.mean(genuine >= impostor[int(far * len(impostor) + 0.5) - 1])
    mates, others = [], []
    for p in t.probe:
        s = {g: score(p, g) for g in t.gallery}
        own = [g for g in t.gallery if subject[g] == subject[p]]
        if own:
            mates.append((s[own[0]], sum(v > s[own[0]] for v in s.values()) == 0))
        else:
            others.append(max(s.values()))
    others.sort(reverse=True)
    k = int(fpir * len(others))
    dir_ = np.mean([s > others[k] and first for s, first in mates])
    r = int(fpir * len(others) + 0.5)
    return vr, theirs, dir_, np.mean([s >= others[r - 1] and first for s, first in mates])


def test_the_trials_are_what_loops_give() -> None:
    x, subject, trials = _set()
    found = blufr.evaluate(x, subject, trials, far="0.01", fpir="0.06").metrics
    slow = np.array([_slow(x, subject, t, 0.01, 0.06) for t in trials])
    names = ["vr@far=0.01", "vr@far=0.01,rule=blufr"]
    names += ["dir@fpir=0.06,rank=1", "dir@fpir=0.06,rank=1,rule=blufr"]
    assert list(found) == names
    for name, m in found.items():
        assert m.low is not None and m.high is not None and m.value is not None, name
        assert m.low < m.value < m.high
    for name, column in zip(names, slow.T, strict=True):
        assert found[name].folds == tuple(column), name
        assert found[name].value == pytest.approx(column.mean() - column.std(ddof=1), abs=1e-15)


def test_images_without_a_template_reject_the_pairs_of_every_trial() -> None:
    x, subject, trials = _set()
    x[[3, 40, 41]] = np.nan
    rejected = [
        subject[a] == subject[b]
        for t in trials
        for a in t.test
        for b in t.test
        if a > b and not np.isfinite(x[[a, b]]).all()
    ]
    f = blufr.evaluate(x, subject, trials, far="0.01", fpir="0.06").failures
    assert (f.images, f.genuine, f.impostor) == (3, sum(rejected), len(rejected) - sum(rejected))
    assert f.genuine and f.impostor


def test_the_same_people_are_drawn_for_both_models() -> None:
    x, subject, trials = _set()
    rng = np.random.default_rng(1)
    noisier = x + 0.5 * rng.normal(size=x.shape).astype("f4")
    rows = range(len(x))
    base, now, again = (
        blufr.evaluate(f, subject, trials, far="0.01", fpir="0.06", keys=rows, set_name="people")
        for f in (x, noisier, 2 * x)
    )
    found = compare(base, now)
    assert list(found.differences) == list(base.metrics) and not found.why_unpaired
    for name, d in found.differences.items():
        gap = (now.outcomes or {})[f"drawn:{name}"] - (base.outcomes or {})[f"drawn:{name}"]
        n = len(np.unique(subject))
        half = stdtrit(n - 1, 0.975) * gap.std(ddof=1) * np.sqrt((n + 1) * (n - 1)) / (n - 2)
        assert d.low == pytest.approx(d.value - half)
        assert d.test == "subject bootstrap"
        singly = [(r.outcomes or {})[f"drawn:{name}"].std() for r in (base, now)]
        assert gap.std() < np.hypot(*singly)  # what both find hard cancels
    same = compare(base, again).differences["vr@far=0.01"]
    assert (same.value, same.p) == (0, 1) and 0 < same.detectable < 1
    assert not check(now, base, [Rule(metric="vr@far=0.01")]).passed
    another = blufr.evaluate(x, subject, [*trials[:2], trials[0]], far="0.01")
    other = compare(base, another, ignore=["comparisons"])
    assert "'trials' differs" in other.why_unpaired


def test_errors_at_a_threshold_are_means_over_the_trials() -> None:
    x, subject, trials = _set()
    u, at = normalise(x), 0.6
    slow = []
    for t in trials:
        i, j = np.triu_indices(len(t.test), 1)
        left, right = t.test[i], t.test[j]
        score, same = exact_scores(u, left, u, right), subject[left] == subject[right]
        against = exact_scores(
            u, np.repeat(t.probe, len(t.gallery)), u, np.tile(t.gallery, len(t.probe))
        )
        against = against.reshape(len(t.probe), -1)
        own = subject[t.gallery] == subject[t.probe][:, None]
        mated, best = own.any(axis=1), against.max(axis=1)
        mate = np.where(own, against, -np.inf).max(axis=1)[mated]
        found = (mate == best[mated]) & (mate >= at)
        slow.append(
            [
                np.mean(score[~same] >= at),
                np.mean(score[same] < at),
                np.mean(best[~mated] >= at),
                np.mean(~found),
                np.mean(found),
            ]
        )
    kinds = ("fmr", "fnmr", "fpir", "fnir", "tpir")
    rates = {"far": "0.01", "fpir": "0.06"}
    report = blufr.evaluate(x, subject, trials, **rates, threshold=at)
    plain = blufr.evaluate(x, subject, trials, **rates)
    assert {n: report.metrics[n] for n in plain.metrics} == plain.metrics
    for kind, column in zip(kinds, np.array(slow).T, strict=True):
        m = report.metrics[f"{kind}@threshold={at}"]
        assert m.folds == pytest.approx(tuple(column)) and m.threshold == at
        assert m.value == pytest.approx(column.mean())
        assert m.low is not None and m.high is not None and m.people == 30
        assert m.low < m.value < m.high and m.note.startswith("mean of 3 trials")
    same = compare(report, report, ignore=["comparisons"])
    assert {d.people for d in same.differences.values()} == {30}
    assert list(same.differences) == list(report.metrics)


def test_another_seed_draws_other_people_and_changes_no_value() -> None:
    x, subject, trials = _set()
    at = {"far": "0.01", "fpir": "0.06"}
    zero, again, one = (blufr.evaluate(x, subject, trials, **at, seed=s) for s in (0, 0, 1))
    for name, m in one.metrics.items():
        of_zero, of_one = ((r.outcomes or {})[f"drawn:{name}"] for r in (zero, one))
        assert not np.array_equal(of_zero, of_one), name
        assert (m.value, m.folds) == (zero.metrics[name].value, zero.metrics[name].folds)
        assert (m.low, m.high) != (zero.metrics[name].low, zero.metrics[name].high)
        assert m.interval is not None and "seed 1, room for" in m.interval
    assert again.metrics == zero.metrics
    assert int((one.outcomes or {})["seed"]) == 1


def test_what_is_no_rate_and_what_never_errs_have_intervals_too() -> None:
    """A mu - sigma below 0, and one of 1."""
    _, subject, trials = _set()
    perfect = np.eye(30, dtype=np.float32)[subject]
    m = blufr.evaluate(perfect, subject, trials, far="0.01", fpir="0.06").metrics["vr@far=0.01"]
    assert (m.value, m.high) == (1, 1)
    assert m.low is not None and 0.8 < m.low < 0.95  # of 20 people or so in each trial
    ends = np.array([[-0.06, -0.05], [-0.02, -0.01], [np.nan, np.nan], [0.02, 0.03]])
    m = bounded(Estimate(value=-0.01), ends, 30)
    assert (m.low, m.high) == pytest.approx((-0.06, 0.03))


@pytest.mark.slow
def test_real_features_at_blufrs_size(shared_data: Path) -> None:
    x = np.load(shared_data / "features" / "lfw_mobilefacenet_flipsum_l2.npy")
    keys = (shared_data / "features" / "lfw_paths.txt").read_text().splitlines()
    subject = np.unique([k.split("/")[0] for k in keys], return_inverse=True)[1]
    rng, trials = np.random.default_rng(0), []
    for _ in range(2):
        test = np.flatnonzero(np.isin(subject, rng.permutation(5749)[:4249]))
        _, first = np.unique(subject[test], return_index=True)
        gallery = test[rng.permutation(first)[:1000]]
        trials.append(blufr.Trial(test, gallery, np.setdiff1d(test, gallery)))
    found = blufr.evaluate(x, subject, trials).metrics
    # all 87.5 million pairs of LFW give .9967 at this FAR
    assert found["vr@far=1e-3"].folds == pytest.approx([0.9967, 0.9967], abs=2e-3)
    assert found["vr@far=1e-3"].n > 2 * 40_000_000
    value = found["dir@fpir=1e-2,rank=1"].value
    assert value is not None and 0.8 < value < 1


@pytest.mark.slow
def test_the_toolkits_own_configuration(shared_data: Path) -> None:
    path = shared_data / "blufr" / "blufr_lfw_config.mat"
    if not path.exists():
        pytest.skip(f"no {path}: it is on the toolkit's page, and not ours to hand on")
    config = read_config(path)
    assert (len(config.keys), config.subject.max() + 1, len(config.trials)) == (13_233, 5749, 10)
    images = [np.bincount(config.subject[t.test]) for t in config.trials]
    genuine = sum(int((n * (n - 1)).sum()) // 2 for n in images)
    pairs = sum(int(n.sum() * (n.sum() - 1)) // 2 for n in images)
    assert (genuine / 10, pairs - genuine) == (156_915.4, 470_035_651)
    assert {len(t.gallery) for t in config.trials} == {1000}
    assert {np.count_nonzero(n) for n in images} == {4249}
    x = np.load(shared_data / "features" / "lfw_mobilefacenet_flipsum_l2.npy")
    keys = (shared_data / "features" / "lfw_paths.txt").read_text().splitlines()
    found = blufr.evaluate(x[rows_of(config.keys, keys)], config.subject, config.trials).metrics
    assert found["vr@far=1e-3"].value == pytest.approx(0.99520 - 0.00295, abs=1e-5)
    assert found["dir@fpir=1e-2,rank=1"].value == pytest.approx(0.95657 - 0.00677, abs=1e-5)


def _config(folder: Path, **changed: Any) -> Path:
    _, subject, trials = _set()
    names = np.empty((120, 1), object)
    names[:, 0] = [f"P{s}_{i:04d}.jpg" for i, s in enumerate(subject)]

    def cells(name: str) -> np.ndarray:
        held = np.empty((1, len(trials)), object)
        for k, t in enumerate(trials):
            held[0, k] = (getattr(t, name) + 1).astype(float)[:, None]
        return held

    held = {
        "imageList": names,
        "labels": subject[:, None] + 7.0,
        "testIndex": cells("test"),
        "galIndex": cells("gallery"),
        "probIndex": cells("probe"),
        "trainIndex": cells("test"),
    }
    savemat(folder / "config.mat", {**held, **changed}, do_compression=True)
    return folder / "config.mat"


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    x, subject, trials = _set()
    config = read_config(_config(tmp_path))
    assert all(np.array_equal(a.probe, b.probe) for a, b in zip(config.trials, trials, strict=True))
    np.save("F.npy", x[::-1])
    Path("K.txt").write_text("\n".join(reversed(config.keys)))
    options = ["--features", "F.npy", "--keys", "K.txt", "--config", "config.mat", "--far", "0.01"]
    done = CliRunner().invoke(cli.cli, ["blufr", *options, "--fpir", "0.06", "--json", "-"])
    assert done.exit_code == 0, done.output
    direct = blufr.evaluate(x, subject, trials, far="0.01", fpir="0.06").metrics
    found = json.loads(done.stdout)["metrics"]
    assert {k: m["value"] for k, m in found.items()} == {k: m.value for k, m in direct.items()}


def test_a_given_threshold_on_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    x, subject, _ = _set()
    names = read_config(_config(tmp_path)).keys
    np.save("F.npy", x)
    Path("K.txt").write_text("\n".join(names))
    chosen = all_vs_all.evaluate(x, subject, fars=["0.01"])
    chosen.save("base.json")
    line = ["blufr", "--features", "F.npy", "--keys", "K.txt", "--config", "config.mat"]
    line += ["--threshold-from", "base.json"]
    assert cli.run(line) == 2  # at which FAR?
    done = CliRunner().invoke(cli.cli, [*line, "--far", "0.01", "--json", "-"])
    assert done.exit_code == 0, done.output
    at = chosen.metrics["tpr@far=0.01"].threshold
    assert f"fmr@threshold={at!r}" in json.loads(done.stdout)["metrics"]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"imageList": 3}, "no 'imageList'"),
        ({"labels": np.arange(3)}, "not one for each of 120 images"),
        ({"testIndex": 3}, "no cell of indices 'testIndex'"),
        ({"galIndex": np.array([[None]], object)}, "no cell of indices|outside 1 to 120"),
    ],
)
def test_what_is_no_configuration_is_refused(
    tmp_path: Path, changed: dict[str, Any], message: str
) -> None:
    if "galIndex" in changed:
        changed["galIndex"][0, 0] = np.array([[0.0, 5.0]])
    with pytest.raises(DataError, match=message):
        read_config(_config(tmp_path, **changed))


def test_rows_that_are_not_there_are_refused() -> None:
    x, subject, trials = _set()
    bad = blufr.Trial(np.array([0, 120]), trials[0].gallery, trials[0].probe)
    with pytest.raises(ProtocolError, match="trial 2: 'test' is empty or names a row outside"):
        blufr.evaluate(x, subject, [trials[0], bad])
    with pytest.raises(ProtocolError, match="no standard deviation"):
        blufr.evaluate(x, subject, trials[:1])
    two = blufr.Trial(trials[0].test, np.array([0, 1]), trials[0].probe)
    with pytest.raises(ProtocolError, match="two images of one person"):
        blufr.evaluate(x, subject, [two, two])
