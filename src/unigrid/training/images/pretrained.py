"""`unigrid.load_pretrained`: trained networks that come with the package, for classifying, testing and solving."""

from __future__ import annotations

import torch

from ...conv.pretrained import load_pretrained_weights, pretrained_card
from ..runs.devices import device_named
from ..runs.randomness import undisturbed
from .inference import TrainedModel, built, placed


def load_pretrained(name: str, dataset: str | None = None, device: str | torch.device = "auto") -> TrainedModel:
    """Return a trained network that comes with the package. No network connection and no data set are needed.

    Parameters
    ----------
    name : str
        One of `unigrid.list_pretrained()`, as "mgnet-32-Bli@cifar10"; or the model alone where its weights are of one data
        set, or the data set is given.
    dataset : str, optional
    device : "auto", "cpu", "cuda", ...

    Returns
    -------
    TrainedModel
        Its `predict` classifies pictures, its `evaluate` tests it on a data set. The `model` of "poisson-net" is a cycle for
        `unigrid.solve`.

    Raises
    ------
    ValueError
        For a name without weights, with the nearest, for one that has weights of several data sets, and for a device that is
        not available.
    FileError
        For a damaged installation.

    Examples
    --------
    >>> import numpy as np, unigrid
    >>> trained = unigrid.load_pretrained("mgnet-32-Bli@cifar10", device="cpu")
    >>> len(trained.predict([np.zeros((40, 60, 3), np.uint8)], top=3)[0].classes)
    3
    >>> solver = unigrid.load_pretrained("poisson-net").model
    >>> unigrid.solve(np.ones((200, 300)), cycle=solver).converged
    True
    """
    place, card = device_named(device), pretrained_card(name, dataset)
    with undisturbed(torch.device("cpu")):  # a new network draws weights
        network = built(card.configuration)
    load_pretrained_weights(network, card)
    return TrainedModel(placed(network, card.configuration, place), card.configuration, card.epoch, card.step, card.path)
