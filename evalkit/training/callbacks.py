"""Callbacks over `Verifier`: Lightning's, and that of Hugging Face's Trainer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from evalkit.errors import needing
from evalkit.training.verifier import Verifier

Part = Callable[[Any], Any]


def _whole(module: Any) -> Any:
    return module


def lightning(verifier: Verifier, part: Part = _whole) -> Any:
    """Make a `lightning.Callback` that measures after each epoch of training.

    part : the network that makes vectors, of the LightningModule; the whole by default.
    The numbers are logged under "SET/METRIC", where `EarlyStopping` and `ModelCheckpoint` find
    them, on every rank.
    """
    with needing("lightning", "torch", "this callback"):
        from lightning.pytorch import Callback

    class LightningVerifier(Callback):
        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            before = verifier.values
            verifier(part(pl_module), trainer.current_epoch)
            if verifier.values is not before:
                pl_module.log_dict(verifier.values)

    return LightningVerifier()


def trainer(verifier: Verifier, part: Part = _whole) -> Any:
    """Make a `transformers.TrainerCallback` that measures after each epoch of training.

    part : as in `lightning`.  What the Trainer's own evaluation returns has the numbers too, as
    "eval_SET/METRIC", so that `metric_for_best_model` and early stopping may name them.
    """
    with needing("transformers", "torch", "this callback"):
        from transformers import TrainerCallback

    class TrainerVerifier(TrainerCallback):
        def on_epoch_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
            verifier(part(given["model"]), round(state.epoch))

        def on_evaluate(self, args: Any, state: Any, control: Any, **given: Any) -> None:
            given["metrics"].update({f"eval_{name}": v for name, v in verifier.values.items()})

    return TrainerVerifier()
