"""Verification sets in the layouts people have: read right, or refused with the wrong line."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.io import savemat

from evalkit import tables
from evalkit.cli import run
from evalkit.datasets import agedb, bcolz, cfp, lfw, pair_list, pair_list_layouts, youtube_faces
from evalkit.datasets.pair_list import (
    LABEL_FIRST,
    LABELLED,
    PairList,
    of_table,
    parse_two_line,
)
from evalkit.errors import DataError

pytestmark = pytest.mark.once

GOLDEN = Path(__file__).parent / "golden" / "bcolz"


def labelled(text: str, layout: tuple[str, ...] = LABELLED) -> PairList:
    return of_table(tables.read(text, "x", [layout], LABELLED, numbers_name=True), "x")


def test_labelled_lists_with_the_label_on_either_side() -> None:
    last = labelled("a/1.jpg\tb/2.jpg\t0\n\na/1.jpg\ta 2.jpg\t1")
    first = labelled("0\ta/1.jpg\tb/2.jpg\n1\ta/1.jpg\ta 2.jpg\n", LABEL_FIRST)
    for got in (last, first):
        assert got.left == ("a/1.jpg", "a/1.jpg") and got.right == ("b/2.jpg", "a 2.jpg")
        assert got.genuine.tolist() == [False, True] and got.fold is None
    with pytest.raises(DataError, match=r"line 2: expected 'path path 0\|1', got 'c d 2'"):
        labelled("a b 1\nc d 2\n")


def test_people_of_a_list_that_names_none_are_what_genuine_pairs_join() -> None:
    manifest, _ = labelled("a b 1\nb c 1\nd e 1\na d 0\nf a 0").resolve()
    person = dict(zip(manifest.keys, manifest.subject.tolist(), strict=True))
    assert person["a"] == person["b"] == person["c"]
    assert person["d"] == person["e"] and len({*person.values()}) == 3


def two_line(tokens: list[int]) -> str:
    return "".join(f"P_{n}.jpg {t}\nQ_{n}.jpg {t}\n" for n, t in enumerate(tokens))


@pytest.mark.parametrize(
    ("lines", "people"),
    [
        ("A/1 A/2 1\nB/1 B/2 1\nA/3 B/3 0", [0, 0, 0, 1, 1, 1]),  # A/3 and B/3 in no genuine pair
        ("x/A/1.jpg x/A/2.jpg 1\nx\\B\\1.jpg x/A/3.jpg 0", [0, 0, 0, 1]),
        ("A/1 A/2 1\nA/3 A/4 0", [0, 0, 1, 2]),  # a folder of several people
        ("left/1 right/1 1\nleft/1 right/2 0", [0, 0, 1]),  # a person in several folders
        ("A/1 A/2 1\n3 A/2 0", [1, 0, 0]),
        ("A_1 A_2 1\nA_3 B_3 0", [0, 0, 0, 1]),  # CPLFW, without folders
        ("x/A-1 x/A-2 1\nx/A-3 x/B-3 0", [0, 0, 0, 1]),
        ("A_1_1 A_2_2 1\nA_3_1 B_3_2 0", [0, 0, 0, 1]),  # MLFW
        ("1_A_3_f 2_A_9_f 1\n4_A_5_f 5_B_6_m 0", [0, 0, 0, 1]),  # AgeDB
        ("A_1 B_1 1\nA_2 B_2 0", [0, 1, 0, 2]),  # names of cameras
        ("A_1 A_2 1\nA_3 A_4 1", [0, 0, 1, 1]),  # of one class, which says nothing of names
        ("A/1/ A/2/ 1\nA/3/ B/1/ 0", [0, 0, 0, 1]),  # videos
    ],
)
def test_folders_and_names_say_who_is_on_an_image_where_they_agree_with_every_label(
    lines: str, people: list[int]
) -> None:
    subject = labelled(lines).resolve()[0].subject
    np.testing.assert_array_equal(np.equal.outer(subject, subject), np.equal.outer(people, people))


def test_a_list_of_lfws_paths_has_lfws_people() -> None:
    official = lfw.official_pairs()
    manifest, _ = official.resolve()
    lines = zip(official.left, official.right, official.genuine, strict=True)
    again, _ = labelled("\n".join(f"{a} {b} {int(g)}" for a, b, g in lines)).resolve()
    assert again.keys == manifest.keys and np.array_equal(again.subject, manifest.subject)


def test_cplfw_has_no_folds_and_calfw_those_of_its_genuine_pairs() -> None:
    cplfw = parse_two_line(two_line([1] * 4 + [0] * 4), "x")
    assert cplfw.fold is None and cplfw.genuine.sum() == 4 and cplfw.right[5] == "Q_5.jpg"
    calfw = parse_two_line(two_line([1, 1, 2, 2, 3, 3, *[0] * 6]), "x")
    assert calfw.fold is not None and "k-th part" in calfw.fold_rule
    assert calfw.fold.tolist() == [0, 0, 1, 1, 2, 2] * 2
    for broken in (two_line([1])[:-8], "a.jpg 1\nb.jpg 0\n", "a.jpg\nb.jpg\n"):
        with pytest.raises(DataError, match="line 1: expected two lines 'image token'"):
            parse_two_line(broken, "x")


@pytest.mark.parametrize("tokens", [[0, 0, 1, 1, 2, 2], [1, 2, 3]])
def test_a_list_of_people_by_two_images_is_no_list_of_pairs(tokens: list[int]) -> None:
    with pytest.raises(DataError, match=f"labels 0 to {max(tokens)}.* are they people"):
        parse_two_line(two_line(tokens), "x")


@pytest.mark.parametrize("name", ["distance", "Prediction", "cos_sim", "dissimilarity"])
def test_labels_that_are_called_as_scores_are_refused(tmp_path: Path, name: str) -> None:
    """Of distances 0 is the nearest, and predictions of 0 and 1 are a model's."""
    path = tmp_path / "pairs.csv"
    path.write_text(f"img1,img2,{name}\na.jpg,b.jpg,1\na.jpg,c.jpg,0\n")
    with pytest.raises(DataError, match=f"no labels but a column called '{name}'") as told:
        pair_list_layouts.read(path)
    assert f"--columns label={name}" in told.value.hint
    columns = {"left": "img1", "right": "img2", "label": name}
    assert pair_list_layouts.read(path, None, columns).pairs.genuine.tolist() == [True, False]
    path.write_text(f"img1,img2,{name},label\na.jpg,b.jpg,0,1\na.jpg,c.jpg,1,0\n")
    assert pair_list_layouts.read(path).pairs.genuine.tolist() == [True, False]


