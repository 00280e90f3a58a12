"""`evalkit drift`: how far apart two exports of one network are, and why."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np

from evalkit import __version__, adapters, bench
from evalkit.adapters import presets
from evalkit.bench import BenchSet
from evalkit.cli import spec_trial
from evalkit.cli.model_options import EmbeddingChoice, ModelFile, model_argument
from evalkit.cli.options import file_option, new_command, quiet_option
from evalkit.cli.output import bar, json_option, write_json
from evalkit.cli.terminal import show
from evalkit.cli.vector_options import VectorSource, scoring
from evalkit.embedding import drift
from evalkit.embedding.drift import DriftCause, Fed
from evalkit.errors import EXIT_DONE, EXIT_GATE_FAILED, DataError
from evalkit.escaping import narrow
from evalkit.images import ImageSource
from evalkit.protocols.uncertainty.paired import Difference
from evalkit.report.spelling import interval_of_points, points, spelled
from evalkit.types import Floats, Report
from evalkit.verdict.compare import compare

ALPHA = 0.05
_TRIED = 64  # images that the cause is sought on
_QUANTILES = {"lowest": 0.0, "1 %": 0.01, "5 %": 0.05, "median": 0.5}


@dataclass(frozen=True, slots=True)
class RateDrift:
    """TPR and threshold of two exports at one FMR.

    kept_fmr : FMR of the second at the first's threshold; None where that has none.
    paired : the difference with interval; None where the data cannot support it.
    """

    fmr: str
    tpr: tuple[float, float]
    threshold: tuple[float, float]
    kept_fmr: float | None
    paired: Difference | None
    holm: float | None

    @property
    def worse(self) -> bool:
        """Whether the second is significantly worse, by Holm's p."""
        return self.holm is not None and self.holm < ALPHA and self.tpr[1] < self.tpr[0]


@new_command(
    "drift",
    "evalkit drift model.onnx int8.onnx --preset arcface --data agedb_30.bin",
    "evalkit drift model.onnx model.tflite --data LFW/ --pairs pairs.txt",
)
@model_argument
@click.argument("other", type=ModelFile())
@file_option(
    "--pairs", "LIST", "List of pairs to compare.  [default: all pairs of the people in --data]"
)
@json_option
@quiet_option()
def command(choice: EmbeddingChoice, other: str, pairs: Path | None, json_path: Path | None) -> int:
    """Measure how far OTHER, an export of the network MODEL, is from it, and find the likely cause.

    Gives the cosine of each image's two vectors; at each FMR the shift of the threshold, TPR of
    both with the paired interval, and the FMR of OTHER at MODEL's threshold. Where vectors differ,
    OTHER is fed in other ways (channel order, scale, zero point) to find one that makes them agree.
    --data is a .bin set, a folder with a folder per person, or the images of --pairs. The options
    apply to both models; without them each is fed as its side-car or metadata says, and OTHER, if
    it has neither, as MODEL.
    Exit code 1 says that a cause was found, or that TPR is significantly lower at some FMR.
    """
    data = choice.images.data
    if data is None:
        raise click.UsageError(
            "give --data SET: a .bin set, a folder of people, or --pairs' images"
        )
    sets = bench.read_sets([data]) if pairs is None else bench.read_sets([pairs], data)
    if len(sets) > 1:
        raise DataError(f"{data} holds {len(sets)} sets", "give one of them")
    one = sets[0]
    first, choice = spec_trial.loaded(choice, one.images, one.manifest)
    second, others = _other(choice, other, first)
    vectors = [
        VectorSource(of, None, None, False, None, scoring(None, "none")).embed(
            adapter, one.images, one.manifest, one.landmarks
        )
        for of, adapter in ((choice, first), (others, second))
    ]
    a, b = (np.asarray(side.features)[:, 0] for side in vectors)
    cosines = drift.cosines(a, b)
    if np.isnan(cosines).all():
        raise DataError("no image has a vector by both models", "see the reasons above")
    reports = [bench.measured(one, vectors[0])]
    reports.append(bench.measured(one, vectors[1], threshold=_thresholds(reports[0])))
    rates = _rates(*reports)
    rows = np.flatnonzero(~np.isnan(cosines))
    rows = rows[np.linspace(0, len(rows) - 1, min(_TRIED, len(rows))).astype(int)]
    source = one.images.select([one.manifest.keys[row] for row in rows])
    with bar("seeking the cause", "trial") as progress:
        fed = (_fed(choice, first, source, one), _fed(others, second, source, one))
        cause = drift.cause(*fed, progress)
    if json_path is not None:
        document = _document((first, second), one, cosines, rates, cause)
        write_json(json.dumps(document, indent=1, allow_nan=False), json_path)
    else:
        show(*_lines((Path(choice.model.model or "").name, Path(other).name), one, cosines, rates))
        show(*_verdict(cosines, rates, cause))
    return EXIT_GATE_FAILED if cause or any(r.worse for r in rates) else EXIT_DONE


def _other(
    choice: EmbeddingChoice, other: str, first: adapters.Adapter
) -> tuple[adapters.Adapter, EmbeddingChoice]:
    """Load the other export: as it declares, else as the first is fed."""
    model = replace(choice.model, model=other)
    adapter = model.if_declared()
    if adapter is None:
        model = spec_trial.with_spec(model, first.spec)
        adapter = model.load()
    return adapter, replace(choice, model=model)


def _thresholds(report: Report) -> list[float]:
    """Thresholds of a report's TPR@FAR."""
    thresholds = [m.threshold for name, m in report.metrics.items() if name.startswith("tpr@far=")]
    return sorted({float(t) for t in thresholds if t is not None})


