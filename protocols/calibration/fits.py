"""Log likelihood ratios from scores: a logistic or an isotonic fit, kept in a small file.

docs/calibration.md describes the file.  Natural logarithms.  The posterior at a prior p is
1 / (1 + exp(-llr) (1 - p) / p).
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit

from evalkit.arrays import numbers
from evalkit.errors import DataError, ProtocolError
from evalkit.files import as_path, read_text, whole_file
from evalkit.protocols.metrics.cllr import costs, isotonic_llr
from evalkit.protocols.metrics.elementary import rounded
from evalkit.replacing import CALIBRATION, refuse_replacing
from evalkit.types import Floats

Fit = Literal["logistic", "isotonic"]
FITS: tuple[Fit, ...] = ("logistic", "isotonic")
FORMAT, VERSION = "evalkit-calibration", 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """Log likelihood ratio as a function of the score.

    fit : how.  slope, offset : of a logistic one.  score, llr : (K,) points of an isotonic one,
    both ascending.
    """

    fit: Fit
    slope: float = 0.0
    offset: float = 0.0
    score: tuple[float, ...] = ()
    llr: tuple[float, ...] = ()

    def of(self, score: ArrayLike) -> Floats:
        """Log likelihood ratio of each score; 0, which says nothing, of a failed one (-inf)."""
        s = numbers(score, "score")
        known = np.isfinite(s)
        llr = np.zeros(s.shape)
        if self.fit == "logistic":
            llr[known] = self.slope * s[known] + self.offset
        else:
            llr[known] = np.interp(s[known], self.score, self.llr)
        return llr

    def posterior(self, score: ArrayLike, prior: float) -> Floats:
        """Probability that each comparison is genuine, where a share `prior` of all is.

        >>> Calibration(fit="logistic", slope=2.0).posterior([0.0, 1.0], 0.5).round(3).tolist()
        [0.5, 0.881]
        """
        if not 0 < prior < 1:
            raise ProtocolError(f"prior {prior} is outside (0, 1)", "a share of 1, as 0.01")
        posterior: Floats = expit(self.of(score) + math.log(prior / (1 - prior)))
        return posterior


def fitted(genuine: ArrayLike, impostor: ArrayLike, fit: Fit) -> Calibration:
    """Fit log likelihood ratios to scores, both classes weighing half.

    genuine : (G,), impostor : (I,) scores; failed ones (-inf) are left out.
    logistic : slope and offset with the least Cllr.  ProtocolError where the classes do not
    overlap: the slope would be infinite.
    isotonic : `metrics.cllr.isotonic_llr`, with one genuine and one impostor score more at either
    end, so that no ratio is infinite.
    """
    g, i = (numbers(s, "score") for s in (genuine, impostor))
    g, i = g[np.isfinite(g)], i[np.isfinite(i)]
    if not len(g) or not len(i):
        raise ProtocolError(f"{len(g)} genuine and {len(i)} impostor scores cannot be calibrated")
    return _logistic(g, i) if fit == "logistic" else _isotonic(g, i)


def _logistic(g: Floats, i: Floats) -> Calibration:
    if g.min() > i.max() or g.max() < i.min():
        raise ProtocolError(
            "genuine and impostor scores do not overlap: a logistic fit has no end",
            "take more pairs, or the isotonic fit",
        )
    both = np.concatenate([g, i])
    middle, scale = float(both.mean()), float(both.std()) or 1.0
    x, y = (g - middle) / scale, (i - middle) / scale

    def cost(ab: Floats) -> tuple[float, Floats]:
        of_g, of_i = ab[0] * x + ab[1], ab[0] * y + ab[1]
        value = costs(of_g, genuine=True).mean() + costs(of_i, genuine=False).mean()
        down, up = -expit(-of_g) / math.log(2), expit(of_i) / math.log(2)
        slope = (down * x).mean() + (up * y).mean()
        return float(value), np.array([slope, down.mean() + up.mean()])

    from scipy.optimize import minimize  # takes longer to import than numpy

    optimum = minimize(cost, np.array([1.0, 0.0]), jac=True, method="BFGS", options={"gtol": 1e-9})
    a, b = (rounded(v) for v in optimum.x)  # as many digits as the optimum is found to
    return Calibration(fit="logistic", slope=a / scale, offset=b - a * middle / scale)


def _isotonic(g: Floats, i: Floats) -> Calibration:
    ends = min(g.min(), i.min()) - 1, max(g.max(), i.max()) + 1
    score, llr = isotonic_llr(np.append(g, ends), np.append(i, ends))
    step = np.append(True, np.diff(llr) > 0)
    on = step | np.append(step[1:], True)  # both ends of every level stretch
    return Calibration(fit="isotonic", score=tuple(score[on]), llr=tuple(llr[on]))


def write(calibration: Calibration, path: str | os.PathLike[str]) -> None:
    """Write the file that another program applies."""
    file = as_path(path)
    document: dict[str, Any] = {"format": FORMAT, "version": VERSION, "fit": calibration.fit}
    if calibration.fit == "logistic":
        document |= {"slope": calibration.slope, "offset": calibration.offset}
    else:
        document |= {"score": list(calibration.score), "llr": list(calibration.llr)}
    refuse_replacing(file, CALIBRATION)
    with whole_file(file) as f:
        f.write(f"{json.dumps(document)}\n".encode())


def read(path: str | os.PathLike[str]) -> Calibration:
    """Read such a file; DataError where it is none."""
    file = as_path(path)
    try:
        document = json.loads(read_text(file))
        if document.pop("format") != FORMAT or document.pop("version") != VERSION:
            raise ValueError
        columns: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in document.items()
        }
        calibration = Calibration(**columns)
        points = np.array([calibration.score, calibration.llr], np.float64)
        numeric = (
            np.isfinite([calibration.slope, calibration.offset]).all() and np.isfinite(points).all()
        )
        rising = bool((np.diff(points) >= 0).all()) and (
            calibration.fit == "logistic" or points.size
        )
        if calibration.fit not in FITS or not numeric or not rising:
            raise ValueError
    except (ValueError, TypeError, KeyError, AttributeError) as e:
        raise DataError(
            f"{file.name} is not a calibration of evalkit's, version {VERSION}",
            "write one with evalkit calibrate REPORT --save FILE.json",
        ) from e
    return calibration
