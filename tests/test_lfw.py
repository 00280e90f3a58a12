"""LFW as the site defines it: the lists to the byte, the numbers to the pair."""

import gzip
import hashlib
import json
from importlib.resources import files

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalkit.datasets import lfw as lists
from evalkit.errors import DataError, ProtocolError
from evalkit.protocols import lfw, verification
from evalkit.protocols.metrics.flip_fusion import fuse
from evalkit.protocols.metrics.kfold import kfold_accuracy
from evalkit.protocols.metrics.similarity import exact_scores, normalise
from evalkit.types import PairSet

OFFICIAL = {
    "lfw_pairs.txt.gz": "ea42330c62c92989f9d7c03237ed5d591365e89b3e649747777b70e692dc1592",
    "lfw_dev_train.txt.gz": "1d454dada7dfeca0e7eab6f65dc4e97a6312d44cf142207be28d688be92aabfa",
}


@pytest.fixture(scope="module")
def official():
    return lists.official_pairs()


@pytest.fixture(scope="module")
def view2(official):
    return official.resolve()


@pytest.fixture(scope="module")
def flipsum(shared_data, view2):
    """Real embeddings, original and mirrored summed, for the rows of View 2's manifest."""
    keys = (shared_data / "features/lfw_paths.txt").read_text().split()
    row = {k: r for r, k in enumerate(keys)}
    x = np.load(shared_data / "features/lfw_mobilefacenet_flipsum_l2.npy")
    return x[[row[k] for k in view2[0].keys]]


@pytest.fixture(scope="module")
def reference(shared_data):
    path = shared_data / "features/REFERENCE_mobilefacenet_lfw.json"
    return json.loads(path.read_text())["mobilefacenet_foamliu"]


def test_the_shipped_lists_are_the_sites_own_bytes():
    for name, digest in OFFICIAL.items():
        held = (files("evalkit.datasets") / "data" / name).read_bytes()
        assert hashlib.sha256(gzip.decompress(held)).hexdigest() == digest


