"""A metric object in torchmetrics' shape: TPR@FAR, EER and rank-k of vectors in batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evalkit.arrays import array, identities, identities_of_all, vectors
from evalkit.errors import ProtocolError
from evalkit.protocols import people
from evalkit.protocols.metrics.similarity import single
from evalkit.training.ranks import Ranks
from evalkit.types import Report


class VerificationMetric:
    """All pairs of the vectors that it has been given, as `protocols.people` measures them.

    options : those of `people.evaluate`, such as fars=["1e-3"].
    timeout : seconds to wait for another rank of `torch.distributed`.

    `report` is the last one that was computed, on the first rank.  The object has no weights and is
    no `torch.nn.Module`; it needs no torchmetrics.

    >>> metric = VerificationMetric(fars=["0.5"])
    >>> metric.update([[1.0, 0.0], [1.0, 0.1]], [7, 7])
    >>> metric.update([[0.0, 1.0], [0.1, 1.0]], [3, 3])
    >>> metric.compute()["tpr@far=0.5"]
    1.0
    """

    def __init__(self, *, timeout: float = 600.0, **options: Any) -> None:
        self._timeout, self._options = timeout, options
        self._ranks: Ranks | None = None
        self.report: Report | None = None
        self.reset()

    def update(
        self, vectors_: ArrayLike, subjects: ArrayLike, keys: Sequence[str] | None = None
    ) -> None:
        """Add (N, D) vectors, as arrays or tensors of any device, and whom each shows, (N,).

        keys : names of the images; one that comes twice, as a `DistributedSampler` pads its ranks,
        counts once.  They are given always or never.
        """
        rows = vectors(vectors_, dimensions=(2,))
        identities(subjects, len(rows))  # refused here, and numbered with those of all batches
        who = array(subjects, "subject").copy()
        names = None if keys is None else [*keys]
        self._held.append((np.array(single(np.asarray(rows))), who, names))

    def compute(self) -> dict[str, float]:
        """Measure all that every rank was given: metric -> value, on every rank.

        ProtocolError where there is nothing to measure, or no subject has two vectors.
        """
        if self._ranks is None:
            self._ranks = Ranks(self._timeout)
        batches = [one for part in self._ranks.gather(lambda: self._held) for one in part]
        return self._ranks.of_first(lambda: self._measured(batches))

    def reset(self) -> None:
        """Forget all vectors."""
        self._held: list[tuple[NDArray[np.float32], NDArray[Any], Sequence[str] | None]] = []

    def plot(self, kind: str = "roc", ax: Any = None) -> Any:
        """Draw the last report, see `Report.plot`; on the first rank, after `compute`."""
        if self.report is None:
            raise ProtocolError("nothing is computed yet", "call compute() first")
        return self.report.plot(kind, ax=ax)

    def _measured(
        self, held: list[tuple[NDArray[np.float32], NDArray[Any], Sequence[str] | None]]
    ) -> dict[str, float]:
        if not held:
            raise ProtocolError("a metric of no vectors", "call update(vectors, subjects) first")
        x = np.concatenate([one[0] for one in held])
        subjects = np.concatenate(identities_of_all([(one[1], len(one[0])) for one in held]))
        named = [one[2] is not None for one in held]
        keys = [str(key) for one in held for key in one[2] or ()]
        if any(named):
            if not all(named) or len(keys) != len(x):
                raise ProtocolError(
                    f"{len(x)} vectors have {len(keys)} keys", "one name per vector"
                )
            rows = list({key: row for row, key in reversed([*enumerate(keys)])}.values())
            rows.sort()
            x, subjects, keys = x[rows], subjects[rows], [keys[row] for row in rows]
        self.report = people.evaluate(x, subjects, keys=keys or None, **self._options)
        return self.report.flat()
