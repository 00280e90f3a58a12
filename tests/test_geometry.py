"""Geometry against loops over all pairs, with matrices that the product never makes."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evalkit import report as reports
from evalkit.cli import run
from evalkit.errors import ProtocolError, ReportError
from evalkit.protocols import geometry
from evalkit.protocols.allpairs import genuine_pairs
from evalkit.protocols.geometry.spaces import SPACES
from evalkit.protocols.metrics.similarity import normalise
from evalkit.protocols.metrics.vocabulary import better
from evalkit.verdict.gate import Rule, check, read_rules

pytestmark = pytest.mark.once


def faces(seed: int = 0, people: int = 14, dim: int = 6) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    subject = np.repeat(np.arange(people), rng.integers(1, 6, people))
    subject = rng.permutation(np.concatenate([subject, [-1] * 5]))
    centre = rng.normal(size=(people + 1, dim))
    x = centre[subject] + rng.uniform(0.1, 0.6, people + 1)[subject, None] * rng.normal(
        size=(len(subject), dim)
    )
    return (3 * x).astype(np.float32), subject


def apart(x: np.ndarray, space: str) -> np.ndarray:
    """Every distance, (N, N) float64."""
    x = x.astype(np.float64)
    if space == "l2":
        return np.sqrt(((x[:, None] - x[None]) ** 2).sum(2))
    length = np.linalg.norm(x, axis=1)[:, None]
    unit = x / np.where(length, length, 1)
    return np.degrees(np.arccos(np.clip(unit @ unit.T, -1, 1)))


def pairs(subject: np.ndarray) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    genuine, impostor = [], []
    for i, j in itertools.combinations(range(len(subject)), 2):
        same = subject[i] == subject[j] >= 0
        (genuine if same else impostor).append((i, j))
    return genuine, impostor


def strangers(d: np.ndarray, subject: np.ndarray, i: int) -> list[float]:
    return [d[i, k] for k in range(len(d)) if k != i and subject[k] != subject[i]]


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("seed", range(3))
def test_distances_and_crossings_against_loops(space: str, seed: int) -> None:
    x, subject = faces(seed)
    m = geometry.evaluate(x, subject).metrics
    d = apart(x, space)
    genuine, impostor = pairs(subject)
    within, between = ([d[p] for p in kind] for kind in (genuine, impostor))
    for q in geometry.QUANTILES:
        found = m[f"within@space={space},quantile={q:g}"]
        assert found.value == pytest.approx(np.quantile(within, q), abs=1e-4)
        assert found.n == len(genuine)
        found = m[f"between@space={space},quantile={q:g}"]
        # The value's bin holds the q-th impostor pair.
        width = 0.25 if space == "angle" else 2 * np.linalg.norm(x, axis=1).max() / 1000
        low = np.quantile(between, q, method="lower")
        high = np.quantile(between, q, method="higher")
        assert low - 2 * width <= found.value <= high + 2 * width
        assert found.n == len(impostor)
    crossed = [d[p] > min(strangers(d, subject, a)) for p in genuine for a in p]
    found = m[f"farther-than-nearest-impostor@space={space}"]
    assert (found.value, found.n) == (pytest.approx(np.mean(crossed)), 2 * len(genuine))
    assert 0 < found.value < 1


@pytest.mark.parametrize("space", SPACES)
def test_compactness_separation_and_regions_against_loops(space: str) -> None:
    x, subject = faces()
    m = geometry.evaluate(x, subject).metrics
    d = apart(x, space)
    genuine, impostor = pairs(subject)
    sizes, samples = [], []
    for name in np.unique(subject[subject >= 0]):
        own = np.flatnonzero(subject == name)
        if len(own) > 1:
            sizes.append(np.mean([d[p] for p in itertools.combinations(own, 2)]))
            samples.append(len(own))
    nearest = [min(strangers(d, subject, i)) for i in sorted({a for p in genuine for a in p})]
    assert m[f"compactness@space={space}"].value == pytest.approx(np.mean(sizes), rel=1e-6)
    assert m[f"separation@space={space}"].value == pytest.approx(np.mean(nearest), rel=1e-6)
    expected = np.mean(nearest) / np.mean(sizes)
    assert m[f"separation-ratio@space={space}"].value == pytest.approx(expected, rel=1e-6)
    chord = d if space == "l2" else 2 * np.sin(np.radians(d) / 2)
    squares = ([chord[p] ** 2 for p in kind] for kind in (genuine, impostor))
    within, between = (np.mean(s) for s in squares)
    found = m[f"within/between@space={space}"].value
    assert found == pytest.approx(within / between, rel=1e-5)
    r = m[f"region-samples-correlation@space={space}"]
    assert r.value == pytest.approx(ranked(samples, sizes))
    assert r.low is not None and r.high is not None and r.low < r.value < r.high


def test_a_zero_row_is_as_far_from_all_in_the_ratio_as_in_the_angles() -> None:
    x, subject = faces()
    x[[0, 5, 6]] = 0
    d = apart(x, "angle")
    squares = [np.mean([2 - 2 * np.cos(np.radians(d[p])) for p in kind]) for kind in pairs(subject)]
    found = geometry.evaluate(x, subject).metrics["within/between@space=angle"].value
    assert found == pytest.approx(squares[0] / squares[1], rel=1e-5)


def ranked(a: list[float], b: list[float]) -> float:
    """Spearman's correlation by counting."""
    places = [[sum((w < v) + (w == v) / 2 for w in side) for v in side] for side in (a, b)]
    u, v = (np.array(p) - np.mean(p) for p in places)
    return float(u @ v / np.sqrt((u @ u) * (v @ v)))


