"""Former module names, importable with a DeprecationWarning."""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType

NEW_NAMES = {
    "evalkit.adapters.batching": "evalkit.adapters.calling",
    "evalkit.adapters.checkpoints": "evalkit.adapters.torch.weights",
    "evalkit.adapters.embeddings": "evalkit.vectors.embeddings",
    "evalkit.adapters.networks": "evalkit.adapters.torch.networks",
    "evalkit.adapters.onnx_model": "evalkit.adapters.onnx.model",
    "evalkit.adapters.torch_model": "evalkit.adapters.torch.model",
    "evalkit.alignment": "evalkit.images.alignment",
    "evalkit.check": "evalkit.embedding.input_check",
    "evalkit.datasets.layouts": "evalkit.datasets.pair_list_layouts",
    "evalkit.datasets.pair_lists": "evalkit.datasets.pair_list",
    "evalkit.embedder": "evalkit.embedding.embedder",
    "evalkit.features": "evalkit.vectors.store",
    "evalkit.protocols.compat": "evalkit.protocols.metrics.compat",
    "evalkit.protocols.intervals": "evalkit.protocols.uncertainty.intervals",
    "evalkit.protocols.kfold": "evalkit.protocols.metrics.kfold",
    "evalkit.protocols.megaface_devkit": "evalkit.protocols.megaface.devkit",
    "evalkit.protocols.score_list": "evalkit.protocols.score",
    "evalkit.protocols.scores": "evalkit.protocols.metrics.similarity",
    "evalkit.verdict.github": "evalkit.verdict.ci",
    "evalkit.verdict.junit": "evalkit.verdict.ci",
    "evalkit.verdict.markdown": "evalkit.verdict.ci",
}


class Former:
    """Finds a module by its former name: the module itself, not a copy.

    Not derived from `importlib.abc`, whose import would double the time of `import evalkit`.
    """

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find the former names; None for every other."""
        return ModuleSpec(fullname, self) if fullname in NEW_NAMES else None  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Import the module by its new name."""
        new = NEW_NAMES[spec.name]
        warnings.warn(f"{spec.name} is {new} now", DeprecationWarning, stacklevel=2)
        module = importlib.import_module(new)
        self._own = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Give the module its own spec back, which the import system has replaced."""
        module.__spec__ = self._own


def install() -> None:
    """Let former names be imported."""
    if not any(isinstance(finder, Former) for finder in sys.meta_path):
        sys.meta_path.append(Former())
