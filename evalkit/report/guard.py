"""Outcomes of strangers: arrays that do not fit each other are a ReportError, not a fault."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from evalkit.errors import ReportError


@contextmanager
def outcomes_of_strangers() -> Iterator[None]:
    """Turn what numpy says of arrays that fit nothing into one line; also a decorator.

    Whoever writes outcomes can give them the digest that their report names.
    """
    try:
        yield
    except (ArithmeticError, LookupError, TypeError, ValueError) as e:
        raise ReportError(
            f"the outcomes beside the report fit nothing: {type(e).__name__}: {e}",
            "measure again with --out, or delete them to do without",
        ) from e
