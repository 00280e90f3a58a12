"""A report made in Python says what made it, as one of the command line does."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import evalkit
from evalkit import report as reports
from evalkit import run
from evalkit.cli import run as evalkit_run
from evalkit.datasets import pair_list_layouts
from evalkit.errors import DataError, ProtocolError
from evalkit.protocols import all_vs_all, trillion
from evalkit.protocols.groups import Grouping
from evalkit.types import InputSpec

KEYS = [f"P{k // 4}/{k}.jpg" for k in range(48)]
WHO = np.repeat(np.arange(12), 4)
X = (np.eye(12)[WHO] + np.random.default_rng(0).normal(0, 0.4, (48, 12))).astype(np.float32)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    pairs = [(k, k + 1, 1) for k in range(0, 48, 2)] + [(k, (k + 7) % 48, 0) for k in range(24)]
    lines = [f"{KEYS[a]} {KEYS[b]} {genuine}" for a, b, genuine in pairs]
    (tmp_path / "pairs.txt").write_text("\n".join(lines))
    (tmp_path / "keys.txt").write_text("\n".join(KEYS))
    (tmp_path / "who.txt").write_text("\n".join(map(str, WHO)))
    np.save(tmp_path / "x.npy", X)
    return tmp_path


def test_pairs_by_file_as_the_command_does(files: Path) -> None:
    given = ["--features", files / "x.npy", "--keys", files / "keys.txt", "--quiet"]
    line = ["verify", files / "pairs.txt", *given, "--out", files / "r.json"]
    assert evalkit_run([*map(str, line)]) == 0
    made = run.evaluate(
        "verification", str(files / "x.npy"), files / "pairs.txt", keys=files / "keys.txt"
    )
    assert reports.to_json(made) == reports.to_json(reports.read(files / "r.json"))
    assert made.identity.file == "pairs.txt" and made.identity.set == "pairs"
    assert made.provenance["evalkit"] == evalkit.__version__
    kept = reports.read(files / "r.json").outcomes
    assert made.outcomes is not None and kept is not None and made.outcomes.keys() == kept.keys()


@pytest.mark.parametrize("order", [slice(None), slice(None, None, -1)])
def test_an_array_is_found_by_its_names(files: Path, order: slice) -> None:
    listed = pair_list_layouts.read(files / "pairs.txt").pairs
    made = run.evaluate("verification", X[order], listed, keys=KEYS[order])
    official = run.evaluate("verification", files / "x.npy", listed, keys=files / "keys.txt")
    assert made.metrics == official.metrics
    assert made.provenance["manifest"] == official.provenance["manifest"]
    with pytest.raises(DataError, match="rows have no names"):
        run.evaluate("verification", X, listed)


def test_names_given_as_bytes_are_those_of_texts(files: Path) -> None:
    for protocol, listed in (("verification", [files / "pairs.txt"]), ("all-vs-all", [])):
        expected = run.evaluate(protocol, X, *listed, keys=KEYS)
        for keys in (np.array(KEYS, "S"), [key.encode() for key in KEYS]):
            made = run.evaluate(protocol, X, *listed, keys=keys)
            assert made.identity == expected.identity and made.metrics == expected.metrics
    with pytest.raises(DataError, match=r"a name is not UTF-8: b'\\xff'"):
        run.evaluate("all-vs-all", X, keys=[b"\xff", *KEYS[1:]])
    with pytest.raises(ProtocolError, match=r"keys are bytes, b'P0/0.jpg' first \(np.char.dec"):
        all_vs_all.evaluate(X, WHO, keys=np.array(KEYS, "S"))


@pytest.mark.parametrize("given", ["array", "file", "folders"])
def test_subjects_by_array_file_or_folder(files: Path, given: str) -> None:
    subjects = {"array": [WHO], "file": [files / "who.txt"], "folders": []}[given]
    made = run.evaluate("geometry", files / "x.npy", *subjects, keys=files / "keys.txt")
    assert made.flat() == run.evaluate("geometry", X, WHO).flat()
    assert made.identity.file == ("who.txt" if given == "file" else None)


def test_rows_that_nobody_names_have_no_subjects() -> None:
    with pytest.raises(DataError, match=r"whom the rows show.*subject="):
        run.evaluate("geometry", X)
    names = [f"p{w}" for w in WHO]
    made = run.evaluate("geometry", X, subject=names)
    assert made.flat() == run.evaluate("geometry", X, names).flat()


def test_a_model_embeds_the_images_of_the_list(
    files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Grey:
        spec = InputSpec(size=(8, 8), color="rgb", mean=(0, 0, 0), std=(1, 1, 1))
        dim, fingerprint, runtime = 64, "grey", "numpy"

        def embed(self, images: np.ndarray) -> np.ndarray:
            return images.mean(axis=3).reshape(len(images), -1).astype(np.float32) - 128

    monkeypatch.setenv("EVALKIT_CACHE", str(files / "cache"))
    for k, key in enumerate(KEYS):
        pixels = np.random.default_rng(k).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        (files / "images" / key).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(files / "images" / key)
    made = run.evaluate("verification", Grey(), files / "pairs.txt", images=files / "images")
    assert made.identity.images is not None
    assert made.provenance["crop"] == "arcface-112" and made.provenance["list"] == "pairs.txt"
    third = np.array([str(k % 3) for k in range(48)])
    of_folder, of_paths = (
        run.evaluate(
            "verification",
            Grey(),
            files / "pairs.txt",
            images=images,
            groups=[Grouping.of("third", third[order])],
            fars="0.5",
        )
        for images, order in (
            (files / "images", np.argsort(KEYS)),
            ([str(files / "images" / key) for key in KEYS[::-1]], np.arange(48)[::-1]),
        )
    )
    assert of_folder.flat() == of_paths.flat() and "fnmr@far=0.5,third=0+1" in of_folder.flat()
    with pytest.raises(DataError, match="a model needs images to embed"):
        run.evaluate("verification", Grey(), files / "pairs.txt")


def test_a_function_is_a_protocol_too() -> None:
    made = run.evaluate(trillion.evaluate_one_set, X, WHO, fars=["0.1"], provenance={"why": "try"})
    assert made.provenance["why"] == "try" and made.protocol == "trillion"


def test_a_protocol_that_is_not_there_names_those_that_are() -> None:
    with pytest.raises(ProtocolError, match="no protocol is called 'lwf'") as told:
        run.evaluate("lwf", X)
    assert "lfw" in told.value.hint


@pytest.mark.parametrize("value", [0.0, 1.0], ids=["no length", "one vector"])
def test_vectors_that_are_all_alike_are_said_beside_every_number(value: float) -> None:
    x, who = np.full((8, 4), value, np.float32), np.arange(8) // 2
    x[5] = np.nan  # a failed row hides nothing
    report = run.evaluate("people", x * np.arange(1, 9)[:, None], who, fars=["0.1"])
    assert report["rank-1"].value == 0.75  # every tie is found, as a rank has it: the failed is not
    for name in ("rank-1", "auc", "tpr@far=0.1"):
        assert report[name].note.endswith("all 8 vectors are alike, and ties count as found")
    x[0] += [1, 0, 0, 0]
    other = run.evaluate("people", x, who, fars=["0.1"])
    assert not any("alike" in m.note for m in other.metrics.values())


def test_scores_are_no_vectors_that_are_alike() -> None:
    report = run.evaluate("score", np.array([0.9, 0.8, 0.3, 0.1]), np.array([1, 1, 0, 0], bool))
    assert report["auc"].value == 1 and "alike" not in report["auc"].note