def test_view2_is_what_the_site_says(official, view2):
    manifest, pairs = view2
    assert len(manifest.keys) == 7701 and len(set(manifest.subject.tolist())) == 4281
    assert np.array_equal(pairs.fold, np.arange(6000) // 600)
    assert np.array_equal(pairs.genuine, np.arange(6000) % 600 < 300)
    assert np.array_equal(
        pairs.genuine, manifest.subject[pairs.left] == manifest.subject[pairs.right]
    )
    assert manifest.keys[pairs.left[0]] == "Abel_Pacheco/Abel_Pacheco_0001.jpg"
    people = [
        {*manifest.subject[pairs.left[pairs.fold == k]]}
        | {*manifest.subject[pairs.right[pairs.fold == k]]}
        for k in range(10)
    ]
    assert all(not people[a] & people[b] for a in range(10) for b in range(a))
    assert np.flatnonzero(lists.errata(official)).tolist() == [
        112, 185, 201, 2498, 2550, 2551, 3651,
    ]  # fmt: skip


def test_the_sites_other_lists(shared_data):
    train = lists.read_pairs(shared_data / "lfw/pairsDevTrain.txt")
    test = lists.read_pairs(shared_data / "lfw/pairsDevTest.txt")
    assert (len(train), train.genuine.sum(), train.fold) == (2200, 1100, None)
    assert (len(test), test.genuine.sum(), test.fold) == (1000, 500, None)


def test_real_embeddings_give_the_measured_numbers(flipsum, view2, official, reference):
    manifest, pairs = view2
    r = lfw.evaluate(flipsum, pairs, manifest.subject, errata=lists.errata(official))
    expected = reference["flipsum"]
    one_pair = 1 / 6000
    accuracy = r.metrics["accuracy"]
    rule = expected["lfw_10fold_exact_threshold"]
    assert abs(accuracy.value - rule["mean"]) < one_pair * 1.01  # theirs breaks ties otherwise
    assert max(abs(np.subtract(accuracy.folds, rule["folds"]))) < 1.01 / 600
    assert abs(accuracy.standard_error - rule["standard_error"]) < 1e-4
    assert r.metrics["auc"].value == pytest.approx(expected["auc"], abs=5e-7)
    assert r.metrics["eer"].value == 22 / 3000
    for far, tpr in expected["tar_at_far_pooled_6000"].items():
        name = {"0.1": "tpr@far=1e-1", "0.01": "tpr@far=1e-2", "0.001": "tpr@far=1e-3"}[far]
        assert r.metrics[name].value == pytest.approx(tpr, abs=5e-7)
        assert r.metrics[name].false_accepts == round(float(far) * 3000)
    without = r.metrics[lfw.WITHOUT_ERRATA]
    assert without.n == 5993 and without.value > accuracy.value
    assert r.failures.images == 0
    assert r.protocol == "lfw"


def synthetic(seed=0, people=60, dim=8):
    """Draw ten folds of 4 + 4 pairs; two views an image."""
    rng = np.random.default_rng(seed)
    subject = np.repeat(np.arange(people), 2)
    centre = rng.normal(size=(people, 1, dim))[subject]
    x = (centre + 0.7 * rng.normal(size=(2 * people, 2, dim))).astype(np.float32)
    left = rng.integers(0, people, 80)
    genuine = np.tile(np.repeat([True, False], 4), 10)
    right = np.where(genuine, left, (left + rng.integers(1, people, 80)) % people)
    fold = np.repeat(np.arange(10), 8).astype(np.int16)
    return x, PairSet(2 * left, 2 * right + 1, genuine, fold), subject.astype(np.int32)


@pytest.mark.parametrize("flip", ["none", "sum", "concat"])
def test_report_follows_from_scores_by_definition(flip):
    x, pairs, subject = synthetic()
    fused = {"none": x[:, 0], "sum": x[:, 0] + x[:, 1], "concat": x.reshape(len(x), -1)}[flip]
    unit = fused / np.linalg.norm(fused.astype(float), axis=1, keepdims=True)
    cosine = (unit[pairs.left] * unit[pairs.right]).sum(axis=1)
    r = lfw.evaluate(x, pairs, subject, flip=flip)
    assert np.allclose(r.outcomes["score"], cosine, atol=1e-6)
    score = r.outcomes["score"]
    expected = kfold_accuracy(score, pairs.genuine, pairs.fold)
    accuracy = r.metrics["accuracy"]
    assert (accuracy.value, accuracy.folds) == (expected.value, expected.folds)
    assert accuracy.low < accuracy.value <= accuracy.high and "subject" in accuracy.interval
    assert np.array_equal(r.outcomes["left_subject"], subject[pairs.left])
    assert r.provenance["flip"] == flip
    histogram = r.curves["histogram"]
    assert sum(histogram["genuine"]) == pytest.approx(1)
    assert len(histogram["low"]) == len(histogram["impostor"]) == 100
    assert r.curves["roc"]["far"][-1] == r.curves["roc"]["tpr"][-1] == 1


def test_a_row_without_template_is_counted_and_rejected():
    x, pairs, _ = synthetic()
    good = lfw.evaluate(x[:, 0], pairs)
    x[pairs.left[0], 0, 3] = np.nan
    r = lfw.evaluate(x[:, 0], pairs)
    touched = (pairs.left == pairs.left[0]) | (pairs.right == pairs.left[0])
    assert (r.failures.images, r.failures.genuine, r.failures.impostor) == (
        1,
        (touched & pairs.genuine).sum(),
        (touched & ~pairs.genuine).sum(),
    )
    assert np.isneginf(r.outcomes["score"][touched]).all()
    assert r.metrics["auc"].value < good.metrics["auc"].value


def test_a_view_that_is_not_fused_may_be_missing():
    x, pairs, _ = synthetic()
    x[pairs.left[0], 1, 3] = np.nan
    whole, fused = (lfw.evaluate(x, pairs, flip=flip).failures for flip in ("none", "sum"))
    assert (whole.images, whole.genuine) == (0, 0)
    assert fused.images == 1 and fused.genuine > 0
    with pytest.raises(ProtocolError, match="120 rows have 2 keys"):
        lfw.evaluate(x, pairs, keys=["a", "b"])


def test_everything_failed_is_still_a_report():
    x, pairs, _ = synthetic()
    r = lfw.evaluate(np.full_like(x, np.nan), pairs)
    assert r.metrics["accuracy"].value == 0.5 and r.metrics["auc"].value == 0
    assert r.metrics["eer"].value is None


def test_a_list_without_folds_says_how_it_was_split():
    x, pairs, _ = synthetic()
    order = np.argsort(~pairs.genuine, kind="stable")  # all genuine first, as CALFW and CPLFW
    bare = PairSet(pairs.left[order], pairs.right[order], pairs.genuine[order])
    r = verification.evaluate(x, bare)
    assert r.provenance["folds"] == verification.FOLDS_BY_POSITION
    assert len(r.metrics["accuracy"].folds) == 10
    assert np.array_equal(r.outcomes["fold"], pairs.fold[order])
    with pytest.raises(ProtocolError, match="no folds"):
        lfw.evaluate(x, bare)
    few = PairSet(bare.left[35:50], bare.right[35:50], bare.genuine[35:50])
    accuracy = verification.evaluate(x, few).metrics["accuracy"]
    assert accuracy.value is None and "5 genuine and 10 impostor" in accuracy.note


def test_arrays_that_do_not_fit_are_refused():
    x, pairs, _ = synthetic()
    with pytest.raises(ProtocolError, match="row 119 of 10 features"):
        lfw.evaluate(
            x[:10], PairSet(pairs.left * 0, pairs.right * 0 + 119, pairs.genuine, pairs.fold)
        )
    with pytest.raises(ProtocolError, match="fold 0 has only"):
        lfw.evaluate(x, PairSet(pairs.left, pairs.right, pairs.fold == 0, pairs.fold))
    with pytest.raises(ProtocolError, match="empty"):
        none = np.empty(0, np.int64)
        lfw.evaluate(x, PairSet(none, none, none.astype(bool), none.astype(np.int16)))
    with pytest.raises(ProtocolError, match="mirrored view"):
        lfw.evaluate(x[:, 0], pairs, flip="sum")
    with pytest.raises(ProtocolError, match="shape"):
        lfw.evaluate(x[0, 0], pairs)
    with pytest.raises(ProtocolError, match="errata"):
        lfw.evaluate(x, pairs, errata=np.zeros(3, bool))


@given(st.integers(0, 9), st.integers(0, 9))
def test_scores_have_no_direction(a, b):
    x, _, _ = synthetic()
    unit = normalise(x[:, 0])
    i, j = np.array([a]), np.array([b])
    assert exact_scores(unit, i, unit, j) == exact_scores(unit, j, unit, i)


SMALL = "2\t1\nA_B\t1\t2\nA_B\t1\tC\t3\nD\t2\t3\nC\t1\tD\t1\n"


def test_views_of_float64_are_summed_as_their_float32():
    views = np.random.default_rng(0).normal(size=(50, 2, 9))
    fused = fuse(views, "sum")
    np.testing.assert_array_equal(fused, fuse(views.astype(np.float32), "sum"))
    np.testing.assert_array_equal(fused, fuse(views[:, ::-1], "sum"))


def test_variants_of_the_native_layout_read_alike(tmp_path):
    expected = lists.parse_pairs(SMALL, "x")
    assert expected.left[1] == "A_B/A_B_0001.jpg" and expected.right[1] == "C/C_0003.jpg"
    assert expected.fold.tolist() == [0, 0, 1, 1]
    for text in (SMALL.rstrip("\n"), SMALL.replace("\t", " "), SMALL.replace("\n", "\r\n"),
                 SMALL.replace("\t", "  \t"), "\ufeff" + SMALL):  # fmt: skip
        (tmp_path / "pairs.txt").write_bytes(text.encode())
        got = lists.read_pairs(tmp_path / "pairs.txt")
        assert (got.left, got.right, got.fold.tolist()) == (
            expected.left, expected.right, [0, 0, 1, 1],
        )  # fmt: skip
    headless = lists.parse_pairs(SMALL.split("\n", 1)[1], "x")  # RFW
    assert headless.left == expected.left and headless.fold is None


def test_the_flat_layout_in_ten_files(tmp_path):
    for k in range(1, 11):
        lines = []
        for n in range(3):
            lines += [f"P{k}/P{k}_0001.jpg", f"P{k}/P{k}_000{n + 2}.jpg"]
            lines += [f"P{k}/P{k}_0001.jpg", f"Q{k}/Q{k}_000{n + 1}.jpg", ""]
        (tmp_path / f"pairs_{k:02d}.txt").write_text("\n".join(lines))
    got = lists.read_pairs(tmp_path)
    assert got.genuine.tolist() == [True, False] * 30
    assert got.fold.tolist() == [k for k in range(10) for _ in range(6)]
    (tmp_path / "pairs_03.txt").write_text("A/A_1.jpg\nB/B_1.jpg\nA/A_1.jpg\nB/B_1.jpg\n")
    with pytest.raises(DataError, match="line 1: expected two images of one person"):
        lists.read_pairs(tmp_path)
    (tmp_path / "pairs_03.txt").write_text("A/A_1.jpg\n")
    with pytest.raises(DataError, match="multiple of four"):
        lists.read_pairs(tmp_path)
    (tmp_path / "pairs_03.txt").unlink()
    with pytest.raises(DataError, match=r"no pairs_03\.txt"):
        lists.read_pairs(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (SMALL[:23], r"cut\.txt line 4: expected 'name n1 n2' or .*, got 'D'"),
        ("A\t1\tA\t2\n", r"line 1: expected two people, or 'name n1 n2' of one, got 'A"),
        (SMALL[: SMALL.index("D")], "holds 2 pairs, its first line announces 4"),
        (SMALL + "E\t1\t2\n", "holds 5 pairs"),
        (SMALL.replace("D\t2\t3", "D\t2\tthree"), "line 4: .*three"),
        (SMALL.replace("D\t2\t3", "D\t2\tE\t3"), "line 4: expected a genuine pair"),
        ("2 1\n", "holds no pairs"),
        ("", "is empty"),
        ("\x7fELF not a list", "line 1: expected"),
        ("99999 1\n" + "A 1 2\nA 1 B 1\n", "announces 199998"),
    ],
)
def test_a_list_that_is_broken_says_where(text, message):
    with pytest.raises(DataError, match=message):
        lists.parse_pairs(text, "cut.txt")


def test_every_cut_of_the_official_list_is_noticed(official):
    text = gzip.decompress(
        (files("evalkit.datasets") / "data" / "lfw_pairs.txt.gz").read_bytes()
    ).decode()
    for end in [10, 5_000, 77_777, len(text) - 5, *range(len(text) - 40, len(text) - 2)]:
        try:
            got = lists.parse_pairs(text[:end], "pairs.txt")
        except DataError:
            continue
        assert not lists.is_official(got)  # cut inside the last number
    assert lists.is_official(official)
    with pytest.raises(DataError, match="not a text file"):
        lists.read_pairs(files("evalkit.datasets") / "data" / "lfw_pairs.txt.gz")


@given(st.text(st.sampled_from("12 09\tAb_\n\r\x00٣")))
def test_any_text_is_a_list_or_a_clear_error(text):
    for parse in (lists.parse_pairs, lists.parse_flat):
        try:
            got = parse(text, "fuzz")
        except DataError as e:
            assert "\n" not in e.message
        else:
            assert len(got.left)
