"""Two reports side by side: may they be compared, how do they differ, which pairs flipped."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from evalkit.errors import ReportError
from evalkit.protocols.intervals import affordable
from evalkit.protocols.paired import Difference, differences
from evalkit.protocols.samples import Sample, sample_of
from evalkit.report.table import spelled
from evalkit.types import Report

# What must agree before two numbers may be subtracted: field -> what a difference would mean.
MUST_AGREE = {
    "protocol": "they measure different things",
    "protocol_version": "the protocol's numbers changed between these versions",
    "manifest": "they were measured on different images",
    "crop": "the images were aligned differently",
    "decoder": "the images were decoded differently",
    "recipe": "features became scores by different rules",
}
_DRAWS = 500
_A_SECOND = 100_000_000  # comparisons touched in all draws
# The arrays that say which comparisons the outcomes are of.
_COMPARISONS = (
    "genuine",
    "left",
    "right",
    "fold",
    "keys",
    "genuine_subject",
    "left_images",
    "right_images",
    "impostors",
    "rank_subject",
    "mate_subject",
    "nonmate_subject",
    "mate_gallery",
    "nonmate_gallery",
)


@dataclass(frozen=True, slots=True)
class Flip:
    """A comparison decided rightly by one model only: the images' keys, and both scores."""

    left: str
    right: str
    genuine: bool
    base_score: float
    other_score: float
    lost: bool


@dataclass(frozen=True, slots=True)
class Comparison:
    """Metrics of two reports: name -> (base, other), and paired differences where possible.

    why_unpaired : empty, or what is missing for paired tests.
    """

    values: dict[str, tuple[float, float]]
    differences: dict[str, Difference]
    flips: tuple[Flip, ...]
    why_unpaired: str = ""


def check_comparable(base: Report, other: Report, ignore: Collection[str] = ()) -> None:
    """Raise ReportError naming the first field in which two reports must agree and do not."""
    for field, meaning in MUST_AGREE.items():
        if field in ignore:
            continue
        a, b = _field(base, field), _field(other, field)
        if a != b:
            raise ReportError(
                f"the reports differ in {field!r}: {_short(a)} and {_short(b)}; {meaning}",
                f"measure both the same way, or compare all the same with --ignore {field}",
            )


def compare(
    base: Report,
    other: Report,
    *,
    names: Iterable[str] | None = None,
    ignore: Collection[str] = (),
    alpha: float = 0.05,
    draws: int | None = None,
    seed: int = 0,
) -> Comparison:
    """Compare `other` with `base` on the metrics both have (or `names` of them).

    Paired where both reports have outcomes of the same comparisons; otherwise values alone, with
    the reason.  draws : 500 (a spread known to 3 %), or fewer where those take long.
    ReportError where the reports may not be compared, see `check_comparable`.
    """
    check_comparable(base, other, ignore)
    a, b = base.flat(), other.flat()
    values = {n: (a[n], b[n]) for n in (a if names is None else names) if n in a and n in b}
    why = _why_unpaired(base, other)
    if why or base.outcomes is None or other.outcomes is None:
        return Comparison(values, {}, (), why)
    samples = sample_of(base.outcomes), sample_of(other.outcomes)
    if draws is None:
        draws = affordable(_DRAWS, samples[0], _A_SECOND)
    gaps = {n: y - x for n, (x, y) in values.items()}
    found = differences(*samples, values, gaps, alpha=alpha, draws=draws, seed=seed)
    return Comparison(values, found, tuple(_flips(base, other, *samples)))


def comparison_table(found: Comparison, titles: tuple[str, str], flips: int = 10) -> str:
    """Lay out a comparison as text: values, difference with interval, p; then the flipped pairs."""
    rows = [("", *titles, "difference", "95 % interval", "p", "test")]
    for name, (a, b) in found.values.items():
        row = (name, spelled(name, a), spelled(name, b), spelled(name, b - a, "+"))
        d = found.differences.get(name)
        paired = ("", "", "not paired")
        if d is not None:
            ends = f"[{spelled(name, d.low, '+')}, {spelled(name, d.high, '+')}]"
            paired = (ends, f"{d.p:.2g}", d.test)
        rows.append((*row, *paired))
    widths = [max(len(r[c]) for r in rows) for c in range(len(rows[0]))]
    lines = [
        "  ".join(f"{c:<{w}}" if k in (0, 6) else f"{c:>{w}}" for k, (c, w) in cells).rstrip()
        for cells in (list(enumerate(zip(r, widths, strict=True))) for r in rows)
    ]
    if found.why_unpaired:
        lines.append(f"no paired tests: {found.why_unpaired}")
    return "\n".join(lines + _flip_lines(found.flips, titles, flips))


def _flip_lines(flips: tuple[Flip, ...], titles: tuple[str, str], most: int) -> list[str]:
    if not flips:
        return []
    lost = [f for f in flips if f.lost]
    gained = [f for f in flips if not f.lost]
    lines = [f"decisions that flipped: {len(lost)} lost, {len(gained)} gained"]
    for group, sign in ((lost, "-"), (gained, "+")):
        for f in group[:most]:
            kind = "genuine " if f.genuine else "impostor"
            scores = f"{f.base_score:.4f} -> {f.other_score:.4f}"
            lines.append(f"  {sign} {kind}  {scores}  {f.left}  {f.right}")
        if len(group) > most:
            lines.append(f"  {sign} ... and {len(group) - most} more")
    return lines


def _field(report: Report, field: str) -> Any:
    return getattr(report, field) if hasattr(report, field) else report.provenance.get(field)


def _short(value: Any) -> str:
    if value is None:
        return "not recorded"
    text = str(value)
    return repr(text if len(text) <= 24 else text[:12] + "...")


def _why_unpaired(base: Report, other: Report) -> str:
    for report, which in ((base, "first"), (other, "second")):
        if report.outcomes is None:
            return f"the {which} report has no outcomes beside it (the .npz that --out writes)"
    a, b = base.outcomes or {}, other.outcomes or {}
    for name in _COMPARISONS:
        if (name in a) != (name in b) or (name in a and not np.array_equal(a[name], b[name])):
            return f"the outcomes are of different comparisons: {name!r} differs"
    return ""


def _flips(base: Report, other: Report, a: Sample, b: Sample) -> Iterable[Flip]:
    o, p = base.outcomes, other.outcomes
    if o is None or p is None or a.decided is None or b.decided is None:
        return
    keys = o.get("keys")
    for k in np.flatnonzero(a.decided != b.decided):
        left, right = int(o["left"][k]), int(o["right"][k])
        yield Flip(
            left=f"row {left}" if keys is None else str(keys[left]),
            right=f"row {right}" if keys is None else str(keys[right]),
            genuine=bool(o["genuine"][k]),
            base_score=float(o["score"][k]),
            other_score=float(p["score"][k]),
            lost=bool(a.decided[k]),
        )
