"""The survey's ten losses: each is called with (N, D) embeddings and (N,) labels, gives a scalar.

Notation: x an embedding, y its class, W_k the weight of class k (no bias), theta_k the angle
between x and W_k, c_k the centre of class k.  What pytorch-metric-learning has is taken from it;
the rest is written here, a few lines each.  A loss that classifies has `get_logits(x)`.
"""

from collections.abc import Callable

import torch
from pytorch_metric_learning.distances import LpDistance
from pytorch_metric_learning.losses import (
    ArcFaceLoss,
    ContrastiveLoss,
    CosFaceLoss,
    LargeMarginSoftmaxLoss,
    NormalizedSoftmaxLoss,
    SphereFaceLoss,
    TripletMarginLoss,
)
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot

SCALE = 16.0  # of the normalised losses: papers take 30 or 64 for ten thousand people, not 120


class Softmax(nn.Module):
    """-log(e^{W_y x} / sum_k e^{W_k x}): cross entropy, the baseline of every paper below."""

    def __init__(self, classes: int, dim: int) -> None:
        super().__init__()
        self.W = nn.Parameter(torch.randn(dim, classes) / dim**0.5)

    def get_logits(self, x: Tensor) -> Tensor:
        return x @ self.W

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return cross_entropy(self.get_logits(x), y)


class Contrastive(ContrastiveLoss):
    """Same class: d^2 / 2; different classes: max(0, m - d)^2 / 2, with d = |x_i - x_j|.

    Hadsell, Chopra, LeCun, CVPR 2006; the verification signal of DeepID2 (Sun et al., NIPS 2014,
    equation 2), which adds it to softmax; here it stands alone.  The library's own form is linear
    in d, so it is squared; pairs that already satisfy their side are left out of the mean.
    """

    def get_per_pair_loss(self, pair_dists: Tensor, pos_or_neg: str) -> Tensor:
        return super().get_per_pair_loss(pair_dists, pos_or_neg).square() / 2


class Center(Softmax):
    """Softmax + weight / 2 * |x - c_y|^2, the mean over the batch.

    Wen et al., ECCV 2016.  Centres are no weights: a batch with n_k images of class k moves c_k by
    rate * sum_{y=k} (x - c_k) / (1 + n_k) (equation 4), after the loss was taken.
    """

    def __init__(self, classes: int, dim: int, weight: float, rate: float = 0.5) -> None:
        super().__init__(classes, dim)
        self.weight, self.rate = weight, rate
        self.register_buffer("centres", torch.zeros(classes, dim))

    def moved(self, x: Tensor, y: Tensor) -> Tensor:
        """The centres as this batch moves them, (classes, dim), differentiable in x."""
        member = one_hot(y, len(self.centres)).to(x.dtype)
        n = member.sum(0)[:, None]
        return self.centres + self.rate * (member.T @ x - n * self.centres) / (1 + n)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        loss = super().forward(x, y)
        loss = loss + self.weight / 2 * (x - self.centres[y]).square().sum(1).mean()
        if self.training:
            self.centres = self.moved(x, y).detach()
        return loss


class CenterInvariant(Center):
    """Center + invariance / 4 * (|c_y|^2 - mean_k |c_k|^2)^2: every centre equally far out.

    Wu, Liu, Li, Fu, ACM MM Thematic Workshops 2017.  The term reaches the network through the
    centres: its gradient runs through `moved`, so dc_y/dx = rate / (1 + n_y) of the batch, where
    the authors' program takes 1 / N_y of the training set.
    """

    def __init__(self, classes: int, dim: int, weight: float, invariance: float) -> None:
        super().__init__(classes, dim, weight)
        self.invariance = invariance

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        norm = self.moved(x, y).square().sum(1)
        uneven = (norm - norm.mean())[y].square().mean() / 4
        return super().forward(x, y) + self.invariance * uneven


class Annealed:
    """Blend cos(theta) into a margin psi(theta): (lambda cos + psi) / (1 + lambda).

    lambda = max(lowest, start / (1 + decay * step)) over the training steps: a margin of m = 4 does
    not converge when it is asked for at once (L-Softmax section 5.1; SphereFace's released layer,
    whose decay of 0.12 takes 1,660 of 28,000 steps to the lowest; here about half of them).
    """

    start, decay, lowest = 1000.0, 0.5, 5.0
    step = 0

    def modify_cosine_of_target_classes(self, cosine: Tensor) -> Tensor:
        self.step += self.training
        blend = max(self.lowest, self.start / (1 + self.decay * self.step))
        psi = super().modify_cosine_of_target_classes(cosine)
        return (blend * cosine + psi) / (1 + blend)


