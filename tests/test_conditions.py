"""Error rates by condition of the comparison against plain loops, and the columns of `--by`."""

from pathlib import Path

import numpy as np
import pytest

from evalkit import run
from evalkit.cli import run as run_command
from evalkit.datasets import group_table
from evalkit.datasets.group_table import GroupFile
from evalkit.errors import DataError, ProtocolError
from evalkit.protocols import people, score, trillion
from evalkit.protocols.groups import By, Condition, Grouping, PairCondition, conditions
from evalkit.protocols.metrics.similarity import exact_scores, normalise
from evalkit.types import PairSet, Report

pytestmark = pytest.mark.once  # what it holds does not depend on Python or packages

N, FAR = 90, "5e-2"
WHO = np.repeat(np.arange(30), 3)
RNG = np.random.default_rng(4)
X = (RNG.normal(size=(30, 8))[WHO] + 0.9 * RNG.normal(size=(N, 8))).astype(np.float32)
X[5] = np.nan  # a failure to enrol
LEFT, RIGHT = np.triu_indices(N, 1)
PAIRS = PairSet(LEFT, RIGHT, WHO[LEFT] == WHO[RIGHT])
SCORE = exact_scores(normalise(X), LEFT, normalise(X), RIGHT)
AGE = RNG.integers(10, 40, N) / 10  # gaps of tenths fall on the edges
AGE[[7, 30]] = np.nan
CAMERA = [("a", "b", "c", "")[k] for k in RNG.integers(0, 4, N)]
COLUMNS: list[By] = [
    Condition.of("age-gap", AGE, "gap", [0.3, 1.0]),
    Condition.of("age-min", AGE, "min", [2.0]),
    Condition.of("age-max", -AGE, "max", [2.0, 3.0]),
    Condition.alike("camera-same", CAMERA),
]


def _condition(column: str, i: int, j: int) -> str | None:
    """Condition of two rows, by its definition."""
    if column == "camera-same":
        a, b = CAMERA[i], CAMERA[j]
        return None if not a or not b else "same" if a == b else "different"
    if np.isnan(AGE[i]) or np.isnan(AGE[j]):
        return None
    if column == "age-gap":
        gap = abs(AGE[i] - AGE[j])
        return "up to 0.3" if gap <= 0.3 else "0.3 to 1" if gap <= 1 else "over 1"
    if column == "age-min":
        return "up to 2" if min(AGE[i], AGE[j]) <= 2 else "over 2"
    most = max(AGE[i], AGE[j])
    return "up to 2" if most <= 2 else "2 to 3" if most <= 3 else "over 3"


def _counts(column: str, name: str, threshold: float) -> tuple[int, ...]:
    """False matches, impostor pairs, misses, genuine pairs of a condition, pair by pair."""
    found = [0, 0, 0, 0]
    for i, j, s in zip(LEFT.tolist(), RIGHT.tolist(), SCORE.tolist(), strict=True):
        if _condition(column, i, j) == name:
            same = WHO[i] == WHO[j]
            found[3 if same else 1] += 1
            found[2 if same else 0] += (s < threshold) if same else (s >= threshold)
    return tuple(found)


@pytest.fixture(scope="module")
def reports() -> dict[str, Report]:
    """A list of scores, and a set of which only the highest impostors are kept."""
    more = {"fars": FAR, "threshold": 0.6, "groups": COLUMNS}
    return {
        "score": score.evaluate(SCORE, PAIRS.genuine, pairs=PAIRS, subject=WHO, **more),
        "people": people.evaluate(X, WHO, longest=2000, **more),
    }


@pytest.mark.parametrize("name", ["score", "people"])
@pytest.mark.parametrize("point", [f"far={FAR}", "threshold=0.6"])
def test_counts_are_those_of_plain_loops(name: str, point: str, reports: dict[str, Report]) -> None:
    report = reports[name]
    threshold = report[f"{'tpr' if 'far' in point else 'fmr'}@{point}"].threshold
    assert threshold is not None
    for by in COLUMNS:
        for cell in by.names:
            false, impostors, missed, genuine = _counts(by.column, cell, threshold)
            fmr, fnmr = (report[f"{r}@{point},{by.column}={cell}"] for r in ("fmr", "fnmr"))
            assert (fmr.false_accepts, fmr.n, fmr.value) == (false, impostors, false / impostors)
            assert (fnmr.n, fnmr.value) == (genuine, missed / genuine)
            assert fmr.low is not None and fmr.high is not None
            assert fmr.low <= false / impostors <= fmr.high < 1


def test_a_set_and_its_list_of_pairs_have_intervals_alike(reports: dict[str, Report]) -> None:
    """Of a set what two people share is a product, which is an approximation: within a tenth."""
    for by in COLUMNS:
        for cell in by.names:
            a, b = (reports[n][f"fmr@far={FAR},{by.column}={cell}"] for n in ("score", "people"))
            assert (b.high or 0) - (b.low or 0) == pytest.approx(
                (a.high or 0) - (a.low or 0), rel=0.1
            )


