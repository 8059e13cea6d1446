"""Solvers on tensors that unigrid is compared with, as an expert would use them on a CPU: torch-sla (torch) and solvax (JAX).

-Laplace(u) = f on the unit square, n x n unknowns, zero Dirichlet values, float64. On vertices all have the five-point stencil
with h = 1 / (n + 1); on cells h = 1 / n, and the boundary is half a cell away. Each method is a function from f and the
relative tolerance to a call without arguments, which returns u as an array; what the function does itself is assembly and
compilation, which are not part of the times.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import scipy.fft

import unigrid

Array = np.ndarray
Call = Callable[[], Array]


@dataclass(frozen=True)
class Method:
    """A solver.

    prepare : what it makes of f and a tolerance
    needs : packages beyond torch
    cells : whether its unknowns lie in cells
    warm_up : points per side of a problem that loads all of its compiled code
    """

    prepare: Callable[[Array, float], Call]
    needs: tuple[str, ...] = ()
    cells: bool = False
    warm_up: int = 31


def source(n: int, kind: str) -> Array:
    """Return f: "random" numbers, or the "ones" benchmark of torch-sla, whose discrete solution is 1 everywhere."""
    if kind == "random":
        return np.random.default_rng(n).standard_normal((n, n))
    f = np.zeros((n, n))
    for side in (f[0], f[-1], f[:, 0], f[:, -1]):
        side += (n + 1.0) ** 2
    return f


def relative_residual(f: Array, u: Array, cells: bool) -> float:
    """Return ||f - A u|| / ||f||, by plain NumPy for all methods, a band of rows at a time."""
    n = len(f)
    scale = float(n if cells else n + 1) ** 2
    padded_row = np.zeros((1, n))
    squares = 0.0
    for start in range(0, n, 256):
        stop = min(start + 256, n)
        above = u[start - 1 : start] if start else -u[:1] if cells else padded_row
        below = u[stop : stop + 1] if stop < n else -u[-1:] if cells else padded_row
        rows = np.concatenate([above, u[start:stop], below])
        r = 4 * rows[1:-1] - rows[:-2] - rows[2:]
        r[:, 1:] -= rows[1:-1, :-1]
        r[:, :-1] -= rows[1:-1, 1:]
        if cells:
            r[:, [0, -1]] += rows[1:-1, [0, -1]]
        squares += float(np.square(f[start:stop] - scale * r).sum())
    return float(np.sqrt(squares) / np.linalg.norm(f))


def direct(f: Array, cells: bool) -> Array:
    """Return the discrete solution by sine transforms."""
    n, kind = len(f), 2 if cells else 1
    points = n if cells else n + 1
    of_axis = (2 * points * np.sin(np.pi * np.arange(1, n + 1) / (2 * points))) ** 2
    spectrum = scipy.fft.dstn(f, type=kind, workers=-1)
    spectrum /= np.add.outer(of_axis, of_axis)
    return scipy.fft.idstn(spectrum, type=kind, workers=-1, overwrite_x=True)


def relative_error(u: Array, exact: Array) -> float:
    """Return ||u - exact|| / ||exact||."""
    return float(np.linalg.norm(u - exact) / np.linalg.norm(exact))


def missing(needs: tuple[str, ...]) -> list[str]:
    """Return the packages of these that are not installed."""
    return [name for name in needs if importlib.util.find_spec(name.replace("-", "_")) is None]


# --- unigrid ----------------------------------------------------------------------------------------------------------


def by_unigrid(f: Array, rtol: float, centering: str = "vertex") -> Call:
    """The call of users with a tensor."""
    import torch

    tensor = torch.from_numpy(f)
    return lambda: unigrid.solve(tensor, rtol=rtol, centering=centering).u.numpy()


# --- torch-sla --------------------------------------------------------------------------------------------------------


def by_torch_sla(f: Array, rtol: float, backend: str, method: str, preconditioner: str | None = None) -> Call:
    """One of its backends; the matrix is assembled beforehand.

    `torch_sla.solve` passes no relative tolerance on (its iterations then use 1e-10), and `atol` is relative in its backend
    "pyamg" alone.
    """
    import torch
    import torch_sla

    n = len(f)
    points = torch.arange(n * n).reshape(n, n)
    neighbors = [(points[:-1], points[1:]), (points[:, :-1], points[:, 1:])]
    pairs = [(points, points), *neighbors, *((second, first) for first, second in neighbors)]
    row, column = (torch.cat([pair[k].flatten() for pair in pairs]) for k in (0, 1))
    values = torch.full(row.shape, -((n + 1.0) ** 2), dtype=torch.float64)
    values[: n * n] = 4 * (n + 1.0) ** 2
    order = torch.argsort(row * n * n + column)
    matrix = values[order], row[order], column[order], (n * n, n * n)
    b = torch.from_numpy(f.ravel())
    atol = rtol if backend == "pyamg" else rtol * float(b.norm())
    options: dict[str, Any] = {"backend": backend, "method": method, "preconditioner": preconditioner, "atol": atol}
    return lambda: torch_sla.solve(matrix, b, maxiter=20_000, **options).numpy().reshape(n, n)


# --- solvax -----------------------------------------------------------------------------------------------------------


def by_solvax(f: Array, rtol: float) -> Call:
    """Conjugate gradients with its geometric multigrid, V(2,2) of damped Jacobi: hierarchy and transfers are its own."""
    import jax
    import solvax

    jax.config.update("jax_enable_x64", True)
    laplacian = partial(_laplacian, "float64")
    grid = solvax.semicoarsening_hierarchy(
        f.shape,
        (True, True),
        lambda shape: (laplacian(shape[0]), jax.numpy.float64(4 * (shape[0] + 1.0) ** 2)),
        levels=len(f),
        boundary="dirichlet",
        min_size=3,
    )
    coarse = solvax.dense_coarse_solve(laplacian(grid.shapes[-1][0]), grid.shapes[-1])
    cycle = solvax.multigrid(grid.levels, coarse, pre_smooth=2, post_smooth=2, damping=0.8)
    return _compiled(lambda b: solvax.pcg(laplacian(len(f)), b, precond=cycle, rtol=rtol).x, f)


def by_solvax_tuned(f: Array, rtol: float) -> Call:
    """Its multigrid with smoother and transfers written by hand, the fastest found: V(1,1), red-black, in single precision.

    Its own transfers multiply with dense matrices, n^3 operations; these take slices.
    """
    import jax
    import jax.numpy as jnp
    import solvax

    jax.config.update("jax_enable_x64", True)
    sizes = [len(f)]
    while sizes[-1] > 3:
        sizes.append((sizes[-1] - 1) // 2)
    levels = [(_laplacian("float32", n), partial(_red_black, n), _restrict, _prolong) for n in sizes[:-1]]
    coarse = solvax.dense_coarse_solve(_laplacian("float64", sizes[-1]), (sizes[-1],) * 2)
    cycle = solvax.mixed_precision(solvax.multigrid(levels, lambda b: coarse(b.astype("float64")).astype("float32")))
    apply = _laplacian("float64", len(f))

    def solve(b: Any) -> Any:
        def step(state: Any) -> Any:
            u, r, count = state
            u = u + cycle(r)
            return u, b - apply(u), count + 1

        def unfinished(state: Any) -> Any:
            return (jnp.linalg.norm(state[1]) > rtol * jnp.linalg.norm(b)) & (state[2] < 100)

        return jax.lax.while_loop(unfinished, step, (jnp.zeros_like(b), b, 0))[0]

    return _compiled(solve, f)


def by_solvax_diagonalization(f: Array, rtol: float) -> Call:
    """Its direct solver of separable problems, on cells: dense matrices of eigenvectors, four products of n^3 operations."""
    import jax
    import solvax

    jax.config.update("jax_enable_x64", True)
    factors = solvax.fast_diagonal((np.full(len(f), 1 / len(f)),) * 2, ("dirichlet",) * 2)
    return _compiled(lambda b: factors.solve(b), f)


def _compiled(solve: Callable[[Any], Any], f: Array) -> Call:
    import jax

    b = jax.numpy.asarray(f)
    compiled = jax.jit(solve).lower(b).compile()
    return lambda: np.asarray(compiled(b))


def _laplacian(precision: str, n: int) -> Callable[[Any], Any]:
    import jax.numpy as jnp

    scale = jnp.asarray((n + 1.0) ** 2, precision)

    def apply(u: Any) -> Any:
        p = jnp.pad(u, 1)
        return scale * (4 * u - p[:-2, 1:-1] - p[2:, 1:-1] - p[1:-1, :-2] - p[1:-1, 2:])

    return apply


def _red_black(n: int, apply: Callable[[Any], Any], u: Any, b: Any) -> Any:
    import jax.numpy as jnp
    from jax import lax

    red = (lax.broadcasted_iota("int32", (n, n), 0) + lax.broadcasted_iota("int32", (n, n), 1)) % 2 == 0
    inverse = jnp.asarray(0.25 / (n + 1.0) ** 2, b.dtype)
    u = jnp.where(red, u + inverse * (b - apply(u)), u)
    return jnp.where(red, u, u + inverse * (b - apply(u)))


def _restrict(r: Any) -> Any:
    rows = (0.25 * r[:-2] + 0.5 * r[1:-1] + 0.25 * r[2:])[::2]
    return (0.25 * rows[:, :-2] + 0.5 * rows[:, 1:-1] + 0.25 * rows[:, 2:])[:, ::2]


def _prolong(e: Any) -> Any:
    import jax.numpy as jnp

    def along_the_last_axis(e: Any) -> Any:
        padded = jnp.pad(e, ((0, 0), (1, 1)))
        between = 0.5 * (padded[:, :-1] + padded[:, 1:])
        pairs = jnp.stack([between[:, :-1], e], 2).reshape(len(e), -1)
        return jnp.concatenate([pairs, between[:, -1:]], 1)

    return along_the_last_axis(along_the_last_axis(e).T).T


# --- all --------------------------------------------------------------------------------------------------------------

TORCH_SLA, SOLVAX = ("torch-sla", "pyamg"), ("solvax", "jax")
METHODS = {
    "unigrid": Method(by_unigrid, warm_up=383),
    "torch-sla CG + Jacobi": Method(partial(by_torch_sla, backend="pytorch", method="cg", preconditioner="jacobi"), TORCH_SLA),
    "torch-sla CG + AMG": Method(partial(by_torch_sla, backend="pytorch", method="cg", preconditioner="amg"), TORCH_SLA),
    "torch-sla AMG": Method(partial(by_torch_sla, backend="pyamg", method="ruge_stuben"), TORCH_SLA),
    "torch-sla LU": Method(partial(by_torch_sla, backend="scipy", method="lu"), TORCH_SLA),
    "solvax multigrid + CG": Method(by_solvax, SOLVAX),
    "solvax multigrid, tuned": Method(by_solvax_tuned, SOLVAX),
    "unigrid, cells": Method(partial(by_unigrid, centering="cell"), cells=True, warm_up=384),
    "solvax diagonalization, cells": Method(by_solvax_diagonalization, SOLVAX, cells=True),
}
