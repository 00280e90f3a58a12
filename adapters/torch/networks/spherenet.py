"""SphereFace's plain residual networks."""

from __future__ import annotations

from torch import Tensor, nn


class _SphereFace(nn.Module):
    def __init__(self, blocks: tuple[int, int, int, int]) -> None:
        super().__init__()
        self.blocks = blocks
        wide = 3
        for stage, (n, out) in enumerate(zip(blocks, (64, 128, 256, 512), strict=True), 1):
            for i in range(1, 2 * n + 2):
                conv = nn.Conv2d(wide if i == 1 else out, out, 3, 2 if i == 1 else 1, 1)
                self.add_module(f"conv{stage}_{i}", conv)
                self.add_module(f"relu{stage}_{i}", nn.PReLU(out))
            wide = out
        self.fc5 = nn.Linear(512 * 7 * 6, 512)

    def _layer(self, stage: int, i: int, x: Tensor) -> Tensor:
        conv, relu = self.get_submodule(f"conv{stage}_{i}"), self.get_submodule(f"relu{stage}_{i}")
        return relu(conv(x))

    def forward(self, x: Tensor) -> Tensor:
        for stage, n in enumerate(self.blocks, 1):
            x = self._layer(stage, 1, x)
            for i in range(2, 2 * n + 2, 2):
                x = x + self._layer(stage, i + 1, self._layer(stage, i, x))
        return self.fc5(x.flatten(1))


def sphereface20() -> nn.Module:
    """Make SphereFace's 20-layer network, 112x96 in, 512 out: 22.67 M parameters.

    Liu et al., SphereFace, CVPR 2017, table 2; names of wy1iu/sphereface's prototxt, which
    github.com/clcarwin/sphereface_pytorch keeps.
    """
    return _SphereFace((1, 2, 4, 1))


def sphereface64() -> nn.Module:
    """Make the 64-layer network of `sphereface20`: 47.91 M parameters."""
    return _SphereFace((3, 7, 16, 3))
