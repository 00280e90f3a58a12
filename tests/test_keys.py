from collections.abc import Iterable
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalkit import load_model
from evalkit.adapters.presets import build
from evalkit.bench import BenchSet, embed_sets
from evalkit.cli.megaface import _taker
from evalkit.datasets import ijb, lfw, megaface, pair_list_layouts
from evalkit.datasets.lfw import parse_pairs
from evalkit.datasets.trillion import read_subjects
from evalkit.embedding.from_images import source_of
from evalkit.errors import DataError
from evalkit.identity import digest
from evalkit.images import find, landmarks
from evalkit.images.landmarks import Landmarks
from evalkit.keys import (
    Spelled,
    canonical,
    canonical_of,
    other_folders,
    read_keys,
    rows_of,
    subjects_of,
)
from evalkit.protocols.recipes.recipe import Recipe
from evalkit.run import Compared
from evalkit.templates import ListedImages
from evalkit.types import Manifest
from evalkit.vectors import readers
from evalkit.vectors.matching import Vectors

PARTS = st.sampled_from(["/", ".", "\\", "a", "b", ".jpg", ".JPG", ".npy", ".x", " ", "é", ".."])


@given(st.lists(PARTS, max_size=8).map("".join))
def test_a_key_is_spelled_as_a_path_is(key: str) -> None:
    path = PurePosixPath(key.strip(" ").replace("\\", "/"))
    cut = path.suffix if path.suffix.lower() in (".jpg", ".npy") else ""
    assert canonical(key) == str(path).removesuffix(cut)


PARTS = [
    "a",
    "é",
    "e\u0301",
    "/",
    "//",
    "./",
    "\\",
    "\n",
    " ",
    "\t",
    "\0",
    ".jpg",
    ".PNG",
    ".x",
    ".heics",
]


@given(st.lists(st.lists(st.sampled_from(PARTS), min_size=1, max_size=4).map("".join), max_size=4))
def test_many_keys_are_spelled_as_each_is(keys: list[str]) -> None:
    assert canonical_of(keys) == [canonical(key) for key in keys]


@given(st.lists(st.lists(st.sampled_from(["a", "/b", ".jpg", ".JPG", ".x", "c d"]), min_size=1)))
def test_many_usual_keys_are_spelled_as_each_is(parts: list[list[str]]) -> None:
    keys = ["k" + "".join(some) for some in parts]
    assert canonical_of(keys) == [canonical(key) for key in keys]


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


