"""float16 widened to float32: the bits of NumPy's own conversion."""

from __future__ import annotations

import numpy as np
import pytest

from evalkit.protocols.metrics.similarity import single, widened

ALL = np.arange(1 << 16, dtype=np.uint16).view(np.float16)


def test_every_value_has_the_bits_of_numpys_conversion() -> None:
    expected = ALL.astype(np.float32)
    np.testing.assert_array_equal(widened(ALL).view(np.uint32), expected.view(np.uint32))


@pytest.mark.parametrize(
    "part", [ALL[:0], ALL[5], ALL[::3], ALL.reshape(256, 256).T, ALL.reshape(64, 32, 32)[:, 1]]
)
def test_any_shape_and_stride_gives_rows_that_lie_together(part: np.ndarray) -> None:
    wide = widened(part)
    assert wide.flags.c_contiguous
    np.testing.assert_array_equal(wide, np.ascontiguousarray(part, np.float32))


def test_rows_of_either_byte_order_are_the_same_numbers() -> None:
    rows = ALL.reshape(256, 256)
    np.testing.assert_array_equal(single(rows), single(rows.astype(">f2")))
