"""`unigrid.solve` and a cycle's `solve` for torch tensors: u comes back as one, with gradients in all that was a tensor."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..solution import Reason, Solution, stacked
from ..stencil.solve import prepared_cycle
from ..stencil.solve import solve as unigrid_solve
from ..stencil.solving import ProblemCycle, SolveOptions
from .function import applied
from .problems import Equation, gradient_options, key_of, live_key, planted

PROBLEM = ("lengths", "spacing", "boundary", "centering", "reaction", "coefficient", "mask", "outside", "fixed", "order")
SLOTS = ("cycle", "smoothing", "smoother", "pre", "post", "restriction", "prolongation")
PARAMETERS = ("reaction", "coefficient", "boundary")  # which may be tensors, with gradients
IN_GRAPH = "in a compiled graph, which keeps no residuals: a solve that fails raises ConvergenceError."
_DEFAULTS = {name: each.default for name, each in inspect.signature(unigrid_solve).parameters.items()}


def solve_tensors(solver: Callable[..., Solution], f: Tensor, options: dict[str, Any], ndim: int | None = None) -> Solution:
    """Return the Solution for a source f that is a tensor, u a tensor too.

    Parameters
    ----------
    solver : `unigrid.solve`, or the `solve` of a cycle
    f : its source
    options : its keywords. `reaction`, `coefficient` and the values of `boundary` may be tensors
    ndim : how many axes the problem has, if not all of f's; leading axes of f are then independent right-hand sides

    Raises
    ------
    TypeError, ValueError
        For tensors that are not dense, real or on the CPU, and for what the solver refuses.
    """
    parameters: list[Tensor] = []
    cycle = getattr(solver, "__self__", None)
    if isinstance(cycle, ProblemCycle):
        equation, slots = _of_cycle(cycle, options), {"cycle": cycle}
    else:
        equation, slots = _of_options(f.ndim if ndim is None else ndim, options, parameters)
    tensors = [_solvable(f, "f"), *(_solvable(each, "a parameter") for each in parameters)]
    if torch.compiler.is_compiling():
        return Solution(_in_graph(_traced_key(equation, slots), tensors), True, Reason.CONVERGED, 0, (), f"Solved {IN_GRAPH}")
    if _is_observed():
        key = live_key(equation)
        u = _in_graph(key, tensors)
        return Solution(u, True, Reason.CONVERGED, 0, (), f"Solved {IN_GRAPH}")
    journal: list[Solution] = []
    u = applied(equation, "solution", journal, tensors[0], tensors[1:])
    return replace(journal[0] if len(journal) == 1 else stacked(journal, u), u=u)


def _in_graph(key: str, tensors: list[Tensor]) -> Tensor:
    from .library import operator

    return operator(tensors[0], tensors[1:], key, "solution")  # type: ignore[no-any-return]


def _is_observed() -> bool:
    """Whether dispatch modes or a tracer record operators: they would take the numbers of a solve for constants."""
    return torch._C._len_torch_dispatch_stack() > 0 or torch._C._is_tracing()


def _traced_key(equation: Equation, slots: dict[str, Any]) -> str:
    """Return the equation as a string. Raises TypeError where it is none, or where the outcome would be lost."""
    if equation.options.callback is not None or equation.options.u0 is not None or not equation.options.raise_on_failure:
        raise TypeError("u0, callback and raise_on_failure=False have no place in a compiled graph; leave them out")
    try:
        return key_of(equation, slots)
    except TypeError as error:
        raise TypeError(
            f"{error}: compiled, a solve takes tensors, numbers and names; call unigrid.solve with those, or compile without "
            "fullgraph=True and with torch.compiler.disable around it"
        ) from None


def _of_cycle(cycle: ProblemCycle, options: dict[str, Any]) -> Equation:
    chosen = SolveOptions.of(
        options,
        cycle.solve,  # type: ignore[attr-defined]
        f"{type(cycle).__name__}.solve",
    )
    made: list[Any] = [([], cycle)]
    return Equation(cycle.problem.grid.ndim, {}, lambda problem: cycle, chosen, gradient_options(chosen), made)


def _of_options(ndim: int, options: dict[str, Any], parameters: list[Tensor]) -> tuple[Equation, dict[str, Any]]:
    own = {name: options.get(name, _DEFAULTS[name]) for name in (*PROBLEM, *SLOTS)}
    chosen = SolveOptions.of({name: each for name, each in options.items() if name not in own}, unigrid_solve, "solve")
    for name in PARAMETERS:
        own[name] = planted(own[name], _is_tensor, parameters)
    slots = {name: own[name] for name in SLOTS}
    cycle_of = partial(prepared_cycle, cycle=own["cycle"], slots={name: own[name] for name in SLOTS[1:]})
    problem_options = {name: own[name] for name in PROBLEM}
    return Equation(ndim, problem_options, cycle_of, chosen, gradient_options(chosen)), slots


def _is_tensor(value: Any) -> bool:
    return isinstance(value, Tensor)


def _solvable(tensor: Tensor, name: str) -> Tensor:
    """Return a tensor in a precision that is solved in. Raises TypeError where there is none."""
    if tensor.dtype in (torch.float32, torch.float64):
        return tensor
    if tensor.is_complex():
        raise TypeError(f"{name} must be real, got {tensor.dtype}; solve for its .real and its .imag")
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor.double()
