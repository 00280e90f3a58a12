"""IJB-B and IJB-C: faces in templates of many images, compared and searched for.

A template is one person in a set of stills and video frames; its images are pooled to one vector.
1:1 compares listed pairs of templates (IJB-C: 19,557 genuine, 15,638,932 impostor).  1:N searches
with each probe template in two galleries that share no subject; a probe whose subject is in one is
an impostor search in the other [Whitelam et al., CVPRW 2017; Maze et al., ICB 2018].

The pooling is that of InsightFace's scripts, each switch of them named in `Pooling`.  Numbers are
by the at-most rule; the scripts take the nearest FAR (`compat.nearest_fars`) and, in 1:N, their own
threshold (`insightface_tpir`), which evaluations give beside it where asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evalkit.errors import ProtocolError
from evalkit.protocols import allpairs, compat, long_lists, metrics
from evalkit.protocols.intervals import with_intervals
from evalkit.protocols.scores import Flip, failed, fuse, normalise
from evalkit.types import Estimate, Failures, PairSet, Report

NAME = "ijb"
VERSION = 1
FARS = ("1e-1", "1e-2", "1e-3", "1e-4", "1e-5", "1e-6")
FPIRS = ("1e-1", "1e-2")
DEPTHS = (1, 5, 10)
_IMAGES = 16384  # pooled at a time

Ints = NDArray[np.integer[Any]]


@dataclass(frozen=True, slots=True)
class Pooling:
    """How images become a template, and InsightFace's names for it (F, N, D).

    flip : F1 is "sum", F0 "none".  keep_norm : N1, images count by the length of their vectors;
    else N0, all are made unit length.  detector_score : D1, a vector is multiplied by its face's
    detection score.  media : images of one video are averaged first, then all media are summed.
    unit_views : an image's views are made unit length before they are fused (no name there).
    """

    flip: Flip = "sum"
    keep_norm: bool = True
    detector_score: bool = True
    media: bool = True
    unit_views: bool = False

    @property
    def name(self) -> str:
        """InsightFace's short name: N1D1F1, with M0 where media are not averaged."""
        name = f"N{self.keep_norm:d}D{self.detector_score:d}F{self.flip != 'none':d}"
        return name if self.media else f"{name}M0"


@dataclass(frozen=True, slots=True)
class Templates:
    """Unit vectors (T, D) of templates `ids`, (T,) ascending; NaN where no image has a vector."""

    ids: NDArray[np.int64]
    vectors: NDArray[np.float32]
    failed_images: int

    def rows(self, ids: Ints) -> NDArray[np.int64]:
        """Row of each template id; ProtocolError names one that has no image."""
        rows = np.minimum(np.searchsorted(self.ids, ids), len(self.ids) - 1)
        missing = np.flatnonzero(self.ids[rows] != ids)
        if len(missing):
            raise ProtocolError(
                f"{len(missing)} templates have no images, the first is {ids[missing[0]]}"
            )
        return rows


def pool(
    features: NDArray[Any],
    template: Ints,
    media: Ints,
    detector_score: NDArray[np.floating[Any]] | None,
    how: Pooling,
) -> Templates:
    """Pool (N, D) or (N, V, D) features, not normalised, to one unit vector a template.

    template, media : (N,) ids of each image; detector_score : (N,).  Order of the steps: flip,
    length, detector score, mean over a medium's images, sum over media, unit length.  Sums are in
    float64.  An image without a vector (not finite) is left out of its template, and counted.
    """
    n = len(features)
    if template.shape != (n,) or media.shape != (n,):
        raise ProtocolError(f"{n} features, {len(template)} templates and {len(media)} media")
    if how.detector_score and (detector_score is None or detector_score.shape != (n,)):
        raise ProtocolError(
            f"{n} features have no detection score each", "give the scores, or pool without them"
        )
    ids = np.unique(template)
    vectors = np.full((len(ids), _width(features, how.flip)), np.nan, np.float32)
    lost = 0
    for chosen in _whole_templates(template, media):
        x = fuse(features[chosen], how.flip, unit=how.unit_views)
        ok = ~failed(x)
        lost += int((~ok).sum())
        chosen, x = chosen[ok], x[ok]
        if not len(x):
            continue
        if not how.keep_norm:
            x = normalise(x)
        if how.detector_score and detector_score is not None:
            x = x * detector_score[chosen, None].astype(np.float32)
        total = x.astype(np.float64)
        of, medium = template[chosen], media[chosen]
        if how.media:
            first = _firsts(of, medium)
            counts = np.diff(np.append(first, len(of)))
            total = np.add.reduceat(total, first, axis=0) / counts[:, None]
            of = of[first]
        first = _firsts(of)
        total = np.add.reduceat(total, first, axis=0)
        vectors[np.searchsorted(ids, of[first])] = normalise(total)
    return Templates(ids.astype(np.int64), vectors, lost)