def _rates(first: Report, second: Report) -> list[RateDrift]:
    """Compare the TPR at each FAR that both reports have a threshold for."""
    names = [n for n in first.metrics if n.startswith("tpr@far=") and "," not in n]
    paired = compare(first, second, names=names)
    holm, rates = paired.holm, []
    for name, values in paired.values.items():
        own, others = (report[name].threshold for report in (first, second))
        if own is None or others is None:
            continue
        kept = next(
            (
                m.value
                for n, m in second.metrics.items()
                if n.startswith("fmr@") and m.threshold == own
            ),
            None,
        )
        rates.append(
            RateDrift(
                name.removeprefix("tpr@far="),
                values,
                (float(own), float(others)),
                kept,
                paired.differences.get(name),
                holm.get(name),
            )
        )
    return rates


def _fed(
    choice: EmbeddingChoice, adapter: adapters.Adapter, source: ImageSource, one: BenchSet
) -> Fed:
    """Bring images to a model, so that it can be fed otherwise."""
    return Fed(
        lambda s: adapter if s == adapter.spec else spec_trial.adapter_for(choice.model, s),
        adapter.spec,
        spec_trial.faces(choice, source, one.landmarks)(adapter.spec),
    )


def _lines(
    titles: tuple[str, str], one: BenchSet, found: Floats, rates: list[RateDrift]
) -> list[str]:
    there = found[~np.isnan(found)]
    spread = ", ".join(f"{name} {_cosine(np.quantile(there, q))}" for name, q in _QUANTILES.items())
    lost = len(found) - len(there)
    lines = [
        f"{titles[0]} -> {titles[1]} on {one.name}: {len(found):,} images",
        f"cosine of an image's two vectors: {spread}",
        *([f"{lost:,} images lack a vector in one of them"] if lost else []),
        "",
    ]
    head = ("FMR", "TPR", "of other", "difference", "95 % interval", "p", "Holm")
    rows: list[tuple[str, ...]] = [(*head, "threshold", "of other", "shift", "FMR kept")]
    for r in rates:
        name, d = f"tpr@far={r.fmr}", r.paired
        apart = (
            ("", "", "")
            if d is None or r.holm is None
            else (interval_of_points(name, d.low, d.high), f"{d.p:.2g}", f"{r.holm:.2g}")
        )
        t, u = r.threshold
        kept = "" if r.kept_fmr is None else f"{r.kept_fmr:.3g}"
        tpr = [spelled(name, value) for value in r.tpr]
        gap = points(name, r.tpr[1] - r.tpr[0], "+")
        rows.append((r.fmr, *tpr, gap, *apart, f"{t:.4f}", f"{u:.4f}", f"{u - t:+.4f}", kept))
    if rates:
        lines += [line for row in narrow(rows, left=(0,)) for line in row]
        lines += ["FMR kept: of the other at the first's threshold", ""]
    else:
        lines += ["too few impostors for a threshold at any FMR", ""]
    return lines


def _cosine(value: float) -> str:
    return f"{value:.6f}" if value > 0.999 else f"{value:.4f}"


def _verdict(found: Floats, rates: list[RateDrift], cause: DriftCause | None) -> list[str]:
    worse = [r.fmr for r in rates if r.worse]
    lines = [f"TPR is significantly lower at FMR {', '.join(worse)}"] if worse else []
    if cause is None:
        same = np.nanmedian(found) >= 1 - drift.SAME
        return [*lines, "the vectors agree" if same else _NO_CAUSE]
    size = ""
    if cause.name == "zero point of the input":
        size = f", off by {cause.error:g} pixel values"
        if cause.cut:
            end = f"above {255 - cause.error:g}" if cause.error > 0 else f"below {-cause.error:g}"
            size = f"{size}: those {end} are cut"
    elif cause.name == "zero point of the output":
        size = f", {cause.error:.3g} in each number of a vector"
    elif cause.error:
        size = f", {2**cause.error:.3g} times the numbers"
    back = f"without it the median cosine is {_cosine(cause.after)}, not {_cosine(cause.before)}"
    lines.append(f"likely cause: {cause.name}{size}; {back}")
    or_feed = "" if cause.spec is None else f", or feed it so: {presets.options(cause.spec)}"
    return [*lines, f"export it again{or_feed}"]


_NO_CAUSE = (
    "no channel order, scale or zero point brings the vectors nearer: what differs is weights or "
    "arithmetic, such as the precision of the quantisation"
)


def _document(
    models: tuple[adapters.Adapter, adapters.Adapter],
    one: BenchSet,
    found: Floats,
    rates: list[RateDrift],
    cause: DriftCause | None,
) -> dict[str, Any]:
    there = found[~np.isnan(found)]
    return {
        "evalkit": __version__,
        "models": [adapters.fingerprint(model) for model in models],
        "set": one.name,
        "images": len(found),
        "without a vector": len(found) - len(there),
        "cosine": {name: float(np.quantile(there, q)) for name, q in _QUANTILES.items()},
        "rates": [
            {
                "fmr": r.fmr,
                "tpr": r.tpr,
                "threshold": r.threshold,
                "kept fmr": r.kept_fmr,
                **{name: getattr(r.paired, name, None) for name in ("low", "high", "p")},
                "holm": r.holm,
            }
            for r in rates
        ],
        "cause": None
        if cause is None
        else {**asdict(cause), "spec": cause.spec and presets.describe(cause.spec)},
    }
