"""Every parser of a stranger's file, with a good file of its kind to start from.

For the quick runs of `test_fuzz.py` and the long ones of `benchmarks/fuzz.py`.
"""

import io
import json
import lzma
import pickle
import struct
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from PIL import Image
from scipy.io import savemat

from evalkit.datasets import (
    agedb,
    bcolz,
    blufr,
    cfp,
    group_table,
    ijb,
    lfw,
    megaface,
    pair_list_layouts,
    score_lists,
    trillion,
    youtube_faces,
)
from evalkit.datasets import bin as bin_sets
from evalkit.errors import EvalkitError
from evalkit.images import find, landmarks
from evalkit.keys import read_keys
from evalkit.protocols.ijb import Enrolled
from evalkit.types import Manifest
from evalkit.vectors import devkit_matrix, embeddings, matching, matlab, readers
from evalkit.vectors.store import FeatureStore

GOLDEN = Path(__file__).parent / "golden" / "bcolz"
X = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
KEYS = [f"A/A_{i}.jpg" for i in range(4)]
POINTS = np.array([[30, 40], [70, 40], [50, 60], [35, 80], [65, 80]], np.float32)
TEXT = h5py.string_dtype()


@dataclass(frozen=True)
class Target:
    """A parser, files that it reads, and the one whose bytes are changed."""

    name: str
    parse: Callable[[Path], Any]  # gets the folder
    good: dict[str, bytes]
    victim: str
    binary: bool


class CodeRanError(BaseException):
    """A file made its reader do what no reader does; no `except Exception` swallows it."""


_FORBIDDEN = ("os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.Popen")
_FORBIDDEN += ("socket.connect", "shutil.rmtree", "os.remove", "ctypes.dlopen")
_watched = [False]


def watch() -> None:
    """Make `answers` raise CodeRanError where a parser starts a program or removes a file."""

    def hook(event: str, _: Any) -> None:
        if _watched[0] and event in _FORBIDDEN:
            raise CodeRanError(event)

    sys.addaudithook(hook)


def answers(target: Target, folder: Path, data: bytes) -> bool:
    """Tell whether the parser took the bytes (True) or refused them; anything else is raised."""
    (folder / target.victim).write_bytes(data)
    _watched[0] = True
    try:
        target.parse(folder)
    except EvalkitError as e:
        if not e.message or "\n" in e.message:
            raise AssertionError(f"not one line: {e.message!r}") from e
        return False
    finally:
        _watched[0] = False
    return True


def place(target: Target, folder: Path) -> Path:
    """Lay out the good files of a target."""
    for name, data in target.good.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def _made(write: Callable[[Path], Any], suffix: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"x{suffix}")
        write(path)
        return path.read_bytes()


def _one(name: str, data: bytes | str, parse: Callable[[Path], Any], suffix: str) -> Target:
    file, binary = f"x{suffix}", isinstance(data, bytes)
    held = data if isinstance(data, bytes) else data.encode()
    return Target(name, lambda folder: parse(folder / file), {file: held}, file, binary)


def _vectors(path: Path) -> Any:
    x, *_ = readers.read(path)
    embeddings.check(x, path)
    return np.asarray(x).sum()


def _features_file(path: Path) -> None:
    manifest = Manifest(tuple(KEYS), np.zeros(4, np.int32))
    with FeatureStore.create(path, manifest, dim=3, key={"a": "b"}) as store:
        store.write(np.arange(4), X[:, None])


def _store(path: Path) -> Any:
    with FeatureStore.open(path) as store:
        return store.features.sum()


def _agedb_file(path: Path) -> None:
    splits = np.empty((2, 1), object)
    for k in range(2):
        images = np.empty((2, 1), object)
        for side in range(2):
            images[side, 0] = {"name": f"{side}_P_{k}", "age": 20}
        splits[k, 0] = {"pairs": images, "labels": np.array([[1]])}
    savemat(path, {"splits": splits})


