"""A layer of a network that solves Poisson's equation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..messages import checked_number, plain_number, refuse_keyword
from ..solution import Solution
from ..stencil.grid import checked_shape
from ..stencil.problem import Poisson
from ..stencil.solve import prepared_cycle, solve
from ..stencil.solving import ProblemCycle, SolveOptions
from .solving import DEFAULTS, PROBLEM, SLOTS, with_u

NO_PLACE = ("u0", "callback", "channels", "batch_dims")  # they belong to one call, or to the shape of f


class PoissonLayer(nn.Module):
    """f -> u with -div(a grad u) + c u = f, a layer with exact gradients: one solve forward, one backward.

    Parameters
    ----------
    shape : int or tuple of int
        Number of unknowns along each axis, 1 to 3 of them.
    boundary, coefficient, reaction, ...
        The problem, the slots and the options: as of `unigrid.solve`.
    learn_reaction, learn_coefficient : bool
        Whether c, or a, is a parameter that begins with the given value, a number or an array above zero. It is stored as
        `raw_reaction`, or `raw_coefficient`, with c = log(1 + exp(raw)), and so stays above zero.
    rtol, gradient_rtol : float, optional
        Tolerances of the solves, forward and backward.

    Attributes
    ----------
    solution : Solution or None
        The outcome of the last call, its u without gradients; None before, and in compiled graphs.

    Raises
    ------
    ValueError, TypeError
        As of `unigrid.solve`; for a value to be learned that is not above zero.

    Examples
    --------
    >>> import torch, unigrid
    >>> layer = unigrid.PoissonLayer((31, 31), boundary="neumann", reaction=5.0, learn_reaction=True)
    >>> f = torch.randn(4, 31, 31)  # a batch
    >>> loss = (layer(f) ** 2).mean()
    >>> loss.backward()
    >>> layer.raw_reaction.grad.shape
    torch.Size([])
    """

    solution: Solution | None

    def __init__(
        self, shape: int | Sequence[int], *, learn_reaction: bool = False, learn_coefficient: bool = False, **arguments: Any
    ) -> None:
        super().__init__()
        self.shape, self.solution = checked_shape(shape), None
        for name in arguments:
            if name in NO_PLACE:
                raise TypeError(f"PoissonLayer has no {name}, which belongs to one f: call unigrid.solve with it")
            if name not in DEFAULTS:
                refuse_keyword(name, solve, "PoissonLayer")
        self._arguments = arguments
        learned = {"reaction": learn_reaction, "coefficient": learn_coefficient}
        self._learned = tuple(name for name, is_learned in learned.items() if is_learned)
        for name in self._learned:
            start = arguments.get(name, 1.0)
            self.register_parameter(f"raw_{name}", nn.Parameter(_raw(name, start, self.shape)))
        self._cycle = self._prepared()

    def _prepared(self) -> ProblemCycle:
        """Return the cycle for the problem as it begins, which also checks the arguments."""
        given = self._arguments | {name: self.value(name).detach().cpu().numpy() for name in self._learned}
        SolveOptions(**{name: value for name, value in given.items() if name in SolveOptions.__dataclass_fields__})
        cycle, *slots = ((name, given.get(name, DEFAULTS[name])) for name in SLOTS)
        problem = Poisson(self.shape, **{name: _number_or_array(value) for name, value in given.items() if name in PROBLEM})
        return prepared_cycle(problem, cycle[1], dict(slots))

    def value(self, name: str) -> Tensor:
        """Return a learned number or field, `"reaction"` or `"coefficient"`, in float64."""
        return nn.functional.softplus(getattr(self, f"raw_{name}").double(), threshold=700.0)

    def forward(self, f: Tensor) -> Tensor:
        """Return u for a source f of shape (..., *shape): leading axes are a batch."""
        batch_dims, compiling = f.ndim - len(self.shape), torch.compiler.is_compiling()
        if batch_dims < 0 or tuple(f.shape[batch_dims:]) != self.shape:
            raise ValueError(f"f must have shape (..., {', '.join(map(str, self.shape))}), got {tuple(f.shape)}")
        if self._learned or compiling:
            given = self._arguments | {name: self.value(name) for name in self._learned}
            solution = solve(f, batch_dims=batch_dims, **given)  # type: ignore[arg-type]
        else:
            options = {name: value for name, value in self._arguments.items() if name in SolveOptions.__dataclass_fields__}
            solution = self._cycle.solve(f, **options)  # type: ignore[arg-type]
        if not compiling:
            self.solution = with_u(solution, solution.u.detach())
        return solution.u  # type: ignore[no-any-return]

    def extra_repr(self) -> str:
        """Return the problem, and what is learned of it."""
        learned = f", learned: {' and '.join(self._learned)}" if self._learned else ""
        return f"{str(self._cycle.problem)[1:-1]}{learned}"


def _raw(name: str, start: Any, shape: tuple[int, ...]) -> Tensor:
    """Return the number, or array, whose softplus is a value above zero. Raises ValueError."""
    single = plain_number(start)
    if single is not None or start is None:
        value = np.array(
            1.0 if start is None else checked_number(name, start, "a finite number > 0 to be learned", lambda v: v > 0)
        )
    else:
        value = np.array(start, dtype=np.float64)
        if value.shape != shape or not (value > 0.0).all() or not np.isfinite(value).all():
            raise ValueError(f"{name} to be learned must be a number, or an array of shape {shape}, above zero everywhere")
    return torch.from_numpy(np.asarray(value + np.log(-np.expm1(-value))))


def _number_or_array(value: Any) -> Any:
    return float(value) if isinstance(value, np.ndarray) and value.ndim == 0 else value
