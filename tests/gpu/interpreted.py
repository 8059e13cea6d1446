"""Random cases of the kernels for GPUs in Triton's interpreter, against the composed slots of NumPy: a process of its own.

    python tests/gpu/interpreted.py kernels FIRST LAST      one half-cycle or transfer each
    python tests/gpu/interpreted.py solves FIRST LAST       whole solves, by the path of tensors on a GPU

The interpreter has to be chosen before the kernels are imported. It prints the number of cases and the largest errors.
"""

import itertools
import os
import sys

os.environ["TRITON_INTERPRET"] = "1"

import numpy as np
import torch
from triton.runtime import interpreter

import unigrid
from unigrid.stencil import hierarchy
from unigrid.stencil.kernels.gpu.sweeps import MarchedSweeps, Tile, TiledSweeps, Transfer
from unigrid.stencil.slots import Slots, half_sweeps, nested_transfers

DRAW = int(os.environ.get("UNIGRID_TEST_DRAW", "0"))
TOLERANCES = {np.float64: 1e-14, np.float32: 3e-6}
SIDES = ["periodic", *itertools.product(["dirichlet", "neumann"], repeat=2)]
LARGEST = {2: (27, 44), 3: (13, 11, 15)}
SMOOTHINGS = [
    {"smoother": "red-black", "pre": 1, "post": 1}, {"smoother": unigrid.RedBlack(1.1, "black"), "pre": 2, "post": 1},
    {"smoother": unigrid.RedBlack((1.0, 1.2, 0.9, 1.3)), "pre": 1, "post": 0}, {},
]  # fmt: skip
# What checks each sum of integers for overflow takes half of the time.
interpreter.interpreter_builder.options = interpreter.InterpreterOptions(sanitize_overflow=False)
torch.set_num_threads(1)


GUARD = 64  # numbers before and after each array
arrays = []


def guarded(like, shape, dtype=None, **others):
    """Return an array of NaN between others: what is read beyond its ends, or is never written, shows in results."""
    if others:  # asked by the interpreter
        return plain(like, shape, dtype=dtype, **others)
    size = int(np.prod(shape))
    flat = torch.full((size + 2 * GUARD,), torch.nan, dtype=dtype or like.dtype)
    arrays.append(flat)
    return flat[GUARD : GUARD + size].reshape(shape)


def assert_nothing_was_written_beyond():
    for flat in arrays:
        assert flat[:GUARD].isnan().all()
        assert flat[-GUARD:].isnan().all()
    arrays.clear()


plain, torch.Tensor.new_empty = torch.Tensor.new_empty, guarded


def drawn(number):
    """Return a generator, the finest level of a random hierarchy, the next one, and the precision; None where there is none."""
    rng = np.random.default_rng([number, DRAW])
    ndim, dtype = 2 + (number % 4 == 3), [np.float64, np.float64, np.float32][rng.integers(3)]
    sides = [SIDES[rng.integers(len(SIDES))] for _ in range(ndim)]
    sizes = [int(rng.integers(4, largest)) for largest in LARGEST[ndim]]
    shape = tuple(n + n % 2 * (side == "periodic") for n, side in zip(sizes, sides, strict=True))
    problem = unigrid.Poisson(
        shape, spacing=tuple(rng.uniform(0.5, 2.0, ndim) / 20), boundary=sides, centering=["vertex", "cell"][rng.integers(2)],
        reaction=[0.0, float(rng.uniform(0, 30))][rng.integers(2)],
    )  # fmt: skip
    slots = {
        "restriction": ["full-weighting", "cell-average", "injection"][rng.integers(3)],
        "prolongation": ["linear", "constant", "cubic"][rng.integers(3)],
    }
    levels = unigrid.StencilCycle(problem, **slots, **SMOOTHINGS[min(rng.integers(6), 3)]).own_levels
    return None if len(levels) < 2 else (rng, levels[0].replaced(fuses=False), levels[1], dtype)


def relative(found, expected):
    found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    return float(np.abs(found - expected).max() / max(np.abs(expected).max(), 1e-300))


