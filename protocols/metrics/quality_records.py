"""Records of the metrics that hold image quality against error; see `protocols.quality`."""

from __future__ import annotations

from evalkit.protocols.metrics.record import Metric

METRICS = (
    Metric(
        grammar="fnmr@far=FAR,pairs-discarded=SHARE",
        means="FNMR without the share of genuine pairs of lowest quality, threshold of all pairs",
        better="lower",
        percent=True,
    ),
    Metric(
        grammar="fnmr@far=FAR,images-discarded=SHARE",
        means="FNMR without the share of images of lowest quality, threshold of all pairs",
        better="lower",
        percent=True,
    ),
    Metric(
        grammar="fnmr@far-of-kept=FAR,pairs-discarded=SHARE",
        means="FNMR without the share of genuine pairs of lowest quality, at FAR of the pairs left",
        better="lower",
        percent=True,
    ),
    Metric(
        grammar="fnmr@far-of-kept=FAR,images-discarded=SHARE",
        means="FNMR without the share of images of lowest quality, at FAR of the pairs left",
        better="lower",
        percent=True,
    ),
    Metric(
        grammar="edc-area",
        means="partial area under the error versus discard curve, over its width: mean FNMR",
        better="lower",
        percent=True,
    ),
    Metric(
        grammar="edc-area-difference",
        means="partial area of a quality less that of another: below 0 it is the better one",
        better=None,
        percent=True,
    ),
    Metric(
        grammar="edc-area-equality",
        means="p of the hypothesis that two qualities have one partial area, adjusted by Holm",
        better=None,
    ),
)
