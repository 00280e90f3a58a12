"""What lies in report.npz: each kind read back as it was written, versions, older files."""

import hashlib
import json
import shutil
import zipfile
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from evalkit import report as reports
from evalkit.errors import ProtocolError, ReportError
from evalkit.protocols import all_vs_all, verification
from evalkit.protocols.uncertainty.outcomes import (
    DrawnOutcomes,
    Outcomes,
    PairOutcomes,
    SearchOutcomes,
    SetOutcomes,
    from_arrays,
    parts_of,
    shared,
    to_arrays,
)
from evalkit.types import Estimate, PairSet, Report

GOLDEN = Path(__file__).parent / "golden"

scores = arrays_of.arrays(np.float64, st.integers(0, 5), elements=st.floats(allow_nan=False))
counts = arrays_of.arrays(
    st.sampled_from([np.int16, np.int32, np.int64]), st.integers(0, 5), elements=st.integers(-1, 99)
)
flags = arrays_of.arrays(np.bool_, st.integers(0, 5))
names = st.lists(st.text("aé/", min_size=1), max_size=3).map(lambda t: np.array(t, "<U9"))
digests = arrays_of.arrays(np.uint8, 32)


def made(kind: type[Outcomes], **held: st.SearchStrategy) -> st.SearchStrategy[Outcomes]:
    """Records of a kind: arrays by the words in their names, each optional one there or not."""
    by_field = {}
    for f in fields(kind):
        of = {"score": scores, "decided": flags, "genuine": flags, "keys": names}
        of |= {"trials": digests, **held}
        known = next((s for word, s in of.items() if f.name == word or word in f.name), counts)
        known = counts if f.name.startswith("genuine_") and "score" not in f.name else known
        by_field[f.name] = known if f.default is not None else st.none() | known
    return st.builds(kind, **by_field)


searches = made(SearchOutcomes)
every_kind = st.one_of(
    made(PairOutcomes),
    searches,
    made(SetOutcomes, impostors=st.integers(0, 2**40), searches=searches),
    made(
        DrawnOutcomes,
        seed=st.integers(0, 2**40),
        drawn=st.dictionaries(
            st.sampled_from(["vr@far=1e-3", "dir@fpir=1e-2"]), scores, min_size=1
        ),
    ),
)


def equal(a: Outcomes, b: Outcomes) -> None:
    assert type(a) is type(b)
    x, y = to_arrays(a), to_arrays(b)
    assert list(x) == list(y)
    for name, array in x.items():
        assert array.dtype == y[name].dtype, name
        np.testing.assert_array_equal(array, y[name], strict=True)


@given(every_kind)
def test_every_kind_is_read_from_its_arrays(outcomes: Outcomes) -> None:
    found = from_arrays(to_arrays(outcomes))
    assert {f.name: getattr(found, f.name) is None for f in fields(found)} == {
        f.name: getattr(outcomes, f.name) is None for f in fields(outcomes)
    }
    equal(found, outcomes)


@given(st.dictionaries(st.sampled_from(["distractors=10", "distractors=10,set=2"]), every_kind))
def test_every_part_is_read_from_a_file(
    tmp_path_factory: pytest.TempPathFactory, parts: dict[str, Outcomes]
) -> None:
    held = {name: array for part, o in parts.items() for name, array in to_arrays(o, part).items()}
    path = tmp_path_factory.mktemp("outcomes") / "r.json"
    metrics = {"tpr@far=1e-3": Estimate(value=0.5)}
    reports.write(Report(protocol="p", protocol_version=1, metrics=metrics, outcomes=held), path)
    back = reports.read(path).outcomes
    assert back is not None and list(back) == list(held)
    found = parts_of(back)
    assert list(found) == list(parts)
    for part, outcomes in parts.items():
        equal(found[part], outcomes)


def test_outcomes_are_packed_quickly_into_few_more_bytes(tmp_path: Path) -> None:
    rng, path = np.random.default_rng(0), tmp_path / "r.json"
    rows = np.stack(np.triu_indices(300, 1), axis=1).astype(np.int32)
    held = {"genuine_score": rng.random(len(rows)), "genuine_rows": rows, "impostors": np.array(1)}
    reports.write(Report(protocol="p", protocol_version=1, metrics={}, outcomes=held), path)
    np.savez_compressed(tmp_path / "slow.npz", **held)
    packed, slow = (f.stat().st_size for f in (path.with_suffix(".npz"), tmp_path / "slow.npz"))
    assert slow < packed < 1.1 * slow  # a quicker level of zlib
    with zipfile.ZipFile(path.with_suffix(".npz")) as pack:
        kinds = {member.filename: member.compress_type for member in pack.infolist()}
    assert kinds["genuine_score.npy"] == zipfile.ZIP_STORED  # random
    assert kinds["genuine_rows.npy"] == zipfile.ZIP_DEFLATED


