import contextlib
import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from evalkit.errors import DataError
from evalkit.images import decode, decoder, encoded, find

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (12, 10, 3), dtype=np.uint8)


def packed(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


PNG = packed(Image.fromarray(PIXELS))
JPEG = packed(Image.fromarray(PIXELS), "JPEG", quality=95)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "PPM", "TIFF", "WEBP"])
def test_lossless_formats_give_their_pixels(kind: str) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    image = decode(packed(Image.fromarray(PIXELS), kind, **options))
    assert image.dtype == np.uint8
    assert np.array_equal(image, PIXELS)


def test_a_jpeg_is_decoded_as_pillow_does() -> None:
    assert np.array_equal(decode(JPEG), np.asarray(Image.open(io.BytesIO(JPEG))))


def test_grey_becomes_three_equal_channels() -> None:
    grey = PIXELS[:, :, 0]
    image = decode(packed(Image.fromarray(grey)))
    assert np.array_equal(image, np.repeat(grey[:, :, None], 3, axis=2))


def test_sixteen_bit_grey_is_scaled_not_clipped() -> None:
    wide = np.linspace(0, 65535, 120).reshape(12, 10).astype(np.uint16)
    image = decode(packed(Image.fromarray(wide)))
    assert np.array_equal(image[:, :, 1], np.rint(wide / 257).astype(np.uint8))


def test_alpha_is_dropped() -> None:
    alpha = RNG.integers(0, 256, (12, 10, 1), dtype=np.uint8)
    rgba = Image.fromarray(np.concatenate([PIXELS, alpha], axis=2))
    assert np.array_equal(decode(packed(rgba)), PIXELS)


@pytest.mark.parametrize("transparent", [None, b"\x00\x80" + b"\xff" * 254])
def test_a_palette_is_looked_up(transparent: bytes | None) -> None:
    coded = Image.fromarray(PIXELS).quantize(16)
    options = {} if transparent is None else {"transparency": transparent}
    assert np.array_equal(decode(packed(coded, **options)), np.asarray(coded.convert("RGB")))


def test_cmyk_becomes_rgb() -> None:
    cmyk = Image.fromarray(PIXELS).convert("CMYK")
    image = decode(packed(cmyk, "TIFF"))
    assert np.array_equal(image, np.asarray(cmyk.convert("RGB")))


def test_exif_orientation_is_applied() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it rotated clockwise
    image = decode(packed(Image.fromarray(PIXELS), exif=exif))
    assert np.array_equal(image, np.rot90(PIXELS, -1))


def test_the_first_frame_of_an_animation() -> None:
    frames = [Image.fromarray(PIXELS), Image.fromarray(255 - PIXELS)]
    data = packed(frames[0], "TIFF", save_all=True, append_images=frames[1:])
    assert np.array_equal(decode(data), PIXELS)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not an image file"),
        (b"hello", "not an image file"),
        (JPEG[:-30], "image file is truncated"),
        (PNG[: len(PNG) // 2], "."),
        (packed(Image.fromarray(np.zeros((3, 3), np.float32)), "TIFF"), "floating-point"),
        (packed(Image.new("1", (9000, 9000))), "more than a face needs"),
        (packed(Image.new("1", (14000, 14000))), "."),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image file"),
    ],
    ids=["empty", "text", "cut jpeg", "cut png", "float", "large", "bomb", "eps"],
)
def test_what_cannot_be_read_says_why(data: bytes, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        decode(data)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=64), st.integers(0, len(JPEG) - 1))
def test_junk_is_an_image_or_a_data_error(junk: bytes, at: int) -> None:
    for data in (junk, JPEG[:at] + junk + JPEG[at + len(junk) :], PNG[:at] + junk + PNG[at:]):
        with contextlib.suppress(DataError):
            assert decode(data).shape[2] == 3


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("B/B_0001.png", "A/A_0002.png", "A/A_0001.png", "readme.md", "A/._A_0001.png"):
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / name).write_bytes(PNG)
    return tmp_path / "set"


NAMES = ("A/A_0001.png", "A/A_0002.png", "B/B_0001.png")


def test_a_folder(folder: Path) -> None:
    source = find(folder)
    assert source.keys == NAMES
    assert np.array_equal(source.read(2), PIXELS)
    assert source.identity == decoder()
    assert source.manifest().subject.tolist() == [0, 0, 1]


