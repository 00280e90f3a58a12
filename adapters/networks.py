"""The networks that published face-recognition weights belong to, under their checkpoints' names.

`--model iresnet50 --weights backbone.pth` builds one of these and fills it. No library serves:
facenet-pytorch 2.6 holds torch below 2.3 and numpy below 2, timm and insightface have none of them
in PyTorch. Each function returns a `torch.nn.Module` with random weights that takes
(N, 3, H, W) float32, normalised, and gives (N, D) float32.
"""

from __future__ import annotations

from torch import Tensor, cat, nn
from torch.nn import functional


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
    """Make the 18-layer network of `iresnet50`: 24.03 M parameters."""
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
        made = [self.get_submodule(f"branch{i}")(x) for i in range(self.count)]
        return cat(made, 1)


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
