"""Exact statistics over every pair of two feature sets."""

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
