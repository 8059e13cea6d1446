"""`unigrid.solve` and a cycle's `solve` for torch tensors: u comes back as one, with gradients in all that was a tensor."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..cycle import MultigridCycle
from ..messages import choose
from ..solution import Reason, Solution, stacked
from ..stencil.grid import real_array, refuse_picture
from ..stencil.solve import checked_batch, prepared_cycle, refuse_beside, solvable_shape
from ..stencil.solve import solve as unigrid_solve
from ..stencil.solving import ProblemCycle, SolveOptions
from .function import Journal, applied, array_of
from .problems import Equation, filled, key_of, live_key, normal, planted

PROBLEM = ("lengths", "spacing", "boundary", "centering", "reaction", "coefficient", "mask", "outside", "fixed", "order")
SLOTS = ("cycle", "smoothing", "smoother", "pre", "post", "restriction", "prolongation")
PARAMETERS = ("reaction", "coefficient", "boundary")  # which may be tensors, with gradients
CONSTANTS = ("lengths", "spacing", "mask", "outside", "fixed")  # which may be tensors without
IN_GRAPH = "Solved in a graph, which keeps no residuals; a solve that fails raises ConvergenceError."
DEFAULTS = {name: each.default for name, each in inspect.signature(unigrid_solve).parameters.items()}


def solve_tensors(solver: Callable[..., Solution], f: Tensor, options: dict[str, Any], ndim: int | None = None) -> Solution:
    """Return the Solution for a source f that is a tensor, u a tensor too.

    Gradients of f, and of `reaction`, `coefficient` and values of `boundary` that are tensors, take one more solve, to
    `gradient_rtol` or `rtol`. They are those of the exact discrete solution, of any order, and in forward mode; `u0`,
    `callback` and `accelerate` have no part in them. In a singular problem they are those of the mean-zero solution.

    Parameters
    ----------
    solver : `unigrid.solve`, or the `solve` of a cycle
    f : its source
    options : its keywords
    ndim : how many axes the problem has, if `batch_dims` does not tell; leading axes of f are independent right-hand sides

    Raises
    ------
    TypeError, ValueError
        For tensors that are not dense and real, or that would need gradients which there are not; for what the
        solver refuses.
    ConvergenceError
        Where a solve fails, that of a gradient too.
    """
    channels, batch_dims = options.get("channels"), options.get("batch_dims", 0)
    if f.dtype == torch.uint8:
        refuse_picture(np.broadcast_to(np.uint8(0), tuple(f.shape)), channels)
    f = _solvable(f, "f")
    cycle = options.get("cycle") if solver is unigrid_solve else getattr(solver, "__self__", solver)
    if torch.compiler.is_compiling() and not isinstance(cycle, str | None):
        raise TypeError("a graph has no place for a cycle; there, call unigrid.solve with the keywords of its problem")
    if not isinstance(cycle, str | MultigridCycle | None):
        raise TypeError(f"cycle must be 'V', 'W', 'F' or a unigrid.MultigridCycle, got {type(cycle).__name__}")
    if type(batch_dims) is not int or batch_dims != 0:
        batch_dims = checked_batch(batch_dims, f, channels, cycle or "V")
    if channels is not None:
        choose(channels, ("last",), "channels")
        solution = solve_tensors(solver, f.movedim(-1, 0), _channels_first(options), f.ndim - 1)
        return replace(solution, u=solution.u.movedim(0, -1))
    if isinstance(cycle, ProblemCycle):
        equation = _of_cycle(cycle, options if solver is not unigrid_solve else _beside_cycle(options))
        return _solved(equation, {"cycle": cycle}, [f])
    return _solved(*_of_options(f, options, f.ndim - batch_dims if ndim is None else ndim))


def _channels_first(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options for a source whose channels are its first axis."""
    others = {name: each for name, each in options.items() if name != "channels"}
    if others.get("u0") is not None:
        others["u0"] = np.moveaxis(_constant(others["u0"], "u0"), -1, 0)
    return others


def _solved(equation: Equation, slots: dict[str, Any], tensors: list[Tensor]) -> Solution:
    """Return the Solution for f, the first of these, and the parameters."""
    if torch.compiler.is_compiling():
        return _in_graph(_traced_key(equation, slots), tensors)
    if torch._C._len_torch_dispatch_stack() > 0 or torch._C._is_tracing():
        return _in_graph(_observed_key(equation, slots), tensors)
    if tensors[0].is_meta:
        raise TypeError("f is on the device 'meta', and has no numbers; give a tensor on the CPU")
    journal = Journal()
    u = applied(equation, "solution", journal, tensors[0], tensors[1:])
    solution = journal.solutions[0] if len(journal.solutions) == 1 else stacked(journal.solutions, u)
    return with_u(solution, u)


def with_u(solution: Solution, u: Tensor) -> Solution:
    """Return the Solution with another u, of which those of its parts are rows."""
    shape = solution.parts[0].u.shape if solution.parts else ()
    if len(solution.parts) * math.prod(shape) != u.numel():  # one right-hand side, or as many as `vmap` hides
        return replace(solution, u=u)
    own = u.reshape(-1, *shape).unbind()
    return replace(solution, u=u, parts=tuple(replace(part, u=each) for part, each in zip(solution.parts, own, strict=True)))


def _in_graph(key: str, tensors: list[Tensor]) -> Solution:
    """Return the Solution of a solve that is recorded: all that is known of it is u."""
    from .library import operator

    return Solution(operator(tensors[0], tensors[1:], key, "solution"), True, Reason.CONVERGED, 0, (), IN_GRAPH)


