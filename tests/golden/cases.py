"""The configurations whose iterates are recorded: a table, and what runs one row of it.

Everything is given as a user gives it, at the depth that users get. Precision is always explicit, and so is smoothing, except
where the default itself is the subject. No case has a callback.
"""

from __future__ import annotations

import itertools
import zlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import unigrid

SAMPLES = 40
KINDS = {"D": unigrid.Dirichlet, "N": unigrid.Neumann, "P": lambda value=0.0: unigrid.Periodic()}


@dataclass(frozen=True)
class Case:
    """One row: a problem, slots, the options of the solve, and how they are run.

    sides : "DN,PP": the kinds of the low and the high end, per axis; values : "zero", "numbers" or "arrays"
    via : "solve" is `unigrid.solve`, "cycle" is `StencilCycle.solve`, "calls" is so many plain calls `cycle(b, u)`
    """

    name: str
    shape: tuple[int, ...]
    sides: str = ""
    values: str = "zero"
    centering: str = "vertex"
    box: dict[str, Any] = field(default_factory=dict)
    slots: dict[str, Any] = field(default_factory=dict)
    solve: dict[str, Any] = field(default_factory=dict)
    via: str = "solve"
    calls: int = 0
    dtype: str = "float64"
    stack: tuple[int, ...] = ()
    source: str = "rough"
    u0: bool = False
    threads: tuple[int, ...] = (1,)

    @property
    def single(self) -> bool:
        """Whether the iterates themselves are float32."""
        return self.dtype == "float32"

    @property
    def mixed(self) -> bool:
        """Whether the cycles run in float32 inside float64 residuals."""
        return self.solve.get("precision") == "mixed"

    def generator(self, what: str) -> np.random.RandomState:
        """Return a generator whose stream NumPy has promised never to change."""
        return np.random.RandomState(zlib.crc32(f"{self.name}/{what}".encode()))

    def boundary(self) -> list[tuple[Any, Any]]:
        """Return the conditions, with values of the kind that the case names."""
        rng = self.generator("boundary")
        pairs = (self.sides or ",".join(["DD"] * len(self.shape))).split(",")

        def value(axis: int) -> Any:
            side = self.shape[:axis] + self.shape[axis + 1 :]
            number, array = float(rng.standard_normal()), rng.standard_normal(side)
            return {"zero": 0.0, "numbers": number, "arrays": array}[self.values]

        return [tuple(KINDS[kind](value(axis)) for kind in pair) for axis, pair in enumerate(pairs)]

    def problem(self) -> dict[str, Any]:
        """Return the arguments of `Poisson` besides the shape."""
        return {"boundary": self.boundary(), "centering": self.centering, **self.box}

    def f(self) -> np.ndarray:
        """Return the source: random numbers, or a smooth function with a little of them."""
        shape = self.stack + self.shape
        rough = self.generator("f").standard_normal(shape)
        if self.source == "integers":
            return np.rint(3 * rough).astype(np.int64)
        if self.source == "smooth":
            waves = [np.sin(np.linspace(0.3, 4.0 + axis, n)) for axis, n in enumerate(self.shape)]
            rough = 1e-2 * rough + np.prod(np.meshgrid(*waves, indexing="ij"), axis=0)
        f = (10 * rough).astype(self.dtype)
        return np.asfortranarray(f) if self.source == "fortran" else f


@dataclass(frozen=True)
class Outcome:
    """What is recorded of one case: few numbers that no error of an iterate leaves alone."""

    residuals: np.ndarray  # residuals[k]: after k iterations
    samples: np.ndarray  # u at points spread over the grid
    sums: np.ndarray  # the 2-norm of u, and the sum of u with random weights


def run(case: Case, threads: int = 1) -> Outcome:
    """Run a case and return what is compared."""
    if case.via == "calls":
        return _by_calls(case, threads)
    f = case.f()
    options: dict[str, Any] = {"threads": threads, "raise_on_failure": False, **case.solve}
    if case.u0:
        options["u0"] = case.generator("u0").standard_normal(f.shape)
    if case.via == "solve":
        solution = unigrid.solve(f, **case.problem(), **case.slots, **options)
    else:
        solution = unigrid.StencilCycle(unigrid.Poisson(case.shape, **case.problem()), **case.slots).solve(f, **options)
    return _outcome(case, solution.u, solution.residuals)


