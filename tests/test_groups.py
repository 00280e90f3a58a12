"""Error rates by group against plain loops, their names, indices, tests, and files of groups."""

import itertools
import math
from collections.abc import Callable
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import stdtr

from evalkit import evaluate, run
from evalkit.cli import run as run_command
from evalkit.datasets import group_table, quality_table
from evalkit.errors import DataError, ProtocolError, ReportError
from evalkit.protocols import all_vs_all, allpairs, people, recipes, score, trillion, verification
from evalkit.protocols.groups import Condition, Grouping, indices
from evalkit.protocols.groups.cells import cells_of
from evalkit.protocols.groups.partition import parted
from evalkit.protocols.groups.rates import rates_at
from evalkit.protocols.metrics.record import PARAMETERS
from evalkit.protocols.metrics.similarity import exact_scores, normalise
from evalkit.protocols.metrics.vocabulary import METRICS, read, resampling_of
from evalkit.protocols.uncertainty.intervals import bounded
from evalkit.protocols.uncertainty.outcomes import PairOutcomes
from evalkit.protocols.uncertainty.paired import holm
from evalkit.protocols.uncertainty.sample import sample_of
from evalkit.protocols.uncertainty.weights import subject_draws
from evalkit.types import PairSet, Report
from evalkit.vectors.store import FeatureStore
from evalkit.verdict import gate
from evalkit.verdict.compare import compare

pytestmark = pytest.mark.once  # what it holds does not depend on Python or packages

N, FAR = 120, "5e-2"
WHO = np.repeat(np.arange(40), 3)
RNG = np.random.default_rng(3)
X = (RNG.normal(size=(40, 8))[WHO] + 0.9 * RNG.normal(size=(N, 8))).astype(np.float32)
X[5] = np.nan  # a failure to enrol
X[42:45] = X[42]  # ties
SEX = [("female", "male", "male", "")[w % 4] for w in WHO]
SEX[6], SEX[7] = "female", "male"  # of one person: genuine pairs between groups
BY = Grouping.of("sex", SEX)
LEFT, RIGHT = np.triu_indices(N, 1)
ALL_PAIRS = PairSet(LEFT, RIGHT, WHO[LEFT] == WHO[RIGHT], np.arange(len(LEFT)) % 10)
PAIRS = PairSet(LEFT, RIGHT, WHO[LEFT] == WHO[RIGHT])
SCORE = exact_scores(normalise(X), LEFT, normalise(X), RIGHT)


def _cell(a: str, b: str) -> str | None:
    """Group of a comparison, or two; None where one is unknown."""
    return None if not a or not b else a if a == b else "+".join(sorted((a, b)))


def _counts(threshold: float, pairs: list[tuple[int, int, float]], cell: str) -> tuple[int, ...]:
    """False matches, impostor pairs, misses, genuine pairs of a cell, one pair after the other."""
    found = [0, 0, 0, 0]
    for i, j, s in pairs:
        if _cell(SEX[i], SEX[j]) == cell:
            same = WHO[i] == WHO[j]
            found[3 if same else 1] += 1
            found[2 if same else 0] += (s < threshold) if same else (s >= threshold)
    return tuple(found)


LISTED = list(zip(LEFT.tolist(), RIGHT.tolist(), SCORE.tolist(), strict=True))
KEYS = [f"p{w:02}/p{w:02}_{(k + 1) % 3:04}.jpg" for k, w in enumerate(WHO)]
ORDER = np.random.default_rng(0).permutation(N)
CALLS: dict[str, Callable[..., Report]] = {
    "verification": lambda **more: verification.evaluate(X, PAIRS, WHO, **more),
    "score": lambda **more: score.evaluate(SCORE, PAIRS.genuine, pairs=PAIRS, subject=WHO, **more),
    "all-vs-all": lambda **more: all_vs_all.evaluate(X, WHO, keys=KEYS, **more),
    "people": lambda **more: people.evaluate(X, WHO, **more),
    "trillion": lambda **more: trillion.evaluate_one_set(X, WHO, **more),
}


@pytest.fixture(scope="module")
def reports() -> dict[str, Report]:
    """Each protocol on the same pairs, by group."""
    return {name: call(fars=FAR, threshold=0.55, groups=[BY]) for name, call in CALLS.items()}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("point", [f"far={FAR}", "threshold=0.55"])
