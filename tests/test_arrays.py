"""Protocols as a foreign project calls them: lists, labels of 0 and 1, names, tensors."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from evalkit import run
from evalkit.arrays import (
    array,
    identities,
    identities_of_all,
    labels,
    numbers,
    unwritten,
    vectors,
    whole_numbers,
)
from evalkit.errors import DataError, ProtocolError
from evalkit.protocols import (
    all_vs_all,
    allpairs,
    blufr,
    geometry,
    ijb,
    lfw,
    megaface,
    metrics,
    recipes,
    score,
    trillion,
    verification,
    ytf,
)
from evalkit.protocols.megaface import devkit
from evalkit.protocols.metrics import compat, kfold, similarity
from evalkit.protocols.recipes import joint_bayesian
from evalkit.types import Manifest, PairSet, Report

pytestmark = pytest.mark.once

RNG = np.random.default_rng(0)
WHO = np.repeat(np.arange(30), 4)
X = RNG.normal(size=(30, 8))[WHO] + 0.5 * RNG.normal(size=(120, 8))
GENUINE = np.arange(200) % 2 == 0
LEFT = RNG.integers(0, 120, 200)
OTHER = (LEFT + 4 * RNG.integers(1, 30, 200)) % 120
RIGHT = np.where(GENUINE, LEFT // 4 * 4 + (LEFT + 1) % 4, OTHER)
FOLD = np.arange(200) // 20
PAIRS = PairSet(LEFT, RIGHT, GENUINE, FOLD.astype(np.int16))
SCORE = RNG.normal(size=200) + 2 * GENUINE


def same(a: Report, b: Report) -> bool:
    return dict(a.metrics) == dict(b.metrics)


def test_views_of_one_number_are_refused() -> None:
    with pytest.raises(ProtocolError, match="are 8 views of one number each") as told:
        vectors(X[:, :, None])
    assert told.value.hint == "leave the last axis out: x[..., 0]"
    assert vectors(X[:, None]).shape == (120, 1, 8) and vectors(X[:, :1, None]).shape == (120, 1, 1)


def test_names_in_bytes_are_those_of_texts() -> None:
    names = [f"p\xe9{n % 7}" for n in range(40)]
    held = [name.encode() for name in names]
    for given in (held, np.array(held), np.array(held, object)):
        np.testing.assert_array_equal(identities(given, 40), identities(names, 40))
    with pytest.raises(ProtocolError, match=r"a subject's name is not UTF-8: b'\\xff'"):
        identities([b"a", b"\xff"], 2)


def test_vectors_by_name() -> None:
    names = [f"p{who}/{n}.jpg" for n, who in enumerate(WHO)]
    by_name = run.evaluate("people", dict(zip(names, X, strict=True)))
    assert same(by_name, run.evaluate("people", X, WHO, keys=names))
    with pytest.raises(DataError, match="have their names already"):
        run.evaluate("people", dict(zip(names, X, strict=True)), keys=names)


def test_a_label_is_a_truth() -> None:
    assert labels([1, 0, 1]).tolist() == labels([True, False, True]).tolist() == [True, False, True]
    assert labels(np.array([1.0, 0.0])).dtype == np.bool_
    for wrong in ([1, -1], [1, 2], [0.5], ["1", "0"], [None, True], [np.nan]):
        with pytest.raises(ProtocolError, match="'genuine' must be boolean or 0/1, got"):
            labels(wrong)


def test_rows_and_folds_are_whole_numbers() -> None:
    assert whole_numbers(np.array([1], np.uint64), "left").dtype == np.int64
    assert whole_numbers([1.0, 2.0], "left").tolist() == [1, 2]
    assert whole_numbers(np.array([1, 2**40], object), "left").tolist() == [1, 2**40]
    beyond: Any = [1e300], [2.0**53 + 2], np.array([2.0**25], np.float32), [2**63], [2**64]
    for wrong in ([1.5], [np.nan], [np.inf], ["1"], [True], [None], *beyond):
        with pytest.raises(ProtocolError, match="'left' holds"):
            whole_numbers(wrong, "left")


def test_names_are_numbered_and_a_dash_is_nobody() -> None:
    assert identities(["b", "-", "a", "b", "-1"], 5).tolist() == [1, -1, 0, 1, -1]
    both = identities_of_all([(["b", "a"], 2), (["c", "b", "-"], 3), ([], 0)])
    assert [who.tolist() for who in both] == [[1, 0], [2, 1, -1], []]
    for missing in (["a", ""], np.array(["a", np.nan], object)):
        with pytest.raises(ProtocolError, match=r"a subject is called '(nan)?'.*called -"):
            identities(missing, 2)
    with pytest.raises(ProtocolError, match="some subjects are names and others numbers"):
        identities_of_all([(["a"], 1), ([3], 1)])
    with pytest.raises(ProtocolError, match=r"3 features have subjects of shape \(2,\)"):
        identities([0, 1], 3)


def test_a_pair_set_takes_what_can_be_meant() -> None:
    given = PairSet(
        LEFT.tolist(),
        RIGHT.astype(np.uint8),
        GENUINE.astype(int),
        FOLD.tolist(),  # type: ignore[arg-type]
    )
    assert (given.left.dtype, given.right.dtype, given.genuine.dtype) == (
        np.int64,
        np.int64,
        np.bool_,
    )
    assert same(verification.evaluate(X, given, WHO), verification.evaluate(X, PAIRS, WHO))
    with pytest.raises(ProtocolError, match="label == 1"):
        PairSet(LEFT, RIGHT, np.where(GENUINE, 1, -1))  # type: ignore[arg-type]


def test_a_manifest_takes_lists() -> None:
    made = Manifest(["a", "b"], [0, 1])  # type: ignore[arg-type]
    assert made.keys == ("a", "b") and made.digest() == Manifest(("a", "b"), np.arange(2)).digest()


@pytest.mark.parametrize("keys", ["abc", [1, 2, 3], [b"a", b"b", b"c"]])
def test_names_are_texts(keys: Any) -> None:
    with pytest.raises(ProtocolError, match="keys given as"):
        Manifest(keys, np.arange(3))


def test_one_text_is_no_list_of_names() -> None:
    with pytest.raises(ProtocolError, match="keys given as 'xxx"):
        verification.evaluate(X, PAIRS, WHO, keys="x" * 120)


def test_labels_of_0_and_1_give_the_numbers_of_booleans() -> None:
    as_int: Any = GENUINE.astype(int)
    assert same(score.evaluate(SCORE, as_int, FOLD), score.evaluate(SCORE, GENUINE, FOLD))
    assert kfold.kfold_accuracy(SCORE, as_int, FOLD) == kfold.kfold_accuracy(SCORE, GENUINE, FOLD)
    wrong = np.zeros(200, int)
    wrong[0] = 1
    by_int = lfw.evaluate(X, PAIRS, WHO, errata=wrong)  # type: ignore[arg-type]
    assert same(by_int, lfw.evaluate(X, PAIRS, WHO, errata=wrong == 1))


def test_folds_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(ProtocolError, match="expected a whole number for each pair"):
        kfold.kfold_accuracy(SCORE, GENUINE, FOLD.astype(str))


EVERY = {
    "verification": lambda x, who: verification.evaluate(x, PAIRS, who),
    "all_vs_all": lambda x, who: all_vs_all.evaluate(x, who, fars=["1e-2"]),
    "geometry": geometry.evaluate,
    "one_set": trillion.evaluate_one_set,
    "trillion": lambda x, who: trillion.evaluate(
        x, [w if w < 9 else -1 for w in who] if who[0] == 0 else who, fars=["1e-2"]
    ),
    "megaface": lambda x, who: megaface.evaluate(
        x[:40], who[:40], {"distractors=80": x[40:]}, fars=["1e-2"]
    ),
    "blufr": lambda x, who: blufr.evaluate(
        x, who, [blufr.Trial(list(range(120)), list(range(0, 80, 4)), list(range(1, 120, 4)))] * 2
    ),
}


@pytest.mark.parametrize("name", EVERY)
def test_a_protocol_takes_lists_and_names(name: str) -> None:
    measure: Any = EVERY[name]
    assert same(measure(X.tolist(), WHO.tolist()), measure(X, WHO))
    if name != "trillion":  # whose distractors are made of the numbers here
        assert same(measure(X, np.array([f"p{w:02}" for w in WHO])), measure(X, WHO))


@pytest.mark.parametrize("name", ["verification", "all_vs_all", "one_set"])
def test_a_protocol_takes_tensors(name: str) -> None:
    torch = pytest.importorskip("torch")
    measure: Any = EVERY[name]
    assert same(measure(torch.tensor(X), torch.tensor(WHO)), measure(X, WHO))


DOORS = EVERY | {
    "lfw": lambda x, who: lfw.evaluate(x, PAIRS, who),
    "megaface distractors": lambda x, who: megaface.evaluate(
        X[:40], who[:40], {"distractors=120": x}, fars=["1e-2"]
    ),
    "templates": lambda x, who: ijb.pool(
        x, who, np.arange(120), None, ijb.Pooling(flip="none", detector_score=False)
    ),
    "recipes": lambda x, who: recipes.figure(recipes.Recipe(), x, PAIRS, who),
    "joint bayesian": joint_bayesian.fit,
    "allpairs.verify": lambda x, who: allpairs.verify(x, who, fars=["1e-2"]),
    "allpairs.search": lambda x, who: allpairs.search(x, X),
    "allpairs.ranks": lambda x, who: allpairs.ranks(X, x, np.arange(3), np.zeros(3)),
    "devkit": lambda x, who: devkit.project(x),
    "normalise": lambda x, who: similarity.normalise(x),
}
NO_VECTORS: dict[str, Any] = {
    "complex": lambda x: x + 1j,
    "text": lambda x: x.astype(str),
    "bytes": lambda x: x.astype(bytes),
    "truths": lambda x: x > 0,
    "dates": lambda x: x.astype("M8[s]"),
    "records": lambda x: x.astype([("a", "f4"), ("b", "f4")]),
    "objects": lambda x: np.where(x > 0, x, None),
    "columns of a table that is not full": lambda x: [
        row[: 3 + r % 3].tolist() for r, row in enumerate(x)
    ],
    "no columns": lambda x: x[:, :0],
    "one dimension": lambda x: x[:, 0],
    "a feature map": lambda x: x.reshape(120, 2, 2, 2),
    "a pooled feature map": lambda x: x[:, :, None, None],
    "no array": lambda x: {"features": x},
}


@pytest.mark.parametrize(
    ("door", "kind"),
    # the test itself cuts megaface's array into probes and distractors
    [(d, k) for d in DOORS for k in NO_VECTORS if (d, k) != ("megaface", "no array")],
)
def test_no_door_takes_what_is_no_vectors(door: str, kind: str) -> None:
    measure: Any = DOORS[door]
    with pytest.raises(ProtocolError) as told:
        measure(NO_VECTORS[kind](X), WHO)
    assert "shape" in told.value.message or "hold" in told.value.message


@pytest.mark.parametrize("name", EVERY)
def test_what_lies_under_a_mask_is_not_scored(name: str) -> None:
    measure: Any = EVERY[name]
    mask = np.zeros(X.shape, bool)
    mask[[3, 50, 51], [0, 1, 7]] = True
    masked = np.ma.masked_array(X, mask)
    missing = np.where(mask, np.nan, X)
    report = measure(masked, WHO)
    assert same(report, measure(missing, WHO)) and report.failures.images == 3
    assert same(measure(list(masked), WHO), report)
    assert same(measure(np.ma.masked_array(X), WHO), measure(X, WHO))


@pytest.mark.parametrize("name", EVERY)
def test_doubles_that_float32_cannot_hold_are_no_vectors(name: str) -> None:
    wide = X.copy()
    wide[3], wide[50] = 1e300, 1e-300
    report = EVERY[name](wide, WHO)
    assert report.failures.images == 2
    wide[[3, 50]] = np.nan
    assert same(report, EVERY[name](wide, WHO))


@pytest.mark.parametrize(
    "name", ["verification", "all_vs_all", "megaface distractors", "allpairs.verify"]
)
@pytest.mark.parametrize("kind", ["gradient", "bfloat16", "float16", "rows", "sparse"])
def test_tensors_of_every_kind_are_read_or_refused(name: str, kind: str) -> None:
    torch = pytest.importorskip("torch")
    plain = torch.tensor(X, dtype=torch.float32)
    made = {
        "gradient": lambda: plain.clone().requires_grad_(),
        "bfloat16": plain.bfloat16,
        "float16": plain.half,
        "rows": lambda: list(plain),
        "sparse": plain.to_sparse,
    }[kind]()
    measure: Any = DOORS[name]
    if kind == "sparse":
        with pytest.raises(ProtocolError, match=r"Tensor, not an array|have shape \(\)"):
            measure(made, WHO)
        return
    expected = np.array([row.detach().float().numpy() for row in made])
    found, wanted = measure(made, WHO), measure(expected, torch.tensor(WHO))
    assert found.points == wanted.points if name == "allpairs.verify" else same(found, wanted)


HASH = np.sort(RNG.integers(0, 2**64, 30, dtype=np.uint64, endpoint=False))
SUBJECTS: dict[str, Any] = {
    "hashes": HASH[WHO],
    "hashes in disorder": RNG.permutation(HASH)[WHO],
    "big-endian": WHO.astype(">i8"),
    "uint8": WHO.astype(np.uint8),
    "int8": WHO.astype(np.int8),
    "float64": WHO.astype(np.float64),
    "objects": WHO.astype(object),
    "large": WHO + 2**62,
    "no mask": np.ma.masked_array(WHO),
    "names": np.array([f"person {w:03d}" for w in WHO]),
    "names in another order": [f"person {-w % 97}" for w in WHO],
}


@functools.cache
def of_plain_subjects(name: str) -> Report:
    return EVERY[name](X, WHO)


@pytest.mark.parametrize("kind", SUBJECTS)
@pytest.mark.parametrize("name", sorted(set(EVERY) - {"trillion"}))
def test_subjects_are_equal_whatever_numbers_name_them(name: str, kind: str) -> None:
    measure: Any = EVERY[name]
    given, wanted = measure(X, SUBJECTS[kind]), of_plain_subjects(name)
    assert {k: m.value for k, m in given.metrics.items()} == {
        k: m.value for k, m in wanted.metrics.items()
    }
    assert given.provenance == wanted.provenance


@pytest.mark.parametrize("name", EVERY)
def test_subjects_that_cannot_be_told_are_refused(name: str) -> None:
    measure: Any = EVERY[name]
    for wrong, told in (
        (np.ma.masked_array(WHO, WHO == 3), "'subject' masks 4 of its"),
        (WHO + 1e17, "'subject' holds float64"),
        (WHO + 0.5, "'subject' holds float64"),
        (WHO + 0j, "'subject' holds complex128"),
        (WHO > 3, "'subject' holds bool"),
        ([None] * 120, "'subject' holds object"),
        (WHO[:, None], "have subjects of shape"),
        (WHO[:30], "have subjects of shape"),
    ):
        with pytest.raises(ProtocolError, match=told):
            measure(X, wrong) if name != "trillion" else trillion.evaluate(X, wrong)  # type: ignore[arg-type]


def test_subjects_from_pandas() -> None:
    pandas = pytest.importorskip("pandas")
    expected = all_vs_all.evaluate(X, WHO, fars=["1e-2"])
    for series in (pandas.Series(WHO), pandas.Series(WHO, dtype="Int64"), pandas.Categorical(WHO)):
        assert same(all_vs_all.evaluate(pandas.DataFrame(X), series, fars=["1e-2"]), expected)
    missing = pandas.Series([*WHO[:-1], None], dtype="Int64")
    with pytest.raises(ProtocolError, match="'subject' holds"):
        all_vs_all.evaluate(X, missing)
    names = [f"p{w}" for w in WHO]
    for series in (pandas.Series(names), pandas.Categorical(names)):
        assert same(all_vs_all.evaluate(X, series, fars=["1e-2"]), expected)
        lacking = pandas.Series([*names[:-1], None], dtype=series.dtype)
        with pytest.raises(ProtocolError, match=r"'subject' holds|a subject is called 'nan'"):
            all_vs_all.evaluate(X, lacking)


def test_a_column_of_a_table_that_is_no_coordinate_is_refused() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X, columns=[f"e{i}" for i in range(X.shape[1])])
    expected = all_vs_all.evaluate(X, WHO, fars=["1e-2"])
    assert same(all_vs_all.evaluate(frame, WHO, fars=["1e-2"]), expected)
    for name in ("label", "Unnamed: 0", "det_score"):
        with pytest.raises(ProtocolError, match=f"columns that are no coordinates: {name}"):
            all_vs_all.evaluate(frame.assign(**{name: WHO}), WHO)


@pytest.mark.parametrize("index", [range(1, 121), range(119, -1, -1)])
def test_keys_from_pandas_are_in_the_order_of_the_rows(index: range) -> None:
    pandas = pytest.importorskip("pandas")
    names = [f"{who}/{row}.jpg" for row, who in enumerate(WHO)]
    keys, failed = pandas.Series(names, index=index), X.copy()
    failed[3] = np.nan
    told = verification.evaluate(failed, PAIRS, WHO, keys=keys)
    assert told.failures.keys == (names[3],)
    assert told.identity == verification.evaluate(failed, PAIRS, WHO, keys=names).identity
    with pytest.raises(ProtocolError, match="keys given as"):
        verification.evaluate(X, PAIRS, WHO, keys=keys.to_frame())


def test_a_manifest_tells_hashes_apart() -> None:
    keys = [str(k) for k in range(120)]
    made = Manifest(keys, HASH[WHO])  # type: ignore[arg-type]
    assert made.subject.tolist() == WHO.tolist()
    low, high = (Manifest(("a",), np.array([s])) for s in (1, 1 + 2**32))
    assert low.digest() != high.digest()


def test_templates_and_their_subjects_are_whole_numbers() -> None:
    how = ijb.Pooling(flip="none", detector_score=False)
    made = ijb.pool(X, WHO, np.arange(120), None, how)
    for wrong in (WHO.astype(str), HASH[WHO], np.ma.masked_array(WHO, WHO == 3), WHO + 0.5):
        with pytest.raises(ProtocolError, match="'template'"):
            ijb.pool(X, wrong, np.arange(120), None, how)
        with pytest.raises(ProtocolError, match="'template'"):
            ijb.verify(made, wrong, wrong, WHO == 0)
        with pytest.raises(ProtocolError, match="'subject'"):
            ijb.Enrolled(WHO, wrong)
    with pytest.raises(ProtocolError, match=r"120 templates have subjects of shape \(3,\)"):
        ijb.Enrolled(WHO, WHO[:3])
    with pytest.raises(ProtocolError, match="a detection score is not finite"):
        ijb.pool(X, WHO, np.arange(120), np.full(120, np.nan), ijb.Pooling(flip="none"))


SCORE_DOORS: dict[str, Any] = {
    "auc": lambda s: metrics.auc(s, SCORE),
    "eer": lambda s: metrics.eer(SCORE, s),
    "roc": lambda s: metrics.roc(s, SCORE),
    "det": lambda s: metrics.det(s, SCORE),
    "threshold_at_far": lambda s: metrics.threshold_at_far(s, "1e-1"),
    "tpr_at_far": lambda s: metrics.tpr_at_far(SCORE, s, "1e-1"),
    "mate_rank": lambda s: metrics.mate_rank([s, s], [0, 1]),
    "cmc": lambda s: metrics.cmc(s, 3),
    "dir_at_fpir": lambda s: metrics.dir_at_fpir(SCORE, s, SCORE, "1e-1"),
    "kfold": lambda s: kfold.kfold_accuracy(s, GENUINE, FOLD),
    "score_list": lambda s: score.evaluate(s, GENUINE),
    "nearest_far": lambda s: compat.nearest_far(s, SCORE, "1e-1"),
    "facenet": lambda s: compat.facenet_curve(s, GENUINE, FOLD),
    "genuine": lambda s: score.evaluate(SCORE, s),
    "fold": lambda s: score.evaluate(SCORE, GENUINE, s),
    "left": lambda s: PairSet(s, RIGHT, GENUINE),
    "detector_score": lambda s: ijb.pool(
        np.ones((200, 2)), FOLD, FOLD, s, ijb.Pooling(flip="none")
    ),
}


@pytest.mark.parametrize("door", SCORE_DOORS)
def test_no_door_takes_what_is_no_score(door: str) -> None:
    wrong = {
        "text": SCORE.astype(str),
        "complex": SCORE + 1j,
        "masked": np.ma.masked_array(SCORE, SCORE > 1),
        "objects": np.where(SCORE > 1, SCORE, None),
        "truths": SCORE > 1,
    }
    if door == "genuine":
        del wrong["truths"]
    for values in wrong.values():
        with pytest.raises(ProtocolError):
            SCORE_DOORS[door](values)


def test_what_an_array_is_read_from() -> None:
    assert array(np.array([True, False], object), "x").dtype == np.bool_
    assert numbers([1, 2], "x").dtype == np.float64
    assert vectors(X) is X
    assert vectors(np.ma.masked_array(np.ones((1, 2), np.int8), [[0, 1]])).tolist()[0][0] == 1
    for nothing in ({1, 2}, {"a": 1}, object()):
        with pytest.raises(ProtocolError, match="shape"):
            vectors(nothing)  # type: ignore[arg-type]


def test_distractors_have_names() -> None:
    with pytest.raises(ProtocolError, match="a set of distractors has no name"):
        megaface.evaluate(X[:40], WHO[:40], X[40:])  # type: ignore[arg-type]


def test_templates_take_lists() -> None:
    how = ijb.Pooling(flip="none", detector_score=False)
    made = ijb.pool(X.tolist(), WHO.tolist(), list(range(120)), None, how)  # type: ignore[arg-type]
    assert np.array_equal(made.vectors, ijb.pool(X, WHO, np.arange(120), None, how).vectors)
    pairs: Any = [0, 2, 4, 6], [1, 3, 5, 8], [0, 0, 0, 1]
    assert ijb.verify(made, *pairs, fars=["5e-1"]).metrics["tpr@far=5e-1"].n == 4


def test_pairs_whose_labels_join_everybody_have_an_interval_or_none() -> None:
    """Rows joined by genuine pairs are one person: here all are, in impostor pairs too."""
    how = ijb.Pooling(flip="none", detector_score=False)
    made = ijb.pool(X, np.arange(120), np.arange(120), None, how)
    left = np.repeat(np.arange(120), 2)
    right = (left + np.tile([1, 7], 120)) % 120
    found = ijb.verify(made, left, right, np.tile([True, False], 120), fars=["1e-1"])
    assert found.metrics["tpr@far=1e-1"].value is not None


@pytest.mark.parametrize(
    "far", ["1e-400000000", "1e-1,1e-2", "1 %", "１e-2", "1_0e-3", " 1e-2", "1/0", "", "." * 10]
)
def test_a_rate_is_what_somebody_would_write(far: str) -> None:
    with pytest.raises(ProtocolError, match="is not decimal text"):
        metrics.tpr_at_far([0.5], [0.1], far)


def test_a_mate_is_a_column_of_the_gallery() -> None:
    s = np.eye(3)
    assert metrics.mate_rank(s, [0, 1, 2]).tolist() == [1, 1, 1]
    for mate, told in (([0, 1, 3], "columns 0 to 3 of 3"), ([0, 1, -1], "columns -1 to 1 of 3")):
        with pytest.raises(ProtocolError, match=told):
            metrics.mate_rank(s, mate)
    for wrong, mate in ((s, [0, 1]), (s[0], [0])):
        with pytest.raises(ProtocolError, match=r"expected \(Q, G\) and \(Q,\)"):
            metrics.mate_rank(wrong, mate)
    with pytest.raises(ProtocolError, match="expected one dimension"):
        metrics.cmc(np.ones((2, 2), int), 2)


def test_a_fusion_that_is_none_is_refused() -> None:
    two = np.stack([X, X], axis=1)
    with pytest.raises(ProtocolError, match="'mean' is not one of none, sum, concat"):
        verification.evaluate(two, PAIRS, WHO, flip="mean")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: verification.evaluate(X, (1, 2)), "pairs given as .*PairSet"),
        (lambda: ytf.evaluate(X, range(len(X)), (1, 2)), "pairs given as .*PairSet"),
        (
            lambda: verification.evaluate(X, PAIRS, WHO, recipe="facenet"),
            "recipe given as .*RECIPES",
        ),
        (
            lambda: run.evaluate("verification", X, PAIRS, recipe="facenet"),
            "recipe given as .*RECIPES",
        ),
        (
            lambda: verification.evaluate(X, PAIRS, WHO, groups="who.csv"),
            "column of groups given as 'w'",
        ),
    ],
)
def test_what_is_no_such_thing_is_named(call: Callable[[], object], told: str) -> None:
    with pytest.raises(ProtocolError, match=told):
        call()


@pytest.mark.parametrize("shape", [(60, 40), (60, 2, 40), (60, 3)])
def test_rows_that_only_begin_with_zeros_were_written(
    shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("evalkit.arrays._BLOCK", 7)
    x = np.zeros(shape, np.float32)
    x[::3, ..., -1] = 1
    x[1::6, ..., 0] = np.nan
    x[2] = -0.0
    if x.ndim == 3:
        x[3, 1] = x[6, 0] = 0  # one view of two, as where a face was found in one of them
    expected = [row for row in range(60) if not x[row].any(axis=-1).all()]
    assert unwritten(x).tolist() == expected and len(expected) > 20
