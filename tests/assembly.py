"""Problems of all kinds, drawn at random, and their equations: -div(a grad u) + c u = f, assembled here a second time.

Point by point and side by side, from the balance of each unknown's cell; nothing of unigrid is used but `Poisson` to make the
problem that is to be compared.
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import unigrid

PERIODIC = ("periodic", "periodic")
SIDES = [PERIODIC, *itertools.product(["dirichlet", "neumann", "robin"], repeat=2)]
LARGEST = {1: 14, 2: 7, 3: 5}
COEFFICIENTS = ["none", "number", "per axis", "unknowns", "faces", "function", "functions"]
HAS = {name: name in inspect.signature(unigrid.Poisson).parameters for name in ("fixed",)}
HAS["robin"] = hasattr(unigrid, "Robin")
Pick = Callable[[Sequence[Any]], Any]


@dataclass(frozen=True)
class Line:
    """The geometry of an axis: of each unknown its place, the length of its cell, and the distances before and behind it.

    At a node on a side, which has half a cell, there is no distance beyond: 0.
    """

    kinds: tuple[str, str]
    x: Any
    cells: Any
    before: Any
    behind: Any
    vertex: bool
    length: float

    @staticmethod
    def of(n: int, spacing: Any, kinds: tuple[str, str], centering: str) -> Line:
        vertex = centering == "vertex"
        distances = np.broadcast_to(np.asarray(spacing, float), count_of(n, kinds, centering))
        lines = np.concatenate([[0.0], np.cumsum(distances)])
        if not vertex:
            between = (distances[:-1] + distances[1:]) / 2
            ends = [(distances[0] + distances[-1]) / 2] * 2 if kinds == PERIODIC else [distances[0] / 2, distances[-1] / 2]
            steps = np.concatenate([ends[:1], between, ends[1:]])
            return Line(kinds, (lines[:-1] + lines[1:]) / 2, distances, steps[:-1], steps[1:], vertex, lines[-1])
        if kinds == PERIODIC:
            steps, x = np.concatenate([distances[-1:], distances]), lines[:-1]
        else:
            node = [kind != "dirichlet" for kind in kinds]
            steps = np.concatenate([[0.0] * node[0], distances, [0.0] * node[1]])
            x = lines[0 if node[0] else 1 :][:n]
        return Line(kinds, x, (steps[:-1] + steps[1:]) / 2, steps[:-1], steps[1:], vertex, lines[-1])

    def to_face(self, i: int, step: int) -> float:
        """Return the distance from unknown i to its face on one side."""
        return self.cells[i] / 2 if not self.vertex else (self.before if step < 0 else self.behind)[i] / 2


def count_of(n: int, kinds: tuple[str, str], centering: str) -> int:
    """Return how many distances a stretched axis has."""
    return n if centering == "cell" or kinds == PERIODIC else n - 1 + kinds.count("dirichlet")


@dataclass(frozen=True)
class Case:
    """A problem, and the coefficient at each face in a form of its own."""

    options: dict[str, Any]  # of `unigrid.Poisson`
    shape: tuple[int, ...]
    lines: tuple[Line, ...]
    values: tuple[tuple[Any, Any], ...]  # per axis and side: value or flux
    alphas: tuple[tuple[Any, Any], ...]
    face: Callable[[int, tuple[int, ...], int], float]  # (axis, unknown, step): a at the face on that side
    reaction: Any
    unknown: Any
    given: Any  # u where there is no unknown; NaN where there is nothing

    @property
    def problem(self) -> unigrid.Poisson:
        return unigrid.Poisson(self.shape, **self.options)

    @property
    def volumes(self) -> Any:
        """The volume of each unknown's cell."""
        volumes = np.ones(())
        for line in self.lines:
            volumes = np.multiply.outer(volumes, line.cells)
        return volumes

    def assembled(self) -> tuple[Any, Any]:
        """Return A, and what the sides and the given values add to f. Rows of points that are no unknowns are zero."""
        number = np.arange(self.unknown.size).reshape(self.shape)
        reaction = np.broadcast_to(self.reaction, self.shape)
        A, added = np.zeros((self.unknown.size,) * 2), np.zeros(self.shape)
        for point in zip(*np.nonzero(self.unknown), strict=True):
            own = number[point]
            A[own, own] += reaction[point]
            for axis, (n, line) in enumerate(zip(self.shape, self.lines, strict=True)):
                i, beside = point[axis], (*point[:axis], *point[axis + 1 :])
                for step in (-1, 1):
                    kind, value, alpha = (each[step > 0] for each in (line.kinds, self.values[axis], self.alphas[axis]))
                    value, alpha = (each[beside] if np.ndim(each) else each for each in (value, alpha))
                    distance = (line.before if step < 0 else line.behind)[i]
                    inner = 0 <= i + step < n or kind == "periodic"
                    a = self.face(axis, point, step) if inner or kind != "neumann" else np.nan
                    there = (*point[:axis], (i + step) % n, *point[axis + 1 :])
                    if not inner and kind == "neumann":
                        added[point] += value / line.cells[i]
                    elif not inner and kind == "robin":  # what enters, value - alpha u on the side, crosses half a cell
                        passed = 1.0 if line.vertex else 1.0 / (1.0 + alpha * distance / a)
                        A[own, own] += alpha * passed / line.cells[i]
                        added[point] += value * passed / line.cells[i]
                    elif not inner or (not self.unknown[there] and not np.isnan(self.given[there])):
                        A[own, own] += a / distance / line.cells[i]
                        added[point] += a / distance / line.cells[i] * (self.given[there] if inner else value)
                    elif self.unknown[there]:
                        A[own, own] += a / distance / line.cells[i]
                        A[own, number[there]] -= a / distance / line.cells[i]
        return A, added


