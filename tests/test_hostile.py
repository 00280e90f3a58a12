"""What a stranger's file can do: one clear line, exit 3, in bounded time and memory."""

import io
import json
import os
import pickle
import resource
import struct
import subprocess
import sys
import warnings
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from evalkit import images
from evalkit import report as reports
from evalkit.cli import run
from evalkit.datasets import bin as bin_sets
from evalkit.errors import DataError, EvalkitError, FeatureStoreError, ReportError
from evalkit.types import Estimate, Manifest, Report
from evalkit.vectors import embeddings, hdf5, matlab, readers
from evalkit.vectors.store import FeatureStore
from evalkit.verdict.gate import read_rules

pytestmark = pytest.mark.once

GIB = 1 << 30


def bounded(code: str, *arguments: object, gib: float = 2) -> subprocess.CompletedProcess[str]:
    """Run code in a process of its own that may not have more memory, nor a minute."""
    import evalkit

    root = str(Path(evalkit.__file__).parents[1])
    limit = f"import resource; resource.setrlimit(resource.RLIMIT_AS, ({int(gib * GIB)},) * 2)\n"
    return subprocess.run(
        [sys.executable, "-P", "-c", limit + code, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    )


READ = """
import sys
from pathlib import Path
from evalkit.adapters import embeddings
from evalkit.errors import EvalkitError
try:
    embeddings.read(Path(sys.argv[1]))
except EvalkitError as e:
    print(e.message)
"""


# HDF5


def feature_file(path: Path) -> Path:
    manifest = Manifest(("a/1.jpg", "b/2.jpg"), np.array([0, 1], np.int32))
    with FeatureStore.create(path, manifest, dim=4, key={}) as store:
        store.write(np.arange(2), np.ones((2, 1, 4), np.float32))
    return path


def external_link(f: h5py.File, name: str, held: Any, folder: Path) -> None:
    with h5py.File(folder / "secret.h5", "w") as other:
        other["x"] = held
    f[name] = h5py.ExternalLink("secret.h5", "/x")


def virtual(f: h5py.File, name: str, held: Any, folder: Path) -> None:
    with h5py.File(folder / "secret.h5", "w") as other:
        other["x"] = held
    layout = h5py.VirtualLayout(held.shape, held.dtype)
    layout[...] = h5py.VirtualSource(folder / "secret.h5", "x", held.shape)
    f.create_virtual_dataset(name, layout)


def outside(f: h5py.File, name: str, held: Any, folder: Path) -> None:
    held.tofile(folder / "secret.bin")
    where = [(str(folder / "secret.bin"), 0, held.nbytes)]
    f.create_dataset(name, held.shape, held.dtype, external=where)


def soft_link(f: h5py.File, name: str, held: Any, folder: Path) -> None:
    f["elsewhere"] = held
    f[name] = h5py.SoftLink("/elsewhere")


def absurd_shape(f: h5py.File, name: str, held: Any, folder: Path) -> None:
    f.create_dataset(name, (1 << 40, *held.shape[1:]), held.dtype)


def packed_zeros(f: h5py.File, name: str, held: Any, folder: Path) -> None:
    shape = (1 << 32, *held.shape[1:])
    f.create_dataset(name, shape, held.dtype, chunks=True, compression="gzip")


def group(f: h5py.File, name: str, held: Any, folder: Path) -> None:
    f.create_group(name)


TRICKS = [external_link, virtual, outside, soft_link, absurd_shape, packed_zeros, group]


@pytest.mark.parametrize("name", ["features", "done", "crc", "keys", "subject"])
@pytest.mark.parametrize("trick", TRICKS)
def test_a_feature_file_shows_nothing_but_itself(
    tmp_path: Path, trick: Callable[..., None], name: str
) -> None:
    path = feature_file(tmp_path / "x.h5")
    with h5py.File(path, "r+") as f:
        held = f[name][()]
        del f[name]
        trick(f, name, held, tmp_path)
    with pytest.raises(FeatureStoreError) as e:
        FeatureStore.open(path)
    assert name in e.value.message or "piece" in e.value.message


@pytest.mark.parametrize("trick", TRICKS)
def test_embeddings_in_hdf5_show_nothing_but_themselves(
    tmp_path: Path, trick: Callable[..., None]
) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as f:
        f["keys"] = ["a", "b"]
        trick(f, "features", np.ones((2, 4), np.float32), tmp_path)
    with pytest.raises(DataError, match="'features'"):
        embeddings.read(tmp_path / "x.h5")


def test_a_huge_attribute_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    with h5py.File(path, "w", libver="latest") as f:
        f.attrs.create("format", np.zeros(1 << 22, "S16"))
        f["features"], f["keys"] = np.ones((1, 2), np.float32), ["a"]
        f["done"] = [1]
    with pytest.raises(DataError, match="the attribute 'format' is not a single value"):
        embeddings.read(path)


@pytest.mark.parametrize("said", [1 << 20, (1 << 32) - 1])
def test_a_text_attribute_that_lies_about_its_length(tmp_path: Path, said: int) -> None:
    """libhdf5 would make room for 4 GiB before it looks for the text."""
    path = tmp_path / "x.h5"
    with h5py.File(path, "w", libver="earliest") as f:
        f.attrs["format"] = "evalkit-features"
        f["features"], f["keys"], f["done"] = np.ones((1, 2), np.float32), ["a"], [1]
    raw = bytearray(path.read_bytes())
    table, at = raw.index(b"GCOL"), -1
    while (at := raw.find(struct.pack("<IQ", 16, table), at + 1)) >= 0:
        raw[at : at + 4] = struct.pack("<I", said)
    path.write_bytes(raw)
    done = bounded(READ, path, gib=1)
    size = path.stat().st_size
    assert f"'format' is a text of {said} bytes in a file of {size}" in done.stdout, done.stderr


@pytest.mark.parametrize("many", [1, 20])
@pytest.mark.parametrize("userblock", [0, 512])
@pytest.mark.parametrize("libver", ["earliest", "v108", "latest"])
def test_text_attributes_are_read_whatever_libhdf5_wrote_them(
    tmp_path: Path, libver: str, userblock: int, many: int
) -> None:
    path = tmp_path / "x.h5"
    with h5py.File(path, "w", libver=libver, userblock_size=userblock) as f:
        for k in range(many):
            f.attrs[f"k{k}"] = "é" * 100 * k
        f.attrs["n"], f.attrs["fixed"] = 3, np.bytes_(b"abc")
    with h5py.File(path) as f:
        assert hdf5.attribute(f, "n") == 3 and hdf5.attribute(f, "fixed") == b"abc"
        assert hdf5.attribute(f, "nothing") is None
        for k in range(many):
            if many > 8 and libver != "earliest":  # HDF5 keeps them in a heap
                with pytest.raises(DataError, match="a text in a rare way"):
                    hdf5.attribute(f, f"k{k}")
            else:
                assert hdf5.attribute(f, f"k{k}") == "é" * 100 * k
                assert hdf5._text_length(f, f"k{k}") == 200 * k


# Archives


def zeros_npy(shape: str, count: int) -> list[bytes]:
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}}}".encode()
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    return [b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header, bytes(count)]


