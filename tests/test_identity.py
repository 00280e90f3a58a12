"""Two reports hold the same comparisons only where list and images say so; missing is not equal."""

import json
import shutil
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from evalkit import report as reports
from evalkit.cli import run
from evalkit.errors import ProtocolError, ReportError
from evalkit.identity import FIELDS, difference, digest, numbered
from evalkit.protocols import (
    all_vs_all,
    blufr,
    geometry,
    ijb,
    lfw,
    megaface,
    score,
    trillion,
    verification,
)
from evalkit.protocols.uncertainty.intervals import with_intervals
from evalkit.types import Manifest, PairSet, Report, SetIdentity
from evalkit.vectors.store import FeatureStore
from evalkit.verdict.compare import compare
from evalkit.verdict.gate import Rule, assert_no_regression, check

pytestmark = pytest.mark.once

PEOPLE, EACH = 12, 4
ROWS = PEOPLE * EACH
WHO = np.repeat(np.arange(PEOPLE), EACH)
KEYS = [f"p{s:02}/{n}.jpg" for n, s in enumerate(WHO)]
NOISE = np.random.default_rng(0).normal(size=(PEOPLE + ROWS, 8)).astype(np.float32)
X = 2 * NOISE[WHO] + NOISE[PEOPLE:]
EVERY = np.stack(np.triu_indices(ROWS, 1))
SHUFFLED = np.random.default_rng(1).permutation(EVERY, axis=1)
LEFT, RIGHT = SHUFFLED[:, np.argsort(WHO[SHUFFLED[0]] != WHO[SHUFFLED[1]], kind="stable")[:200]]
PAIRS = PairSet(LEFT, RIGHT, WHO[LEFT] == WHO[RIGHT])


@pytest.fixture(autouse=True)
def few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """No interval is looked at here."""
    monkeypatch.setitem(with_intervals.__kwdefaults__, "draws", 20)
    monkeypatch.setattr(blufr, "DRAWS", 20)


def images_of(names: list[str], world: str = "") -> NDArray[np.uint8]:
    made = [sha256((world + name).encode()).digest() for name in names]
    return np.frombuffer(bytearray().join(made), np.uint8).reshape(len(names), 32)


def measured(**known: Any) -> Report:
    return verification.evaluate(X, PAIRS, WHO, **known)


SAME = {"keys": KEYS, "images": images_of(KEYS), "set_name": "people"}


def refused(a: Report, b: Report, field: str) -> None:
    assert difference(a.identity, b.identity) == field
    for hold in (compare, check, assert_no_regression):
        with pytest.raises(ReportError, match=f"'{field}'") as e:
            hold(a, b)
        assert e.value.hint.endswith(f"or compare all the same: --ignore {field}")
        assert f'compare all the same: ignore=["{field}"]' in str(e.value)


UNLIKE: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("images", SAME, {**SAME, "images": images_of(KEYS, "other")}),
    ("images", SAME, {**SAME, "images": None}),
    ("images", SAME, {**SAME, "images": np.zeros((ROWS, 32), np.uint8)}),  # none is known
    ("keys", {"set_name": "people"}, {"set_name": "people"}),
    ("keys", {"set_name": "people", "keys": KEYS}, {"set_name": "people"}),
    ("keys", {"set_name": "s", "keys": KEYS}, {"set_name": "s", "keys": KEYS[::-1]}),
    ("set", {"keys": KEYS}, {"keys": KEYS}),
    ("set", {"keys": range(ROWS), "set_name": "a"}, {"keys": range(ROWS), "set_name": "b"}),
]


@pytest.mark.parametrize(("field", "one", "two"), UNLIKE)
def test_what_does_not_agree_is_refused_by_its_name(
    field: str, one: dict[str, Any], two: dict[str, Any]
) -> None:
    a, b = measured(**one), measured(**two)
    refused(a, b, field)
    refused(b, a, field)
    ignored = [field]
    while found := difference(a.identity, b.identity, ignored):
        ignored.append(found)
    assert compare(a, b, ignore=ignored).differences
    assert compare(a, b, ignore=["comparisons"]).differences


