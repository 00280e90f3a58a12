"""ArcFace's "improved" residual networks."""

from __future__ import annotations

from torch import Tensor, nn


class _IResNetBlock(nn.Module):
    def __init__(self, wide: int, out: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(wide)
        self.conv1 = nn.Conv2d(wide, out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.prelu = nn.PReLU(out)
        self.conv2 = nn.Conv2d(out, out, 3, stride, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out)
        self.downsample: nn.Module | None = None
        if stride > 1:
            shrink = nn.Conv2d(wide, out, 1, stride, bias=False)
            self.downsample = nn.Sequential(shrink, nn.BatchNorm2d(out))

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv2(self.prelu(self.bn2(self.conv1(self.bn1(x)))))
        return self.bn3(y) + (x if self.downsample is None else self.downsample(x))


class _IResNet(nn.Module):
    def __init__(self, blocks: tuple[int, int, int, int]) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.prelu = nn.PReLU(64)
        self.layer1 = self._layer(blocks[0], 64, 64)
        self.layer2 = self._layer(blocks[1], 64, 128)
        self.layer3 = self._layer(blocks[2], 128, 256)
        self.layer4 = self._layer(blocks[3], 256, 512)
        self.bn2 = nn.BatchNorm2d(512)
        self.fc = nn.Linear(512 * 7 * 7, 512)
        self.features = nn.BatchNorm1d(512)

    def _layer(self, n: int, wide: int, out: int) -> nn.Sequential:
        rest = [_IResNetBlock(out, out, 1) for _ in range(n - 1)]
        return nn.Sequential(_IResNetBlock(wide, out, 2), *rest)

    def forward(self, x: Tensor) -> Tensor:
        x = self.prelu(self.bn1(self.conv1(x)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.features(self.fc(self.bn2(x).flatten(1)))


def iresnet18() -> nn.Module:
    """Build the 18-layer network of `iresnet50`: 24.03 M parameters."""
    return _IResNet((2, 2, 2, 2))


def iresnet34() -> nn.Module:
    """Make the 34-layer network of `iresnet50`: 34.14 M parameters."""
    return _IResNet((3, 4, 6, 3))


def iresnet50() -> nn.Module:
    """Make ArcFace's "improved" ResNet, 112x112 in, 512 out: 43.59 M parameters.

    Deng et al., ArcFace, CVPR 2019, section 3.1 (BN-Conv-BN-PReLU-Conv-BN blocks, BN-FC-BN after
    the last); names of insightface's recognition/arcface_torch.
    """
    return _IResNet((3, 4, 14, 3))


def iresnet100() -> nn.Module:
    """Make the 100-layer network of `iresnet50`: 65.16 M parameters."""
    return _IResNet((3, 13, 30, 3))
