"""Problems with coefficients that vary, -div(a grad u) = f, as the literature has them: arguments of `unigrid.solve`.

On the unit square (cube), one coefficient per cell: cells are the unknowns ("cell", faces by the harmonic mean), or lie between
vertices ("vertex", edges by the mean of the cells beside them).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Array = np.ndarray
Arguments = dict[str, Any]
JUMP = 1e6
MIXED = [("dirichlet", "neumann"), ("neumann", "dirichlet")]
SIDES: dict[str, tuple[Any, str]] = {
    "Dirichlet, vertex": ("dirichlet", "vertex"),
    "Dirichlet, cell": ("dirichlet", "cell"),
    "Neumann, vertex": ("neumann", "vertex"),
    "Neumann, cell": ("neumann", "cell"),
    "periodic, vertex": ("periodic", "vertex"),
    "periodic, cell": ("periodic", "cell"),
    "mixed, vertex": (MIXED, "vertex"),
    "mixed, cell": (MIXED, "cell"),
    "mixed and periodic, cell": ([("dirichlet", "neumann"), "periodic"], "cell"),
}


def channels(m: int, jump: float) -> Array:
    """Return 2 of every 16 rows conducting, bent along a sine."""
    shift = np.rint(4 * np.sin(2 * np.pi * np.arange(m) / m)).astype(int)
    return np.where((np.arange(m)[:, None] - shift[None, :]) % 16 < 2, jump, 1.0)


def cells(name: str, m: int, jump: float = JUMP, ndim: int = 2) -> Array:
    """Return the coefficient of a problem, one number per cell."""
    points = np.meshgrid(*[(np.arange(m) + 0.5) / m] * ndim, indexing="ij", sparse=True)
    x, y = points[:2]
    shape, rng, blocks = (m,) * ndim, np.random.default_rng(0), np.arange(m) // 8 % 2
    inside = np.broadcast_to(np.all(np.broadcast_arrays(*(abs(each - 0.5) < 0.25 for each in points)), axis=0), shape)
    middle = (slice(m // 4 + 1, 3 * m // 4 - 1),) * ndim
    made: dict[str, Callable[[], Array]] = {
        "Poisson": lambda: np.ones(shape),
        "smooth": lambda: np.broadcast_to(1.0 + 0.5 * np.sin(3 * x) * np.cos(2 * y), shape).copy(),
        "quadrant": lambda: np.broadcast_to(np.where((x < 0.5) ^ (y < 0.5), jump, 1.0), shape).copy(),
        "inclusion": lambda: np.where(inside, jump, 1.0),
        "shifted": lambda: _with(np.ones(shape), middle, jump),  # its sides lie on no coarse line
        "staircase": lambda: np.where(np.floor(8 * y) > np.floor(8 * x), jump, 1.0),
        "channels": lambda: channels(m, jump),
        "lognormal 1": lambda: np.exp(rng.standard_normal(shape)),
        "lognormal 2": lambda: np.exp(2 * rng.standard_normal(shape)),
        "checker8": lambda: np.where(blocks[:, None] ^ blocks[None, :], jump, 1.0),
        "bernoulli": lambda: np.where(rng.random(shape) < 0.5, 1e3, 1.0),
    }
    return made[name]()


def _with(array: Array, where: Any, value: float) -> Array:
    array[where] = value
    return array


def on_sides(coefficient: Callable[[int], Array], sides: str, n: int, ndim: int = 2) -> Arguments:
    """Return the arguments for n unknowns per axis; `coefficient` returns that of so many cells per axis."""
    boundary, centering = SIDES[sides]
    if centering == "cell":
        return {"boundary": boundary, "centering": centering, "coefficient": coefficient(n)}
    pairs = [
        (each, each) if isinstance(each, str) else each
        for each in (boundary if isinstance(boundary, list) else [boundary] * ndim)
    ]
    a = coefficient(n if pairs[0][0] == "periodic" else n + 1)
    faces = []
    for axis, ends in enumerate(pairs):
        edges = a
        for other in range(ndim):
            if other != axis and ends[0] == "periodic":
                edges = (edges + np.roll(edges, 1, axis=other)) / 2
            elif other != axis:
                count = edges.shape[other]
                edges = (edges.take(range(1, count), axis=other) + edges.take(range(count - 1), axis=other)) / 2
        kept = range(ends[0] == "neumann", edges.shape[axis] - (ends[1] == "neumann"))
        faces.append(edges.take(kept, axis=axis))
    return {"boundary": boundary, "centering": centering, "coefficient": tuple(faces)}


# --- anisotropy -------------------------------------------------------------------------------------------------------


def turned(where: str, ratio: float, jump: str, centering: str, boundary: Any, n: int) -> Arguments:
    """Return a problem with one axis `ratio` times weaker (stronger) than the other, which one depending on the place.

    where : "aligned" (the same everywhere), "halves" (turning at x = 1/2), "quarters" (at x = 1/2 and y = 1/2), "smooth"
    jump : "none", or "quarters": times 1e3 in two quarters
    """
    ends = (np.arange(n + 1)) / n if centering == "cell" else (np.arange(n + 1) + 0.5) / (n + 1)
    inner = (np.arange(n) + 0.5) / n if centering == "cell" else np.arange(1, n + 1) / (n + 1)
    faces = []
    for axis in range(2):
        x, y = np.meshgrid(*((ends if axis == each else inner) for each in range(2)), indexing="ij")
        quarter = (x < 0.5) ^ (y < 0.5)
        first = {"aligned": x >= 0, "halves": x < 0.5, "quarters": quarter}.get(where)
        strength = ratio ** (x if axis == 0 else y) if first is None else np.where(first == (axis == 0), ratio, 1.0)
        faces.append(strength * np.where(quarter & (jump == "quarters"), 1e3, 1.0))
    return {"boundary": boundary, "centering": centering, "coefficient": tuple(_of_sides(faces, boundary, centering))}


def _of_sides(faces: list[Array], boundary: Any, centering: str) -> list[Array]:
    if boundary == "periodic":
        return [face.take(range(1, face.shape[axis]), axis=axis) for axis, face in enumerate(faces)]
    inner = boundary == "neumann" and centering == "vertex"
    return [face.take(range(1, face.shape[axis] - 1), axis=axis) if inner else face for axis, face in enumerate(faces)]


def stretched(largest: float, axes: int, n: int) -> Arguments:
    """Return -div(a grad u) = f on cells whose widths grow geometrically to `largest` times the first, along so many axes.

    The equation times the volumes, on equal cells: a_face area / distance as the coefficient.
    """
    widths = [largest ** (np.arange(n) / (n - 1)) if axis < axes else np.ones(n) for axis in range(2)]
    widths = [each / each.sum() for each in widths]
    centers = [each.cumsum() - each / 2 for each in widths]
    faces = []
    for axis in range(2):
        own = widths[axis]
        distances = np.concatenate([own[:1], (own[1:] + own[:-1]) / 2, own[-1:]])
        ends = np.concatenate([[0.0], own.cumsum()])
        x, y = np.meshgrid(*((ends if axis == each else centers[each]) for each in range(2)), indexing="ij")
        a = 1 + 0.5 * np.sin(6 * x) * np.cos(5 * y)
        area = np.expand_dims(widths[1 - axis], axis)
        faces.append(a * area / np.expand_dims(distances, 1 - axis))
    return {"centering": "cell", "coefficient": tuple(faces)}
