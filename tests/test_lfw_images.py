"""Fetching LFW, from a loopback stand-in for its site."""

import functools
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from evalkit.datasets import lfw, lfw_images
from evalkit.embedding import development
from evalkit.errors import DataError

pytest.importorskip("pooch")


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lfw_images, "_RETRIES", 0)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Serve a folder as if it were the site; three images make up the data set."""
    root = tmp_path / "site"
    root.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(root))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("EVALKIT_LFW_URL", f"http://127.0.0.1:{server.server_port}/")
        monkeypatch.setenv("EVALKIT_CACHE", str(tmp_path / "cache"))
        yield root
        server.shutdown()


def test_the_shipped_table_covers_both_views() -> None:
    marks = lfw_images.landmarks()
    keys, points = marks.keys, marks.points
    assert len(set(keys)) == 13233
    assert points.shape == (13233, 5, 2)
    assert bool(((points > 0) & (points < 250)).all())
    assert set(keys) >= {*lfw.official_pairs().resolve()[0].keys, *development.view_1([], 1000)}
    assert len(set(development.view_1([], 1000))) == 2 * 788


def _small(monkeypatch: pytest.MonkeyPatch, contents: dict[str, bytes]) -> None:
    import hashlib

    digests = [np.frombuffer(hashlib.sha256(c).digest(), np.uint8) for c in contents.values()]
    table = list(contents), np.array(digests), np.zeros((len(contents), 5, 2), np.float32)
    monkeypatch.setattr(lfw_images, "_table", lambda: table)


def test_images_are_fetched_once_and_checked(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    contents = {f"A/A_000{k}.jpg": bytes([k]) * 100 for k in (1, 2, 3)}
    _small(monkeypatch, contents)
    (site / "A").mkdir()
    for key, content in contents.items():
        (site / key).write_bytes(content)
    seen: list[tuple[int, int]] = []
    folder = lfw_images.fetch(contents, lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert (folder / "A/A_0002.jpg").read_bytes() == contents["A/A_0002.jpg"]
    for key in contents:
        (site / key).unlink()
    assert lfw_images.fetch(contents) == folder  # from the cache: the site has nothing any more


def test_a_changed_image_is_refused(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _small(monkeypatch, {"A_0001.jpg": b"right"})
    (site / "A_0001.jpg").write_bytes(b"wrong")
    with pytest.raises(DataError, match="cannot be fetched"):
        lfw_images.fetch(["A_0001.jpg"])


def test_an_unreachable_site_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVALKIT_LFW_URL", "http://127.0.0.1:9/")
    monkeypatch.setenv("EVALKIT_CACHE", str(tmp_path))
    with pytest.raises(DataError, match="LFW is not on this machine") as caught:
        lfw_images.fetch(["Aaron_Guiel/Aaron_Guiel_0001.jpg"])
    assert caught.value.message.endswith(
        "cannot be fetched from http://127.0.0.1:9/: no connection"
    )


def test_an_image_that_is_none_of_lfws_is_named() -> None:
    with pytest.raises(DataError, match=r"images of LFW are missing for 1 of 1 images: Me/Me_1"):
        lfw_images.fetch(["Me/Me_1.jpg"])
