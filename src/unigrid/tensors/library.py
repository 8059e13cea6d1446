"""The solve as an operator of torch's dispatcher, `torch.ops.unigrid.solve`: for graphs, which hold no Python objects.

`torch.compile`, `torch.export` and tracers record it, with the equation as a string. Its gradients are those of
`function.Solve`, of first order: AOTAutograd has no double backward.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

import torch
from torch import Tensor
from torch.library import Library, register_fake, register_vmap

from .function import Solve, array_of, mapped, pulled_back, pushed_forward, solved
from .problems import Bound, Equation, Mode, equation_of, live_key, living

_LIBRARY: Any = Library("unigrid", "DEF")  # type: ignore[no-untyped-call]
_LIBRARY.define("solve(Tensor f, Tensor[] parameters, str equation, str mode) -> Tensor")
_LIBRARY.define("solve_bound(Tensor f, str bound, str mode) -> Tensor")  # all it maps over is f, which legacy vmap needs
operator = torch.ops.unigrid.solve.default


@final
class SolveBelow(torch.autograd.Function):
    """`function.Solve`, but that its solves are calls of the operator, which tracers see."""

    @staticmethod
    def forward(key: str, mode: str, f: Tensor, *parameters: Tensor) -> Tensor:  # type: ignore[override]
        with torch._C._AutoDispatchBelowAutograd():
            return operator(f, parameters, key, mode)  # type: ignore[no-any-return]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.key, mode, f, *parameters = inputs
        Solve.setup_context(ctx, (equation_of(ctx.key), mode, None, f, *parameters), output)

    @staticmethod
    def backward(ctx: Any, v: Tensor | None) -> Any:  # type: ignore[override]
        return (None, None, *pulled_back(ctx, v, _solver(ctx.key)))

    @staticmethod
    def jvp(ctx: Any, *changes: Any) -> Tensor | None:
        df, *dp = changes[2:]
        return pushed_forward(ctx, df, dp, _solver(ctx.key))


def _solver(key: str) -> Any:
    own = equation_of(key)

    def solver(equation: Equation, mode: Mode, f: Tensor, *parameters: Tensor) -> Tensor:
        return operator(f, parameters, key if equation is own else live_key(equation), mode)  # type: ignore[no-any-return]

    return solver


def solve_bound(equation: Equation, mode: Mode, f: Tensor, parameters: Sequence[Tensor]) -> Tensor:
    """Return A^-1 f or A^-T f for f of `is_grads_batched=True`, whose vmap maps operators of torch's alone."""
    bound = Bound(equation, [array_of(each) for each in parameters])
    return torch.ops.unigrid.solve_bound(f, live_key(bound), mode)  # type: ignore[no-any-return]


def _bound_solved(f: Tensor, key: str, mode: Any) -> Tensor:
    bound = living(key)
    return solved(bound.equation, mode, f, bound.parameters)[0]


def _solved(f: Tensor, parameters: list[Tensor], key: str, mode: Any) -> Tensor:
    return solved(equation_of(key), mode, f, [array_of(each) for each in parameters])[0]


def _differentiable(f: Tensor, parameters: list[Tensor], key: str, mode: Any) -> Tensor:
    return SolveBelow.apply(key, mode, f, *parameters)  # type: ignore[no-any-return, no-untyped-call]


def _described(f: Tensor, parameters: list[Tensor], key: str, mode: Any) -> Tensor:
    return f.new_empty(f.shape)


def _mapped(info: Any, dims: Any, f: Tensor, parameters: list[Tensor], key: str, mode: Any) -> tuple[Tensor, int]:
    of_f, of_parameters = dims[:2]
    return mapped(lambda f, *p: operator(f, p, key, mode), info.batch_size, (of_f, *of_parameters), [f, *parameters])


for device in ("CPU", "CUDA", "MPS"):
    _LIBRARY.impl("solve", _solved, device)
    _LIBRARY.impl("solve_bound", _bound_solved, device)
_LIBRARY.impl("solve", _differentiable, "Autograd")
register_fake("unigrid::solve", _described, lib=_LIBRARY)
register_vmap("unigrid::solve", _mapped, lib=_LIBRARY)