def test_an_npz_bomb_is_refused_unopened(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as z, z.open("features.npy", "w") as f:
        head, zeros = zeros_npy("(5, 16777216)", 1 << 26)
        f.write(head)
        for _ in range(5):
            f.write(zeros)
    assert path.stat().st_size < 1 << 20
    with pytest.raises(DataError, match="would unpack to 3355"):
        embeddings.read(path)


def test_an_npz_that_lies_about_its_shape(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as z:
        z.writestr("features.npy", b"".join(zeros_npy("(1000000000, 512)", 16)))
    done = bounded(READ, tmp_path / "x.npz")
    assert done.returncode == 0 and "not a usable .npz archive" in done.stdout, done.stderr


def test_an_npy_that_lies_about_its_shape(tmp_path: Path) -> None:
    (tmp_path / "x.npy").write_bytes(b"".join(zeros_npy("(1000000000, 512)", 16)))
    with pytest.raises(DataError, match=r"not a usable \.npy array"):
        readers.read(tmp_path / "x.npy")


def test_members_of_a_zip_stay_inside_it(tmp_path: Path) -> None:
    held = io.BytesIO()
    Image.new("RGB", (4, 4)).save(held, "PNG")
    with zipfile.ZipFile(tmp_path / "faces.zip", "w") as z:
        for name in ("../../out.png", "/abs.png", "C:\\x.png", "a/../../b.png"):
            z.writestr(name, held.getvalue())
    before = sorted(tmp_path.parent.rglob("*"))
    source = images.find(tmp_path / "faces.zip")
    assert [source.read(i).shape for i in range(4)] == [(4, 4, 3)] * 4
    assert sorted(tmp_path.parent.rglob("*")) == before


def test_a_zip_bomb_is_a_failed_image(tmp_path: Path) -> None:
    path = tmp_path / "faces.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as z:
        with z.open("big.png", "w", force_zip64=True) as f:
            for _ in range(5):
                f.write(bytes(1 << 26))
        z.writestr("lies.png", bytes(1 << 20))
    raw = bytearray(path.read_bytes())
    at = raw.rindex(b"PK\x01\x02")  # the second entry claims 16 bytes
    raw[at + 24 : at + 28] = struct.pack("<I", 16)
    path.write_bytes(raw)
    source = images.find(path)
    with pytest.raises(DataError, match="larger than any face image"):
        source.read(source.keys.index("big.png"))
    with pytest.raises(DataError, match=r"lies\.png cannot be read"):
        source.read(source.keys.index("lies.png"))


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_damage_in_every_packing_is_a_failed_image(tmp_path: Path, method: int) -> None:
    path, noise = tmp_path / "faces.zip", np.random.default_rng(0)
    for _ in range(60):
        with zipfile.ZipFile(path, "w", method) as z:
            z.writestr("a.png", noise.bytes(200) + bytes(500))
        raw = bytearray(path.read_bytes())
        for at in noise.integers(0, len(raw), 3):
            raw[at] = noise.integers(256)
        path.write_bytes(raw)
        try:
            source = images.find(path)
            source.read(0)
        except DataError:
            continue


def test_an_image_bomb_is_a_failed_image(tmp_path: Path) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    def png(side: int) -> bytes:
        start = b"\x89PNG\r\n\x1a\n" + chunk(
            b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
        )
        return start + chunk(b"IDAT", zlib.compress(bytes(1 << 20))) + chunk(b"IEND", b"")

    for side in (9000, 60000, 2**31 - 1):
        with warnings.catch_warnings(), pytest.raises(DataError):
            warnings.simplefilter("ignore")
            images.decode(png(side))


# Folders


def test_what_never_ends_is_a_failed_image(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    os.mkfifo(tmp_path / "b.png")
    (tmp_path / "c.png").symlink_to("/dev/zero")
    (tmp_path / "d.png").symlink_to(tmp_path / "gone.png")
    (tmp_path / "loop").symlink_to(tmp_path)
    source = images.find(tmp_path)
    assert source.keys == ("a.png", "b.png", "c.png", "d.png")
    assert source.read(0).shape == (4, 4, 3)
    for row in (1, 2, 3):
        with pytest.raises(DataError, match="cannot be read"):
            source.read(row)


# Pickles


def test_a_pickle_that_hashes_for_ever_is_refused(tmp_path: Path) -> None:
    nested: Any = ()
    for _ in range(60):
        nested = (nested, nested)
    path = tmp_path / "set.bin"
    path.write_bytes(b"\x80\x04}" + pickle.dumps(nested, 4)[2:-1] + b"K\x01s.")
    with pytest.raises(DataError, match="it asks to build by EMPTY_DICT"):
        bin_sets.read(path)


def test_a_label_that_prints_for_ever_is_told_short(tmp_path: Path) -> None:
    nested: Any = [1]
    for _ in range(60):
        nested = [nested, nested]
    (tmp_path / "set.bin").write_bytes(pickle.dumps(([b"1", b"2"], [nested])))
    with pytest.raises(DataError, match=r"a label of the \.bin set is a list"):
        bin_sets.read(tmp_path / "set.bin")


def test_one_array_named_a_million_times_is_one_array(tmp_path: Path) -> None:
    big = np.zeros(1 << 24, np.uint8)
    (tmp_path / "set.bin").write_bytes(pickle.dumps(([big] * 20_000, [True] * 10_000)))
    code = "import sys; from pathlib import Path; from evalkit.datasets import bin as b\n"
    done = bounded(code + "print(len(b.read(Path(sys.argv[1]))[0].keys))", tmp_path / "set.bin")
    assert done.stdout == "20000\n", done.stderr


# MATLAB


def test_a_mat_bomb_is_refused(tmp_path: Path) -> None:
    squeeze = zlib.compressobj(9)
    packed = b"".join(squeeze.compress(bytes(1 << 20)) for _ in range(100)) + squeeze.flush()
    element = struct.pack("<II", 15, len(packed)) + packed
    path = tmp_path / "x.mat"
    path.write_bytes(b"x" * 124 + b"\x00\x01IM" + element * 20)
    with pytest.raises(DataError, match="unpacks to more than 32 times its size"):
        matlab.read(path)


def test_a_mat_array_that_lies_about_its_shape(tmp_path: Path) -> None:
    def element(kind: int, data: bytes) -> bytes:
        return struct.pack("<II", kind, len(data)) + data + bytes(-len(data) % 8)

    body = element(6, struct.pack("<II", 6, 0)) + element(5, struct.pack("<2i", 1 << 30, 1 << 30))
    body += element(1, b"features") + element(9, bytes(8))
    (tmp_path / "x.mat").write_bytes(b"x" * 124 + b"\x00\x01IM" + element(14, body))
    with pytest.raises(DataError, match="holds 1 values"):
        matlab.read(tmp_path / "x.mat")


def test_a_bcolz_folder_of_absurd_size(tmp_path: Path) -> None:
    pytest.importorskip("numcodecs")
    from evalkit.datasets import bcolz

    meta = tmp_path / "x" / "meta"
    meta.mkdir(parents=True)
    np.save(tmp_path / "x_list.npy", np.ones(2, bool))
    storage = {"dtype": "float64", "chunklen": 1 << 40}
    for shape in ([4, 3, 1 << 20, 1 << 20], [4, 3, 112, 112], [1 << 62, 3, 1, 1], [4, 3, -1, 1]):
        (meta / "sizes").write_text(json.dumps({"shape": shape}))
        (meta / "storage").write_text(json.dumps(storage))
        with pytest.raises(DataError):
            bcolz.read(tmp_path / "x")[0].read(0)


# Numbers and nesting


DIGITS, DEEP = "9" * 1_000_000, 100_000


@pytest.mark.parametrize(
    "text",
    ["[" * DEEP, '{"a":' * DEEP, DIGITS, f'{{"format": {DIGITS}}}', "1e" + DIGITS, "NaN", ""],
)
def test_json_nonsense_is_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x_1_1.json"
    path.write_text(text)
    with pytest.raises(ReportError):
        reports.read(path)
    from evalkit.datasets import megaface

    for read in (megaface.read_probe_list, megaface.read_distractor_list):
        with pytest.raises(DataError):
            read(path)


@pytest.mark.parametrize("cell", [DIGITS, "1e" + DIGITS, "nan", "x" * 100_000, "0x10", "", "1_0"])
def test_csv_nonsense_is_one_line(tmp_path: Path, cell: str) -> None:
    path = tmp_path / "x.csv"
    path.write_text(f"a,1,2\nb,1,{cell}\n")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            embeddings.read(path)
        except DataError as e:
            assert len(e.message) < 400
        else:
            assert cell == "1_0"  # Python's own spelling of ten


@pytest.mark.parametrize(
    "text",
    [
        "a = " + "[" * DEEP,
        f"[[rule]]\nmetric = 'auc'\nfloor = {DIGITS}",
        "[[rule]]\nmetric = 'auc'\nfloor = 0x" + "f" * 100_000,
        "[[rule]]\nmetric = 'auc'\ntest = 0x" + "f" * 100_000,
        "rule = [0x" + "f" * 100_000 + "]",
        "[[rule]]\nmetric = 'auc'\nfloor = nan",
        "[[rule]]\nmetric = 'auc'\nalpha = inf",
        "[[rule]]\nmetric = 1979-05-27",
        f"[[rule]]\n{'x' * 100_000} = 1",
        "\ufeff[[rule]]",
    ],
)
def test_rules_of_nonsense_are_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "gates.toml").write_text(text)
    with pytest.raises(ReportError):
        read_rules(tmp_path / "gates.toml")


VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)
SAMPLE = reports.to_json(
    Report(
        protocol="p",
        protocol_version=1,
        metrics={"auc": Estimate(value=0.5, folds=(0.5,))},
        curves={"roc": {"far": [0.0], "tpr": [1.0], "threshold": [0.0]}},
    )
)


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_any_value_in_a_report_is_an_error_or_a_report(data: st.DataObject) -> None:
    document = json.loads(json.dumps(SAMPLE))
    place, name = data.draw(
        st.sampled_from(
            [
                *((document, k) for k in document),
                *((document["metrics"], k) for k in document["metrics"]),
                *((document["metrics"]["auc"], k) for k in document["metrics"]["auc"]),
                *((document["failures"], k) for k in document["failures"]),
                *((document["curves"], k) for k in document["curves"]),
            ]
        )
    )
    place[name] = data.draw(VALUES)
    try:
        report = reports.from_json(document)
    except EvalkitError:
        return
    from evalkit.report.table import table

    table(report, "x")
    reports.dumps(report)


def test_a_failed_key_is_a_text() -> None:
    document = json.loads(json.dumps(SAMPLE))
    document["failures"]["keys"] = [float("inf")]
    with pytest.raises(EvalkitError, match="a failed key is a float"):
        reports.from_json(document)


WORDS = [
    *(
        "[[rule]]",
        "[rule]",
        "metric",
        "floor",
        "max-drop",
        "test",
        "alpha",
        "=",
        "{",
        "}",
        "[",
        "]",
    ),
    *("'auc'", "'eer'", "'paired'", "1", "-1", "0.5", "nan", "true", "1979-05-27", "0xffff"),
    *(".", ",", "#", '"""', "\n", "\x00", "é"),
]


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.sampled_from(WORDS), max_size=24))
def test_any_words_in_rules_are_an_error_or_rules(
    tmp_path_factory: pytest.TempPathFactory, words: list[str]
) -> None:
    path = tmp_path_factory.mktemp("rules") / "gates.toml"
    path.write_text(" ".join(words))
    try:
        rules = read_rules(path)
    except ReportError as e:
        assert "\n" not in e.message.replace(str(path), "")
        return
    assert all(0 <= r.max_drop <= 1 and 0 <= r.alpha <= 1 for r in rules)


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_damaged_outcomes_are_an_error_or_the_same(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("outcomes")
    held = {"score": np.linspace(0, 1, 50), "genuine": np.arange(50) % 2 == 0}
    reports.write(
        Report(protocol="p", protocol_version=1, metrics={}, outcomes=held), folder / "r.json"
    )
    raw = bytearray((folder / "r.npz").read_bytes())
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    cut = data.draw(st.integers(0, len(raw)) | st.just(len(raw)))
    (folder / "r.npz").write_bytes(raw[:cut])
    with pytest.raises(
        ReportError, match="not the outcomes of the report beside it, or is damaged"
    ):
        reports.read(folder / "r.json")
    told = json.loads((folder / "r.json").read_text())
    del told["outcomes_sha256"], told["identity"]  # as reports had it before
    told["version"] = 1
    (folder / "r.json").write_text(json.dumps(told))
    try:
        found = reports.read(folder / "r.json").outcomes or {}
    except ReportError:
        return
    for name in set(found) & set(held):
        np.testing.assert_array_equal(found[name], held[name])


# Names


EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&$x_{$"


def test_names_on_the_page_are_text(two_reports: tuple[Report, Report], tmp_path: Path) -> None:
    pytest.importorskip("jinja2")
    from evalkit.report.page import page
    from evalkit.verdict.differences import differences

    first = two_reports[0]
    outcomes = dict(first.outcomes or {})
    outcomes["keys"] = np.array([f"{EVIL}/{n}" for n in range(len(outcomes["keys"]))])
    evil = replace(
        first,
        protocol=EVIL,
        outcomes=outcomes,
        metrics={**first.metrics, EVIL: Estimate(value=0.5, note=EVIL)},
        provenance={**first.provenance, EVIL: EVIL, "deep": {EVIL: [EVIL]}},
    )
    two = [evil, evil]
    text = page(two, names=[EVIL, "b" + EVIL], differences=differences(two))
    text += page(evil, names=[EVIL])
    assert "<script>alert" not in text and "<img src=x" not in text
    assert "&lt;script&gt;alert(1)" in text


def test_a_name_cannot_break_the_line_or_drive_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = tmp_path / "a\x1b]0;owned\x07\nevalkit: all is well.json"
    assert run(["gate", str(name), "--baseline", "x"]) == 3
    told = capsys.readouterr().err
    assert len(told.splitlines()) == 1 and "\x1b" not in told and r"\x1b" in told


# Models


def test_a_program_is_not_run_unasked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "evil_model.py").write_text("open('ran', 'w').close()\ndef make(): return 3\n")
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.stdin", io.StringIO())
    for name in ("x.pt", "x.pt2", "x.torchscript"):
        (tmp_path / name).write_bytes(b"PK")
    given = ["embed", "f.h5", "--data", ".", "--preset", "arcface", "--model"]
    for model in ("evil_model:make", "x.pt", "x.pt2", "x.torchscript"):
        assert run([*given, model]) == 3
        told = capsys.readouterr().err
        assert f"{model} is a program and would run with your rights" in told
        assert "--trust-model" in told
    assert not (tmp_path / "ran").exists()


def test_weights_outside_the_folder_are_refused_before_the_runtime(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    onnx = pytest.importorskip("onnx")
    sys.path.insert(0, str(Path(__file__).parent))
    import small_models

    from evalkit import adapters
    from evalkit.errors import ModelError

    folder = tmp_path / "model"
    folder.mkdir()
    path = small_models.save(folder / "m.onnx")
    (tmp_path / "secret").write_bytes(small_models.weights().tobytes())
    for name in ("../secret", str(tmp_path / "secret"), "a/../../secret", "./../secret"):
        model = onnx.load(path, load_external_data=False)
        tensor = model.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        del tensor.external_data[:]
        tensor.external_data.add(key="location", value=name)
        (folder / "evil.onnx").write_bytes(model.SerializeToString())
        with pytest.raises(ModelError, match="keeps weights outside its folder"):
            adapters.load(str(folder / "evil.onnx"), preset="arcface")


def entry(*fields: bytes) -> bytes:
    body = b"".join(fields)
    return b"j" + bytes([len(body)]) + body


KEY, INSIDE, SECRET = b"\x0a\x08location", b"\x12\x05w.bin", b"\x12\x09../secret"


@pytest.mark.parametrize(
    "fields",
    [
        (SECRET, KEY),
        (KEY, INSIDE, SECRET),
        (b"\x0a\x88\x00location", SECRET),
        (KEY, b"\x1a\x00", SECRET),
    ],
)
def test_other_spellings_of_a_location_are_refused(
    tmp_path: Path, fields: tuple[bytes, ...]
) -> None:
    pytest.importorskip("onnxruntime")
    onnx = pytest.importorskip("onnx")
    sys.path.insert(0, str(Path(__file__).parent))
    import small_models

    from evalkit import adapters
    from evalkit.errors import ModelError

    path = small_models.save(tmp_path / "m.onnx")
    model = onnx.load(path)
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    told, read = entry(*fields), onnx.StringStringEntryProto.FromString(b"".join(fields))
    assert (read.key, read.value) == ("location", "../secret")  # what the runtime would see
    tensor.external_data.add(key="x", value="y" * (len(told) - 7))
    raw = model.SerializeToString()
    plain = entry(b"\x0a\x01x", b"\x12" + bytes([len(told) - 7]) + b"y" * (len(told) - 7))
    assert len(plain) == len(told) and plain in raw
    path.write_bytes(raw.replace(plain, told))
    with pytest.raises(ModelError, match="in a way that no exporter does"):
        adapters.load(str(path), preset="arcface")


def test_the_memory_of_a_bounded_process_is_bounded() -> None:
    assert bounded("bytearray(3 << 30)").returncode == 1
    assert resource.getrlimit(resource.RLIMIT_AS)[0] != 2 * GIB
