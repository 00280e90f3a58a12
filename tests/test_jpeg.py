"""simplejpeg is used only where it gives Pillow's pixels, so that no number depends on it."""

import io
import sys
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from evalkit import images
from evalkit.errors import DataError
from evalkit.images import jpeg

RNG = np.random.default_rng(0)
MOST = 1 << 20


@pytest.fixture(autouse=True)
def fresh():
    """What was found out about the library does not outlive a test."""
    jpeg._like_pillow.cache_clear()
    yield
    jpeg._like_pillow.cache_clear()


@pytest.fixture
def simplejpeg():
    return pytest.importorskip("simplejpeg")


def face(height: int, width: int, smooth: bool = False) -> Image.Image:
    """Noise, or something as smooth as a face."""
    noise = Image.fromarray(RNG.integers(0, 256, (height, width, 3), dtype=np.uint8))
    return (
        noise.resize((4, 4)).resize((width, height), Image.Resampling.BICUBIC) if smooth else noise
    )


def file(image: Image.Image, kind: str = "JPEG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def by_pillow(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("sampling", ["4:4:4", "4:2:2", "4:2:0"])
@pytest.mark.parametrize("size", [(1, 1), (7, 9), (16, 17), (112, 112), (113, 97)])
def test_usual_files_have_pillows_pixels(simplejpeg, size, sampling, progressive):
    for quality in (5, 50, 90, 100):
        for smooth in (False, True):
            for restart in (0, 1):
                data = file(
                    face(*size, smooth),
                    quality=quality,
                    subsampling=sampling,
                    progressive=progressive,
                    restart_marker_rows=restart,
                )
                assert np.array_equal(jpeg.decode(data, MOST), by_pillow(data))


XMP = b"\xff\xe1\0\x06xmp "


def turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return file(face(9, 7), exif=exif)


@pytest.mark.parametrize(
    "data",
    [
        file(face(9, 7).convert("L")),
        file(face(9, 7).convert("CMYK")),
        file(face(9, 7), keep_rgb=True),
        file(face(9, 7)).replace(b"\xff\xdb", XMP + b"\xff\xdb", 1),
        file(face(9, 7), comment=b"\xff\xda").replace(b"\xff\xdb", XMP + b"\xff\xdb", 1),
        file(face(9, 7)).replace(b"\xff\xdb", b"\xff" + XMP + b"\xff\xdb", 1),
        file(face(1025, 1024)),
        turned(),
        file(face(9, 7), "MPO", save_all=True, append_images=[face(9, 7)]),
        file(face(9, 7), "PNG"),
        file(face(9, 7))[:-40],
        file(face(9, 7))[:3],
        b"",
    ],
    ids=[
        "grey",
        "cmyk",
        "rgb",
        "xmp",
        "comment, xmp",
        "filler, xmp",
        "large",
        "turned",
        "mpo",
        "png",
        "cut",
        "marker",
        "empty",
    ],
)
def test_anything_else_is_left_to_pillow(simplejpeg, data):
    assert jpeg.decode(data, MOST) is None


@pytest.mark.parametrize("sampling", ["440", "411"])
def test_rare_samplings_are_left_to_pillow(simplejpeg, sampling):
    data = simplejpeg.encode_jpeg(np.asarray(face(9, 7)), colorsubsampling=sampling)
    assert jpeg.decode(data, MOST) is None


SOME = [
    file(face(*size), subsampling=sampling, progressive=progressive)
    for size in ((8, 8), (21, 34))
    for sampling in ("4:4:4", "4:2:0")
    for progressive in (False, True)
]


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_damaged_file_gives_what_pillow_gives(data):
    pytest.importorskip("simplejpeg")
    whole = data.draw(st.sampled_from(SOME))
    at = data.draw(st.integers(2, len(whole)))
    junk, skipped = data.draw(st.binary(max_size=4)), data.draw(st.integers(0, 4))
    damaged = whole[:at] + junk + whole[at + skipped :]
    taken = jpeg.decode(damaged, MOST)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jpeg, "decode", lambda *_: None)
        try:
            expected = images.decode(damaged)
        except DataError:
            assert taken is None
            return
    assert taken is None or np.array_equal(taken, expected)


def test_a_library_that_decodes_otherwise_is_done_without(simplejpeg, monkeypatch):
    data = file(face(112, 112))
    assert jpeg.decode(data, MOST) is not None
    for other in ({"fastdct": True}, {"fastupsample": True}):
        jpeg._like_pillow.cache_clear()
        with monkeypatch.context() as patch:
            patch.setattr(simplejpeg, "decode_jpeg", partial(simplejpeg.decode_jpeg, **other))
            assert jpeg.decode(data, MOST) is None


def test_without_the_package_pillow_decodes(monkeypatch):
    monkeypatch.setitem(sys.modules, "simplejpeg", None)
    data = file(face(112, 112))
    assert jpeg.decode(data, MOST) is None
    assert np.array_equal(images.decode(data), by_pillow(data))


def test_the_real_crops_have_pillows_pixels(simplejpeg, shared_data):
    source = images.find(shared_data / "lfw" / "lfw_pairs_aligned112_q90.zip")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jpeg, "decode", lambda *_: None)
        expected = [source.read(row) for row in range(200)]
    assert all(np.array_equal(source.read(row), expected[row]) for row in range(200))
