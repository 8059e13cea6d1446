"""Random numbers of a run's own, where what it calls draws from the generators of the whole process.

Layers of torch draw from torch's default generators in their initialization, and dropout and the like in every step; a network
of the user's may draw from `random` and `numpy.random` too. `Streams` are states of these generators that belong to a run.
They are put in place while a network is built or such a network is called, and what was there is put back afterwards: runs in
several threads do not mix their numbers, and the user's are not touched.
"""

from __future__ import annotations

import contextlib
import random
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.random import mtrand
from torch import nn

States = dict[str, Any]
_IN_PLACE = threading.RLock()  # the generators are those of the process: one run at a time
_LAYERS = ("activation", "batchnorm", "container", "conv", "flatten", "linear", "normalization", "pooling")
_DRAWING = (nn.RReLU, nn.MultiheadAttention, nn.FractionalMaxPool2d, nn.FractionalMaxPool3d)  # those among them that draw


class Streams:
    """The states of `random`, `numpy.random` and torch's generators of CPU and device for one run, seeded by its seed."""

    def __init__(self, seed: int, device: torch.device) -> None:
        self._seed, self._device = seed, device
        own = np.random.RandomState(np.random.MT19937(seed))
        places = {"torch": torch.device("cpu")} | ({} if device.type == "cpu" else {device.type: device})
        self.states: States = {
            "python": random.Random(seed).getstate(),
            "numpy": own.get_state(legacy=False),
            **{name: torch.Generator(place).manual_seed(seed).get_state() for name, place in places.items()},
        }

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """Let the generators of the process continue this run's numbers."""
        with undisturbed(self._device):
            _put(self.states, self._device)
            try:
                yield
            finally:
                self.states = _taken(self._device)

    def branch(self, rank: int, step: int) -> None:
        """Begin numbers of its own in a process other than the first, which goes on with the run's."""
        if rank:
            words = np.random.SeedSequence([self._seed, rank, step]).generate_state(2)
            self.states = Streams(int(words[0]) << 31 | int(words[1]) >> 1, self._device).states

    def plain(self) -> States:
        """Return the states in plain values and tensors, for a checkpoint."""
        numbers = self.states["numpy"]
        words = np.asarray(numbers["state"]["key"]).tolist()
        return {**self.states, "numpy": {**numbers, "state": {**numbers["state"], "key": words}}}

    def restore(self, stored: States) -> None:
        """Go back to states as `plain` returned them; generators that are not among them, as on another device, stay."""
        self.states |= {name: stored[name] for name in self.states if stored.get(name) is not None}


@contextlib.contextmanager
def undisturbed(device: torch.device) -> Iterator[None]:
    """Put the generators of the process back to where they were; runs in other threads wait meanwhile."""
    with _IN_PLACE:
        bits, before = mtrand.get_bit_generator(), _taken(device)
        mtrand.set_bit_generator(np.random.MT19937())  # the user may have set one of another kind
        try:
            yield
        finally:
            mtrand.set_bit_generator(bits)
            _put(before, device)


def draws(network: nn.Module) -> bool:
    """Whether a network may draw random numbers when it is called: any of its parts that is not known to draw none."""
    return not all(map(_is_known, network.modules()))


def _is_known(part: nn.Module) -> bool:
    home, _, name = type(part).__module__.rpartition(".")
    layer = home == "torch.nn.modules" and name in _LAYERS and not isinstance(part, _DRAWING)
    return (layer or home == "unigrid.conv") and not (part._forward_hooks or part._forward_pre_hooks)


def _taken(device: torch.device) -> States:
    states = {"python": random.getstate(), "numpy": np.random.get_state(legacy=False), "torch": torch.get_rng_state()}
    if device.type != "cpu":
        states[device.type] = torch.get_device_module(device).get_rng_state(*_place(device))
    return states


def _put(states: States, device: torch.device) -> None:
    random.setstate(states["python"])
    np.random.set_state(states["numpy"])
    torch.set_rng_state(states["torch"])
    if device.type != "cpu":
        torch.get_device_module(device).set_rng_state(states[device.type], *_place(device))


def _place(device: torch.device) -> tuple[torch.device, ...]:
    return () if device.type == "mps" else (device,)  # MPS has one device, and its functions take none
