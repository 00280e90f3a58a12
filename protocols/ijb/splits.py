"""IJB-A: ten splits, each with pairs of templates to verify and a gallery to search.

The numbers of a split are those of `ijb`, whose templates these are; reported is their mean over
the splits, with the deviation (divisor S-1) in the note [Klare et al., CVPR 2015].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from evalkit.arrays import require, whole_numbers
from evalkit.errors import ProtocolError
from evalkit.identity import Names, of_rows
from evalkit.protocols import allpairs, ijb
from evalkit.protocols.failures import count_failures
from evalkit.protocols.ijb import pair_scores
from evalkit.protocols.ijb.templates import Pooling, Templates, pool
from evalkit.protocols.metrics import Rates, dir_at_fpir, rank_depths, rank_within, rate_texts
from evalkit.protocols.metrics.similarity import failed
from evalkit.protocols.search import ranks
from evalkit.types import Bools, Estimate, Failures, Ints, PairSet, Report

NAME = "ijba"
VERSION = 1
FARS = ("1e-1", "1e-2", "1e-3")
FPIRS = ijb.FPIRS
DEPTHS = ijb.DEPTHS
POOLING = Pooling("none", keep_norm=False, detector_score=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """One split: faces in templates, pairs of templates to verify, and a search.

    row, template, media : (F,) which row of the features a face is, and of what it is part.
    pairs : of template ids.  gallery, probe : templates with their subjects.
    """

    row: Ints
    template: Ints
    media: Ints
    pairs: PairSet | None = None
    gallery: ijb.Enrolled | None = None
    probe: ijb.Enrolled | None = None


def evaluate(
    features: Any,
    splits: Sequence[Split],
    *,
    pooling: Pooling = POOLING,
    fars: Rates = FARS,
    fpirs: Rates = FPIRS,
    depths: Sequence[int] = DEPTHS,
    keys: Names | None = None,
    images: ArrayLike | None = None,
    set_name: str | None = None,
) -> Report:
    """Verify and search in every split, with (N, D) or (N, V, D) features of the faces.

    pooling : of faces to templates; a medium's faces are averaged first.
    Metrics, each the mean over the splits, which `folds` has: tpr@far=x,mean=split of the pairs;
    rank-k@mean=split and tpir@fpir=x,mean=split of the search, FPIR over the probes whose subject
    is not enrolled.  None where a split supports none.  standard_error : deviation over the root of
    the splits.  They share people, so that neither it nor the deviation is an interval of anything,
    and there is none.  A face without a vector is left out and counted; a template of such alone is
    never accepted.
    keys, images, set_name : see `catalogue.Protocol`.
    ProtocolError without two splits, and where one has neither pairs nor a gallery with probes.
    """
    if len(splits) < 2:
        raise ProtocolError(f"{len(splits)} split has no deviation", "IJB-A has ten")
    fars, fpirs, depths = rate_texts(fars), rate_texts(fpirs), rank_depths(depths)
    require(pooling, Pooling, "pooling", "evalkit.protocols.ijb.Pooling")
    every: list[dict[str, Estimate]] = []
    lost: list[Failures] = []
    for number, split in enumerate(splits, 1):
        rows = whole_numbers(split.row, "row")
        templates = pool(features[rows], split.template, split.media, None, pooling)
        found: dict[str, Estimate] = {}
        if split.pairs is not None:
            found |= _verified(templates, split.pairs, fars, lost)
        if split.gallery is not None and split.probe is not None:
            found |= _searched(templates, split.gallery, split.probe, fpirs, depths)
        if not found:
            raise ProtocolError(f"split {number} has neither pairs nor a gallery with probes")
        if every and found.keys() != every[0].keys():
            raise ProtocolError(f"split {number} measures other things than split 1")
        every.append(found)
    return Report(
        protocol=NAME,
        protocol_version=VERSION,
        metrics={name: mean_of_splits([found[name] for found in every]) for name in every[0]},
        failures=Failures(
            images=int(failed(np.asarray(features).reshape(len(features), -1)).sum()),
            genuine=sum(f.genuine for f in lost),
            impostor=sum(f.impostor for f in lost),
        ),
        provenance={"splits": len(splits), "pooling": pooling.name},
        identity=of_rows(
            {f"{k} {name}": c for k, s in enumerate(splits) for name, c in _columns(s).items()},
            len(features),
            keys=keys,
            images=images,
            set_name=set_name,
        ),
    )


def _columns(split: Split) -> dict[str, Ints | Bools]:
    """Say what a split compares, by name."""
    held: dict[str, Ints | Bools] = {n: getattr(split, n) for n in ("row", "template", "media")}
    if split.pairs is not None:
        held |= {name: getattr(split.pairs, name) for name in ("left", "right", "genuine")}
    for side in ("gallery", "probe"):
        if (enrolled := getattr(split, side)) is not None:
            held |= {f"{side} {name}": getattr(enrolled, name) for name in ("template", "subject")}
    return held


def _verified(
    templates: Templates, pairs: PairSet, fars: Sequence[str], lost: list[Failures]
) -> dict[str, Estimate]:
    """TPR of one split's pairs; its rejected pairs are appended to `lost`."""
    rows = PairSet(templates.rows(pairs.left), templates.rows(pairs.right), pairs.genuine)
    scored = pair_scores.screen(templates.vectors, rows)
    empty = failed(templates.vectors)
    lost.append(count_failures(empty[rows.left] | empty[rows.right], rows.genuine))
    return {f"tpr@far={far},mean=split": pair_scores.tpr_at_far(scored, far) for far in fars}


def _searched(
    templates: Templates,
    gallery: ijb.Enrolled,
    probe: ijb.Enrolled,
    fpirs: Sequence[str],
    depths: Sequence[int],
) -> dict[str, Estimate]:
    """Ranks and TPIR of one split's search."""
    x, y = (templates.vectors[templates.rows(side.template)] for side in (probe, gallery))
    mated = np.isin(probe.subject, gallery.subject)
    rank, mate = ranks(x[mated], probe.subject[mated], y, gallery.subject, None, None)
    best = np.empty(0)
    if not mated.all():
        best = allpairs.search(x[~mated], y).score[:, 0]
    return {f"rank-{k}@mean=split": rank_within(rank, k) for k in depths} | {
        f"tpir@fpir={fpir},mean=split": dir_at_fpir(mate, rank, best, fpir) for fpir in fpirs
    }


def mean_of_splits(splits: Sequence[Estimate]) -> Estimate:
    """Mean of S splits, the deviation (divisor S-1) in the note; None where one has no value."""
    values = [m.value for m in splits if m.value is not None]
    n = sum(m.n for m in splits)
    if len(values) < len(splits):
        return Estimate(value=None, n=n, note=next(m.note for m in splits if m.value is None))
    deviation = float(np.std(values, ddof=1))
    return Estimate(
        value=float(np.mean(values)),
        n=n,
        standard_error=deviation / len(values) ** 0.5,
        folds=tuple(values),
        note=f"deviation of {len(values)} splits {100 * deviation:.2f} points",
    )
