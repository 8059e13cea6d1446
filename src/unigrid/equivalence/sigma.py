"""ResNet and sigma-ResNet: r <- sigma(r + M A sigma N B r), and the same in the argument of its outer sigma."""

from __future__ import annotations

import dataclasses

import torch

from ..conv.residual import ResNet
from .rewriting import filled


def to_sigma_form(resnet: ResNet) -> ResNet:
    """Return ResNet in the variable before the outer sigma of its blocks: sigma-ResNet, the same function of the image.

    ResNet's block is r <- sigma(s) with s = r + M A sigma N B r. Between two sigmas the same network reads
    s <- sigma(s) + M A sigma N B sigma(s), where sigma stands as it does in a pre-act block. Theta loses its sigma, the head
    gains it; every weight keeps its name. It holds for any activation, and with A and B shared or not; with A shared,
    sigma-ResNet is Mg-ResNet.

    Parameters
    ----------
    resnet : ResNet of form "resnet"

    Returns
    -------
    ResNet
        Of form "sigma", the weights copied. sigma of each level's features is the ResNet's.

    Raises
    ------
    ValueError
        For another form.

    Examples
    --------
    >>> import torch
    >>> from unigrid.conv import ResNet
    >>> from unigrid.equivalence import to_sigma_form
    >>> resnet = ResNet(blocks=(2, 2), channels=(4, 6)).double().eval()
    >>> image = torch.randn(1, 3, 13, 18, dtype=torch.float64)
    >>> torch.allclose(to_sigma_form(resnet)(image), resnet(image), rtol=1e-12, atol=1e-12)
    True

    Source: J. He & J. Xu, MgNet, Sci. China Math. 62 (2019), section 4, arXiv:1901.10415.
    """
    return _in_form(resnet, "resnet", "sigma")


def from_sigma_form(resnet: ResNet) -> ResNet:
    """Return the ResNet whose sigma-form is given: the inverse of `to_sigma_form`, which see.

    Examples
    --------
    >>> from unigrid.conv import ResNet
    >>> from unigrid.equivalence import from_sigma_form
    >>> from_sigma_form(ResNet(blocks=(1, 1), channels=(4, 6), form="sigma")).config.form
    'resnet'
    """
    return _in_form(resnet, "sigma", "resnet")


def _in_form(resnet: ResNet, wanted: str, form: str) -> ResNet:
    if not isinstance(resnet, ResNet):
        raise TypeError(f"resnet must be a ResNet, got {type(resnet).__name__}")
    if resnet.config.form != wanted:
        reason = {
            "pre-act": "has no outer sigma to move, and its norms stand elsewhere: it is another function",
            form: f"is in that form already; {'from' if form == 'sigma' else 'to'}_sigma_form leads back",
        }[resnet.config.form]
        raise ValueError(f"resnet must have form={wanted!r}, got {resnet.config.form!r}, which {reason}")
    with torch.device("meta"):
        made = dataclasses.replace(resnet.config, form=form).build()
    return filled(made, resnet.state_dict(keep_vars=True), resnet)
