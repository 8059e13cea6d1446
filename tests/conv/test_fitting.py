"""Every kind of network learns one batch of 64 images by heart."""

import pytest
import torch
from torch.nn import functional

from unigrid.conv import MgNet, PlainNet

KINDS = [  # one of every kind; the other names differ in width or depth alone
    "mgnet-64-Bl", "mgnet-64-Bli", "mgnet-256-shared", "mgnet-256-Bli-8222", "mgnet-paper-256-pi0", "mgnet-paper-256-512-pi1",
    "mgnet-paper-256-512-pi2", "mgnet-mnist-64", "mgnet-64-Bl-chebyshev", "mgnet-64-Bl-multistep", "mgnet-64-Bl-bottleneck",
    "mgnet-64-Bl-scaled", "mgnet-64-Bl-nonlinear", "mgnet-64-Bl-V", "resnet18", "resnet18-Al", "resnet18-Bl", "resnet18-AlBl",
    "preact-resnet18", "preact-resnet18-Al", "preact-resnet18-Bl", "preact-resnet18-AlBl", "sigma-resnet18", "mg-resnet18",
    "plain-lenet", "plain-vgg11",
]  # fmt: skip


def fits(model, images, labels):
    """Return after how many of 200 steps at least 99 % of the batch are classified correctly."""
    if isinstance(model, PlainNet):  # without shortcuts, and LeNet without norms: SGD at this rate makes too little of them
        optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    else:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=200)
    for step in range(200):
        logits = model(images)
        if (logits.argmax(dim=1) == labels).float().mean() >= 0.99:
            return step
        optimizer.zero_grad()
        functional.cross_entropy(logits, labels).backward()
        optimizer.step()
        schedule.step()
    return None


FAST = ("mgnet-64-Bl", "resnet18", "plain-lenet")  # one of each family


# Not packed: the seed is that of the name, and not from every one do all kinds fit in so few steps.
@pytest.mark.parametrize("name", [pytest.param(n, marks=[] if n in FAST else [pytest.mark.slow]) for n in KINDS])
def test_every_kind_fits_one_batch(narrow, name):
    model, size = narrow(name, wide=True), 16 if name == "plain-vgg11" else 8  # five levels, or four
    images, labels = torch.randn(64, model.config.in_channels, size, size), torch.randint(10, (64,))
    assert fits(model, images, labels) is not None


def test_without_training_nothing_fits():
    """A control: a network whose learning does nothing does not fit."""
    model = MgNet(steps=(1,), features=4)
    for parameter in model.parameters():
        parameter.register_hook(torch.zeros_like)
    assert fits(model, torch.randn(64, 3, 8, 8), torch.randint(10, (64,))) is None
