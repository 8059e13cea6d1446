"""u = A(p)^-1 b(f, p) as a differentiable function of tensors: gradients by the adjoint solve, never through the iteration.

With u the solution for f and parameters p, and v the gradient of a loss in u,

    dual = A^-T v,      d loss / d f = dual,      d loss / d p = d L / d p    with    L = <dual, b(p) - A(p) u>.

A^-T is a solve too, with the derivative A^-1, so that three modes of one function close all orders. In forward mode,
du = A^-1 (df + (d L / d dual) dp).

Source: O. Pironneau, On optimum design in fluid mechanics, J. Fluid Mech. 64 (1974); A. Griewank & A. Walther, Evaluating
derivatives (2008), section 15.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NoReturn, final

import torch
from torch import Tensor
from torch.autograd import forward_ad

from ..solution import Solution
from .lagrangian import Lagrangian
from .problems import Equation, Mode


def array_of(tensor: Tensor) -> Any:
    """Return the numbers of a tensor as an array that shares its memory, if that is the host's."""
    return tensor.detach().cpu().resolve_conj().resolve_neg().numpy()


def tensor_of(array: Any) -> Tensor:
    """Return an array as a tensor that shares its memory."""
    return torch.from_numpy(array if array.flags.writeable else array.copy())


@final
@dataclass(frozen=True, eq=False)
class Journal:
    """The Solutions of one call. No list by itself: transforms of torch take lists apart, and put new ones in their place."""

    solutions: list[Solution] = field(default_factory=list)


@final
class Solve(torch.autograd.Function):
    """`Solve.apply(equation, mode, journal, f, *parameters)`; the journal collects the Solutions of one call."""

    @staticmethod
    def forward(  # type: ignore[override]
        equation: Equation, mode: Mode, journal: Journal | None, f: Tensor, *parameters: Tensor
    ) -> Tensor:
        u, solution = solved(equation, mode, f, [array_of(each) for each in parameters])
        if journal is not None:
            journal.solutions.append(solution)
        return u

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.equation, ctx.mode, _, _, *parameters = inputs
        ctx.set_materialize_grads(False)
        saved = (output, *parameters) if parameters or ctx.equation.nonlinear else ()
        ctx.save_for_backward(*saved)
        ctx.save_for_forward(*saved)

    @staticmethod
    def backward(ctx: Any, v: Tensor | None) -> Any:  # type: ignore[override]
        return (None, None, None, *pulled_back(ctx, v, solve))

    @staticmethod
    def jvp(ctx: Any, *changes: Any) -> Tensor | None:
        df, *dp = changes[3:]
        with forward_ad._set_fwd_grad_enabled(True):  # torch takes it away, and outer tangents with it
            return pushed_forward(ctx, df, dp, solve)

    @staticmethod
    def vmap(info: Any, in_dims: Any, *inputs: Any) -> tuple[Tensor, int]:  # type: ignore[override]
        equation, mode, journal, *tensors = inputs
        return mapped(lambda f, *p: applied(equation, mode, journal, f, p), info.batch_size, in_dims[3:], tensors)


# torch binds the arguments of each call to it: in 12 microseconds where it must look at them, in 4 where they have no names.
INPUTS = inspect.Parameter("inputs", inspect.Parameter.VAR_POSITIONAL)
Solve.forward.__signature__ = inspect.Signature([INPUTS])  # type: ignore[attr-defined]


def solved(equation: Equation, mode: Mode, f: Tensor, parameters: list[Any]) -> tuple[Tensor, Solution]:
    """Return u for a tensor, and the Solution: by NumPy's kernels, or by torch's on the device where the tensor lives."""
    if f.device.type == "cpu" and equation.options.backend is None:
        solution = equation.solved(mode, array_of(f), parameters)
        return tensor_of(solution.u), solution
    from .device import solved_on_device

    solution = solved_on_device(equation, mode, f.detach(), parameters)
    return solution.u, solution


def applied(equation: Equation, mode: Mode, journal: Journal | None, f: Tensor, parameters: Sequence[Tensor]) -> Tensor:
    """Return u, differentiable; the Solution is added to the journal."""
    if torch._C._functorch.is_legacy_batchedtensor(f):  # of `is_grads_batched`: which maps operators alone
        from .library import solve_bound

        return solve_bound(equation, mode, f, parameters)
    return Solve.apply(equation, mode, journal, f, *parameters)  # type: ignore[no-any-return, no-untyped-call]


Solver = Callable[..., Tensor]


def solve(equation: Equation, mode: Mode, f: Tensor, *parameters: Tensor) -> Tensor:
    """Return A^-1 f or A^-T f, homogeneous on the sides."""
    return applied(equation, mode, None, f, parameters)


