"""evalkit measures face recognition: a model or its embeddings in, exactly defined numbers out.

The names below are all that most programs need; each is imported when it is first asked for, so
that `import evalkit` takes no time and needs nothing but Python.
"""

from __future__ import annotations

from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

from evalkit import moved as _moved

if TYPE_CHECKING:  # the same names, for editors and type checkers
    from evalkit.adapters import load as load_model
    from evalkit.embedding.from_images import embed
    from evalkit.evaluation import evaluate
    from evalkit.protocols import ijb, lfw, megaface, people, trillion, verification
    from evalkit.types import Estimate, Manifest, PairSet, Report
    from evalkit.vectors.store import FeatureStore
    from evalkit.verdict.compare import compare
    from evalkit.verdict.gate import check as gate

__version__ = "0.1.0"
__all__ = [
    "Estimate",
    "FeatureStore",
    "Manifest",
    "PairSet",
    "Report",
    "compare",
    "embed",
    "evaluate",
    "gate",
    "ijb",
    "lfw",
    "load_model",
    "megaface",
    "people",
    "trillion",
    "verification",
]
_HOMES = {
    "Estimate": "evalkit.types:Estimate",
    "FeatureStore": "evalkit.vectors.store:FeatureStore",
    "Manifest": "evalkit.types:Manifest",
    "PairSet": "evalkit.types:PairSet",
    "Report": "evalkit.types:Report",
    "compare": "evalkit.verdict.compare:compare",
    "embed": "evalkit.embedding.from_images:embed",
    "evaluate": "evalkit.evaluation:evaluate",
    "gate": "evalkit.verdict.gate:check",
    "ijb": "evalkit.protocols.ijb",
    "lfw": "evalkit.protocols.lfw",
    "load_model": "evalkit.adapters:load",
    "megaface": "evalkit.protocols.megaface",
    "people": "evalkit.protocols.people",
    "trillion": "evalkit.protocols.trillion",
    "verification": "evalkit.protocols.verification",
}

_moved.install()


def __getattr__(name: str) -> Any:
    """Import a name of the front door when it is first asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module 'evalkit' has no attribute {name!r}")
    value = globals()[name] = resolve_name(_HOMES[name])
    return value


def __dir__() -> list[str]:
    """List what the front door offers beside what is imported already."""
    return sorted({*globals(), *__all__})
