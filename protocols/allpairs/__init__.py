"""Exact statistics over every pair of two feature sets.

To read it, begin with `results`, what the answers are, and `queries`, what can be asked.  Then as
the data flows: `sides`, two sets; `pair_scores`, exact scores and fast ones with a known error;
`screening`, cheap products, their bounds and the pairs that a bound leaves undecided; `collectors`,
what is stored of them; `scan`, the pass over all of it.  `pilot` and `screening.choice` estimate
where to look and how, `engine` holds the options: none of these changes an answer.  Below lie
`kernels`, which multiply and compare, and `resume`, `rows_on_disk` and `workers`, which carry a
pass over interrupts and processes.
"""

from evalkit.protocols.allpairs.engine import Engine, exact, reporting
from evalkit.protocols.allpairs.genuine import count_genuine, genuine_pairs
from evalkit.protocols.allpairs.made_rows import MadeRows, Rows, lost_rows
from evalkit.protocols.allpairs.queries import histogram, ranks, search, top_impostors, verify
from evalkit.protocols.allpairs.results import Histogram, Pairs, Search, Verification

__all__ = [
    "Engine",
    "Histogram",
    "MadeRows",
    "Pairs",
    "Rows",
    "Search",
    "Verification",
    "count_genuine",
    "exact",
    "genuine_pairs",
    "histogram",
    "lost_rows",
    "ranks",
    "reporting",
    "search",
    "top_impostors",
    "verify",
]
