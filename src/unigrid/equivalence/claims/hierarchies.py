"""The equivalences between classical hierarchies and networks, each with the cases it is tried on."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...conv.levels import ConvCycle, traced
from ...conv.mgnet import MgNet
from ...cycle import MultigridCycle, Smoother
from ...stencil.cycle import StencilCycle
from ...stencil.learned import LearnedSmoother
from ...stencil.problem import Poisson
from ...stencil.smoothers import Chebyshev, Jacobi, RedBlack
from ..arrays import to_stencil
from ..stencils import to_conv
from .claim import Case, Claim, Side

CYCLES = 10
PROBLEMS: dict[str, dict[str, Any]] = {
    "15 x 31 vertices, Dirichlet": {"shape": (15, 31), "spacing": 1.0},
    "31 x 31 vertices, Dirichlet": {"shape": (31, 31)},
    "32 x 32 vertices, periodic, c > 0": {"shape": (32, 32), "boundary": "periodic", "reaction": 1.0},
    "17 x 16 vertices, mixed sides": {"shape": (17, 16), "boundary": ["neumann", ("dirichlet", "neumann")]},
    "16 x 32 cells, mixed sides": {"shape": (16, 32), "boundary": [("neumann", "dirichlet"), "periodic"], "centering": "cell"},
}
KINDS: dict[str, dict[str, Any]] = {
    "\\": {"pre": 2, "post": 0},
    "V": {"pre": 2, "post": 1},
    "\\, Pi": {"pre": 2, "post": 0, "state_transfer": "injection"},
    "V, Pi": {"pre": 2, "post": 1, "state_transfer": "full-weighting"},
}


def _smoothers(seed: int) -> dict[str, Smoother]:
    """Return every smoother that is a convolution; the weights of the learned one are drawn."""
    kernels = 0.03 * np.random.default_rng(seed).standard_normal((1, 2, 3, 3))
    kernels[:, 0, 1, 1] += 0.8
    return {
        "Jacobi": Jacobi(0.8),
        "Chebyshev": Chebyshev(3),
        "red-black": RedBlack(1.15),
        "learned": LearnedSmoother(kernels),
    }


@lru_cache(maxsize=1)
def hierarchies(seed: int) -> list[tuple[str, StencilCycle, ConvCycle]]:
    """Return every problem with every smoother, and the network of each, made once for the claims that share it.

    The kinds of cycle come in turn; five problems and four kinds meet in all pairs.
    """
    made = []
    pairs = itertools.product(_smoothers(seed).items(), PROBLEMS.items())
    for ((name, smoother), (problem, options)), (kind, slots) in zip(pairs, itertools.cycle(KINDS.items()), strict=False):
        cycle = StencilCycle(Poisson(**options), smoother=smoother, **slots)
        made.append((f"{kind}, {name}, {problem}, seed {seed}", cycle))
    for kind in ("W", "F"):
        cycle = StencilCycle(Poisson((31, 31)), cycle=kind, state_transfer="injection")
        made.append((f"{kind}, 31 x 31 vertices, seed {seed}", cycle))
    return [(name, cycle, to_conv(cycle)) for name, cycle in made]


def _linear_mgnets() -> Iterator[tuple[str, MgNet]]:
    """Yield MgNets of one channel with nothing but convolutions, their weights random."""
    names = "cycle", "semi_iteration", "state_transfer", "padding"
    values = ("\\", "V"), ("none", "chebyshev"), ("convolution", "channelwise", "zero"), ("zeros", "circular")
    for cycle, semi_iteration, pi, padding in itertools.product(*values):
        choices: Any = dict(zip(names, (cycle, semi_iteration, pi, padding), strict=True))
        mgnet = MgNet(
            features=1, in_channels=1, steps=(2, 3, 1), norms="none", activation="identity", transfer_norms=False,
            transfer_activation=False, extractor_sharing="scaled", **choices,
        ).double()  # fmt: skip
        for parameter in mgnet.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
        yield f"{cycle}, {semi_iteration}, Pi {pi}, {padding}", mgnet


# ------------------------------------------------------ compared outputs: networks run on tensors, other cycles on arrays


def _for(cycle: Any, image: Tensor) -> Any:
    return image if isinstance(cycle, ConvCycle) else image[0, 0].numpy()


def _image(values: Any) -> Tensor:
    return values if isinstance(values, Tensor) else torch.from_numpy(np.ascontiguousarray(values))[None, None]


def _iterates(cycle: Any, f: Tensor, count: int = CYCLES) -> list[Tensor]:
    """Return u after each of `count` cycles."""
    u, found = None, []
    for _ in range(count):
        u = cycle(_for(cycle, f), u)
        found.append(_image(u))
    return found


def _levels(cycle: MultigridCycle, f: Tensor, u: Tensor) -> list[Tensor]:
    """Return f, u and A u of every level after a cycle, and every slot applied to its level's f.

    A u in place of f - A u: where a level has been solved, the latter is rounding alone.
    """
    found: list[Any] = []
    for level, state in zip(cycle.levels, traced(cycle, _for(cycle, f), _for(cycle, u))[1], strict=True):
        found += [state.data, state.features, state.data - state.residual, *_slots(level, state.data)]
    return [_image(values) for values in found]


def _slots(level: Any, f: Any) -> Iterator[Any]:
    """Yield the result of each slot of a level for f, a tensor or an array; for P, of a coarser one."""
    yield level.operator(f)
    yield level.smoother(level.operator, f, None)
    for transfer in (level.restriction, level.state_transfer):
        if transfer is not None:
            yield transfer(f)
    if level.prolongation is not None:
        yield level.prolongation(level.restriction(f))
    if level.post_smoother is not None:
        yield level.post_smoother(level.operator, f, f)


# --------------------------------------------------------------------------------------------------------------- the cases


def _cases(
    sides: Callable[[StencilCycle, ConvCycle], tuple[Any, Any]],
    compared: Callable[..., list[Tensor]] = _iterates,
    inputs: int = 1,
) -> Callable[[int], Iterator[Case]]:
    """Return the cases that compare two forms of every hierarchy on random f, and u where there are two inputs."""

    def cases(seed: int) -> Iterator[Case]:
        random = np.random.default_rng(seed)
        for name, cycle, made in hierarchies(seed):
            arrays = tuple(_image(random.standard_normal(cycle.problem.shape)) for _ in range(inputs))
            left, right = sides(cycle, made)
            yield Case(name, Side(left, compared), Side(right, compared), arrays)

    return cases


def _linear_cases(seed: int) -> Iterator[Case]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        cycles = [(name, mgnet.cycle) for name, mgnet in _linear_mgnets()]
        images = [torch.randn(1, 1, rows, columns, dtype=torch.float64) for rows, columns in ((16, 32), (24, 8))]
    one = partial(_iterates, count=1)
    for (name, cycle), f in itertools.product(cycles, images):
        size = f"{f.shape[2]} x {f.shape[3]}"
        yield Case(f"{name}, {size}, seed {seed}", Side(cycle, one), Side(to_stencil(cycle), one), (f,))


NESTED = (
    "linear A; grids that nest: 2^k - 1 Dirichlet, 2^k + 1 Neumann, 2^k periodic or cells; \\, V, W, F, with and without Pi"
)
HIERARCHY_CLAIMS = (
    Claim(
        "a classical hierarchy is a network: to_conv",
        NESTED,
        f"u after each of {CYCLES} cycles",
        _cases(lambda cycle, made: (cycle, made)),
    ),
    Claim(
        "and it is so slot by slot",
        NESTED,
        "f, u and A u of each level; A, S, R, Pi, P on its f",
        _cases(lambda cycle, made: (cycle, made), _levels, inputs=2),
    ),
    Claim(
        "and back: to_stencil(to_conv(cycle))",
        NESTED,
        f"u after each of {CYCLES} cycles",
        _cases(lambda cycle, made: (made, to_stencil(made))),
    ),
    Claim(
        "a linear MgNet of one channel is a multigrid method: to_stencil",
        "no norm, no activation, one channel; any weights; \\ and V, with and without Pi, semi-iteration too",
        "u after one cycle",
        _linear_cases,
    ),
)