def pulled_back(ctx: Any, v: Tensor | None, solver: Solver) -> tuple[Tensor | None, ...]:
    """Return the gradients of f and of the parameters for that of the output."""
    output, *parameters = _saved(ctx)
    if v is None:
        return (None,) * (1 + len(parameters))
    ctx.equation.refuse_gradients()
    other = _linear(ctx.equation, output, solver)("inverse" if ctx.mode == "adjoint" else "adjoint", v, *parameters)
    wanted = ctx.needs_input_grad[-len(parameters) :] if parameters else ()
    if not any(wanted):
        return (other, *(None for _ in parameters))
    dual, u = (output, other) if ctx.mode == "adjoint" else (other, output)
    return other, *_slopes(Lagrangian(ctx.equation, dual, u, ctx.mode == "solution"), parameters)


def pushed_forward(ctx: Any, df: Tensor | None, dp: list[Tensor | None], solver: Solver) -> Tensor | None:
    """Return the change of the output for changes of f and of the parameters."""
    output, *parameters = map(_primal, _saved(ctx))
    if any(change is not None for change in dp):

        def slope(state: Tensor) -> Tensor:
            """Return the change of L, linear in the other state."""
            dual, u = (output, state) if ctx.mode == "adjoint" else (state, output)
            slopes = _slopes(Lagrangian(ctx.equation, dual, u, ctx.mode == "solution"), parameters)
            changes = [(own * change).sum() for own, change in zip(slopes, dp, strict=True) if change is not None]
            return torch.stack(changes).sum()

        moved = torch.func.grad(slope)(torch.zeros_like(output))
        df = moved if df is None else df + moved
    if df is None:
        return None
    return _linear(ctx.equation, output, solver)("adjoint" if ctx.mode == "adjoint" else "inverse", df, *parameters)


def _linear(equation: Equation, u: Tensor, solver: Solver) -> Solver:
    """Return the solver for changes of u: where the reaction is not linear, for the equation linearized at each u."""
    if equation.nonlinear is None:
        return partial(solver, equation)

    def linearized(mode: Mode, f: Tensor, *parameters: Tensor) -> Tensor:
        if f.ndim > equation.ndim:
            return torch.stack(
                [_linear(equation, each, solver)(mode, own, *parameters) for each, own in zip(u, f, strict=True)]
            )
        slopes = Slope.apply(equation, u)  # type: ignore[no-untyped-call]
        return solver(equation.linearized(len(parameters)), mode, f, *parameters, slopes)

    return linearized


@final
class Slope(torch.autograd.Function):
    """g'(u) of a Nonlinear reaction, which has no derivative itself."""

    @staticmethod
    def forward(equation: Equation, u: Tensor) -> Tensor:  # type: ignore[override]
        return tensor_of(equation.slope(array_of(u)))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Save nothing."""

    @staticmethod
    def backward(ctx: Any, *_: Any) -> NoReturn:
        raise NotImplementedError(
            "through a solve with a Nonlinear reaction there are gradients of first order alone: it has g', and not g''"
        )

    jvp = backward

    @staticmethod
    def vmap(info: Any, in_dims: Any, equation: Equation, u: Tensor) -> tuple[Tensor, int]:  # type: ignore[override]
        return Slope.apply(equation, u.movedim(in_dims[1], 0)), 0  # type: ignore[no-untyped-call]


def _saved(ctx: Any) -> Any:
    """Return the output and the parameters; without parameters nothing is saved, nor needed."""
    return ctx.saved_tensors or (None,)


def _primal(tensor: Tensor | None) -> Any:
    """Return a tensor without the tangent of the innermost forward mode; those of others stay."""
    return None if tensor is None else forward_ad.unpack_dual(tensor).primal  # type: ignore[no-untyped-call]


def _slopes(lagrangian: Lagrangian, parameters: list[Tensor]) -> tuple[Tensor, ...]:
    """Return the derivatives of L in the parameters."""
    if not lagrangian.equation.learns("coefficient", "boundary"):  # a reaction alone: without the overhead of `vjp`
        return (lagrangian.slope_in_reaction(parameters[0]),)
    value, pull = torch.func.vjp(lagrangian, *parameters)[:2]
    return pull(torch.ones_like(value))  # type: ignore[no-any-return]


def mapped(function: Solver, size: int, dims: Any, tensors: list[Tensor]) -> tuple[Tensor, int]:
    """Return the function over a batch: f alone as leading axis, parameters one after the other, as each has its cycle."""
    f, *parameters = tensors
    if all(dim is None for dim in dims[1:]):
        return function(f.movedim(dims[0], 0), *parameters), 0
    rows = [
        [each if dim is None else each.select(dim, entry) for each, dim in zip(tensors, dims, strict=True)]
        for entry in range(size)
    ]
    return torch.stack([function(*row) for row in rows]), 0
