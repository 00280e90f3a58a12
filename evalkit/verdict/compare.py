"""Two reports side by side: may they be compared, how do they differ, which pairs flipped."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from evalkit.arrays import require, whole_number
from evalkit.errors import ProtocolError, ReportError
from evalkit.escaping import narrow, printable
from evalkit.identity import COMPARISONS, IMAGES, KEYS, LIST, SET, difference
from evalkit.protocols.groups.paired import differences_by_group
from evalkit.protocols.groups.partition import partitions_in
from evalkit.protocols.metrics.score_unit import SCORE, in_unit, score_unit
from evalkit.protocols.metrics.vocabulary import better, part_of
from evalkit.protocols.uncertainty.intervals import LEVEL, affordable
from evalkit.protocols.uncertainty.outcomes import Outcomes, PairOutcomes, holds_searches
from evalkit.protocols.uncertainty.paired import Difference, differences, holm
from evalkit.protocols.uncertainty.sample import sample_of
from evalkit.report import opened, outcomes_of_strangers
from evalkit.report.spelling import interval_of_points, points, spelled, wrapped
from evalkit.report.table import FEW_PEOPLE, support
from evalkit.types import Bools, Report
from evalkit.verdict.outcomes_held import refuse_contradicted
from evalkit.verdict.pairable import pairable
from evalkit.verdict.rules import near

# What must agree before two numbers may be subtracted: field -> what a difference would mean.
MUST_AGREE = {
    "protocol": "they measure different things",
    "protocol_version": "the protocol's numbers changed between these versions",
    "crop": "the images were aligned differently",
    "decoder": "the images were decoded differently",
    "recipe": "features became scores by different rules",
}
# The same of the comparisons (`identity.difference`), and what makes them agree.
SAME_SET = {
    COMPARISONS: (
        "what they compared is not known",
        "measure again what an older evalkit measured",
    ),
    LIST: ("they compare other pairs, in another order, folds or people", "measure on one list"),
    IMAGES: (
        "they were measured on different images",
        "measure on the same images, or give both as embeddings made elsewhere",
    ),
    KEYS: (
        "their rows are not known to be the same images",
        "give --keys NAMES, or --set NAME where row i is image i of that set",
    ),
    SET: (
        "names alone do not say that the images are the same",
        "name the set of both: --set NAME",
    ),
}
IGNORABLE = (*MUST_AGREE, *SAME_SET)
SIDES = ("first", "second")
_LONGEST_TITLE = 14
_DRAWS = 500
_A_SECOND = 100_000_000  # comparisons touched in all draws


@dataclass(frozen=True, slots=True)
class Changed:
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

    why_unpaired : empty, or what is missing for paired tests.  support : lines that say what the
    metrics rest on, and what makes them doubtful.  unit : what the scores came as.
    """

    values: dict[str, tuple[float, float]]
    differences: dict[str, Difference]
    flips: tuple[Changed, ...]
    why_unpaired: str = ""
    support: tuple[str, ...] = ()
    unit: str = SCORE

    @property
    def holm(self) -> dict[str, float]:
        """Give the p of each paired row, adjusted for all of them together: name -> p."""
        adjusted = holm([d.p for d in self.differences.values()])
        return dict(zip(self.differences, adjusted, strict=True))

    def __str__(self) -> str:
        return comparison_table(self, ("base", "other"))


def check_comparable(base: Report, other: Report, ignore: str | Collection[str] = ()) -> None:
    """Raise ReportError naming the first field in which two reports must agree and do not.

    ignore : fields of `IGNORABLE`, one or several.
    """
    ignore = [ignore] if isinstance(ignore, str) else ignore
    for field in ignore:
        if field not in IGNORABLE:
            raise ReportError(f"no field {field!r} to ignore", f"known are {', '.join(IGNORABLE)}")
    for field, meaning in MUST_AGREE.items():
        a, b = _field(base, field), _field(other, field)
        if a != b and field not in ignore:
            raise _unlike(field, a, b, meaning, "measure both the same way")
    if field := difference(base.identity, other.identity, ignore):
        known = LIST if field == COMPARISONS else field
        a, b = (getattr(report.identity, known) for report in (base, other))
        raise _unlike(field, a, b, *SAME_SET[field])


