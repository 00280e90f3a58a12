"""Exact statistics over every pair of two feature sets.

To read it, begin with `definition`, what the answers are.  Then as the data flows: `sides`, two
sets; `pair_scores`, exact scores and fast ones with a known error; `screens`, cheap products and
their bounds; `tiles`, the pairs that a bound leaves undecided; `collect` and `rows`, what is kept
of them; `scan`, the pass over all of it; `answers` and `impostors`, what is asked.  `sample` and
`choice` guess where to look and how, `engine` holds the options: none of these moves an answer.
Below lie `by_numpy`, `by_numba`, `by_torch`, `on_gpu` and `by_triton`, which multiply and compare,
and `checkpoints`, `mapped` and `elsewhere`, which carry a pass over interrupts and processes.
"""

from evalkit.protocols.allpairs.answers import (
    histogram,
    ranks,
    search,
    top_impostors,
    verify,
)
from evalkit.protocols.allpairs.definition import (
    Histogram,
    OperatingPoint,
    Pairs,
    Search,
    Verification,
)
from evalkit.protocols.allpairs.engine import Engine, exact
from evalkit.protocols.allpairs.genuine import genuine_pairs

__all__ = [
    "Engine",
    "Histogram",
    "OperatingPoint",
    "Pairs",
    "Search",
    "Verification",
    "exact",
    "genuine_pairs",
    "histogram",
    "ranks",
    "search",
    "top_impostors",
    "verify",
]