def cfp_folder(root: Path, folds: int = 10) -> Path:
    protocol = root / "Protocol"
    protocol.mkdir()
    for letter, pose in (("F", "frontal"), ("P", "profile")):
        people = (f"{n + 1} ../Data/Images/{n // 2:03d}/{pose}/{n % 2:02d}.jpg" for n in range(40))
        (protocol / f"Pair_list_{letter}.txt").write_text("\n".join(people))
    for split in ("FF", "FP"):
        for k in range(folds):
            folder = protocol / "Split" / split / f"{k + 1:02d}"
            folder.mkdir(parents=True)
            (folder / "same.txt").write_text(f"{2 * k + 1},{2 * k + 2}\n{2 * k + 2},{2 * k + 1}\n")
            (folder / "diff.txt").write_text(f"{2 * k + 1},{2 * k + 4}\n")
    return root


def test_cfp_counts_its_images_from_one(tmp_path: Path) -> None:
    root = cfp_folder(tmp_path)
    fp = cfp.read(root, "FP")
    assert (fp.left[0], fp.right[0]) == ("000/frontal/00.jpg", "000/profile/01.jpg")
    assert (fp.left[2], fp.right[2]) == ("000/frontal/00.jpg", "001/profile/01.jpg")
    assert fp.fold is not None and fp.fold.tolist() == [k for k in range(10) for _ in range(3)]
    assert cfp.read(root, "FF").right[0] == "000/frontal/01.jpg"
    manifest, pairs = fp.resolve()
    same = manifest.subject[pairs.left] == manifest.subject[pairs.right]
    assert np.array_equal(same, pairs.genuine)
    with pytest.raises(DataError, match="two protocols"):
        pair_list_layouts.recognise(root)
    split = root / "Protocol" / "Split" / "FP" / "03"
    for text, told in (("1;2", "'i,j'"), ("1,99", "listed images"), ("1,5", "one person")):
        (split / "same.txt").write_text(text)
        with pytest.raises(DataError, match=f"line 1: expected .*{told}"):
            cfp.read(root, "FP")
    (split / "same.txt").unlink()
    with pytest.raises(DataError, match=r"same\.txt"):
        cfp.read(root, "FP")


