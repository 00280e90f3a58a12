"""What is found in folders and archives, and what is told of the rest."""

import ctypes
import io
import os
import stat
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evalkit.errors import DataError
from evalkit.images import ImageSource, find
from evalkit.images.decoding import HEIF, formats

PIXELS = np.random.default_rng(0).integers(0, 256, (12, 10, 3), dtype=np.uint8)


def packed(kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).save(buffer, kind, **options)
    return buffer.getvalue()


PNG = packed("PNG")


@pytest.fixture(params=["folder", "zip"])
def found(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., ImageSource]:
    """Find the images among files of these names, in a folder and in an archive."""

    def of(*names: str, data: bytes = PNG) -> ImageSource:
        if request.param == "zip":
            with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
                for name in names:
                    archive.writestr(name, data)
            return find(tmp_path / "set.zip")
        for name in names:
            (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "set" / name).write_bytes(data)
        return find(tmp_path / "set")

    return of


READ = {
    **dict.fromkeys([".jfif", ".jpe", ".JPG", ".Jpeg", ".mpo"], "JPEG"),
    **dict.fromkeys([".apng", ".PNG"], "PNG"),
    **dict.fromkeys([".dib", ".bmp"], "BMP"),
    **dict.fromkeys([".pnm", ".ppm"], "PPM"),
    **(dict.fromkeys([".jp2", ".j2k", ".JPX"], "JPEG2000") if "JPEG2000" in formats() else {}),
    **(dict.fromkeys([".avif"], "AVIF") if "AVIF" in formats() else {}),
}


@pytest.mark.parametrize("suffix", READ)
def test_kinds_that_are_read(found: Callable[..., ImageSource], suffix: str) -> None:
    data = packed(READ[suffix])
    source = found(f"A/A_0001{suffix}", data=data)
    assert source.keys == (f"A/A_0001{suffix}",) and source.left_out == ()
    assert np.array_equal(source.read(0), np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))
    assert source.select(["A/A_0001.jpg"]).read(0).shape == (12, 10, 3)


@pytest.mark.parametrize(
    "suffix",
    [
        *([] if HEIF else [".heic", ".HEIF"]),
        ".jxl",
        ".svg",
        ".raw",
        ".dng",
        ".CR2",
        ".psd",
        ".tga",
        ".ico",
        ".eps",
    ],
)
def test_kinds_that_are_not_read_are_counted(
    found: Callable[..., ImageSource], suffix: str
) -> None:
    source = found("A/1.png", f"A/2{suffix}", f"B/1{suffix}", "B/2.svg", "notes.txt")
    assert source.keys == ("A/1.png",)
    (line,) = source.left_out
    assert line.startswith("3 files are images of a kind that is not read, ")
    assert f"{suffix.lower()} ({3 if suffix == '.svg' else 2})" in line
    assert line.endswith(f": A/2{suffix}, B/1{suffix}, B/2.svg")


def test_images_by_another_name_are_told(found: Callable[..., ImageSource]) -> None:
    others = ("A/2", "A/3.jpg?size=large", "A/4.JPG (1)", "A/5.jpg.1", "A/6.jpeg_large")
    source = found("A/1.png", *others, "A/1.png.txt", "A/1.json", "notes.txt", "A/.x")
    assert source.keys == ("A/1.png",)
    (line,) = source.left_out
    assert line.startswith("5 files may be images by another name, and left out: A/2, A/3.jpg?size")


def test_a_set_of_kinds_that_are_not_read_has_no_images(found: Callable[..., ImageSource]) -> None:
    with pytest.raises(DataError, match="no images in") as told:
        found("A/1.jxl", "A/2.jxl")
    assert "2 files are images of a kind that is not read, .jxl (2)" in told.value.hint


def test_hidden_images_are_counted(found: Callable[..., ImageSource]) -> None:
    macos = ("A/._1.png", "__MACOSX/A/._1.png")  # no images, but what macOS knows of one
    source = found("A/1.png", "A/.2.png", *macos)
    assert source.keys == ("A/1.png",)
    assert source.left_out == ("1 image is hidden and left out: A/.2.png",)


@pytest.mark.parametrize("names", [("A/1.jpg", "A/1.png"), ("A/\xe9.png", "A/e\u0301.png")])
def test_two_files_of_one_name_are_told(
    found: Callable[..., ImageSource], names: tuple[str, str]
) -> None:
    source = found(*names, "A/2.png")
    assert len(source.keys) == 3
    assert source.select(["A/2.png"]).keys == ("A/2.png",)
    with pytest.raises(DataError, match=r"two rows of images claim 'A/.'") as told:
        source.select(source.keys)
    assert told.value.hint == "give the folder of one of them alone, or rename it"