def test_paths_as_windows_writes_them(tmp_path: Path) -> None:
    assert subjects_of(["A\\1.jpg", "A/2.jpg", "B\\1.jpg"]).tolist() == [0, 0, 1]
    assert lfw.subject(r"lfw\A\A_1.jpg") == "A"
    (tmp_path / "pairs.csv").write_text("A\\1.jpg,A\\2.jpg,1\nA\\1.jpg,B\\1.jpg,0\n")
    keys = pair_list_layouts.read(tmp_path / "pairs.csv").pairs.resolve()[0].keys
    assert rows_of(keys, ["lfw/B/1.png", "lfw/A/2.png", "lfw/A/1.png"]).tolist() == [2, 1, 0]
    for name in ("A/1.jpg", "B/1.jpg", r"C\1.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    (tmp_path / "list.txt").write_text("sep=;\r\nA\\1.jpg;7\r\nB/1.jpg;7\r\nC\\1.jpg;8\r\n")
    found = find(tmp_path / "list.txt")
    assert [found.raw(row) for row in range(3)] == [b"A/1.jpg", b"B/1.jpg", rb"C\1.jpg"]
    assert found.manifest().subject.tolist() == [0, 0, 1]
    assert found.left_out == (r"1 path is read with / for \: A\1.jpg",)


def test_a_dot_in_a_name_is_not_a_suffix() -> None:
    assert rows_of(["J.K/J.K_0001"], ["J.K/J.K_0001.jpg"]).tolist() == [0]


def test_the_deepest_match_wins_over_a_shared_file_name() -> None:
    assert rows_of(["A/1.jpg", "B/1.jpg"], ["B/1.jpg", "A/1.jpg"]).tolist() == [1, 0]


def test_missing_keys_are_listed() -> None:
    with pytest.raises(DataError, match="missing for 1 of 2 images: B/B_0001"):
        rows_of(["A/A_0001.jpg", "B/B_0001.jpg"], ["A/A_0001.jpg"])


def test_names_are_spelled_once_for_several_lists() -> None:
    have = ["p/A/1.jpg.png", "p/B/2.jpg", "C\\\\3"]
    spelled = Spelled(map(canonical, have))
    assert spelled == ["p/A/1.jpg", "p/B/2", "C/3"]
    for wanted in (["A/1.jpg.jpeg", "B/2.png"], ["2.jpg"], ["3", "1.jpg.jpg", "2"]):
        assert rows_of(wanted, spelled).tolist() == rows_of(wanted, have).tolist()
    with pytest.raises(DataError, match="missing for 1 of 1 images"):
        rows_of(["1.jpg"], spelled)  # which is 1: the name in the file is 1.jpg, without its .png


def test_megaface_spells_the_names_of_a_file_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = list[str]()

    def spelled(names: Iterable[str]) -> list[str]:
        told.extend(names := [*names])
        return canonical_of(names)

    monkeypatch.setattr("evalkit.keys.canonical_of", spelled)
    take = _taker(Vectors(np.eye(3), {}, keys=["a", "b", "c"]), Recipe())
    told.clear()
    for wanted in (["a"], ["a", "b"], ["a", "b", "c"]):
        assert len(take(wanted, "features")[0]) == len(wanted)
    assert len(told) == 6


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


def test_a_name_may_stand_twice_before_equal_rows() -> None:
    x = np.array([[1.0, 2], [3, 4], [1, 2], [1, 2]])
    have = ["a.jpg", "b.jpg", "a.jpg", "a.jpg"]
    equal = lambda a, b: bool((x[a] == x[b]).all())  # noqa: E731
    assert rows_of(["b.jpg", "a.jpg"], have, equal=equal).tolist() == [1, 0]
    x[3] = 5
    with pytest.raises(DataError, match=r"two rows of features claim 'a': rows 0 .* and 3"):
        rows_of(["b.jpg", "a.jpg"], have, equal=equal)


@pytest.mark.parametrize(
    ("wanted", "have", "differ"),
    [
        ("./lfw/0.jpg", "agedb/0.jpg", True),
        ("lfw/x/0.jpg", "agedb\\x\\0", True),
        ("lfw/A/A_1.jpg", "A/A_1.png", False),
        ("A_1", "some/where/A/A_1.jpg", False),
    ],
)
def test_names_of_another_folder_are_told(wanted: str, have: str, differ: bool) -> None:
    told = other_folders([wanted], [have], rows_of([wanted], [have]))
    assert bool(told) == differ and (have in told) == differ


@pytest.mark.parametrize(
    ("wanted", "have", "refused"),
    [
        ("lfw/0.jpg", "agedb/0.jpg", True),
        ("A/1.jpg", "data/B/1.png", True),
        ("lfw/A/1.jpg", "lfw-112/A/1.jpg", False),  # by the folder A and the name
        ("A/1.jpg", "1.jpg", False),
        ("1.jpg", "A/1.jpg", False),
    ],
)
def test_a_name_alone_does_not_match_another_folder(wanted: str, have: str, refused: bool) -> None:
    def matched() -> None:
        assert rows_of([wanted], [have], "images", same_folders=True).tolist() == [0]

    if not refused:
        matched()
        return
    with pytest.raises(DataError, match=r"images match 1 of 1 images by name alone"):
        matched()


def test_images_landmarks_and_scores_of_another_set_are_refused() -> None:
    pixels = np.zeros((1, 2, 2, 3), np.uint8)
    with pytest.raises(DataError, match=r"images match .*: lfw/0 is not agedb/0"):
        source_of(pixels, ["agedb/0.jpg"]).select(["lfw/0.jpg"])
    points = Landmarks(("agedb/0.jpg",), np.zeros((1, 5, 2), np.float32))
    with pytest.raises(DataError, match="landmarks match"):
        points.of(["lfw/0.jpg"])
    media = ijb.Media(("a/1.jpg",), np.array([1]), np.array([1]))
    found = ijb.Detections(("b/1.jpg",), points.points, np.ones(1, np.float32))
    with pytest.raises(DataError, match="detection scores match"):
        ListedImages(file="x", media=media, detections=found).scores()


def test_outer_folders_that_differ_are_told_of_images_and_landmarks() -> None:
    wanted, said = ["lfw/A/1.jpg", "lfw/A/2.jpg"], "differ for 2 of 2 images: lfw/A/1.jpg is taken"
    images = source_of(np.zeros((2, 2, 2, 3), np.uint8), ["lfw-112/A/1.jpg", "lfw-112/A/2.jpg"])
    (line,) = images.select(wanted).left_out
    assert line.startswith("images are matched") and said in line
    assert not images.select(["A/1", "lfw-112/A/2.png"]).left_out
    points = Landmarks(images.keys, np.zeros((2, 5, 2), np.float32))
    assert said in points.folder_note(wanted) and points.folder_note(["A/1", "A/2"]) == ""


def test_what_is_told_of_images_is_told_of_sets_in_memory() -> None:
    images = source_of(np.full((2, 8, 8, 3), 9, np.uint8), ["lfw-112/A/1.jpg", "lfw-112/A/2.jpg"])
    wanted = Manifest(("lfw/A/1.jpg", "lfw/A/2.jpg"), np.zeros(2, np.int32))
    compared = Compared(manifest=wanted, arguments=(), provenance={})
    one = BenchSet(name="faces", path=Path("faces"), images=images, comparisons=compared)
    spec = build({"size": (8, 8), "color": "rgb", "mean": (0, 0, 0), "std": (1, 1, 1)})
    model, said = load_model(lambda x: x.mean(axis=(1, 2)), spec=spec), list[str]()
    made = embed_sets(model, [one], say=said.append)["faces"]
    (line,) = made.provenance["made"]["left out"]
    assert said == [f"faces: {line}"] and "which differ for 2 of 2 images" in line


def test_keys_as_numpy_saves_them(tmp_path: Path) -> None:
    path, keys = tmp_path / "k.npy", ["A/1.jpg", "é/2.jpg"]
    np.save(path, keys)
    assert read_keys(path) == keys
    np.save(path, [k.encode() for k in keys])
    assert read_keys(path) == keys
    no_text = np.array([0x110000, 65], np.uint32).view("U2")  # no character has that number
    for wrong in (np.array(keys, object), np.arange(2), np.array([keys]), no_text):
        np.save(path, wrong)
        with pytest.raises(DataError, match=r"k\.npy (is not an array of texts|holds )"):
            read_keys(path)


def test_nothing_wanted_is_nothing_found() -> None:
    assert rows_of([], ["a"]).dtype == np.int64


def test_a_digest_tells_names_numbers_and_where_a_list_ends() -> None:
    names, who = ["a", "b"], np.array([0, 1], np.int32)
    same = digest(names, who)
    assert same == digest(tuple(names), who.astype(np.int64))
    changed = [(["b", "a"], who), (names, who[::-1]), (names, who[:, None]), (["a"], ["b"], who)]
    assert len({same, *(digest(*columns) for columns in changed)}) == 5


NO_LINE_ENDS = [
    "\x0b",
    "\x0c",
    "\x1c",
    "\x1d",
    "\x1e",
    "\x85",
    "\xa0",
    "\u1680",
    "\u2000",
    "\u2028",
    "\u2029",
    "\u202f",
    "\u3000",
    "\r",
]
# By the list's reader: its text for the names a and b, and the names that it read.
LISTS = {
    "keys": ("{a}\n{b}\n", read_keys),
    "images": ("{a}\n{b}\n", lambda path: list(find(path).keys)),
    "subjects": ("{a}\n{b}\n{a}\n", lambda path: read_subjects(path).tolist()),
    "noises": ("{a}.jpg\n1\t{b}.jpg\n", lambda path: sorted(megaface.read_noises(path))),
    "labelled": (
        "{a} {b} 1\n{a}\t{b}\t0\n",
        lambda path: _pair(pair_list_layouts.read(path, "labelled")),
    ),
    "comma": ("{a},{b},1\n", lambda path: _pair(pair_list_layouts.read(path, "labelled"))),
    "two-line": ("{a} 1\n{b} 1\n", lambda path: _pair(pair_list_layouts.read(path, "two-line"))),
    "lfw": ("{a} 1 {b} 1\n", lambda path: _pair(pair_list_layouts.read(path, "lfw"))),
    "landmarks": (
        "{a} 1 1 2 1 1.5 2 1 3 2 3\n{b},1,1,2,1,1.5,2,1,3,2,3\n",
        lambda path: list(landmarks.read(path).keys),
    ),
    "media": ("{a} 1 2\n{b}\t1\t2\n", lambda path: list(ijb.read_media(path).names)),
    "csv": ("{a},1,2\n{b},3,4\n", lambda path: _csv(path)),
}


def _pair(held: pair_list_layouts.VerificationSet) -> list[str]:
    return [held.pairs.left[0], held.pairs.right[0]]


def _csv(path: Path) -> list[str]:
    held = readers.in_blocks(path.rename(path.with_suffix(".csv")))
    assert held.keys is not None
    return list(held.keys)


@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=ascii)
@pytest.mark.parametrize(
    ("kind", "character"),
    # "\r" ends a row of a .csv: the next test
    [(k, c) for k in LISTS for c in NO_LINE_ENDS if (k, c) != ("csv", "\r")],
)
def test_a_character_that_ends_no_line_is_part_of_a_name(
    tmp_path: Path, kind: str, character: str, end: str
) -> None:
    last = "" if character == "\r" else character  # before \n it is a line's end
    a, b = f"{character}p{character}q", f"x{character}y{last}"
    text, read = LISTS[kind]
    if kind == "images":
        for name in (a, b):
            (tmp_path / name).write_bytes(b"")
    path = tmp_path / "list.txt"
    path.write_bytes(text.format(a=a, b=b).replace("\n", end).encode())
    expected = {
        "subjects": [0, 1, 0],
        "noises": sorted(map(canonical, (a, b))),
        "lfw": [lfw.key(a, 1), lfw.key(b, 1)],
    }.get(kind, [a, b])
    assert read(path) == expected


def test_a_carriage_return_within_a_row_of_a_table_is_told(tmp_path: Path) -> None:
    (tmp_path / "v.csv").write_bytes(b"a\rb,1,2\n")
    with pytest.raises(DataError, match=r"v\.csv is not a table"):
        readers.in_blocks(tmp_path / "v.csv")
