"""Records of the metrics that are of groups of people; what they are is in `protocols.groups`."""

from __future__ import annotations

from evalkit.protocols.metrics.record import Metric

METRICS = (
    Metric(
        grammar="fmr@far=FAR",
        means="FMR within a group, or between two, at the threshold that has FAR of all pairs",
        better="lower",
        by_group=True,
    ),
    Metric(
        grammar="fnmr@far=FAR",
        means="FNMR of a group at the threshold that has FAR of all pairs",
        better="lower",
        percent=True,
        by_group=True,
    ),
    Metric(
        grammar="fmr@far-of-each=FAR",
        means="FMR of a group at the lowest threshold that has FAR within every group",
        better="lower",
        by_group=True,
    ),
    Metric(
        grammar="fnmr@far-of-each=FAR",
        means="FNMR of a group at the lowest threshold that has FAR within every group",
        better="lower",
        percent=True,
        by_group=True,
    ),
    Metric(
        grammar="fpir@fpir=FPIR",
        means="FPIR of a group's probes at the threshold that has FPIR of all searches",
        better="lower",
        percent=True,
        counts="searches",
        by_group=True,
    ),
    Metric(
        grammar="fte",
        means="failure to enrol: share of a group's images without a template",
        better="lower",
        percent=True,
        counts="images",
        by_group=True,
    ),
    Metric(
        grammar="fmr-ratio",
        means="FMR of a group over the geometric mean of all groups",
        better=None,
        unit="ratio",
        by_group=True,
    ),
    Metric(
        grammar="fnmr-ratio",
        means="FNMR of a group over the geometric mean of all groups",
        better=None,
        unit="ratio",
        by_group=True,
    ),
    Metric(
        grammar="fmr-worst/best",
        means="highest FMR of a group over the lowest",
        better="lower",
        unit="ratio",
        by_group=True,
    ),
    Metric(
        grammar="fnmr-worst/best",
        means="highest FNMR of a group over the lowest",
        better="lower",
        unit="ratio",
        by_group=True,
    ),
    Metric(
        grammar="fmr-equality",
        means="p of the hypothesis that all groups have one FMR, adjusted by Holm",
        better=None,
        by_group=True,
    ),
    Metric(
        grammar="fnmr-equality",
        means="p of the hypothesis that all groups have one FNMR, adjusted by Holm",
        better=None,
        by_group=True,
    ),
    Metric(
        grammar="fdr",
        means="fairness discrepancy rate: 1 - (largest gap of FMR + largest gap of FNMR) / 2",
        better="higher",
        by_group=True,
    ),
    Metric(
        grammar="ineq",
        means="inequity: geometric mean of worst/best FMR and worst/best FNMR",
        better="lower",
        unit="ratio",
        by_group=True,
    ),
    Metric(
        grammar="garbe",
        means="mean of the Gini coefficients of FMR and FNMR over groups",
        better="lower",
        by_group=True,
    ),
    Metric(
        grammar="gini-fmr",
        means="Gini coefficient of the groups' FMR, 0 where they are equal",
        better="lower",
        by_group=True,
    ),
    Metric(
        grammar="gini-fnmr",
        means="Gini coefficient of the groups' FNMR, 0 where they are equal",
        better="lower",
        by_group=True,
    ),
)