def test_the_interval_of_a_correlation_covers() -> None:
    rng = np.random.default_rng(0)
    true = 6 / np.pi * np.arcsin(0.5 / 2)  # Spearman's of a normal pair correlated by 0.5
    held = 0
    for _ in range(400):
        a = rng.normal(size=40)
        r = geometry.spearman(a, 0.5 * a + np.sqrt(0.75) * rng.normal(size=40))
        assert r.low is not None and r.high is not None
        held += r.low <= true <= r.high
    assert 0.92 <= held / 400 <= 0.98


def test_a_region_does_not_grow_with_its_samples() -> None:
    rng = np.random.default_rng(0)
    subject = np.repeat(np.arange(400), np.tile([2, 3, 10, 30], 100))
    x = 20 * rng.normal(size=(400, 8))[subject] + rng.normal(size=(len(subject), 8))
    i, j = genuine_pairs(subject)
    within = SPACES["l2"](x.astype(np.float32), subject).between(i, j)
    size, samples = geometry.regions(within, subject[i], subject)
    r = geometry.spearman(samples, size)
    assert r.low is not None and r.high is not None
    assert r.low < 0 < r.high


def test_short_vectors_that_err_are_told() -> None:
    x, subject = faces(4, people=30)
    x = x * np.random.default_rng(0).uniform(0.5, 2, len(x))[:, None].astype(np.float32)
    m = geometry.evaluate(x, subject).metrics
    d, norm = apart(x, "angle"), np.linalg.norm(x.astype(np.float64), axis=1)
    right, wrong = [], []
    for i in range(len(x)):
        mates = [d[i, k] for k in range(len(x)) if k != i and subject[k] == subject[i] >= 0]
        if mates:
            err = min(strangers(d, subject, i)) <= min(mates)
            (wrong if err else right).append(norm[i])
    assert right and wrong
    above = [(r > w) + (r == w) / 2 for r in right for w in wrong]
    assert m["norm-auc@errors=rank-1"].value == pytest.approx(np.mean(above))
    assert m["norm@quantile=0.5"].value == pytest.approx(np.median(norm))
    assert m["norm-variation"].value == pytest.approx(np.std(norm, ddof=1) / np.mean(norm))


