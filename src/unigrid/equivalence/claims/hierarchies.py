"""The equivalences between classical hierarchies and networks, each with the cases it is tried on."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..conv.levels import ConvCycle, LevelState, traced
from ..conv.mgnet import MgNet
from ..cycle import MultigridCycle, Smoother
from ..stencil.hierarchy import StencilCycle
from ..stencil.learned import LearnedSmoother
from ..stencil.problem import Poisson
from ..stencil.smoothers import Chebyshev, Jacobi, RedBlack
from .arrays import to_stencil
from .claims import Case, Claim, Side
from .stencils import to_conv

Array = NDArray[Any]
CYCLES = 10
PROBLEMS: dict[str, dict[str, Any]] = {
    "15 x 31 vertices, Dirichlet": {"shape": (15, 31), "spacing": 1.0},
    "31 x 31 vertices, Dirichlet": {"shape": (31, 31)},
    "32 x 32 vertices, periodic, c > 0": {"shape": (32, 32), "boundary": "periodic", "reaction": 1.0},
    "17 x 16 vertices, mixed sides": {"shape": (17, 16), "boundary": ["neumann", ("dirichlet", "neumann")]},
    "16 x 32 cells, mixed sides": {"shape": (16, 32), "boundary": [("neumann", "dirichlet"), "periodic"], "centering": "cell"},
}
DOWN_ONLY: dict[str, Any] = {"pre": 2, "post": 0}
BOTH_WAYS: dict[str, Any] = {"pre": 2, "post": 1}


def _smoothers(seed: int) -> dict[str, Smoother]:
    """Return every smoother that is a convolution; the numbers of the learned one are drawn."""
    kernels = 0.03 * np.random.default_rng(seed).standard_normal((1, 2, 3, 3))
    kernels[:, 0, 1, 1] += 0.8
    return {
        "Jacobi": Jacobi(0.8),
        "Chebyshev": Chebyshev(3),
        "red-black": RedBlack(1.15),
        "learned": LearnedSmoother(kernels),
    }


def _cycles(seed: int) -> Iterator[tuple[str, StencilCycle]]:
    """Yield hierarchies: every problem with every smoother, down only and V, with and without Pi in turn; W and F too."""
    kinds: dict[str, Mapping[str, Any]] = {
        "\\": DOWN_ONLY,
        "V": BOTH_WAYS,
        "\\, Pi": {**DOWN_ONLY, "state_transfer": "injection"},
        "V, Pi": {**BOTH_WAYS, "state_transfer": "full-weighting"},
    }
    pairs = itertools.product(_smoothers(seed).items(), PROBLEMS.items())  # five problems, four kinds: all pairs come by
    for ((name, smoother), (problem, options)), (kind, slots) in zip(pairs, itertools.cycle(kinds.items()), strict=False):
        yield f"{kind}, {name}, {problem}, seed {seed}", StencilCycle(Poisson(**options), smoother=smoother, **slots)
    for kind in ("W", "F"):
        problem = Poisson((31, 31))
        yield f"{kind}, 31 x 31 vertices, seed {seed}", StencilCycle(problem, cycle=kind, state_transfer="injection")


def _image(array: Array) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array))[None, None]


def _array(image: Tensor) -> Array:
    array: Array = image[0, 0].numpy()
    return array


def iterates_of_arrays(cycle: Any, f: Tensor) -> list[Tensor]:
    """Return u after each of ten cycles on arrays."""
    data, u, found = _array(f), None, []
    for _ in range(CYCLES):
        u = cycle(data, u)
        found.append(_image(u))
    return found


def iterates_of_tensors(network: ConvCycle, f: Tensor) -> list[Tensor]:
    """Return u after each of ten cycles on tensors."""
    u, found = None, []
    for _ in range(CYCLES):
        u = network(f, u)
        found.append(u)
    return found


def _iterates(seed: int) -> Iterator[Case]:
    random = np.random.default_rng(seed)
    for name, cycle in _cycles(seed):
        f = _image(random.standard_normal(cycle.problem.shape))
        yield Case(name, Side(cycle, iterates_of_arrays), Side(to_conv(cycle), iterates_of_tensors), (f,))


def levels_of_arrays(cycle: MultigridCycle, f: Tensor, u: Tensor) -> list[Tensor]:
    """Return f, u and A u of every level after a cycle on arrays, and what every slot makes of its level's f."""
    found: list[Tensor] = []
    for level, state in zip(cycle.levels, traced(cycle, _array(f), _array(u))[1], strict=True):
        found += [_image(value) for value in (*_kept(state), *_slots(level, state.data))]
    return found