def _blufr_file(path: Path) -> None:
    index = np.empty(1, object)
    index[0] = np.array([1, 2])
    names = np.array(["A_0001.jpg", "B_0001.jpg"], object)
    trials = dict.fromkeys(("testIndex", "galIndex", "probIndex"), index)
    savemat(path, {"imageList": names, "labels": np.array([1, 2]), **trials})


def _picture() -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(out, "PNG")
    return out.getvalue()


def _pieces(path: Path) -> None:
    with h5py.File(path, "w") as f:
        f.create_dataset("features", data=X, chunks=(2, 3), compression="gzip")
        f.create_dataset("keys", data=KEYS, chunks=(2,), compression="gzip", dtype=TEXT)


def _points(path: Path) -> None:
    np.savez(path, landmarks=POINTS[None].repeat(4, 0), paths=np.array(KEYS))


def _first_image(found: Any) -> None:
    source, _ = found
    source.read(0)


def _bin_sets() -> Iterator[Target]:
    picture = _picture()
    array = np.frombuffer(picture, np.uint8)
    for name, images, protocol in (
        ("bin, bytes", [picture] * 2, 2),
        ("bin, arrays", [array] * 2, 2),
        ("bin, protocol 5", [array] * 2, 5),
    ):
        data = pickle.dumps((images, [True]), protocol)
        yield _one(name, data, lambda p: _first_image(bin_sets.read(p)), ".bin")


def _binary() -> Iterator[Target]:
    yield from _bin_sets()
    feature = devkit_matrix.header(3, 1) + X[0].tobytes()
    read = devkit_matrix.read_features
    yield _one("devkit feature .bin", feature, lambda p: read([p, p]), ".bin")
    matrix = devkit_matrix.header(1, 3) + X[0].tobytes()
    model = feature + matrix + matrix
    yield _one("devkit model .bin", model, megaface.read_model, ".bin")
    submission = devkit_matrix.header(4, 3) + X.tobytes()
    yield _one("trillion .bin", submission, matching.by_position, ".bin")
    mat = {"features": X, "keys": np.array(KEYS, object), "s": {"a": 1.0, "b": "text"}}
    for packed in (False, True):
        data = _made(lambda p, packed=packed: savemat(p, mat, do_compression=packed), ".mat")
        yield _one(f".mat{', compressed' if packed else ''}", data, matlab.read, ".mat")
    yield _one("AgeDB .mat", _made(_agedb_file, ".mat"), agedb.read, ".mat")
    yield Target(
        "YouTube Faces .mat",
        lambda folder: youtube_faces.read_splits(folder / "x.mat"),
        {
            "x.mat": _made(lambda p: savemat(p, {"m": np.array([[[1], [2], [1]]])}), ".mat"),
            "Youtube_names.txt": b"A/0\nA/1\n",
        },
        "x.mat",
        True,
    )
    yield _one("BLUFR .mat", _made(_blufr_file, ".mat"), blufr.read_config, ".mat")
    carray = {
        p.relative_to(GOLDEN).as_posix(): p.read_bytes() for p in GOLDEN.rglob("*") if p.is_file()
    }
    for victim in ("toy/data/__0.blp", "toy/meta/sizes", "toy/meta/storage", "toy_list.npy"):
        yield Target(
            f"bcolz {victim}",
            lambda folder: _first_image(bcolz.read(folder / "toy")),
            carray,
            victim,
            True,
        )

    def arrays(path: Path) -> None:
        with h5py.File(path, "w") as f:
            f["features"], f["keys"] = X, KEYS

    yield _one(".h5", _made(arrays, ".h5"), _vectors, ".h5")
    yield _one("feature file .h5", _made(_features_file, ".h5"), _store, ".h5")
    yield _one(".npy", _made(lambda p: np.save(p, X), ".npy"), _vectors, ".npy")
    yield _one(".h5, in pieces", _made(_pieces, ".h5"), _vectors, ".h5")
    yield _one("landmarks .npz", _made(_points, ".npz"), landmarks.read, ".npz")
    npz = _made(lambda p: np.savez(p, features=X, keys=np.array(KEYS)), ".npz")
    yield _one(".npz", npz, _vectors, ".npz")


