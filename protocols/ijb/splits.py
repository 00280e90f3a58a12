"""IJB-A: ten splits, each with pairs of templates to verify and a gallery to search.

The numbers of a split are those of `ijb`, whose templates these are; reported is their mean over
the splits, with the deviation (divisor S-1) in the note [Klare et al., CVPR 2015].
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evalkit.arrays import identities, require, whole_number, whole_numbers
from evalkit.errors import ProtocolError
from evalkit.identity import Names, digest, of_rows
from evalkit.protocols import allpairs, ijb
from evalkit.protocols.failures import count_failures
from evalkit.protocols.groups import ComparedRows, Condition, Grouping, ProbeRows, refuse_other_rows
from evalkit.protocols.groups.trials import TrialRate, over_trials, rows_by_group, trial_rates
from evalkit.protocols.ijb.templates import Pooling, Templates, of_templates, pool
from evalkit.protocols.metrics import (
    Rates,
    dir_at_fpir,
    mean_estimate,
    rank_depths,
    rank_within,
    rate_texts,
    tpr_at_far,
)
from evalkit.protocols.metrics.similarity import exact_scores, failed
from evalkit.protocols.metrics.vocabulary import canonical
from evalkit.protocols.search import ranks
from evalkit.protocols.uncertainty.outcomes import PairOutcomes, SearchOutcomes, open_set, to_arrays
from evalkit.protocols.uncertainty.resampled_trials import (
    people_weights,
    trial_draws,
    with_drawn_intervals,
)
from evalkit.protocols.uncertainty.weights import Weights
from evalkit.types import Bools, Estimate, Failures, Floats, Ints, PairSet, Report

NAME = "ijba"
VERSION = 1
FARS = ("1e-1", "1e-2", "1e-3")
FPIRS = ijb.FPIRS
DEPTHS = ijb.DEPTHS
DRAWS = 1000
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
    subject: Ints | None = None,
    *,
    pooling: Pooling = POOLING,
    fars: Rates = FARS,
    fpirs: Rates = FPIRS,
    depths: Sequence[int] = DEPTHS,
    groups: Sequence[Grouping | Condition] = (),
    seed: int = 0,
    keys: Names | None = None,
    images: ArrayLike | None = None,
    set_name: str | None = None,
) -> Report:
    """Verify and search in every split, with (N, D) or (N, V, D) features of the faces.

    subject : (N,) whom each face shows; without it there are no intervals.
    pooling : of faces to templates; a medium's faces are averaged first.
    Metrics, each the mean over the splits, which `folds` has: tpr@far=x,mean=split of the pairs;
    rank-k@mean=split and tpir@fpir=x,mean=split of the search, FPIR over the probes whose subject
    is not enrolled.  None where a split supports none.  standard_error : deviation over the root of
    the splits, which share people, so that it is no interval of anything.  A face without a vector
    is left out and counted; a template of such alone is never accepted.
    Intervals: the same people are drawn for every split; outcomes are these draws.
    groups : columns of groups or conditions of the faces, by template (`of_templates`): adds the
    mean over the splits of their rates at each split's threshold, as fmr@far=x,sex=f,mean=split.
    seed, keys, images, set_name : see `catalogue.Protocol`.
    ProtocolError without two splits, where one has neither pairs nor a gallery with probes, and
    for a template of two subjects.
    """
    if len(splits) < 2:
        raise ProtocolError(f"{len(splits)} split has no deviation", "IJB-A has ten")
    fars, fpirs, depths = rate_texts(fars), rate_texts(fpirs), rank_depths(depths)
    require(pooling, Pooling, "pooling", "evalkit.protocols.ijb.Pooling")
    seed = whole_number(seed, "seed")
    refuse_other_rows(groups, len(features), "faces")
    columns = {f"{k} {name}": c for k, s in enumerate(splits) for name, c in _columns(s).items()}
    identity = of_rows(columns, len(features), keys=keys, images=images, set_name=set_name)
    who, weights = np.zeros(len(features), np.int64), list[Weights]()
    if subject is not None:
        who = np.unique(identities(subject, len(features)), return_inverse=True)[1]
        weights = people_weights(who, DRAWS, seed)
    every: list[dict[str, Estimate]] = []
    drawn: list[dict[str, Floats]] = []
    lost: list[Failures] = []
    by_group: list[dict[str, TrialRate]] = []
    for number, split in enumerate(splits, 1):
        parts = _parts(features, split, who, pooling, (fars, fpirs), depths)
        if not parts:
            raise ProtocolError(f"split {number} has neither pairs nor a gallery with probes")
        every.append({n: m for part in parts for n, m in part.found.items()})
        if every[-1].keys() != every[0].keys():
            raise ProtocolError(f"split {number} measures other things than split 1")
        drawn.append({n: d for part in parts for n, d in _drawn(part, weights).items()})
        lost += [part.lost for part in parts]
        by_group.append({n: r for part in parts for n, r in _grouped(part, split, groups, weights)})
    names = {name: canonical(f"{name}@mean=split") for name in every[0]}
    both = [name for name in names if all(name in of for of in drawn)]
    metrics, kept = with_drawn_intervals(
        {whole: mean_of_splits([of[name] for of in every]) for name, whole in names.items()},
        {names[name]: np.mean([of[name] for of in drawn], axis=0) for name in both},
        who,
        _digest(splits),
        seed,
    )
    of_groups = over_trials(by_group, mean_of_splits, seed)
    empty = failed(np.asarray(features).reshape(len(features), -1))
    side = ComparedRows(row=np.arange(len(features)), person=who, lost=empty)
    enrolled, counts = rows_by_group(groups, side, seed)
    return Report(
        protocol=NAME,
        protocol_version=VERSION,
        metrics=metrics | {f"{name},mean=split": m for name, m in of_groups.items()} | enrolled,
        failures=Failures(
            images=int(empty.sum()),
            genuine=sum(f.genuine for f in lost),
            impostor=sum(f.impostor for f in lost),
        ),
        provenance={
            "splits": len(splits),
            "pooling": pooling.name,
            **({"groups": counts} if groups else {}),
        },
        outcomes=to_arrays(kept) if weights else None,
        identity=identity,
    )


def _columns(split: Split) -> dict[str, Ints | Bools]:
    """Say what a split compares, by name."""
    columns: dict[str, Ints | Bools] = {n: getattr(split, n) for n in ("row", "template", "media")}
    if split.pairs is not None:
        columns |= {name: getattr(split.pairs, name) for name in ("left", "right", "genuine")}
    for side in ("gallery", "probe"):
        if (enrolled := getattr(split, side)) is not None:
            columns |= {
                f"{side} {name}": getattr(enrolled, name) for name in ("template", "subject")
            }
    return columns


def _digest(splits: Sequence[Split]) -> NDArray[np.uint8]:
    """SHA-256 of what all splits compare: (32,)."""
    every = digest(*(column for split in splits for column in _columns(split).values()))
    return np.frombuffer(bytes.fromhex(every), np.uint8)


@dataclass(frozen=True, slots=True)
class _Part:
    """Pairs or search of one split.

    found : its estimates.  outcomes : what they are drawn of.  people : who is in these, by
    ascending number.  lost : rejected pairs.  probes : of a search, rows of the templates.
    """

    found: dict[str, Estimate]
    outcomes: PairOutcomes | SearchOutcomes
    people: Ints
    lost: Failures = field(default_factory=Failures)
    probes: ProbeRows | None = None


def _parts(
    features: Any,
    split: Split,
    who: Ints,
    pooling: Pooling,
    rates: tuple[Sequence[str], Sequence[str]],
    depths: Sequence[int],
) -> list[_Part]:
    """Pool the faces of one split and measure its pairs, its search, or both."""
    rows = whole_numbers(split.row, "row")
    templates = pool(features[rows], split.template, split.media, None, pooling)
    people = _people(split.template, who[rows])
    parts = []
    if split.pairs is not None:
        parts.append(_verified(templates, split.pairs, people, rates[0]))
    if split.gallery is not None and split.probe is not None:
        parts.append(_searched(templates, split.gallery, split.probe, people, rates[1], depths))
    return parts


def _people(template: Ints, who: Ints) -> Ints:
    """Person of each template by ascending id, (T,); `who` : (F,) of each face."""
    ids, first, of = np.unique(template, return_index=True, return_inverse=True)
    if len(mixed := np.flatnonzero(who[first][of] != who)):
        raise ProtocolError(f"template {ids[of[mixed[0]]]} has faces of two subjects")
    return who[first]


def _drawn(part: _Part, weights: Sequence[Weights]) -> dict[str, Floats]:
    """Draw one part; the person unseen is in as many splits as people are on average."""
    if not weights:
        return {}
    present = len(part.people) / len(weights[0][0])
    return trial_draws(part.outcomes, [*part.found], weights, part.people, present)


def _grouped(
    part: _Part,
    split: Split,
    groups: Sequence[Grouping | Condition],
    weights: Sequence[Weights],
) -> Iterator[tuple[str, TrialRate]]:
    """Measure one part by the groups of its templates."""
    present = len(part.people) / len(weights[0][0]) if weights else 1.0
    own = [(weight, round(present * unseen)) for weight, unseen in weights]
    for by in groups:
        of = of_templates(by.take(whole_numbers(split.row, "row")), split.template)
        rates = trial_rates(part.found, part.outcomes, of, part.people, own, probes=part.probes)
        yield from rates.items()


def _verified(templates: Templates, pairs: PairSet, people: Ints, fars: Sequence[str]) -> _Part:
    """TPR of one split's pairs."""
    left, right, genuine = templates.rows(pairs.left), templates.rows(pairs.right), pairs.genuine
    score = exact_scores(templates.vectors, left, templates.vectors, right)
    return _Part(
        {f"tpr@far={far}": tpr_at_far(score[genuine], score[~genuine], far) for far in fars},
        PairOutcomes(
            score=score,
            genuine=genuine,
            left=left,
            right=right,
            left_subject=people[left],
            right_subject=people[right],
        ),
        np.union1d(people[left], people[right]),
        count_failures(np.isneginf(score), genuine),
    )


