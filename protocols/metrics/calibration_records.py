"""Records of the metrics of calibrated scores; what they are is in `metrics.cllr`."""

from __future__ import annotations

from evalkit.protocols.metrics.record import Metric

METRICS = (
    Metric(
        grammar="cllr@fit=FIT",
        means="cost of log likelihood ratios fitted on the other folds: 0 perfect, 1 worth nothing",
        better="lower",
        unit="bits",
    ),
    Metric(
        grammar="cllr-min",
        means="cost of the best monotone log likelihood ratios, chosen on the same scores",
        better="lower",
        unit="bits",
    ),
)
