"""Containers of images: tar, packed and not, WebDataset's shards, InsightFace's records."""

import errno
import io
import json
import lzma
import os
import struct
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from evalkit.errors import DataError
from evalkit.images import find, tars
from evalkit.images.digests import ImageDigests

pytestmark = pytest.mark.once
MAGIC = 0xCED7230A
GOLDEN = Path(__file__).with_name("golden") / "images.lmdb.xz"  # as liblmdb 0.9.36 writes it
NAMES = ("A/a1.png", "A/a2.png", "B/b1.png")


def png(value: int) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (4, 4), (value, 0, 0)).save(out, "PNG")
    return out.getvalue()


FILES = {name: png(10 * row) for row, name in enumerate(NAMES)}


def tarred(path: Path, files: dict[str, bytes], mode: str = "w", *more: tarfile.TarInfo) -> Path:
    with tarfile.open(path, mode) as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
        for entry in more:
            archive.addfile(entry, io.BytesIO(bytes(entry.size)))
    return path


def record(data: bytes, number: int = 0, labels: tuple[float, ...] = (7.0,)) -> bytes:
    """Write one record as MXNet does: parted where the magic number lies on a whole word."""
    flag = len(labels) if len(labels) > 1 else 0
    head = struct.pack("<IfQQ", flag, labels[0], number, 0)
    data = head + (struct.pack(f"<{flag}f", *labels) if flag else b"") + data
    cuts = [o for o in range(0, len(data) - 3, 4) if data[o : o + 4] == struct.pack("<I", MAGIC)]
    ends = [*cuts, len(data)]
    parts = [data[a:b] for a, b in zip([0, *(c + 4 for c in cuts)], ends, strict=True)]
    kinds = [0] if len(parts) == 1 else [1, *[2] * (len(parts) - 2), 3]
    return b"".join(
        struct.pack("<II", MAGIC, kind << 29 | len(part)) + part + bytes(-len(part) % 4)
        for kind, part in zip(kinds, parts, strict=True)
    )


def red(path: Path) -> dict[str, int]:
    source = find(path)
    return {key: int(source.read(row)[0, 0, 0]) for row, key in enumerate(source.keys)}


@pytest.mark.parametrize("ending", tars.ENDINGS)
@pytest.mark.parametrize("before", ["", "./", "/"])
def test_a_tar_gives_what_its_folder_gives(tmp_path: Path, ending: str, before: str) -> None:
    kind = {"z": "xz", "2": "bz2"}.get(ending[-1], "") or ("" if ending == ".tar" else "gz")
    kind = {".tgz": "gz", ".tar.gz": "gz"}.get(ending, kind)
    files = {before + name: data for name, data in {**FILES, "notes.txt": b"x"}.items()}
    source = find(tarred(tmp_path / f"I{ending}", files, f"w:{kind}"))
    assert source.keys == NAMES
    assert source.manifest().subject.tolist() == [0, 0, 1]
    assert [source.fetch(row) for row in range(3)] == list(FILES.values())


def test_a_worker_unpacks_for_itself(tmp_path: Path) -> None:
    cloudpickle = pytest.importorskip("cloudpickle")
    source = find(tarred(tmp_path / "I.tgz", FILES, "w:gz"))
    again = cloudpickle.loads(cloudpickle.dumps(source))
    assert [again.fetch(row) for row in range(3)] == list(FILES.values())


def test_links_are_told_and_a_later_member_holds(tmp_path: Path) -> None:
    link = tarfile.TarInfo("A/linked.png")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    path = tarred(tmp_path / "I.tar", FILES, "w", link)
    tarred(path, {"A/a1.png": png(99)}, "a")
    assert red(path) == {"A/a1.png": 99, "A/a2.png": 10, "B/b1.png": 20}
    assert find(path).left_out == ("1 link in the archive is not followed: A/linked.png",)


def test_a_link_in_a_zip_is_no_image(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("A/linked.png")
    link.create_system, link.external_attr = 3, 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "I.zip", "w") as archive:
        for name, content in FILES.items():
            archive.writestr(name, content)
        archive.writestr(link, "a1.png")
    found = find(tmp_path / "I.zip")
    assert found.keys == NAMES
    assert found.left_out == ("1 link in the archive is not followed: A/linked.png",)


