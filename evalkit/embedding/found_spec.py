"""Input specs found by trial, where nothing declares how a model is fed."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Literal

from evalkit.adapters import presets
from evalkit.cache import SPECS
from evalkit.embedding.input_check import (
    CROPS,
    SIZES,
    FedFaces,
    Load,
    SpecTrial,
    compare_specs,
    separates,
)
from evalkit.errors import DataError, ModelError
from evalkit.files import cache_folder, whole_file
from evalkit.strict_json import parsed
from evalkit.types import InputSpec

_FIRST = presets.PRESETS["arcface"]
HeightWidth = tuple[int, int]
Layout = Literal["nchw", "nhwc"]
_LAYOUTS: tuple[Layout, ...] = ("nchw", "nhwc")
_COLORS: tuple[Literal["rgb", "grey"], ...] = ("rgb", "grey")  # rgb is tried as bgr too


@dataclass(frozen=True, slots=True)
class FoundSpec:
    """The best of the specs that were tried.

    told : which, its lead over the next, and on what images.
    """

    spec: InputSpec
    told: str


def recall(key: str) -> FoundSpec | None:
    """Give what an earlier trial found under a key; None where there was none, or it is damaged."""
    try:
        document = parsed(_place(key).read_text(encoding="utf-8"))
        return FoundSpec(presets.build(document["spec"]), str(document["told"]))
    except (OSError, ValueError, KeyError, TypeError, ModelError):
        return None


def remember(key: str, found: FoundSpec) -> None:
    """Keep in the cache what a trial found.

    key : hex digest of all that it depends on, the model and the images as they are fed.
    """
    path = _place(key)
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as f:
        f.write(json.dumps({"spec": asdict(found.spec), "told": found.told}).encode())


def _place(key: str) -> Path:
    return cache_folder() / SPECS / f"{key[:32]}.json"


def try_specs(
    load: Load,
    faces: FedFaces,
    declared: tuple[HeightWidth | None, Layout | None],
    own: HeightWidth,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[SpecTrial]:
    """Feed a model of which nothing is declared in every likely way, best first.

    load, faces : make the model and its images for a spec; ModelError and DataError where they
    cannot, of which the first is raised where no size and layout will do.
    declared : size and layout that the model's file tells.  own : size of the images.
    """
    size, layout = declared
    reason: ModelError | DataError | None = None
    sizes = list(dict.fromkeys((*SIZES, own))) if size is None else [size]
    layouts = _LAYOUTS if layout is None else (layout,)
    for each, order, color in product(sizes, layouts, _COLORS):
        crop = CROPS.get(each, _FIRST.crop)
        start = replace(_FIRST, size=each, color=color, layout=order, crop=crop)
        try:
            images = faces(start)
            load(start)
        except (ModelError, DataError) as e:
            reason = reason or e
            continue
        others = SIZES if size is None else ()
        return compare_specs(
            load, presets.usual(start), images, progress, of_size=faces, sizes=others
        )
    raise reason or DataError("no input size to try")


def preferred(trials: Sequence[SpecTrial]) -> SpecTrial:
    """Choose the spec that separates best, or one that cannot be told from it and has a name."""
    equal = [t for t in trials if t.verdict in ("best", "as good")]
    return next((t for t in equal if t.spec in presets.PRESETS.values()), trials[0])


def best(trials: Sequence[SpecTrial], model: str, on: str) -> FoundSpec:
    """Choose a spec as `preferred` does; ModelError where none separates people.

    model : its name.  on : what the images were.  What cannot be told from the best is named too.
    """
    first, *rest = trials
    if not separates(trials):
        raise ModelError(
            f"the input spec of {model} is not declared, and in none of {len(trials)} ways tried "
            f"does it separate people (best d' {first.d_prime or 0:.2f}; {on})",
            "a trained face model and aligned images? --preset NAME declares it without a trial",
        )
    chosen = preferred(trials)
    text = f"found by trial: {presets.name(chosen.spec)}, d' {chosen.d_prime:.2f}"
    equal = [t for t in trials if t.verdict in ("best", "as good") and t is not chosen]
    tried = [t for t in rest if t.d_prime is not None]
    if equal:
        names = ", ".join(_beside(chosen, t) for t in equal)
        text += f", which cannot be told from {names}"
        text += "" if chosen.verdict == "best" else "; a preset is preferred"
    elif tried:
        text += f", {tried[0].behind:.2f} ± {tried[0].error:.2f} ahead of "
        text += presets.name(tried[0].spec)
    return FoundSpec(chosen.spec, f"{text}; {on}")


def _beside(chosen: SpecTrial, other: SpecTrial) -> str:
    """Name a spec and how far it is from the chosen one, where one of the two is the best."""
    name = presets.name(other.spec)
    if chosen.verdict == "best":
        return f"{name} ({other.behind:.2f} ± {other.error:.2f} behind)"
    return (
        f"{name} ({chosen.behind:.2f} ± {chosen.error:.2f} ahead)"
        if other.verdict == "best"
        else name
    )
