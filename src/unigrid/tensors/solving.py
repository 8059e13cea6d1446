"""`unigrid.solve` and a cycle's `solve` for torch tensors: what is a tensor comes back as one, with gradients."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..solution import Solution, stacked
from ..stencil.solve import prepared_cycle
from ..stencil.solve import solve as unigrid_solve
from ..stencil.solving import ProblemCycle, SolveOptions
from .function import applied
from .problems import Equation, gradient_options, planted

PROBLEM = ("lengths", "spacing", "boundary", "centering", "reaction", "coefficient", "mask", "outside", "fixed", "order")
PARAMETERS = ("reaction", "coefficient", "boundary")  # which may be tensors, with gradients
SLOTS = ("smoothing", "smoother", "pre", "post", "restriction", "prolongation")


def solve_tensors(solver: Callable[..., Solution], f: Tensor, options: dict[str, Any]) -> Solution:
    """Return the Solution for a source f that is a tensor; `solver`: `unigrid.solve`, or the `solve` of a cycle."""
    cycle = getattr(solver, "__self__", None)
    f = _real(f)
    parameters: list[Tensor] = []
    equation = _of_cycle(cycle, options) if isinstance(cycle, ProblemCycle) else _of_options(f, options, parameters)
    journal: list[Solution] = []
    u = applied(equation, "solution", journal, f, [_real(each) for each in parameters])
    return replace(journal[0] if len(journal) == 1 else stacked(journal, u), u=u)


def _of_cycle(cycle: ProblemCycle, options: dict[str, Any]) -> Equation:
    chosen = SolveOptions(**options)
    made: list[Any] = [([], cycle)]
    return Equation(cycle.problem.grid.ndim, {}, lambda problem: cycle, chosen, gradient_options(chosen), made)


def _of_options(f: Tensor, options: dict[str, Any], parameters: list[Tensor]) -> Equation:
    defaults = {name: each.default for name, each in inspect.signature(unigrid_solve).parameters.items()}
    own = {name: options.get(name, defaults[name]) for name in (*PROBLEM, *SLOTS, "cycle")}
    chosen = SolveOptions(**{name: value for name, value in options.items() if name not in own})
    for name in PARAMETERS:
        own[name] = planted(own[name], lambda value: isinstance(value, Tensor), parameters)
    cycle_of = partial(prepared_cycle, cycle=own["cycle"], slots={name: own[name] for name in SLOTS})
    problem_options = {name: own[name] for name in PROBLEM}
    return Equation(f.ndim, problem_options, cycle_of, chosen, gradient_options(chosen))


def _real(tensor: Tensor) -> Tensor:
    """Return a tensor in a precision that is solved in."""
    if tensor.dtype in (torch.float32, torch.float64):
        return tensor
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor.double()
