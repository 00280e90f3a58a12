import io
import json
import pickle
import sys
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pickled_calls import Reduced
from scipy.io import savemat

from evalkit.errors import DataError, EvalkitError, MissingPackageError
from evalkit.vectors import devkit_matrix, embeddings, importing, readers

X = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
KEYS = [f"A/A_{i}.jpg" for i in range(5)]


def _write(folder: Path, kind: str) -> Path:
    path = folder / f"x{kind}"
    if kind == ".npy":
        np.save(path, X)
    elif kind == ".bin":
        path.write_bytes(devkit_matrix.header(5, 4) + X.tobytes())
    elif kind == ".npz":
        np.savez(path, features=X, keys=np.array(KEYS))
    elif kind in (".h5", ".hdf5"):
        with h5py.File(path, "w") as f:
            f["features"], f["keys"] = X, KEYS
    elif kind == ".mat":
        savemat(path, {"features": X, "keys": np.array(KEYS, object), "other": 1})
    elif kind in (".csv", ".tsv", ".txt", ".list"):
        mark = {".csv": ",", ".tsv": "\t"}.get(kind, " ")
        lines = [mark.join([k, *(repr(float(v)) for v in x)]) for k, x in zip(KEYS, X, strict=True)]
        path.write_text("\n".join([mark.join(["key", *"abcd"]), *lines, ""]))
    elif kind == ".json":
        path.write_text(json.dumps(dict(zip(KEYS, X.tolist(), strict=True))))
    elif kind == ".parquet":
        pa = pytest.importorskip("pyarrow")
        parquet = pytest.importorskip("pyarrow.parquet")
        parquet.write_table(pa.table({"key": KEYS, "embedding": X.tolist()}), path)
    elif kind == ".safetensors":
        about = {"dtype": "F32", "shape": X.shape, "data_offsets": [0, X.nbytes]}
        header = json.dumps({"features": about}).encode()
        path.write_bytes(len(header).to_bytes(8, "little") + header + X.tobytes())
    elif kind == ".pt":
        torch = pytest.importorskip("torch")
        torch.save({"features": torch.from_numpy(X), "keys": KEYS}, path)
    return path


@pytest.mark.parametrize(
    "kind", [".npz", ".h5", ".hdf5", ".mat", ".csv", ".tsv", ".json", ".parquet", ".pt"]
)
def test_formats_that_hold_both(tmp_path: Path, kind: str) -> None:
    made = embeddings.read(_write(tmp_path, kind))
    assert list(made.keys) == KEYS
    np.testing.assert_array_equal(made.features, X)


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (("embeddings", "names"), "left out: label"),
        (("arr_0", "arr_1"), "left out: label"),
        (("features", "filenames"), "left out: label"),
    ],
)
@pytest.mark.parametrize("kind", [".npz", ".h5"])
def test_arrays_of_other_names_are_told_by_their_shapes(
    tmp_path: Path, kind: str, names: tuple[str, str], told: str
) -> None:
    arrays = {names[0]: X, names[1]: np.array(KEYS), "label": np.arange(len(X))}
    path = tmp_path / f"x{kind}"

    def write() -> None:
        if kind == ".npz":
            np.savez(path, **arrays)
            return
        with h5py.File(path, "w") as f:
            for name, array in arrays.items():
                f[name] = array.tolist() if array.dtype.kind == "U" else array

    write()
    made = embeddings.read(path)
    assert list(made.keys) == KEYS and made.told == told
    np.testing.assert_array_equal(made.features, X)
    arrays["people"] = arrays["set"] = np.array(KEYS)
    del arrays[names[1]]
    write()
    with pytest.raises(DataError, match="people, set could each name the rows"):
        embeddings.read(path)
    if names[0] == "arr_0":
        arrays["other"] = X
        write()
        with pytest.raises(DataError, match="no array is called 'features'; it holds"):
            embeddings.read(path)


