"""Recipes: each as its own script computes it, in loops; nothing is learned on a test fold."""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from evalkit.adapters.presets import PRESETS
from evalkit.datasets import lfw as lists
from evalkit.errors import ProtocolError, ReportError
from evalkit.escaping import narrow
from evalkit.protocols import lfw, recipes, verification
from evalkit.protocols.metrics import compat
from evalkit.protocols.recipes import RECIPES, joint_bayesian
from evalkit.types import PairSet
from evalkit.vectors import matching
from evalkit.vectors.store import FeatureStore
from evalkit.verdict.compare import check_comparable

pytestmark = pytest.mark.once

Floats = NDArray[np.float64]
Set = tuple[NDArray[np.float32], PairSet, NDArray[np.int64]]


def drawn(seed: int = 0, dimensions: int = 6, shared: bool = False) -> Set:
    """Ten folds of three people with four images of two views each; or all people in any fold."""
    rng = np.random.default_rng(seed)
    who = np.repeat(np.arange(30), 4)
    x = rng.normal(size=(30, 1, dimensions))[who] + rng.normal(0, 0.8, (120, 2, dimensions)) + 1
    left, right, fold = [], [], []
    for k in range(10):
        for g in range(24):
            p = rng.integers(30) if shared else 3 * k + rng.integers(3)
            q = p if g % 2 else (p // 3 * 3 + (p + 1) % 3)
            i, j = rng.choice(4, 2, replace=False)
            left.append(4 * p + i)
            right.append(4 * q + j)
            fold.append(k)
    a, b = np.array(left), np.array(right)
    return x.astype(np.float32), PairSet(a, b, who[a] == who[b], np.array(fold, np.int16)), who


def by_folds(
    score: Callable[[int], Floats],
    pairs: PairSet,
    choose: Callable[[Floats, NDArray[np.bool_]], float],
    accept: Callable[[Floats, float], NDArray[np.bool_]],
) -> list[float]:
    assert pairs.fold is not None
    accuracy = []
    for k in range(10):
        s, test = score(k), pairs.fold == k
        t = choose(s[~test], pairs.genuine[~test])
        accuracy.append(float(np.mean(accept(s[test], t) == pairs.genuine[test])))
    return accuracy


def middle(s: Floats, same: NDArray[np.bool_]) -> float:
    """The exact threshold: all midpoints tried, the upper middle one of the best."""
    v = np.unique(s)
    t = np.r_[v[0] - 1, (v[1:] + v[:-1]) / 2, v[-1] + 1]
    right = np.array([np.sum((s >= q) == same) for q in t])
    best = np.flatnonzero(right == right.max())
    return float(t[best[len(best) // 2]])


def first_of_grid(d: Floats, same: NDArray[np.bool_]) -> float:
    grid = np.arange(0, 4, 0.01)
    return float(grid[np.argmax([np.mean((d < t) == same) for t in grid])])


def mean_of_best(c: Floats, same: NDArray[np.bool_]) -> float:
    grid = compat.SPHEREFACE_GRID
    right = np.array([np.sum(c[same] > t) + np.sum(c[~same] < t) for t in grid])
    return float(grid[right == right.max()].mean())


def unit(x: Floats) -> Floats:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def cosines(a: Floats, b: Floats) -> Floats:
    return np.array([u @ v / np.sqrt((u @ u) * (v @ v)) for u, v in zip(a, b, strict=True)])


def twin(name: str, x: NDArray[np.float32], pairs: PairSet, who: NDArray[np.int64]) -> list[float]:
    """Accuracy of each fold, as the system's script does it in float64."""
    views = x.astype(np.float64)
    left, right, fold = pairs.left, pairs.right, pairs.fold
    if name in ("insightface", "adaface"):
        f = unit(views[:, 0] + views[:, 1])
        d = np.sum((f[left] - f[right]) ** 2, axis=1)
        return by_folds(lambda _: d, pairs, first_of_grid, np.less)
    if name == "facenet":
        f = np.hstack([unit(views[:, 0]), unit(views[:, 1])])
        d = np.sum((f[left] - f[right]) ** 2, axis=1)
        return by_folds(lambda _: d, pairs, first_of_grid, np.less)
    if name in ("softmax", "l-softmax", "center-invariant", "coco", "lightcnn"):
        c = cosines(views[left, 0], views[right, 0])
        return by_folds(lambda _: c, pairs, middle, np.greater_equal)
    if name == "euclidean":
        d = np.array(
            [np.linalg.norm(u - v) for u, v in zip(views[left, 0], views[right, 0], strict=True)]
        )
        return by_folds(lambda _: -(d**2), pairs, middle, np.greater_equal)
    f = np.hstack([views[:, 0], views[:, 1]])

    def centred(k: int) -> Floats:
        train = fold != k
        mu = np.concatenate([f[left[train]], f[right[train]]]).mean(axis=0)
        return cosines(f[left] - mu, f[right] - mu)

    def after_pca(k: int) -> Floats:
        train = np.unique(np.r_[left[fold != k], right[fold != k]])
        mu = f[train].mean(axis=0)
        to = np.linalg.svd(f[train] - mu)[2][: RECIPES[name].dimensions]
        return cosines((f[left] - mu) @ to.T, (f[right] - mu) @ to.T)

    def by_ratio(k: int) -> Floats:
        train = np.unique(np.r_[left[fold != k], right[fold != k]])
        mu = f[train].mean(axis=0)
        to = np.linalg.svd(f[train] - mu)[2][: RECIPES[name].dimensions]
        y = (f - mu) @ to.T
        learned = joint_bayesian.fit(y[train], who[train])
        m, e = learned.between, learned.within
        g = -np.linalg.solve(2 * m + e, m @ np.linalg.inv(e))
        a = np.linalg.inv(m + e) - np.linalg.inv(e) - g
        two = zip(y[left], y[right], strict=True)
        return np.array([p @ a @ p + q @ a @ q - 2 * p @ g @ q for p, q in two])

    if name == "sphereface":
        return by_folds(centred, pairs, mean_of_best, np.greater)
    if name == "center-loss":
        return by_folds(after_pca, pairs, middle, np.greater_equal)
    return by_folds(by_ratio, pairs, middle, np.greater_equal)


@pytest.mark.parametrize("name", RECIPES)
def test_each_recipe_is_its_script(name: str) -> None:
    x, pairs, who = drawn()
    recipe = RECIPES[name]
    if recipe.dimensions is not None:  # fewer than there are, so that PCA does something
        recipe = replace(recipe, dimensions=5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(RECIPES, name, recipe)
        expected = twin(name, x, pairs, who)
    got = verification.evaluate(x, pairs, who, recipe=recipe, fars=())
    assert list(got.metrics["accuracy"].folds) == pytest.approx(expected, abs=1e-12)
    assert got.provenance["recipe"] == f"{name} {recipe.digest()}"
    if name == "lightcnn":
        eer = got.metrics["eer"].value
        assert eer is not None
        assert recipes.figure(recipe, x, pairs, who).value == 1 - eer
    else:
        assert recipes.figure(recipe, x, pairs, who).folds == got.metrics["accuracy"].folds


def test_euclidean_is_the_distance_and_on_unit_vectors_ranks_as_the_cosine() -> None:
    x, pairs, who = drawn()
    one = x[:, 0]
    scores = recipes.scored(RECIPES["euclidean"], one, pairs).score
    for score, a, b in zip(scores, pairs.left, pairs.right, strict=True):
        plain = sum((float(u) - float(v)) ** 2 for u, v in zip(one[a], one[b], strict=True))
        assert score == pytest.approx(-plain, rel=1e-12)
    lengths = np.random.default_rng(0).uniform(0.5, 2, len(one)).astype(np.float32)[:, None]
    cosine, distance = (
        verification.evaluate(unit(one).astype(np.float32), pairs, who, recipe=recipe).metrics
        for recipe in (None, RECIPES["euclidean"])
    )
    assert {n: m.value for n, m in cosine.items()} == {n: m.value for n, m in distance.items()}
    longer = recipes.scored(RECIPES["euclidean"], one * lengths, pairs).score
    assert (np.argsort(longer) != np.argsort(scores)).any()
    for refused in (RECIPES["euclidean"], RECIPES["sphereface"]):
        with pytest.raises(ProtocolError, match="here"):
            recipes.without_folds(refused, one)


@given(
    st.integers(0, 10**6),
    st.sampled_from(["sphereface", "center-loss", "deepid2"]),
    st.integers(0, 9),
    st.booleans(),
)
@settings(max_examples=30, deadline=None)
def test_no_row_of_the_test_folds_people_moves_a_bit(
    seed: int, name: str, k: int, shared: bool
) -> None:
    x, pairs, who = drawn(seed % 50, dimensions=3, shared=shared)
    if shared:  # all folds have people in common, but not all people are in each
        assert pairs.fold is not None
        few = who[pairs.left[pairs.fold == k]] % 30
        assert len(np.unique(few)) < 30
    recipe = RECIPES[name]
    fused = recipes.fused(recipe, x)
    rows, _ = recipes.training_rows(pairs, who, k)
    assert pairs.fold is not None
    here = pairs.fold == k
    tested = np.isin(who, who[np.r_[pairs.left[here], pairs.right[here]]])
    changed = fused.copy()
    changed[tested] = np.random.default_rng(seed).normal(size=changed[tested].shape)
    before, after = (recipes.fit(recipe, each, rows, who) for each in (fused, changed))
    for a, b in zip(learned(before), learned(after), strict=True):
        assert np.array_equal(a, b)
    # and what may move it does: a training row
    changed = fused.copy()
    changed[rows[0]] += 1
    moved = recipes.fit(recipe, changed, rows, who)
    assert not np.array_equal(learned(before)[0], learned(moved)[0])


def learned(p: recipes.LearnedTransform) -> list[NDArray[np.floating]]:
    model = [] if p.model is None else [p.model.mean, p.model.u, p.model.v]
    return [each for each in (p.mean, p.basis, *model) if each is not None]


def test_people_of_the_fold_are_left_out_and_counted() -> None:
    x, pairs, who = drawn(shared=True)
    report = verification.evaluate(x, pairs, who, recipe=RECIPES["sphereface"], fars=())
    assert report.provenance["training_images_left_out"] > 0
    x, pairs, who = drawn()
    report = verification.evaluate(x, pairs, who, recipe=RECIPES["sphereface"], fars=())
    assert report.provenance["training_images_left_out"] == 0


def test_the_mean_has_no_order() -> None:
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(500, 4)) * 10.0 ** rng.integers(-6, 6, (500, 1))).astype(np.float32)
    order = rng.permutation(500)
    one, two = (recipes._mean(each, np.ones(500, np.int64)) for each in (x, x[order]))
    assert np.array_equal(one, two)


def test_a_failed_image_teaches_nothing_and_is_never_accepted() -> None:
    x, pairs, who = drawn()
    x[pairs.left[0]] = np.inf
    for name in ("sphereface", "center-loss", "deepid2"):
        report = verification.evaluate(x, pairs, who, recipe=RECIPES[name], fars=())
        assert report.failures.images == 1
        assert report.outcomes is not None
        assert np.isneginf(report.outcomes["score"][0])
        assert (
            np.isfinite(report.outcomes["score"]).sum()
            == len(pairs) - ((pairs.left == pairs.left[0]) | (pairs.right == pairs.left[0])).sum()
        )


def test_compare_does_not_mix_recipes() -> None:
    x, pairs, who = drawn()
    a, b, c = (
        verification.evaluate(x, pairs, who, recipe=recipe, fars=())
        for recipe in (RECIPES["softmax"], RECIPES["insightface"], None)
    )
    for other in (b, c):
        with pytest.raises(ReportError, match="differ in 'recipe'"):
            check_comparable(a, other)
    check_comparable(a, b, ignore=["recipe", "keys", "set"])


def test_a_recipe_that_learns_needs_folds() -> None:
    x, pairs, who = drawn()
    with pytest.raises(ProtocolError, match="'sphereface' learns on training folds"):
        recipes.scored(RECIPES["sphereface"], x, replace(pairs, fold=None), who)
    with pytest.raises(ProtocolError, match="and here are none"):
        recipes.without_folds(RECIPES["sphereface"], x)
    with pytest.raises(ProtocolError, match="needs the mirrored view"):
        verification.evaluate(x[:, 0], pairs, who, recipe=RECIPES["insightface"])


def test_a_digest_is_of_what_changes_numbers() -> None:
    a, b = RECIPES["insightface"], RECIPES["adaface"]
    assert a.digest() == b.digest() == replace(a, published=1.0, source="").digest()
    assert replace(a, threshold="exact").digest() != a.digest()
    assert len({r.digest() for r in RECIPES.values()}) == 9


def test_every_name_in_a_recipe_exists() -> None:
    for recipe in RECIPES.values():
        assert recipe.threshold == "exact" or recipe.threshold in compat.THRESHOLD_RULES
        assert not recipe.input or recipe.input in PRESETS
        assert recipe.source


# correct of 6,000, on the embeddings that ship with evalkit (one vector an image)
GOLDEN = {
    "softmax": 5959,
    "facenet": 5960,
    "sphereface": 5950,
    "insightface": 5960,
}
ONE_PAIR = 1.01 / 6000  # what LAPACK may move


def shipped_vectors() -> tuple[NDArray[np.float32], PairSet, NDArray[np.int32]]:
    with as_file(files("evalkit.datasets") / "data" / "lfw_mobilefacenet.h5") as path:
        manifest, pairs = lists.official_pairs().resolve()
        return (
            matching.from_store(FeatureStore.open(path), manifest).features,
            pairs,
            manifest.subject,
        )


@pytest.mark.slow
@pytest.mark.parametrize(("name", "right"), [("deepid2", 5942), ("center-loss", 5952)])
def test_what_lapack_learns_on_real_embeddings(name: str, right: int) -> None:
    recipe = replace(RECIPES[name], fusion="none")
    got = recipes.figure(recipe, *shipped_vectors())
    assert got.value == pytest.approx(right / 6000, abs=ONE_PAIR)


@pytest.mark.slow
def test_the_column_of_the_page_is_what_recipe_all_prints() -> None:
    from evalkit.protocols.recipes.side_by_side import side_by_side

    page = Path(__file__).resolve().parents[1] / "docs" / "recipes.md"
    if not page.is_file():
        pytest.skip("no documents beside the tests")
    table = page.read_text(encoding="utf-8").partition("| published | here |")[2]
    shown = dict(re.findall(r"^\| ([\w-]+) \|.*\| ([\d.]+) \|$", table.partition("\n\n")[0], re.M))
    assert shown.keys() == RECIPES.keys()
    lines, _ = side_by_side(*shipped_vectors())
    made = {line[0]: line[1].partition(" ± ")[0] for line in lines}
    for name, figure in shown.items():
        assert float(made[name]) == pytest.approx(float(figure), abs=100 * ONE_PAIR), name


@pytest.mark.parametrize("name", GOLDEN)
def test_the_number_on_real_embeddings(name: str) -> None:
    recipe = replace(RECIPES[name], fusion="none")
    got = recipes.figure(recipe, *shipped_vectors())
    assert got.value == pytest.approx(GOLDEN[name] / 6000, abs=1e-9)


def test_errata_are_left_out_of_learning_too() -> None:
    x, pairs, who = drawn()
    errata = np.arange(len(pairs)) == 5
    report = lfw.evaluate(x, pairs, who, recipe=RECIPES["sphereface"], errata=errata)
    columns = {n: getattr(pairs, n)[~errata] for n in ("left", "right", "genuine", "fold")}
    expected = recipes.figure(RECIPES["sphereface"], x, PairSet(**columns), who)
    assert report.metrics[lfw.WITHOUT_ERRATA].value == expected.value


def evalkit(*words: str) -> int:
    from evalkit.cli import run

    return run([str(w) for w in words])


@pytest.fixture
def shipped() -> Iterator[str]:
    with as_file(files("evalkit.datasets") / "data" / "lfw_mobilefacenet.h5") as path:
        yield str(path)


def test_evalkit_recipes_shows_every_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert evalkit("recipes") == 0
    lines = capsys.readouterr().out.split("\n")
    assert max(len(line) for line in lines if " " in line.strip()) <= 80
    shown = " ".join(" ".join(lines).split())
    for recipe in RECIPES.values():
        assert f" {recipe.name}: {recipe.source}" in shown


def test_a_recipe_on_the_command_line(shipped: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("lfw", "--features", shipped, "--recipe")
    assert evalkit(*words, "insightface") == 3  # one view cannot be summed
    assert "needs the mirrored view" in capsys.readouterr().err
    assert evalkit(*words, "insightface", "--flip", "none", "--json", "-") == 0
    kept = json.loads(capsys.readouterr().out)
    of_none = replace(RECIPES["insightface"], fusion="none")
    assert kept["provenance"]["recipe"] == f"insightface {of_none.digest()}"
    assert kept["metrics"]["accuracy"]["value"] == pytest.approx(5960 / 6000)
    assert evalkit(*words, "arcface") == 2
    assert evalkit(*words, "all", "--json", "-") == 2


def test_side_by_side_has_a_line_a_recipe_and_the_spread(monkeypatch: pytest.MonkeyPatch) -> None:
    from evalkit.protocols.recipes.side_by_side import side_by_side

    measured: list[str] = []
    figure = recipes.figure

    def counted(recipe: recipes.Recipe, *rest: Any) -> Any:
        measured.append(recipe.name)
        return figure(recipe, *rest)

    monkeypatch.setattr(recipes, "figure", counted)
    x, pairs, who = drawn()
    cells, spread = side_by_side(x, pairs, who)
    lines = [*(" ".join(line) for line in cells), spread]
    assert len(lines) == 1 + 1 + len(RECIPES) + 1
    assert lines[-1].endswith("points are the recipe alone")
    # PCA to 180 and to 300 of 12 dimensions keep the same 12: learned once
    assert "deepid2" in measured and not {"deepid2plus", "deepid3"} & set(measured)
    laid = [line for row in narrow(cells, left=range(len(cells[0]))) for line in row]
    assert max(map(len, laid)) <= 80 and max(map(len, lines)) > 80
    here = {line[0]: line[1] for line in cells[2:]}
    assert here["deepid3"] == here["deepid2"]
    for recipe in RECIPES.values():
        found = figure(recipe, x, pairs, who).value
        assert found is not None
        assert f"{100 * found:.2f}" in here[recipe.name]
    assert "concat (one view)" in str(side_by_side(x[:, :1], pairs, who))


def test_megaface_takes_recipes_that_learn_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    x = np.random.default_rng(0).normal(size=(14, 2, 8)).astype(np.float32)
    keys = [f"{'ab'[i % 2]}/{i}.png" if i < 4 else f"d/{i}.jpg" for i in range(14)]
    ids = [k[0] for k in keys[:4]]
    for name, listed in (("p", {"path": keys[:4], "id": ids}), ("d", {"path": keys[4:]})):
        (tmp_path / f"{name}.json").write_text(json.dumps(listed))
    np.savez(tmp_path / "x.npz", features=x, keys=np.array(keys))
    files_ = [a for n in "pd" for a in (f"--{_LISTS[n]}-list", tmp_path / f"{n}.json")]
    words = ("megaface", "--features", tmp_path / "x.npz", *files_, "--json", "-", "--recipe")
    assert evalkit(*words, "sphereface") == 2
    assert "learns on training folds, and here are none" in capsys.readouterr().err
    assert evalkit(*words, "facenet") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["provenance"]["recipe"] == f"facenet {RECIPES['facenet'].digest()}"
    unit_views = np.hstack([unit(x[:, 0].astype(float)), unit(x[:, 1].astype(float))])
    c = unit_views @ unit_views.T
    mates = [(i, j) for i in range(4) for j in range(4) if i != j and ids[i] == ids[j]]
    first = [c[i, j] > c[i, 4:].max() for i, j in mates]
    found = [m["value"] for n, m in report["metrics"].items() if n.startswith("rank-1@")]
    assert found == [pytest.approx(np.mean(first))]


_LISTS = {"p": "probe", "d": "distractor"}