@pytest.fixture
def people(tmp_path: Path) -> Path:
    """A folder of two people, and beside it one with two more."""
    for name in ("set/a/1.png", "set/b/1.png", "other/c/1.png", "other/c/x/2.png", "other/d/1.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(PNG)
    return tmp_path / "set"


LINKS: dict[str, tuple[dict[str, str], list[str], str]] = {
    "to folders": (
        {"c": "../other/c", "d": "../other/d"},
        ["c/1.png", "c/x/2.png", "d/1.png"],
        "",
    ),
    "to a link": ({"c": "link", "link": "../other/d"}, ["c/1.png"], "1 folder behind a link"),
    "to a file": ({"b/2.png": "../../other/c/1.png"}, ["b/2.png"], ""),
    "to itself": ({"a/loop": ".", "b/up": ".."}, [], "2 folders behind links were read under"),
    "from outside back": (
        {"c": "../other/c", "../other/c/back": "../../set"},
        ["c/1.png", "c/x/2.png"],
        "1 folder behind a link was read under another name: c/back/",
    ),
    "to nothing": ({"c": "../other/none", "e": "e"}, [], "2 links lead nowhere: c, e"),
    "an image to nothing": ({"a/2.png": "none.png"}, ["a/2.png"], ""),
}


@pytest.mark.parametrize("kind", LINKS)
def test_links_are_followed_or_told(people: Path, kind: str) -> None:
    links, more, told = LINKS[kind]
    for name, to in links.items():
        (people / name).symlink_to(to)
    source = find(people)
    assert source.keys == tuple(sorted(["a/1.png", "b/1.png", *more]))
    assert told in "; ".join(source.left_out) and bool(told) == bool(source.left_out)
    if kind == "an image to nothing":
        with pytest.raises(DataError, match=r"a/2\.png cannot be read: .*No such file"):
            source.read(1)


def test_a_folder_through_a_link_is_itself(people: Path) -> None:
    (people.parent / "link").symlink_to(people)
    assert find(people.parent / "link").keys == find(people).keys


def test_a_folder_called_like_an_image_is_a_folder(people: Path) -> None:
    (people / "a.png").mkdir()
    (people / "a.png" / "1.png").write_bytes(PNG)
    assert find(people).keys == ("a.png/1.png", "a/1.png", "b/1.png")


def test_links_in_an_archive_are_told(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("people/b")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        archive.writestr("people/a/1.png", PNG)
        archive.writestr("folder.png/", b"")
        archive.writestr(link, "../others/b")
    source = find(tmp_path / "set.zip")
    assert source.keys == ("people/a/1.png",)
    assert source.left_out == ("1 link in the archive is not followed: people/b",)


def respect_permissions() -> None:
    """Let the program that is started next respect permissions, although it is root's."""
    libc = ctypes.CDLL(None)  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
    if os.geteuid() == 0 and (libc.prctl(24, 1, 0, 0, 0) or libc.prctl(24, 2, 0, 0, 0)):
        os._exit(77)


@pytest.mark.parametrize("mode", [0o000, 0o111])
@pytest.mark.parametrize("folder", ["set", "set/b", "other/c/x"])
def test_a_folder_that_may_not_be_read_is_told(people: Path, folder: str, mode: int) -> None:
    (people / "c").symlink_to("../other/c")
    closed = people.parent / folder
    closed.chmod(mode)
    program = f"from evalkit.images import find; print(find({str(people)!r}).keys)"
    try:
        process = subprocess.run(
            [sys.executable, "-P", "-c", program],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            preexec_fn=respect_permissions,
        )
    finally:
        closed.chmod(0o755)
    if process.returncode == 77:
        pytest.skip("root cannot be kept from reading here")
    shown = {"set": people, "set/b": people / "b", "other/c/x": people / "c" / "x"}[folder]
    last = process.stderr.splitlines()[-1]
    assert last.startswith(f"evalkit.errors.DataError: {shown}"), process.stdout + last
    assert "cannot be read: Permission denied" in last


def test_a_folder_that_fails_in_the_middle_is_told(
    people: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Failing:
        def __init__(self, path: Path) -> None:
            self.path, self.entries = path, scandir(path)

        def __enter__(self) -> "Failing":
            return self

        def __exit__(self, *_: object) -> None:
            self.entries.close()

        def __iter__(self) -> "Failing":
            return self

        def __next__(self) -> os.DirEntry[str]:
            if self.path.name == "b":
                raise OSError(5, "Input/output error")
            return next(self.entries)

    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", Failing)
    with pytest.raises(DataError, match=r"set/b.* cannot be read: Input/output error"):
        find(people)