class LSoftmax(Annealed, LargeMarginSoftmaxLoss):
    """Softmax whose own class scores |W_y| |x| psi(theta_y).

    psi(theta) = (-1)^k cos(m theta) - 2k for theta in [k pi / m, (k + 1) pi / m].
    Liu, Wen, Yu, Yang, ICML 2016.
    """


class ASoftmax(Annealed, SphereFaceLoss):
    """L-Softmax with |W_k| = 1, so that only angles decide: |x| psi(theta_y), |x| cos(theta_k).

    SphereFace: Liu, Wen, Yu, Li, Raj, Song, CVPR 2017.
    """


def contrastive(classes: int, dim: int) -> nn.Module:
    """`Contrastive` on embeddings as they are: there are no classes in it to weigh."""
    return Contrastive(neg_margin=2.0, distance=LpDistance(normalize_embeddings=False))


def triplet(classes: int, dim: int) -> nn.Module:
    """max(0, |a - p|^2 - |a - n|^2 + m) on unit vectors, the mean of those above zero.

    FaceNet: Schroff, Kalenichenko, Philbin, CVPR 2015.  All triplets of
    a batch, not only semi-hard ones.
    """
    return TripletMarginLoss(margin=0.2, distance=LpDistance(power=2))


def coco(classes: int, dim: int) -> nn.Module:
    """Softmax over s cos(theta_k): both sides normalised, then scaled.

    COCO: Liu, Li, Wang, 2017 (arXiv 1710.00870); NormFace: Wang et al., ACM MM 2017.
    """
    return NormalizedSoftmaxLoss(classes, dim, temperature=1 / SCALE)


def cosface(classes: int, dim: int) -> nn.Module:
    """COCO whose own class scores s (cos(theta_y) - m).  Wang et al., CVPR 2018."""
    return CosFaceLoss(classes, dim, margin=0.2, scale=SCALE)


class ArcFace(ArcFaceLoss):
    """COCO whose own class scores s cos(theta_y + m); m in degrees.  Deng et al., CVPR 2019.

    In the plane an embedding soon lies on its class weight, where arccos has no slope and the
    library's loss becomes NaN; cosines are therefore kept a little inside [-1, 1].
    """

    def get_angles(self, cosine_of_target_classes: Tensor) -> Tensor:
        edge = 1 - 1e-6
        return super().get_angles(cosine_of_target_classes.clamp(-edge, edge))


class CentreAlone(Center):
    """The centre term of `Center` without softmax."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return super().forward(x, y) - cross_entropy(self.get_logits(x), y)


class Eased:
    """A margin that grows with the training steps: all of it after `steps`."""

    steps, step = 340, 0

    def modify_cosine_of_target_classes(self, cosine: Tensor) -> Tensor:
        self.step += self.training
        share = min(1.0, self.step / self.steps)
        return share * super().modify_cosine_of_target_classes(cosine) + (1 - share) * cosine


class EasedCosFace(Eased, CosFaceLoss):
    """`cosface`, eased."""


class EasedArcFace(Eased, ArcFace):
    """`ArcFace`, eased."""


# name -> (classes, dim) -> loss
LOSSES = {
    "softmax": Softmax,
    "contrastive": contrastive,
    "triplet": triplet,
    "l-softmax": lambda classes, dim: LSoftmax(classes, dim, margin=4),
    "a-softmax": lambda classes, dim: ASoftmax(classes, dim, margin=4),
    "center": lambda classes, dim: Center(classes, dim, weight=0.1),
    "center-invariant": lambda classes, dim: CenterInvariant(classes, dim, 0.1, invariance=0.1),
    "coco": coco,
    "cosface": cosface,
    "arcface": lambda classes, dim: ArcFace(classes, dim, margin=15, scale=SCALE),
}


def at_once(name: str, blend: float) -> Callable[[int, int], nn.Module]:
    """An annealed loss whose lambda is `blend` from the first step."""

    def make(classes: int, dim: int) -> nn.Module:
        loss = LOSSES[name](classes, dim)
        loss.start = loss.lowest = blend
        loss.decay = 0.0
        return loss

    return make


# What the hypotheses hold the losses against.
VARIANTS = {
    "center-alone": lambda classes, dim: CentreAlone(classes, dim, weight=0.1),
    "l-softmax-at-once": at_once("l-softmax", 5.0),
    "l-softmax-whole": at_once("l-softmax", 0.0),
    "a-softmax-at-once": at_once("a-softmax", 5.0),
    "a-softmax-whole": at_once("a-softmax", 0.0),
    "cosface-eased": lambda classes, dim: EasedCosFace(classes, dim, margin=0.2, scale=SCALE),
    "arcface-eased": lambda classes, dim: EasedArcFace(classes, dim, margin=15, scale=SCALE),
}
