"""The first weights of a network: PyTorch's, Kaiming's, kernels that begin as identities, a first layer that whitens.

Source: K. He, X. Zhang, S. Ren, J. Sun, Delving deep into rectifiers, arXiv:1502.01852, equation 10 (by fan-out); K. Jordan,
94 % on CIFAR-10 in 3.29 seconds, arXiv:2404.00498, sections 3.1 and 3.2, for identities and whitening.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

PATCHES_FROM = 2000  # images
LEAST_VARIANCE = 5e-4  # added to that of every direction: noise in almost constant ones is not blown up


def initialize(model: nn.Module, kind: str) -> None:
    """Initialize the weights of a model.

    "own": unchanged; "pytorch": PyTorch's default; "kaiming": Kaiming's normal distribution in convolutions; "identity":
    unchanged, but for 3x3 convolutions between many channels: the first outputs of each are its inputs, as many as there are.
    """
    if kind == "identity":
        for module in model.modules():
            if isinstance(module, nn.Conv2d) and min(module.weight.shape[:2]) > 3 and module.kernel_size[0] > 1:
                nn.init.dirac_(module.weight[: module.in_channels])
    if kind not in ("pytorch", "kaiming"):
        return
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear, nn.BatchNorm2d)):
            module.reset_parameters()
        if kind == "kaiming" and isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


@torch.no_grad()
def whiten(model: nn.Module, images: Tensor, mean: Sequence[float], std: Sequence[float]) -> None:
    """Let the first convolution compute uncorrelated values of variance 1, each with both signs for the activation behind it.

        C = E diag(lambda) E^T  of the patches of the images,   kernels +-e_i / sqrt(lambda_i + LEAST_VARIANCE), largest first

    Outputs beyond twice the size of a patch keep the weights that they have.

    Parameters
    ----------
    images : Tensor, uint8 (n, channels, height, width)
    mean, std : of the images scaled to 0..1, as they are normalized for the network

    Raises
    ------
    ValueError
        For a model that does not begin with a convolution of the images' channels.
    """
    first = next((each for each in model.modules() if isinstance(each, nn.Conv2d)), None)
    if first is None or first.in_channels != images.shape[1] or first.groups != 1:
        raise ValueError(
            f"whitening=True sets the first convolution, but {type(model).__name__} has none for {images.shape[1]} channels"
        )
    chosen = torch.linspace(0, len(images) - 1, min(len(images), PATCHES_FROM)).round().long()
    scale = [torch.tensor(values, dtype=torch.float32).view(-1, 1, 1) for values in (mean, std)]
    patches = functional.unfold((images[chosen].cpu().float() / 255 - scale[0]) / scale[1], first.kernel_size)
    values = patches.transpose(0, 1).flatten(1).double()
    variances, directions = torch.linalg.eigh(torch.cov(values))
    kernels = (directions / (variances + LEAST_VARIANCE).sqrt()).T.flip(0)
    both = torch.stack([kernels, -kernels], dim=1).flatten(0, 1).view(-1, *first.weight.shape[1:])
    count = min(len(both), first.out_channels)
    first.weight[:count] = both[:count].to(first.weight)