def _unlike(field: str, a: Any, b: Any, meaning: str, remedy: str) -> ReportError:
    differ = f"the reports differ in {field!r}: {_short(a)} and {_short(b)}"
    if a is None and b is None:
        differ = f"neither report records {field!r}"
    return ReportError(
        f"{differ}; {meaning}",
        f"{remedy}, or compare all the same: --ignore {field}",
    )


def compare(
    base: Report | str | os.PathLike[str],
    other: Report | str | os.PathLike[str],
    *,
    names: str | Iterable[str] | None = None,
    ignore: str | Collection[str] = (),
    alpha: float = 0.05,
    draws: int | None = None,
    seed: int = 0,
    sides: tuple[str, str] = SIDES,
) -> Comparison:
    """Compare `other` with `base` on the metrics both have (or `names` of them).

    Paired where both reports have outcomes of the same comparisons; otherwise values alone, with
    the reason.  base, other : reports, or the paths of some.
    names : one or several; what one of the reports lacks is left out, what both lack refused.
    alpha : 1 - alpha is the level of intervals, and alpha that of the test whose detectable drop is
    given.
    draws : 500 (a spread known to 3 %), or fewer where those take long.
    sides : what messages call the two.
    ignore : fields of `IGNORABLE`.  ReportError where the reports may not be compared, see
    `check_comparable`; ProtocolError for an alpha, draws or a seed that mean nothing.
    """
    base, other = opened(base, f"the {sides[0]} report"), opened(other, f"the {sides[1]} report")
    seed = whole_number(seed, "seed")
    draws = None if draws is None else whole_number(draws, "draws", least=2)
    require(alpha, float, "alpha", "a level above 0 and below 1")
    if not 0 < alpha < 1:
        raise ProtocolError(f"alpha given as {alpha}", "expected a level above 0 and below 1")
    check_comparable(base, other, ignore)
    a, b = base.flat(), other.flat()
    asked = [*a] if names is None else [names] if isinstance(names, str) else [*names]
    known = {**base.metrics, **other.metrics}
    if unknown := [name for name in asked if name not in known]:
        raise ReportError(
            f"no such metric: neither report has {unknown[0]!r}", near(unknown[0], known)
        )
    values = {n: (a[n], b[n]) for n in asked if n in a and n in b}
    gaps = {n: y - x for n, (x, y) in values.items()}
    by_metric: dict[str, Difference] = {}
    flips: list[Changed] = []
    with outcomes_of_strangers():
        parts, why = pairable(base, other, sides)
        searched = [part for part, both in parts.items() if holds_searches(both[0])]
        for part, both in parts.items():
            samples = sample_of(both[0]), sample_of(both[1])
            of_part = [n for n in values if part_of(n, parts, searched) == part]
            for k, report in enumerate((base, other)):
                metrics = {n: report.metrics[n] for n in of_part}
                by = partitions_in(report.outcomes or {}, part)
                refuse_contradicted(sides[k], metrics, both[k], samples[k], by)
            times = affordable(_DRAWS, samples[0], _A_SECOND) if draws is None else draws
            by_metric |= differences(*samples, of_part, gaps, alpha=alpha, draws=times, seed=seed)
            of_groups, unlike = differences_by_group(
                *(
                    (o, partitions_in(r.outcomes or {}, part), {n: r.metrics[n] for n in of_part})
                    for o, r in zip(both, (base, other), strict=True)
                ),
                alpha=alpha,
            )
            by_metric |= of_groups
            why = "; ".join(filter(None, (why, *unlike)))
            flips += _flips(both, (samples[0].decided, samples[1].decided))
    said = support(dict(zip(SIDES, (base, other), strict=True)), values)
    paired = {n: by_metric[n] for n in values if n in by_metric}
    missing = why if len(paired) < len(values) else ""
    unit = score_unit(base.provenance)
    return Comparison(values, paired, tuple(flips), missing, said, unit)