def test_the_spectrum_is_that_of_the_covariance() -> None:
    x, subject = faces()
    m = geometry.evaluate(x + 50, subject).metrics
    v = np.linalg.eigvalsh(np.cov(x.astype(np.float64).T))
    assert m["participation-ratio"].value == pytest.approx(v.sum() ** 2 / (v**2).sum(), rel=1e-4)
    p = v / v.sum()
    assert m["entropy-dimension"].value == pytest.approx(np.exp(-(p * np.log(p)).sum()), rel=1e-4)
    even = np.vstack([np.eye(5), -np.eye(5)]).astype(np.float32)
    m = geometry.evaluate(even, np.arange(10)).metrics
    assert m["participation-ratio"].value == pytest.approx(5)
    assert m["entropy-dimension"].value == pytest.approx(5)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10**6), st.integers(4, 40), st.booleans())
def test_hubs_against_loops(seed: int, n: int, equals: bool) -> None:
    x = np.random.default_rng(seed).normal(size=(n, 3)).astype(np.float32)
    if equals:
        x[1:] = np.where(np.arange(1, n)[:, None] % 2, x[0], x[1:])
    k = 3
    m = geometry.evaluate(x, np.arange(n), k=k).metrics
    score = (lambda u: u @ u.T)(normalise(x).astype(np.float64)).round(12)
    seen = np.zeros(n)
    for i in range(n):
        order = sorted((j for j in range(n) if j != i), key=lambda j: (-score[i, j], j))
        seen[order[:k]] += 1
    spread = np.mean((seen - seen.mean()) ** 2)
    found = m[f"hubness-skewness@k={k}"]
    if spread:
        assert found.value == pytest.approx(np.mean((seen - seen.mean()) ** 3) / spread**1.5)
    else:
        assert found.value is None and found.note
    assert m[f"antihubs@k={k}"].value == pytest.approx(np.mean(seen == 0))


def test_no_answer_has_a_reason() -> None:
    x = np.eye(4, dtype=np.float32)
    for subject in (np.arange(4), np.zeros(4, int), np.full(4, -1)):
        m = geometry.evaluate(x, subject).metrics
        assert all(e.note for e in m.values() if e.value is None)
        assert m["hubness-skewness@k=10"].value is None
        assert m["norm-auc@errors=rank-1"].value is None
    alone = geometry.evaluate(x, np.arange(4)).metrics
    assert alone["within@space=l2,quantile=0.5"].note == geometry.NO_GENUINE
    assert alone["between@space=l2,quantile=0.5"].value == pytest.approx(2**0.5, rel=2e-3)
    same = geometry.evaluate(np.ones((4, 3), np.float32), np.array([0, 0, 1, 1])).metrics
    assert all(e.note for e in same.values() if e.value is None)
    assert same["participation-ratio"].value is None
    with pytest.raises(ProtocolError, match="at least two"):
        geometry.evaluate(x[:1], np.zeros(1, int))


def test_a_failed_row_changes_nothing_but_is_counted() -> None:
    x, subject = faces()
    plain = geometry.evaluate(x, subject)
    broken = np.insert(x, 3, np.nan, axis=0)
    found = geometry.evaluate(broken, np.insert(subject, 3, subject[0]))
    assert found.failures.images == 1
    assert found.metrics == plain.metrics


def test_the_order_of_rows_is_nothing() -> None:
    x, subject = faces()
    order = np.random.default_rng(1).permutation(len(x))
    a, b = geometry.evaluate(x, subject).flat(), geometry.evaluate(x[order], subject[order]).flat()
    assert a == pytest.approx(b, rel=1e-9)


