"""Groups over BLUFR's trials and IJB-A's splits against plain loops, and IJB-A's own columns."""

import json
from pathlib import Path

import numpy as np
import pytest

from evalkit.cli import run
from evalkit.datasets import ijba
from evalkit.protocols import blufr, ijb
from evalkit.protocols.groups import Condition, Grouping
from evalkit.protocols.ijb import splits
from evalkit.protocols.metrics.similarity import exact_scores, normalise
from evalkit.types import Estimate

pytestmark = pytest.mark.once

RNG = np.random.default_rng(4)
WHO = np.repeat(np.arange(24), 4)
X = (RNG.normal(size=(24, 6))[WHO] + 0.7 * RNG.normal(size=(96, 6))).astype(np.float32)
SEX = np.array(["female", "male", "male", ""])[WHO % 4]
BY = Grouping.of("sex", SEX.tolist())
GAP = Condition.of("age-gap", np.arange(96.0) % 7, "gap", [2])


def _scores(x: np.ndarray) -> np.ndarray:
    i, j = np.indices((len(x), len(x)))
    return exact_scores(normalise(x), i.ravel(), normalise(x), j.ravel()).reshape(i.shape)


def _cell(pair: tuple[int, int], column: str) -> str:
    """Name the cell of two rows; "" where something is unknown."""
    if column == "age-gap":
        return "up to 2" if abs(pair[0] % 7 - pair[1] % 7) <= 2 else "over 2"
    groups = {SEX[row] for row in pair}
    return "" if "" in groups else "+".join(sorted(groups))


def _is_mean(m: Estimate, shares: list[float]) -> None:
    """Hold a rate against each trial's share, and its interval around their mean."""
    assert m.folds == tuple(shares)
    assert m.value == pytest.approx(np.mean(shares), abs=1e-15)
    assert m.low is not None and m.high is not None and m.low <= np.mean(shares) <= m.high
    assert m.people


def test_blufr_by_group_is_the_mean_of_what_loops_count() -> None:
    trials = []
    for start in (0, 8):  # a third of the people are not in a trial; four have no mate
        test = np.flatnonzero(np.isin(WHO, np.arange(start, start + 16)))
        gallery = test[(test % 4 == 0) & (WHO[test] < start + 12)]
        trials.append(blufr.Trial(test, gallery, np.setdiff1d(test, gallery)))
    asked = {"far": "2e-2", "fpir": "0.3", "threshold": 0.8, "groups": [BY, GAP]}
    report = blufr.evaluate(X, WHO, trials, **asked)  # type: ignore[arg-type]
    score, shares = _scores(X), dict[str, list[float]]()
    for trial in trials:
        rows = trial.test.tolist()
        pairs = [(a, b) for a in rows for b in rows if a < b]
        impostors = sorted((score[p] for p in pairs if WHO[p[0]] != WHO[p[1]]), reverse=True)
        bar = np.nextafter(impostors[int(0.02 * len(impostors))], np.inf)
        for point, t in (("far=2e-2", bar), ("threshold=0.8", 0.8)):
            for same, rate in ((False, "fmr"), (True, "fnmr")):
                for cell in ("female", "female+male", "male", "up to 2"):
                    column = "age-gap" if cell == "up to 2" else "sex"
                    own = [score[p] for p in pairs if (WHO[p[0]] == WHO[p[1]]) == same]
                    named = [_cell(p, column) for p in pairs if (WHO[p[0]] == WHO[p[1]]) == same]
                    own = [s for s, of in zip(own, named, strict=True) if of == cell]
                    if own:
                        wrong = [s < t if same else s >= t for s in own]
                        name = f"{rate}@{point},{column}={cell}"
                        shares.setdefault(name, []).append(float(np.mean(wrong)))
        gallery, probes = trial.gallery.tolist(), trial.probe.tolist()
        best = {p: max(score[p, g] for g in gallery) for p in probes}
        mate = {p: score[p, g] for p in probes for g in gallery if WHO[p] == WHO[g]}
        alarms = sorted((best[p] for p in probes if p not in mate), reverse=True)
        bar = np.nextafter(alarms[int(0.3 * len(alarms))], np.inf)
        for point, t in (("fpir=0.3", bar), ("threshold=0.8", 0.8)):
            for group in ("female", "male"):
                mine = [p for p in probes if SEX[p] == group]
                hit = [mate[p] >= t and mate[p] >= best[p] for p in mine if p in mate]
                alarm = [best[p] >= t for p in mine if p not in mate]
                for rate, of in (("tpir", hit), ("fpir", alarm)):
                    share = float(np.mean(of))
                    shares.setdefault(f"{rate}@{point},sex={group}", []).append(share)
    for name, of in shares.items():
        _is_mean(report[name], of)
    tpr, fnmr = (report[f"{rate}@far=2e-2,sex=male"] for rate in ("tpr", "fnmr"))
    assert tpr.value == 1 - (fnmr.value or 0) and tpr.low == 1 - (fnmr.high or 0)
    assert report.provenance["groups"]["sex"]["unknown"] == {"images": 24, "people": 6}
    alone = blufr.evaluate(X, WHO, trials, far="2e-2", fpir="0.3", threshold=0.8)
    assert all(report[name] == m for name, m in alone.metrics.items())


