"""The list of pairs as read: names, labels and folds; what the readers of all layouts share.

Each reader takes the text of a list and where it came from, and returns a `PairList` or raises a
`DataError` that names the line and quotes it.  Nothing is skipped and nothing is guessed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any
from unicodedata import normalize

import numpy as np
from numpy.typing import NDArray

from evalkit.datasets import names_of_people
from evalkit.datasets.names_of_people import PeopleByName
from evalkit.errors import DataError
from evalkit.files import numbered_lines
from evalkit.table_headers import is_header
from evalkit.tables import ReadTable, fields_of, wrong_line
from evalkit.types import Manifest, PairSet

_TOKEN = re.compile(r"([^ \t].*?)[ \t,;]+([0-9]{1,4})\Z")
OF_ONE_IMAGE = "of one image"  # what a report's provenance calls `PairList.doubts`
TWICE = "listed twice"
OTHERS = "labels against names"
DOUBTS = (OF_ONE_IMAGE, TWICE, OTHERS)
LABELLED, LABEL_FIRST = ("left", "right", "label"), ("label", "left", "right")


@dataclass(frozen=True, slots=True)
class PairList:
    """Pairs of image keys as a list names them, in its order.

    left, right : P keys.  genuine : (P,) bool.  fold : (P,) int16 from 0, or None.
    source : the file; line : (P,) int64, the line of it that named each pair.
    subject : key -> name of the person, where the list says who it is.
    fold_rule : how pairs got the fold that the list does not give them.
    told : its header, and the columns that were left out, see `tables.ReadTable`.
    """

    left: tuple[str, ...]
    right: tuple[str, ...]
    genuine: NDArray[np.bool_]
    fold: NDArray[np.int16] | None
    source: str
    line: NDArray[np.int64]
    subject: Callable[[str], str] | None = None
    fold_rule: str = ""
    told: str = ""

    def __len__(self) -> int:
        return len(self.left)

    def resolve(self) -> tuple[Manifest, PairSet]:
        """Each image once, in the order of its key, and the pairs as rows of that manifest.

        Where the list does not say who is on an image, its folder or name does if the labels agree
        (`names_of_people`).  Else people are what genuine pairs join: two images of one such group
        show one person; two groups may show the same one.
        DataError where two lines call the same pair genuine and impostor.
        """
        keys, left, right = self._rows()
        self._refuse_contradictions(left, right)
        if self.subject is None:
            named = names_of_people.find(keys, left, right, self.genuine)
            subject: NDArray[np.integer[Any]] = (
                self._joined(left, right, len(keys)) if named is None else named.subject
            )
        else:
            people = [normalize("NFC", self.subject(k)) for k in keys]
            _, subject = np.unique(people, return_inverse=True)
        return Manifest(tuple(keys), subject.astype(np.int32)), PairSet(
            left, right, self.genuine, self.fold
        )

    def named_people(self) -> PeopleByName | None:
        """Tell people apart by their images' names; None where the labels disagree with them."""
        return names_of_people.find(*self._rows(), self.genuine)

    def _rows(self) -> tuple[list[str], NDArray[np.int64], NDArray[np.int64]]:
        """Each image once, in the order of its key, and the rows of left and right among them."""
        keys = sorted({*self.left, *self.right})
        row = {key: r for r, key in enumerate(keys)}
        left = np.array([row[k] for k in self.left], np.int64)
        return keys, left, np.array([row[k] for k in self.right], np.int64)

    def _joined(
        self, left: NDArray[np.int64], right: NDArray[np.int64], count: int
    ) -> NDArray[np.int32]:
        """Give each image, (count,), the number of the group that genuine pairs join."""
        from scipy.sparse import coo_array  # most lists say who is on an image
        from scipy.sparse.csgraph import connected_components

        g = self.genuine
        joined = coo_array((np.ones(g.sum()), (left[g], right[g])), shape=(count, count))
        numbers: NDArray[np.int32] = connected_components(joined, directed=False)[1]
        return numbers

    def doubts(self) -> dict[str, str]:
        """Say for the report which pairs are an image with itself, and which stand twice.

        Of two that are one pair, in either order, the second is named.  And which labels contradict
        the names of their images, where nearly all agree.  Empty where none is.
        """
        told, seen, again = dict[str, str](), set[tuple[str, str]](), list[int]()
        same = [k for k, (a, b) in enumerate(zip(self.left, self.right, strict=True)) if a == b]
        if same:
            genuine, first = int(np.count_nonzero(self.genuine[same])), same[0]
            told[OF_ONE_IMAGE] = (
                f"{genuine} genuine and {len(same) - genuine} impostor pairs are an image with "
                f"itself, first {self.left[first]} on line {self.line[first]}: they lift TPR, and "
                "the thresholds of FARs"
            )
        for k, (a, b) in enumerate(zip(self.left, self.right, strict=True)):
            pair = (a, b) if a < b else (b, a)
            if pair in seen:
                again.append(k)
            seen.add(pair)
        if again:
            first = again[0]
            told[TWICE] = (
                f"{len(again):,} of {len(self):,} pairs repeat an earlier one, first "
                f"{self.left[first]} and {self.right[first]} on line {self.line[first]}: each "
                "counts as often as it stands there"
            )
        if self.subject is None and (contradicted := self._contradicted()):
            told[OTHERS] = contradicted
        return told

    def _contradicted(self) -> str:
        """Say which labels contradict the names of their images; "" where none does."""
        named = self.named_people()
        wrong = [] if named is None else np.flatnonzero(named.contradicted).tolist()
        if named is None or not wrong:
            return ""
        first = wrong[0]
        return (
            f"{len(wrong):,} of {len(self):,} labels contradict {named.rule} of the images, by "
            f"which people are told apart: first {self.left[first]} and {self.right[first]} on "
            f"line {self.line[first]}, called {'genuine' if self.genuine[first] else 'impostors'}"
        )

    def _refuse_contradictions(self, left: NDArray[np.int64], right: NDArray[np.int64]) -> None:
        low, high = np.minimum(left, right), np.maximum(left, right)
        order = np.lexsort((self.genuine, high, low))
        a, b = order[:-1], order[1:]
        wrong = (low[a] == low[b]) & (high[a] == high[b]) & (self.genuine[a] != self.genuine[b])
        if wrong.any():
            k = int(np.flatnonzero(wrong)[0])
            no, yes = int(order[k]), int(order[k + 1])
            raise DataError(
                f"{self.source} calls {self.left[no]} and {self.right[no]} impostors on line "
                f"{self.line[no]} and genuine on line {self.line[yes]}",
                "leave one of the two lines out",
            )