def test_counts_are_those_of_plain_loops(name: str, point: str, reports: dict[str, Report]) -> None:
    report = reports[name]
    whole = report[f"{'tpr' if 'far' in point else 'fmr'}@{point}"]
    assert whole.threshold is not None
    for cell in ("female", "female+male", "male"):
        false, impostors, missed, genuine = _counts(whole.threshold, LISTED, cell)
        fmr, fnmr = (report[f"{rate}@{point},sex={cell}"] for rate in ("fmr", "fnmr"))
        assert (fmr.false_accepts, fmr.n, fmr.value) == (false, impostors, false / impostors)
        assert (fnmr.n, fnmr.value) == (genuine, missed / genuine)
        assert fmr.low is not None and fmr.high is not None and fmr.people
        assert fmr.low <= false / impostors <= fmr.high
        if "far" in point:
            tpr = report[f"tpr@{point},sex={cell}"]
            assert tpr.value == (genuine - missed) / genuine
            assert tpr.low == pytest.approx(1 - (fnmr.high or 0))


def test_protocols_agree_to_the_last_digit(reports: dict[str, Report]) -> None:
    first = reports["verification"]
    for name, report in reports.items():
        for metric, m in report.metrics.items():
            if "sex=" in metric and metric in first and "ratio" not in metric:
                assert m.value == first[metric].value, (name, metric)


def test_an_unknown_group_is_counted_apart(reports: dict[str, Report]) -> None:
    for name in ("verification", "all-vs-all", "people", "trillion"):
        told = reports[name].provenance["groups"]["sex"]
        assert told["unknown"] == {"images": SEX.count(""), "people": 10}
        assert {g: c["images"] for g, c in told.items()} == {
            "female": SEX.count("female"),
            "male": SEX.count("male"),
            "unknown": SEX.count(""),
        }
        assert f", unknown {SEX.count('')} (10)\n" in reports[name].table()


def test_failures_to_enrol_are_of_the_group_that_they_are_of(reports: dict[str, Report]) -> None:
    group, other = SEX[5], "female" if SEX[5] == "male" else "male"
    for name in ("verification", "people"):
        m = reports[name][f"fte@sex={group}"]
        assert m.value == 1 / SEX.count(group)
        assert reports[name][f"fte@sex={other}"].value == 0
        assert m.high is not None and m.high > m.value
    assert "fte@sex=female" not in reports["score"]


def test_the_threshold_of_each_group_holds_the_far_in_all(reports: dict[str, Report]) -> None:
    limits = []
    for group in ("female", "male"):
        own = sorted(
            (s for i, j, s in LISTED if WHO[i] != WHO[j] and SEX[i] == SEX[j] == group),
            reverse=True,
        )
        limits.append(math.nextafter(own[int(float(FAR) * len(own))], math.inf))
    threshold = max(limits)
    for name, report in reports.items():
        for group in ("female", "male"):
            false, impostors, missed, genuine = _counts(threshold, LISTED, group)
            fmr = report[f"fmr@far-of-each={FAR},sex={group}"]
            assert fmr.threshold == threshold, name
            assert fmr.value == false / impostors <= float(FAR)
            assert report[f"fnmr@far-of-each={FAR},sex={group}"].value == missed / genuine