def test_what_is_shared_does_not_tell_one_model_from_another() -> None:
    rng = np.random.default_rng(0)
    subject = np.repeat(np.arange(30), 3)
    left, right = (side.ravel() for side in np.triu_indices(90, 1))
    pairs = PairSet(left[::7], right[::7], (subject[left] == subject[right])[::7])
    for one, other in (
        [all_vs_all.evaluate(rng.normal(size=(90, 8)), subject, fars=["1e-2"]) for _ in "ab"],
        [verification.evaluate(rng.normal(size=(90, 8)), pairs, subject) for _ in "ab"],
    ):
        a, b = (from_arrays(r.outcomes or {}) for r in (one, other))
        assert shared(a)
        for name, array in shared(a).items():
            np.testing.assert_array_equal(array, shared(b)[name])


def test_arrays_of_no_kind_are_refused_and_a_missing_one_is_named() -> None:
    with pytest.raises(ProtocolError, match="outcomes hold keys: nothing to resample"):
        from_arrays({"keys": np.array(["a"])})
    with pytest.raises(ProtocolError, match="outcomes hold score: without genuine"):
        from_arrays({"score": np.ones(2)})
    assert parts_of({"keys": np.array(["a"])}) == {}


def kept(folder: Path, **stamps: object) -> Path:
    """A report of which the outcomes say another format or version."""
    path = folder / "r.json"
    arrays = to_arrays(PairOutcomes(score=np.arange(3.0), genuine=np.array([True, False, True])))
    reports.write(Report(protocol="p", protocol_version=1, metrics={}, outcomes=arrays), path)
    with np.load(path.with_suffix(".npz")) as held:
        named = {name: held[name] for name in held.files}
    for name, value in stamps.items():
        named[name] = np.array(value)
        if value is None:
            del named[name]
    np.savez(path.with_suffix(".npz"), **named)
    document = json.loads(path.read_text())
    digest = hashlib.sha256(path.with_suffix(".npz").read_bytes()).hexdigest()
    path.write_text(json.dumps({**document, "outcomes_sha256": digest}))
    return path


def test_a_version_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match=r"r\.npz is evalkit-outcomes version 3.* reads 1 and 2"):
        reports.read(kept(tmp_path, version=3))
    with pytest.raises(ReportError, match=r"r\.npz is other-outcomes version 2"):
        reports.read(kept(tmp_path, format="other-outcomes"))
    assert list(reports.read(kept(tmp_path)).outcomes or {}) == ["score", "genuine"]


def test_outcomes_that_say_no_version_are_of_the_first(tmp_path: Path) -> None:
    found = reports.read(kept(tmp_path, version=None, format=None))
    assert list(found.outcomes or {}) == ["score", "genuine"]


def measured(path: Path) -> dict[str, Any]:
    """A report of two pairs and its outcomes, written to a path: its document."""
    arrays = to_arrays(PairOutcomes(score=np.arange(2.0), genuine=np.array([True, False])))
    metrics = {
        "accuracy,rule=youden": Estimate(value=1.0, low=-0.0, high=1.0, n=2, threshold=1e-7),
        "fmr-ratio@group=geschätzt": Estimate(value=0.1 + 0.2, folds=(0.0, 1.0)),
    }
    report = Report(protocol="p", protocol_version=1, metrics=metrics, outcomes=arrays)
    reports.write(report, path)
    document: dict[str, Any] = json.loads(path.read_text())
    return document


def test_edited_metrics_are_refused_beside_their_outcomes(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    document = measured(path)
    for name, field in (("accuracy,rule=youden", "low"), ("fmr-ratio@group=geschätzt", "value")):
        edited = json.loads(json.dumps(document))
        edited["metrics"][name][field] = 0.5
        path.write_text(json.dumps(edited))
        with pytest.raises(ReportError, match="are not those that were measured with its outcomes"):
            reports.read(path)
    path.with_suffix(".npz").unlink()
    assert reports.read(path).outcomes is None


def test_a_report_that_another_tool_saved_anew_is_the_same(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    text = json.dumps(measured(path), sort_keys=True, separators=(",", ":"))
    for spelled in (text, text.replace("1.0", "1").replace("-0.0", "0").replace("1e-07", "1E-7")):
        path.write_text(spelled)
        assert reports.read(path).outcomes is not None


@pytest.mark.parametrize("name", ["version-1/report", "version-1/early", "demo/lfw"])
def test_the_outcomes_of_older_releases_are_read(tmp_path: Path, name: str) -> None:
    for ending in (".json", ".npz"):
        shutil.copy(GOLDEN / f"{name}{ending}", tmp_path / f"r{ending}")
    found = reports.read(tmp_path / "r.json").outcomes
    assert found is not None
    with np.load(GOLDEN / f"{name}.npz") as held:
        assert {*found} == {*held.files} - {"identity"}
        again = {n: a for o in parts_of(found).values() for n, a in to_arrays(o).items()}
        assert {*again} == {*found}
        for array in found:
            np.testing.assert_array_equal(again[array], held[array], strict=True)
