"""The same bits on another processor: numpy's and BLAS's newer instructions switched off."""

import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalkit.protocols.metrics.elementary import arccos, inner, log, rounded

REPORTS = """
import numpy as np
from evalkit.protocols import calibration, geometry, people, quality, verification
from evalkit.protocols.groups.grouping import Grouping
from evalkit.protocols.uncertainty.outcomes import from_arrays
from evalkit.types import PairSet

rng = np.random.default_rng(5)
who = np.repeat(np.arange(150), 6)
centre = rng.normal(size=(150, 96))[who]
x = ((centre + rng.normal(size=centre.shape)) * rng.uniform(1, 2, (900, 1))).astype(np.float32)
left = np.concatenate([np.arange(0, 900, 6)] * 2)
right = np.concatenate([np.arange(1, 900, 6), np.roll(np.arange(2, 900, 6), 1)])
order = np.argsort(np.tile(np.arange(150), 2), kind="stable")
fold = np.repeat(np.arange(10), 30)
pairs = PairSet(left[order], right[order], np.repeat([True, False], 150)[order], fold)
sex = Grouping.of("sex", [["f", "m", "x"][k % 3] for k in who])
pairwise = verification.evaluate(x, pairs, who)
reports = [
    pairwise,
    calibration.evaluate(from_arrays(pairwise.outcomes)),
    geometry.evaluate(x, who),
    people.evaluate(x, who, groups=[sex], fars=["1e-2", "1e-3"]),
    quality.evaluate(x, pairs, who),
]
for report in reports:
    for name, m in report.metrics.items():
        print(report.protocol, name, m.value, m.low, m.high, m.threshold)
    for name, curve in report.curves.items():
        print(report.protocol, name, curve)
"""


def told(**switched_off: str) -> list[str]:
    run = subprocess.run(
        [sys.executable, "-P", "-W", "ignore", "-c", REPORTS],
        env={**os.environ, **switched_off},
        capture_output=True,
        text=True,
        check=True,
    )
    return run.stdout.splitlines()


def test_reports_are_the_same_to_the_last_bit_without_the_newer_instructions():
    """numpy's log and arccos, BLAS's sums and LAPACK's eigenvalues differed in their last digits.

    The order in which people are drawn followed these: an interval of Cllr ended at 0.05814 on one
    processor and at 0.05836 on another.
    """
    core = pytest.importorskip("numpy._core._multiarray_umath")
    newer = [f for f in core.__cpu_dispatch__ if core.__cpu_features__[f] and "V3" not in f]
    usual = told()
    assert len(usual) > 100
    off = {"NPY_DISABLE_CPU_FEATURES": " ".join(newer)} if newer else {}
    assert told(**off, OPENBLAS_CORETYPE="Haswell") == usual
    assert told(**off, OPENBLAS_CORETYPE="Prescott", OPENBLAS_NUM_THREADS="2") == usual


@given(st.lists(st.floats(1e-300, 1e300), min_size=1))
def test_the_logarithm_is_the_c_library_s(x):
    assert np.allclose(log(x), np.log(x), rtol=1e-15, atol=1e-15)
    assert log([0.0])[0] == -np.inf


def test_the_arc_cosine_and_sums():
    x = np.linspace(-1, 1, 1001)
    assert np.allclose(arccos(x), np.arccos(x), rtol=1e-15)
    assert inner(x, np.ones(1001)) == x.sum()
    assert inner(np.empty(0), np.empty(0)) == 0
    assert rounded(2 / 3, 3) == 0.667