def test_conditions_have_indices_thresholds_and_tests(reports: dict[str, Report]) -> None:
    report = reports["people"]
    assert report[f"fmr-equality@far={FAR},by=age-min"].value is not None
    worst = report[f"fmr-worst/best@far={FAR},by=age-min"].value
    rates = [report[f"fmr@far={FAR},age-min={c}"].value or 0 for c in ("up to 2", "over 2")]
    assert worst == max(rates) / min(rates)
    assert max(
        report[f"fmr@far-of-each={FAR},age-min={c}"].value or 0 for c in ("up to 2", "over 2")
    )
    table = report.table()
    assert f"by age-gap, FAR {FAR} of all pairs" in table and "0.3 to 1" in table
    assert report.provenance["groups"]["age-gap"]["unknown"] == {"images": 2, "people": 2}


def test_two_sets_by_condition() -> None:
    subject = np.where(WHO < 10, WHO, -1)
    by = Condition.of("age-gap", AGE, "gap", [1.0])
    report = trillion.evaluate(X, subject, fars=["1e-1"], fpir="0.1", groups=[by])
    threshold = report["tpr@far=1e-1"].threshold
    assert threshold is not None
    probes, others = np.flatnonzero(subject >= 0), np.flatnonzero(subject < 0)
    x = normalise(X)
    i, j = (a.ravel() for a in np.meshgrid(probes, others, indexing="ij"))
    scores = exact_scores(x, i, x, j)
    for cell, near in (("up to 1", True), ("over 1", False)):
        mine = [abs(AGE[p] - AGE[q]) <= 1 if near else abs(AGE[p] - AGE[q]) > 1
                for p, q in zip(i, j, strict=True)]  # fmt: skip
        m = report[f"fmr@far=1e-1,age-gap={cell}"]
        assert (m.n, m.false_accepts) == (sum(mine), int((scores[mine] >= threshold).sum()))


def test_a_condition_of_each_pair() -> None:
    words = [("rain", "sun", "")[k % 3] for k in range(len(PAIRS))]
    report = score.evaluate(
        SCORE, PAIRS.genuine, fars=FAR, groups=[PairCondition.of("weather", words)]
    )
    threshold = report[f"tpr@far={FAR}"].threshold
    rain = np.array([word == "rain" for word in words])
    m = report[f"fmr@far={FAR},weather=rain"]
    assert m.n == (rain & ~PAIRS.genuine).sum()
    assert m.false_accepts == (rain & ~PAIRS.genuine & (threshold <= SCORE)).sum()
    with pytest.raises(ProtocolError, match="is of the pairs of a list, and all pairs"):
        people.evaluate(X, WHO, groups=[PairCondition.of("weather", words)])
    with pytest.raises(ProtocolError, match="is of 2 pairs"):
        score.evaluate(SCORE, PAIRS.genuine, groups=[PairCondition.of("weather", ["a", "b"])])


@pytest.mark.parametrize(
    ("edges", "told"),
    [
        ([], "expected one finite number"),
        ([np.nan], "expected one finite number"),
        ([1, np.inf], "expected one finite number"),
        ([2, 1], "ascending order"),
        ([1, 1], "ascending order"),
        (["5"], "'edges' holds <U1"),
    ],
)
def test_edges_that_part_nothing_are_refused(edges: list[float], told: str) -> None:
    with pytest.raises(ProtocolError, match=told):
        Condition.of("age", AGE, "gap", edges)


def test_rules_and_codes_that_mean_nothing_are_refused() -> None:
    with pytest.raises(ProtocolError, match="no rule 'mean' for column 'age'"):
        Condition.of("age", AGE, "mean", [1])  # type: ignore[arg-type]
    for code in ([0, 2], [-2, 0], [0.5, 1], [[0, 1]]):
        with pytest.raises(ProtocolError, match=r"group"):
            PairCondition("weather", ("rain", "sun"), np.array(code))


def test_no_two_bins_are_called_alike() -> None:
    names = Condition.of("date", AGE, "gap", [20240101, 20240102, 20240103, 20240103.25]).names
    assert names[1:3] == ("20240101 to 20240102", "20240102 to 20240103")
    assert len(set(names)) == 5


def test_too_many_numbers_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conditions, "MOST_NUMBERS", 5)
    with pytest.raises(ProtocolError, match="different numbers"):
        people.evaluate(X, WHO, groups=[COLUMNS[0]])


KEYS = [f"p{w:02}/{k % 3}.jpg" for k, w in enumerate(WHO)]


def _table(path: Path, header: str, lines: list[str]) -> Path:
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return path


def _attributes(folder: Path) -> Path:
    cells = zip(KEYS, AGE, CAMERA, strict=True)
    lines = [f"{key},{'' if np.isnan(a) else a},{c}" for key, a, c in cells]
    return _table(folder / "a.csv", "key,age,camera", lines)


