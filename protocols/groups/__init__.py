"""Error rates by group: at one threshold, FMR within and between groups, FNMR, failure to enrol.

A group is one value of a column, such as "female" of "sex", known of each image; a condition, such
as an age gap of over ten years, is one of the comparison.  The threshold is
one for everybody, that of a FAR over all pairs or a given one, and stays where it is in the draws
of subjects: an interval says how the rate of these groups at this threshold varies with the people.
Comparisons are counted in what the protocol has kept of its pass over them, never scored again.
The terms are those of ISO/IEC 19795-10:2024, as the literature cites it.

To read it, begin with `grouping` and `conditions`, what a group and a condition are, then
`partition` and `cells`, the comparisons of each; `rates` and `indices` measure them, `report` puts
both into a protocol's report.  `searches` has identification, by group of the probe.
"""

from evalkit.protocols.groups.conditions import Condition, PairCondition
from evalkit.protocols.groups.grouping import Grouping
from evalkit.protocols.groups.partition import By, ComparedRows, refuse_other_rows
from evalkit.protocols.groups.report import with_groups
from evalkit.protocols.groups.searches import ProbeRows

__all__ = [
    "By",
    "ComparedRows",
    "Condition",
    "Grouping",
    "PairCondition",
    "ProbeRows",
    "refuse_other_rows",
    "with_groups",
]
