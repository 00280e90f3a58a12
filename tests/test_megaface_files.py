import contextlib
import json
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evalkit.datasets import megaface
from evalkit.errors import DataError
from evalkit.keys import ending_in
from evalkit.vectors import devkit_matrix

LISTS = "megaface/templatelists"


def test_the_devkits_probe_lists(shared_data: Path) -> None:
    probes = megaface.read_probe_list(shared_data / LISTS / "facescrub_features_list.json")
    counts = np.bincount(probes.subject)
    assert len(probes.keys) == 3530 and len(counts) == 80
    assert (counts.min(), counts.max(), int((counts * (counts - 1)).sum())) == (27, 50, 153_634)
    fgnet = megaface.read_probe_list(shared_data / LISTS / "fgnet_feature_list.json")
    assert len(fgnet.keys) == 975


def test_the_devkits_distractor_lists(shared_data: Path) -> None:
    found = {}
    for path in (shared_data / LISTS).glob("megaface_features_list.json_*"):
        found[path.name] = megaface.read_distractor_list(path)
    assert sorted(d.size for d in found.values()) == [10, 100, 1000, 10000]
    assert all(d.size == len(d.keys) and d.set == 1 for d in found.values())


def test_the_noise_lists(shared_data: Path) -> None:
    probes = megaface.read_probe_list(shared_data / LISTS / "facescrub_features_list.json")
    of_probes = megaface.read_noises(shared_data / "megaface/noise_lists/facescrub_noises.txt")
    others = megaface.read_noises(shared_data / "megaface/noise_lists/megaface_noises.txt")
    assert (len(of_probes), len(others)) == (605, 707)
    assert (ending_in(probes.keys, of_probes) >= 0).sum() == 24
    tenk = megaface.read_distractor_list(
        shared_data / LISTS / "megaface_features_list.json_10000_1"
    )
    assert (ending_in(tenk.keys, others) >= 0).sum() == 7


def test_a_noise_line_may_carry_its_name_after_a_tab(tmp_path: Path) -> None:
    path = tmp_path / "noises.txt"
    path.write_text("#comment\n3\t1/2@N0/3_0.jpg\nA_B_1.png\n\n")
    noises = megaface.read_noises(path)
    keys = ["1/2@N0/3_0.jpg", "x/1/2@N0/3_0", "9/2@N0/3_0.jpg", "A_B/A_B_1.jpg"]
    assert (ending_in(keys, noises) >= 0).tolist() == [True, True, False, True]


def test_a_missing_feature_is_named(tmp_path: Path) -> None:
    devkit_matrix.write_feature(tmp_path / "a.jpg_x.bin", np.ones(3))
    with pytest.raises(DataError, match=r"lacks the features of 2 of 3 images: b\.jpg, c\.jpg"):
        megaface.read_folder(tmp_path, ["a.jpg", "b.jpg", "c.jpg"], "_x.bin")
    assert megaface.read_folder(tmp_path, ["a.jpg"], "_x.bin").tolist() == [[1, 1, 1]]


def test_the_algorithm_is_named_as_the_devkit_does() -> None:
    assert [megaface.algorithm(e) for e in ["_foam.bin", ".bin", "_a_b.x.bin"]] == [
        "foam",
        "features",
        "a_b",
    ]


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ("{", "is not a MegaFace list"),
        ("[" * 100_000, "is not a MegaFace list"),
        ("[]", "'path' is not a list"),
        ('{"path": [1], "id": ["a"]}', "'path' is not a list of texts"),
        ('{"path": ["a"], "id": []}', r"have \[0, 1\] entries"),
        ('{"path": [], "id": []}', r"have \[0\] entries"),
        ('{"path": ["a", "a"], "id": ["x", "x"]}', "lists 'a' twice"),
        ('{"path": ["p/a", "./p/a"], "id": ["x", "x"]}', "lists 'p/a' twice"),
        (r'{"path": ["p/a", "p\\\\a"], "id": ["x", "x"]}', "lists 'p/a' twice"),
        ('{"path": ["a", "b"], "id": ["x", " "]}', "gives no id for 1 of 2 images: b"),
        ('{"path": ["a", "b"], "id": ["P_x", "p x "]}', "ids that differ in case or blanks alone"),
    ],
)
def test_what_is_no_list_is_refused(tmp_path: Path, document: str, message: str) -> None:
    path = tmp_path / "list.json"
    path.write_text(document)
    with pytest.raises(DataError, match=message):
        megaface.read_probe_list(path)


def test_a_cut_list_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "d.json_3_1"
    path.write_text(json.dumps({"path": ["a", "b"]}))
    with pytest.raises(DataError, match="says 3 distractors and lists 2"):
        megaface.read_distractor_list(path)


def test_models(tmp_path: Path) -> None:
    path = tmp_path / "jb.bin"
    path.write_bytes(bytes(48))
    assert megaface.read_model(path) is None
    matrix = lambda r, c: struct.pack("<4i", r, c, 4 * c, 5) + bytes(4 * r * c)  # noqa: E731
    path.write_bytes(matrix(1, 4) + matrix(2, 4) + matrix(3, 4))
    model = megaface.read_model(path)
    assert model and (model.mean.shape, model.u.shape, model.v.shape) == ((4,), (2, 4), (3, 4))
    path.write_bytes(matrix(1, 4) + matrix(2, 3) + matrix(3, 4))
    with pytest.raises(DataError, match="expected mean"):
        megaface.read_model(path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_any_bytes_give_lists_or_one_clear_error(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "x_2_1"
    path.write_bytes(data)
    readers = (
        megaface.read_probe_list,
        megaface.read_distractor_list,
        megaface.read_noises,
        megaface.read_model,
    )
    for read in readers:
        with contextlib.suppress(DataError):
            read(path)