def _by_calls(case: Case, threads: int) -> Outcome:
    before = unigrid.get_num_threads()
    unigrid.set_num_threads(threads)
    try:
        problem = unigrid.Poisson(case.shape, **case.problem())
        cycle, b, u = unigrid.StencilCycle(problem, **case.slots), problem.rhs(case.f()), None
        if case.u0:
            u = case.generator("u0").standard_normal(case.shape).astype(case.dtype)
        residuals = [float(np.linalg.norm(b.astype(float)))]
        for _ in range(case.calls):
            u = cycle(b, u)
            residuals.append(problem.operator.residual_norm(b, u))
    finally:
        unigrid.set_num_threads(before)
    return _outcome(case, u, residuals)


def _outcome(case: Case, u: np.ndarray, residuals: Any) -> Outcome:
    flat = np.asarray(u, dtype=np.float64).ravel()
    weights = case.generator("weights").standard_normal(flat.size)
    at = np.unique(np.linspace(0, flat.size - 1, SAMPLES).round().astype(int))
    return Outcome(np.array(residuals), flat[at], np.array([np.linalg.norm(flat), weights @ flat]))


class OwnSmoother(unigrid.Smoother):
    """A user's smoother, by the public interface alone: damped Richardson in plain NumPy."""

    def __call__(self, operator, f, u):
        step = 0.8 / operator.diagonal() * operator.residual(f, u)
        return step if u is None else u + step


LEARNED = unigrid.LearnedSmoother([[[[0.02, 0.08, 0.02], [0.08, 0.8, 0.08], [0.02, 0.08, 0.02]]]] * 2)
FULL, MIXED = {"precision": "full"}, {"precision": "mixed"}
TWO_THREADS = (1, 2)


def _sides() -> list[Case]:
    """All kinds of sides, with values, odd, even and nested sizes, both centerings."""
    rows = [
        ("1d-nested", (1023,), "DD", "numbers", "vertex", {}),
        ("1d-even", (800,), "DN", "numbers", "vertex", {"lengths": 3.0}),
        ("1d-neumann-dirichlet-cell", (901,), "ND", "numbers", "cell", {}),
        ("1d-periodic-reaction", (1000,), "PP", "zero", "vertex", {"reaction": 2.5}),
        ("1d-cell-reaction", (777,), "NN", "numbers", "cell", {"reaction": 100.0}),
        ("2d-nested", (127, 127), "DD,DD", "zero", "vertex", {}),
        ("2d-numbers", (63, 95), "DD,DD", "numbers", "vertex", {"lengths": (1.0, 1.5)}),
        ("2d-arrays", (100, 81), "DN,ND", "arrays", "vertex", {"spacing": 0.02}),
        ("2d-neumann-nested", (65, 65), "ND,NN", "arrays", "vertex", {}),
        ("2d-periodic-dirichlet", (96, 63), "PP,DD", "numbers", "vertex", {"spacing": 0.01}),
        ("2d-periodic-neumann-reaction", (70, 71), "PP,NN", "arrays", "vertex", {"reaction": 3.0, "spacing": 0.1}),
        ("2d-odd", (117, 93), "DN,DD", "numbers", "vertex", {"spacing": 1.0}),
        ("2d-cell-nested", (128, 64), "DD,DD", "numbers", "cell", {"spacing": 0.02}),
        ("2d-cell-even", (90, 106), "DN,NN", "arrays", "cell", {"spacing": 0.02}),
        ("2d-cell-periodic", (64, 81), "PP,ND", "arrays", "cell", {"spacing": 1.0}),
        ("2d-anisotropic", (100, 90), "DD,DN", "numbers", "vertex", {"spacing": (1.0, 7.0)}),
        ("2d-anisotropic-cell", (64, 96), "ND,DD", "arrays", "cell", {"spacing": (2.0, 0.7)}),
        ("2d-strong-reaction", (90, 90), "DD,DD", "numbers", "vertex", {"reaction": 5000.0}),
        ("2d-thin", (5, 300), "DN,DD", "arrays", "vertex", {"spacing": 0.1}),
        ("2d-row", (1, 200), "DN,DD", "numbers", "vertex", {"spacing": 0.1}),
        ("2d-small", (4, 6), "DD,NN", "arrays", "vertex", {"spacing": 0.2}),
        ("2d-two-levels", (13, 12), "DD,DN", "arrays", "cell", {"spacing": 0.2}),
        ("3d-nested", (31, 31, 31), "DD,DD,DD", "numbers", "vertex", {}),
        ("3d-mixed-sides", (24, 33, 20), "DN,PP,ND", "arrays", "vertex", {"spacing": 0.05}),
        ("3d-cell", (32, 24, 20), "DD,NN,PP", "arrays", "cell", {"spacing": 0.05}),
        ("3d-cell-odd", (19, 21, 23), "DN,ND,DD", "numbers", "cell", {"spacing": 1.0}),
        ("3d-anisotropic-reaction", (20, 20, 30), "DD,DN,NN", "numbers", "vertex", {"spacing": (1, 2, 4), "reaction": 0.5}),
    ]
    return [
        Case(name, shape, sides, values, centering, box, solve={**FULL, "rtol": 1e-9})
        for name, shape, sides, values, centering, box in rows
    ]