def kernel_case(number):
    """Return the largest error of one kernel on one random level; None where there are no kernels for it."""
    case = drawn(number)
    if case is None:
        return None
    rng, fine, coarse, dtype = case
    axes, sweeps = fine.problem.grid.axes, half_sweeps(Slots(*(getattr(fine, name) for name in hierarchy.SLOTS)))
    transfers = fine.restriction.products[0], fine.prolongation.products[0]
    assert MarchedSweeps.covers(axes, transfers[0], sweeps), (number, fine)
    done = torch.zeros(1, dtype=torch.int32)

    def move(array):
        array = np.ascontiguousarray(array)
        return torch.from_numpy(array if array.dtype.kind == "i" else array.astype(dtype))

    which = ["descend", "descend", "ascend", "measured", "turn", "transfers"][rng.integers(6)]
    together = len(sweeps[0].omegas) + len(sweeps[1].omegas) if which == "turn" else max(len(each.omegas) for each in sweeps)
    tile = Tile(1, 16 if together < 5 else 32, 4, 6, 8) if len(axes) == 2 else Tile(16, 8, 4, 2, 6)
    kind = MarchedSweeps
    if len(axes) == 2 and rng.integers(2):
        kind, tile = TiledSweeps, Tile(32, 16, 4, 6, 0)
    own = kind(axes, coarse.problem.shape, fine.problem.reaction, sweeps, transfers, done, move, tile)
    batch = [(), (), (2,)][rng.integers(3)]
    largest, count = fine.operator.norm_bound, batch[0] if batch else 1
    b, u = rng.standard_normal((count, *fine.problem.shape)) * largest, rng.standard_normal((count, *fine.problem.shape))
    e = rng.standard_normal((count, *coarse.problem.shape))
    b, u, e = (each.astype(dtype).astype(np.float64) for each in (b, u, e))

    def given(array):
        return guarded(move(array), batch + array.shape[1:]).copy_(move(array).reshape(batch + array.shape[1:]))

    def compared(found, expected):
        return relative(found.numpy().reshape(-1), np.stack([np.asarray(each) for each in expected]).reshape(-1))

    if which == "transfers":
        R, P = nested_transfers(fine.problem.grid, coarse.problem.grid)
        down, up = (Transfer(each.products[0], done, move) for each in (R, P))
        return max(compared(down(given(b)), map(R, b)), compared(up(given(e)), map(P, e)))
    if which == "descend":
        starts = [None] * count if rng.integers(2) else list(u)
        expected = [fine.descend(each, start, coarse) for each, start in zip(b, starts, strict=True)]
        found = own.descend(given(b), None if starts[0] is None else given(u))
        return max(compared(each, [one[k] for one in expected]) for k, each in enumerate(found))
    ascended = [fine.ascend(*each[:2], None, each[2]) for each in zip(b, u.copy(), e, strict=True)]
    if which == "ascend":
        return compared(own.ascend(given(b), given(u), given(e)), ascended)
    norms = [fine.operator.residual_norm(*each) for each in zip(b, ascended, strict=True)]
    if which == "measured" or not own.turns:
        norm, out = own.ascend_measured(given(b), given(u), given(e))
        return max(compared(norm, norms), compared(out, ascended))
    keep = bool(rng.integers(2))
    norm, kept, out, coarse_b = own.turn(given(b), given(u), given(e), keep)
    again = [fine.descend(*each, coarse) for each in zip(b, ascended, strict=True)]
    errors = [compared(norm, norms), compared(out, [one[0] for one in again]), compared(coarse_b, [one[1] for one in again])]
    assert (kept is not None) == keep
    return max(errors) if kept is None else max(*errors, compared(kept, ascended))


def solve_case(number):
    """Return the error of a whole solve, which takes as many iterations as NumPy's; None where none of its levels is fused."""
    rng = np.random.default_rng([number, DRAW, 1])
    ndim = 2 + (number % 5 == 4)
    boundary = [SIDES[rng.integers(len(SIDES))] for _ in range(ndim)]
    shape = tuple(2 * int(rng.integers(5, largest // 2)) for largest in LARGEST[ndim])
    options = {
        "boundary": boundary, "centering": ["vertex", "cell"][rng.integers(2)], "reaction": [0.0, 2.0][rng.integers(2)],
        "cycle": "VVWF"[rng.integers(4)], "start": ["fmg", "fmg", "zero"][rng.integers(3)], **SMOOTHINGS[rng.integers(4)],
        "rtol": 1e-7, "maxiter": 8, "compatibility": "project", "raise_on_failure": False,
    }  # fmt: skip
    f = rng.standard_normal(shape)
    expected = unigrid.solve(f, **options)
    found = unigrid.solve(torch.from_numpy(f), backend="triton", **options)
    assert (found.iterations, found.reason) == (expected.iterations, expected.reason), (number, options, found, expected)
    return relative(found.u.numpy(), expected.u)


def main():
    kind, first, last = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    hierarchy.COARSEST_UNKNOWNS = hierarchy.FEWEST_UNKNOWNS  # several levels on small grids
    worst, count = 0.0, 0
    for number in range(first, last):
        error = kernel_case(number) if kind == "kernels" else solve_case(number)
        assert_nothing_was_written_beyond()
        if error is None:
            continue
        dtype = np.float64 if kind == "solves" else drawn(number)[3]
        limit = TOLERANCES[dtype]
        assert error <= limit, f"case {number}: {error:.1e}, at most {limit:.1e}"
        worst, count = max(worst, error / limit), count + 1
    print(f"{count} cases, the largest error {worst:.2f} of what is allowed")


if __name__ == "__main__":
    main()