def agedb_file(path: Path, labels: Any = (1, -1)) -> Path:
    """Nest cells and structs as the authors' files do."""
    splits = np.empty((10, 1), object)
    for k in range(10):
        images = np.empty((2, 2), object)
        for side in range(2):
            for pair in range(2):
                person = k if pair == 0 else k + side
                images[side, pair] = {"name": f"{side}_P{person}_{20 + k}_f", "age": 20 + k}
        splits[k, 0] = {"pairs": images, "labels": np.array([labels])}
    savemat(path, {"splits": splits})
    return path


def test_agedb_is_read_out_of_matlabs_nesting(tmp_path: Path) -> None:
    path = agedb_file(tmp_path / "30.mat")
    got = agedb.read(path)
    assert len(got) == 20 and got.genuine.tolist() == [True, False] * 10
    assert got.fold is not None and got.fold.tolist() == [k for k in range(10) for _ in range(2)]
    assert (got.left[1], got.right[1]) == ("0_P0_20_f.jpg", "1_P1_20_f.jpg")
    assert pair_list_layouts.read(path).layout == "agedb"
    for labels in ((1, 7), (1, -1, 1), (1,)):
        with pytest.raises(DataError):
            agedb.read(agedb_file(tmp_path / "bad.mat", labels))
    savemat(tmp_path / "other.mat", {"splits": np.eye(3)})
    with pytest.raises(DataError, match="not an AgeDB protocol"):
        agedb.read(tmp_path / "other.mat")
    with pytest.raises(DataError, match=r"no list of pairs: it holds 'splits' \(3, 3\)"):
        pair_list_layouts.read(tmp_path / "other.mat")


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 255)), max_size=5), st.data())
def test_a_damaged_mat_is_an_error_or_a_list(
    tmp_path_factory: pytest.TempPathFactory, edits: list[tuple[int, int]], data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("mat")
    whole = bytearray(agedb_file(folder / "x.mat").read_bytes())
    for at, value in edits:
        whole[at] = value
    (folder / "x.mat").write_bytes(whole[: data.draw(st.integers(0, len(whole)))])
    answered(lambda: agedb.read(folder / "x.mat"))


def answered(read: Any) -> None:
    """A list of pairs or a one-line DataError, nothing else."""
    try:
        got = read()
    except DataError as e:
        assert "\n" not in e.message
    else:
        pairs = got if isinstance(got, PairList) else got[1]
        assert len(pairs) == len(pairs.genuine) == len(pairs.line) > 0
        pairs.resolve()


def test_a_bcolz_folder_made_by_bcolz() -> None:
    """golden/bcolz/toy was written by bcolz-zipline 1.13: 6 images of 16x16, chunks of 4, lz4."""
    pytest.importorskip("numcodecs")
    source, pairs = bcolz.read(GOLDEN / "toy")
    written = (np.arange(6 * 3 * 16 * 16).reshape(6, 3, 16, 16) * 7 // 5 % 256).astype(np.uint8)
    for row in range(6):  # BGR planes there, RGB pixels here
        assert np.array_equal(source.read(row), written[row, ::-1].transpose(1, 2, 0))
    assert pairs.genuine.tolist() == [True, False, True] and pairs.right[1] == "0000003"
    assert pair_list_layouts.read(GOLDEN / "toy").layout == "bcolz"


def test_a_bcolz_folder_of_pixels_from_0_to_1_is_refused(tmp_path: Path) -> None:
    """As ToTensor without Normalize makes it: read as -1..1 all is bright."""
    blosc = pytest.importorskip("numcodecs").blosc
    toy = shutil.copytree(GOLDEN, tmp_path / "x") / "toy"
    for path in (toy / "data").glob("*.blp"):
        data = path.read_bytes()
        pixels = (np.frombuffer(blosc.decompress(data[16:]), "f4") + 1) / 2
        path.write_bytes(data[:16] + blosc.compress(pixels.tobytes(), b"lz4", 5))
    source, _ = bcolz.read(toy)
    for row in (0, 5):
        with pytest.raises(DataError, match=r"are in 0\.\.1, not in -1\.\.1"):
            source.read(row)


def test_a_broken_bcolz_folder_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("numcodecs")
    toy = tmp_path / "toy"

    def fresh() -> None:
        shutil.rmtree(tmp_path)
        shutil.copytree(GOLDEN, tmp_path)

    def sizes(shape: Any) -> None:
        (toy / "meta" / "sizes").write_text(json.dumps({"shape": shape}))

    fresh()
    data = (toy / "data" / "__0.blp").read_bytes()
    (toy / "data" / "__0.blp").write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match="cannot be unpacked"):
        bcolz.read(toy)[0].read(0)
    for shape in ([8, 3, 16, 16], [6, 3, 16], [6, 3, 1 << 20, 1 << 20], [6, 1, 48, 16], "x", None):
        sizes(shape)
        with pytest.raises(DataError):
            bcolz.read(toy)
    fresh()
    sizes([6, 3, 16, 17])
    with pytest.raises(DataError, match="not what the array needs"):
        bcolz.read(toy)[0].read(0)
    fresh()
    (tmp_path / "toy_list.npy").write_bytes(b"not numpy")
    with pytest.raises(DataError, match=r"is not a usable \.npy array"):
        bcolz.read(toy)


@settings(deadline=None)
@given(st.integers(16, 4144), st.integers(0, 255))
def test_a_damaged_chunk_is_an_error_or_an_image(
    tmp_path_factory: pytest.TempPathFactory, at: int, value: int
) -> None:
    pytest.importorskip("numcodecs")
    toy = shutil.copytree(GOLDEN, tmp_path_factory.mktemp("b") / "x") / "toy"
    data = bytearray((toy / "data" / "__0.blp").read_bytes())
    data[at] = value
    (toy / "data" / "__0.blp").write_bytes(data)
    try:
        assert bcolz.read(toy)[0].read(0).shape == (16, 16, 3)
    except DataError as e:
        assert "\n" not in e.message


@pytest.mark.parametrize(
    ("text", "layout"),
    [
        ("10\t300\nA\t1\t2", "lfw"),
        ("500\nA\t1\t2", "lfw"),
        ("m.01\t1\t2", "lfw"),
        ("A 1 B 2", "lfw"),
        ("a/1.jpg b/2.jpg 1", "labelled"),
        ("1 a/1.jpg b/2.jpg", "label-first"),
        ("a/1.jpg,b/2.jpg,True,7", "labelled"),
        ("img1;img2;same\na/1.jpg;b/2.jpg;0", "labelled"),
        ("same;img2;img1\n0;a/1.jpg;b/2.jpg", "table"),
        ("3, 1, a/1, b/2, 1", "fold-first"),
        ("name,imagenum1,imagenum2,\nA,1,2,\nA,1,B,2", "lfw"),
        ("name same\na.jpg 1\nb.jpg 1", "two-line"),
        ("a.jpg 1\nb.jpg 1", "two-line"),
        ("a.jpg 1", None),
        ("a.jpg b.jpg", None),
        ("a b c d e", None),
        ("", None),
    ],
)
def test_a_layout_is_told_only_by_what_it_alone_has(
    tmp_path: Path, text: str, layout: str | None
) -> None:
    path = tmp_path / "list.txt"
    path.write_text(text)
    if layout is None:
        with pytest.raises(DataError, match=r"is empty|line 1: expected"):
            pair_list_layouts.recognise(path)
    else:
        assert pair_list_layouts.recognise(path) == layout


@given(st.text(st.sampled_from("ab/.1203 \t\n,-\x00é")), st.sampled_from([0, 1, 2]))
def test_any_text_is_a_list_or_a_clear_error(text: str, which: int) -> None:
    parsers: Any = (
        lambda: labelled(text),
        lambda: labelled(text, LABEL_FIRST),
        lambda: parse_two_line(text, "x"),
    )
    answered(parsers[which])


@pytest.fixture
def own_list(tmp_path: Path) -> Path:
    """40 + 40 pairs of random vectors, people 12 images each, ordered by class."""
    rng = np.random.default_rng(5)
    lines = [f"p{n % 10}/{n}.jpg p{n % 10}/{n + 10}.jpg 1" for n in range(40)]
    lines += [f"p{n % 10}/{n}.jpg p{(n + 3) % 10}/{n + 3}.jpg 0" for n in range(40)]
    (tmp_path / "own.txt").write_text("\n".join(lines))
    centre = rng.normal(size=(10, 8))
    x = np.stack([centre[n % 10] + 0.5 * rng.normal(size=8) for n in range(60)])
    np.save(tmp_path / "x.npy", x.astype(np.float32))
    (tmp_path / "keys.txt").write_text("\n".join(f"p{n % 10}/{n}.jpg" for n in range(60)))
    return tmp_path


def verify(*arguments: str | Path) -> int:
    return run(["verify", *map(str, arguments)])


def test_verify_states_how_a_list_without_folds_was_split(
    own_list: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--features", own_list / "x.npy", "--keys", own_list / "keys.txt"]
    assert verify(own_list / "own.txt", *given, "--far", "0.1", "--json", "-") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["provenance"]["folds"].startswith("the list has none: fold k = k-th tenth")
    assert report["provenance"]["layout"] == "labelled"
    assert len(report["metrics"]["accuracy"]["folds"]) == 10
    assert {"accuracy", "auc", "eer", "tpr@far=0.1"} == set(report["metrics"])
    assert verify(own_list / "own.txt", *given) == 0
    assert "own.txt: 80 pairs, folds: the list has none" in capsys.readouterr().out


def test_verify_refuses_folds_of_one_class(
    own_list: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tokens = [*[1] * 15, *[3] * 15, *[0] * 30]  # no genuine pair in the second of three folds
    text = "".join(
        f"p{n % 10}/{n % 60}.jpg {t}\np{n % 10}/{(n + 10) % 60}.jpg {t}\n"
        for n, t in enumerate(tokens)
    )
    (own_list / "calfw.txt").write_text(text)
    given = ["--features", own_list / "x.npy", "--keys", own_list / "keys.txt"]
    assert verify(own_list / "calfw.txt", *given) == 3
    assert "fold 1 has only impostor pairs" in capsys.readouterr().err


def test_verify_asks_for_what_it_lacks(own_list: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify(own_list / "own.txt") == 2
    assert verify(own_list / "own.txt", "--model", "m.onnx") == 2
    assert "holds no images: add --data" in capsys.readouterr().err
    assert verify(own_list / "none.txt", "--features", own_list / "x.npy") == 3
    assert "PAIRS: no such file or folder" in capsys.readouterr().err


def test_a_pair_is_not_genuine_and_impostor() -> None:
    with pytest.raises(DataError, match="calls b and a impostors on line 3 and genuine on line 1"):
        labelled("a b 1\nc d 0\nb a 0\n").resolve()
    labelled("a b 1\nc d 0\nb a 1\n").resolve()


def test_what_makes_a_list_doubtful_is_said_and_kept(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    x = np.eye(4, dtype=np.float32)[[0, 0, 1, 1]]
    np.savez(tmp_path / "x.npz", features=x, keys=["s/a", "s/b", "s/c", "s/d"])
    pairs, out = tmp_path / "p.txt", tmp_path / "r.json"
    words = ["verify", str(pairs), "--features", str(tmp_path / "x.npz"), "--out", str(out)]
    pairs.write_text("t/a t/a 1\nt/a t/b 0\nt/c t/d 0\nt/b t/c 1\nt/a t/c 1\nt/c t/b 1\n")
    assert run(words) == 0
    said = capfd.readouterr().err
    assert "1 genuine and 0 impostor pairs are an image with itself, first t/a on line 1" in said
    assert "1 of 6 pairs repeat an earlier one, first t/c and t/b on line 6: each" in said
    assert "names differ" not in said and "4 of 4 images: t/a is taken for s/a" in said
    assert "genuine pairs score below impostors" in said
    kept = json.loads(out.read_text())["provenance"]
    assert "t/a on line 1" in kept["of one image"] and "s/a" in kept["names"]
    assert kept["listed twice"].startswith("1 of 6 pairs")


@pytest.mark.parametrize(("wrong", "told"), [(0, False), (1, True), (3, False)])
def test_labels_that_contradict_nearly_all_names_are_told(wrong: int, told: bool) -> None:
    genuine = [f"P{k}/1 P{k}/2 {int(k >= wrong)}" for k in range(20)]
    listed = labelled("\n".join([*genuine, *(f"P{k}/3 P{k + 1}/3 0" for k in range(19))]))
    doubts = listed.doubts()
    assert (pair_list.OTHERS in doubts) == told
    assert len({*listed.resolve()[0].subject.tolist()}) == (20 if wrong < 3 else 43)
    if told:
        assert doubts[pair_list.OTHERS] == (
            "1 of 39 labels contradict the folders of the images, by which people are told apart: "
            "first P0/1 and P0/2 on line 1, called impostors"
        )


TABLES = {
    "blanks": "{a} {b} {y}",
    "commas": "{a},{b},{y}",
    "quoted": '"{a}","{b}, right","{y}"',
    "blanks in names": "Jo {a} Jo {b} {y}",
    "semicolons and folds": "{a};{b};{y};{f}",
    "fold first": "{f} {a} {b} {y}",
    "an index": "{n},{a},{b},{y}",
    "YouTube Faces": "{f}, {n}, {a}, {b}, {y}",
    "words": "{a}\t{b}\t{same}",
    "a header": "label,img1,img2\n{y},{a},{b}",
    "Excel": "sep=;\n{a};{b};{y}",
    "Excel, a header": '"sep=,"\nimg1,img2,label\n{a},{b},{y}',
    "numbers for a header": ",0,1,2\n{n},{a},{b},{y}",
    "more columns": "id1,path_x,id2,path_y,is_same,fold\n9,{a},8,{b},{y},{f}",
}


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_tables_of_pairs_as_people_have_them(tmp_path: Path, table: str) -> None:
    *head, line = table.split("\n")
    rows = [
        ("a/1.jpg", "b/1.jpg", 0, 2),
        ("a/1.jpg", "a/2.jpg", 1, 2),
        ("c/1.jpg", "b/1.jpg", 0, 9),
    ]
    text = "\n".join(
        [*head]
        + [
            line.format(a=a, b=b, y=y, f=f, n=n, same="same" if y else "different")
            for n, (a, b, y, f) in enumerate(rows)
        ]
    )
    path = tmp_path / "list.csv"
    path.write_text(text)
    held = pair_list_layouts.read(path).pairs
    ends = (", right" if "right" in line else "", "Jo " if "Jo" in line else "")
    assert held.left == tuple(ends[1] + a for a, *_ in rows)
    assert held.right == tuple(ends[1] + b + ends[0] for _, b, *_ in rows)
    assert held.genuine.tolist() == [False, True, False]
    assert (None if held.fold is None else held.fold.tolist()) == (
        [2, 2, 9] if "{f}" in line else None
    )
    assert held.line.tolist() == [len(head) + n for n in (1, 2, 3)]


@pytest.mark.parametrize(
    ("head", "told"),
    [
        ("img1,img2,label,fold", r"line 2: expected 'path path 0\|1 fold'"),  # "x" is no fold
        ("one,two,glasses,label", "say which columns"),
        ("one,two,label,race", "say which columns"),
    ],
)
def test_columns_are_never_other_than_the_header_says(tmp_path: Path, head: str, told: str) -> None:
    rows = [
        ("a/1.jpg", "a/2.jpg", 1, 0),
        ("c/1.jpg", "b/1.jpg", 0, 1),
        ("c/1.jpg", "d/1.jpg", 0, 0),
    ]
    path = tmp_path / "list.csv"
    last = "x" if "fold" in head else "1"
    lines = [f"{a},{b},{y},{last}" for a, b, y, _ in rows]
    path.write_text("\n".join([head, *lines]))
    with pytest.raises(DataError, match=told):
        pair_list_layouts.read(path)
    path.write_text(
        "\n".join(["img1,img2,label,fold", *(f"{a},{b},{y},{f}.0" for a, b, y, f in rows)])
    )
    held = pair_list_layouts.read(path).pairs
    assert held.genuine.tolist() == [True, False, False]
    assert held.fold is not None and held.fold.tolist() == [0, 1, 0]


@pytest.mark.parametrize("name", ["different", "is_different", "Dissimilar", "impostor"])
def test_labels_of_impostors_are_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "list.csv"
    path.write_text(f"img1,img2,{name}\na/1.jpg,b/1.jpg,1\na/1.jpg,a/2.jpg,0\n")
    with pytest.raises(DataError, match=rf"labels called '{name}'.*turn them round.*label.*{name}"):
        pair_list_layouts.read(path)
    chosen = {"left": "img1", "right": "img2", "label": name}
    held = pair_list_layouts.read(path, columns=chosen)
    assert held.pairs.genuine.tolist() == [True, False]
    path.write_text("Ann Bob different\nAnn Amy same\n")
    assert pair_list_layouts.read(path).pairs.genuine.tolist() == [False, True]


def test_where_two_columns_may_be_the_labels_the_user_says_which(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text("0 a/1.jpg b/2.jpg 1\n1 c/1.jpg d/2.jpg 0\n")
    with pytest.raises(DataError, match="labels in column 1, or in column 4"):
        pair_list_layouts.read(path)
    chosen = {"label": "4", "left": "2", "right": "3"}
    for wrong in ({"label": "4"}, {**chosen, "left": "3"}, {**chosen, "left": "img"}):
        with pytest.raises(DataError, match="say which columns these are"):
            pair_list_layouts.read(path, columns=wrong)
    for held in (
        pair_list_layouts.read(path, columns=chosen),
        pair_list_layouts.read(path, "fold-first"),
    ):
        assert held.pairs.genuine.tolist() == [True, False]


@pytest.mark.parametrize("line", ["1\tA/{0}.jpg\t{0}", "{0}\t{0}.000000\tA/{0}.JPG", "A/{0}.png"])
def test_a_list_of_images_is_called_one(tmp_path: Path, line: str) -> None:
    path = tmp_path / "train.lst"
    path.write_text("\n".join(line.format(k) for k in range(4)))
    with pytest.raises(DataError, match=r"expected two images and a label, got one.*\.lst.*SLLFW"):
        pair_list_layouts.read(path)


def test_a_wrong_line_far_down_a_table_is_quoted(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_text("a.jpg,b.jpg,1\n" * 1500 + "a.jpg,b.jpg,2\n" + "a.jpg,b.jpg,1\n")
    with pytest.raises(
        DataError, match=r"line 1501: expected 'path path 0\|1', got 'a.jpg,b.jpg,2'"
    ):
        pair_list_layouts.read(path)


def test_published_lists_are_read_whole(shared_data: Path) -> None:
    cplfw = pair_list_layouts.read(shared_data / "cplfw" / "pairs_CPLFW_with_header.txt")
    manifest, pairs = cplfw.pairs.resolve()
    assert (cplfw.layout, len(pairs), len(manifest.keys)) == ("two-line", 6000, 5984)
    assert manifest.subject.max() + 1 == 2296
    assert pairs.genuine.sum() == 3000
    official, other = (
        pair_list_layouts.read(shared_data / "ytf" / name).pairs
        for name in ("splits.txt", "seqface_pairs.txt")
    )
    assert official.genuine.sum() == 2500 and official.fold is not None
    assert np.bincount(official.fold).tolist() == [0, *[500] * 10]
    assert other.genuine.sum() == 2400  # as that file has it


def rows_of_list(pairs: PairList) -> list[tuple[Any, ...]]:
    fold = np.unique(np.asarray(pairs.fold), return_inverse=True)[1]  # from 0 or from 1
    return list(zip(pairs.left, pairs.right, pairs.genuine, fold, strict=True))


def test_youtube_faces_as_text_and_as_matlab_has_it(tmp_path: Path) -> None:
    (tmp_path / "splits.txt").write_text("1, 1, A/0, A/1, 1\n2, 1, A/1, B/0, 0\n")
    splits = np.array([[[1, 2], [2, 3], [1, 0]]], np.uint16)
    savemat(tmp_path / "alone.mat", {"m": splits})
    with pytest.raises(DataError, match=r"the list of names, .*Youtube_names\.txt, is missing"):
        youtube_faces.read_splits(tmp_path / "alone.mat")
    (tmp_path / "Youtube_names.txt").write_text("A/0\nA/1\nB/0\n")
    names = np.array(["A/0", "A/1", "B/0"], object)[:, None]
    savemat(tmp_path / "meta_and_splits.mat", {"Splits": splits, "video_names": names})
    expected = [("A/0", "A/1", True, 0), ("A/1", "B/0", False, 1)]
    for name in ("splits.txt", "alone.mat", "meta_and_splits.mat"):
        made = pair_list_layouts.read(tmp_path / name).pairs
        assert rows_of_list(made) == expected
        assert made.resolve()[0].subject.tolist() == [0, 0, 1]
    assert pair_list_layouts.recognise(tmp_path / "alone.mat") == "ytf"
    for wrong, said in ((4, "numbers other videos"), (0, "numbers other videos")):
        savemat(tmp_path / "alone.mat", {"m": np.where(splits == 3, wrong, splits)})
        with pytest.raises(DataError, match=said):
            youtube_faces.read_splits(tmp_path / "alone.mat")
    savemat(tmp_path / "alone.mat", {"m": splits[:, :2]})
    with pytest.raises(DataError, match="has no array of splits"):
        youtube_faces.read_splits(tmp_path / "alone.mat")


def test_the_three_published_lists_of_youtube_faces(shared_data: Path) -> None:
    text, other, matlab = (
        rows_of_list(pair_list_layouts.read(shared_data / "ytf" / name).pairs)
        for name in ("splits.txt", "seqface_pairs.txt", "Youtube_splits.mat")
    )
    assert len({*text}) == 5000 and sorted(text) == sorted(matlab)
    assert sum(a == b for a, b in zip(text, other, strict=True)) == 4900
    for name in ("splits.txt", "seqface_pairs.txt"):  # the second contradicts its own names
        listed = pair_list_layouts.read(shared_data / "ytf" / name).pairs
        assert len({*listed.resolve()[0].subject.tolist()}) == 1447
        told = listed.doubts().get(pair_list.OTHERS, "")
        assert told.startswith("100 of 5,000 labels") == (name == "seqface_pairs.txt")