def _slots() -> list[Case]:
    """Kinds of cycle, smoothers, transfers and coarsest levels."""
    two = {"pre": 2, "post": 2}
    rows: list[tuple[str, tuple[int, ...], dict[str, Any], dict[str, Any]]] = [
        ("w", (100, 90), {}, {"cycle": "W"}),
        ("f", (100, 90), {}, {"cycle": "F"}),
        ("f-3d", (40, 33, 30), {}, {"cycle": "F"}),
        ("w-explicit", (95, 95), {}, {"cycle": "W", "pre": 1, "post": 1}),
        ("backslash", (95, 95), {}, {"pre": 2, "post": 0}),
        ("post-only", (80, 95), {}, {"pre": 0, "post": 3}),
        ("uneven-3d", (30, 31, 28), {}, {"pre": 1, "post": 2}),
        ("red-black", (99, 64), {"sides": "DN,PP"}, {**two, "smoother": unigrid.RedBlack(1.1)}),
        ("red-black-halves", (99, 64), {}, {"pre": 1, "post": 1, "smoother": unigrid.RedBlack((1.0, 1.2, 1.4, 1.1), "black")}),
        ("jacobi", (64, 96), {"sides": "DD,ND"}, {**two, "smoother": "jacobi"}),
        ("jacobi-3d", (25, 24, 23), {}, {**two, "smoother": unigrid.Jacobi(0.85)}),
        ("jacobi-1d", (700,), {"sides": "ND", "values": "numbers"}, {"pre": 1, "post": 2, "smoother": "jacobi"}),
        ("gauss-seidel", (64, 80), {"sides": "PP,DD"}, {**two, "smoother": "gauss-seidel"}),
        ("gauss-seidel-3d", (20, 24, 23), {}, {"pre": 1, "post": 1, "smoother": unigrid.GaussSeidel(1.1, backward=True)}),
        ("chebyshev", (90, 66), {"sides": "DN,DD"}, {"pre": 1, "post": 1, "smoother": "chebyshev"}),
        ("chebyshev-3d", (24, 25, 26), {}, {"pre": 1, "post": 1, "smoother": unigrid.Chebyshev(2, (0.4, 2.0))}),
        ("two-smoothers", (66, 66), {}, {**two, "smoother": "jacobi", "post_smoother": "chebyshev"}),
        ("own-smoother", (63, 66), {"sides": "DN,DD"}, {**two, "smoother": OwnSmoother()}),
        ("learned", (63, 63), {}, {"pre": 1, "post": 1, "smoother": LEARNED}),
        ("cell-average", (64, 70), {"centering": "cell"}, {"restriction": "cell-average", "cycle": "W"}),
        ("constant", (64, 96), {"centering": "cell"}, {"restriction": "cell-average", "prolongation": "constant", **two}),
        ("half-weighting", (63, 127), {}, {"restriction": "half-weighting"}),
        ("injection", (63, 100), {}, {"restriction": "injection", **two}),
        ("cubic", (90, 90), {}, {"prolongation": "cubic"}),
        ("state-transfer", (90, 80), {}, {"state_transfer": "injection"}),
        ("state-transfer-f", (90, 80), {}, {"state_transfer": "full-weighting", "cycle": "F", **two}),
        ("fft", (90, 80), {"sides": "DN,PP"}, {"coarsest": "fft"}),
        ("six-levels", (127, 90), {}, {"max_levels": 6}),
        ("two-levels", (60, 70), {}, {"max_levels": 2, **two}),
        ("smooth-coarsest", (63, 63), {}, {"coarsest": unigrid.Jacobi(0.7), **two}),
    ]
    return [
        Case(f"slots-{name}", shape, via="cycle", slots=slots, solve={**FULL, "rtol": 1e-8, "maxiter": 12}, **problem)
        for name, shape, problem, slots in rows
    ]


