"""What several tests share."""

import os
import signal
import stat
from dataclasses import replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from skipped_everywhere import NO_DATA

from evalkit.adapters.gpus import driver
from evalkit.protocols import verification
from evalkit.types import PairSet, Report

# The same examples in every run; HYPOTHESIS_PROFILE=explore draws new ones.
# No deadline: a time would fail on a busy machine.
settings.register_profile("same", derandomize=True, deadline=None)
settings.register_profile("explore", deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))

# Read when Triton is imported, as torch does: without a GPU for torch, kernels are interpreted.
if find_spec("torch") and ("+cpu" in version("torch") or not driver().gpus):
    os.environ.setdefault("TRITON_INTERPRET", "1")

# A shell starts what it runs in the background with Ctrl-C ignored; some tests press it.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

_SHARED = Path(os.environ.get("EVALKIT_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Find the real models, images, features and official outputs, or skip where absent."""
    if not _SHARED.is_dir():
        pytest.skip(f"{NO_DATA} at {_SHARED} (set EVALKIT_SHARED_DATA)")
    return _SHARED


@pytest.fixture(scope="session")
def two_reports() -> tuple[Report, Report]:
    """One list of pairs scored by a model and by a noisier one."""
    rng = np.random.default_rng(0)
    people, images = 60, 4
    subject = np.repeat(np.arange(people), images).astype(np.int32)
    x = rng.normal(size=(people, 16))[subject] + 0.5 * rng.normal(size=(people * images, 16))
    worse = x + 0.6 * rng.normal(size=x.shape)
    genuine = np.arange(800) % 2 == 0
    left = rng.integers(0, people * images, 800)
    same = left // images * images + (left + 1) % images
    right = np.where(genuine, same, (left + images * rng.integers(1, people, 800)) % len(subject))
    fold = (np.arange(800) // 80).astype(np.int16)
    pairs = PairSet(left, right, genuine, fold)
    keys = np.array([f"p{s:02}/{n}.jpg" for n, s in enumerate(subject)])
    out = []
    for features in (x, worse):
        r = verification.evaluate(
            features.astype(np.float32),
            pairs,
            subject,
            fars=("1e-1", "1e-2"),
            keys=keys.tolist(),
            set_name="people",
        )
        marks = dict.fromkeys(("crop", "decoder", "recipe"), "same")
        held = {**(r.outcomes or {}), "keys": keys}
        out.append(replace(r, provenance={**r.provenance, **marks}, outcomes=held))
    return out[0], out[1]


@pytest.fixture
def null(tmp_path: Path) -> Path:
    """A device like /dev/null; root gets one of its own, since root could replace the system's."""
    if os.geteuid() != 0:
        return Path("/dev/null")
    path = tmp_path / "null"
    try:
        os.mknod(path, stat.S_IFCHR | 0o666, Path("/dev/null").stat().st_rdev)
        path.write_bytes(b"")
    except OSError:
        pytest.skip("no device can be made here")
    return path