def _width(features: NDArray[Any], flip: Flip) -> int:
    one: NDArray[np.float32] = fuse(np.zeros((1, *features.shape[1:]), np.float32), flip)
    return len(one[0])


def _whole_templates(template: Ints, media: Ints) -> Iterator[NDArray[np.int64]]:
    """Yield rows by template, then medium, some `_IMAGES` at a time, no template in two parts."""
    order = np.lexsort((media, template))
    first = _firsts(template[order])
    at = 0
    while at < len(order):
        later = first[first >= at + _IMAGES]
        end = int(later[0]) if len(later) else len(order)
        yield order[at:end]
        at = end


def _firsts(*columns: Ints) -> NDArray[np.int64]:
    """Where a new run of equal rows starts."""
    new = np.any([np.diff(c) != 0 for c in columns], axis=0)
    return np.concatenate([[0], np.flatnonzero(new) + 1])


def verify(
    templates: Templates,
    left: Ints,
    right: Ints,
    genuine: NDArray[np.bool_],
    *,
    fars: Sequence[str] = FARS,
    nearest: bool = False,
) -> Report:
    """Compare listed pairs of templates: ids left and right, (P,); genuine, (P,) bool.

    Metrics: tpr@far=x; with `nearest` also tpr@far=x,rule=nearest-far, as InsightFace's scripts
    print it, from float32 scores as they have them.
    """
    pairs = PairSet(templates.rows(left), templates.rows(right), genuine)
    scored = long_lists.screen(templates.vectors, pairs)
    found = {f"tpr@far={far}": long_lists.tpr_at_far(scored, far) for far in fars}
    if nearest:
        beside = compat.nearest_fars(scored.genuine, scored.impostor, fars)
        found |= {f"tpr@far={far},rule=nearest-far": m for far, m in beside.items()}
    outcomes = long_lists.outcomes(scored, pairs, fars)
    lost = failed(templates.vectors)
    rejected = lost[pairs.left] | lost[pairs.right]
    return Report(
        protocol=f"{NAME}-1:1",
        protocol_version=VERSION,
        metrics=with_intervals(found, outcomes),
        failures=Failures(
            images=templates.failed_images,
            genuine=int((rejected & genuine).sum()),
            impostor=int((rejected & ~genuine).sum()),
        ),
        provenance={"templates": len(templates.ids), "pairs": len(pairs)},
        outcomes=outcomes,
    )


@dataclass(frozen=True, slots=True)
class Enrolled:
    """Template ids with their subjects, (G,) each: a gallery, or the probes."""

    template: Ints
    subject: Ints


def identify(
    templates: Templates,
    galleries: Sequence[Enrolled],
    probe: Enrolled,
    *,
    depths: Sequence[int] = DEPTHS,
    fpirs: Sequence[str] = FPIRS,
    insightface: bool = False,
    engine: allpairs.Engine | None = None,
) -> Report:
    """Search with every probe template in every gallery.

    Metrics: rank-k = probes whose mate has fewer than k entries of other subjects scoring above
    it, over all searches that have a mate; tpir@fpir=x = mean over the galleries of
    `metrics.dir_at_fpir` (each gallery's own in `folds`), FPIR over the probes without a mate in
    that gallery.
    insightface : adds tpir@fpir=x,rule=insightface.
    """
    if not galleries:
        raise ProtocolError("there is no gallery")
    enrolled, times = np.unique(
        np.concatenate([np.unique(g.subject) for g in galleries]), return_counts=True
    )
    if times.max(initial=0) > 1:
        raise ProtocolError(
            f"subject {enrolled[times > 1][0]} is enrolled in {times.max()} galleries",
            "they share no subject; was one given twice?",
        )
    x = templates.vectors[templates.rows(probe.template)]
    searched: list[_Found] = []
    by_fpir: dict[str, list[Estimate]] = {}
    for gallery in galleries:
        y = templates.vectors[templates.rows(gallery.template)]
        found = _search(x, y, probe.subject, gallery.subject, engine)
        searched.append(found)
        for fpir in fpirs:
            by_fpir.setdefault(f"tpir@fpir={fpir}", []).append(
                metrics.dir_at_fpir(found.mate, found.rank, found.nonmate, fpir)
            )
            if insightface:
                by_fpir.setdefault(f"tpir@fpir={fpir},rule=insightface", []).append(
                    insightface_tpir(found.mate, found.impostor, found.nonmate, fpir)
                )
    rank = np.concatenate([found.rank for found in searched])
    hits = {k: int(((rank >= 1) & (rank <= k)).sum()) for k in depths}
    measured = {
        f"rank-{k}": Estimate(value=hits[k] / len(rank) if len(rank) else None, n=len(rank))
        for k in depths
    }
    measured |= {name: _mean(of) for name, of in by_fpir.items()}
    outcomes = _outcomes(searched)
    lost = failed(x)
    return Report(
        protocol=f"{NAME}-1:N",
        protocol_version=VERSION,
        metrics=with_intervals(measured, outcomes) if len(rank) else measured,
        failures=Failures(images=templates.failed_images, genuine=int(lost.sum())),
        provenance={"probes": len(x), "galleries": [len(g.template) for g in galleries]},
        outcomes=outcomes,
    )