def _options() -> list[Case]:
    """What a solve takes besides: starts, precisions, acceleration, stacks, singular problems, one pass."""
    nine = {**FULL, "rtol": 1e-9}
    zero, project = {**nine, "start": "zero"}, {**nine, "compatibility": "project"}
    cg = {**nine, "accelerate": "cg"}
    once, once_mixed = ({"rtol": "discretization", **precision} for precision in (FULL, MIXED))
    plain = {"pre": 2, "post": 2}
    return [
        Case("zero", (90, 100), "DN,DD", "arrays", solve=zero),
        Case("zero-3d", (30, 31, 20), solve=zero, box={"spacing": 0.1}),
        Case("zero-1d", (500,), "NN", solve={**zero, "compatibility": "project"}),
        Case("u0", (90, 100), "DN,DD", "arrays", solve=nine, u0=True),
        Case("u0-mixed", (90, 100), solve={**MIXED, "rtol": 1e-9}, u0=True),
        Case("atol", (95, 80), solve={**FULL, "rtol": 0.0, "atol": 1e-4}, via="cycle"),
        Case("default-tolerance", (127, 95), solve=FULL),
        Case("float32", (127, 95), "DN,DD", "numbers", solve=FULL, dtype="float32"),
        Case("float32-3d", (31, 30, 20), solve=FULL, dtype="float32", box={"spacing": 0.1}, via="cycle"),
        Case("float32-jacobi", (64, 64), solve=FULL, slots={**plain, "smoother": "jacobi"}, dtype="float32"),
        Case("mixed", (127, 127), solve={**MIXED, "rtol": 1e-10}),
        Case("mixed-sides", (100, 130), "DN,PP", "arrays", solve={**MIXED, "rtol": 1e-9}, box={"spacing": 0.1}),
        Case("mixed-zero-cell", (100, 96), centering="cell", solve={**MIXED, "rtol": 1e-9, "start": "zero"}),
        Case("mixed-3d", (40, 31, 35), solve={**MIXED, "rtol": 1e-9}, box={"spacing": 1.0}, via="cycle"),
        Case("mixed-w-chebyshev", (90, 90), solve={**MIXED, "rtol": 1e-9},
             slots={"cycle": "W", "smoother": "chebyshev", "pre": 1, "post": 1}),
        Case("mixed-1d", (900,), solve={**MIXED, "rtol": 1e-9}),
        Case("cg", (90, 100), "DN,DD", "numbers", solve=cg),
        Case("cg-jacobi-w", (90, 80), solve=cg, slots={**plain, "smoother": "jacobi", "cycle": "W"}),
        Case("cg-gauss-seidel-3d", (20, 21, 25), solve=cg, slots={"smoother": "gauss-seidel", "pre": 1, "post": 1}),
        Case("cg-singular-cell", (64, 80), "NN,PP", centering="cell", solve={**cg, "compatibility": "project"}),
        Case("singular-neumann", (65, 90), "NN,NN", "arrays", solve=project),
        Case("singular-periodic", (64, 96), "PP,PP", solve=project, box={"spacing": 0.1}),
        Case("singular-cell-3d", (20, 24, 22), "NN,PP,NN", "numbers", "cell", solve=project),
        Case("singular-mixed", (90, 96), "NN,PP", "numbers", solve={**project, **MIXED}),
        Case("once", (127, 127), solve=once, source="smooth"),
        Case("once-cell-sides", (90, 64), "DN,PP", "arrays", "cell", solve=once, source="smooth"),
        Case("once-3d", (31, 30, 33), solve=once, source="smooth"),
        Case("once-1d", (600,), "DN", "numbers", solve=once, source="smooth"),
        Case("once-explicit", (90, 100), solve=once, slots={"pre": 1, "post": 2}, source="smooth"),
        Case("once-mixed", (127, 100), solve=once_mixed, source="smooth"),
        Case("stack", (63, 70), "DN,DD", "numbers", solve=nine, via="cycle", stack=(3,)),
        Case("stack-mixed", (63, 70), solve={**MIXED, "rtol": 1e-9}, via="cycle", stack=(2, 2)),
        Case("stack-u0", (300,), solve=nine, via="cycle", stack=(2,), u0=True),
        Case("integers", (63, 64), solve=nine, source="integers"),
        Case("fortran", (63, 64), solve=nine, source="fortran"),
    ]  # fmt: skip