def test_a_tar_that_ends_too_soon_or_too_late(tmp_path: Path) -> None:
    whole = tarred(tmp_path / "I.tar", FILES).read_bytes()
    assert find(tmp_path / "I.tar").left_out == ()
    (tmp_path / "cut.tar").write_bytes(whole[: 4 * tarfile.BLOCKSIZE])  # behind its second image
    cut = find(tmp_path / "cut.tar")
    assert cut.keys == NAMES[:2]
    assert cut.left_out == ("the tar archive has no end: was it cut short?",)
    more = tarred(tmp_path / "more.tar", {"C/c1.png": png(30)}).read_bytes()
    (tmp_path / "both.tar").write_bytes(whole + more)
    with pytest.raises(DataError, match=r"both\.tar is not a whole .* follows behind its end"):
        find(tmp_path / "both.tar")


def test_no_room_to_unpack_is_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tarred(tmp_path / "I.tar.gz", FILES, "w:gz")

    class Full(io.BytesIO):
        def flush(self) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("tempfile.TemporaryFile", Full)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "full"))
    with pytest.raises(
        DataError, match=r"no room to unpack .*I\.tar\.gz in .*full: No space"
    ) as told:
        find(path)
    assert "TMPDIR" in told.value.hint


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_in_a_zip_a_later_member_holds_as_in_a_tar(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "I.zip", "w") as archive:
        for name, content in [*FILES.items(), ("A/a1.png", png(98)), ("./A/a1.png", png(99))]:
            archive.writestr(name, content)
    assert red(tmp_path / "I.zip") == {"A/a1.png": 99, "A/a2.png": 10, "B/b1.png": 20}


def test_shards_of_webdataset_with_their_labels(tmp_path: Path) -> None:
    for shard in range(2):
        files = {}
        for row in range(3):
            files[f"00000{row}.png"] = png(10 * row + shard)
            files[f"00000{row}.cls"] = f"{5 + row // 2}\n".encode()
        tarred(tmp_path / f"faces-00000{shard}.tar", files)
    one = red(tmp_path / "faces-000001.tar")
    assert one == {"5/000000.png": 1, "5/000001.png": 11, "6/000002.png": 21}
    both = red(tmp_path)
    assert both["5/1_000000.png"] == 1 and both["6/0_000002.png"] == 20 and len(both) == 6
    found = find(tmp_path)
    assert found.manifest().subject.tolist() == [0, 0, 1, 0, 0, 1] and found.left_out == ()
    (tmp_path / "faces-000001.tar").rename(tmp_path / "val.tar")  # of other people, perhaps
    assert find(tmp_path).left_out == (
        "faces-000000.tar, val.tar have 3 names of images in common: people called alike count as "
        "one person (if not, give one of them)",
    )


def test_records_of_insightface(tmp_path: Path) -> None:
    people = record(b"", 3, (1.0, 3.0))
    held = struct.pack("<I", MAGIC) * 3 + b"x"  # after the image, where its reader does not look
    images = [
        record(png(10 * n) + bytes(-len(png(10 * n)) % 4) + held, n, (float(n),)) for n in (1, 2)
    ]
    path = tmp_path / "train.rec"
    path.write_bytes(
        record(b"", 0, (3.0, 4.0)) + images[0] + record(png(30), 5, (2.0, 0.0)) + images[1] + people
    )
    assert red(path) == {"1/0000001": 10, "2/0000005": 30, "2/0000002": 20}
    assert find(path).fetch(0).endswith(held)
    (tmp_path / "train.idx").write_text("0\t0\n")
    (tmp_path / "property").write_text("2,4,4\n")
    assert red(tmp_path) == red(path)


def test_a_property_file_that_counts_other_people_is_told(tmp_path: Path) -> None:
    picture = png(1)
    path = tmp_path / "train.rec"
    path.write_bytes(record(picture, 1, (7.0,)) + record(picture, 2, (8.0,)))
    (tmp_path / "property").write_text("2,112,112\n")
    assert find(path).left_out == ()
    (tmp_path / "property").write_text("85742,112,112\n")
    assert find(path).left_out == ("property says '85742' people, the records of train.rec have 2",)


