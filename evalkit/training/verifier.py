"""A network in training measured on test sets now and then, held against its best checkpoint."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from evalkit import adapters, bench
from evalkit.arrays import whole_number
from evalkit.bench import BATCH, ROOM, BenchSet, SetReports
from evalkit.embedding.from_images import on_stderr
from evalkit.errors import ProtocolError, ReportError
from evalkit.protocols.metrics.flip_fusion import Flip
from evalkit.protocols.metrics.vocabulary import better
from evalkit.report.spelling import interval_of_points, points, spelled
from evalkit.training.ranks import Ranks
from evalkit.types import InputSpec, Report
from evalkit.verdict.compare import compare
from evalkit.verdict.rules import near

_USUAL = ("accuracy", "auc")  # what is watched where nothing is said


@dataclass(frozen=True, slots=True)
class Measurement:
    """What the ranks know of a measured checkpoint.

    improved : it is better, by the paired test.  line : of the log.  values : every number of every
    set, as trackers take them.  watched : the number of the metric that decides.
    """

    improved: bool
    line: str
    values: dict[str, float]
    watched: float


class Verifier:
    """Measure a network on sets during training, and tell an improvement from chance.

    sets : paths as `evalkit bench` takes them, with `data` for lists without images, or what
    `bench.read_sets` read.  Read at once, decoded once, kept in memory up to `room` bytes.
    spec, preset : how the network is fed.  every : only steps divisible by it are measured.
    watch : metric of the first set that decides; None is its accuracy, or AUC.  A checkpoint is the
    new best only if it is better by a paired test of subjects at `alpha`.
    unit : what a step is called.  flip, batch : as in `bench.evaluate`.
    timeout : seconds to wait for another rank of `torch.distributed`.  log : gets a line each time.

    After each measurement, on every rank: `value`, the number that is watched; `improved`, whether
    this is the new best; `best`, its step; `stale`, measurements since; `values`, every number
    under "SET/METRIC".  `reports`, of the last one, are on the first rank alone.

    Under `torch.distributed` every rank calls it at the same steps: the images are shared out, each
    is embedded once, and the bits do not depend on the number of ranks.
    """

    def __init__(
        self,
        sets: str | os.PathLike[str] | Sequence[str | os.PathLike[str] | BenchSet],
        *,
        spec: InputSpec | None = None,
        preset: str | None = None,
        every: int = 1,
        watch: str | None = None,
        alpha: float = 0.05,
        unit: str = "epoch",
        data: str | os.PathLike[str] | None = None,
        flip: Flip = "none",
        batch: int = BATCH,
        room: int = ROOM,
        timeout: float = 600.0,
        log: Callable[[str], None] = on_stderr,
    ) -> None:
        self._every = whole_number(every, "every", least=1)
        if not 0 < alpha < 1:
            raise ProtocolError(f"alpha given as {alpha}", "expected a level above 0 and below 1")
        if watch is not None and better(watch) is None:
            raise ProtocolError(
                f"nothing says which way {watch!r} is better",
                f"{near(watch, ['accuracy', 'auc', 'eer'])} Or watch tpr@far=1e-3",
            )
        self._sets = bench.keep(bench.opened(sets, data), room)
        self._spec, self._preset, self._unit = spec, preset, unit
        self._watch, self._alpha, self._flip, self._batch = watch, alpha, flip, batch
        self._timeout, self._log = timeout, log
        self._ranks: Ranks | None = None
        self._model: tuple[Any, adapters.Adapter] | None = None
        self._best: Report | None = None
        self.reports: SetReports | None = None
        self.best: int | None = None
        self.value, self.improved, self.stale = float("nan"), False, 0
        self.values: dict[str, float] = {}

    def __call__(self, model: Any, step: int) -> bool:
        """Measure whatever `evalkit.load_model` takes; True where it is the new best.

        False, and nothing else is changed, at a step that is not to be measured.
        """
        if step % self._every:
            return False
        if self._ranks is None:
            self._ranks = Ranks(self._timeout)
        vectors = bench.embed_sets(
            self._loaded(model),
            self._sets,
            self._flip,
            self._batch,
            share=self._ranks.share,
            say=self._log if self._ranks.rank == 0 else lambda line: None,
        )
        standing = self._ranks.of_first(lambda: self._standing(vectors, step))
        self.value, self.values, self.improved = (
            standing.watched,
            standing.values,
            standing.improved,
        )
        self.best, self.stale = (step, 0) if self.improved else (self.best, self.stale + 1)
        if self._ranks.rank == 0:
            self._log(standing.line)
        return self.improved

    def _loaded(self, model: Any) -> adapters.Adapter:
        if self._model is None or self._model[0] is not model:
            self._model = model, adapters.load(model, spec=self._spec, preset=self._preset)
        return self._model[1]

    def _standing(self, vectors: dict[str, Any], step: int) -> Measurement:
        reports = {
            one.name: bench.measured(one, vectors[one.name], self._flip) for one in self._sets
        }
        self.reports = SetReports(reports)
        name, report = next(iter(reports.items()))
        metric = self._watch or next((m for m in _USUAL if m in report), next(iter(report)))
        value = report[metric].value
        improved, verdict = self._against_best(report, metric)
        if improved:
            self._best = report
        text = "no value" if value is None else spelled(metric, value)
        ends = _ends(report, metric)
        note = "" if value is None else report[metric].note  # else the verdict says why
        line = f"{self._unit} {step}: {name} {metric} {text}{ends}, {verdict}"
        line += f"; {note}" if note else ""
        watched = float("nan") if value is None else value
        return Measurement(improved, line, self.reports.flat(), watched)

    def _against_best(self, report: Report, metric: str) -> tuple[bool, str]:
        """Hold a report against the best so far: whether it is better, and in words."""
        value, before = report[metric].value, None if self._best is None else self._best[metric]
        if self._best is None or before is None or before.value is None:
            return value is not None, "the first"
        if value is None:
            return False, report[metric].note or "nothing to compare"
        try:
            comparison = compare(self._best, report, names=[metric], alpha=self._alpha)
        except ReportError as e:
            return False, f"not compared: {e.message}"
        best, gap = f"{self._unit} {self.best}", value - before.value
        risen = gap > 0 if better(metric) == "higher" else gap < 0
        if metric not in comparison.differences:
            return risen and gap != 0, f"not tested against {best}: {comparison.why_unpaired}"
        tested = comparison.differences[metric]
        p = f"p {tested.p:.2g}"
        if tested.p >= self._alpha:
            return False, f"not distinguishable from {best} ({p})"
        by = f"{points(metric, gap, '+')} [{interval_of_points(metric, tested.low, tested.high)}]"
        if risen:
            return True, f"better than {best}: {by} ({p})"
        return False, f"worse than {best}: {by} ({p})"


def _ends(report: Report, metric: str) -> str:
    m = report[metric]
    if m.low is None or m.high is None:
        return ""
    return f" [{spelled(metric, m.low).removesuffix(' %')}, {spelled(metric, m.high)}]"
