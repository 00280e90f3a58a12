"""The nouns of evalkit: Estimate (a number of a report), Report, PairSet, Manifest, InputSpec.

Frozen dataclasses over numpy arrays, imported by every room.
"""

from __future__ import annotations

import difflib
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pkgutil import resolve_name
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from evalkit.arrays import identities, labels, whole_numbers
from evalkit.errors import ProtocolError, UnknownMetricError
from evalkit.escaping import printable

Floats = NDArray[np.float64]
Ints = NDArray[np.integer[Any]]
Bools = NDArray[np.bool_]
Progress = Callable[[int, int], None]  # done, in all
_SHOWN = 3  # metrics in the short form of a report


@dataclass(frozen=True, slots=True, kw_only=True)
class InputSpec:
    """The input that a network expects: declared by the user, or found by a trial.

    Images are always handed over as RGB uint8; the adapter computes ``(pixel - mean) / std`` on the
    0..255 scale, in the network's own channel order.
    """

    size: tuple[int, int]  # (height, width) in pixels
    color: Literal["rgb", "bgr", "grey"]  # grey: one channel, Pillow's "L"
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    layout: Literal["nchw", "nhwc"] = "nchw"
    crop: str = "arcface-112"  # the alignment that the images must already have

    @property
    def channels(self) -> int:
        """Number of channels of the network's input."""
        return 1 if self.color == "grey" else 3


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
        keys = tuple(self.keys)
        if isinstance(self.keys, str) or not all(isinstance(key, str) for key in keys):
            raise ProtocolError(f"keys given as {self.keys!r:.80}", "expected a name for each row")
        object.__setattr__(self, "keys", keys)
        object.__setattr__(self, "subject", identities(self.subject, len(self.keys), "keys"))
        if len(set(self.keys)) != len(self.keys):
            seen: set[str] = set()
            twice = next(k for k in self.keys if k in seen or seen.add(k))  # type: ignore[func-returns-value]
            raise ProtocolError(f"two rows for one key: {twice!r}", "every image has one row")

    def __repr__(self) -> str:
        """Short form: of a thousand names the first says enough."""
        first = f", the first {self.keys[0]!r}" if self.keys else ""
        people = len(np.unique(self.subject[self.subject >= 0]))
        return f"<Manifest of {len(self.keys):,} images of {people:,} people{first}>"

    def digest(self) -> str:
        """SHA-256 of the keys and subjects, in row order."""
        h = hashlib.sha256("\n".join(self.keys).encode())
        narrow = np.array_equal(self.subject, self.subject.astype(np.int32))
        h.update(np.ascontiguousarray(self.subject, "<i4" if narrow else "<i8").tobytes())
        return h.hexdigest()