@pytest.mark.parametrize(
    "known", [SAME, {"images": SAME["images"]}, {"keys": range(ROWS), "set_name": "people"}]
)
def test_what_is_known_and_equal_is_the_same(known: dict[str, Any]) -> None:
    a, b = measured(**known), measured(**known)
    assert difference(a.identity, b.identity) == ""
    assert compare(a, b).differences
    assert assert_no_regression(b, a).passed


def changed(**column: Any) -> PairSet:
    return replace(PAIRS, **column)


@pytest.mark.parametrize(
    "other",
    [
        changed(left=PAIRS.left[::-1], right=PAIRS.right[::-1], genuine=PAIRS.genuine[::-1]),
        changed(left=PAIRS.left[:-10], right=PAIRS.right[:-10], genuine=PAIRS.genuine[:-10]),
        changed(fold=np.arange(200) % 2),
        changed(genuine=~PAIRS.genuine),
    ],
)
def test_another_list_is_another_list(other: PairSet) -> None:
    a, b = measured(**SAME), verification.evaluate(X, other, WHO, **SAME)
    assert difference(a.identity, b.identity) == "list"
    with pytest.raises(ReportError, match="'list'"):
        compare(a, b)


def test_other_people_are_another_list() -> None:
    who = np.where(WHO == 3, 4, WHO)
    b = verification.evaluate(X, PAIRS, who, **SAME)
    assert difference(measured(**SAME).identity, b.identity) == "list"


def test_folders_orders_of_rows_and_numbers_of_people_change_nothing() -> None:
    base = measured(**SAME)
    order = np.random.default_rng(2).permutation(ROWS)
    at = np.argsort(order)
    moved = changed(left=at[PAIRS.left], right=at[PAIRS.right])
    spelled = [KEYS[r].replace("/", "\\").removesuffix(".jpg") for r in order]
    images = SAME["images"][order]
    other = verification.evaluate(
        X[order], moved, 7 * WHO[order] + 1, keys=spelled, images=images, set_name="people"
    )
    assert other.identity == base.identity
    foldered = measured(**{**SAME, "keys": [f"lfw/{k}" for k in KEYS], "set_name": "copy"})
    assert difference(base.identity, foldered.identity) == ""
    for report, keys in ((other, spelled), (foldered, KEYS)):
        named = replace(report, outcomes={**(report.outcomes or {}), "keys": np.array(keys)})
        found = compare(with_keys(base), named, draws=50)
        assert not found.why_unpaired and not found.flips
        for name, d in found.differences.items():  # the same people were drawn for both
            assert (d.value, d.low, d.high) == (0, 0, 0), name


def with_keys(report: Report) -> Report:
    return replace(report, outcomes={**(report.outcomes or {}), "keys": np.array(KEYS)})


def test_flips_name_the_images_in_whatever_order_the_rows_are() -> None:
    base = with_keys(measured(**SAME))
    noise = np.random.default_rng(3).normal(size=X.shape)
    order = np.random.default_rng(2).permutation(ROWS)
    at = np.argsort(order)
    moved = changed(left=at[PAIRS.left], right=at[PAIRS.right])
    keys = [KEYS[r] for r in order]
    known = {"keys": keys, "images": SAME["images"][order]}
    made = verification.evaluate((X + noise)[order], moved, WHO[order], **known)
    there = replace(made, outcomes={**(made.outcomes or {}), "keys": np.array(keys)})
    here = with_keys(verification.evaluate(X + noise, PAIRS, WHO, **SAME))
    flips = compare(base, here, draws=2).flips
    assert len(flips) > 1
    assert compare(base, there, draws=2).flips == flips


