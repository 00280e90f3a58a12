"""Evaluation inside a training loop: `Verifier`, and `VerificationMetric` in torchmetrics' shape.

Callbacks of Lightning and of Hugging Face's Trainer are in `training.callbacks`.
"""

from evalkit.training.metric import VerificationMetric
from evalkit.training.verifier import Verifier

__all__ = ["VerificationMetric", "Verifier"]
