"""How a `PoissonNet` is trained."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, final

from ...messages import checked_count, checked_number, choose, shown
from .loss import STAGES


@final
@dataclass(frozen=True)
class PoissonProtocol:
    """How a `PoissonNet` is trained.

    Parameters
    ----------
    name : "fourier" or "random"
        The loss: see `unigrid.training.solvers.loss`.
    epochs : int
        "fourier": the stages of an increasingly sharp maximum, at most five; "random": parts of the run.
    steps : int
        Of the optimizer per epoch: iterations of L-BFGS, or steps of Adam.
    learning_rate : float
        Of Adam, at the start; it falls to zero along a cosine. L-BFGS searches along a line instead.
    noise : float
        Deviation of the random numbers added to damped Jacobi, the initial value of every kernel.
    """

    name: str
    epochs: int
    steps: int
    learning_rate: float
    noise: float = 0.05

    def __post_init__(self) -> None:
        choose(self.name, ("fourier", "random"), "protocol for Poisson problems")
        most = len(STAGES) if self.name == "fourier" else 10**6
        for name, largest in (("epochs", most), ("steps", 10**6)):
            count = checked_count(f"{name} of protocol {self.name!r}", getattr(self, name), 1, largest)
            object.__setattr__(self, name, count)
        for name in ("learning_rate", "noise"):
            object.__setattr__(self, name, checked_number(name, getattr(self, name)))

    def with_choices(self, **choices: Any) -> PoissonProtocol:
        """Return the protocol with other choices; None leaves a field as it is."""
        return dataclasses.replace(self, **{name: value for name, value in choices.items() if value is not None})


PROTOCOLS = {
    "fourier": PoissonProtocol("fourier", epochs=5, steps=80, learning_rate=1.0),
    "random": PoissonProtocol("random", epochs=8, steps=50, learning_rate=0.05),
}


def protocol_named(protocol: str | PoissonProtocol) -> PoissonProtocol:
    """Return the protocol of that name, or the given one. Raises ValueError for an unknown name, with the nearest."""
    if isinstance(protocol, str):
        return PROTOCOLS[choose(protocol, PROTOCOLS, "protocol for Poisson problems")]
    if isinstance(protocol, PoissonProtocol):
        return protocol
    raise TypeError(f"protocol must be one of {', '.join(map(repr, PROTOCOLS))} or a PoissonProtocol, got {shown(protocol)}")