def test_formats_that_need_a_list(tmp_path: Path) -> None:
    list_ = tmp_path / "keys.txt"
    list_.write_text("\n".join(KEYS))
    np.save(tmp_path / "x.npy", X)
    (tmp_path / "x.bin").write_bytes(devkit_matrix.header(5, 4) + X.tobytes())
    for name in ("x.npy", "x.bin"):
        np.testing.assert_array_equal(embeddings.read(tmp_path / name, list_).features, X)
        with pytest.raises(DataError, match="does not say which row"):
            embeddings.read(tmp_path / name)


def test_an_object_of_names_and_vectors_in_json(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    held: dict[str, Any] = {key: row.tolist() for key, row in zip(KEYS, X, strict=True)}
    path.write_text(json.dumps(held))
    made = embeddings.read(path)
    assert list(made.keys) == KEYS
    np.testing.assert_array_equal(np.asarray(made.features, np.float32), X)
    path.write_text(json.dumps({**held, KEYS[1]: None}))
    lost = embeddings.read(path, allow_failures=True).features
    assert np.isnan(lost[1]).all() and np.isfinite(np.delete(lost, 1, axis=0)).all()
    for wrong, told in (
        ({**held, KEYS[1]: [1.0]}, r"holds vectors of \[1, 4\] numbers"),
        ({**held, KEYS[1]: ["a"] * 4}, "lists of other than numbers"),
        ({**held, KEYS[1]: [True] * 4}, "lists of other than numbers"),
        ({**held, KEYS[1]: "a"}, f"holds {KEYS[0]}, "),
        (list(held), "holds list"),
        ({}, "holds nothing"),
    ):
        path.write_text(json.dumps(wrong))
        with pytest.raises(DataError, match=told):
            embeddings.read(path)
    path.write_text('{"a": [1, 2], "a": [3, 4]}')
    with pytest.raises(DataError, match="'a' twice"):
        embeddings.read(path)


def test_a_parquet_table_of_numbers(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    columns = {"path": KEYS, **{f"f{k}": X[:, k] for k in range(4)}}
    parquet.write_table(pa.table(columns), tmp_path / "x.parquet")
    made = embeddings.read(tmp_path / "x.parquet")
    assert list(made.keys) == KEYS
    np.testing.assert_array_equal(made.features, X)


@pytest.mark.parametrize("named_by_index", [False, True])
def test_the_index_that_pandas_writes_is_no_dimension(tmp_path: Path, named_by_index: bool) -> None:
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    columns: dict[str, object] = {f"f{k}": X[:, k] for k in range(4)}
    if not named_by_index:
        columns["path"] = KEYS
    index = KEYS if named_by_index else np.arange(5)
    parquet.write_table(pa.table({**columns, "__index_level_0__": index}), tmp_path / "x.parquet")
    made = embeddings.read(tmp_path / "x.parquet")
    assert list(made.keys) == KEYS
    np.testing.assert_array_equal(made.features, X)


def test_keys_of_bytes_are_read_as_text(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", features=X, keys=np.array([k.encode() for k in KEYS]))
    assert list(embeddings.read(tmp_path / "x.npz").keys) == KEYS


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("A/A_1.jpg_foam.bin", "A/A_1.jpg"),
        ("1/2@N0/3_0.png_r50.v2.bin", "1/2@N0/3_0.png"),
        ("m.0ab1/m.0ab1_0002.JPEG_foam.bin", "m.0ab1/m.0ab1_0002.JPEG"),
        ("J.R/J.R_Tolkien_1.bin", "J.R/J.R_Tolkien_1"),
        ("A/A_1.jpg.feat", "A/A_1.jpg"),
        ("A/A_1.bin", "A/A_1"),
        ("A/A_1.npy", "A/A_1"),
    ],
)
def test_folders_of_one_vector_a_file(tmp_path: Path, name: str, key: str) -> None:
    path = tmp_path / name
    path.parent.mkdir(parents=True)
    np.save(path, X[0]) if name.endswith(".npy") else devkit_matrix.write_feature(path, X[0])
    made = embeddings.read(tmp_path)
    assert made.keys == (key,)
    np.testing.assert_array_equal(made.features, X[:1])
    (tmp_path / "other.npy").write_bytes(b"")
    (tmp_path / "other.bin").write_bytes(b"")
    with pytest.raises(DataError, match=r"it has \.bin and .*\.npy"):
        embeddings.read(tmp_path)


@pytest.mark.parametrize("is_npy", [True, False])
def test_what_a_vector_file_holds_is_told_by_its_bytes(tmp_path: Path, is_npy: bool) -> None:
    for key, row in zip(KEYS, X, strict=True):
        path = tmp_path / f"{key}_r50.feat"
        path.parent.mkdir(exist_ok=True)
        if is_npy:
            with path.open("wb") as f:
                np.save(f, row)
        else:
            devkit_matrix.write_feature(path, row)
    held = importing.open_source(tmp_path, "_r50.feat")
    assert held.keys == KEYS
    np.testing.assert_array_equal(next(held.blocks(5)), X)


def test_a_row_of_zeros_may_stand_for_an_image_without_a_face(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.where(np.arange(5)[:, None] == 3, 0, X))
    (tmp_path / "k.txt").write_text("\n".join(KEYS))
    made = embeddings.read(tmp_path / "x.npy", tmp_path / "k.txt", allow_failures=True)
    assert np.isnan(made.features).all(axis=1).tolist() == [False, False, False, True, False]
    np.testing.assert_array_equal(made.features[:3], X[:3])


_NUMBERS = [",".join(repr(float(v)) for v in x) for x in X]
TEXT_TABLES = {
    "commas": ("", "{key},{x}", ""),
    "Excel": ("sep=,", "{key},{x}", ""),
    "word2vec": ("5,4", "{key},{x}", ""),
    "a label": ("path,label,e0,e1,e2,e3", "{key},{n},{x}", "left out: label"),
    "a label and the key last": ("e1,e2,e3,e4,y,file", "{x},1,{key}", "left out: y"),
    "a score": ("img_path,det_score,0,1,2,3", "{key},0.5,{x}", "left out: det_score"),
    "names of no group": (
        "name,a,b,c,d,det_score,yaw,age",
        "{key},{x},0.5,-3.5,31",
        "left out: det_score, yaw, age",
    ),
    "counted columns": ("0,1,2,3,4", "{key},{x}", ""),
    "pandas": (",path,0,1,2,3", "{n},{key},{x}", "left out: column 1"),
    "lists": ("path,embedding,label", '{key},"[{x}]",{n}', "left out: label"),
    "savetxt's header": ("# path,e0,e1,e2,e3", "{key},{x}", ""),
    "pairs of names": (
        "path,\"('e', 0)\",\"('e', 1)\",\"('e', 2)\",\"('e', 3)\"",
        "{key},{x}",
        "",
    ),
    "quotes": ('"path","0","1","2","3"', '"{key}",{x}', ""),
    "a box and points": (
        "path,bbox_0,bbox_1,lm_0,lm_1,lm_2,lm_3,lm_4,e0,e1,e2,e3",
        "{key},.5,.5,.5,.5,.5,.5,.5,{x}",
        "left out: bbox_0, bbox_1, lm_0, lm_1, lm_2, lm_3, lm_4",
    ),
    "tuples": ("path,embedding", '{key},"({x})"', ""),
    "NumPy's own words": ("path,embedding", '{key},"array([{x}], dtype=float32)"', ""),
    "torch's": ("path,embedding", "{key},\"tensor([{x}], device='cuda:0')\"", ""),
    "two lists": ("path,bbox,emb", '{key},"[.5, .5]","[{x}]"', "left out: bbox"),
    "two names": ("person,path,e0,e1,e2,e3", "Ann,{key},{x}", "left out: person"),
}


@pytest.mark.parametrize("separator", [",", ";", "\t", " "])
@pytest.mark.parametrize("table", TEXT_TABLES)
def test_tables_of_vectors_as_people_have_them(tmp_path: Path, table: str, separator: str) -> None:
    head, line, told = TEXT_TABLES[table]
    if "emb" in head or "('e', 0)" in head or (separator == " " and head.startswith(",")):
        separator = ","
    rows = zip(KEYS, _NUMBERS, strict=True)
    lines = [line.format(key=key, x=x, n=n) for n, (key, x) in enumerate(rows)]
    text = "\n".join([head] * bool(head) + lines)
    (tmp_path / "x.csv").write_text(text.replace(",", separator) if separator != "," else text)
    made = embeddings.read(tmp_path / "x.csv")
    assert list(made.keys) == KEYS and made.told == told
    np.testing.assert_array_equal(made.features, X)


def test_a_table_of_fewer_rows_than_its_first_line_says_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("3 2\na 0.5 1\nb 1 0.5\n")
    with pytest.raises(DataError, match="first line says 3 rows, and it has 2: was it cut"):
        embeddings.read(tmp_path / "x.txt")


@pytest.mark.parametrize(
    ("line", "wrong"),
    [("{key},{n},{x}", "column 2"), ("{key},{x},{n}", "column 6"), ("{x},1", "column 5")],
)
def test_a_label_without_a_name_is_refused(tmp_path: Path, line: str, wrong: str) -> None:
    rows = zip(KEYS, _NUMBERS, strict=True)
    lines = [line.format(key=key, x=x, n=n % 2) for n, (key, x) in enumerate(rows)]
    (tmp_path / "x.csv").write_text("\n".join(lines))
    with pytest.raises(DataError, match=f"{wrong} of whole numbers among columns of fractions"):
        embeddings.read(tmp_path / "x.csv")


@pytest.mark.parametrize(
    ("head", "line", "wrong"),
    [
        ("0,1,2,3,4,5", "{key},{n},{x}", "column 2"),
        ("0,1,2,3,4,5", "{key},{x},{n}", "column 6"),
        (",0,1,2,3,4,5", "{n},{key},{x},{n}", "5"),
        ("0,1,2,3,4", "{n},{x}", ""),  # a number per row is its key
    ],
)
def test_names_that_only_count_the_columns_hide_no_label(
    tmp_path: Path, head: str, line: str, wrong: str
) -> None:
    rows = zip(KEYS, _NUMBERS, strict=True)
    lines = [line.format(key=key, x=x, n=n) for n, (key, x) in enumerate(rows)]
    (tmp_path / "x.csv").write_text("\n".join([head, *lines]))
    if not wrong:
        x, keys, _ = readers.read(tmp_path / "x.csv")
        assert keys == ["0", "1", "2", "3", "4"]
        np.testing.assert_array_equal(x, X)
        return
    with pytest.raises(DataError, match=f"{wrong} of whole numbers among columns of fractions"):
        embeddings.read(tmp_path / "x.csv")


@pytest.mark.parametrize("mark", ["\t", ";", " ", '","'])
def test_decimal_commas_are_read_where_commas_part_nothing(tmp_path: Path, mark: str) -> None:
    rows = [("a.jpg", "0,53", "-0,12", "1"), ("b.jpg", "0,61", "0,07", "-2,5e-1")]
    end = '"' if mark == '","' else ""
    (tmp_path / "v.csv").write_text("\n".join(end + mark.join(row) + end for row in rows))
    x, keys, _ = readers.read(tmp_path / "v.csv")
    assert keys == ["a.jpg", "b.jpg"]
    np.testing.assert_array_equal(x, np.array([[0.53, -0.12, 1], [0.61, 0.07, -0.25]], np.float32))
    (tmp_path / "v.csv").write_text("a.jpg,0,53,-0,12\nb.jpg,0,61,0,07\n")
    with pytest.raises(DataError, match="'-0' is not a whole number: are commas decimal ones"):
        readers.read(tmp_path / "v.csv")


def test_one_number_more_than_vectors_have_is_told(tmp_path: Path) -> None:
    for dim, told in ((64, False), (65, True), (513, True), (100, False)):
        row = ",".join(["a.jpg", *(f"0.{n + 1}" for n in range(dim))])
        (tmp_path / "v.csv").write_text(row + "\n")
        assert bool(readers.read(tmp_path / "v.csv")[2]) == told
    names = ",".join(["key", *(f"e{n}" for n in range(65))])
    (tmp_path / "v.csv").write_text(f"{names}\n{row[: row.index('0.66') - 1]}\n")
    assert readers.read(tmp_path / "v.csv")[2] == ""


@pytest.mark.parametrize("scale", [1e300, 1e-300])
def test_doubles_that_float32_cannot_hold_are_refused(tmp_path: Path, scale: float) -> None:
    np.save(
        tmp_path / "x.npy", X.astype(np.float64) * np.where(np.arange(5) < 3, 1, scale)[:, None]
    )
    (tmp_path / "k.txt").write_text("\n".join(KEYS))
    with pytest.raises(
        DataError, match=f"2 rows hold numbers that float32 cannot.*{KEYS[3]}.*scale"
    ):
        embeddings.read(tmp_path / "x.npy", tmp_path / "k.txt")


def test_vectors_beside_other_arrays_are_told_by_their_name(tmp_path: Path) -> None:
    held = {
        "landmarks": np.ones((5, 10), "f4"),
        "image_embeddings": X,
        "emb_flip": X,
        "paths": KEYS,
    }
    np.savez(tmp_path / "x.npz", **held)
    made = embeddings.read(tmp_path / "x.npz")
    assert list(made.keys) == KEYS and made.told == "left out: landmarks, emb_flip"
    np.testing.assert_array_equal(made.features, X)
    np.savez(tmp_path / "x.npz", a=X, b=X, paths=KEYS)
    with pytest.raises(
        DataError, match=r"^x\.npz: no array is called 'features'.*call the vectors"
    ):
        embeddings.read(tmp_path / "x.npz")


def test_arrays_of_matlab_and_torch_are_told_by_their_shapes(tmp_path: Path) -> None:
    held = {"emb": X, "paths": np.array(KEYS, object), "label": np.arange(5.0)}
    savemat(tmp_path / "x.mat", held)
    made, keys, told = readers.read(tmp_path / "x.mat")
    assert keys == KEYS and told == "left out: label"
    np.testing.assert_array_equal(made, X)
    torch = pytest.importorskip("torch")
    for names in (KEYS, tuple(KEYS)):
        held = {"emb": torch.from_numpy(X), "names": names, "y": torch.arange(5)}
        torch.save(held, tmp_path / "x.pt")
        made, keys, told = readers.read(tmp_path / "x.pt")
        assert keys == KEYS and told == "left out: y"
        np.testing.assert_array_equal(made, X)
    torch.save({"a": torch.zeros(5, 2), "b": torch.zeros(5, 3), "names": KEYS}, tmp_path / "x.pt")
    with pytest.raises(
        DataError, match=r"no array is called 'features'; it holds 'a' \(5, 2\), 'b'"
    ):
        readers.read(tmp_path / "x.pt")


def test_a_table_of_numbers_alone_has_no_key(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("\n".join(_NUMBERS))
    (tmp_path / "k.txt").write_text("\n".join(KEYS))
    with pytest.raises(DataError, match="does not say which row"):
        embeddings.read(tmp_path / "x.csv")
    made = embeddings.read(tmp_path / "x.csv", tmp_path / "k.txt")
    np.testing.assert_array_equal(made.features, X)


@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_vectors_between_blanks_after_another_mark(tmp_path: Path, mark: str) -> None:
    numbers = [" ".join(f"{v:.8f}" for v in x) for x in X]
    rows = [f"{key}{mark}{x}" for key, x in zip(KEYS, numbers, strict=True)]
    (tmp_path / "x.list").write_text("\n".join(rows))
    x, keys, _ = readers.read(tmp_path / "x.list")
    assert keys == KEYS
    np.testing.assert_allclose(x, X, atol=1e-7)


def test_a_list_that_is_empty_is_an_image_without_a_template(tmp_path: Path) -> None:
    lists = [[], *X[1:].tolist()]
    rows = [f'{key},"{x}"' for key, x in zip(KEYS, lists, strict=True)]
    (tmp_path / "x.csv").write_text("\n".join(["path,embedding", *rows]))
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pa.table({"path": KEYS, "embedding": lists}), tmp_path / "x.parquet")
    for name in ("x.csv", "x.parquet"):
        x, keys, _ = readers.read(tmp_path / name)
        assert keys == KEYS and np.isnan(x[0]).all()
        np.testing.assert_array_equal(x[1:], X[1:])


def test_a_word_among_numbers_is_told_with_its_row(tmp_path: Path) -> None:
    rows = [f"{key},{x}" for key, x in zip(KEYS, _NUMBERS, strict=True)]
    rows[3] = f"{KEYS[3]},no face,,,"
    (tmp_path / "x.csv").write_text("\n".join(["path,e0,e1,e2,e3", *rows]))
    with pytest.raises(DataError, match=f"'no face' in the row of '{KEYS[3]}' is not a number"):
        readers.read(tmp_path / "x.csv")


@pytest.mark.parametrize("head", [["path,e0,e1,e2,e3"], []])
@pytest.mark.parametrize("cell", ["", "NaN", "None"])
def test_an_empty_cell_is_an_image_without_a_template(
    tmp_path: Path, cell: str, head: list[str]
) -> None:
    lines = [f"{key},{x}" for key, x in zip(KEYS, _NUMBERS, strict=True)]
    lines[0] = ",".join([KEYS[0], *[cell] * 4])
    (tmp_path / "x.csv").write_text("\n".join([*head, *lines]))
    with pytest.raises(DataError, match=f"the first is '{KEYS[0]}'"):
        embeddings.read(tmp_path / "x.csv")
    made = embeddings.read(tmp_path / "x.csv", allow_failures=True)
    assert np.isnan(made.features[0]).all()
    np.testing.assert_array_equal(made.features[1:], X[1:])


def test_lists_and_other_columns_of_parquet(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = {"path": KEYS, "label": [0, 0, 1, 1, 2], "embedding": [None, *X[1:].tolist()]}
    parquet.write_table(pa.table(table), tmp_path / "x.parquet")
    made = embeddings.read(tmp_path / "x.parquet", allow_failures=True)
    assert list(made.keys) == KEYS and made.told == "left out: label"
    assert np.isnan(made.features[0]).all()
    np.testing.assert_array_equal(made.features[1:], X[1:])


def test_parquet_without_a_column_of_vectors_is_told(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    for held, kind in (
        ([str(x.tolist()) for x in X], "string"),
        ([x.tobytes() for x in X], "binary"),
        ([[x.tolist()] for x in X], "list<"),
        ([{"v": x.tolist()} for x in X], "struct<"),
    ):
        parquet.write_table(pa.table({"path": KEYS, "embedding": held}), tmp_path / "x.parquet")
        with pytest.raises(
            DataError, match=rf"^x\.parquet: no column.*'embedding' of {kind}.*save a"
        ):
            readers.read(tmp_path / "x.parquet")
    named = pa.table({"path": [key.encode() for key in KEYS], "embedding": X.tolist()})
    parquet.write_table(named, tmp_path / "x.parquet")
    assert readers.read(tmp_path / "x.parquet")[1] == KEYS


def test_keys_and_rows_that_do_not_match_are_told_why(tmp_path: Path) -> None:
    names, path = tmp_path / "k.txt", tmp_path / "x.npy"
    names.write_text("\n".join(KEYS))
    for x, told in (
        (X.T, r"4 rows, the list has 5 keys \(its shape is \(4, 5\): transpose it"),
        (X[None], r"1 rows, the list has 5 keys \(its shape is \(1, 5, 4\): transpose it"),
        (X[:, :, None], r"of shape \(5, 4, 1\)"),
    ):
        np.save(path, x)
        with pytest.raises(DataError, match=told):
            embeddings.read(path, names)
    np.save(path, X)
    names.write_text("\n".join(["path", *KEYS]))
    with pytest.raises(DataError, match="is the first line, 'path', a header"):
        embeddings.read(path, names)
    np.savez(tmp_path / "k.npz", keys=np.array(KEYS))
    with pytest.raises(
        DataError, match=r"k\.npz is not a text file.*a key per line, or is an \.npy"
    ):
        embeddings.read(path, tmp_path / "k.npz")
    np.savez(tmp_path / "x.npz", features=X, paths=np.array(KEYS, object))
    with pytest.raises(DataError, match=r"which row is which image \(left out: paths\)"):
        embeddings.read(tmp_path / "x.npz")


def test_a_sparse_tensor_is_told(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    torch.save(torch.from_numpy(X).to_sparse(), tmp_path / "x.pt")
    with pytest.raises(DataError, match=r"x\.pt holds a sparse tensor.*to_dense"):
        readers.read(tmp_path / "x.pt")


def test_a_vector_per_name(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    rows = {key: torch.from_numpy(x)[None] for key, x in zip(KEYS, X, strict=True)}
    torch.save({**rows, "none": None}, tmp_path / "x.pt")
    x, keys, _ = readers.read(tmp_path / "x.pt")
    assert keys == [*KEYS, "none"] and np.isnan(x[5]).all()
    np.testing.assert_array_equal(x[:5], X)
    torch.save({"state": {"a": 1}}, tmp_path / "y.pt")
    with pytest.raises(DataError, match=r"y\.pt: it holds no array but 'state': dict"):
        readers.read(tmp_path / "y.pt")
    for rows in (X, X[:, None]):
        np.savez(tmp_path / "x.npz", **dict(zip(KEYS, rows, strict=True)))
        x, keys, _ = readers.read(tmp_path / "x.npz")
        assert keys == KEYS
        np.testing.assert_array_equal(x, X)
    with h5py.File(tmp_path / "x.h5", "w") as f:
        f.update({key: x for key, x in zip(KEYS[:4], X, strict=False)})
        f["B/array"] = X[3:]
    x, keys, _ = readers.read(tmp_path / "x.h5")
    assert keys == [*KEYS[:4], "B/array/0", "B/array/1"]
    np.testing.assert_array_equal(x, X[[0, 1, 2, 3, 3, 4]])


def test_vectors_in_matlabs_columns(tmp_path: Path) -> None:
    savemat(tmp_path / "x.mat", {"features": X.T, "keys": np.array(KEYS, object)})
    np.testing.assert_array_equal(embeddings.read(tmp_path / "x.mat").features, X)


def test_objects_are_refused_with_what_to_save(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([X[0], None], object), allow_pickle=True)
    with pytest.raises(DataError, match=r"never unpickled.*np\.stack"):
        readers.read(tmp_path / "x.npy")


def test_nothing_is_unpickled(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torch")
    path, runs = tmp_path / "x.pt", Reduced(print, ("code ran",))
    with zipfile.ZipFile(path, "w") as z:
        z.writestr("x/data.pkl", pickle.dumps(runs, protocol=2))
        z.writestr("x/version", "3")
    with pytest.raises(DataError):
        embeddings.read(path)
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.array([runs], object), allow_pickle=True)
    for name in ("x.npy", "x.npz", "x.mat", "x.bin"):
        (tmp_path / name).write_bytes(buffer.getvalue())
        with pytest.raises(DataError):
            embeddings.read(tmp_path / name, tmp_path / "none.txt")
    assert capsys.readouterr().out == ""


def test_a_model_is_no_tensor(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    with zipfile.ZipFile(tmp_path / "m.pt", "w") as z:  # what only a TorchScript archive holds
        z.writestr("m/constants.pkl", b"")
    with pytest.raises(DataError, match=r"m\.pt is a TorchScript model and holds no embeddings"):
        embeddings.read(tmp_path / "m.pt")


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for kind, module in ((".parquet", "pyarrow"), (".pt", "torch")):
        (tmp_path / f"x{kind}").write_bytes(b"")
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(MissingPackageError, match=module):
            embeddings.read(tmp_path / f"x{kind}")


def test_lines_of_other_lengths_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("a,1,2\nb,1\n")
    with pytest.raises(DataError, match="'b' has 1 numbers, the first line 2"):
        embeddings.read(tmp_path / "x.csv")


_KINDS = [k for k in readers.SUFFIXES if k not in (".pt", ".pth", ".parquet")]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.sampled_from(_KINDS), st.binary(max_size=200), st.integers(0, 10_000), st.booleans())
def test_any_bytes_give_an_array_or_one_clear_error(
    tmp_path: Path, kind: str, noise: bytes, at: int, cut: bool
) -> None:
    """Real files with bytes changed somewhere, or cut there."""
    good = tmp_path / f"good{kind}"
    if not good.exists():
        _write(tmp_path, kind).rename(good)
    data = good.read_bytes()
    at %= len(data)
    bad = tmp_path / f"bad{kind}"
    bad.write_bytes(data[:at] + noise + (b"" if cut else data[at + len(noise) :]))
    try:
        x, *_ = readers.read(bad)
        embeddings.check(x, bad)
    except EvalkitError:
        return
    assert x.ndim in (2, 3)


NO_EMBEDDINGS = {
    "a feature map": np.ones((5, 2, 2, 2), np.float32),
    "complex": X + 1j,
    "no columns": X[:, :0],
    "truths": X > 0,
    "text": X.astype(str),
}


@pytest.mark.parametrize("kind", [".npy", ".npz", ".h5", ".mat", ".pt", "tree"])
@pytest.mark.parametrize("what", NO_EMBEDDINGS)
def test_no_file_gives_what_is_no_embedding(tmp_path: Path, what: str, kind: str) -> None:
    held, path = NO_EMBEDDINGS[what], tmp_path / f"x{kind}"
    if kind == ".npy":
        np.save(path, held)
    elif kind == ".npz":
        np.savez(path, features=held, keys=np.array(KEYS))
    elif kind == ".h5":
        with h5py.File(path, "w") as f:
            f["features"], f["keys"] = held.astype("S") if what == "text" else held, KEYS
    elif kind == ".mat":
        savemat(path, {"features": held, "keys": np.array(KEYS, object)})
    elif kind == ".pt":
        torch = pytest.importorskip("torch")
        tensor = held.tolist() if what == "text" else torch.from_numpy(held)
        torch.save({"features": tensor, "keys": KEYS}, path)
    else:
        for key, row in zip(KEYS, held, strict=True):
            (path / key).parent.mkdir(parents=True, exist_ok=True)
            np.save(path / f"{key}.npy", row)
    (tmp_path / "keys.txt").write_text("\n".join(KEYS))
    with pytest.raises(DataError):
        embeddings.read(path, tmp_path / "keys.txt")
    with pytest.raises(DataError):
        importing.open_source(path)
