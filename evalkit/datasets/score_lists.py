"""Readers of scores: tables of a score and a label per line, or of the people in it, and arrays."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evalkit import tables
from evalkit.datasets.pair_list import PairList
from evalkit.errors import DataError, first_few
from evalkit.files import as_path, numbered_lines, read_text
from evalkit.keys import by_last_parts, canonical, read_keys
from evalkit.protocols.claims import Claims
from evalkit.table_headers import DISTANCES, names_models, roles_of, word
from evalkit.tables import ReadTable, Roles
from evalkit.types import PairSet
from evalkit.vectors import readers

ROLES = ("label", "score", "fold", "left", "right", "claimed", "real", "probe", "model")
_BARE: Roles = ("score",)
_CLAIMS: tuple[Roles, ...] = (  # as bob writes them
    ("claimed", "real", "probe", "score"),
    ("claimed", "model", "real", "probe", "score"),
)
# Every layout of a table, each a row.  A list of pairs that has an image with itself may be read as
# claims too, of labels or scores for probes: claims come last.
_LAYOUTS: tuple[Roles, ...] = (
    ("label", "score"),
    ("label", "score", "fold"),
    ("score", "label"),
    ("label", "left", "right", "score"),
    ("left", "right", "score", "label"),
    ("left", "right", "label", "score"),
    *_CLAIMS,
)
_UNLABELLED: tuple[Roles, ...] = (
    _BARE,
    ("left", "right", "score"),
    ("left", "right", "score", "-"),  # NIST's match.log
)
_MOST_FOLDS = 20  # of 0 and 1 as scores
_ROUNDING = 1e-5  # of the largest score: what two halves of a symmetric matrix may differ by
_OF_PROBES = ("data-pos", "data-neg")  # as bob calls its matrices


@dataclass(frozen=True, slots=True)
class ScoreList:
    """Scored pairs in the order of the file.

    score : (P,) float64, -inf for a comparison that failed.
    genuine : (P,) bool, or None where the file has no labels.
    fold : (P,) int16, or None where the file has no such column.
    claims : who is in them, where the file says it.  pairs, subject : the same of a matrix.
    told : the header and the columns left out, see `tables.ReadTable`.
    names : the two images of each pair, (P,) texts each, where the file names them.
    line : the number of each score's line, where there are lines.
    """

    score: NDArray[np.float64]
    genuine: NDArray[np.bool_] | None
    fold: NDArray[np.int16] | None = None
    claims: Claims | None = None
    pairs: PairSet | None = None
    subject: NDArray[np.int32] | None = None
    told: str = ""
    names: tuple[Sequence[str], Sequence[str]] | None = None
    line: Sequence[int] = ()

    def named_pairs(self, source: str) -> PairList | None:
        """Its pairs, where folders or names of their images say as the labels do who is on them.

        source : what messages call the file.  See `datasets.names_of_people`.
        """
        if self.names is None or self.genuine is None:
            return None
        left, right = map(tuple, self.names)
        line = np.array(self.line, np.int64)
        listed = PairList(left, right, self.genuine, self.fold, source, line)
        return None if listed.named_people() is None else listed


def read(
    path: str | os.PathLike[str],
    *,
    distance: bool = False,
    labelled: bool = True,
    columns: Mapping[str, str] | None = None,
    allow_failures: bool = False,
) -> ScoreList:
    """Read a comparison per line, in one of the layouts or as a header names its columns; or .npy.

    `label score [fold]`, `score label`, `1 a b 0.9`, `a b 0.9 1`, or as bob writes them, `claimed
    real probe score` and `claimed model real probe score`: the person claimed, what was enrolled of
    him, the person who it is, and the probe.  Labels and separators: see `tables`.
    An .npy holds the scores; .npz and HDF5 hold arrays that are called as columns are, or bob's
    `data-pos` and `data-neg`, a row a probe.
    distance : lower is more alike, so the score is minus the number, and inf stands for a
    comparison that failed; False refuses a column that is called a distance, but for `columns`.
    labelled : False = labels come from elsewhere, and lines of a score alone, or of two names and a
    score, are read too.  columns : role (`ROLES`) -> name or number of a column.
    allow_failures : a score that is NaN or missing is that of a comparison that failed.
    """
    path = as_path(path)
    if path.suffix.lower() in (".npy", ".npz", ".h5", ".hdf5"):
        return _of_arrays(path, distance, allow_failures)
    text = read_text(path)
    if not text.strip():
        raise DataError(f"{path} holds no scores", "expected lines of 'label score'")
    table = tables.read(
        text,
        str(path),
        (*_LAYOUTS, *(() if labelled else _UNLABELLED)),
        ("score", "label") if labelled and columns is None else _BARE,
        ROLES[:5],
        columns=columns,
        accept=_plain,
    )
    if "score" not in table.columns or (labelled and not {"label", "claimed"} & {*table.columns}):
        raise DataError(
            f"{path} needs a column of scores and one of labels", "--columns label=NAME"
        )
    if not distance and columns is None:
        called = zip(table.header, table.layout, strict=False)
        _refuse_distances([name for name, role in called if role == "score"], str(path))
    score = _checked(table.columns["score"], distance, allow_failures, f"{path} line", table.line)
    claims = _claims(table) if "claimed" in table.columns else None
    label, fold = table.columns.get("label"), table.columns.get("fold")
    named = {"left", "right"} <= {*table.columns}
    names = (table.columns["left"], table.columns["right"]) if named else None
    again = _scored_again(names, score) if names and "-" in table.layout else ""
    return ScoreList(
        score,
        claims.genuine if claims else None if label is None else np.array(label, np.bool_),
        None if fold is None else np.array(fold, np.int16),
        claims,
        told="; ".join(filter(None, (table.told, again, _of_models(table, text)))),
        names=names,
        line=table.line,
    )


def _scored_again(names: tuple[Sequence[str], Sequence[str]], score: NDArray[np.float64]) -> str:
    """Say how many lines score a pair that has another score already; "" where none does."""
    first: dict[tuple[str, str], float] = {}
    scored = zip(zip(*names, strict=True), score.tolist(), strict=True)
    count = sum(first.setdefault(pair, value) != value for pair, value in scored)
    if not count:
        return ""
    return f"{count:,} lines give a pair another score: split the file if several models are in it"


def _of_models(table: ReadTable, text: str) -> str:
    """Say that lines of several models, or sets, are taken together; "" where none are."""
    for place, (name, role) in enumerate(zip(table.header, table.layout, strict=False)):
        if role != "-" or not names_models(name):
            continue
        lines = [line for _, line in numbered_lines(text)]
        mark, width = tables.separator_of(lines[0]), len(table.header)
        cells = dict.fromkeys(tables.parted(line, mark, width)[place] for line in lines[1:])
        if len(cells) > 1:
            return (
                f"lines of {len(cells):,} values of {name!r} are taken together, "
                f"{first_few([*cells], 3)}: split the file if each is a model, or a set, of its own"
            )
    return ""


def other_pair(held: ScoreList, compared: PairList) -> int:
    """Place of the first score whose file names other images than the list does; -1 for none.

    Names match by their last parts (`keys.by_last_parts`), either way round.  A file none of whose
    names the list knows has names of another kind, such as numbers of templates: -1 too.
    """
    if held.names is None:
        return -1
    asked = [*dict.fromkeys(name for side in held.names for name in side)]
    have = [*dict.fromkeys((*compared.left, *compared.right))]
    rows = by_last_parts([*map(canonical, asked)], [*map(canonical, have)])[0]
    if (rows < 0).all():
        return -1
    row, place = dict(zip(asked, rows.tolist(), strict=True)), {k: r for r, k in enumerate(have)}
    for k, (a, b, c, d) in enumerate(zip(*held.names, compared.left, compared.right, strict=True)):
        if {row[a], row[b]} != {place[c], place[d]}:
            return k
    return -1


def _plain(held: ReadTable) -> bool:
    """Whether a layout that fits by its cells alone is what the file means.

    Of claims somebody is claimed who it is; else the columns are a label, names and scores.  Where
    scores are 0 and 1 too, the label stands first.  Scores of 0 and 1 before folds of other numbers
    are decimal commas.
    """
    columns, layout = held.columns, held.layout
    if layout in _CLAIMS:
        return any(c == r for c, r in zip(columns["claimed"], columns["real"], strict=True))
    if layout == ("label", "score", "fold") and {*columns["score"]} <= {-1, 0, 1}:
        return bool(max(columns["fold"]) < _MOST_FOLDS)
    return layout != ("score", "label") or not {*columns["score"]} <= {0, 1}


def _checked(
    given: Any, distance: bool, allow_failures: bool, where: str, numbers: Sequence[int]
) -> NDArray[np.float64]:
    """Turn numbers into scores; DataError that says where one is none."""
    score = np.array(given, np.float64)
    score = -score if distance else score
    if allow_failures:
        score[np.isnan(score)] = -np.inf
    bad = np.flatnonzero(~(score < np.inf))
    if len(bad):
        failed = "inf" if distance else "-inf"
        raise DataError(
            f"{where} {numbers[bad[0]]}: expected a finite number, or {failed} for a comparison "
            f"that failed, got {given[bad[0]]}",
            "--allow-failures counts NaN and missing scores as failed",
        )
    return score


def _of_arrays(path: Path, distance: bool, allow_failures: bool) -> ScoreList:
    arrays = readers.read_arrays(path)
    if arrays.keys() == {*_OF_PROBES}:
        return _of_probes(path, [arrays[name] for name in _OF_PROBES], distance, allow_failures)
    named = dict(zip(roles_of(list(arrays), (), {*ROLES}), arrays.values(), strict=True))
    score = arrays[""] if "" in arrays else named.get("score")
    if score is None or score.dtype.kind not in "fiu" or score.ndim != 1:
        raise DataError(
            f"{path.name} holds {_shapes(arrays)}",
            "expected scores, (P,), called score beside label; a matrix of (N, N) needs --subjects",
        )
    if not distance:
        _refuse_distances(arrays, path.name)
    label, fold = named.get("label"), named.get("fold")
    return ScoreList(
        _checked(score, distance, allow_failures, f"{path.name} row", range(len(score))),
        None if label is None else labels_of([str(x) for x in label.ravel()], path.name),
        None if fold is None else _folds_of(fold, path.name),
    )


def _refuse_distances(names: Iterable[str], source: str) -> None:
    """Raise DataError where scores are called distances, and nobody said that they are."""
    for name in names:
        if word(name) in DISTANCES:
            raise DataError(
                f"{source} has scores called {name!r}: lower where faces are more alike?",
                "--distance if so; else call them score, or --columns score=NAME, and the others",
            )


def _folds_of(fold: NDArray[Any], source: str) -> NDArray[np.int16]:
    """Take folds of a file of arrays; DataError unless each is a whole number from 0 to 9999."""
    whole = fold.dtype.kind in "biuf" and bool(np.all((fold >= 0) & (fold < 10_000)))
    if not whole or np.any(fold % 1):
        raise DataError(
            f"{source} has folds {fold.dtype} {fold.shape}, and one is no number from 0 to 9999",
            "number them, a whole number for each score",
        )
    return fold.astype(np.int16)


def _shapes(held: Mapping[str, NDArray[Any]]) -> str:
    return ", ".join(f"{name or 'array'} {a.dtype} {a.shape}" for name, a in held.items())


def _of_probes(
    path: Path, held: Sequence[NDArray[Any]], distance: bool, allow_failures: bool
) -> ScoreList:
    """Read bob's matrices of a probe a row: scores of its own models, (N, M), and others', (N, K).

    Who the probes are is not in them, so each is taken for a person of its own, and column k of the
    others for one model.
    """
    if any(x.ndim != 2 or x.dtype.kind not in "fiu" or len(x) != len(held[0]) for x in held):
        shown = _shapes(dict(zip(_OF_PROBES, held, strict=True)))
        raise DataError(f"{path.name} holds {shown}", "expected a row per probe in both")
    (n, own), (_, others) = (x.shape for x in held)
    scores = np.hstack(held).ravel()
    probe = np.repeat(np.arange(n), own + others)
    model = np.tile(np.arange(own + others), n)
    mine = model < own
    claims = Claims(
        claimed=np.where(mine, probe, n + model),
        real=probe,
        model=np.where(mine, n + others + probe * own + model, model),
        probe=probe,
    )
    score = _checked(scores, distance, allow_failures, f"{path.name} number", range(len(scores)))
    told = (
        f"{n:,} probes, each taken for a person of its own, as the file does not say who they are: "
        "intervals are too short where people recur"
    )
    return ScoreList(score, claims.genuine, claims=claims, told=told)


def read_matrix(
    path: str | os.PathLike[str],
    subject: NDArray[np.int32],
    *,
    distance: bool = False,
    allow_failures: bool = False,
) -> ScoreList:
    """Read a matrix of scores, .npy, (N, N) of N subjects, or (P, G) of P and then G subjects.

    Of a square one each pair is taken once where it is symmetric, or where one of its halves holds
    one value throughout, as `numpy.triu` leaves it; else both ways, and never the diagonal.
    """
    path = as_path(path)
    if path.suffix.lower() != ".npy":
        raise DataError(f"{path.name} is no .npy", "a matrix with --subjects is one: numpy.save")
    matrix = readers.read_npy(path)[0]
    square = matrix.shape == (len(subject),) * 2
    if (
        matrix.dtype.kind not in "fiu"
        or matrix.ndim != 2
        or not (square or sum(matrix.shape) == len(subject))
    ):
        raise DataError(
            f"{path.name} holds {matrix.dtype} of shape {matrix.shape}, and there are "
            f"{len(subject)} subjects",
            "a matrix (N, N) has N of them, one of (P, G) has those of its rows, then its columns",
        )
    mask, told = _compared(matrix) if square else (np.ones(matrix.shape, np.bool_), "")
    left, right = np.nonzero(mask)
    score = _checked(
        matrix[left, right], distance, allow_failures, f"{path.name} comparison", range(len(left))
    )
    right = right if square else right + matrix.shape[0]
    genuine = (subject[left] == subject[right]) & (subject[left] >= 0)
    pairs = PairSet(left, right, genuine)
    return ScoreList(score, genuine, pairs=pairs, subject=subject, told=told)


def _compared(matrix: NDArray[Any]) -> tuple[NDArray[np.bool_], str]:
    """Which entries of a square matrix are comparisons, (N, N) bool, and what to say of the others.

    A half of three entries or more that are all one value, or NaN, holds none.  One that repeats
    the other but for rounding, as products of matrices do, is no second comparison.
    """
    upper = np.triu(np.ones(matrix.shape, np.bool_), 1)
    if np.array_equal(matrix, matrix.T, equal_nan=True):
        return upper, ""
    above, below = (m[upper].astype(np.float64) for m in (matrix, matrix.T))
    with np.errstate(invalid="ignore"):  # infinity less itself
        apart = np.where((above == below) | (np.isnan(above) & np.isnan(below)), 0, above - below)
    most = float(np.abs(apart).max(initial=0))
    if most <= _ROUNDING * np.abs(above[np.isfinite(above)]).max(initial=0):
        return upper, f"symmetric to within {most:.2g}: the half above the diagonal is compared"
    for half, name in ((upper, "above"), (upper.T, "below")):
        entries = matrix[half]
        if len(entries) > 2 and (np.all(entries == entries[0]) or np.isnan(entries).all()):
            return half.T, f"{entries[0]:g} everywhere {name} the diagonal: not comparisons"
    return upper | upper.T, "not symmetric: both halves are compared, each pair in two ways"


def read_labels(path: str | os.PathLike[str]) -> NDArray[np.bool_]:
    """Read a label per line, or an array of them, .npy: (P,) bool."""
    path = as_path(path)
    if path.suffix.lower() == ".npy":
        return labels_of([str(x) for x in readers.read_npy(path)[0].ravel()], path.name)
    return labels_of(read_keys(path), path.name)


def labels_of(cells: Sequence[str], source: str) -> NDArray[np.bool_]:
    """Read labels of one kind, see `tables`: (P,) bool."""
    table = tables.read("\n".join(cells), source, [("label",)], ("label",))
    return np.array(table.columns["label"], np.bool_)


def _claims(held: ReadTable) -> Claims:
    """Give people, models and probes numbers from 0, as they appear."""
    claimed, real, probe = (held.columns[role] for role in ("claimed", "real", "probe"))
    model = [held.columns[role] for role in ("model",) if role in held.columns]
    people = {name: n for n, name in enumerate(dict.fromkeys([*claimed, *real]))}
    models = list(zip(claimed, *model, strict=True))
    probes = list(zip(real, probe, strict=True))
    return Claims(
        claimed=np.array([people[name] for name in claimed]),
        real=np.array([people[name] for name in real]),
        model=_by_appearance(models),
        probe=_by_appearance(probes),
    )


def _by_appearance(names: Sequence[tuple[str, ...]]) -> NDArray[np.int64]:
    number = {name: n for n, name in enumerate(dict.fromkeys(names))}
    return np.array([number[name] for name in names], np.int64)
