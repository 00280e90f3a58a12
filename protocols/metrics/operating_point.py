"""TPR at a false accept rate: the one place where a threshold is chosen and a rate is stated."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evalkit.arrays import numbers, whole_numbers
from evalkit.errors import ProtocolError
from evalkit.types import Estimate

FEW_ERRORS = 10  # fewer do not say what the next sample would let through, or miss
_RATE = re.compile(r"-?[0-9./]{1,30}([eE][+-]?[0-9]{1,3})?")


# FARs or FPIRs as a caller may give them: one, or several
Rates = str | float | Sequence[str | float]
Thresholds = float | Sequence[float] | None


def checked_scores(values: ArrayLike, what: str) -> NDArray[np.float64]:
    """Return (N,) float64 scores, or raise ProtocolError where they are none: NaN, +inf, 2-D."""
    s = numbers(values, f"{what} scores")
    if s.ndim != 1:
        raise ProtocolError(f"{what} scores have shape {s.shape}", "expected one dimension")
    if not (s < np.inf).all():  # NaN compares False
        bad = int(np.flatnonzero(~(s < np.inf))[0])
        raise ProtocolError(
            f"{what} score {bad} is {s[bad]}", "scores are finite; a failed comparison is -inf"
        )
    return s


def rate_text(rate: str | float) -> str:
    """Spell a FAR or FPIR as decimal text; a float is the shortest text that is read as it.

    ProtocolError where it is none, as from `exact_rate`.

    >>> rate_text("1e-3"), rate_text(1e-3), rate_text(1e-5)
    ('1e-3', '0.001', '1e-05')
    """
    text = str(rate) if isinstance(rate, np.floating) else rate
    text = float.__repr__(text) if isinstance(text, float) else text
    _fraction(text)
    return text


def rate_texts(rates: Rates) -> tuple[str, ...]:
    """Spell FARs or FPIRs as `rate_text` does, in their order; one alone is a list of one.

    >>> rate_texts("1e-3"), rate_texts([1e-3, "0.1"]), rate_texts([])
    (('1e-3',), ('0.001', '0.1'), ())
    """
    if isinstance(rates, str | float | np.floating):
        return (rate_text(rates),)
    try:
        several = tuple(rates)
    except TypeError:
        kind = type(rates).__name__
        raise ProtocolError(f"a {kind} where FARs belong", 'give ["1e-3", "1e-4"]') from None
    return tuple(map(rate_text, several))


def exact_rate(text: str | float) -> Fraction:
    """Read a FAR or FPIR from decimal text such as "1e-3", exactly: "0.1" means one tenth.

    A float means its decimal text, see `rate_text`.

    ProtocolError unless 0 < x <= 1 and the text is what somebody would write: an exponent of nine
    digits would take hours.
    """
    return _fraction(rate_text(text))


def _fraction(text: str) -> Fraction:
    try:
        if not isinstance(text, str) or not _RATE.fullmatch(text):
            raise ValueError
        x = Fraction(text)
    except (ValueError, ZeroDivisionError):
        raise ProtocolError(f"FAR {text!r} is not decimal text", 'write it as "1e-3"') from None
    if not 0 < x <= 1:
        raise ProtocolError(f"FAR {text} is outside (0, 1]", 'write it as a fraction, "1e-3"')
    return x


def false_accepts_allowed(far: str | float, impostor: int) -> int:
    """K = floor(x N): the accepts that a FAR of at most x allows among N impostor comparisons.

    far : decimal text, see `exact_rate`; the product is exact.

    >>> false_accepts_allowed("1e-3", 3000), false_accepts_allowed("0.3", 10)
    (3, 3)
    """
    return math.floor(exact_rate(far) * impostor)


def threshold_at_far(impostor: ArrayLike, far: str | float) -> float | None:
    """Lowest threshold whose measured FAR is at most x, or None where x N < 1.

    With K = floor(x N) it is the next float64 above the (K+1)-th largest of the N impostor scores,
    so what is accepted lies strictly above that score.

    >>> threshold_at_far([0.1, 0.2, 0.3, 0.4], "0.25")
    0.30000000000000004
    """
    i = checked_scores(impostor, "impostor")
    k = false_accepts_allowed(far, len(i))
    if k == 0:
        return None
    return threshold_above(
        np.partition(i, len(i) - k - 1)[len(i) - k - 1] if k < len(i) else -np.inf
    )


def threshold_above(border: float) -> float:
    """Lowest threshold that rejects the border, the highest rejected impostor score.

    The next float64; of -inf, where all but the failures are accepted, the lowest finite one.

    >>> threshold_above(0.3)
    0.30000000000000004
    """
    return float(np.nextafter(border, np.inf))


def tpr_at_far(genuine: ArrayLike, impostor: ArrayLike, far: str | float) -> Estimate:
    """TPR at the lowest threshold whose measured FAR is at most x; never nearest or interpolated.

    far : x as decimal text, "1e-3".  Ties: impostors that share the score at the border are all
    rejected, so the realised `far` may be below x.  None with the reason where x N < 1 or there is
    no genuine comparison; a warning in `note` below ten false accepts, or misses.

    >>> tpr_at_far([0.9, 0.35, 0.2], [0.1, 0.2, 0.3, 0.4], "0.25").value
    0.6666666666666666
    """
    g, i = checked_scores(genuine, "genuine"), checked_scores(impostor, "impostor")
    threshold = threshold_at_far(i, far)
    bar = np.inf if threshold is None else threshold
    true, false = (int(np.count_nonzero(s >= bar)) for s in (g, i))
    return tpr_estimate(far, threshold, true, len(g), false, len(i))


def tpr_of_highest(
    far: str | float, genuine: NDArray[np.float64], highest: NDArray[np.float64], impostor: int
) -> Estimate:
    """TPR at a FAR as `tpr_at_far` states it, where only the highest impostor scores are at hand.

    genuine : (G,) scores.  highest : (I,) the highest of `impostor` scores, descending, down to the
    border at least; ProtocolError where they end before.
    """
    allowed = false_accepts_allowed(far, impostor)
    if len(highest) <= allowed and len(highest) < impostor:
        raise ProtocolError(
            f"FAR {far} of {impostor:,} impostor comparisons allows {allowed:,} false accepts, the "
            f"highest {len(highest):,} are at hand"
        )
    if not allowed:
        return tpr_estimate(far, None, 0, len(genuine), 0, impostor)
    threshold = threshold_above(highest[allowed] if allowed < len(highest) else -np.inf)
    true, false = (int(np.count_nonzero(s >= threshold)) for s in (genuine, highest))
    return tpr_estimate(far, threshold, true, len(genuine), false, impostor)


def few_false_accepts(count: int) -> str:
    """Warning of a rate that rests on fewer than ten false accepts; empty from ten on.

    >>> few_false_accepts(1), few_false_accepts(10)
    ('only 1 false accept: unreliable (fewer than 10)', '')
    """
    return few_errors(false_accepts=count)


def few_errors(
    *, false_accepts: int | None = None, misses: int | None = None, errors: int | None = None
) -> str:
    """Warning of a number that fewer than ten errors of a kind decide; empty from ten on.

    None : a kind that does not count.  errors : of both kinds together.

    >>> few_errors(false_accepts=30, misses=1), few_errors(misses=0)
    ('only 1 miss: unreliable (fewer than 10)', 'no misses: only a bound is known')
    """
    kinds = (
        (false_accepts, "false accept", "false accepts"),
        (misses, "miss", "misses"),
        (errors, "error", "errors"),
    )
    return "; ".join(
        f"only {count} {one if count == 1 else several}: unreliable (fewer than {FEW_ERRORS})"
        if count
        else f"no {several}: only a bound is known"
        for count, one, several in kinds
        if count is not None and count < FEW_ERRORS
    )


def tpr_estimate(
    far: str | float,
    threshold: float | None,
    true_accepts: int,
    genuine: int,
    false_accepts: int,
    impostor: int,
    words: tuple[str, str, str] = ("FAR", "genuine comparisons", "impostor comparisons"),
) -> Estimate:
    """State counts taken at a threshold as TPR@FAR=x: the one place that knows None and warnings.

    For those who count while streaming; `tpr_at_far` is the same for scores that fit in memory.
    words : what a note calls the rate and the trials of either kind.
    """
    rate, mates, trials = words
    far = rate_text(far)
    allowed = false_accepts_allowed(far, impostor)
    n = genuine + impostor
    if allowed == 0 or threshold is None:
        need = math.ceil(1 / exact_rate(far))
        note = f"{rate} {far} needs at least {need:,} {trials}, there are {impostor:,}"
        return Estimate(value=None, n=n, note=note)
    return Estimate(
        value=true_accepts / genuine if genuine else None,
        n=n,
        threshold=threshold,
        far=false_accepts / impostor,
        false_accepts=false_accepts,
        note=few_errors(false_accepts=false_accepts, misses=genuine - true_accepts)
        if genuine
        else f"no {mates}",
    )


def threshold_text(threshold: float) -> str:
    """Spell a threshold so that typing it back accepts the same pairs: the shortest such text.

    >>> threshold_text(0.1), threshold_text(5e-324), threshold_text(-0.0)
    ('0.1', '5e-324', '0.0')
    """
    return float.__repr__(float(threshold) + 0.0)


def given_thresholds(threshold: Thresholds) -> tuple[float, ...]:
    """Return thresholds, one alone or none as floats; ProtocolError unless all are finite."""
    thresholds = np.atleast_1d(numbers([] if threshold is None else threshold, "threshold"))
    if not np.isfinite(thresholds).all():
        raise ProtocolError(
            f"a threshold is {thresholds[~np.isfinite(thresholds)][0]}", "give a number"
        )
    return tuple((thresholds.ravel() + 0.0).tolist())


def errors_at(genuine: ArrayLike, impostor: ArrayLike, threshold: float) -> dict[str, Estimate]:
    """FMR and FNMR at a threshold that was chosen elsewhere, by name [ISO/IEC 19795-1].

    genuine : (G,), impostor : (I,) scores.  Accepted is score >= threshold; a failed comparison is
    a non-match.  FMR = share of the impostors accepted, FNMR = of the genuine rejected; None where
    there are none of them.

    >>> {name: m.value for name, m in errors_at([0.9, 0.2], [0.1, 0.3, 0.4, 0.2], 0.3).items()}
    {'fmr@threshold=0.3': 0.5, 'fnmr@threshold=0.3': 0.5}
    """
    g, i = checked_scores(genuine, "genuine"), checked_scores(impostor, "impostor")
    (t,) = given_thresholds(threshold)
    true, false = (int(np.count_nonzero(s >= t)) for s in (g, i))
    return error_estimates(t, true, false, len(g), len(i))


def error_estimates(
    threshold: float, true_accepts: int, false_accepts: int, genuine: int, impostor: int
) -> dict[str, Estimate]:
    """State counts taken at a given threshold as `errors_at` does: for those who count."""
    text = threshold_text(threshold)
    missed = genuine - true_accepts
    return {
        f"fmr@threshold={text}": Estimate(
            value=false_accepts / impostor if impostor else None,
            n=impostor,
            threshold=threshold,
            far=false_accepts / impostor if impostor else None,
            false_accepts=false_accepts,
            note=few_false_accepts(false_accepts) if impostor else "no impostor comparisons",
        ),
        f"fnmr@threshold={text}": Estimate(
            value=missed / genuine if genuine else None,
            n=genuine,
            threshold=threshold,
            note=few_errors(misses=missed) if genuine else "no genuine comparisons",
        ),
    }


def mean_estimate(each: Sequence[Estimate]) -> Estimate:
    """Mean over trials, splits or galleries, n of all together; `folds` has each.

    None, with the reason of the first, where one has no value.
    """
    n, values = sum(m.n for m in each), tuple(m.value for m in each if m.value is not None)
    if len(values) < len(each):
        return Estimate(value=None, n=n, note=next(m.note for m in each if m.value is None))
    return Estimate(value=float(np.mean(values)), n=n, folds=values)


def search_errors_at(
    mate_score: ArrayLike,
    rank: ArrayLike,
    highest_nonmate: ArrayLike,
    threshold: float,
    within: int = 1,
) -> dict[str, Estimate]:
    """FPIR, FNIR and TPIR (DIR) of an open-set search at a threshold chosen elsewhere, by name.

    Arguments as `dir_at_fpir` takes them.  FPIR = share of the searches without a mate whose best
    score reaches the threshold; TPIR = of those with one that find it at or above the threshold
    within rank `within`; FNIR = 1 - TPIR.  None where there are no such searches.
    Source: ISO/IEC 19795-1.

    >>> found = search_errors_at([0.9, 0.2], [1, 1], [0.1, 0.6, 0.3, 0.2], 0.5)
    >>> {name: m.value for name, m in found.items()}
    {'fpir@threshold=0.5': 0.25, 'fnir@threshold=0.5': 0.5, 'tpir@threshold=0.5': 0.5}
    """
    s, best = checked_scores(mate_score, "mate"), checked_scores(highest_nonmate, "non-mate")
    r = whole_numbers(rank, "rank")
    if r.shape != s.shape:
        raise ProtocolError(f"{len(s)} mate scores have ranks of shape {r.shape}")
    (t,) = given_thresholds(threshold)
    hits = int(np.count_nonzero((s >= t) & (r >= 1) & (r <= within)))
    false, text = int(np.count_nonzero(best >= t)), threshold_text(t)
    few = few_false_accepts(false) if len(best) else "no searches without a mate"
    missed = few_errors(misses=len(s) - hits) if len(s) else "no searches with a mate"
    fpir = false / len(best) if len(best) else None
    return {
        f"fpir@threshold={text}": Estimate(
            value=fpir, n=len(best), threshold=t, far=fpir, false_accepts=false, note=few
        ),
        f"fnir@threshold={text}": Estimate(
            value=(len(s) - hits) / len(s) if len(s) else None, n=len(s), threshold=t, note=missed
        ),
        f"tpir@threshold={text}": Estimate(
            value=hits / len(s) if len(s) else None, n=len(s), threshold=t, note=missed
        ),
    }


def dir_at_fpir(
    mate_score: ArrayLike,
    rank: ArrayLike,
    highest_nonmate: ArrayLike,
    fpir: str | float,
    within: int = 1,
) -> Estimate:
    """DIR@FPIR=x: detection and identification rate of an open-set search.

    mate_score, rank : (Q,) of probes that have a mate enrolled; highest_nonmate : (R,) the best
    gallery score of each probe that has none.  FPIR of a threshold = share of the R that reach it;
    the threshold is the lowest with FPIR at most x, as in `threshold_at_far`.  DIR = share of the Q
    with score >= threshold and rank <= `within`.  fpir : x as decimal text.  None where x R < 1 or
    Q = 0; ProtocolError where scores and ranks do not fit together.
    Source: Phillips, Grother, Micheals, Handbook of Face Recognition, ch. 14 (2005).
    """
    s, best = checked_scores(mate_score, "mate"), checked_scores(highest_nonmate, "non-mate")
    r = whole_numbers(rank, "rank")
    if r.shape != s.shape:
        raise ProtocolError(f"{len(s)} mate scores have ranks of shape {r.shape}")
    threshold = threshold_at_far(best, fpir)
    bar = np.inf if threshold is None else threshold
    hits = int(np.count_nonzero((s >= bar) & (r >= 1) & (r <= within)))
    false = int(np.count_nonzero(best >= bar))
    words = "FPIR", "searches with a mate", "searches without a mate"
    return tpr_estimate(fpir, threshold, hits, len(s), false, len(best), words)
