"""Flexible conjugate gradients for operators with coefficients that vary, in few passes over memory."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..iterate import Iteration
from .iterations import QUIET, Run
from .kernels.cpu import coupled
from .kernels.workspace import copy, empty, zeros

Array = NDArray[np.floating]
TRUSTED = 1e-5  # the residual is carried along until it has fallen so far, or no longer falls; then it is computed anew
ROUND_OFF = 0.5  # the residual that rounding u leaves, in units of eps D u
# What rounding the first correction leaves of the residual, random f, 255^2 and 1023^2: 2 to 3 for an inclusion of 1e6; .5 to
# .8 for a checkerboard of 1e6, which takes 16 iterations, not 14; 30 for an inclusion of 1e7, which takes 7, not 4;
# less than 1e-3 for log-normal coefficients, channels and staircases. One more iteration for the inclusion of 1e6 takes less
# time than one cycle in double precision.
LOST, HOPELESS = 0.1, 10.0
# A residual of which more is left after an iteration: then all further cycles run in double precision. Log-normal 2, 2047^2,
# periodic along an axis: 45 iterations without this, 11 with it.
SPOILT = 0.5
# Full multigrid leaves less than this of a residual, or rounding or random coefficients spoil it. By rounding, squares of 8 x 8
# cells that jump by 1e6, 255^2, started at .2 to .3 of the residual and took 9 to 12 iterations; 127^2, in double precision, 7.
GOOD_START = 0.04


class FlexibleGradients(Iteration):
    """z = M r;  p <- z - (<z, A p> / <p, A p>) p;  u <- u + (<p, r> / <p, A p>) p, in the symmetric form of A.

    M is a cycle, which need not be symmetric: each direction is made conjugate to the one before. It may run in single
    precision, on the residual scaled to the size of 1.

    Source: Y. Notay, Flexible conjugate gradients, SIAM J. Sci. Comput. 22 (2000).
    """

    passes: Any = coupled  # over memory, and their sums: `turn`, `advance`, `probe`, `norm`, `scaled`, `rescale`
    _r: Array  # the residual, in the symmetric form
    _norm: float  # of the residual now, and when it was last computed anew
    _known: float

    def __init__(
        self, cycle: Callable[[Array], Array], run: Run, dtype: np.dtype, target: float, nested: Callable[[Array], Array] | None
    ) -> None:
        """`cycle` returns M r, in the precision `dtype` of r; `target` is the residual to be reached.

        `nested`, full multigrid for the symmetric form, is the first iteration where nothing else is.
        """
        self._operator, self._run = run.problem.coupled_operator, run
        self._cycle, self._nested, self._dtype, self._target = cycle, nested, dtype, target
        self.mixed, self.nested_start = dtype != run.b.dtype, nested is not None

    def start(self, u: Array | None) -> None:
        b = self._run.b
        self._begins = u is None and self._nested is not None
        self._u = zeros(b.shape, b.dtype) if u is None else copy(u)
        self._p, self._w = empty(b.shape, b.dtype), zeros(b.shape, b.dtype)
        self._curvature, self._finite, self._doubts = 0.0, True, 0
        self._restate(u is None)

    @np.errstate(**QUIET)
    def step(self, look_ahead: bool) -> float:
        if self._begins:
            return self._begin()
        p, w, stencil = self._p, self._w, self._operator.symmetric.tables(self._u.dtype)
        z, along = self._preconditioned(self._r)
        beta = along / self._curvature if self._curvature else 0.0
        image, gain = self.passes.turn(p, w, z, self._r, -beta, stencil)
        if image == 0.0:  # nothing left to gain in this precision
            return self._norm
        self._curvature, step = image, -gain / image
        self._finite = math.isfinite(step)
        if not self._finite:
            return math.nan
        before = self._norm
        square = self.passes.advance(self._u, self._r, p, w, step)
        self._norm = self._measured(square)
        if self._norm > SPOILT * before:  # by rounding, where cycles run in single precision
            self._doubts = 2
        if self._norm <= max(self._target, TRUSTED * self._known) or self._norm > SPOILT * before:
            self._restate(False)
        self._finite = math.isfinite(self._norm)
        return self._norm

    def _begin(self) -> float:
        """Take full multigrid as the first iterate; in double precision, as all that follows, where rounding spoils it."""
        self._begins, before = False, self._norm
        assert self._nested is not None
        for dtype in dict.fromkeys((self._dtype, self._u.dtype)):
            given, scale = self._scaled(self._r, dtype)
            u = self._run.problem.centered(self._nested(given))
            self.passes.rescale(self._u, u, 1.0 / scale)
            self._restate(False)
            if self._norm < GOOD_START * before or (self._norm < SPOILT * before and self._probed(u, scale)[1] < LOST):
                return self._norm
            self._doubts = 2
            self._r = self._operator.integrated(self._run.problem.centered(self._run.b))
        if not self._norm < before:  # coefficients that differ by many orders of magnitude
            self._u.fill(0.0)
        self._restate(False)
        return self._norm

    def current(self) -> Array | None:
        if not self._finite:
            return None
        shown = self._run.shown(self._u)
        return copy(self._u) if shown is self._u and self._run.keeps else shown

    @property
    def state(self) -> Array | None:
        return self._u

    def _restate(self, zero: bool) -> None:
        """Compute the residual anew, projected where the problem is singular."""
        run, operator = self._run, self._operator
        self._r = run.b  # so that the new one takes the old one's memory
        residual = run.b if zero else operator.residual(run.b, self._u)
        residual = run.problem.centered(residual)
        if zero and not self._begins:  # the first step overwrites it
            residual = copy(residual)
        self._r = operator.integrated(residual)
        self._norm = self._known = self.passes.norm(residual)

    def _measured(self, square: float) -> float:
        """Return the norm of the residual of the discrete equation; `square` is that of the symmetric form."""
        volumes = self._operator.volumes
        return math.sqrt(square) if volumes is None else self.passes.norm(self._r / volumes)

    def _preconditioned(self, r: Array) -> tuple[Array, float]:
        """Return the cycle's correction z for a residual, times a power of two, and <z, w>.

        Where rounding z in single precision would leave a part of the residual, the cycle is done again in that of r. Where it
        would leave more than the residual, z is kept: the next cycle removes that at once. Where rounding matters twice in a
        row, or would leave many times the residual, all further cycles run in the precision of r.
        """
        single = self.mixed and self._doubts < 2
        z, along, left = self._corrected(r, self._dtype if single else r.dtype)
        if not single:
            return z, along
        self._doubts = self._doubts + (2 if left > HOPELESS else 1) if left > LOST else 0
        return self._corrected(r, r.dtype)[:2] if LOST < left <= 1.0 or self._doubts >= 2 else (z, along)

    def _scaled(self, r: Array, dtype: np.dtype) -> tuple[Array, float]:
        """Return a residual in a precision, times a power of two, and that: it brings it to the size of 1.

        In double precision it needs none, nor memory for another array.
        """
        if dtype == np.float64:
            return r, 1.0
        scale = unit_scale(self._norm, r.size)
        return self.passes.scaled(r, scale, dtype), scale

    def _corrected(self, r: Array, dtype: np.dtype) -> tuple[Array, float, float]:
        """Return z in a precision, <z, w>, and about which part of the residual rounding z leaves."""
        given, scale = self._scaled(r, dtype)
        z = self._run.problem.centered(self._cycle(given))
        return z, *self._probed(z, scale)

    def _probed(self, z: Array, scale: float) -> tuple[float, float]:
        """Return <z, w>, and about which part of the residual rounding z leaves, which is the solution times `scale`."""
        along, magnitude = self.passes.probe(z, self._w, self._operator.symmetric.tables(self._u.dtype))
        left = ROUND_OFF * float(np.finfo(z.dtype).eps) * magnitude
        return along, left / (scale * self._norm) if self._norm > 0.0 else 0.0


def unit_scale(norm: float, size: int) -> float:
    """Return the power of two that brings a vector of so many entries and this norm to the size of 1."""
    mean = norm / math.sqrt(size)
    return 2.0 ** -round(math.log2(mean)) if mean > 0.0 else 1.0