def test_columns_of_a_table_by_rule(tmp_path: Path) -> None:
    held = group_table.read(_attributes(tmp_path))
    asked = ["age-gap:0.3,1", "camera-same", "camera", "age:2,3"]
    gap, same, camera, age = held.of_rows(KEYS, by=asked)
    assert isinstance(gap, Condition) and isinstance(camera, Grouping)
    assert np.array_equal(gap.value, AGE, equal_nan=True) and gap.names == COLUMNS[0].names
    assert isinstance(same, Condition) and same.names == ("same", "different")
    assert (camera.column, camera.names) == ("camera", ("a", "b", "c"))
    assert isinstance(age, Grouping)
    of_first = [None if c < 0 else age.names[c] for c in age.code[:9]]
    assert of_first == [
        None if np.isnan(a) else "up to 2" if a <= 2 else "2 to 3" if a <= 3 else "over 3"
        for a in AGE[:9]
    ]


@pytest.mark.parametrize(
    ("by", "message"),
    [
        ("sex", "a.csv has no column 'sex' for by"),
        ("age-mean:3", "no column 'age-mean'"),
        ("age-gap", "by=age-gap has no edges that ascend"),
        ("age-gap:3,1", "no edges that ascend"),
        ("age:x", "no edges that ascend"),
        ("camera-same:3", "no edges that ascend"),
        ("camera-gap:3", "a cell of a.csv for by=camera-gap is 'a'"),
    ],
)
def test_a_mistaken_column_is_refused(tmp_path: Path, by: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        group_table.read(_attributes(tmp_path)).of_rows(KEYS, by=[by])


def test_pairs_by_their_place_and_by_their_names(tmp_path: Path) -> None:
    pairs = PairSet(np.array([0, 3]), np.array([1, 6]), np.array([True, False]))
    place = group_table.read(_table(tmp_path / "p.csv", "pair,weather", ["2,rain"]))
    named = group_table.read(
        _table(tmp_path / "l.csv", "left,right,label,weather", [f"{KEYS[6]},{KEYS[3]},0,rain"])
    )
    for held in (place, named):
        (weather,) = held.of_list(pairs, KEYS, ["weather"])
        assert isinstance(weather, PairCondition)
        assert (weather.names, weather.code.tolist()) == (("rain",), [-1, 0])
    with pytest.raises(DataError, match="is a table of pairs, but no list of pairs is given"):
        place.of_list(None, KEYS)
    with pytest.raises(DataError, match="names pair '2', and the list has pairs 1 to 1"):
        place.of_list(PairSet(LEFT[:1], RIGHT[:1], PAIRS.genuine[:1]), KEYS)
    with pytest.raises(DataError, match="'weather-same' is of two images"):
        place.of_list(pairs, KEYS, ["weather-same"])


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (["01,rain", "2.0,sun"], ""),
        (["0,rain", "1,sun"], "names pair '0', and the list has pairs 1 to 2"),
        (["1,rain", "3,sun"], "names pair '3', and the list has pairs 1 to 2"),
        (["1,rain", "first,sun"], "names pair 'first', and"),
        (["1,rain", "01,sun"], "names a pair twice"),
    ],
)
def test_a_place_is_a_number_from_1(tmp_path: Path, lines: list[str], told: str) -> None:
    pairs = PairSet(np.array([0, 3]), np.array([1, 6]), np.array([True, False]))
    held = group_table.read(_table(tmp_path / "p.csv", "pair,weather", lines))
    if told:
        with pytest.raises(DataError, match=told):
            held.of_list(pairs, KEYS)
        return
    (weather,) = held.of_list(pairs, KEYS)
    assert isinstance(weather, PairCondition)
    assert [weather.names[code] for code in weather.code] == ["rain", "sun"]


def test_the_command_takes_columns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "F.npy", np.nan_to_num(X, nan=1.0))
    (tmp_path / "K.txt").write_text("\n".join(KEYS), encoding="utf-8")
    vectors = ["--features", str(tmp_path / "F.npy"), "--keys", str(tmp_path / "K.txt")]
    by = ["--groups", str(_attributes(tmp_path)), "--by", "age-gap:1", "--by", "camera-same"]
    assert run_command(["people", *vectors, *by, "--far", "1e-1"]) == 0
    shown = capsys.readouterr().out
    assert "by age-gap, FAR 1e-1 of all pairs" in shown and "different" in shown
    assert run_command(["people", *vectors, "--by", "age-gap:1"]) == 2
    assert "--by names columns of --groups FILE.csv" in capsys.readouterr().err
    report = run.evaluate(
        "people", X, WHO, keys=KEYS, groups=GroupFile(_attributes(tmp_path), ("age-min:2",))
    )
    assert report.provenance["groups file"] == "a.csv"
