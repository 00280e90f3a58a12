"""LFW's photographs, fetched from the data set's own site, and the landmarks that align them."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from pathlib import Path
from textwrap import shorten

import numpy as np
from numpy.typing import NDArray

from evalkit.errors import DataError, needing
from evalkit.files import cache_folder
from evalkit.images.landmarks import Landmarks
from evalkit.keys import rows_of

# The deep-funneled 250x250 images at one commit of the official site's repository.
SITE = (
    "https://raw.githubusercontent.com/umass-vis-lfw/umass-vis-lfw.github.io/"
    "2a620cd8cceb10430f8c7012fe9fa5f0837759e9/images_deepfunneled/"
)
_CONNECTIONS = 16
_RETRIES = 2


def _table() -> tuple[list[str], NDArray[np.uint8], NDArray[np.float32]]:
    file = files("evalkit.datasets") / "data" / "lfw_deepfunneled.npz"
    with file.open("rb") as f, np.load(f, allow_pickle=False) as z:
        return z["keys"].tobytes().decode().split("\n"), z["sha256"], z["landmarks"]


def landmarks() -> Landmarks:
    """Points of the 13,233 faces in the deep-funneled images, found by RetinaFace."""
    keys, _, points = _table()
    return Landmarks(tuple(keys), points)


def fetch(
    wanted: Collection[str], progress: Callable[[int, int], None] = lambda done, total: None
) -> Path:
    """Download deep-funneled images of LFW and return the folder that they are in.

    wanted : names of images, such as the 7,701 of View 2 (68 MB).  Each is checked against its
    known SHA-256 and kept in the user's cache, so a broken download goes on where it stopped and a
    second call downloads nothing.  `EVALKIT_LFW_URL` names a mirror.  DataError for a name that is
    none of LFW's, and where neither the cache nor the site has them.
    """
    with needing("pooch", "data", "fetching LFW"):
        import pooch
        import requests
    pooch.get_logger().setLevel("WARNING")
    every, digests, _ = _table()
    rows = rows_of(list(wanted), every, "images of LFW").tolist()
    keys = [every[r] for r in rows]
    site = os.environ.get("EVALKIT_LFW_URL", SITE)
    cache = pooch.create(
        path=cache_folder() / "lfw-deepfunneled",
        base_url=site,
        registry={every[r]: digests[r].tobytes().hex() for r in rows},
        retry_if_failed=_RETRIES,
    )
    try:
        for folder in {Path(cache.abspath, k).parent for k in keys}:
            folder.mkdir(parents=True, exist_ok=True)  # pooch's own threads race for it
        cache.fetch(keys[0])  # one before the rest, so that an unreachable site is told at once
        with ThreadPoolExecutor(_CONNECTIONS) as pool:
            for done, _ in enumerate(pool.map(cache.fetch, keys), start=1):
                progress(done, len(keys))
    except (requests.RequestException, ValueError) as e:
        raise DataError(
            f"LFW is not on this machine and cannot be fetched from {site}: {_reason(e)}",
            "pass --data FOLDER|ZIP with the images, or --features FILE with embeddings",
        ) from e
    return Path(cache.abspath)


def _reason(error: Exception) -> str:
    import requests

    apart = requests.exceptions.SSLError, requests.exceptions.ProxyError  # these say more
    if isinstance(error, requests.ConnectionError) and not isinstance(error, apart):
        return "no connection"
    return shorten(str(error).splitlines()[0], 200, placeholder=" ...")
