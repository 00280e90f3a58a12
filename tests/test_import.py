"""`evalkit import`: embeddings from anywhere, in one feature file."""

import csv
import gc
import io
import tracemalloc
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from click.testing import CliRunner, Result
from scipy.io import savemat

from evalkit import cli
from evalkit.errors import DataError
from evalkit.types import Manifest
from evalkit.vectors import devkit_matrix, embeddings, importing, readers, text_tables
from evalkit.vectors.store import FeatureStore

pytestmark = pytest.mark.once

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
        np.save(path, row) if kind == ".npy" else devkit_matrix.write_feature(path, row)
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
    ("value", "told"),
    [
        (np.nan, "NaN or infinity, the first is 'P_1/P_1_3.jpg'"),
        (0, "are all zero, the first is 'P_1/P_1_3.jpg'"),
    ],
)
def test_a_row_that_is_no_embedding_is_named(tmp_path: Path, value: float, told: str) -> None:
    bad = X.copy()
    bad[3] = value
    np.savez(tmp_path / "x.npz", features=bad, keys=np.array(KEYS))
    refused(told, tmp_path / "x.npz", tmp_path / "x.h5")
    assert [p.name for p in tmp_path.iterdir()] == ["x.npz"]
    done = imported(tmp_path / "x.npz", tmp_path / "x.h5", "--allow-failures")
    assert done.exit_code == 0
    with FeatureStore.open(tmp_path / "x.h5") as store:
        assert np.isnan(store.features[:, 0]).all(axis=1).tolist() == [n == 3 for n in range(7)]


@pytest.mark.parametrize("view", [0, 1])
def test_a_view_of_zeros_is_no_embedding(tmp_path: Path, view: int) -> None:
    views = np.stack([X, X[:, ::-1]], axis=1)
    views[3, view] = 0
    np.savez(tmp_path / "x.npz", features=views, keys=np.array(KEYS))
    refused(
        "1 rows have a view of zeros, the first is 'P_1/P_1_3.jpg'",
        tmp_path / "x.npz",
        tmp_path / "x.h5",
    )
    assert imported(tmp_path / "x.npz", tmp_path / "x.h5", "--allow-failures").exit_code == 0
    with FeatureStore.open(tmp_path / "x.h5") as store:
        assert np.flatnonzero(store.failed).tolist() == [3]


def test_files_of_another_size_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = folder(tmp_path / "in")
    for block in (1, 100):
        monkeypatch.setattr(importing, "BLOCK", block)
        devkit_matrix.write_feature(source / (KEYS[4] + "_foam.bin"), X[4, :3])
        refused(r"P_2_4\.jpg_foam\.bin", source, tmp_path / "x.h5")
    devkit_matrix.write_feature(source / (KEYS[4] + "_other.bin"), X[4, :3])
    devkit_matrix.write_feature(source / (KEYS[4] + "_foam.bin"), X[4])
    ending = ("--file-ending", "_foam.bin")
    assert imported(source, tmp_path / "x.h5", *ending).exit_code == 0
    refused(r"it has no file _none\.bin", source, tmp_path / "y.h5", "--file-ending", "_none.bin")


def test_megafaces_list_and_subjects(tmp_path: Path) -> None:
    (tmp_path / "l.json_7_1").write_text('{"path": ["' + '", "'.join(KEYS[::-1]) + '"]}')
    (tmp_path / "who.txt").write_text("\n".join("-" * 7))
    words = ("--list", tmp_path / "l.json_7_1", "--subjects", tmp_path / "who.txt")
    done = imported(folder(tmp_path / "in"), tmp_path / "x.h5", *words, "--dtype", "float16")
    assert done.exit_code == 0, (done.output, done.exception)
    with FeatureStore.open(tmp_path / "x.h5") as store:
        assert store.manifest.subject.tolist() == [-1] * 7
        np.testing.assert_array_equal(store.features[:, 0], X[::-1].astype(np.float16))


def write(path: Path, kind: str, x: np.ndarray, keys: list[str]) -> Path:
    """Write a set as other programs do."""
    path = path.with_suffix("." + kind.split(" ")[0])
    if kind in ("csv", "tsv"):
        with path.open("w", newline="") as f:
            lines = csv.writer(f, delimiter="," if kind == "csv" else "\t")
            lines.writerow(["key", *range(x.shape[1])])
            lines.writerows([k, *map(repr, row.tolist())] for k, row in zip(keys, x, strict=True))
    elif kind.startswith("parquet"):
        pa = pytest.importorskip("pyarrow")
        parquet = pytest.importorskip("pyarrow.parquet")
        columns = {f"f{k}": x[:, k] for k in range(x.shape[1])}
        held = columns if kind.endswith("columns") else {"embedding": list(x)}
        parquet.write_table(pa.table({"key": keys, **held}), path)
    elif kind.startswith("npz"):
        save = np.savez_compressed if kind.endswith("packed") else np.savez
        save(path, features=np.asfortranarray(x) if kind.endswith("columns") else x, keys=keys)
    elif kind.startswith("h5"):
        with h5py.File(path, "w") as f:
            chunks = {"chunks": (5, x.shape[1]), "compression": "gzip"}
            f.create_dataset("features", data=x, **(chunks if kind.endswith("packed") else {}))
            f["keys"] = keys
    elif kind == "pt":
        torch = pytest.importorskip("torch")
        torch.save({"features": torch.from_numpy(x), "keys": keys}, path)
    else:
        savemat(path, {"features": x, "keys": np.array(keys, object)})
    return path