def test_the_command_from_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x, subject = faces()
    np.save(tmp_path / "x.npy", x)
    keys = [f"p{s}/{n}.jpg" if s >= 0 else f"{n}.jpg" for n, s in enumerate(subject)]
    (tmp_path / "keys.txt").write_text("\n".join(keys))
    files = [str(tmp_path / "x.npy"), "--keys", str(tmp_path / "keys.txt")]
    assert run(["geometry", "--features", *files, "--json", "-"]) == 0
    found = json.loads(capsys.readouterr().out)
    expected = geometry.evaluate(x, subject)
    assert {k: v["value"] for k, v in found["metrics"].items()} == {
        k: e.value for k, e in expected.metrics.items()
    }
    (tmp_path / "who.txt").write_text("\n".join("-" if s < 0 else f"{s}" for s in subject))
    assert run(["geometry", *files, "--subjects", str(tmp_path / "who.txt"), "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["metrics"] == found["metrics"]
    (tmp_path / "who.txt").write_text("1\n2\n")
    assert run(["geometry", *files, "--subjects", str(tmp_path / "who.txt")]) == 3
    assert "2 subjects" in capsys.readouterr().err
    assert run(["geometry"]) == 2
    base = str(tmp_path / "base.json")
    assert run(["geometry", *files, "--out", base]) == 0
    capsys.readouterr()
    assert run(["geometry", *files, "--gate", base]) == 2
    assert "geometry has no outcomes to pair" in capsys.readouterr().err
    (tmp_path / "keys.txt").write_text("\n".join(key.rpartition("/")[2] for key in keys))
    assert run(["geometry", *files]) == 0
    assert "give --subjects" in capsys.readouterr().err


def test_equal_distances_do_not_cross() -> None:
    x = np.array([[0, 0], [1, 0], [-1, 0], [0, 1]], np.float32)
    m = geometry.evaluate(x, np.array([0, 0, 1, -1])).metrics
    assert m["farther-than-nearest-impostor@space=l2"].value == 0
    m = geometry.evaluate(x * [[1, 1], [1, 1], [0.9, 1], [1, 1]], np.array([0, 0, 1, -1])).metrics
    assert m["farther-than-nearest-impostor@space=l2"].value == 0.5  # from row 0, not from row 1


def test_people_are_counted_beside_pairs_images_and_classes() -> None:
    x = np.random.default_rng(0).normal(size=(9, 4))
    m = geometry.evaluate(x, np.array([0, 0, 1, 1, 1, 2, 3, -1, -1])).metrics
    assert m["within@space=l2,quantile=0.5"].people == 2  # those with two images
    assert m["between@space=angle,quantile=0.5"].people == m["norm@quantile=0.5"].people == 4


def test_the_page_shows_every_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    pytest.importorskip("jinja2")
    from evalkit.report.geometry_plots import PICTURES

    for name, seed in (("a", 0), ("b", 1)):
        x, subject = faces(seed)
        reports.write(geometry.evaluate(x, subject), tmp_path / f"{name}.json")
    files = [str(tmp_path / "a.json"), str(tmp_path / "b.json")]
    for shown in (files[:1], files):
        out = tmp_path / f"{len(shown)}.html"
        plots = [part for kind in PICTURES for part in ("--plot", str(tmp_path / f"{kind}.png"))]
        assert run(["report", *shown, *plots, "-o", str(out)]) == 0
        for kind, (_, title) in PICTURES.items():
            assert (tmp_path / f"{kind}.png").stat().st_size > 5_000
            assert f"<figcaption>{title}" in out.read_text()
        assert "only the correlations have a 95 % interval, by class" in out.read_text()
        assert "accepted if it scores" not in out.read_text()
    unit = geometry.evaluate(normalise(x), subject)
    assert "norms" not in unit.curves and unit.metrics["norm-variation"].value < 1e-6
    assert unit.metrics["norm-auc@errors=rank-1"].note == "all vectors have one length"


def directed(m: dict) -> set[str]:
    return {name for name in m if better(name) is not None}


def test_a_metric_with_a_direction_knows_no_length() -> None:
    """So that nothing is gained by longer vectors; and what knows lengths has no direction."""
    x, subject = faces()
    one, two = (geometry.evaluate(x * k, subject).flat() for k in (1, 2))
    changed = {n for n in one if two[n] != pytest.approx(one[n], rel=1e-9)}
    assert changed and not changed & directed(one)


@pytest.mark.parametrize("seed", range(3))
def test_blurred_classes_are_worse_in_every_direction(seed: int) -> None:
    rng = np.random.default_rng(seed)
    subject = np.repeat(np.arange(40), 5)
    centre, noise = rng.normal(size=(40, 16))[subject], rng.normal(size=(200, 16))
    sharp, blurred = (
        geometry.evaluate(
            (centre + k * noise).astype(np.float32), subject, keys=range(200), set_name="drawn"
        )
        for k in (0.3, 0.9)
    )
    told = directed(sharp.metrics) - {"hubness-skewness@k=10", "antihubs@k=10"}
    told -= {n for n in told if n.startswith("between@space=angle")}  # of the centres alone
    for name in told:
        rule = [Rule(metric=name, test="plain")]
        assert check(sharp, blurred, rule).passed, name
        assert not check(blurred, sharp, rule).passed, name
    assert {"within/between@space=l2", "separation-ratio@space=angle"} <= told


def test_what_only_describes_holds_no_gate(tmp_path: Path) -> None:
    x, subject = faces()
    report = geometry.evaluate(x, subject)
    for name in report.metrics:
        if better(name) is None:
            with pytest.raises(ReportError, match="neither better nor worse when higher"):
                check(report, report, [Rule(metric=name, test="plain")])
    rules = tmp_path / "gates.toml"
    rules.write_text(
        '[[rule]]\nmetric = "separation-ratio@space=angle"\ntest = "plain"\nfloor = 1.2\n'
        '[[rule]]\nmetric = "within@space=angle,quantile=0.5"\ntest = "plain"\nceiling = 60'
    )
    assert [r.floor or r.ceiling for r in read_rules(rules)] == [1.2, 60]
    rules.write_text('[[rule]]\nmetric = "antihubs@k=10"\ntest = "plain"\nceiling = 60')
    with pytest.raises(ReportError, match=r"ceiling = 60 is outside \[0, 1\]"):
        read_rules(rules)
    rules.write_text('[[rule]]\nmetric = "separation-ratio@space=l2"\nfloor = inf')
    with pytest.raises(ReportError, match="is not 0 or more, and finite"):
        read_rules(rules)


def test_compare_says_what_is_better(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, seed in (("a", 0), ("b", 1)):
        reports.write(geometry.evaluate(*faces(seed)), tmp_path / f"{name}.json")
    files = [str(tmp_path / "a.json"), str(tmp_path / "b.json"), "--ignore", "comparisons"]
    assert run(["compare", *files, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["metrics"]
    assert found["within/between@space=angle"]["better"] == "lower"
    assert found["separation-ratio@space=angle"]["better"] == "higher"
    assert found["participation-ratio"]["better"] is None
    assert run(["compare", *files]) == 0
    said = capsys.readouterr().out
    for name, way in (
        ("within/between@space=l2", "lower"),
        ("separation-ratio@space=angle", "higher"),
        ("participation-ratio", "-"),
    ):
        row = said[said.index(f"\n{name} ") :].split("\n")[1:3]
        assert way in " ".join(row).split()


def test_the_page_of_the_documents_names_every_metric() -> None:
    page = Path(__file__).parents[1] / "docs" / "protocols" / "geometry.md"
    if not page.is_file():
        pytest.skip("no documents beside the tests")
    text = page.read_text()
    for name in geometry.evaluate(*faces()).metrics:
        kind = name.split("=")[0] if "@" in name else name
        assert kind in text or (kind.startswith("between@") and "`between@...`" in text), name
    for name in ("within/between", "farther-than", "hubness-skewness", "antihubs"):
        line = next(row for row in text.splitlines() if row.startswith(f"| `{name}"))
        assert line.endswith("| lower |")
    line = next(row for row in text.splitlines() if row.startswith("| `separation-ratio"))
    assert line.endswith("| higher |")