def _counted(split: splits.Split, x: np.ndarray, column: list[str]) -> dict:
    """Count the pairs of one split by the values of a column of its faces."""
    ids = np.unique(split.template)
    templates = ijb.pool(x[split.row], split.template, split.media, None, splits.POOLING)
    held: dict[int, set[str]] = {}
    for row, template in zip(split.row.tolist(), split.template.tolist(), strict=True):
        held.setdefault(template, set()).add(column[row])
    group = {
        t: (values - {""}).pop() if len(values - {""}) == 1 else "" for t, values in held.items()
    }
    place = {t: k for k, t in enumerate(ids.tolist())}
    assert split.pairs is not None
    sides = [
        np.array([place[t] for t in side.tolist()])
        for side in (split.pairs.left, split.pairs.right)
    ]
    score = exact_scores(templates.vectors, sides[0], templates.vectors, sides[1])
    impostors = np.sort(score[~split.pairs.genuine])[::-1]
    bar = np.nextafter(impostors[len(impostors) // 100], np.inf)
    found: dict[tuple[str, str], list[bool]] = {}
    listed = zip(
        split.pairs.left.tolist(),
        split.pairs.right.tolist(),
        split.pairs.genuine,
        score,
        strict=True,
    )
    for a, b, same, s in listed:
        if group[a] and group[b]:
            cell = "+".join(sorted({group[a], group[b]}))
            wrong = s < bar if same else s >= bar
            found.setdefault(("fnmr" if same else "fmr", cell), []).append(bool(wrong))
    return {key: float(np.mean(wrong)) for key, wrong in found.items()}


def test_ijb_a_by_its_own_columns_is_the_mean_of_what_loops_count(
    shared_data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(splits, "DRAWS", 20)
    folder = shared_data / "ijba"
    listed = ijba.read(folder)
    rng = np.random.default_rng(0)
    who = np.unique(listed.manifest.subject, return_inverse=True)[1]
    x = rng.normal(size=(who.max() + 1, 16))[who] + 1.5 * rng.normal(size=(len(who), 16))
    np.save(tmp_path / "F.npy", x.astype(np.float32))
    (tmp_path / "K.txt").write_text("\n".join(listed.manifest.keys))
    fed = ["--features", str(tmp_path / "F.npy"), "--keys", str(tmp_path / "K.txt")]
    asked = ["--by", "GENDER", "--by", "FACE_YAW-max:15", "--far", "1e-2", "--json", "-"]
    assert run(["ijba", str(folder), *fed, *asked]) == 0
    shown = capsys.readouterr()
    assert "FACE_YAW: 1 images have several values in the lists" in shown.err
    metrics, table = json.loads(shown.out)["metrics"], listed.attributes()[0]
    value = dict(zip(table.names, table.columns["GENDER"], strict=True))
    sex = [value[key] for key in listed.manifest.keys]
    each = [_counted(split, x.astype(np.float32), sex) for split in listed.splits]
    for rate, cell in each[0]:
        m = metrics[f"{rate}@far=1e-2,GENDER={cell},mean=split"]
        assert m["folds"] == [found[rate, cell] for found in each]
        assert m["low"] <= m["value"] <= m["high"]
    assert {name.partition("=")[0] for name in metrics if "FACE_YAW-max" in name}


def test_another_seed_draws_other_people_of_a_group_and_changes_no_value() -> None:
    """Rates of pairs, of searches and of failures to enrol alike, and each interval names it."""
    x = X.copy()
    x[::7] = np.nan
    trials = [blufr.Trial(np.arange(96), np.arange(0, 80, 4), np.arange(n, 96, 4)) for n in (1, 2)]
    asked = {"far": "0.1", "fpir": "0.3", "groups": [BY]}
    zero, one = (blufr.evaluate(x, WHO, trials, **asked, seed=s).metrics for s in (0, 1))  # type: ignore[arg-type]
    uncertain = {n for n, m in one.items() if ",sex=" in n or n.startswith("fte@sex=")}
    uncertain = {n for n in uncertain if 0 < (one[n].value or 0.0) < 1}
    assert {n.partition("@")[0] for n in uncertain} == {"fmr", "fnmr", "fpir", "tpir", "fte", "tpr"}
    for name in uncertain:
        was, m = zero[name], one[name]
        assert (m.value, m.folds) == (was.value, was.folds)
        assert (m.low, m.high) != (was.low, was.high), name
        assert "seed 0" in (was.interval or "") and "seed 1" in (m.interval or ""), name


@pytest.mark.parametrize("turned", [False, True])
def test_a_cell_that_one_trial_lacks_has_no_value_in_any_order(turned: bool) -> None:
    groups = ["near"] * 48 + ["far"] * 48
    groups[1] = "far"  # the one person in both, who is in the first trial alone
    trials = [
        blufr.Trial(
            np.arange(n, 96), np.arange(n, 96, 4), np.setdiff1d(np.arange(n, 96), range(n, 96, 4))
        )
        for n in (0, 4)
    ]
    of_groups = {"far": "0.1", "fpir": "0.1", "groups": [Grouping.of("light", groups)]}
    found = blufr.evaluate(X, WHO, trials[::-1] if turned else trials, **of_groups)  # type: ignore[arg-type]
    lacking = found["fnmr@far=0.1,light=far+near"]
    assert (lacking.value, lacking.n, lacking.note) == (None, 3, "a trial has no such comparison")
    assert found["fmr@far=0.1,light=far+near"].value is not None