def _in_containers() -> Iterator[Target]:
    files = {"A/1.png": _picture(), "A/1.cls": b"7", "B/2.png": _picture(), "B/2.cls": b"8"}
    for kind in ("", "gz", "xz"):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode=f"w:{kind}") as archive:
            for name, data in files.items():
                entry = tarfile.TarInfo(name)
                entry.size = len(data)
                archive.addfile(entry, io.BytesIO(data))
        yield _one(f".tar {kind}", out.getvalue(), _all_images, f".tar.{kind}".rstrip("."))
    records = b""
    for number in range(2):
        data = struct.pack("<IfQQ", 0, 7.0, number, 0) + _picture()
        records += struct.pack("<II", 0xCED7230A, len(data)) + data + bytes(-len(data) % 4)
    yield _one(".rec", records, _all_images, ".rec")
    golden = Path(__file__).with_name("golden") / "images.lmdb.xz"
    yield _one(".lmdb", lzma.decompress(golden.read_bytes()), _all_images, ".lmdb")


def _all_images(path: Path) -> None:
    source = find(path)
    for row in range(len(source.keys)):
        source.read(row)


def _text() -> Iterator[Target]:
    pairs = "2\t1\nA\t1\t2\nA\t1\tB\t2\nC\t1\t2\nC\t3\tD\t4\n"
    yield _one("LFW pairs", pairs, lfw.read_pairs, ".txt")
    yield _one("pair list, any layout", "a/1.jpg b/2.jpg 0\na/1.jpg a/2.jpg 1\n", _any, ".txt")
    yield _one("two-line pairs", "a 1.jpg 1\nb.jpg 1\nc 1\nd 1\ne 0\nf 0\n", _two_line, ".txt")
    yield _one("score list", "1 0.5\n-1 0.2\n0 -inf\n", score_lists.read, ".txt")
    probes = '{"path": ["a/1.png", "a/2.png"], "id": ["a", "a"]}'
    yield _one("MegaFace probes", probes, megaface.read_probe_list, ".json")
    distractors = '{"path": ["1/2@N0/3_0.jpg"]}'
    yield _one("MegaFace distractors", distractors, megaface.read_distractor_list, ".json_1_1")
    yield _one("noise list", "# noise\na_1.png\nx\ty/1.png\n", megaface.read_noises, ".txt")
    yield _one("IJB media", "1.jpg 1 2\n2.jpg 1 3\n", ijb.read_media, ".txt")
    points = " ".join(map(str, range(10)))
    yield _one("IJB detections", f"1.jpg {points} 0.99\n", ijb.read_detections, ".txt")
    yield _one("IJB pairs", "1 2 0\n1 3 1\n", ijb.read_pairs, ".txt")
    yield _one("IJB gallery", "T,S,F\n1,2,a\n3,4,b\n", ijb.read_enrolled, ".csv")
    nist = "TEMPLATE_ID,SUBJECT_ID,FILE,MEDIA_ID\n1,2,a.jpg,3\n3,4,b.jpg,5\n"
    yield _one("NIST's metadata", nist, ijb.read_faces, ".csv")
    known = Enrolled(np.array([1, 3]), np.array([2, 4]))
    yield _one("NIST's matches", "1,3\n3,1\n", lambda p: ijb.read_matches(p, [known]), ".csv")
    groups = "key,sex,age\nA/1.jpg,f,40\nB/1.jpg,m,\n"
    yield _one("groups", groups, group_table.read, ".csv")
    claims = "A A A/1 0.5\nA B B/1 0.1\n"
    yield _one("bob's scores", claims, score_lists.read, ".txt")
    yield _one("unlabelled scores", "a b 0.5\na c 0.1\n", _unlabelled, ".txt")
    rows = "".join(f"{k} {' '.join(map(str, range(3)))}\n" for k in KEYS)
    yield _one("embeddings .list", rows, _vectors, ".list")
    yield _one("subjects", "a\n-\nb\na\n", trillion.read_subjects, ".txt")
    header = "fold,img1,img2,same,id\n1,a/1.jpg,b/2.jpg,True,x\n2,c/1.jpg,d/2.jpg,False,x\n"
    yield _one("pair table", header, _any, ".csv")
    yield _one("YouTube Faces", "1, 1, A/1, A/5, 1\n1, 2, B/2, C/3, 0\n", _any, ".txt")
    yield _one("score table", 'label,"score"\n1,0.5\n0,0.25\n', score_lists.read, ".csv")
    yield _one("lists .csv", 'path,v,y\na,"[1, 0.5]",0\nb,"[2 0.25]",1\n', _vectors, ".csv")
    yield _one("keys .npy", _made(lambda p: np.save(p, KEYS), ".npy"), read_keys, ".npy")
    yield _one("embeddings .csv", "key,a,b\nA,1.5,2.5\nB,3e-1,nan\n", _vectors, ".csv")
    five = {k: POINTS.tolist() for k in KEYS[:2]}
    yield _one("landmarks .json", json.dumps(five), landmarks.read, ".json")
    line = ",".join(map(str, POINTS.ravel()))
    yield _one("landmarks .csv", f"key,x,y\nA/A_1.jpg,{line}\n", landmarks.read, ".csv")
    yield _one("keys .txt", "A/A_1.jpg\nB/B_1.jpg\n", read_keys, ".txt")
    yield _one("keys .json", '{"path": ["a/1.png", "a/2.png"]}', read_keys, ".json")
    folder = {"Protocol/Pair_list_F.txt": b"1 a/000/frontal/01.jpg\n2 a/000/frontal/02.jpg\n"}
    folder["Protocol/Pair_list_F.txt"] += b"3 a/001/frontal/01.jpg\n"
    for k in range(1, 11):
        folder[f"Protocol/Split/FF/{k:02d}/same.txt"] = b"1,2\n"
        folder[f"Protocol/Split/FF/{k:02d}/diff.txt"] = b"1,3\n"
    for victim in ("Protocol/Pair_list_F.txt", "Protocol/Split/FF/01/same.txt"):
        yield Target(f"CFP {victim}", lambda p: cfp.read(p, "FF"), folder, victim, False)