@dataclass(frozen=True, slots=True)
class _Found:
    """One gallery's searches.

    mate, impostor, rank : of probes with a mate, its score, the best other's, the mate's rank.
    nonmate : the best score of each probe without one.  subject, other_subject : of both kinds.
    """

    mate: NDArray[np.float64]
    impostor: NDArray[np.float64]
    rank: NDArray[np.int64]
    nonmate: NDArray[np.float64]
    subject: Ints
    other_subject: Ints


def _outcomes(searched: Sequence[_Found]) -> dict[str, NDArray[Any]]:
    """Keep every search for intervals and paired tests, see `samples.searches_of`."""
    gallery = range(len(searched))
    subject = np.concatenate([f.subject for f in searched])
    return {
        "rank": np.concatenate([f.rank for f in searched]),
        "rank_subject": subject,
        "mate_score": np.concatenate([np.where(f.rank == 1, f.mate, -np.inf) for f in searched]),
        "mate_subject": subject,
        "mate_gallery": np.repeat(gallery, [len(f.rank) for f in searched]),
        "nonmate_score": np.concatenate([f.nonmate for f in searched]),
        "nonmate_subject": np.concatenate([f.other_subject for f in searched]),
        "nonmate_gallery": np.repeat(gallery, [len(f.nonmate) for f in searched]),
    }


def _search(
    x: NDArray[np.float32],
    y: NDArray[np.float32],
    probe_subject: Ints,
    gallery_subject: Ints,
    engine: allpairs.Engine | None,
) -> _Found:
    seen = allpairs.search(
        x, y, probe_subject=probe_subject, gallery_subject=gallery_subject, engine=engine
    )
    mated, mate, above, impostor = (
        seen.mated,
        seen.mate_score,
        seen.mate_above,
        seen.impostor_score,
    )
    if mated is None or mate is None or above is None or impostor is None:
        raise ProtocolError("a search needs the subjects of probes and gallery")
    rank = np.where(np.isfinite(mate), above + 1, 0)
    return _Found(
        mate[mated],
        impostor[mated],
        rank[mated],
        impostor[~mated],
        probe_subject[mated],
        probe_subject[~mated],
    )


def insightface_tpir(
    mate: NDArray[np.float64],
    impostor: NDArray[np.float64],
    nonmate: NDArray[np.float64],
    fpir: str,
) -> Estimate:
    """TPIR as InsightFace's ijb_evals.py takes it: strictly above its floor(x N)-th best non-mate.

    A mate must also score strictly above all others.  Where floor(x N) is 0, the best is taken.
    """
    if not len(nonmate) or not len(mate):
        return Estimate(value=None, note="there are no searches with, or none without, a mate")
    k = max(metrics.false_accepts_allowed(fpir, len(nonmate)) - 1, 0)
    bar = float(np.sort(nonmate)[::-1][k])
    hits = np.count_nonzero((mate > impostor) & (mate > bar))
    return Estimate(
        value=hits / len(mate),
        n=len(mate) + len(nonmate),
        threshold=float(np.nextafter(bar, np.inf)),
        far=int((nonmate > bar).sum()) / len(nonmate),
    )


def _mean(of: list[Estimate]) -> Estimate:
    values = [m.value for m in of if m.value is not None]
    n = sum(m.n for m in of)
    if len(values) < len(of):
        return Estimate(value=None, n=n, note=next(m.note for m in of if m.value is None))
    note = "; ".join(sorted({m.note for m in of if m.note}))
    return Estimate(value=float(np.mean(values)), n=n, folds=tuple(values), note=note)