def _observed_key(equation: Equation, slots: dict[str, Any]) -> str:
    """Return the equation as a string, for dispatch modes and tracers: they would take the numbers of u for constants."""
    try:
        return key_of(equation, slots)
    except TypeError:
        return live_key(equation)


def _traced_key(equation: Equation, slots: dict[str, Any]) -> str:
    """Return the equation as a string. Raises TypeError where it is none, or where the outcome would be lost."""
    if equation.options.callback is not None or equation.options.u0 is not None or not equation.options.raise_on_failure:
        raise TypeError("u0, callback and raise_on_failure=False have no place in a compiled graph; leave them out")
    return key_of(equation, slots)


def _beside_cycle(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options of a solve with a prepared cycle. Raises ValueError where others are given."""
    others = {name: options[name] for name in options if name in (*PROBLEM, *SLOTS[1:])}
    refuse_beside("a prepared cycle brings its own problem and slots", others)
    return {name: each for name, each in options.items() if name not in (*others, "cycle", "channels", "batch_dims")}


def _of_cycle(cycle: ProblemCycle, options: dict[str, Any]) -> Equation:
    name = type(cycle).__name__
    chosen = SolveOptions.of(_with_start(options), cycle.solve, f"{name}.solve")
    made: list[Any] = [([], cycle)]
    problem_options = {"order": cycle.problem.order, "reaction": cycle.problem.nonlinear, "coefficient": None}
    return Equation(cycle.problem.grid.ndim, problem_options, lambda problem: cycle, chosen, made)


def _of_options(f: Tensor, options: dict[str, Any], ndim: int) -> tuple[Equation, dict[str, Any], list[Tensor]]:
    """Return the equation, its slots, and the tensors in it: f, and the parameters."""
    own = {name: options.get(name, DEFAULTS[name]) for name in (*PROBLEM, *SLOTS)}
    others = {name: each for name, each in options.items() if name not in own and name not in ("channels", "batch_dims")}
    chosen = SolveOptions.of(_with_start(others), unigrid_solve, "solve")
    if not (torch.compiler.is_compiling() or torch._C._is_tracing()):  # a graph refuses it when it runs
        solvable_shape(f, None, f.ndim - ndim)  # type: ignore[arg-type]
    parameters: list[Any] = []
    a = own["coefficient"]
    if isinstance(a, Tensor | np.ndarray) and tuple(a.shape) == (ndim,) != tuple(f.shape[-ndim:]):  # one per axis
        own["coefficient"] = tuple(a)
    for name in PARAMETERS:
        own[name] = planted(own[name], _is_tensor, parameters)
    for name in CONSTANTS:
        own[name] = _constant(own[name], name)
    if parameters or torch.compiler.is_compiling():  # then arrays meet tensors, or a graph has no place for them
        for name in PARAMETERS:
            own[name] = normal(planted(own[name], _is_array, parameters), name, ndim, _array)
            own[name] = planted(own[name], _is_array, parameters)
    slots = {name: own[name] for name in SLOTS}
    cycle_of = partial(prepared_cycle, cycle=own["cycle"], slots={name: own[name] for name in SLOTS[1:]})
    equation = Equation(ndim, {name: own[name] for name in PROBLEM}, cycle_of, chosen)
    return equation, slots, [f, *(_solvable(each, "a parameter") for each in parameters)]


def _with_start(options: dict[str, Any]) -> dict[str, Any]:
    return {**options, "u0": _constant(options["u0"], "u0")} if options.get("u0") is not None else options


def _constant(value: Any, name: str) -> Any:
    """Return a keyword without its tensors: arrays, or numbers. Raises TypeError for tensors that require a gradient."""
    if value is None:
        return None
    tensors: list[Tensor] = []
    template = planted(value, _is_tensor, tensors)
    if name != "u0" and any(each.requires_grad for each in tensors):
        raise TypeError(f"{name} requires a gradient, and u has none in it; give {name}.detach(), or central differences")
    return filled(template, [array_of(each) for each in tensors])


def _is_tensor(value: Any) -> bool:
    return isinstance(value, Tensor)


def _is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray)


def _array(value: Any, name: str) -> Any:
    """Return an array of numbers; in a graph, which cannot look into it, whatever NumPy makes of it."""
    return np.array(value, dtype=np.float64) if torch.compiler.is_compiling() else np.array(real_array(value, name))


def _solvable(tensor: Any, name: str) -> Tensor:
    """Return a tensor in a precision that is solved in. Raises TypeError where there is none."""
    if isinstance(tensor, np.ndarray):
        tensor = torch.as_tensor(tensor) if torch.compiler.is_compiling() else torch.tensor(_array(tensor, name))
    if tensor.layout is not torch.strided or tensor.is_quantized or tensor.is_nested:
        raise TypeError(f"{name} must be a dense tensor, got layout {tensor.layout}; give {name}.to_dense()")
    if tensor.dtype in (torch.float32, torch.float64):
        return tensor  # type: ignore[no-any-return]
    if tensor.is_complex():
        raise TypeError(f"{name} must be real, got {tensor.dtype}; solve for its .real and its .imag")
    halves = tensor.dtype in (torch.float16, torch.bfloat16)
    return tensor.float() if halves or tensor.device.type == "mps" else tensor.double()  # type: ignore[no-any-return]
