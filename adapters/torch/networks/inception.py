"""FaceNet's Inception-ResNet-v1."""

from __future__ import annotations

from torch import Tensor, cat, nn
from torch.nn import functional


class _Conv(nn.Module):
    def __init__(
        self, wide: int, out: int, size: int | tuple[int, int], stride: int = 1, pad: bool = False
    ) -> None:
        super().__init__()
        padding = "same" if pad else "valid"
        self.conv = nn.Conv2d(wide, out, size, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(out, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.bn(self.conv(x)))


class _Branches(nn.Module):
    """Branches side by side, their channels put together in order."""

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        for i, branch in enumerate(branches):
            self.add_module(f"branch{i}", branch)
        self.count = len(branches)

    def forward(self, x: Tensor) -> Tensor:
        branches = [self.get_submodule(f"branch{i}")(x) for i in range(self.count)]
        return cat(branches, 1)


class _Residual(_Branches):
    """x + scale * (a 1x1 convolution of the branches), rectified except after the very last."""

    def __init__(
        self, wide: int, inner: int, scale: float, *branches: nn.Module, last: bool = False
    ) -> None:
        super().__init__(*branches)
        self.conv2d = nn.Conv2d(inner, wide, 1)
        self.scale, self.last = scale, last

    def forward(self, x: Tensor) -> Tensor:
        y = x + self.scale * self.conv2d(super().forward(x))
        return y if self.last else functional.relu(y)


def _block35() -> nn.Module:
    one, two, three = (_Conv(256, 32, 1) for _ in range(3))
    long = nn.Sequential(three, _Conv(32, 32, 3, pad=True), _Conv(32, 32, 3, pad=True))
    return _Residual(256, 96, 0.17, one, nn.Sequential(two, _Conv(32, 32, 3, pad=True)), long)


def _cross(wide: int, inner: int, size: int, scale: float, last: bool = False) -> nn.Module:
    """Make block17 and block8: a size x size convolution as a row and a column."""
    row, column = (_Conv(inner, inner, shape, pad=True) for shape in ((1, size), (size, 1)))
    long = nn.Sequential(_Conv(wide, inner, 1), row, column)
    return _Residual(wide, 2 * inner, scale, _Conv(wide, inner, 1), long, last=last)


class _InceptionResNetV1(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        pool = nn.MaxPool2d(3, 2)
        self.conv2d_1a = _Conv(3, 32, 3, 2)
        self.conv2d_2a = _Conv(32, 32, 3)
        self.conv2d_2b = _Conv(32, 64, 3, pad=True)
        self.maxpool_3a = pool
        self.conv2d_3b = _Conv(64, 80, 1)
        self.conv2d_4a = _Conv(80, 192, 3)
        self.conv2d_4b = _Conv(192, 256, 3, 2)
        self.repeat_1 = nn.Sequential(*(_block35() for _ in range(5)))
        shrink = nn.Sequential(
            _Conv(256, 192, 1), _Conv(192, 192, 3, pad=True), _Conv(192, 256, 3, 2)
        )
        self.mixed_6a = _Branches(_Conv(256, 384, 3, 2), shrink, pool)
        self.repeat_2 = nn.Sequential(*(_cross(896, 128, 7, 0.1) for _ in range(10)))
        self.mixed_7a = _Branches(
            nn.Sequential(_Conv(896, 256, 1), _Conv(256, 384, 3, 2)),
            nn.Sequential(_Conv(896, 256, 1), _Conv(256, 256, 3, 2)),
            nn.Sequential(_Conv(896, 256, 1), _Conv(256, 256, 3, pad=True), _Conv(256, 256, 3, 2)),
            pool,
        )
        self.repeat_3 = nn.Sequential(*(_cross(1792, 192, 3, 0.2) for _ in range(5)))
        self.block8 = _cross(1792, 192, 3, 1.0, last=True)
        self.last_linear = nn.Linear(1792, 512, bias=False)
        self.last_bn = nn.BatchNorm1d(512, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool_3a(self.conv2d_2b(self.conv2d_2a(self.conv2d_1a(x))))
        x = self.conv2d_4b(self.conv2d_4a(self.conv2d_3b(x)))
        x = self.repeat_2(self.mixed_6a(self.repeat_1(x)))
        x = self.block8(self.repeat_3(self.mixed_7a(x))).mean((2, 3))
        return functional.normalize(self.last_bn(self.last_linear(x)))


def inception_resnet_v1() -> nn.Module:
    """Make FaceNet's Inception-ResNet-v1, 160x160 in, 512 of length 1 out: 23.48 M parameters.

    Szegedy et al., Inception-v4, AAAI 2017, figures 10-15; layers, scales and names of
    github.com/timesler/facenet-pytorch (from David Sandberg's FaceNet), whose output has length 1.
    """
    return _InceptionResNetV1()
