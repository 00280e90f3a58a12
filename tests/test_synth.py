import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from evalkit import report as reports
from evalkit import synth
from evalkit.cli import cli
from evalkit.errors import ProtocolError
from evalkit.protocols import metrics
from evalkit.protocols.metrics.similarity import exact_scores, normalise
from evalkit.vectors import devkit_matrix


@pytest.fixture(scope="module")
def small() -> synth.FaceSet:
    return synth.FaceSet(subjects=20, images=5, distractors=1000, seed=3)


Scores = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


@pytest.fixture(scope="module")
def scores(small: synth.FaceSet) -> Scores:
    """Compute every score the slow way: genuine, impostor, and per ordered pair mate and best."""
    faces = small
    x = normalise(np.concatenate(list(faces.blocks())))
    assert x.shape == (faces.rows, faces.dim)
    probe, other = np.arange(faces.probes), np.arange(faces.probes, faces.rows)
    p, d = (a.ravel() for a in np.meshgrid(probe, other, indexing="ij"))
    impostor = exact_scores(x, p, x, d).reshape(len(probe), len(other))
    subject = faces.subject()[: faces.probes]
    i, j = np.nonzero((subject[:, None] == subject) & ~np.eye(len(probe), dtype=bool))
    ordered = exact_scores(x, i, x, j)
    return ordered[i < j], impostor, ordered, impostor.max(axis=1)[i]


def test_the_answer_is_what_all_pairs_give(small: synth.FaceSet, scores: Scores) -> None:
    genuine, impostor, mate, best = scores
    given = synth.answer(small).metrics
    known = 0
    for far in synth.FARS:
        ours = given[f"tpr@far={far}"]
        true = metrics.tpr_at_far(genuine, impostor.ravel(), far)
        assert ours.value in (true.value, None), far
        known += ours.value is not None
        if ours.value is not None:
            assert ours == true
    assert known >= 2
    assert given["rank-1@distractors=1000"].value == np.mean(mate >= best)
    assert impostor.max() > small.ceiling


def test_open_set_search_is_known_too(small: synth.FaceSet, scores: Scores) -> None:
    _, impostor, mate, best = scores
    ours = synth.answer(small, fpir="2e-2").metrics["tpir@fpir=2e-2"]
    threshold = metrics.threshold_at_far(impostor.max(axis=1), "2e-2")
    assert ours.threshold == threshold
    assert ours.value == np.mean((mate >= threshold) & (mate >= best))


def test_independent_rows_stay_below_the_ceiling(small: synth.FaceSet, scores: Scores) -> None:
    _, impostor, *_ = scores
    independent = np.delete(impostor, small.places - small.probes, axis=1)
    assert independent.max() < small.ceiling
    assert 0.08 < independent.std() < 0.12  # as in real embeddings


def test_the_files_hold_what_was_drawn(small: synth.FaceSet, tmp_path: Path) -> None:
    rows = np.concatenate(list(small.blocks()))
    assert list(synth.write(small, tmp_path))[-1] == small.rows
    assert np.array_equal(np.load(tmp_path / "features.npy"), rows)
    list(synth.write(small, tmp_path, "bin"))
    assert np.array_equal(devkit_matrix.map_matrix(tmp_path / "features.bin"), rows)
    lines = (tmp_path / "subjects.txt").read_text().splitlines()
    assert lines[:6] == ["0"] * 5 + ["1"] and set(lines[small.probes :]) == {"-"}
    assert reports.read(tmp_path / "answer.json").protocol == "trillion"
    assert json.loads((tmp_path / "answer.json").read_text())["provenance"]["seed"] == 3


def test_the_command_writes_the_set(tmp_path: Path) -> None:
    options = ["--subjects", "2", "--images", "3", "--distractors", "9", "--dim", "128"]
    done = CliRunner().invoke(cli, ["synth", str(tmp_path / "s"), "--quiet", *options])
    assert done.exit_code == 0, done.output
    assert np.load(tmp_path / "s" / "features.npy").shape == (15, 128)
    assert done.stdout == f"{tmp_path / 's'}: 15 rows, 54 impostor pairs\n"


def test_another_seed_is_another_set(small: synth.FaceSet) -> None:
    other = synth.FaceSet(subjects=20, images=5, distractors=1000, seed=4)
    assert not np.array_equal(small.images_of(0), other.images_of(0))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"subjects": 3, "images": 1, "distractors": 9}, "two images"),
        ({"subjects": 3, "images": 2, "distractors": 2}, "need as many distractors"),
        ({"subjects": 3, "images": 2, "distractors": 9, "dim": 8}, "take at least 128"),
    ],
)
def test_sets_without_a_known_answer_are_refused(fields: dict[str, int], message: str) -> None:
    with pytest.raises(ProtocolError, match=message):
        synth.FaceSet(**fields)