KINDS = ["csv", "tsv", "parquet lists", "parquet columns", "npz", "npz packed", "npz columns"]
KINDS += ["h5", "h5 packed", "pt", "mat"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_format_in_blocks_gives_the_same_rows(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blocks of two rows, of which some nobody asked for."""
    monkeypatch.setattr(importing, "BLOCK", 2)
    source = write(tmp_path / "in", kind, X, KEYS)
    assert imported(source, tmp_path / "x.h5").exit_code == 0
    order = [5, 1, 0]
    (tmp_path / "list.txt").write_text("\n".join(KEYS[i] for i in order))
    words = ["--list", tmp_path / "list.txt", "--subset"]
    assert imported(source, tmp_path / "y.h5", *words).exit_code == 0
    for name, rows in (("x.h5", X), ("y.h5", X[order])):
        with FeatureStore.open(tmp_path / name) as store:
            np.testing.assert_array_equal(store.features[:, 0], rows)
    with np.errstate(all="ignore"):
        made = embeddings.read(source)
    assert list(made.keys) == KEYS
    np.testing.assert_array_equal(made.features, X)


@pytest.mark.parametrize("kind", ["npz", "npz packed", "h5"])
def test_views_of_an_image_stay_apart(tmp_path: Path, kind: str) -> None:
    x = np.stack([X, -X], axis=1)
    assert imported(write(tmp_path / "in", kind, x, KEYS), tmp_path / "x.h5").exit_code == 0
    with FeatureStore.open(tmp_path / "x.h5") as store:
        np.testing.assert_array_equal(store.features, x)


@pytest.mark.parametrize("kind", ["csv", "npz", "npz packed", "h5", "pt"])
def test_a_block_is_in_memory_at_a_time(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The allocations of a set of 2 MB, of which a block is 0.05 MB; the whole is the control."""
    x = np.random.default_rng(0).normal(size=(4000, 128)).astype(np.float32)
    source = write(tmp_path / "in", kind, x, [f"P/{i}" for i in range(len(x))])
    peaks = []
    for block in (100, 100_000):
        monkeypatch.setattr(importing, "BLOCK", block)
        done = importing.open_source(source)
        gc.collect()
        tracemalloc.start()
        at = np.arange(done.rows)
        manifest = Manifest(tuple(done.keys or ()), np.zeros(done.rows, np.int32))
        importing.write(done, tmp_path / f"{block}.h5", manifest, at, name="x")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[0] < x.nbytes < peaks[1]


def test_what_cannot_be_read_in_pieces_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readers, "_WHOLE", 100)
    source = write(tmp_path / "in", "mat", X, KEYS)
    refused(r"in\.mat has 0\.0 GiB and would be read whole", source, tmp_path / "x.h5")
    torch = pytest.importorskip("torch")
    torch.save({"features": X[:0]}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    refused(r"old\.pt has 0\.0 GiB and would be read whole", tmp_path / "old.pt", tmp_path / "x.h5")
    assert imported(write(tmp_path / "in", "pt", X, KEYS), tmp_path / "x.h5").exit_code == 0


@pytest.mark.parametrize("kind", ["<f4", "<f8", "<f2"])
def test_bare_numbers_have_the_shape_that_is_said(tmp_path: Path, kind: str) -> None:
    X.astype(kind).tofile(tmp_path / "x.bytes")
    (tmp_path / "keys.txt").write_text("\n".join(KEYS))
    shape = [str(n) for n in X.shape]
    more = ["--keys", str(tmp_path / "keys.txt"), "--shape", *shape]
    assert imported(tmp_path / "x.bytes", tmp_path / "x.h5", *more).exit_code == 0
    made = embeddings.read(tmp_path / "x.h5").features
    np.testing.assert_array_equal(made[:, 0], X.astype(kind).astype(np.float32))
    with pytest.raises(DataError, match="numbers of float32"):
        importing.open_source(tmp_path / "x.bytes", shape=(len(X), X.shape[1] + 1))


@pytest.mark.parametrize("kind", ["csv", "parquet lists", "parquet columns", "npz packed", "h5"])
def test_damage_after_the_first_block_leaves_nothing(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "BLOCK", 2)
    source = write(tmp_path / "in", kind, X, KEYS)
    if kind == "csv":
        source.write_text(source.read_text().replace(repr(float(X[5, 1])), "five"))
    elif kind.startswith("parquet"):
        pa, parquet = (pytest.importorskip(f"pyarrow{n}") for n in ("", ".parquet"))
        rows = X.tolist()
        rows[5] = None if kind.endswith("lists") else ["a"] * 4
        if kind.endswith("lists"):
            table = pa.table({"key": KEYS, "embedding": rows})
        else:
            table = pa.table({"key": KEYS, "a": [str(r[0]) for r in rows]})
        parquet.write_table(table, source)
    elif kind.startswith("npz"):
        with zipfile.ZipFile(source, "w", zipfile.ZIP_DEFLATED) as z:
            for name, x in (("features", X[:5]), ("keys", np.array(KEYS))):
                out = io.BytesIO()
                np.save(out, x)
                said = out.getvalue().replace(b"(5, 4)", b"(7, 4)")
                z.writestr(f"{name}.npy", said)
    else:
        with h5py.File(source, "r+") as f:
            f["features"][5, 1] = np.nan
    refused("in.|P_2/P_2_5", source, tmp_path / "x.h5")
    assert sorted(p.name for p in tmp_path.iterdir()) == [source.name]


def test_a_line_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_tables, "_LINE", 64)
    (tmp_path / "x.csv").write_text("a,1,2\nb," + "1" * 100 + ",2\n")
    refused("a line is longer than 64 characters", tmp_path / "x.csv", tmp_path / "x.h5")
