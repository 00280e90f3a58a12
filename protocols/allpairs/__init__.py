"""Exact statistics over every pair of two feature sets."""

from evalkit.protocols.allpairs.definition import (
    Histogram,
    OperatingPoint,
    Pairs,
    Search,
    Verification,
)
from evalkit.protocols.allpairs.plain import histogram, ranks, search, top_impostors, verify

__all__ = [
    "Histogram",
    "OperatingPoint",
    "Pairs",
    "Search",
    "Verification",
    "histogram",
    "ranks",
    "search",
    "top_impostors",
    "verify",
]
