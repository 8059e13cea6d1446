"""Problems of all kinds, drawn at random, and their equations: -div(a grad u) + c u = f, assembled here a second time.

Point by point and side by side, from the equation of each unknown; nothing of unigrid is used but `Poisson` to make the
problem that is to be compared.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import unigrid

SIDES = [
    ("periodic", "periodic"), ("dirichlet", "dirichlet"), ("neumann", "neumann"), ("dirichlet", "neumann"),
    ("neumann", "dirichlet"),
]  # fmt: skip
CONDITIONS = {"dirichlet": unigrid.Dirichlet, "neumann": unigrid.Neumann}
LARGEST = {1: 14, 2: 7, 3: 5}
COEFFICIENTS = ["none", "number", "per axis", "unknowns", "faces", "function"]
Pick = Callable[[Sequence[Any]], Any]


@dataclass(frozen=True)
class Case:
    """A problem, and the coefficient at each face in a form of its own."""

    options: dict[str, Any]  # of `unigrid.Poisson`
    shape: tuple[int, ...]
    spacing: tuple[float, ...]
    kinds: tuple[tuple[str, str], ...]
    values: tuple[tuple[Any, Any], ...]
    face: Callable[[int, tuple[int, ...], int], float]  # (axis, unknown, step): a at the face on that side
    reaction: Any
    mask: Any
    outside: Any

    @property
    def problem(self) -> unigrid.Poisson:
        return unigrid.Poisson(self.shape, **self.options)

    @property
    def halved(self) -> bool:
        """Whether an end node of an axis has half a volume: vertices with Neumann sides."""
        return self.options["centering"] == "vertex"

    @property
    def open(self) -> bool:
        """Whether no side gives a value of u."""
        return not any("dirichlet" in pair for pair in self.kinds)

    def assembled(self) -> tuple[Any, Any, Any]:
        """Return A, what the sides and the values outside of the mask add to f, and where there are unknowns (raveled).

        Rows and columns of points that are no unknowns are zero.
        """
        mask = np.ones(self.shape, bool) if self.mask is None else self.mask
        number = np.arange(mask.size).reshape(self.shape)
        A, added = np.zeros((mask.size, mask.size)), np.zeros(self.shape)
        for point in itertools.product(*map(range, self.shape)):
            if not mask[point]:
                continue
            own = number[point]
            A[own, own] += np.broadcast_to(self.reaction, self.shape)[point]
            for axis, (n, h, (low, high)) in enumerate(zip(self.shape, self.spacing, self.kinds, strict=True)):
                for step, side, opposite in ((-1, low, high), (1, high, low)):
                    place, behind = point[axis] + step, point[axis] - step
                    ends = not 0 <= place < n and side != "periodic"
                    # Half a volume lies behind the node: what flows through this face counts twice.
                    share = 2 if self.halved and opposite == "neumann" and not 0 <= behind < n else 1
                    weight = share * self.face(axis, point, step) / h**2
                    value = self.values[axis][step > 0]
                    value = value[point[:axis] + point[axis + 1 :]] if np.ndim(value) else value
                    if ends and side == "dirichlet":
                        weight *= 1 if self.halved else 2
                        A[own, own] += weight
                        added[point] += weight * value
                    elif ends:
                        added[point] += value * (2 if self.halved else 1) / h
                    else:
                        there = (*point[:axis], place % n, *point[axis + 1 :])
                        A[own, own] += weight
                        if mask[there]:
                            A[own, number[there]] -= weight
                        else:
                            added[point] += weight * np.broadcast_to(self.outside, self.shape)[there]
        return A, added, mask.ravel()


def draw_case(pick: Pick, rng: np.random.Generator, largest: dict[int, int] = LARGEST) -> Case:
    """Return a problem; `pick` chooses one of several, `rng` makes arrays."""
    ndim = pick([1, 2, 3])
    centering, kinds = pick(["vertex", "cell"]), tuple(pick(SIDES) for _ in range(ndim))
    fewest = [2 if (centering, pair) == ("vertex", SIDES[2]) else 1 for pair in kinds]
    shape = tuple(pick(range(few, largest[ndim] + 1)) for few in fewest)
    spacing = tuple(float(h) for h in rng.uniform(0.5, 2.0, ndim))
    values = tuple(tuple(_side_value(pick, rng, shape, axis) for _ in range(2)) for axis in range(ndim))
    spread = pick([0.3, 1.0, 4.0])
    coefficient, face = _coefficient(pick(COEFFICIENTS), rng, shape, spacing, kinds, centering, spread)
    reaction = pick([0.0, 0.0, 0.7, rng.random(shape) * pick([1e-3, 1.0, 1e3])])
    mask = pick([None, None, _mask(rng, shape)])
    outside = 0.0 if mask is None else pick([1.5, np.where(mask, np.nan, rng.standard_normal(shape))])
    boundary = [
        "periodic" if pair[0] == "periodic" else tuple(CONDITIONS[kind](v) for kind, v in zip(pair, two, strict=True))
        for pair, two in zip(kinds, values, strict=True)
    ]
    options = {
        "spacing": spacing, "boundary": boundary, "centering": centering, "coefficient": coefficient, "reaction": reaction,
        "mask": mask, "outside": outside,
    }  # fmt: skip
    return Case(options, shape, spacing, kinds, values, face, reaction, mask, outside)


def _side_value(pick: Pick, rng: np.random.Generator, shape: tuple[int, ...], axis: int) -> Any:
    return pick([0.0, float(rng.standard_normal()), rng.standard_normal(shape[:axis] + shape[axis + 1 :])])


def _mask(rng: np.random.Generator, shape: tuple[int, ...]) -> Any:
    mask = rng.random(shape) < rng.uniform(0.2, 1.0)
    mask.flat[rng.integers(mask.size)] = True
    return mask


def _coefficient(kind, rng, shape, spacing, kinds, centering, spread):
    """Return a coefficient as `Poisson` takes it, and as a function of axis, unknown and step."""
    ndim = len(shape)
    if kind in ("none", "number", "per axis"):
        per_axis = np.exp(spread * rng.standard_normal(ndim if kind == "per axis" else 1)) if kind != "none" else np.ones(1)
        given = {"none": None, "number": float(per_axis[0]), "per axis": tuple(per_axis)}[kind]
        return given, lambda axis, point, step: np.broadcast_to(per_axis, ndim)[axis]
    if kind == "unknowns":
        a = np.exp(spread * rng.standard_normal(shape))
        return a, lambda axis, point, step: _between(a, axis, point, step, kinds[axis], centering)
    closed = [[side == "dirichlet" or centering == "cell" for side in pair] for pair in kinds]
    if kind == "faces":
        counts = [n if pair[0] == "periodic" else n - 1 + sum(ends) for n, pair, ends in zip(shape, kinds, closed, strict=True)]
        faces = tuple(
            np.exp(spread * rng.standard_normal((*shape[:axis], counts[axis], *shape[axis + 1 :]))) for axis in range(ndim)
        )

        def face(axis, point, step):
            at = point[axis] + (step > 0) - 1 + (closed[axis][0] and kinds[axis][0] != "periodic")
            at = at % counts[axis] if kinds[axis][0] == "periodic" else min(max(at, 0), counts[axis] - 1)
            return faces[axis][(*point[:axis], at, *point[axis + 1 :])]

        return faces, face
    low_at = [0.5 if centering == "cell" else float(pair[0] == "dirichlet") for pair in kinds]
    lengths = [h * n for n, h in zip(shape, spacing, strict=True)]
    phases = rng.uniform(0, 6, ndim)

    def function(*x):
        waves = [np.sin(2 * np.pi * each / length + phase) for each, length, phase in zip(x, lengths, phases, strict=True)]
        return np.exp(0.5 * sum(waves))

    def at_face(axis, point, step):
        x = [(i + low) * h for i, low, h in zip(point, low_at, spacing, strict=True)]
        x[axis] += step * spacing[axis] / 2
        return function(*x)

    return function, at_face


def _between(a, axis, point, step, pair, centering):
    """Return the face value of coefficients at the unknowns: harmonic means, at sides what lies beyond."""
    n, i = a.shape[axis], point[axis]
    row = a[(*point[:axis], slice(None), *point[axis + 1 :])]
    if 0 <= i + step < n or pair[0] == "periodic":
        beyond = row[(i + step) % n]
        return 2 * row[i] * beyond / (row[i] + beyond)
    inner = row[i - step] if n > 1 else row[i]
    smooth = max(row[i], inner) < 2 * min(row[i], inner)
    side = row[i] + (0.5 if centering == "cell" else 1.0) * (row[i] - inner) * smooth
    return side if centering == "cell" else 2 * row[i] * side / (row[i] + side)