@dataclass(frozen=True, slots=True)
class PairSet:
    """Comparisons for verification: P pairs of manifest rows.

    left, right : (P,) rows, int32 or int64.  genuine : (P,) bool.  fold : (P,) int16 from 0, or
    None.
    Lists, other widths and labels of 0 and 1 are converted; ProtocolError for what has no meaning.
    """

    left: Ints
    right: Ints
    genuine: NDArray[np.bool_]
    fold: NDArray[np.int16] | None = None

    def __post_init__(self) -> None:
        for name in ("left", "right"):
            rows = whole_numbers(getattr(self, name), name)
            kept = rows if rows.dtype == np.int32 else rows.astype(np.int64, copy=False)
            object.__setattr__(self, name, kept)
        object.__setattr__(self, "genuine", labels(self.genuine))
        if self.fold is not None:
            object.__setattr__(self, "fold", whole_numbers(self.fold, "fold"))

    def __len__(self) -> int:
        return len(self.genuine)

    def __repr__(self) -> str:
        """Short form: how many pairs of each kind, and of folds."""
        genuine = int(np.count_nonzero(self.genuine))
        folds = "" if self.fold is None else f", {len(np.unique(self.fold))} folds"
        impostor = len(self) - genuine
        return f"<PairSet of {genuine:,} genuine and {impostor:,} impostor pairs{folds}>"


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """One number, with what supports it.

    value : the number as a fraction of 1, or None where the data cannot support it: see `note`.
    low, high : the ends of the interval that `interval` names, or None.
    n : comparisons behind the number.  people : how many subjects could err in them independently:
    those with a genuine comparison or a search; None where nobody knows them.
    threshold : accept if and only if score >= threshold, where the number has one.
    far, false_accepts : what was realised at that threshold.

    A new field also needs its property in evalkit/report/schema-2.json and its row in
    docs/report-format.md; in `_check_kinds` of evalkit/report/__init__.py, its kind, unless it is
    a number or None; and to be shown, a field of `Row` and a line of `row` in
    evalkit/report/spelling.py and its heading in `HEADINGS` of evalkit/report/table.py.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    n: int = 0
    people: int | None = None
    threshold: float | None = None
    far: float | None = None
    false_accepts: int | None = None
    standard_error: float | None = None
    folds: tuple[float, ...] = ()
    interval: str = ""
    note: str = ""

    def __str__(self) -> str:
        """One line: value, standard error, interval, and what supports them."""
        shown = ["no value" if self.value is None else f"{self.value:.5g}"]
        if self.standard_error is not None:
            shown[0] += f" ± {self.standard_error:.2g} (standard error)"
        if self.low is not None and self.high is not None:
            level = self.interval.partition("%")[0] if "%" in self.interval else "95"
            shown.append(f"{level} % interval [{self.low:.5g}, {self.high:.5g}]")
        shown.append(f"n={self.n:,}")
        if self.people is not None:
            shown.append(f"{self.people:,} people")
        if self.threshold is not None:
            shown.append(f"threshold {float(self.threshold)!r}")
        if self.false_accepts is not None:
            shown.append(f"{self.false_accepts:,} false accepts")
        return printable(", ".join(shown + ([self.note] if self.note else [])))

    def __repr__(self) -> str:
        return f"<Estimate {self}>"


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
    `report[name]` is one of them, `name in report` tells whether it is there, a loop gives names.
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

    def __getitem__(self, metric: str) -> Estimate:
        """Give one metric; UnknownMetricError, a KeyError too, names those that are like it."""
        if metric in self.metrics:
            return self.metrics[metric]
        like = difflib.get_close_matches(str(metric), self.metrics)
        hint = f"did you mean {' or '.join(map(repr, like))}?" if like else ""
        known = hint or f"it has {', '.join(self.metrics) or 'none at all'}"
        raise UnknownMetricError(f"the report of {self.protocol} has no metric {metric!r}", known)

    def __contains__(self, metric: object) -> bool:
        return metric in self.metrics

    def __iter__(self) -> Iterator[str]:
        return iter(self.metrics)

    def __repr__(self) -> str:
        shown = [f"{name} {value:.5g}" for name, value in self.flat().items()]
        more = len(self.metrics) - len(shown[:_SHOWN])
        line = ", ".join(shown[:_SHOWN]) + (f" and {more} more" if more else "")
        return printable(f"<Report of {self.protocol}: {line.strip() or 'no metrics'}>")

    def _repr_html_(self) -> str:
        """Lay the metrics out for a notebook; every text is escaped."""
        return str(_above("evalkit.report.table:html_table")(self))

    def table(self, title: str = "") -> str:
        """Lay the metrics out as the text that every command prints."""
        return str(_above("evalkit.report.table:table")(self, title))

    def rows(self) -> list[dict[str, Any]]:
        """List the metrics as plain dicts, one each: `pandas.DataFrame(report.rows())`."""
        return [{"metric": name, **asdict(m)} for name, m in self.metrics.items()]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the report as JSON, and its outcomes into an .npz beside it."""
        _above("evalkit.report:write")(self, path)

    @staticmethod
    def load(path: str | os.PathLike[str]) -> Report:
        """Read what `save`, or a command's --out, wrote; ReportError for anything else."""
        read: Report = _above("evalkit.report:read")(path)
        return read

    def plot(self, kind: str, ax: Any = None, axes: str = "log") -> Any:
        """Draw a picture ("roc", "det", "cmc", ...) by matplotlib; returns its figure.

        ax : the axes to draw on; None makes a figure.  axes : of "det", "log" or "probit".
        `evalkit.report.plots.draw` takes several reports into one picture.
        """
        return _above("evalkit.report.plots:draw")(kind, self, ax=ax, axes=axes)


def _above(name: str) -> Callable[..., Any]:
    """Find what shows or keeps a report, by "module:function".

    The rooms above import these nouns, so the nouns cannot import the rooms: they know them by
    name alone, as the front door does, and no room is loaded before somebody asks for a picture.
    """
    function: Callable[..., Any] = resolve_name(name)
    return function
