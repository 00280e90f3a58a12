"""`evalkit.evaluate`: a protocol on vectors, or a model on sets."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, overload

from numpy.typing import ArrayLike

from evalkit import adapters, bench, run
from evalkit.bench import BenchSet, SetReports
from evalkit.errors import DataError
from evalkit.protocols.catalogue import Protocol
from evalkit.types import InputSpec, Report

File = str | os.PathLike[str]


@overload
def evaluate(
    protocol: str | Protocol | Callable[..., Report],
    vectors: ArrayLike | Any,
    /,
    *comparisons: Any,
    **options: Any,
) -> Report: ...


@overload
def evaluate(
    model: adapters.Adapter | File | Callable[..., Any],
    sets: File | Sequence[File | BenchSet],
    /,
    *,
    spec: InputSpec | None = None,
    preset: str | None = None,
    **options: Any,
) -> SetReports: ...


def evaluate(first: Any, second: Any, /, *rest: Any, **options: Any) -> Any:
    """Run a protocol on vectors, or measure a model on sets.

    `evaluate("verification", vectors, pairs)` is `run.evaluate`: the name, record or function of a
    protocol, then vectors (or a model with its images), then what is compared; a `Report`.

    `evaluate(model, ["agedb_30.bin", "FACES/"], preset="arcface")` is `bench.evaluate`: a file, a
    `torch.nn.Module`, or with spec or preset any callable from images to vectors, then sets as
    `evalkit bench` takes them; a `SetReports`, a report per set and one table.
    """
    if _is_model(first, options):
        return bench.evaluate(first, second, *rest, **options)
    if callable(first) and not isinstance(first, Protocol) and not _takes_names(first):
        name = getattr(first, "__name__", type(first).__name__)
        raise DataError(
            f"{name} takes no keys=, as the evaluate of a protocol does",
            "a model of your own needs preset=NAME or spec=InputSpec(...) here",
        )
    return run.evaluate(first, second, *rest, **options)


def _is_model(given: Any, options: dict[str, Any]) -> bool:
    if isinstance(given, Protocol):
        return False
    if isinstance(given, str):
        return ":" in given or Path(given).suffix != ""  # of which no name of a protocol has any
    if isinstance(given, os.PathLike | adapters.Adapter) or adapters.is_module(given):
        return True
    return bool({"spec", "preset"} & set(options))


def _takes_names(function: Callable[..., Any]) -> bool:
    """Whether a function has the keyword `keys`, as every `evaluate` of a protocol has."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # of some builtins nothing is known
        return True
    return any(p.name == "keys" or p.kind is p.VAR_KEYWORD for p in parameters)