Make = Callable[..., Report]
TRIALS = [
    blufr.Trial(np.arange(ROWS), np.arange(0, 4 * n, 4), np.flatnonzero(np.arange(ROWS) % 4))
    for n in (6, 7, 8)
]
NOBODY = np.where(WHO < 8, WHO, -1)
POOLED = ijb.pool(X, WHO, np.arange(ROWS), None, ijb.Pooling("none", detector_score=False))
GALLERY = [ijb.Enrolled(np.arange(6), np.arange(6))]
PROBE = ijb.Enrolled(np.arange(6, 12), np.arange(6) + 3)


def searched(subject: NDArray[Any] = WHO[:32], **known: Any) -> Report:
    """MegaFace's, of the first 32 rows among the others."""
    parts: dict[str, Any] = {}
    for name in ("keys", "images"):
        if known.get(name) is not None:
            parts[name] = known[name][:32]
            parts[f"distractor_{name}"] = {"distractors=16": known[name][32:]}
    sets = {"distractors=16": X[32:]}
    name = known.get("set_name")
    return megaface.evaluate(X[:32], subject, sets, fars=["0.1"], set_name=name, **parts)


def scored(genuine: NDArray[np.bool_] = PAIRS.genuine, **known: Any) -> Report:
    scores = np.where(genuine, 1.0, 0.0)
    pairs = replace(PAIRS, genuine=genuine)
    return score.evaluate(scores, genuine, pairs=pairs, subject=WHO, **known)