def comparison_table(found: Comparison, titles: tuple[str, str], flips: int = 10) -> str:
    """Lay out a comparison as text: values, difference with interval, p; then the flipped pairs.

    A row's interval, p and detectable drop are of one standard error, by subject; Holm's p is
    adjusted for the number of rows.  Lines have 80 columns where names leave room for it.
    """
    level = next((1 - d.alpha for d in found.differences.values()), LEVEL)
    long = max(map(len, titles)) > _LONGEST_TITLE
    head = (
        *(SIDES if long else titles),
        "difference",
        f"{100 * level:.3g} % interval",
        "p",
        "Holm",
    )
    rows: list[tuple[str, ...]] = [("", *head, "better", "detectable", "lost", "gained")]
    for name, (a, b) in found.values.items():
        row = (name, spelled(name, a), spelled(name, b), points(name, b - a, "+"))
        interval, p, holm, *more = _paired_cells(name, found)
        rows.append((*row, interval, p, holm, better(name) or "-", *more))
    lines = [line for row in narrow(rows, left=(0,)) for line in row]
    if long:
        lines = [printable(f"{side}: {t}") for side, t in zip(SIDES, titles, strict=True)] + lines
    lines += [part for line in _row_notes(found) for part in wrapped(line, 2, 0)]
    if not long and any(line.startswith(SIDES) for line in found.support):
        lines.append(printable(f"{SIDES[0]} is {titles[0]}, {SIDES[1]} is {titles[1]}"))
    lines += [part for line in found.support for part in wrapped(line, 2, 0)]
    if found.why_unpaired:
        what = "not all paired" if found.differences else "no paired tests"
        lines += wrapped(f"{what}: {found.why_unpaired}", 2, 0)
    return "\n".join(lines + _flip_lines(found, flips))


def _paired_cells(name: str, found: Comparison) -> tuple[str, ...]:
    d = found.differences.get(name)
    if d is None:
        return ("not paired", *[""] * 5)
    return (
        interval_of_points(name, d.low, d.high),
        f"{d.p:.2g}",
        f"{found.holm[name]:.2g}",
        points(name, d.detectable),
        *("" if n is None else str(n) for n in (d.lost, d.gained)),
    )


def _row_notes(found: Comparison) -> list[str]:
    """Say what the columns of a comparison mean, and where McNemar's exact test holds too."""
    if not found.differences:
        return []
    tests = ", ".join(dict.fromkeys(d.test for d in found.differences.values()))
    n, some = len(found.differences), next(iter(found.differences.values()))
    lines = [
        f"{n} paired rows ({tests}): p is of each alone, Holm of all together; detectable: the "
        f"true drop found 4 times in 5 at p < {some.alpha:.3g}"
    ]
    lines += rough(found.differences.values())
    for name, d in found.differences.items():
        if d.mcnemar is not None:
            lines.append(f"{name}: no subject recurs, McNemar's exact p is {d.mcnemar:.2g}")
    return lines


def rough(tests: Iterable[Difference]) -> list[str]:
    """Warn of detectable drops of few people; [] where there are none."""
    fewest = min((d.people for d in tests), default=FEW_PEOPLE)
    if fewest >= FEW_PEOPLE:
        return []
    return [
        f"of {fewest} people detectable is rough: simulations find such a drop 60 to 85 % of the "
        "time"
    ]


def _flip_lines(found: Comparison, most: int) -> list[str]:
    if not found.flips:
        return []
    lost = [f for f in found.flips if f.lost]
    gained = [f for f in found.flips if not f.lost]
    lines = [f"decisions that flipped: {len(lost)} lost, {len(gained)} gained"]
    for group, sign in ((lost, "-"), (gained, "+")):
        for f in group[:most]:
            kind = "genuine " if f.genuine else "impostor"
            before, after = (in_unit(s, found.unit) for s in (f.base_score, f.other_score))
            scores = f"{before:.4f} -> {after:.4f}"
            lines.append(printable(f"  {sign} {kind}  {scores}  {f.left}  {f.right}".rstrip()))
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


def _flips(
    outcomes: tuple[Outcomes, Outcomes], decided: tuple[Bools | None, Bools | None]
) -> Iterable[Changed]:
    """Yield the pairs decided rightly by one model only; without keys, by row or line of a list."""
    (o, p), (a, b) = outcomes, decided
    if not isinstance(o, PairOutcomes) or not isinstance(p, PairOutcomes):
        return
    if a is None or b is None:
        return
    for k in np.flatnonzero(a != b):
        sides = [f"line {k + 1}", ""]
        if o.left is not None and o.right is not None:
            rows = int(o.left[k]), int(o.right[k])
            sides = [f"row {r}" if o.keys is None else str(o.keys[r]) for r in rows]
        yield Changed(
            left=sides[0],
            right=sides[1],
            genuine=bool(o.genuine[k]),
            base_score=float(o.score[k]),
            other_score=float(p.score[k]),
            lost=bool(a[k]),
        )