def _unlabelled(path: Path) -> Any:
    return score_lists.read(path, labelled=False)


def _any(path: Path) -> Any:
    return pair_list_layouts.read(path).pairs.resolve()


def _two_line(path: Path) -> Any:
    return pair_list_layouts.read(path, "two-line").pairs.resolve()


def _optional() -> Iterator[Target]:
    """Give the formats whose packages are at hand."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as parquet
    except ImportError:
        pass
    else:
        images = pa.table(
            {"image": [{"bytes": _picture(), "path": k} for k in KEYS], "label": X[:, 0]}
        )
        data = _made(lambda p: parquet.write_table(images, p, row_group_size=2), ".parquet")
        yield _one("images .parquet", data, _all_images, ".parquet")
        out = io.BytesIO()
        with pa.ipc.new_stream(out, images.schema) as writer:
            writer.write_table(images, max_chunksize=2)
        yield _one("images .arrow", out.getvalue(), _all_images, ".arrow")
        table = pa.table({"key": KEYS, "embedding": X.tolist()})
        data = _made(lambda p: parquet.write_table(table, p), ".parquet")
        yield _one(".parquet", data, _vectors, ".parquet")
    try:
        import torch
    except ImportError:
        pass
    else:
        held = {"features": torch.from_numpy(X), "keys": KEYS}
        yield _one(".pt", _made(lambda p: torch.save(held, p), ".pt"), _vectors, ".pt")


def targets() -> list[Target]:
    """Give all parsers whose packages are installed."""
    found = [*_binary(), *_in_containers(), *_text(), *_optional()]
    if not _has_numcodecs():
        found = [t for t in found if not t.victim.endswith(".blp")]
    return found


def _has_numcodecs() -> bool:
    try:
        import numcodecs  # noqa: F401
    except ImportError:
        return False
    return True