def _limited() -> list[Case]:
    """Runs that end after one, two and three cycles, so that the iterates on the way are compared as well."""
    bases = [
        Case("default", (127, 111), solve=FULL),
        Case("mixed", (127, 111), "DN,DD", "numbers", solve=MIXED),
        Case("zero-3d", (31, 33, 24), "DN,DD,PP", solve={**FULL, "start": "zero"}),
        Case("jacobi-cell", (64, 70), centering="cell", solve=FULL, slots={"smoother": "jacobi", "pre": 1, "post": 1}),
        Case("cg", (90, 80), solve={**FULL, "accelerate": "cg"}),
    ]
    return [
        Case(**{**vars(base), "name": f"after-{count}-{base.name}", "solve": {**base.solve, "rtol": 0.0, "maxiter": count}})
        for base, count in itertools.product(bases, (1, 2, 3))
    ]


def _calls() -> list[Case]:
    """Plain calls of a cycle."""
    rows: list[tuple[str, tuple[int, ...], dict[str, Any]]] = [
        ("default", (127, 90), {}),
        ("u0", (127, 90), {"u0": True, "sides": "DN,DD", "values": "numbers"}),
        ("float32", (90, 90), {"dtype": "float32"}),
        ("3d-w", (31, 30, 24), {"slots": {"cycle": "W"}}),
        ("f-jacobi", (80, 90), {"slots": {"cycle": "F", "smoother": "jacobi", "pre": 1, "post": 2}, "u0": True}),
        ("1d", (600,), {"sides": "DN"}),
        ("state-transfer", (80, 70), {"slots": {"state_transfer": "injection"}, "u0": True}),
    ]
    return [Case(f"calls-{name}", shape, via="calls", calls=2, **rest) for name, shape, rest in rows]


def _threaded() -> list[Case]:
    """Grids that are large enough for two threads; both counts must give what is recorded."""
    six = {**FULL, "rtol": 1e-6}
    return [
        Case("threads-default", (400, 431), "DN,DD", solve=six, threads=TWO_THREADS),
        Case("threads-mixed", (400, 431), solve={**MIXED, "rtol": 1e-8}, threads=TWO_THREADS),
        Case("threads-cell", (384, 420), "PP,DN", centering="cell", solve=six, threads=TWO_THREADS),
        Case("threads-jacobi", (380, 400), solve={**six, "maxiter": 3}, slots={"smoother": "jacobi", "pre": 1, "post": 1},
             threads=TWO_THREADS),
        Case("threads-3d", (50, 60, 55), "DD,DN,DD", solve=six, threads=TWO_THREADS),
        Case("threads-once-3d", (50, 55, 60), solve={**FULL, "rtol": "discretization"}, threads=TWO_THREADS),
        Case("threads-calls", (401, 400), via="calls", calls=2, threads=TWO_THREADS),
    ]  # fmt: skip


CASES = [*_sides(), *_slots(), *_options(), *_limited(), *_calls(), *_threaded()]