def draw_case(pick: Pick, rng: np.random.Generator, largest: dict[int, int] = LARGEST) -> Case:
    """Return a problem; `pick` chooses one of several, `rng` makes arrays."""
    ndim = pick([1, 2, 3])
    centering = pick(["vertex", "cell"])
    allowed = [pair for pair in SIDES if HAS["robin"] or "robin" not in pair]
    kinds = tuple(pick(allowed) for _ in range(ndim))
    fewest = [2 if centering == "vertex" and not {"periodic", "dirichlet"} & {*pair} else 1 for pair in kinds]
    shape = tuple(pick(range(few, largest[ndim] + 1)) for few in fewest)
    stretched = HAS["robin"] and pick([False, False, True])
    spacing = tuple(
        rng.uniform(0.5, 2.0, count_of(n, pair, centering))
        if stretched and pick([True, False])
        else float(rng.uniform(0.5, 2.0))
        for n, pair in zip(shape, kinds, strict=True)
    )
    lines = tuple(Line.of(n, h, pair, centering) for n, h, pair in zip(shape, spacing, kinds, strict=True))
    values, alphas = (
        tuple(tuple(_side_value(pick, rng, shape, axis, least) for _ in range(2)) for axis in range(ndim))
        for least in (-np.inf, 0.1)
    )
    # Nodes on a side take no alpha that is many times a / h.
    spread = pick([0.3, 1.0, *([] if any("robin" in pair for pair in kinds) else [4.0])])
    kind = pick([each for each in COEFFICIENTS if HAS["robin"] or each != "functions"])
    coefficient, face = _coefficient(kind, rng, shape, lines, spread)
    reaction = pick([0.0, 0.0, 0.7, rng.random(shape) * pick([1e-3, 1.0, 1e3])])
    region, unknown, given = _region(pick, rng, shape)
    boundary = [
        "periodic" if pair == PERIODIC else tuple(_condition(*each) for each in zip(pair, *two, strict=True))
        for pair, *two in zip(kinds, values, alphas, strict=True)
    ]
    options = {
        "spacing": spacing, "boundary": boundary, "centering": centering, "coefficient": coefficient, "reaction": reaction,
        **region,
    }  # fmt: skip
    return Case(options, shape, lines, values, alphas, face, reaction, unknown, given)


def _condition(kind: str, value: Any, alpha: Any) -> Any:
    if kind == "robin":
        return unigrid.Robin(alpha, value)
    return unigrid.Dirichlet(value) if kind == "dirichlet" else unigrid.Neumann(value)


def _side_value(pick: Pick, rng: np.random.Generator, shape: tuple[int, ...], axis: int, least: float) -> Any:
    array = rng.standard_normal(shape[:axis] + shape[axis + 1 :])
    drawn = pick([0.0, float(rng.standard_normal()), array])
    return drawn if least < 0 else np.maximum(np.abs(drawn), least)


