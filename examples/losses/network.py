"""One small network for every loss, and how it is trained."""

import torch
from torch import nn

PEAK_RATE = 0.01


def network(side, dim):
    """Halve (1, side, side) three times by convolutions, then map it to `dim` numbers."""
    layers, channels = [], 1
    for width, kernel in ((16, 5), (32, 3), (32, 3)):
        layers += [nn.Conv2d(channels, width, kernel, stride=2, padding=kernel // 2), nn.PReLU()]
        channels, side = width, -(-side // 2)
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * side * side, dim))


def train(images, labels, make_loss, dim, seed, epochs, batch=64):
    """Fit network and loss together by Adam over one cycle of the learning rate.

    images : (N, 1, side, side) float32; labels : (N,) from 0.  Everything random comes from `seed`:
    two losses start from the same network and see the same batches.
    """
    torch.manual_seed(seed)
    net = network(images.shape[-1], dim)
    loss = make_loss(int(labels.max()) + 1, dim)
    x, y = torch.tensor(images), torch.tensor(labels)
    adam = torch.optim.Adam([*net.parameters(), *loss.parameters()])
    steps = epochs * -(-len(x) // batch)
    cycle = torch.optim.lr_scheduler.OneCycleLR(adam, max_lr=PEAK_RATE, total_steps=steps)
    order = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        for rows in torch.randperm(len(x), generator=order).split(batch):
            adam.zero_grad()
            loss(net(x[rows]), y[rows]).backward()
            adam.step()
            cycle.step()
    return net.eval(), loss.eval()


@torch.no_grad()
def embed(net, images):
    """(N, 1, side, side) images to (N, dim) float32 embeddings, not normalised."""
    return net(torch.tensor(images)).numpy()
