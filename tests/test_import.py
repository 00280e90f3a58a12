"""`evalkit import`: embeddings from anywhere, in one feature file."""

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from evalkit import cli, importing
from evalkit.datasets import matio
from evalkit.errors import DataError
from evalkit.features import FeatureStore

X = np.random.default_rng(0).normal(size=(7, 4)).astype(np.float32)
KEYS = [f"P_{i // 2}/P_{i // 2}_{i}.jpg" for i in range(7)]


def imported(*words: object) -> Result:
    return CliRunner().invoke(cli.cli, ["import", *map(str, words)])


def refused(told: str, *words: object) -> None:
    done = imported(*words)
    assert isinstance(done.exception, DataError), done.output
    with pytest.raises(DataError, match=told):
        raise done.exception


def folder(root: Path, kind: str = "_foam.bin") -> Path:
    for key, row in zip(KEYS, X, strict=True):
        path = root / (key + kind)
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, row) if kind == ".npy" else matio.write_feature(path, row)
    return root


@pytest.mark.parametrize("block", [2, 100])
@pytest.mark.parametrize("kind", ["_foam.bin", ".npy"])
def test_a_folder_of_one_vector_a_file(
    tmp_path: Path, kind: str, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "BLOCK", block)
    done = imported(folder(tmp_path / "in", kind), tmp_path / "x.h5")
    assert done.exit_code == 0, (done.output, done.exception)
    with FeatureStore.open(tmp_path / "x.h5") as store:
        assert store.manifest.keys == tuple(KEYS)
        assert store.manifest.subject.tolist() == [0, 0, 1, 1, 2, 2, 3]
        np.testing.assert_array_equal(store.features[:, 0], X)


@pytest.mark.parametrize("block", [3, 100])
def test_rows_in_another_order_than_the_list(
    tmp_path: Path, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "BLOCK", block)
    order = np.random.default_rng(1).permutation(7)[:5]
    np.save(tmp_path / "x.npy", X.astype(np.float64))
    (tmp_path / "keys.txt").write_text("\n".join(KEYS))
    (tmp_path / "list.txt").write_text("\n".join(KEYS[i] for i in order))
    words = [tmp_path / "x.npy", tmp_path / "x.h5", "--keys", tmp_path / "keys.txt"]
    words += ["--list", tmp_path / "list.txt"]
    refused("2 of 7 embeddings are not on the list: P_", *words)
    assert imported(*words, "--subset").exit_code == 0
    with FeatureStore.open(tmp_path / "x.h5") as store:
        np.testing.assert_array_equal(store.features[:, 0], X[order])
    refused("exists already", *words, "--subset")


def test_a_missing_or_double_key_is_named_and_nothing_is_left(tmp_path: Path) -> None:
    source = folder(tmp_path / "in")
    (tmp_path / "list.txt").write_text("\n".join([*KEYS, "Q/Q_1.jpg"]))
    refused(
        "missing for 1 of 8 images: Q/Q_1",
        source,
        tmp_path / "x.h5",
        "--list",
        tmp_path / "list.txt",
    )
    (tmp_path / "twice.txt").write_text("\n".join([*KEYS[:6], KEYS[0]]))
    np.save(tmp_path / "x.npy", X)
    keys = ("--keys", tmp_path / "twice.txt")
    done = imported(tmp_path / "x.npy", tmp_path / "x.h5", *keys)
    assert "two rows for one key: 'P_0/P_0_0.jpg'" in str(done.exception)
    (tmp_path / "twice.txt").write_text("\n".join(KEYS[:6]))
    refused("7 rows, the list 6 keys", tmp_path / "x.npy", tmp_path / "x.h5", *keys)
    refused("does not say which row", tmp_path / "x.npy", tmp_path / "x.h5")
    assert not list(tmp_path.glob(".*")) and not (tmp_path / "x.h5").exists()


@pytest.mark.parametrize(
    ("value", "told"), [(np.nan, "'P_1/P_1_3.jpg' holds NaN"), (0, "'P_1/P_1_3.jpg' is all zero")]
)
def test_a_row_that_is_no_embedding_is_named(tmp_path: Path, value: float, told: str) -> None:
    bad = X.copy()
    bad[3] = value
    np.savez(tmp_path / "x.npz", features=bad, keys=np.array(KEYS))
    refused(told, tmp_path / "x.npz", tmp_path / "x.h5")
    assert [p.name for p in tmp_path.iterdir()] == ["x.npz"]
    done = imported(tmp_path / "x.npz", tmp_path / "x.h5", "--allow-failures")
    assert (done.exit_code == 0) == np.isnan(value)


def test_files_of_another_size_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = folder(tmp_path / "in")
    for block in (1, 100):
        monkeypatch.setattr(importing, "BLOCK", block)
        matio.write_feature(source / (KEYS[4] + "_foam.bin"), X[4, :3])
        refused(r"P_2_4\.jpg_foam\.bin", source, tmp_path / "x.h5")
    matio.write_feature(source / (KEYS[4] + "_other.bin"), X[4, :3])
    matio.write_feature(source / (KEYS[4] + "_foam.bin"), X[4])
    ending = ("--file-ending", "_foam.bin")
    assert imported(source, tmp_path / "x.h5", *ending).exit_code == 0
    refused("it has neither", source, tmp_path / "y.h5", "--file-ending", "_none.bin")


def test_megafaces_list_and_subjects(tmp_path: Path) -> None:
    (tmp_path / "l.json_7_1").write_text('{"path": ["' + '", "'.join(KEYS[::-1]) + '"]}')
    (tmp_path / "who.txt").write_text("\n".join("-" * 7))
    words = ("--list", tmp_path / "l.json_7_1", "--subjects", tmp_path / "who.txt")
    done = imported(folder(tmp_path / "in"), tmp_path / "x.h5", *words, "--dtype", "float16")
    assert done.exit_code == 0, (done.output, done.exception)
    with FeatureStore.open(tmp_path / "x.h5") as store:
        assert store.manifest.subject.tolist() == [-1] * 7
        np.testing.assert_array_equal(store.features[:, 0], X[::-1].astype(np.float16))
