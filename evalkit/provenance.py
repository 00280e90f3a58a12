"""Provenance of a report: evalkit, the lists, the protocol's own account, and the vectors.

In it "manifest" is the digest of what was listed: of the images and subjects of a list of pairs
(`run.pairs_of`, `Manifest.digest`) or of rows taken by name (`vectors.matching`); commands with
lists of their own (megaface, trillion, ijb, geometry, score) give `identity.digest` of those.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from evalkit import __version__
from evalkit.protocols.metrics.score_unit import named_by_unit, score_unit
from evalkit.types import Report
from evalkit.vectors.matching import Vectors


def with_provenance(
    report: Report, vectors: Vectors, listed: Mapping[str, Any], file: Path | None = None
) -> Report:
    """Keep in a report what made it, the manifest's digest included.

    listed : of the lists; where two of these say the same, it wins, then the vectors.
    file : that the list of comparisons was read from.  Where scores are minus distances, metrics at
    a given threshold are named by the distance.
    """
    provenance = {
        "evalkit": __version__,
        **listed,
        **report.provenance,
        **vectors.provenance,
        **listed,
    }
    identity = report.identity if file is None else replace(report.identity, file=file.name)
    metrics = named_by_unit(report.metrics, score_unit(provenance))
    return replace(report, metrics=metrics, provenance=provenance, identity=identity)
