"""Strict reading of untrusted JSON: finite numbers, integers of 64 bits."""

from __future__ import annotations

import json
import math
from collections import Counter
from typing import Any


def parsed(text: str) -> Any:
    """Read one JSON document; ValueError for any other text, in one line.

    NaN and Infinity, `1e999`, whole numbers from 2^63 on, a name twice in one object, and what
    is nested too deep are refused.
    """
    try:
        return json.loads(
            text,
            parse_constant=_refused,
            parse_float=_real,
            parse_int=_whole,
            object_pairs_hook=_named_once,
        )
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def _named_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    named = dict(pairs)
    if len(named) < len(pairs):
        ((twice, _),) = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"an object has {twice[:40]!r} twice")
    return named


def _real(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _refused(text)


def _whole(text: str) -> int:
    # -2^63 to 2^63 - 1 have 20 characters at most; Python itself refuses 4300 digits at length
    fits = len(text) <= 20 and -(2**63) <= int(text) < 2**63
    return int(text) if fits else _refused(text)


def _refused(text: str) -> Any:
    raise ValueError(f"{text if len(text) <= 20 else text[:17] + '...'} is not a number in JSON")
