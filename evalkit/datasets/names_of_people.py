"""Whom the images of a list of pairs show by their folders or names, held against its labels."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evalkit.keys import canonical, folder_of
from evalkit.types import Ints

_FEW = 0.1  # of the labels of a class, at most so many of which may contradict the names


@dataclass(frozen=True, slots=True)
class PeopleByName:
    """People as names tell them apart.

    subject : (N,) int32, of each image.  contradicted : (P,) bool, labels that say otherwise.
    rule : what of an image says who is on it.
    """

    subject: NDArray[np.int32]
    contradicted: NDArray[np.bool_]
    rule: str


def _before(pattern: str) -> Callable[[str], str]:
    """Take the first group of a pattern of an image's own name; "" where it has no such name."""
    compiled = re.compile(pattern)

    def name(key: str) -> str:
        match = compiled.match(key.rpartition("/")[2])
        return match[1] if match else ""

    return name


# What says who is on an image, of its canonical key.
_RULES: dict[str, Callable[[str], str]] = {
    "the folders": folder_of,  # Ada/Ada_0001
    "the names": _before(r"(.+)[_-][0-9]+\Z"),  # Ada_0001, of CPLFW
    "the beginnings of the names": _before(r"(.+?)(?:[_-][0-9]+)+\Z"),  # Ada_0001_0002, of MLFW
    "the second parts of the names": _before(
        r"[0-9]+_(.+)_[0-9]+_[A-Za-z]\Z"
    ),  # 12_Ada_31_f, AgeDB
}


def find(
    keys: Sequence[str], left: Ints, right: Ints, genuine: NDArray[np.bool_]
) -> PeopleByName | None:
    """Find what tells the people of pairs apart: the first rule with which every label agrees.

    keys : N names.  left, right : (P,) rows of them.  Else the first that at most a tenth of the
    genuine and of the impostor pairs contradict; None where there is none.  A list of one class
    says little of names, and nothing but folders is tried.
    """
    spelled = [canonical(key) for key in keys]
    both = genuine.any() and not genuine.all()
    nearly: PeopleByName | None = None
    for rule, who in list(_RULES.items())[: None if both else 1]:
        names = [who(key) for key in spelled]
        if not all(names):
            continue
        subject = np.unique(names, return_inverse=True)[1].astype(np.int32)
        wrong = (subject[left] == subject[right]) != genuine
        if not wrong.any():
            return PeopleByName(subject, wrong, rule)
        if nearly is None and both and max(wrong[genuine].mean(), wrong[~genuine].mean()) <= _FEW:
            nearly = PeopleByName(subject, wrong, rule)
    return nearly
