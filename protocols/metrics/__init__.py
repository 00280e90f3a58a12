"""The numbers that every protocol shares, from plain arrays of scores.

A score is a similarity: higher is more alike, and a pair is accepted if and only if
``score >= threshold``, so equal scores stand or fall together.  A comparison that failed (no
template) has the score -inf: it is never accepted, and it is counted in every denominator, so it
lowers TPR and cannot raise FAR.  NaN and +inf are refused.

Rates come from integer counts and one division.  Nothing depends on a grid of thresholds.
"""

from evalkit.protocols.metrics.curves import Det, Roc, auc, det, eer, roc
from evalkit.protocols.metrics.operating_point import (
    Rates,
    Thresholds,
    checked_scores,
    dir_at_fpir,
    error_estimates,
    errors_at,
    exact_rate,
    false_accepts_allowed,
    few_errors,
    few_false_accepts,
    given_thresholds,
    mean_estimate,
    rate_text,
    rate_texts,
    search_errors_at,
    threshold_above,
    threshold_at_far,
    threshold_text,
    tpr_at_far,
    tpr_estimate,
    tpr_of_highest,
)
from evalkit.protocols.metrics.ranks import cmc, mate_rank, rank_depths, rank_within

__all__ = [
    "Det",
    "Rates",
    "Roc",
    "Thresholds",
    "auc",
    "checked_scores",
    "cmc",
    "det",
    "dir_at_fpir",
    "eer",
    "error_estimates",
    "errors_at",
    "exact_rate",
    "false_accepts_allowed",
    "few_errors",
    "few_false_accepts",
    "given_thresholds",
    "mate_rank",
    "mean_estimate",
    "rank_depths",
    "rank_within",
    "rate_text",
    "rate_texts",
    "roc",
    "search_errors_at",
    "threshold_above",
    "threshold_at_far",
    "threshold_text",
    "tpr_at_far",
    "tpr_estimate",
    "tpr_of_highest",
]