def test_one_person_of_many_pairs_is_told() -> None:
    who = np.append(WHO, [0] * 12)
    x = np.concatenate([np.nan_to_num(X, nan=1.0), X[:1] + RNG.normal(size=(12, 8))])
    by = Grouping.of("half", [str(w // 20) for w in who])
    report = people.evaluate(x.astype(np.float32), who, groups=[by], fars=[FAR])
    told = "one person has 65% of the 162 genuine pairs"
    assert told in report[f"fnmr@far={FAR},half=0"].note
    assert "one person" not in report[f"fnmr@far={FAR},half=1"].note
    assert f"0: {told}" in report.table()


def test_two_sets_have_the_group_of_the_probe_first() -> None:
    subject = np.where(WHO < 12, WHO, -1)
    report = trillion.evaluate(X, subject, fars=["1e-1"], fpir="0.1", groups=[BY])
    threshold = report["tpr@far=1e-1"].threshold
    assert threshold is not None
    x = normalise(X)
    probes, others = np.flatnonzero(subject >= 0), np.flatnonzero(subject < 0)
    i, j = (a.ravel() for a in np.meshgrid(probes, others, indexing="ij"))
    scores = exact_scores(x, i, x, j)
    for a, b in itertools.product(("female", "male"), repeat=2):
        mine = [(SEX[p], SEX[q]) == (a, b) for p, q in zip(i, j, strict=True)]
        m = report[f"fmr@far=1e-1,sex={a if a == b else f'{a}+{b}'}"]
        assert (m.n, m.false_accepts) == (sum(mine), int((scores[mine] >= threshold).sum()))


def test_groups_leave_every_other_number_as_it_is(reports: dict[str, Report]) -> None:
    for name in ("verification", "people"):
        plain, grouped = CALLS[name](fars=FAR, threshold=0.55), reports[name]
        assert {n: grouped.metrics[n] for n in plain.metrics} == dict(plain.metrics), name
        assert plain.provenance == {k: v for k, v in grouped.provenance.items() if k != "groups"}


def test_the_order_of_rows_changes_no_number(reports: dict[str, Report]) -> None:
    turned = all_vs_all.evaluate(
        X[ORDER],
        WHO[ORDER],
        fars=FAR,
        threshold=0.55,
        groups=[Grouping.of("sex", [SEX[k] for k in ORDER])],
        keys=[KEYS[k] for k in ORDER],
    )
    plain = reports["all-vs-all"]
    for name in plain:
        if "sex" in name:
            a, b = plain[name], turned[name]
            assert (a.value, a.low, a.high, a.n) == (b.value, b.low, b.high, b.n), name


def test_small_groups_have_no_index_and_say_why() -> None:
    report = CALLS["people"](fars=["2e-3"], groups=[BY])
    few = report["ineq@far=2e-3,by=sex"]
    assert few.value is None and "false matches, and fewer than 10 show chance" in few.note
    one = CALLS["people"](fars=["1e-1"], groups=[Grouping("all", ("x",), np.zeros(N, int))])
    assert one["garbe@far=1e-1,by=all"].note == "there is one group"


def test_indices_are_their_formulas() -> None:
    rng = np.random.default_rng(0)
    for g in (2, 3, 5):
        fmr, fnmr = rng.uniform(0.01, 0.5, (2, g))
        gaps = [max(abs(a - b) for a in r for b in r) for r in (fmr, fnmr)]
        assert indices.fdr(fmr, fnmr) == pytest.approx(1 - sum(gaps) / 2)
        worst = [max(r) / min(r) for r in (fmr, fnmr)]
        assert indices.ineq(fmr, fnmr) == pytest.approx(math.sqrt(worst[0] * worst[1]))
        ginis = [
            g / (g - 1) * sum(abs(a - b) for a in r for b in r) / (2 * g * g * (sum(r) / g))
            for r in (fmr, fnmr)
        ]
        assert indices.gini(fmr) == pytest.approx(ginis[0])
        assert indices.garbe(fmr, fnmr) == pytest.approx(sum(ginis) / 2)
        mean = math.prod(fmr) ** (1 / g)
        assert indices.over_geometric_mean(fmr) == pytest.approx(fmr / mean)
    assert indices.gini(np.zeros(3)) == 0


def test_the_test_of_two_groups_is_students_of_their_log_ratio() -> None:
    drawn = np.exp(np.random.default_rng(1).normal([[-3.0], [-2.0]], [[0.3], [0.2]], (2, 1000)))
    rates = np.array([math.exp(-3), math.exp(-2.2)])
    deviation = np.diff(np.log(drawn), axis=0).std(ddof=1)
    expected = 2 * stdtr(24, -0.8 / deviation)
    assert indices.equality(drawn, rates, 25) == pytest.approx(expected)
    assert indices.equality(drawn, rates[[0, 0]], 25) == 1.0


def test_the_tests_of_a_column_are_adjusted_together(reports: dict[str, Report]) -> None:
    report = reports["people"]
    tests = [m for name, m in report.metrics.items() if "-equality@" in name and m.value]
    alone = [float(m.note.rpartition(" ")[2]) for m in tests]
    assert len(tests) == 4
    assert [m.value for m in tests] == pytest.approx(holm(alone), rel=0.2)


def test_a_name_by_group_is_read_as_such_and_never_as_the_pooled_metric() -> None:
    found = read("tpr@far=1e-4,sex=female,pairs=all")
    assert found is not None and found.group == ("sex", "female")
    assert resampling_of("tpr@far=1e-4,sex=female") == (None, "")
    assert resampling_of("tpr@far=1e-4,distractors=10") == ("tpr", "1e-4")
    index = read("garbe@far=1e-4,by=sex")
    assert index is not None and index.group == ("sex", "")


def test_no_parameter_of_a_metric_can_be_a_column() -> None:
    import re

    keys = {key for m in METRICS for key in re.findall(r"[@,]([\w-]+)=", m.grammar)}
    assert keys <= PARAMETERS
    with pytest.raises(ProtocolError, match="a column of groups is called 'far'"):
        Grouping.of("far", ["a"])


@pytest.mark.parametrize("name", ["a,b", "a@b", "70+", "a=b", "unknown", " "])
def test_a_group_whose_name_would_be_misread_is_refused(name: str) -> None:
    with pytest.raises(ProtocolError, match="a group of column 'sex' is called"):
        Grouping.of("sex", [name])


@pytest.mark.parametrize(
    ("values", "names", "code"),
    [
        ([0, 1, 0], ("0", "1"), [0, 1, 0]),
        ([True, False, None], ("False", "True"), [1, 0, -1]),
        (["m", math.nan, "f"], ("f", "m"), [1, -1, 0]),
        (np.array(["m", "", "f"]), ("f", "m"), [1, -1, 0]),
        (np.array([1.5, np.nan], np.float32), ("1.5",), [0, -1]),
        (np.ma.masked_array([1, 2, 3], [0, 1, 0]), ("1", "3"), [0, -1, 1]),
    ],
)
def test_a_group_is_any_plain_value(values: Any, names: tuple[str, ...], code: list[int]) -> None:
    found = Grouping.of("sex", values)
    assert (found.names, found.code.tolist()) == (names, code)


def test_groups_from_pandas() -> None:
    pandas = pytest.importorskip("pandas")
    words, numbers = ["m", None, "f"], [1, None, 0]
    for column in (
        pandas.Series(words),
        pandas.Series(words, dtype="string"),
        pandas.Categorical(words),
    ):
        found = Grouping.of("sex", column)
        assert (found.names, found.code.tolist()) == (("f", "m"), [1, -1, 0])
    found = Grouping.of("sex", pandas.array(numbers, dtype="Int64"))
    assert (found.names, found.code.tolist()) == (("0", "1"), [1, -1, 0])


@pytest.mark.parametrize("values", ["mf", [b"m"], np.array([["m"], ["f"]]), 3, [["m"], ["f"]]])
def test_what_is_no_group_is_refused(values: Any) -> None:
    with pytest.raises(ProtocolError, match="given as"):
        Grouping.of("sex", values)


def test_two_columns_of_one_name_are_refused() -> None:
    with pytest.raises(ProtocolError, match="two columns of groups are called 'sex'"):
        people.evaluate(X, WHO, groups=[BY, Grouping.of("sex", ["a", "b"] * 60)])


def test_a_column_of_names_is_no_grouping() -> None:
    with pytest.raises(ProtocolError, match="column 'name' has 21 groups"):
        Grouping.of("name", [f"p{k}" for k in range(21)])


def test_scores_of_nobody_knows_whom_have_no_groups() -> None:
    with pytest.raises(ProtocolError, match="who is compared is not known"):
        score.evaluate(SCORE, PAIRS.genuine, groups=[BY])


def test_a_column_of_other_rows_is_refused() -> None:
    with pytest.raises(ProtocolError, match="groups 3 rows, and there are 120"):
        people.evaluate(X, WHO, groups=[Grouping.of("sex", ["a", "b", "a"])])
    with pytest.raises(ProtocolError, match="knows the group of no image"):
        people.evaluate(X, WHO, groups=[Grouping("sex", (), np.full(N, -1))])


@pytest.mark.parametrize(
    ("groups", "told"),
    [
        ([Grouping.of("sex", ["a", "b"])], "groups 2 rows, and there are 120"),
        (["f"] * N, "a column of groups given as 'f'"),
        ([BY, BY], "two columns of groups are called 'sex'"),
        (BY, "groups given as"),
    ],
)
@pytest.mark.parametrize(
    "name", ["people", "all-vs-all", "trillion", "search", "verify", "megaface"]
)
def test_columns_that_do_not_fit_are_refused_before_any_comparison(
    name: str, groups: Any, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def compared(*_: object, **__: object) -> None:
        raise AssertionError("rows were compared")

    monkeypatch.setattr(allpairs.Engine, "unit_rows", compared)
    monkeypatch.setattr(recipes, "scored", compared)
    rest: tuple[Any, ...] = {
        "search": (WHO, np.arange(60), np.arange(60, N)),
        "verify": (PairSet([0], [1], np.array([True])),),
        "megaface": (WHO, {"distractors=3": X[:3]}),
    }.get(name, (WHO,))
    with pytest.raises(ProtocolError, match=told):
        evaluate(name, X, *rest, groups=groups)


def _table(path: Path, header: str, lines: list[str]) -> Path:
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("suffix", ["", ".png"])
@pytest.mark.parametrize("folder", [True, False])
def test_lines_are_found_by_key_with_or_without_folder_and_suffix(
    tmp_path: Path, folder: bool, suffix: str
) -> None:
    names = [key.removesuffix(".jpg") + suffix for key in KEYS]
    names = names if folder else [name.rpartition("/")[2] for name in names]
    lines = [f"{name},{sex}" for name, sex in zip(names, SEX, strict=True)][::-1]
    (found,) = group_table.read(_table(tmp_path / "g.csv", "key,sex", lines)).of_rows(KEYS)
    assert (found.names, found.code.tolist()) == (BY.names, BY.code.tolist())


@pytest.mark.parametrize(
    ("header", "line", "named_by"),
    [
        ("FILE,sex", "p00/1.jpg,f", "key"),
        ("image_path\tsex", "p00/1.jpg\tf", "key"),
        ("name;sex", "p00/1.jpg;f", "key"),
        ("Identity,sex", "p00,f", "subject"),
        ("img1,img2,sex", "p00/1.jpg,p00/2.jpg,f", "left"),
    ],
)
def test_the_first_column_may_have_other_names(
    tmp_path: Path, header: str, line: str, named_by: str
) -> None:
    held = group_table.read(_table(tmp_path / "g.csv", header, [line]))
    assert (held.named_by, held.columns) == (named_by, {"sex": ("f",)})


def test_lines_are_found_by_subject(tmp_path: Path) -> None:
    lines = [f"p{w:02},{'ab'[w % 2]},{w % 3}" for w in range(39)]
    held = group_table.read(_table(tmp_path / "g.csv", "subject,kind,age", lines))
    kind, age = held.of_rows(KEYS)
    assert [kind.names[c] if c >= 0 else "" for c in kind.code] == [
        "ab"[w % 2] if w < 39 else "" for w in WHO
    ]
    assert age.names == ("0", "1", "2")


@pytest.mark.parametrize(
    ("header", "lines", "message"),
    [
        ("sex,key", ["a,b"], "starts with sex, key"),
        ("key", ["a"], "starts with key"),
        ("key,sex", ["a"], "line 2 of g.csv has 1 cells, its header 2"),
        ("key,sex", [",b"], "line 2 of g.csv names nothing"),
        ("key,sex,sex", ["a,b,c"], "two columns of one name"),
        ("key,sex", ["nobody.jpg,male"], "g.csv names none of the 120 rows"),
        (
            "key,sex",
            ["p00/p00_0000,a", "p00/p00_0000,b", "p01/p01_0000,a", "p01/p01_0000,b"],
            r"names 'p00/p00_0000', 'p01/p01_0000' twice, with other groups.*2 too many",
        ),
    ],
)
def test_a_mistaken_table_is_refused(
    tmp_path: Path, header: str, lines: list[str], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        group_table.read(_table(tmp_path / "g.csv", header, lines)).of_rows(KEYS)


def test_words_for_a_missing_value_are_no_group(tmp_path: Path) -> None:
    path = tmp_path / "g.csv"
    words = ["NaN", "null", "N/A", "<NA>", "Unknown", "", "none", "F"]
    path.write_text("key,sex\n" + "\n".join(f"a/{k}.jpg,{w}" for k, w in enumerate(words)))
    (sex,) = group_table.read(path).of_rows([f"a/{k}.jpg" for k in range(len(words))])
    assert isinstance(sex, Grouping)
    assert sex.names == ("F", "none") and sex.code.tolist() == [-1] * 6 + [1, 0]


def test_groups_that_differ_in_case_alone_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "g.csv"
    path.write_text("key,sex,camera\na/1.jpg,F,b\na/2.jpg,f,b\n")
    keys = ["a/1.jpg", "a/2.jpg"]
    with pytest.raises(DataError, match=r"sex in g\.csv has the groups 'F' and 'f'"):
        group_table.read(path).of_rows(keys)
    assert len(group_table.read(path).of_rows(keys, by=["camera"])) == 1


def test_one_line_does_not_serve_two_images(tmp_path: Path) -> None:
    held = group_table.read(_table(tmp_path / "g.csv", "key,sex", ["0001.jpg,male"]))
    with pytest.raises(DataError, match="would share line"):
        held.of_rows(["a/0001.jpg", "b/0001.jpg"])


def test_lines_of_another_set_are_refused(tmp_path: Path) -> None:
    table = group_table.read(_table(tmp_path / "g.csv", "key,sex", ["agedb/0.jpg,male"]))
    with pytest.raises(DataError, match=r"lines of g\.csv match 1 of 1 images by name alone"):
        table.of_rows(["lfw/0.jpg", "lfw/1.jpg"])
    with pytest.raises(DataError, match=r"lfw/0 is not agedb/0"):
        quality_table.of_rows([table], ["lfw/0.jpg"])
    (sex,) = table.of_rows(["0.jpg"])  # a name without a folder is of any
    assert isinstance(sex, Grouping) and sex.names == ("male",)


def test_fmr_between_two_groups_has_the_room_of_the_smaller_one() -> None:
    """Expanded quantiles of its draws; where a person is on both sides, everybody counts."""
    rng = np.random.default_rng(1)
    left, right = np.triu_indices(40, 1)
    who = np.arange(40) // 2
    o = PairOutcomes(
        score=rng.normal(size=len(left)) + 3 * (who[left] == who[right]),
        genuine=who[left] == who[right],
        left=left,
        right=right,
        left_subject=who[left],
        right_subject=who[right],
    )
    whole = sample_of(o)
    for group, few in ((who >= 15, 5), (np.arange(40) % 2, 20)):
        by = Grouping("group", ("a", "b"), group.astype(int))
        (cell,) = (c for c in cells_of(parted(o, by, (), 20), o, whole) if c.name == "a+b")
        (found,) = rates_at([cell], whole, [1.0], 60, 0)[1.0]
        drawn = cell.draws(subject_draws(whole, 60, 0), ["fmr@threshold=1.0"])["fmr@threshold=1.0"]
        plain, wide = (bounded(found.fmr, drawn, few, expanded=of) for of in (False, True))
        expected = wide if few == 5 else plain
        assert found.fmr.people == few and plain.high != wide.high
        assert (found.fmr.low, found.fmr.high) == (expected.low, expected.high)


def test_people_takes_a_file_of_groups(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [f"{key},{sex}" for key, sex in zip(KEYS, SEX, strict=True)]
    groups = _table(tmp_path / "g.csv", "key,sex", lines)
    np.save(tmp_path / "F.npy", np.nan_to_num(X, nan=1.0))
    (tmp_path / "K.txt").write_text("\n".join(KEYS), encoding="utf-8")
    vectors = ["--features", str(tmp_path / "F.npy"), "--keys", str(tmp_path / "K.txt")]
    out = str(tmp_path / "r.json")
    code = run_command(["people", *vectors, "--groups", str(groups), "--far", "1e-1", "--out", out])
    shown = capsys.readouterr()
    assert code == 0, shown.err
    assert "by sex, FAR 1e-1 of all pairs, threshold" in shown.out
    assert "by sex, FAR 1e-1 in every group" in shown.out and "female+male" in shown.out
    by_sex = shown.out[shown.out.index("by sex") : shown.out.index("Thresholds to deploy")]
    assert [line for line in by_sex.split("\n") if len(line) > 80] == []
    saved = Report.load(out)
    assert saved.provenance["groups file"] == "g.csv"
    assert saved["fmr@far=1e-1,sex=female"].people == 11


def test_pictures_show_every_rate_of_a_group(reports: dict[str, Report]) -> None:
    pytest.importorskip("matplotlib")
    from evalkit.report import plots

    report = reports["people"]
    forest = plots.draw("group-rates", [report, report]).axes[0]
    names = [label.get_text() for label in forest.get_yticklabels()]
    assert names == ["FMR female", "FMR male", "FNMR female", "FNMR male"]
    drawn = sorted(
        x for line in forest.lines for x in line.get_xdata() if len(line.get_xdata()) < 2
    )
    values = [report[f"{r}@far={FAR},sex={g}"].value for r in ("fmr", "fnmr") for g in BY.names]
    assert drawn == sorted(value for value in values for _ in range(2))
    cells = plots.draw("group-matrix", report).axes[0].texts
    between = f"{report[f'fmr@far={FAR},sex=female+male'].value:.5f}"
    assert [text.get_text() for text in cells].count(between) == 2
    plain = people.evaluate(np.nan_to_num(X[:12], nan=1.0), WHO[:12])
    with pytest.raises(ReportError, match="no report holds what 'group-rates' is drawn from"):
        plots.draw("group-rates", plain)


def test_python_takes_a_file_of_groups_too(tmp_path: Path) -> None:
    subjects = _table(tmp_path / "who.txt", "p0", [f"p{w}" for w in WHO[1:]])
    groups = _table(tmp_path / "g.csv", "subject,half", [f"p{w},{w // 20}" for w in range(40)])
    report = run.evaluate("people", X, str(subjects), groups=str(groups), fars=["1e-1"])
    assert report["fmr@far=1e-1,half=0"].people == 20


def test_groups_in_python_are_of_the_rows_as_they_are_given(tmp_path: Path) -> None:
    """A list puts the rows in its own order; the groups stayed behind, with others' rates."""
    listed = tmp_path / "pairs.txt"
    rng = np.random.default_rng(1)
    pairs = [(k, k + 1) for k in range(N) if k % 3 < 2]
    pairs += [(k, int(rng.choice(np.flatnonzero(WHO[k] != WHO)))) for k in range(N)]
    lines = [f"{KEYS[a]} {KEYS[b]} {int(WHO[a] == WHO[b])}" for a, b in pairs]
    listed.write_text("\n".join(lines))
    age = rng.integers(10, 60, N).astype(float)

    def measured(rows: Any) -> Report:
        by = [
            Grouping.of("sex", [SEX[k] for k in rows]),
            Condition.of("gap", age[rows], "gap", [10]),
        ]
        keys = [KEYS[k] for k in rows]
        return run.evaluate("verification", X[rows], listed, keys=keys, fars=["1e-1"], groups=by)

    in_order = np.argsort(KEYS)  # as the list names them
    as_listed = measured(in_order)
    assert any("sex=female" in name for name in as_listed)
    assert measured(ORDER).metrics == as_listed.metrics
    more = np.append(ORDER, ORDER[0])  # and a row whose equal is there already
    assert measured(more).metrics == as_listed.metrics
    with pytest.raises(ProtocolError, match="column 'sex' groups 119 rows, and there are 120"):
        run.evaluate(
            "verification", X[ORDER], listed, keys=[KEYS[k] for k in ORDER],
            groups=[Grouping.of("sex", SEX[1:])],
        )  # fmt: skip


def test_sexes_of_lfw_by_brute_force(shared_data: Path) -> None:
    """4,000 images of the demo, all 8 million pairs in float64; those near a threshold exactly."""
    sex: dict[str, str] = {}
    for name in ("female", "male"):
        for key in (shared_data / "lfw_groups" / f"{name}_names.txt").read_text().split():
            sex[key] = "" if key in sex else name
    with as_file(files("evalkit.datasets") / "data" / "lfw_mobilefacenet.h5") as path:
        store = FeatureStore.open(path)
        rows = np.arange(0, len(store.manifest.keys), 3)[:4000]
        features, who = np.asarray(store.features)[rows, 0], store.manifest.subject[rows]
        keys = [store.manifest.keys[row] for row in rows]
    by = Grouping.of("sex", [sex.get(key.rpartition("/")[2], "") for key in keys])
    report = people.evaluate(features, who, groups=[by], fars=["1e-4"])
    threshold = report["tpr@far=1e-4"].threshold
    assert threshold is not None
    x: Any = normalise(features).astype(np.float64)
    counts = np.zeros((4, 3, 3), np.int64)
    for o in range(0, len(x), 500):
        s = x[o : o + 500] @ x.T
        for i, j in np.argwhere(abs(s - threshold) < 1e-12):
            s[i, j] = math.fsum(x[o + i] * x[j])
        later = np.arange(len(x)) > np.arange(o, o + len(s))[:, None]
        same = who[o : o + len(s), None] == who
        cell = 3 * by.code[o : o + len(s), None] + by.code + 4
        kinds = later & ~same & (s >= threshold), later & ~same, later & same & (s < threshold)
        for k, of in enumerate((*kinds, later & same)):
            counts[k] += np.bincount(cell[of], minlength=9).reshape(3, 3)
    for a, b in ((1, 1), (1, 2), (2, 2)):
        false, impostors, missed, genuine = (
            int(c[a, b] + (c[b, a] if a != b else 0)) for c in counts
        )
        cell_name = by.names[a - 1] if a == b else "female+male"
        fmr = report[f"fmr@far=1e-4,sex={cell_name}"]
        assert (fmr.false_accepts, fmr.n) == (false, impostors)
        if a == b:
            assert report[f"fnmr@far=1e-4,sex={cell_name}"].value == missed / genuine


Y = X + 0.5 * np.random.default_rng(9).normal(size=X.shape).astype(np.float32)
ALL = Grouping("all", ("x",), np.zeros(N, int))


@pytest.fixture(scope="module")
def models() -> dict[str, tuple[Report, Report]]:
    """Two models, by a list and by a set of the same pairs."""
    more = {"fars": [FAR], "threshold": 0.55, "groups": [BY, ALL], "keys": KEYS, "set_name": "s"}
    return {
        "list": tuple(verification.evaluate(x, PAIRS, WHO, **more) for x in (X, Y)),
        "set": tuple(people.evaluate(x, WHO, **more) for x in (X, Y)),
    }  # type: ignore[dict-item]


def _loops(a: Report, b: Report, name: str, cell: str) -> tuple[float, float, int, int]:
    """Difference of FNMR in a cell, its error by person, and decisions lost and gained."""
    changes: dict[int, list[int]] = {}
    other = exact_scores(normalise(Y), LEFT, normalise(Y), RIGHT).tolist()
    for (i, j, s), t in zip(LISTED, other, strict=True):
        if WHO[i] == WHO[j] and _cell(SEX[i], SEX[j]) == cell:
            missed = s < (a[name].threshold or 0), t < (b[name].threshold or 0)
            changes.setdefault(int(WHO[i]), []).append(missed[1] - missed[0])
    every = [c for of in changes.values() for c in of]
    mean, n, people = sum(every) / len(every), len(every), len(changes)
    squares = sum(sum(c - mean for c in of) ** 2 for of in changes.values())
    return mean, math.sqrt(squares * people / (people - 1)) / n, every.count(1), every.count(-1)


def test_paired_tests_by_group_against_loops(models: dict[str, tuple[Report, Report]]) -> None:
    found = {kind: compare(*pair).differences for kind, pair in models.items()}
    for cell in ("female", "male"):
        name = f"fnmr@far={FAR},sex={cell}"
        mean, error, lost, gained = _loops(*models["list"], name, cell)
        for kind in found:
            d = found[kind][name]
            assert d.value == pytest.approx(mean) and (d.lost, d.gained) == (lost, gained)
            assert d.error == pytest.approx(error), kind
    for name in (f"fmr@far={FAR},sex=female+male", "fmr@threshold=0.55,sex=male"):
        a, b = found["list"][name], found["set"][name]
        assert (a.value, a.lost, a.gained, a.people) == (b.value, b.lost, b.gained, b.people)
        assert a.error == pytest.approx(b.error) and 0 < a.detectable < 0.1


def test_a_group_of_all_is_tested_as_all_are(models: dict[str, tuple[Report, Report]]) -> None:
    found = compare(*models["set"]).differences
    for rate in ("fmr", "fnmr"):
        whole, of_all = found[f"{rate}@threshold=0.55"], found[f"{rate}@threshold=0.55,all=x"]
        assert whole.value == of_all.value
        assert of_all.error == pytest.approx(whole.error, rel=0.15)


def test_a_gate_holds_groups(models: dict[str, tuple[Report, Report]]) -> None:
    base, other = models["set"]
    held = {r.rule.metric for r in gate.check(other, base).rulings}
    assert f"fnmr@far={FAR},sex=female" in held and f"tpr@far={FAR},sex=female" not in held
    rule = gate.Rule(metric=f"fnmr@far={FAR},sex=female", test="paired")
    (ruling,) = gate.check(other, base, [rule]).rulings
    assert ruling.p is not None and ruling.passed
    regrouped = people.evaluate(Y, WHO, fars=[FAR], keys=KEYS, set_name="s",
                                groups=[Grouping.of("sex", SEX[::-1])])  # fmt: skip
    unpaired = compare(base, regrouped)
    assert f"fnmr@far={FAR},sex=male" not in unpaired.differences
    assert "column 'sex' parts them otherwise" in unpaired.why_unpaired


@pytest.mark.parametrize("off", [-1, 1])
@pytest.mark.parametrize(
    "measure",
    [
        lambda by: people.evaluate(X, WHO, fars=FAR, groups=[by]),
        lambda by: all_vs_all.evaluate(X, WHO, fars=FAR, groups=[by]),
        lambda by: trillion.evaluate_one_set(X, WHO, fars=FAR, groups=[by]),
        lambda by: verification.evaluate(X, ALL_PAIRS, WHO, fars=FAR, groups=[by]),
    ],
    ids=["people", "all_vs_all", "trillion", "verification"],
)
def test_a_column_has_a_value_for_each_row(measure: Callable[[Grouping], Report], off: int) -> None:
    with pytest.raises(ProtocolError, match=f"'sex' groups {N + off} rows, and there are {N}"):
        measure(Grouping.of("sex", (SEX + SEX)[: N + off]))
