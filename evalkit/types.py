"""The nouns of evalkit: frozen dataclasses over numpy arrays, imported by every room."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from evalkit.arrays import identities, labels, whole_numbers
from evalkit.errors import ProtocolError

Progress = Callable[[int, int], None]  # done, in all


@dataclass(frozen=True, slots=True, kw_only=True)
class InputSpec:
    """What a network wants to be fed; it travels with the model and is never guessed.

    Images are always handed over as RGB uint8; the adapter computes ``(pixel - mean) / std`` on the
    0..255 scale, in the network's own channel order.
    """

    size: tuple[int, int]  # (height, width) in pixels
    color: Literal["rgb", "bgr"]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    layout: Literal["nchw", "nhwc"] = "nchw"
    crop: str = "arcface-112"  # the alignment that the images must already have


@dataclass(frozen=True, slots=True)
class Manifest:
    """Which image each row belongs to: row i of every array is ``keys[i]``.

    keys : unique "/"-separated relative names, without a claim on where the image lies.
    subject : (N,) int32, or what `arrays.identities` makes of other numbers: the identity of each
    row; -1 = distractor, never anybody's mate.
    """

    keys: tuple[str, ...]
    subject: NDArray[np.int32]

    def __post_init__(self) -> None:
        object.__setattr__(self, "keys", tuple(self.keys))
        object.__setattr__(self, "subject", identities(self.subject, len(self.keys), "keys"))
        if len(set(self.keys)) != len(self.keys):
            seen: set[str] = set()
            twice = next(k for k in self.keys if k in seen or seen.add(k))  # type: ignore[func-returns-value]
            raise ProtocolError(f"two rows for one key: {twice!r}", "every image has one row")

    def digest(self) -> str:
        """SHA-256 of the keys and subjects, in row order."""
        h = hashlib.sha256("\n".join(self.keys).encode())
        narrow = np.array_equal(self.subject, self.subject.astype(np.int32))
        h.update(np.ascontiguousarray(self.subject, "<i4" if narrow else "<i8").tobytes())
        return h.hexdigest()


@dataclass(frozen=True, slots=True)
class PairSet:
    """Comparisons for verification: P pairs of manifest rows.

    left, right : (P,) int64 rows.  genuine : (P,) bool.  fold : (P,) int16 from 0, or None.
    Lists, other widths and labels of 0 and 1 are converted; ProtocolError for what has no meaning.
    """

    left: NDArray[np.int64]
    right: NDArray[np.int64]
    genuine: NDArray[np.bool_]
    fold: NDArray[np.int16] | None = None

    def __post_init__(self) -> None:
        for name in ("left", "right"):
            rows = whole_numbers(getattr(self, name), name).astype(np.int64, copy=False)
            object.__setattr__(self, name, rows)
        object.__setattr__(self, "genuine", labels(self.genuine))
        if self.fold is not None:
            object.__setattr__(self, "fold", whole_numbers(self.fold, "fold"))

    def __len__(self) -> int:
        return len(self.genuine)


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """One number, with what supports it.

    value : the number as a fraction of 1, or None where the data cannot support it: see `note`.
    low, high : the ends of the interval that `interval` names, or None.
    n : comparisons behind the number.
    threshold : accept if and only if score >= threshold, where the number has one.
    far, false_accepts : what was realised at that threshold.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    n: int = 0
    threshold: float | None = None
    far: float | None = None
    false_accepts: int | None = None
    standard_error: float | None = None
    folds: tuple[float, ...] = ()
    interval: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Failures:
    """Images without a template, and the comparisons they took part in (each of these rejected)."""

    images: int = 0
    genuine: int = 0
    impostor: int = 0
    keys: tuple[str, ...] = ()  # the first hundred, where the rows have names


@dataclass(frozen=True, slots=True, kw_only=True)
class SetIdentity:
    """Which comparisons a report holds, as `identity` makes it; None is what nobody knows.

    list : SHA-256 of who is compared with whom, labels, folds and subjects, whatever the rows are
    called.  images : of the digests of the images, in the list's order.  keys : of their names.
    set : name of the set; file : that its list was read from, told but never compared.
    """

    list: str | None = None
    images: str | None = None
    keys: str | None = None
    set: str | None = None
    file: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a protocol returns: one shape for all of them.

    metrics : name -> Estimate; a metric's parameters are in its name, "tpr@far=1e-6".
    identity : the comparisons that all this is of.
    curves : name -> columns for pictures, e.g. "roc" -> {"far": ..., "tpr": ..., "threshold": ...}.
    outcomes : per-comparison arrays for paired tests; kept in an .npz beside the JSON.
    """

    protocol: str
    protocol_version: int
    metrics: Mapping[str, Estimate]
    failures: Failures = Failures()
    provenance: Mapping[str, Any] = field(default_factory=dict)
    curves: Mapping[str, Mapping[str, Sequence[float]]] = field(default_factory=dict)
    outcomes: Mapping[str, NDArray[Any]] | None = None
    identity: SetIdentity = SetIdentity()

    def flat(self) -> dict[str, float]:
        """Metric name -> value, without those that could not be measured."""
        return {k: m.value for k, m in self.metrics.items() if m.value is not None}
