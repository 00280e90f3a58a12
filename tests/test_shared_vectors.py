"""Vectors that several images have in common are told."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evalkit import cli, run
from evalkit.types import PairSet
from evalkit.vectors import shared
from evalkit.vectors.shared import (
    BOTH_LABELS,
    ONE_FILE,
    ONE_NAME,
    SHARED,
    of_one_name,
    of_several_images,
)

X = np.random.default_rng(0).normal(size=(12, 40)).astype(np.float32)
KEYS = [f"P{k % 4}/{k}.jpg" for k in range(12)]


def same(rows: list[int]) -> Any:
    x = X.copy()
    x[rows] = x[rows[0]]
    return x


def test_rows_that_are_equal_are_counted_and_named() -> None:
    assert of_several_images(X, KEYS) == {}
    x = same([2, 5, 7])
    x[9] = x[0]
    told = of_several_images(x, KEYS)[SHARED]
    assert told.startswith("5 of 12 images share a vector with another, 3 of them one, P2/2.jpg, ")
    views = np.stack([x, X], axis=1)
    assert of_several_images(views, KEYS) == {}
    x[[2, 5, 7, 9]] = np.nan  # failed
    assert of_several_images(x, KEYS) == {}
    assert of_several_images(X[:0], []) == {}


def test_one_image_twice_has_one_vector() -> None:
    """By its bytes where they are known, by its name else."""
    x, digests = same([2, 5]), np.arange(12 * 32, dtype=np.uint8).reshape(12, 32)
    assert of_several_images(x, KEYS, digests)
    digests[5] = digests[2]
    assert of_several_images(x, KEYS, digests) == {}
    assert of_several_images(x, KEYS, np.zeros_like(digests))
    assert of_several_images(x, [*KEYS[:5], f"./{KEYS[2]}", *KEYS[6:]]) == {}


def test_pairs_of_one_file_are_told() -> None:
    digests = np.random.default_rng(1).integers(0, 256, (12, 32)).astype(np.uint8)
    digests[5], digests[7], digests[[8, 9]] = digests[1], digests[2], 0  # the last are not known
    pairs = PairSet(
        [1, 2, 8, 0, 3], [5, 7, 9, 0, 4], np.array([True, False, True, True, False]), None
    )
    x = X[:, :8]
    report = run.evaluate("verify", x, pairs, keys=KEYS, images=digests, fars="0.5")
    assert report.provenance[ONE_FILE] == (
        "1 genuine and 1 impostor pairs are of two names for one image, first P1/1.jpg and "
        "P1/5.jpg: they lift TPR, and the thresholds of FARs"
    )
    for other in (None, np.zeros_like(digests), np.arange(12 * 32, dtype=np.uint8).reshape(12, 32)):
        report = run.evaluate("verify", x, pairs, keys=KEYS, images=other, fars="0.5")
        assert ONE_FILE not in report.provenance


def test_images_of_pairs_with_both_labels_are_told() -> None:
    digests = np.random.default_rng(1).integers(0, 256, (12, 32)).astype(np.uint8)
    digests[4], digests[5], digests[6:] = digests[0], digests[1], 0  # the last are not known
    labels = np.array([True, False, False, True, False])
    pairs = PairSet([0, 5, 2, 6, 8], [1, 4, 3, 7, 9], labels, None)
    x = X[:, :8]
    report = run.evaluate("verify", x, pairs, keys=KEYS, images=digests, fars="0.5")
    assert report.provenance[BOTH_LABELS] == (
        "1 pairs of images are called genuine and, by other names, impostors, first P0/0.jpg and "
        "P1/1.jpg, and P1/5.jpg and P0/4.jpg"
    )
    pairs = PairSet(pairs.left, pairs.right, np.array([True, True, False, True, False]), None)
    report = run.evaluate("verify", x, pairs, keys=KEYS, images=digests, fars="0.5")
    assert BOTH_LABELS not in report.provenance


def test_of_many_rows_every_nth_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared, "_ROWS", 5)
    monkeypatch.setattr(shared, "_BLOCK", 2)
    told = of_several_images(np.zeros((12, 3)), KEYS)[SHARED]  # rows 0, 3, 6, 9
    assert told.startswith("4 of 4 images share") and "P0/0.jpg, P3/3.jpg, P2/6.jpg" in told


def test_it_is_in_the_report_and_on_stderr(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    x = same([2, 5, 7])
    who = [k % 4 for k in range(12)]
    report = run.evaluate("all-vs-all", x, who, keys=KEYS)
    assert "3 of them one" in report.provenance[SHARED]
    assert SHARED not in run.evaluate("all-vs-all", X, who, keys=KEYS).provenance
    np.save(tmp_path / "F.npy", x)
    (tmp_path / "K.txt").write_text("\n".join(KEYS))
    options = ["--features", str(tmp_path / "F.npy"), "--keys", str(tmp_path / "K.txt")]
    assert cli.run(["people", *options, "--json", str(tmp_path / "r.json")]) == 0
    told = "warning: 3 of 12 images share a vector with another, 3 of them one, P2/2.jpg"
    assert told in capsys.readouterr().err
    assert SHARED in json.loads((tmp_path / "r.json").read_text())["provenance"]


def test_a_name_of_two_rows_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert of_one_name(KEYS) == {}
    keys = [*KEYS[:4], KEYS[3], *KEYS[5:]]  # of another person's row
    who = [k % 4 for k in range(12)]
    told = run.evaluate("all-vs-all", X, who, keys=keys).provenance[ONE_NAME]
    assert told.startswith(f"2 of 12 rows have the name of another, {KEYS[3]}: one image")
    assert ONE_NAME not in run.evaluate("all-vs-all", X, who, keys=KEYS).provenance
    np.save(tmp_path / "F.npy", X)
    (tmp_path / "K.txt").write_text("\n".join(keys))
    options = ["--features", str(tmp_path / "F.npy"), "--keys", str(tmp_path / "K.txt")]
    assert cli.run(["people", *options, "--json", str(tmp_path / "r.json")]) == 0
    assert "warning: 2 of 12 rows have the name of another" in capsys.readouterr().err
    assert json.loads((tmp_path / "r.json").read_text())["provenance"][ONE_NAME] == told
