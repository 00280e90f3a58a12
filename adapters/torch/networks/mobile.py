"""MobileFaceNet."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional


def _conv(wide: int, out: int, size: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(wide, out, size, stride, (size - 1) // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out), nn.ReLU6())


class _Bottleneck(nn.Module):
    def __init__(self, wide: int, out: int, stride: int, times: int) -> None:
        super().__init__()
        inner = wide * times
        self.conv = nn.Sequential(
            _conv(wide, inner, 1),
            _conv(inner, inner, 3, stride, inner),
            nn.Conv2d(inner, out, 1, bias=False),
            nn.BatchNorm2d(out),
        )
        self.adds = stride == 1 and wide == out

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.adds else self.conv(x)


class _Separable(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(64, 64, 3, padding=1, groups=64, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.pointwise = nn.Conv2d(64, 64, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(64)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.bn1(self.depthwise(x)))
        return functional.relu(self.bn2(self.pointwise(x)))


class _GlobalDepthwise(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(512, 512, 7, groups=512, bias=False)
        self.bn = nn.BatchNorm2d(512)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.depthwise(x))


class _MobileFaceNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = _conv(3, 64, 3, 2)
        self.dw_conv = _Separable()
        # expansion, channels, repeats, stride: the paper's table 1
        stages = [(2, 64, 5, 2), (4, 128, 1, 2), (2, 128, 6, 1), (4, 128, 1, 2), (2, 128, 2, 1)]
        wide, blocks = 64, list[nn.Module]()
        for times, out, repeats, stride in stages:
            for i in range(repeats):
                blocks.append(_Bottleneck(wide, out, stride if i == 0 else 1, times))
                wide = out
        self.features = nn.Sequential(*blocks)
        self.conv2 = _conv(128, 512, 1)
        self.gdconv = _GlobalDepthwise()
        self.conv3 = nn.Conv2d(512, 128, 1)
        self.bn = nn.BatchNorm2d(128)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv2(self.features(self.dw_conv(self.conv1(x))))
        return self.bn(self.conv3(self.gdconv(x))).flatten(1)


def mobilefacenet() -> nn.Module:
    """Make MobileFaceNet, 112x112 in, 128 out: 1.00 M parameters.

    Chen et al., MobileFaceNets, CCBR 2018, table 1; layers (ReLU6 where the paper has PReLU) and
    names of github.com/foamliu/MobileFaceNet.
    """
    return _MobileFaceNet()
