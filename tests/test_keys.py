from pathlib import Path

import numpy as np
import pytest

from evalkit.datasets.lfw import parse_pairs
from evalkit.datasets.trillion import read_subjects
from evalkit.errors import DataError
from evalkit.identity import digest
from evalkit.keys import rows_of, subjects_of


@pytest.mark.parametrize(
    "have",
    [
        ["B/B_0001.jpg", "A/A_0001.jpg"],
        ["lfw/B/B_0001.png", "lfw/A/A_0001.png"],
        ["B_0001", "A_0001"],
        ["x\\B\\B_0001.jpg", "x\\A\\A_0001.jpg"],
    ],
)
def test_prefix_and_suffix_do_not_matter(have: list[str]) -> None:
    assert rows_of(["A/A_0001.jpg", "B/B_0001.jpg"], have).tolist() == [1, 0]


def test_a_dot_in_a_name_is_not_a_suffix() -> None:
    assert rows_of(["J.K/J.K_0001"], ["J.K/J.K_0001.jpg"]).tolist() == [0]


def test_the_deepest_match_wins_over_a_shared_file_name() -> None:
    assert rows_of(["A/1.jpg", "B/1.jpg"], ["B/1.jpg", "A/1.jpg"]).tolist() == [1, 0]


def test_missing_keys_are_listed() -> None:
    with pytest.raises(DataError, match="missing for 1 of 2 images: B/B_0001"):
        rows_of(["A/A_0001.jpg", "B/B_0001.jpg"], ["A/A_0001.jpg"])


def test_two_rows_for_one_key_are_named() -> None:
    with pytest.raises(DataError, match=r"two rows of features claim 'A/A_0001': rows 0 .* and 2"):
        rows_of(["A/A_0001.jpg"], ["p/A/A_0001.jpg", "B/B_0001.jpg", "q/A/A_0001.png"])


@pytest.mark.parametrize("wanted", [["A/1.jpg", "B/1.jpg"], ["A/1.jpg", "A/1.png"]])
def test_two_images_do_not_share_a_row(wanted: list[str]) -> None:
    with pytest.raises(DataError, match=r"'A/1.jpg' and './1....' would share the one row"):
        rows_of(wanted, ["1", "2"])
    assert rows_of(["A/1.jpg", "A/1.jpg"], ["1", "2"]).tolist() == [0, 0]


def test_one_name_in_two_forms_of_unicode_is_one_name(tmp_path: Path) -> None:
    composed, parted = "Jos\u00e9", "Jose\u0301"
    assert rows_of([f"{composed}/1.jpg"], ["A/1.jpg", f"{parted}/1.jpg"]).tolist() == [1]
    assert subjects_of([f"{composed}/1.jpg", f"{parted}/2.jpg", "A/1.jpg"]).tolist() == [1, 1, 0]
    (tmp_path / "who.txt").write_text(f"{composed}\n{parted}\n-\n", encoding="utf-8")
    assert read_subjects(tmp_path / "who.txt").tolist() == [0, 0, -1]
    listed = parse_pairs(f"{composed}\t1\t2\n{parted}\t3\tA\t1\n", "list")
    assert listed.resolve()[0].subject.tolist() == [0, 1, 1, 1]


def test_nothing_wanted_is_nothing_found() -> None:
    assert rows_of([], ["a"]).dtype == np.int64


def test_a_digest_tells_names_numbers_and_where_a_list_ends() -> None:
    names, who = ["a", "b"], np.array([0, 1], np.int32)
    same = digest(names, who)
    assert same == digest(tuple(names), who.astype(np.int64))
    changed = [(["b", "a"], who), (names, who[::-1]), (names, who[:, None]), (["a"], ["b"], who)]
    assert len({same, *(digest(*columns) for columns in changed)}) == 5