def test_a_zip_is_its_folder(folder: Path) -> None:
    with zipfile.ZipFile(folder.parent / "set.zip", "w") as archive:
        for path in folder.rglob("*"):
            archive.write(path, path.relative_to(folder))
    source = find(folder.parent / "set.zip")
    assert source.keys == NAMES
    assert np.array_equal(source.read(0), PIXELS)


def test_a_list_keeps_its_order_and_its_names(folder: Path) -> None:
    (folder.parent / "list.txt").write_text(f"set/B/B_0001.png\n{folder / 'A/A_0001.png'}\n\n")
    source = find(folder.parent / "list.txt")
    assert source.keys == ("set/B/B_0001.png", str(folder / "A/A_0001.png"))
    assert np.array_equal(source.read(1), PIXELS)


def test_keys_are_found_with_or_without_prefix_and_suffix(folder: Path) -> None:
    source = find(folder).select(["lfw/B/B_0001.jpg", "lfw/A/A_0002"])
    assert source.keys == ("lfw/B/B_0001.jpg", "lfw/A/A_0002")
    (folder / NAMES[2]).write_bytes(packed(Image.fromarray(255 - PIXELS)))
    assert np.array_equal(source.read(0), 255 - PIXELS)
    assert np.array_equal(source.read(1), PIXELS)
    with pytest.raises(DataError, match="images are missing for 1 of 2 images: C/C_0001"):
        find(folder).select(["A/A_0001", "C/C_0001"])


def test_an_unreadable_image_is_named(folder: Path) -> None:
    (folder / NAMES[1]).write_bytes(JPEG[:-30])
    with pytest.raises(DataError, match=r"A/A_0002.png cannot be read: .*truncated"):
        find(folder).read(1)
    with zipfile.ZipFile(folder.parent / "x.zip", "w") as archive:
        archive.writestr("a.png", PNG)
    data = bytearray((folder.parent / "x.zip").read_bytes())
    data[60] ^= 1
    (folder.parent / "x.zip").write_bytes(data)
    with pytest.raises(DataError, match=r"a.png cannot be read: Bad CRC"):
        find(folder.parent / "x.zip").read(0)


def test_where_there_are_no_images(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "cut.zip").write_bytes(b"PK\x03\x04")
    (tmp_path / "list.txt").write_text("set/A/A_0001.png\nset/A/none.png\n")
    (tmp_path / "model.onnx").write_bytes(b"x")
    for name, reason in {
        "nowhere": "no images at",
        "empty": "no images in",
        "cut.zip": "not a whole zip archive",
        "list.txt": "names 1 of 2 images that are not there, first 'set/A/none.png'",
        "model.onnx": "cannot find images in 'model.onnx'",
    }.items():
        with pytest.raises(DataError, match=reason):
            find(tmp_path / name)


def test_resizing_is_in_the_identity() -> None:
    source = encoded(["a"], lambda _: PNG)
    small = source.resized((6, 5))
    assert small.read(0).shape == (6, 5, 3)
    assert small.identity == f"{decoder()}; resized to 6x5"
    assert np.array_equal(source.resized((12, 10)).read(0), PIXELS)


def test_the_real_crops(shared_data: Path) -> None:
    source = find(shared_data / "lfw" / "lfw_pairs_aligned112_q90.zip")
    assert len(source.keys) == 7701
    assert source.select(["Zico/Zico_0002"]).read(0).shape == (112, 112, 3)


def test_heic_is_read_where_its_plugin_is_installed(tmp_path: Path) -> None:
    heif = pytest.importorskip("pillow_heif")
    heif.register_heif_opener()
    Image.new("RGB", (48, 64), (200, 30, 30)).save(tmp_path / "a.heic")
    source = find(tmp_path)
    assert source.keys == ("a.heic",) and "pillow-heif" in source.decoder
    assert source.read(0).shape == (64, 48, 3)


def test_why_an_image_cannot_be_read(tmp_path: Path) -> None:
    out = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)).save(
        out, "PNG"
    )
    for name, data in {"a": out.getvalue(), "b": out.getvalue()[:900], "c": b"<html>"}.items():
        (tmp_path / f"{name}.png").write_bytes(data)
    source = find(tmp_path)
    assert source.why(0) == ""
    assert source.why(1).startswith("b.png cannot be read: image file is truncated")
    assert source.why(2) == "c.png cannot be read: not an image file"