def levels_of_tensors(network: ConvCycle, f: Tensor, u: Tensor) -> list[Tensor]:
    """Return the same of a network."""
    found: list[Tensor] = []
    for level, state in zip(network.levels, traced(network, f, u)[1], strict=True):
        found += [*_kept(state), *_slots(level, state.data)]
    return found


def _kept(state: LevelState) -> tuple[Any, ...]:
    """Return f, u and A u; f - A u itself is rounding alone where a level has been solved, and would say nothing."""
    return state.data, state.features, state.data - state.residual


def _slots(level: Any, f: Any) -> list[Any]:
    """Return what each slot of a level makes of f, tensor or array alike; f has a size that all but P take."""
    made = [level.operator(f), level.smoother(level.operator, f, None)]
    for name in ("restriction", "state_transfer"):
        transfer = getattr(level, name, None)
        if transfer is not None:
            made.append(transfer(f))
    if getattr(level, "prolongation", None) is not None:
        made.append(level.prolongation(level.restriction(f)))
    if level.post_smoother is not None:
        made.append(level.post_smoother(level.operator, f, f))
    return made


def _levels(seed: int) -> Iterator[Case]:
    random = np.random.default_rng(seed)
    for name, cycle in _cycles(seed):
        f, u = (_image(random.standard_normal(cycle.problem.shape)) for _ in range(2))
        yield Case(name, Side(cycle, levels_of_arrays), Side(to_conv(cycle), levels_of_tensors), (f, u))


def _linear_mgnets() -> Iterator[tuple[str, MgNet]]:
    """Yield MgNets of one channel with nothing but convolutions, their weights random."""
    plain: dict[str, Any] = {
        "features": 1, "in_channels": 1, "steps": (2, 3, 1), "norms": "none", "activation": "identity",
        "transfer_norms": False, "transfer_activation": False, "extractor_sharing": "scaled",
    }  # fmt: skip
    choices = itertools.product(
        ("\\", "V"), ("none", "chebyshev"), ("convolution", "channelwise", "zero"), ("zeros", "circular")
    )
    for cycle, semi_iteration, state_transfer, padding in choices:
        mgnet = MgNet(
            cycle=cycle, semi_iteration=semi_iteration, state_transfer=state_transfer, padding=padding, **plain
        ).double()
        for parameter in mgnet.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
        yield f"{cycle}, {semi_iteration}, Pi {state_transfer}, {padding}", mgnet


def _back(seed: int) -> Iterator[Case]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        networks = [(name, mgnet.cycle) for name, mgnet in _linear_mgnets()]
        sizes = {
            (rows, columns): torch.randn(1, 1, rows, columns, dtype=torch.float64) for rows, columns in ((16, 32), (24, 8))
        }
    for (name, network), (size, f) in itertools.product(networks, sizes.items()):
        left, right = Side(network, _one_of_tensors), Side(to_stencil(network), _one_of_arrays)
        yield Case(f"{name}, {size[0]} x {size[1]}, seed {seed}", left, right, (f,))


def _one_of_tensors(network: ConvCycle, f: Tensor) -> Tensor:
    result: Tensor = network(f)
    return result


def _one_of_arrays(cycle: Any, f: Tensor) -> Tensor:
    return _image(cycle(_array(f)))


def _round_trip(seed: int) -> Iterator[Case]:
    random = np.random.default_rng(seed)
    for name, cycle in _cycles(seed):
        network = to_conv(cycle)
        f = _image(random.standard_normal(cycle.problem.shape))
        yield Case(name, Side(network, iterates_of_tensors), Side(to_stencil(network), iterates_of_arrays), (f,))


NESTED = (
    "linear A; grids that nest: 2^k - 1 Dirichlet, 2^k + 1 Neumann, 2^k periodic or cells; \\, V, W, F, with and without Pi"
)
STENCIL_CLAIMS = (
    Claim("a classical hierarchy is a network: to_conv", NESTED, f"u after each of {CYCLES} cycles", _iterates),
    Claim("and it is so slot by slot", NESTED, "f, u and A u of each level; A, S, R, Pi, P on its f", _levels),
    Claim("and back: to_stencil(to_conv(cycle))", NESTED, f"u after each of {CYCLES} cycles", _round_trip),
    Claim(
        "a linear MgNet of one channel is a multigrid method: to_stencil",
        "no norm, no activation, one channel; any weights; \\ and V, with and without Pi, semi-iteration too",
        "u after one cycle",
        _back,
    ),
)
