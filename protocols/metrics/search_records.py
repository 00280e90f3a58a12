"""Records of the metrics of searches: ranks, and misses at a rate of false alarms."""

from __future__ import annotations

from evalkit.protocols.metrics.record import Metric

METRICS = (
    Metric(
        grammar="rank-K",
        means="share of probes whose mate has fewer than K gallery entries scoring above it",
        better="higher",
        percent=True,
        counts="searches",
        resampled="rank",
        of_parts=True,
        by_group=True,
    ),
    Metric(
        grammar="rank-K@gallery=drawn",
        means="rank-K, mean over galleries of one image per subject drawn at random",
        better="higher",
        percent=True,
        counts="searches",
    ),
    Metric(
        grammar="tpir@fpir=FPIR",
        means="share of mated searches found first and accepted, with FPIR at most FPIR",
        better="higher",
        percent=True,
        counts="searches",
        resampled="tpir",
        of_parts=True,
        by_group=True,
    ),
    Metric(
        grammar="fnir@rank=K,gallery=N",
        means="FNIR(N, K, 0): share of mated searches without the mate within rank K of N people",
        better="lower",
        percent=True,
        counts="searches",
    ),
    Metric(
        grammar="fnir@fpir=FPIR,rank=K,gallery=N",
        means="FNIR(N, K, T): the same, or below the threshold T with FPIR at most FPIR",
        better="lower",
        percent=True,
        counts="searches",
    ),
)
