"""The models of a picture or a page: their names, colours, and the ROC of each, found once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from evalkit.errors import ReportError, WrongTypeError
from evalkit.escaping import printable
from evalkit.protocols.metrics.score_unit import as_given
from evalkit.protocols.metrics.vocabulary import read
from evalkit.protocols.uncertainty.intervals import with_intervals
from evalkit.protocols.uncertainty.outcomes import Outcomes, PairOutcomes, SetOutcomes, parts_of
from evalkit.protocols.uncertainty.resampled_searches import rate_of
from evalkit.protocols.uncertainty.sample import sample_of
from evalkit.report.style import MODELS
from evalkit.types import Estimate, Floats, Report

BAND_DRAWS, BAND_POINTS = 300, 24


@dataclass(frozen=True)
class Model:
    """A report under the name it has in pictures; its place among all gives it its colour.

    What pictures share is found when it is first asked for, and kept.
    """

    name: str
    report: Report
    place: int = 0

    @property
    def colour(self) -> str:
        """Its colour in every picture."""
        return MODELS[self.place % len(MODELS)]

    @property
    def group(self) -> str:
        """What its lines are called in a picture, for a page to hide them."""
        return f"m{self.place}"

    @property
    def short(self) -> str:
        """Its name, cut to what a legend has room for."""
        return self.name if len(self.name) <= 20 else self.name[:19] + "…"

    @cached_property
    def part(self) -> tuple[str, Outcomes | None]:
        """The part of the outcomes that its ROC is of: parameters and outcomes.

        Where the report has a ROC it is the one without a name; else that with the most impostor
        comparisons, the first of equal ones.
        """
        parts = parts_of(self.report.outcomes or {})
        if "roc" in self.report.curves and "" in parts:
            return "", parts[""]
        most = max(parts, key=lambda p: getattr(parts[p], "impostors", 0), default="")
        return most, parts.get(most)

    @cached_property
    def roc(self) -> tuple[Floats, Floats] | None:
        """FAR and TPR, (T,) each, of its ROC or of the tail of impostors that its outcomes keep."""
        if "roc" in self.report.curves:
            curve = self.report.curves["roc"]
            return np.asarray(curve["far"], float), np.asarray(curve["tpr"], float)
        outcomes = self.part[1]
        if not isinstance(outcomes, SetOutcomes):
            return None
        if not len(outcomes.genuine_score) or not len(outcomes.impostor_score):
            return None
        sample = sample_of(outcomes)
        # Just above the k-th highest impostor: k - 1 false accepts.
        k = np.unique(np.geomspace(1, len(sample.impostor), 400).astype(int))
        above = np.searchsorted(-sample.genuine, -sample.impostor[k - 1], "left")
        return (k - 1) / sample.impostors, above / len(sample.genuine)

    @cached_property
    def band(self) -> Floats:
        """FARs with the ends of TPR's 95 % interval at each: (B, 3), no rows without outcomes."""
        outcomes = self.part[1]
        if not isinstance(outcomes, PairOutcomes | SetOutcomes):
            return np.empty((0, 3))
        sample = sample_of(outcomes)
        if not len(sample.impostor) or not len(sample.genuine):
            return np.empty((0, 3))
        few = min(10 / sample.impostors, 0.5)  # fewer false accepts say little about their spread
        points = {}
        for x in np.geomspace(few, 0.5, BAND_POINTS):
            far = float(f"{x:.3e}")
            allowed = int(far * sample.impostors)
            if allowed < len(sample.impostor):
                value = float(np.mean(sample.genuine > sample.impostor[allowed]))
                points[f"tpr@far={far:.3e}"] = Estimate(value=value, far=far)
        estimates = with_intervals(points, outcomes, draws=BAND_DRAWS).values()
        ends = [(m.far, m.low, m.high) for m in estimates if m.low is not None]
        return np.array(ends, float).reshape(-1, 3)

    @cached_property
    def reported(self) -> list[tuple[str, Estimate]]:
        """TPR@FAR=x of the part that is drawn, without further parameters, with x."""
        rest = f",{self.part[0]}" if self.part[0] else ""
        named = ((read(name), m) for name, m in self.report.metrics.items())
        points = [
            (reading.resampling(), m) for reading, m in named if reading and reading.rest == rest
        ]
        return [(far, m) for (kind, far), m in points if kind == "tpr" and rate_of(far) is not None]


def models_of(reports: Report | Sequence[Report], names: Sequence[str] | None) -> list[Model]:
    """Give one report or several their names and places; without names, they are numbered from 1.

    The reports are in the unit that their scores came in (`unit.as_given`).
    ReportError for another number of names; WrongTypeError for what is no report.
    """
    several = isinstance(reports, Iterable) and not isinstance(reports, Report)
    all_reports: list[Report] = [*reports] if several else [reports]  # type: ignore[list-item]
    for report in all_reports:
        if not isinstance(report, Report):
            kind = type(report).__name__
            raise WrongTypeError(f"a {kind} where a report belongs", "read a file by Report.load")
    called = [str(n) for n in range(1, len(all_reports) + 1)] if names is None else list(names)
    if len(called) != len(all_reports):
        raise ReportError(
            f"{len(called)} names for {len(all_reports)} reports", "give each report one"
        )
    return [
        Model(printable(called[n]), as_given(report), n) for n, report in enumerate(all_reports)
    ]