HALVES = changed(fold=np.arange(200) % 2)
PROTOCOLS: dict[str, tuple[Make, Make]] = {
    "verification": (measured, lambda **k: verification.evaluate(X, HALVES, WHO, **k)),
    "lfw": (
        lambda **k: lfw.evaluate(X, HALVES, WHO, **k),
        lambda **k: lfw.evaluate(X, changed(fold=(np.arange(200) + 1) % 2), WHO, **k),
    ),
    "score": (scored, lambda **k: scored(~PAIRS.genuine, **k)),
    "all-vs-all": (
        lambda **k: all_vs_all.evaluate(X, WHO, **k),
        lambda **k: all_vs_all.evaluate(X, WHO[::-1] // 2, **k),
    ),
    "geometry": (
        lambda **k: geometry.evaluate(X, WHO, **k),
        lambda **k: geometry.evaluate(X, WHO // 2, **k),
    ),
    "trillion": (
        lambda **k: trillion.evaluate(X, NOBODY, **k),
        lambda **k: trillion.evaluate(X, np.where(NOBODY == 7, -1, NOBODY), **k),
    ),
    "one set": (
        lambda **k: trillion.evaluate_one_set(X, WHO, **k),
        lambda **k: trillion.evaluate_one_set(X, NOBODY, **k),
    ),
    "blufr": (
        lambda **k: blufr.evaluate(X, WHO, TRIALS[:2], far="0.1", fpir="0.2", **k),
        lambda **k: blufr.evaluate(X, WHO, TRIALS[1:], far="0.1", fpir="0.2", **k),
    ),
    "ijb 1:1": (
        lambda **k: ijb.verify(POOLED, np.arange(11), np.arange(1, 12), [True, *[False] * 10], **k),
        lambda **k: ijb.verify(POOLED, np.arange(11), np.arange(1, 12), [*[False] * 10, True], **k),
    ),
    "ijb 1:N": (
        lambda **k: ijb.identify(POOLED, GALLERY, PROBE, **k),
        lambda **k: ijb.identify(POOLED, GALLERY, replace(PROBE, subject=np.arange(6) + 2), **k),
    ),
    "megaface": (searched, lambda **k: searched(WHO[:32] // 2, **k)),
}


@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_evaluate_keeps_what_its_comparisons_are(name: str) -> None:
    make, other = PROTOCOLS[name]
    base = make(**SAME).identity
    assert None not in (base.list, base.images, base.keys) and base.set == "people"
    assert make(**SAME).identity == base
    assert difference(base, other(**SAME).identity) == "list"
    changes: dict[str, tuple[str, Any]] = {
        "images": ("images", images_of([*KEYS[:-1], "another"])),
        "keys": ("keys", ["another", *KEYS[1:]]),
        "set": ("set_name", "animals"),
    }
    for field, (keyword, value) in changes.items():
        known = {**SAME, keyword: value} if field == "images" else {**SAME, "images": None}
        now = make(**{**known, keyword: value}).identity
        before = base if field == "images" else make(**{**SAME, "images": None}).identity
        assert difference(before, now) == field


def test_a_template_of_other_images_is_another_list() -> None:
    media = np.where(np.arange(ROWS) == 1, 0, np.arange(ROWS))
    pooled = ijb.pool(X, WHO, media, None, ijb.Pooling("none", detector_score=False))
    sides = np.arange(11), np.arange(1, 12), [True, *[False] * 10]
    a, b = (ijb.verify(t, *sides, **SAME).identity for t in (POOLED, pooled))
    assert difference(a, b) == "list"


def test_scores_alone_are_known_by_their_lines_in_a_named_set() -> None:
    def plain(set_name: str | None) -> Report:
        return score.evaluate([0.9, 0.1, 0.8], [1, 0, 1], set_name=set_name)

    assert difference(plain("a").identity, plain("a").identity) == ""
    assert difference(plain("a").identity, plain("b").identity) == "set"
    assert difference(plain(None).identity, plain(None).identity) == "set"


def test_names_and_digests_must_be_as_many_as_the_rows() -> None:
    with pytest.raises(ProtocolError, match="48 rows have 2 keys"):
        measured(keys=["a", "b"])
    for images in (images_of(KEYS[:2]), images_of(KEYS).astype(np.int64), KEYS):
        with pytest.raises(ProtocolError, match="'images' of 48 rows are"):
            measured(images=images)


def test_names_with_line_breaks_are_not_two_names() -> None:
    assert digest(["a\nb", "c"]) != digest(["a", "b\nc"])
    assert digest(["\udcff"]) != digest(["?"])  # a file name that is not UTF-8


def test_of_one_image_unknown_none_is_known() -> None:
    some = images_of(KEYS)
    some[PAIRS.left[0]] = 0
    assert measured(images=some).identity.images is None
    unused = images_of(KEYS)
    unused[sorted({*range(ROWS)} - {*PAIRS.left, *PAIRS.right})] = 0
    assert measured(images=unused).identity.images is not None


def test_an_unknown_field_to_ignore_is_told() -> None:
    with pytest.raises(ReportError, match="no field 'image' to ignore"):
        compare(measured(**SAME), measured(**SAME), ignore=["image"])


def test_what_nobody_knows_is_refused_as_such() -> None:
    old = replace(measured(**SAME), identity=SetIdentity())
    for a, b in ((old, old), (old, measured(**SAME)), (measured(**SAME), old)):
        refused(a, b, "comparisons")
        assert compare(a, b, ignore=["comparisons"]).differences
    assert difference(old.identity, old.identity, ["list", "keys", "set"]) == "comparisons"
    assert FIELDS[0] == "comparisons"


def test_the_page_compares_nothing_that_is_not_the_same() -> None:
    pytest.importorskip("jinja2")
    pytest.importorskip("matplotlib")
    from evalkit.report.page import page
    from evalkit.verdict.differences import differences

    base, other = (
        replace(measured(**{**SAME, "images": images_of(KEYS, world)}), curves={})
        for world in ("", "other")
    )
    said = page([base, other], differences=differences([base, other]))
    assert "Not compared: the reports differ in &#39;images&#39;" in said
    assert "On the same comparisons" not in said
    assert "On the same comparisons" in page([base, base], differences=differences([base, base]))


def test_outcomes_say_of_which_comparisons_they_are(tmp_path: Path) -> None:
    a, b = measured(**SAME), measured(**{**SAME, "images": images_of(KEYS, "other")})
    for name, report in (("a", a), ("b", b)):
        reports.write(report, tmp_path / f"{name}.json")
        assert reports.read(tmp_path / f"{name}.json").identity == report.identity
    shutil.copy(tmp_path / "b.npz", tmp_path / "a.npz")
    document = json.loads((tmp_path / "a.json").read_text())
    document["outcomes_sha256"] = sha256((tmp_path / "a.npz").read_bytes()).hexdigest()
    (tmp_path / "a.json").write_text(json.dumps(document))
    with pytest.raises(ReportError, match="is not the outcomes of the report beside it"):
        reports.read(tmp_path / "a.json")
    del document["outcomes_sha256"]  # as --json prints it: it has no outcomes
    (tmp_path / "a.json").write_text(json.dumps(document))
    assert reports.read(tmp_path / "a.json").outcomes is None


@pytest.mark.parametrize("identity", [None, [], "x", {"list": 3}, {"lists": None}, {"set": ["a"]}])
def test_an_identity_that_is_none_is_a_report_error(identity: object) -> None:
    document = {**reports.to_json(measured(**SAME)), "identity": identity}
    with pytest.raises(ReportError, match="lacks or misspells a field"):
        reports.from_json(document)


def embeddings(folder: Path, keys: list[str]) -> list[str]:
    np.save(folder / "f.npy", X[: len(keys)])
    (folder / "k.txt").write_text("\n".join(keys))
    return ["--features", str(folder / "f.npy"), "--keys", str(folder / "k.txt"), "--quiet"]


def test_two_bin_sets_of_one_size_are_two_sets(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import pickle

    for name in ("lfw", "agedb_30"):
        held = [name.encode() * (n + 1) for n in range(40)], [n % 2 == 0 for n in range(20)]
        (tmp_path / f"{name}.bin").write_bytes(pickle.dumps(held))
    given = embeddings(tmp_path, [f"{n:07d}" for n in range(40)])
    made = [str(tmp_path / f"{name}.json") for name in "abc"]
    one, two = (str(tmp_path / f"{name}.bin") for name in ("lfw", "agedb_30"))
    assert run(["verify", one, *given, "--out", made[0]]) == 0
    assert run(["verify", two, *given, "--out", made[1]]) == 0
    assert run(["verify", two, *given, "--out", made[2], "--set", "lfw"]) == 0
    document = json.loads(Path(made[0]).read_text())["identity"]
    assert (document["set"], document["file"]) == ("lfw", "lfw.bin")
    capsys.readouterr()
    for line in (["compare", *made[:2]], ["gate", made[1], "--baseline", made[0]]):
        assert run(line) == 3
        err = capsys.readouterr().err
        assert "differ in 'set': 'lfw' and 'agedb_30'" in err and "--ignore set" in err
        assert run([*line, "--ignore", "set"]) == 0
    assert run(["gate", made[2], "--baseline", made[0]]) == 0  # the user says that it is one set
    assert run(["verify", two, *given, "--gate", made[0]]) == 3


def test_a_list_in_another_order_is_refused_by_the_gate(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [f"{KEYS[a]} {KEYS[b]} {int(WHO[a] == WHO[b])}" for a, b in EVERY.T]
    lists = {"one": lines[:300], "two": [*lines[100:300], *lines[:100]]}
    given = embeddings(tmp_path, KEYS)
    for name, held in lists.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "pairs.txt").write_text("\n".join(held))
        line = ["verify", str(tmp_path / name / "pairs.txt"), *given]
        assert run([*line, "--out", str(tmp_path / f"{name}.json")]) == 0
    gate = ["gate", str(tmp_path / "two.json"), "--baseline", str(tmp_path / "one.json")]
    assert run(gate) == 3
    assert "differ in 'list'" in capsys.readouterr().err
    again = ["verify", str(tmp_path / "one" / "pairs.txt"), *given]
    assert run([*again, "--gate", str(tmp_path / "one.json")]) == 0


def test_rows_without_names_need_the_name_of_their_set(tmp_path: Path) -> None:
    np.save(tmp_path / "f.npy", X)
    (tmp_path / "who.txt").write_text("\n".join("-" if s < 0 else f"p{s}" for s in NOBODY))
    line = ["trillion", "--features", str(tmp_path / "f.npy"), "--quiet"]
    line += ["--subjects", str(tmp_path / "who.txt"), "--far", "1e-2"]
    for name in ([], ["--set", "mine"]):
        out = str(tmp_path / "base.json")
        assert run([*line, *name, "--out", out]) == 0
        assert run([*line, *name, "--gate", out]) == (0 if name else 3)


def test_a_rule_with_a_floor_alone_holds_the_floor() -> None:
    base = measured(**SAME)
    accuracy = base.metrics["accuracy"]
    better = replace(accuracy, value=1.0, low=None, high=None)
    high = replace(base, metrics={**base.metrics, "accuracy": better}, outcomes=None)
    ruling = check(base, high, [Rule(metric="accuracy", floor=0.5)]).rulings[0]
    assert ruling.passed and ruling.p is None and ruling.drop is not None and ruling.drop > 0
    assert not check(base, high, [Rule(metric="accuracy", floor=0.999)]).passed
    plain = Rule(metric="accuracy", floor=0.5, max_drop=0.0, test="plain")
    assert not check(base, high, [plain]).passed
    assert not check(base, high, [Rule(metric="accuracy", test="plain")]).passed
    assert check(base, base, [Rule(metric="eer", ceiling=1.0)]).passed


def test_what_is_lost_without_a_rule_is_named() -> None:
    base = measured(**SAME)
    more = {**base.metrics, "rank-1": replace(base.metrics["auc"], interval="", low=None)}
    gone = {**base.metrics, "rank-1": replace(base.metrics["auc"], value=None, note="no")}
    before, now = (replace(base, metrics=m) for m in (more, gone))
    assert check(now, before).not_held["rank-1"] == "no value in the report"
    assert check(before, now).not_held["rank-1"] == "no value in the baseline"
    assert check(before, before).not_held == {
        "rank-1": "no outcomes to pair",
        "tpr@far=1e-3": "no value in the baseline",  # too few impostors
    }
    assert check(before, before, [Rule(metric="auc")]).not_held["rank-1"] == "no rule"


def test_a_feature_file_brings_the_digests_of_its_images(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = tuple(KEYS)
    for name in "ab":
        path = tmp_path / f"{name}.h5"
        FeatureStore.create(path, Manifest(keys, WHO), dim=8, key={"model": "m"}).close()
        with FeatureStore.open(path, write=True) as store:
            store.write(np.arange(ROWS), X[:, None], images=images_of(KEYS, name))
        files = [str(path), "--quiet", "--out", str(tmp_path / f"geometry-{name}.json")]
        assert run(["geometry", *files]) == 0
        files = [
            "--features",
            str(path),
            "--quiet",
            "--out",
            str(tmp_path / f"trillion-{name}.json"),
        ]
        assert run(["trillion", "--one-set", "--far", "1e-2", *files]) == 0
    for command in ("geometry", "trillion"):
        a, b = (str(tmp_path / f"{command}-{name}.json") for name in "ab")
        assert run(["compare", a, a]) == 0
        assert run(["compare", a, b]) == 3
        assert "differ in 'images'" in capsys.readouterr().err


def test_a_column_is_digested_without_a_copy_of_it() -> None:
    column = np.arange(1 << 20, dtype=np.int32)
    wide = f"{column.shape}".encode() + column.astype("<i8").tobytes()
    tracemalloc.start()
    try:
        found = digest(column)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found == sha256(wide).hexdigest()
    assert peak < column.nbytes / 2


@pytest.mark.parametrize("lowest", [0, -1, -3])
def test_subjects_are_numbered_as_they_appear(lowest: int) -> None:
    rng = np.random.default_rng(-lowest)
    for rows in range(12):
        who = rng.integers(lowest, 4, rows)
        met = list(dict.fromkeys(who.tolist()))
        expected = [met.index(s) if s >= 0 else -1 for s in who.tolist()]
        assert numbered(who).tolist() == expected
