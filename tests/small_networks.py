"""PyTorch networks of a few numbers, for `small_networks:plain` and its like."""

import torch


class Plain(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.conv = torch.nn.Conv2d(3, 4, 3)
        self.norm = torch.nn.BatchNorm2d(4)
        self.fc = torch.nn.Linear(4 * 36, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.norm(self.conv(x)).flatten(1))


class WithNorm(Plain):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        y = super().forward(x)
        return y, y.norm(dim=1, keepdim=True)


class Mixed(Plain):
    """Its rows depend on their neighbours, as with a batch norm left in training mode."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x - x.mean(0))


class Scaled(Plain):
    """It divides by the length of the whole pass, as an export at batch 1 may."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = super().forward(x)
        return y / y.norm()


class Dropping(Plain):
    """Its dropout is on whatever the mode."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.dropout(super().forward(x))


class Bag(Plain):
    def forward(self, x: torch.Tensor) -> object:
        return object()


class Map(Plain):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x)


class Pooled(Plain):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x).mean((2, 3), keepdim=True)


class Hungry(Plain):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if len(x) > 3:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate")
        return super().forward(x)


def plain() -> Plain:
    return Plain()


def with_norm() -> WithNorm:
    return WithNorm()


def hungry() -> Hungry:
    return Hungry()


def nothing() -> int:
    return 3