def _searched(
    templates: Templates,
    gallery: ijb.Enrolled,
    probe: ijb.Enrolled,
    people: Ints,
    fpirs: Sequence[str],
    depths: Sequence[int],
) -> _Part:
    """Ranks and TPIR of one split's search."""
    rows = templates.rows(probe.template)
    x, y = templates.vectors[rows], templates.vectors[templates.rows(gallery.template)]
    who = people[rows]
    mated = np.isin(probe.subject, gallery.subject)
    rank, mate = ranks(x[mated], probe.subject[mated], y, gallery.subject, None, None)
    best = np.empty(0)
    if not mated.all():
        best = allpairs.search(x[~mated], y).score[:, 0]
    rates = {f"rank-{k}": rank_within(rank, k) for k in depths}
    return _Part(
        rates | {f"tpir@fpir={fpir}": dir_at_fpir(mate, rank, best, fpir) for fpir in fpirs},
        open_set(rank, mate, who[mated], best, who[~mated]),
        np.unique(who),
        probes=ProbeRows(mated=rows[mated], other=rows[~mated]),
    )


def mean_of_splits(splits: Sequence[Estimate]) -> Estimate:
    """Mean of S splits, the deviation (divisor S-1) in the note; None where one has no value."""
    mean = mean_estimate(splits)
    if mean.value is None:
        return mean
    deviation = float(np.std(mean.folds, ddof=1))
    return replace(
        mean,
        standard_error=deviation / len(splits) ** 0.5,
        note=f"deviation of {len(splits)} splits {100 * deviation:.2f} points",
    )