def _region(pick: Pick, rng: np.random.Generator, shape: tuple[int, ...]) -> tuple[dict[str, Any], Any, Any]:
    """Return mask, outside and fixed as `Poisson` takes them, where there are unknowns, and what u is elsewhere."""
    kind = pick(["box", "box", "given", *(["natural", "fixed", "both"] if HAS["fixed"] else [])])
    mask, given = np.ones(shape, bool), np.full(shape, np.nan)
    if kind != "box":
        mask = rng.random(shape) < rng.uniform(0.3, 1.0)
        mask.flat[rng.integers(mask.size)] = True
    region: dict[str, Any] = {} if kind in ("box", "fixed") else {"mask": mask}
    if kind == "fixed":
        mask[...] = True
    if kind == "given":
        region["outside"] = pick([1.5, np.where(mask, np.nan, rng.standard_normal(shape))])
        given[~mask] = np.broadcast_to(region["outside"], shape)[~mask]
    elif kind in ("natural", "both"):
        region["outside"] = "natural"
    unknown = mask.copy()
    if kind in ("fixed", "both"):
        where = mask & (rng.random(shape) < 0.2)
        where.flat[np.flatnonzero(mask)[0]] = False
        values = pick([-0.5, rng.standard_normal(shape)])
        region["fixed"], unknown = (where, values), mask & ~where
        given[where] = np.broadcast_to(values, shape)[where]
    return region, unknown, given


def _coefficient(kind, rng, shape, lines, spread):
    """Return a coefficient as `Poisson` takes it, and as a function of axis, unknown and step."""
    ndim = len(shape)
    if kind in ("none", "number", "per axis"):
        per_axis = np.exp(spread * rng.standard_normal(ndim if kind == "per axis" else 1)) if kind != "none" else np.ones(1)
        given = {"none": None, "number": float(per_axis[0]), "per axis": tuple(per_axis)}[kind]
        return given, lambda axis, point, step: np.broadcast_to(per_axis, ndim)[axis]
    if kind == "unknowns":
        a = np.exp(spread * rng.standard_normal(shape))
        return a, lambda axis, point, step: _between(a, axis, point, step, lines[axis])
    if kind == "faces":
        return _at_faces(rng, shape, lines, spread)
    phases = rng.uniform(0, 6, (ndim if kind == "functions" else 1, ndim))

    def function(phase):
        def a(*x):
            waves = [np.sin(2 * np.pi * each / line.length + shift) for each, line, shift in zip(x, lines, phase, strict=True)]
            return np.exp(0.5 * sum(waves))

        return a

    def at_face(axis, point, step):
        x = [line.x[i] for line, i in zip(lines, point, strict=True)]
        x[axis] += step * lines[axis].to_face(point[axis], step)
        return function(phases[axis % len(phases)])(*x)

    return function(phases[0]) if kind == "function" else tuple(map(function, phases)), at_face


def _at_faces(rng, shape, lines, spread):
    """Return arrays at the faces between unknowns and, but for nodes on sides, on the sides; and where each is found."""
    first = [line.kinds != PERIODIC and (not line.vertex or line.kinds[0] == "dirichlet") for line in lines]
    last = [line.kinds != PERIODIC and (not line.vertex or line.kinds[1] == "dirichlet") for line in lines]
    counts = [n + (line.kinds == PERIODIC) - 1 + a + b for n, line, a, b in zip(shape, lines, first, last, strict=True)]
    faces = tuple(
        np.exp(spread * rng.standard_normal((*shape[:axis], count, *shape[axis + 1 :]))) for axis, count in enumerate(counts)
    )

    def face(axis, point, step):
        at = point[axis] + first[axis] - (step < 0)
        at = (
            at % counts[axis] if lines[axis].kinds == PERIODIC else min(max(at, 0), counts[axis] - 1)
        )  # an end that is not read
        return faces[axis][(*point[:axis], at, *point[axis + 1 :])]

    return faces, face


def _between(a, axis, point, step, line):
    """Return the face value of coefficients at the unknowns, that of conductors in series; at sides what lies beyond."""
    n, i = a.shape[axis], point[axis]
    row = a[(*point[:axis], slice(None), *point[axis + 1 :])]
    if 0 <= i + step < n or line.kinds == PERIODIC:
        j = (i + step) % n
        own, other = (1.0, 1.0) if line.vertex else (line.cells[i], line.cells[j])
        return (own + other) / (own / row[i] + other / row[j])
    inner = row[i - step] if n > 1 else row[i]
    here, inward = (line.before[i], line.behind[i])[:: 1 if step < 0 else -1]
    smooth = n > 1 and max(row[i], inner) < 2 * min(row[i], inner)
    side = row[i] + here / inward * (row[i] - inner) if smooth else row[i]
    return 2 * row[i] * side / (row[i] + side) if line.vertex else side
