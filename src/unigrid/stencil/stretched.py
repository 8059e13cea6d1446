"""Stretched axes: distances of their own between grid lines, where vertices are the unknowns, or cells of their own lengths.

Finite volumes: a face lies midway between two vertices, and the unknown in the middle of a cell. Fluxes a (u - u') / distance
at the faces are of first order only where the mesh stretches, the solution is of second order nevertheless.

Source: T. Manteuffel, A. White, The numerical solution of second-order boundary value problems on nonuniform meshes, Math.
Comp. 47 (1986).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]


@final
@dataclass(frozen=True, eq=False)
class Stretched:
    """The geometry of an axis with distances; each property as of `Axis`.

    nodes : whether the grid lines at the low and at the high end are unknowns, which Neumann sides of vertices make them
    """

    distances: Numbers
    centering: str
    periodic: bool
    nodes: tuple[bool, bool]

    @property
    def _lines(self) -> Numbers:
        return np.concatenate([[0.0], np.cumsum(self.distances)])

    @property
    def _around(self) -> Numbers:
        """Distances before, between and behind vertices, shape (n + 1,): none beyond a node on a side."""
        if self.periodic:
            return np.concatenate([self.distances[-1:], self.distances])
        low, high = (np.zeros(int(node)) for node in self.nodes)
        return np.concatenate([low, self.distances, high])

    @property
    def positions(self) -> Numbers:
        lines = self._lines
        if self.centering == "cell":
            return (lines[:-1] + lines[1:]) / 2
        low, high = (int(not node) for node in self.nodes)
        return lines[:-1] if self.periodic else lines[low : len(lines) - high]

    @property
    def weights(self) -> Numbers:
        return self.distances if self.centering == "cell" else (self._around[:-1] + self._around[1:]) / 2

    @property
    def steps(self) -> Numbers:
        if self.centering == "vertex":
            return np.where(self._around > 0.0, self._around, 1.0)  # nothing is measured beyond a node on a side
        halves = self.distances / 2
        ends = (halves[-1], halves[0]) if self.periodic else (0.0, 0.0)
        return np.concatenate([[ends[0] + halves[0]], halves[:-1] + halves[1:], [halves[-1] + ends[1]]])

    @property
    def faces(self) -> Numbers:
        if self.centering == "cell":
            return self._lines
        faces = np.concatenate([self.positions - self._around[:-1] / 2, self.positions[-1:] + self._around[-1:] / 2])
        return np.mod(faces, self.distances.sum()) if self.periodic else faces
