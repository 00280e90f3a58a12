"""Networks of published face-recognition weights, with the names of their checkpoints.

`--model iresnet50 --weights backbone.pth` builds one of these and fills it. No library serves:
facenet-pytorch 2.6 holds torch below 2.3 and numpy below 2, timm and insightface have none of them
in PyTorch. Each function returns a `torch.nn.Module` with random weights that takes
(N, 3, H, W) float32, normalised, and gives (N, D) float32.
"""

from evalkit.adapters.torch.networks.inception import inception_resnet_v1
from evalkit.adapters.torch.networks.iresnet import iresnet18, iresnet34, iresnet50, iresnet100
from evalkit.adapters.torch.networks.mobile import mobilefacenet
from evalkit.adapters.torch.networks.spherenet import sphereface20, sphereface64

__all__ = [
    "inception_resnet_v1",
    "iresnet18",
    "iresnet34",
    "iresnet50",
    "iresnet100",
    "mobilefacenet",
    "sphereface20",
    "sphereface64",
]
