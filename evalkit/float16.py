"""float16 widened to float32: the values of NumPy's own conversion, several times as fast.

Both have a sign, an exponent and a fraction, so that shifted bits are the float32 of every value
but those of the lowest exponent (nought among them) and of the highest (infinities and NaN); these
few NumPy converts.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_FRACTION = 23 - 10  # more bits in a float32
_SHIFTED = ~(7 << 28)  # a copy of the sign, three times, precedes the exponent
_BIAS = (127 - 15) << 23
_LOWEST, _HIGHEST = 1 << 10, 31 << 10  # exponents, where the fraction is nought


def widened(x: NDArray[Any]) -> NDArray[np.float32]:
    """Widen float16 of any shape to float32, contiguous, without any rounding."""
    half = np.ascontiguousarray(x, np.float16)
    bits = half.view(np.int16)
    wide = bits.astype(np.int32)
    wide <<= _FRACTION
    wide &= _SHIFTED
    wide += _BIAS
    above_lowest = ((bits & _HIGHEST) - _LOWEST).view(np.uint16)  # the lowest wraps around
    rare = np.flatnonzero(above_lowest >= _HIGHEST - _LOWEST)
    values: NDArray[np.float32] = wide.view(np.float32)
    values.reshape(-1)[rare] = half.reshape(-1)[rare]
    return values