def test_an_index_that_names_other_records_is_told(tmp_path: Path) -> None:
    records = [record(png(n), n, (float(n // 2),)) for n in range(4)]
    starts = np.cumsum([0, *map(len, records)]).tolist()
    (tmp_path / "a.rec").write_bytes(b"".join(records))
    for rows, told in [
        ([3, 1, 0, 2], []),
        ([0, 2, 3], ["3 of the 4 images in a.rec"]),
        ([0, 1, 4], ["2 of the 4 images in a.rec, and 1 more of which the file has none"]),
    ]:
        lines = [f"{number}\t{starts[row]}\n" for number, row in enumerate(rows)]
        (tmp_path / "a.idx").write_text("".join(lines))
        found = find(tmp_path / "a.rec")
        assert len(found.keys) == 4
        assert found.left_out == tuple(f"a.idx names {line}: all are read" for line in told)


def test_labels_of_nobody_are_no_person(tmp_path: Path) -> None:
    """A label of -1, NaN or nothing is that of no person, and so not of one and the same."""
    labels = (3.0, -1.0, 3.0, float("nan"), -1.0)
    records = [record(png(row), row, (label,)) for row, label in enumerate(labels)]
    (tmp_path / "a.rec").write_bytes(b"".join(records))
    files = {}
    for row, label in enumerate(("3", "-1", "3", "nan", "-1\n")):
        files |= {f"{row:07d}.png": png(row), f"{row:07d}.cls": label.encode()}
        (tmp_path / f"{row}.png").write_bytes(png(row))
    tarred(tmp_path / "a.tar", files)
    (tmp_path / "a.txt").write_text("0.png 3\n1.png -1\n2.png 3\n3.png nan\n4.png -1\n")
    for name in ("a.rec", "a.tar", "a.txt"):
        found = find(tmp_path / name)
        assert found.manifest().subject.tolist() == [0, -1, 0, -1, -1], name
        assert (
            "3 images have no label (-1, nan or none), and are of nobody known: "
            in (found.left_out[0])
        )


def test_records_without_ids_are_numbered(tmp_path: Path) -> None:
    (tmp_path / "a.rec").write_bytes(b"".join(record(png(v)) for v in (1, 2)))
    assert red(tmp_path / "a.rec") == {"7/0000000": 1, "7/0000001": 2}


def test_lmdb(tmp_path: Path) -> None:
    (tmp_path / "faces").mkdir()
    (tmp_path / "faces/data.mdb").write_bytes(lzma.decompress(GOLDEN.read_bytes()))
    (tmp_path / "faces/lock.mdb").write_bytes(bytes(8192))
    found = red(tmp_path / "faces")
    assert found == {f"{'AB'[n % 2]}/{n:02d}.png": n for n in range(48)} | {"C/long.bmp": 99}
    assert list(found) == sorted(found)
    assert find(tmp_path / "faces").left_out == ("1 entry is not an image: __len__",)


def test_an_lmdb_of_anything_but_images_is_refused(tmp_path: Path) -> None:
    data = lzma.decompress(GOLDEN.read_bytes())
    (tmp_path / "a.lmdb").write_bytes(data.replace(b"\x89PNG", b"\x80\4nd").replace(b"BM", b"nd"))
    with pytest.raises(DataError, match=r"no encoded image; 50 entries .* JPEG or PNG file under"):
        find(tmp_path / "a.lmdb")


def test_a_broken_image_in_an_lmdb_is_an_image(tmp_path: Path) -> None:
    path = tmp_path / "a.lmdb"
    path.write_bytes(lzma.decompress(GOLDEN.read_bytes()))
    image = find(path).raw(0)
    assert isinstance(image, bytes)
    path.write_bytes(path.read_bytes().replace(image, b"\x80\4nd" + image[4:]))
    found = find(path)
    assert len(found.keys) == 49
    assert "2 entries are not images: " in found.left_out[0]
    broken = [row for row in range(49) if found.why(row)]
    assert len(broken) == 1 and found.keys[broken[0]] in found.left_out[0]


def test_what_changed_in_a_container_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVALKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("evalkit.images.digests._GRAIN", -(10**18))
    path = tarred(tmp_path / "I.tar", FILES)
    digests = ImageDigests(find(path))
    digests.read(np.arange(3), 1)
    digests.keep()
    assert ImageDigests(find(path)).known.all()
    tarred(path, {**FILES, "A/a1.png": png(77)})
    assert not ImageDigests(find(path)).known.any()


WHOLE = b"".join(record(png(n), n) for n in range(3))
CUT = lzma.decompress(GOLDEN.read_bytes())[:9000]
WRONG = {
    "is not a whole tar archive": ("a.tar", b"x" * 2000),
    "is not a whole tar archive: .*header": ("b.tar", None),
    "tar archive: Error -3 while decompressing": ("c.tgz", b"\x1f\x8b\x08" + bytes(99)),
    "no record of MXNet's is at byte 0": ("a.rec", b"x" * 99),
    "ends in the record at byte": ("b.rec", WHOLE[:-9]),
    "is shorter than its labels": ("c.rec", WHOLE[:8] + b"\xff" * 2 + WHOLE[10:]),
    "not a whole LMDB file: it does not begin": ("a.lmdb", bytes(4096)),
    "not a whole LMDB file: no page": ("b.lmdb", CUT),
    "e.rec ends in the record at byte": ("e.rec", WHOLE + b"\n"),
    "of 4 bytes has no header": ("d.rec", struct.pack("<III", MAGIC, 4, 0)),
}


@pytest.mark.parametrize("message", WRONG)
def test_damage_is_told_in_one_line(tmp_path: Path, message: str) -> None:
    name, data = WRONG[message]
    if data is None:
        tarred(tmp_path / name, FILES)
        data = bytearray((tmp_path / name).read_bytes())
        data[1024:1030] = b"garbag"
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError, match=message) as told:
        find(tmp_path / name)
    assert "\n" not in str(told.value)


def test_bombs_and_endless_names_are_refused(tmp_path: Path) -> None:
    zeros = tarfile.TarInfo("A/zeros.png")
    zeros.size = 80 << 20
    with pytest.raises(DataError, match="unpacks to more than 64 MiB"):
        find(tarred(tmp_path / "a.tgz", {}, "w:gz", zeros))
    name = tarfile.TarInfo("A/name.png")
    name.type, name.size = tarfile.GNUTYPE_LONGNAME, 1 << 20
    with pytest.raises(DataError, match="a name in the archive has 1,048,576 bytes"):
        find(tarred(tmp_path / "b.tar", {}, "w", name))


def test_containers_beside_images_are_told(tmp_path: Path) -> None:
    tarred(tmp_path / "I.tar", FILES)
    (tmp_path / "x.png").write_bytes(png(1))
    assert find(tmp_path).keys == ("x.png",)
    assert "1 container of images is beside the images and not opened" in find(tmp_path).left_out[0]


def test_archives_that_name_images_alike(tmp_path: Path) -> None:
    for name in "ab":
        tarred(tmp_path / f"{name}.tar", {"1.png": png(1)})
    with pytest.raises(DataError, match="containers that name 1 images alike"):
        find(tmp_path)


def table(labels: list[int] | None, paths: list[str] | None, flat: bool = False) -> Any:
    arrow = pytest.importorskip("pyarrow")
    images = list(FILES.values())
    if not flat:
        names = paths or [None] * 3
        images = [{"bytes": b, "path": p} for b, p in zip(images, names, strict=True)]
    columns = {"image": images, "width": [4.0] * 3} | ({"label": labels} if labels else {})
    names = {"info": {"features": {"label": {"names": ["Ann/e", "Bob"], "_type": "ClassLabel"}}}}
    return arrow.table(columns).replace_schema_metadata({"huggingface": json.dumps(names)})


def keep(made: Any, path: Path, batch: int = 2) -> Path:
    import pyarrow as arrow
    from pyarrow import parquet

    if path.suffix == ".parquet":
        parquet.write_table(made, path, row_group_size=batch)
    else:
        write = arrow.ipc.new_file if "file" in path.name else arrow.ipc.new_stream
        with write(str(path), made.schema) as writer:
            writer.write_table(made, max_chunksize=batch)
    return path


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow", "file.arrow"])
@pytest.mark.parametrize("flat", [False, True])
def test_tables_of_hugging_face(tmp_path: Path, name: str, flat: bool) -> None:
    path = keep(table([0, 0, 1], None, flat), tmp_path / name)
    assert red(path) == {"Ann_e/0000000": 0, "Ann_e/0000001": 10, "Bob/0000002": 20}
    plain = keep(table(None, ["x/1.png", "x/2.png", "y/3.png"], flat), tmp_path / f"plain_{name}")
    keys = ["0000000", "0000001", "0000002"] if flat else ["x/1.png", "x/2.png", "y/3.png"]
    assert list(red(plain)) == keys


def test_rows_of_a_table_without_a_label_are_of_nobody(tmp_path: Path) -> None:
    found = find(keep(table([0, -1, -1], None), tmp_path / "a.parquet"))
    assert found.keys == ("Ann_e/0000000", "0000001", "0000002")
    assert "2 images have no label" in found.left_out[0]


def test_shards_of_tables_are_one_set(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for shard in range(2):
        keep(table([0, 0, 1], None), tmp_path / "data" / f"train-0000{shard}-of-00002.parquet")
    assert len(red(tmp_path)) == 6
    assert find(tmp_path).manifest().subject.tolist() == [0, 0, 1, 0, 0, 1]


def test_tables_that_hold_no_images(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    with pytest.raises(DataError, match="has 0 columns of encoded images among x, y"):
        find(keep(arrow.table({"x": [1.0], "y": ["a"]}), tmp_path / "a.parquet"))
    (tmp_path / "b.arrow").write_bytes(b"x" * 99)
    with pytest.raises(DataError, match=r"b\.arrow is not a whole table of images"):
        find(tmp_path / "b.arrow")
    empty = keep(arrow.table({"image": arrow.array([None], arrow.binary())}), tmp_path / "c.arrow")
    with pytest.raises(DataError, match="cannot be read: the table has no image in its row"):
        find(empty).read(0)


LISTS = {
    "path label": "1.png 7\n2.png 7\nthe third.png 8\n",
    "label path": "7,1.png\n7,2.png\n8,the third.png\n",
    "header": 'path;label\n"1.png";7\n"2.png";7\n"the third.png";8\n',
    "MXNet": "0\t7\t1.png\n1\t7\t2.png\n2\t8\tthe third.png\n",
}


@pytest.mark.parametrize("kind", LISTS)
def test_lists_with_labels(tmp_path: Path, kind: str) -> None:
    for value, name in enumerate(("1.png", "2.png", "the third.png")):
        (tmp_path / name).write_bytes(png(value))
    (tmp_path / "faces.lst").write_text(LISTS[kind])
    assert red(tmp_path / "faces.lst") == {"7/1.png": 0, "7/2.png": 1, "8/the third.png": 2}
    (tmp_path / "faces.lst").write_text("1.png\nthe third.png\n")
    assert red(tmp_path / "faces.lst") == {"1.png": 0, "the third.png": 2}


def test_labels_that_the_folders_tell_too(tmp_path: Path) -> None:
    for name, data in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    (tmp_path / "faces.txt").write_text("A/a1.png 3\nA/a2.png 3\nB/b1.png 5\n")
    assert find(tmp_path / "faces.txt").keys == NAMES
    (tmp_path / "faces.txt").write_text("A/a1.png 3\nA/a2.png 4\nB/b1.png 4\n")
    assert find(tmp_path / "faces.txt").manifest().subject.tolist() == [0, 1, 1]
    (tmp_path / "faces.txt").write_text("A/a1.png 3\nA/no.png 3\n")
    with pytest.raises(DataError, match="names 2 of 2 images that are not there"):
        find(tmp_path / "faces.txt")
