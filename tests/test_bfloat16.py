"""Vectors kept as bfloat16 or in .safetensors: mapped, widened exactly, and said."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from evalkit import run
from evalkit.arrays import vectors
from evalkit.bfloat16 import Bfloat16
from evalkit.cli import cli
from evalkit.errors import DataError
from evalkit.protocols import (
    all_vs_all,
    blufr,
    geometry,
    megaface,
    people,
    search,
    trillion,
    verification,
    ytf,
)
from evalkit.protocols.allpairs import Engine
from evalkit.protocols.allpairs.rows_on_disk import Mapped, closed, opened
from evalkit.protocols.doubtful_labels import doubtful_labels
from evalkit.protocols.ijb.templates import Pooling, pool
from evalkit.protocols.recipes import RECIPES
from evalkit.types import PairSet
from evalkit.vectors import embeddings, matching, readers

N, DIM = 120, 8
WHO = np.arange(N) // 4
TAIL = np.where(np.arange(N) < 40, WHO, -1)
HALF = np.arange(0, N, 2)
LEFT = np.arange(0, N - 2, 2)
PAIRS = PairSet(
    np.tile(LEFT, 2), np.concatenate([LEFT + 1, LEFT[::-1]]), np.repeat([True, False], len(LEFT))
)
TRIAL = blufr.Trial(test=HALF, gallery=np.arange(0, N, 8), probe=np.arange(2, N, 8))
VIDEOS = PairSet(np.arange(0, 28, 2), np.arange(1, 29, 2), np.arange(14) % 2 == 0)


def bits(views: int = 0) -> np.ndarray:
    """The upper halves of float32: bfloat16, every fourth row near the one before it."""
    rng = np.random.default_rng(7)
    x = rng.normal(size=(N // 4, DIM)).repeat(4, axis=0) + 0.5 * rng.normal(size=(N, DIM))
    x = np.stack([x, x[:, ::-1]], axis=1) if views else x
    return (x.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)


def wide(held: np.ndarray) -> np.ndarray:
    return (held.astype(np.uint32) << 16).view(np.float32)


def test_a_value_is_widened_without_rounding() -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    all_ = np.arange(1 << 16, dtype=np.uint16).reshape(256, 256)
    with np.errstate(invalid="ignore"):
        expected = all_.view(ml_dtypes.bfloat16).astype(np.float32)
    np.testing.assert_array_equal(np.asarray(Bfloat16(all_)), expected)


def test_slices_stay_bfloat16_and_rows_are_read() -> None:
    held = bits(views=2)
    x = Bfloat16(held)
    for part in (x[3:9], x[:, 0], x[2:5, 1]):
        assert isinstance(part, Bfloat16) and np.shares_memory(part.bits, held)
    assert isinstance(vectors(x), Bfloat16) and (x.shape, x.ndim, len(x)) == (held.shape, 3, N)
    for rows in (4, np.array([5, 1]), np.arange(N) % 3 == 0):
        np.testing.assert_array_equal(x[rows], wide(held)[rows])
        assert isinstance(x[rows], np.ndarray)


CALLS: dict[str, Any] = {
    "trillion": partial(trillion.evaluate, subject=TAIL, fars=["1e-2"]),
    "trillion, one set": partial(trillion.evaluate_one_set, subject=WHO, fars=["1e-2"]),
    "all-vs-all": partial(all_vs_all.evaluate, subject=WHO, fars=["1e-2"]),
    "people": partial(people.evaluate, subject=WHO, fars=["1e-2"], template="mean"),
    "search": partial(search.evaluate, subject=WHO, gallery=HALF, probe=HALF[:20] + 1),
    "blufr": partial(blufr.evaluate, subject=WHO, trials=[TRIAL, TRIAL], far="1e-1"),
    "geometry": partial(geometry.evaluate, subject=WHO),
    "verification": partial(verification.evaluate, pairs=PAIRS),
    "verification, recipe": partial(
        verification.evaluate, pairs=PAIRS, recipe=RECIPES["sphereface"]
    ),
    "ytf": partial(ytf.evaluate, video=WHO, pairs=VIDEOS),
}


# That recipe fuses two views.
@pytest.mark.parametrize(
    ("name", "views"), [(c, v) for c in CALLS for v in (0, 2) if v or "recipe" not in c]
)
def test_every_protocol_gives_the_numbers_of_the_widened_vectors(name: str, views: int) -> None:
    held = bits(views)
    options = {"flip": "sum"} if views and "recipe" not in name else {}
    found = CALLS[name](Bfloat16(held), **options)
    assert found.metrics == CALLS[name](wide(held), **options).metrics


def test_megaface_takes_bfloat16_on_both_sides() -> None:
    probe, other = bits()[:24], bits()
    found, expected = (
        megaface.evaluate(as_(probe), WHO[:24], {"distractors=120": as_(other)}, fars=["1e-2"])
        for as_ in (Bfloat16, wide)
    )
    assert found.metrics == expected.metrics


def test_templates_and_doubtful_labels_take_bfloat16() -> None:
    one, other = (
        pool(x, WHO, np.arange(N), None, Pooling(flip="none", detector_score=False))
        for x in (Bfloat16(bits()), wide(bits()))
    )
    np.testing.assert_array_equal(one.vectors, other.vectors)
    found = doubtful_labels(Bfloat16(bits()), WHO)
    np.testing.assert_array_equal(found.row, doubtful_labels(wide(bits()), WHO).row)


def test_a_checkpoint_and_a_worker_take_a_map(tmp_path: Path) -> None:
    file = saved(tmp_path / "x.npy", bits())
    x = matching.by_position(file).features
    assert isinstance(closed(x).bits, Mapped)
    np.testing.assert_array_equal(np.asarray(opened(closed(x))), wide(bits()))
    engine = Engine(checkpoint=tmp_path / "job")
    found = trillion.evaluate(x, TAIL, fars=["1e-2"], engine=engine)
    assert found.metrics == trillion.evaluate(wide(bits()), TAIL, fars=["1e-2"]).metrics


def saved(path: Path, held: np.ndarray) -> Path:
    """Write bfloat16 as ml_dtypes does: two bytes without a type."""
    np.save(path, held.view("V2"))
    return path


def tensors(path: Path, held: dict[str, tuple[str, np.ndarray]], **more: Any) -> Path:
    header, numbers = dict[str, Any](more), b""
    for name, (kind, x) in held.items():
        place = [len(numbers), len(numbers) + x.nbytes]
        header[name] = {"dtype": kind, "shape": list(x.shape), "data_offsets": place}
        numbers += x.tobytes()
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + numbers)
    return path


def test_an_npy_of_ml_dtypes_is_bfloat16(tmp_path: Path) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    x = wide(bits()).astype(ml_dtypes.bfloat16)
    np.save(tmp_path / "x.npy", x)
    read = readers.read(tmp_path / "x.npy")[0]
    assert isinstance(read, Bfloat16) and isinstance(read.bits.base, np.memmap)
    np.testing.assert_array_equal(np.asarray(read), x.astype(np.float32))


@pytest.mark.parametrize("kind", ["BF16", "F16", "F32", "F64"])
def test_safetensors_are_mapped(tmp_path: Path, kind: str) -> None:
    dtype = {"BF16": "<u2", "F16": "<f2", "F32": "<f4", "F64": "<f8"}[kind]
    x = bits() if kind == "BF16" else wide(bits()).astype(dtype)
    file = tensors(tmp_path / "x.safetensors", {"features": (kind, x)}, __metadata__={"a": "b"})
    read = readers.read(file)[0]
    raw = read.bits if isinstance(read, Bfloat16) else read
    assert isinstance(raw, np.memmap) and (kind == "BF16") == isinstance(read, Bfloat16)
    np.testing.assert_array_equal(np.asarray(read), wide(x) if kind == "BF16" else x)


def test_safetensors_of_its_own_writer_are_read(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    save = pytest.importorskip("safetensors.torch").save_file
    x = torch.from_numpy(wide(bits()))
    held = {"embedding": x.bfloat16(), "label": torch.arange(N)}
    save(held, tmp_path / "x.safetensors")
    features, keys, told = readers.read(tmp_path / "x.safetensors")
    assert (keys, told) == (None, "left out: label")
    np.testing.assert_array_equal(np.asarray(features), x.bfloat16().float().numpy())


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "cut within its header"),
        (b"\xff" * 20, "cut within its header"),
        ((9).to_bytes(8, "little") + b"{" * 9, "damaged header"),
        ((2).to_bytes(8, "little") + b"[]", "damaged header"),
    ],
)
def test_a_damaged_header_is_said(tmp_path: Path, data: bytes, said: str) -> None:
    file = tmp_path / "x.safetensors"
    file.write_bytes(data)
    with pytest.raises(DataError, match=said):
        readers.read(file)


@pytest.mark.parametrize(
    ("tensor", "said"),
    [
        ({"dtype": "F32", "shape": [4, 4], "data_offsets": [0, 64]}, "bytes 0 to 64 of 0"),
        ({"dtype": "F32", "shape": [4, 4], "data_offsets": [0, 8]}, "bytes 0 to 8"),
        ({"dtype": "F32", "shape": [-1, -4], "data_offsets": [0, 16]}, "bytes 0 to 16"),
        ({"dtype": "F8_E4M3", "shape": [4, 4], "data_offsets": [0, 16]}, "is of F8_E4M3"),
        ({"dtype": "F32", "shape": [4, 4]}, "damaged header"),
        ({"dtype": "F32", "shape": 4, "data_offsets": [0, 16]}, "damaged header"),
    ],
)
def test_a_tensor_that_is_not_there_is_said(
    tmp_path: Path, tensor: dict[str, Any], said: str
) -> None:
    file = tensors(tmp_path / "x.safetensors", {}, features=tensor)
    with pytest.raises(DataError, match=said):
        readers.read(file)


def test_the_type_is_said_and_kept_in_the_report(tmp_path: Path) -> None:
    features = saved(tmp_path / "x.npy", bits())
    who = tmp_path / "who.txt"
    who.write_text("".join("-\n" if w < 0 else f"{w}\n" for w in TAIL))
    words = ["--features", str(features), "--subjects", str(who), "--json", "-"]
    done = CliRunner().invoke(cli, ["trillion", *words, "--far", "1e-2"])
    said = "bfloat16, taken for what the file calls V2"
    assert done.exit_code == 0 and f"x.npy: the features are {said}" in done.stderr
    report = json.loads(done.stdout)
    assert report["provenance"]["features_type"] == said
    np.save(tmp_path / "wide.npy", wide(bits()))
    expected = run.evaluate(
        "trillion", tmp_path / "wide.npy", TAIL, keys=names(tmp_path), fars=["1e-2"]
    )
    assert (
        report["metrics"]["rank-1@distractors=80"]["value"]
        == expected["rank-1@distractors=80"].value
    )


def names(folder: Path) -> Path:
    (folder / "names.txt").write_text("".join(f"p{row // 4}/{row}\n" for row in range(N)))
    return folder / "names.txt"


def test_rows_are_refused_imported_and_named_as_others_are(tmp_path: Path) -> None:
    held, keys = bits(), names(tmp_path)
    features = tensors(tmp_path / "x.safetensors", {"features": ("BF16", held)})
    made = tmp_path / "made.h5"
    words = [str(features), str(made), "--keys", str(keys)]
    done = CliRunner().invoke(cli, ["import", *words])
    assert done.exit_code == 0 and "x.safetensors: the features are bfloat16" in done.stderr
    np.testing.assert_array_equal(readers.read(made)[0][:, 0], wide(held))
    assert matching.from_embeddings(features, keys).provenance["features_type"] == "bfloat16"
    held[5, 2] = 0x7FC0  # not a number
    saved(tmp_path / "x.npy", held)
    with pytest.raises(DataError, match="1 row holds NaN or infinity, the first is 'p1/5'"):
        embeddings.read(tmp_path / "x.npy", keys)