def build(
    rows: Iterable[tuple[str, str, bool, int | None, int]],
    source: str,
    subject: Callable[[str], str] | None = None,
) -> PairList:
    """Collect (left, right, genuine, fold, line) rows; DataError if there are none."""
    columns = list(zip(*rows, strict=True))
    if not columns:
        raise DataError(f"{source} holds no pairs")
    left, right, genuine, fold, line = columns
    return PairList(
        left,
        right,
        np.array(genuine, np.bool_),
        None if fold[0] is None else np.array(fold, np.int16),
        source,
        np.array(line, np.int64),
        subject,
    )


def of_table(held: ReadTable, source: str) -> PairList:
    """Take the pairs of a table of two images, a label and perhaps a fold per line."""
    n = len(held.line)
    fold = held.columns.get("fold") or [None] * n
    columns = (held.columns[role] for role in LABELLED)
    return replace(build(zip(*columns, fold, held.line, strict=True), source), told=held.told)


def parse_two_line(text: str, source: str) -> PairList:
    """`image token` and `image token` on two lines: CPLFW and CALFW, perhaps below a header.

    CPLFW: token 1 = genuine, 0 = impostor, no folds.  CALFW: a genuine pair's token is its fold, 1
    to 10; an impostor pair's is 0, so the k-th tenth of the impostor pairs joins fold k.
    """
    tokens: list[int] = []

    def rows() -> Iterator[tuple[str, str, bool, None, int]]:
        every = numbered_lines(text)
        lines = iter(every[is_header(fields_of(every[0][1])) :] if every else [])
        for number, line in lines:
            second, after = next(lines, (number, ""))
            left, right = _TOKEN.match(line), _TOKEN.match(after)
            if left is None or right is None or left[2] != right[2]:
                expected = "two lines 'image token' with one token"
                raise wrong_line(source, number, expected, f"{line} | {after}")
            tokens.append(int(left[2]))
            yield left[1], right[1], tokens[-1] > 0, None, second - 1

    pairs = build(rows(), source)
    if max(tokens) < 2:
        return pairs
    fold = np.array(tokens, np.int64) - 1
    impostor = ~pairs.genuine
    n = int(np.count_nonzero(impostor))
    if 2 * n <= len(pairs) - n:  # a label per person counts so, and so does no list of pairs
        raise DataError(
            f"{source} has the labels 0 to {max(tokens)}, and 0 on {n} of {len(pairs)} pairs of "
            "lines: are they people?",
            "images and whom each shows are for evalkit people; pairs: 'path path 0|1 fold'",
        )
    fold[impostor] = np.arange(n) * max(tokens) // n
    rule = "genuine pairs: from the list; impostor pairs: the k-th part of them joins fold k"
    return replace(pairs, fold=fold.astype(np.int16), fold_rule=rule)


def join_folds(parts: Sequence[PairList], source: str) -> PairList:
    """Join lists that are one fold each, in order: part k becomes fold k."""
    return PairList(
        tuple(k for p in parts for k in p.left),
        tuple(k for p in parts for k in p.right),
        np.concatenate([p.genuine for p in parts]),
        np.repeat(np.arange(len(parts), dtype=np.int16), [len(p) for p in parts]),
        source,
        np.concatenate([p.line for p in parts]),
        parts[0].subject,
    )
