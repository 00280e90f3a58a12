"""Logarithm, arc cosine and inner product with the same bits on every processor.

numpy's own vectorised log, exp, power and arccos round otherwise with AVX-512 than without, and a
product by BLAS adds in another order on another processor.  scipy's special functions and Python's
math call the C library for each number, numpy's sums have one order, and + - * / and the square
root are rounded alike everywhere [IEEE 754].  What LAPACK computes is given to fewer digits.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import xlogy

from evalkit.types import Floats

_arccos = np.frompyfunc(math.acos, 1, 1)


def log(x: ArrayLike) -> Floats:
    """Natural logarithm of each number; -inf of 0, NaN below.

    >>> log([1.0, 0.0]).tolist()
    [0.0, -inf]
    """
    return np.asarray(xlogy(1.0, x), np.float64)


def arccos(x: ArrayLike) -> Floats:
    """Arc cosine of each number from -1 to 1, in radians; ValueError outside.

    >>> arccos([1.0, 0.0]).tolist()
    [0.0, 1.5707963267948966]
    """
    return np.asarray(_arccos(x), np.float64)


def inner(x: NDArray[Any], y: NDArray[Any]) -> float:
    """Inner product of two vectors (N,); 0 of none.

    >>> inner(np.array([1.0, 2.0]), np.array([3.0, 4.0]))
    11.0
    """
    return float((x * y).sum())


def rounded(value: float, digits: int = 10) -> float:
    """Round to significant digits: of what another LAPACK gives otherwise in its last ones.

    >>> rounded(0.1234567890123)
    0.123456789
    """
    return float(f"{value:.{digits}g}")
