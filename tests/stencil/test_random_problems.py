"""Random problems, options and sources, each against eigenvectors of matrices that are written out here, one axis at a time.

A solve may refuse or fail, in one line; what it returns as converged must be right. UNIGRID_TEST_PROBLEMS is their number.
"""

import functools
import itertools
import math
import os
import warnings
from dataclasses import dataclass, field

import numpy as np
import pytest
from tiers import generator

import unigrid
from unigrid.stencil.kernels.cpu import fused

COUNT = int(os.environ.get("UNIGRID_TEST_PROBLEMS", "500"))  # 10,000 on a schedule
WIDE = np.longdouble
LARGEST = {1: 600, 2: 80, 3: 20}
SIDES = ["periodic", *itertools.product(["dirichlet", "neumann"], repeat=2)]
OPEN = ["periodic", ("neumann", "neumann")]
SLOWER = ["red-black", "jacobi", "chebyshev", "gauss-seidel"]


@dataclass(frozen=True)
class Problem:
    """What is solved, as `unigrid.Poisson` takes it, and each axis as a dense matrix with the weights of its unknowns."""

    shape: tuple
    spacing: tuple
    sides: tuple
    values: tuple = field(repr=False)  # per axis, low and high
    centering: str
    reaction: float

    @property
    def arguments(self):
        classes = {"dirichlet": unigrid.Dirichlet, "neumann": unigrid.Neumann}
        boundary = [
            "periodic" if sides == "periodic" else tuple(classes[s](v) for s, v in zip(sides, values, strict=True))
            for sides, values in zip(self.sides, self.values, strict=True)
        ]
        common = {"spacing": self.spacing, "boundary": boundary, "centering": self.centering, "reaction": self.reaction}
        return self.shape, common

    @property
    def closed_by_dirichlet(self):
        return any("dirichlet" in sides for sides in self.sides)

    @functools.cached_property
    def axes(self):
        return [axis(*each, self.centering) for each in zip(self.shape, self.spacing, self.sides, strict=True)]

    @functools.cached_property
    def weights(self):
        return functools.reduce(np.multiply.outer, [weights for _, weights, _ in self.axes]).reshape(self.shape)

    @functools.cached_property
    def eigenvalues(self):
        return self.reaction + functools.reduce(np.add.outer, [values for _, _, (values, _, _) in self.axes])

    def apply(self, u):
        result = WIDE(self.reaction) * u
        for number, (matrix, _, _) in enumerate(self.axes):
            result = result + along(matrix, u, number)
        return result

    def folded(self, f):
        """Return the right-hand side: the source and the boundary values."""
        b = f.astype(WIDE)
        for number, (h, sides, values) in enumerate(zip(self.spacing, self.sides, self.values, strict=True)):
            for end, side, value in zip((0, -1), sides, values, strict=False):
                gain = {
                    ("dirichlet", "vertex"): 1 / WIDE(h) ** 2, ("dirichlet", "cell"): 2 / WIDE(h) ** 2,
                    ("neumann", "vertex"): 2 / WIDE(h), ("neumann", "cell"): 1 / WIDE(h),
                }.get((side, self.centering), 0)  # fmt: skip
                np.moveaxis(b, number, 0)[end] += gain * np.asarray(value, WIDE)
        return b

    def mean(self, b):
        return (self.weights * b).sum() / self.weights.sum()

    def exact(self, b):
        """Return A^-1 b, the mean apart where no side is Dirichlet; of mean zero where the problem is singular."""
        apart = not self.closed_by_dirichlet
        mean = self.mean(b) if apart else WIDE(0)
        constant = mean / WIDE(self.reaction) if self.reaction else WIDE(0)
        u, b = np.zeros(self.shape, WIDE), b - mean
        for _ in range(4):
            r = b - self.apply(u)
            e = r - self.mean(r) if apart else r
            for number, (_, _, (_, _, inverse)) in enumerate(self.axes):
                e = along(inverse, e, number)
            with np.errstate(divide="ignore", invalid="ignore"):
                e = e / self.eigenvalues
            if apart:
                e.flat[0] = 0
            for number, (_, _, (_, vectors, _)) in enumerate(self.axes):
                e = along(vectors, e, number)
            u = u + (e - self.mean(e) if apart else e)
        return u, constant


def along(matrix, u, number):
    return np.moveaxis(np.tensordot(matrix, u, axes=(1, number)), 0, number)


@functools.lru_cache(64)
def axis(n, h, sides, centering):
    """Return the second difference of an axis as a matrix, the weights in which it is symmetric, and its eigensystem."""
    matrix, weights = np.zeros((n, n)), np.ones(n)
    for i in range(n):
        matrix[i, i] += 2
        for step in (-1, 1):
            side, place = sides if sides == "periodic" else sides[step > 0], i + step
            if 0 <= place < n:
                matrix[i, place] -= 1
            elif side == "periodic":
                matrix[i, place % n] -= 1
            elif side == "neumann" and centering == "vertex":
                matrix[i, i - step] -= 1
                weights[i] = 0.5
            elif centering == "cell":
                matrix[i, i] += 1 if side == "dirichlet" else -1
    root = np.sqrt(weights)
    values, vectors = np.linalg.eigh(root[:, None] * matrix / root)
    if "dirichlet" not in sides:
        values[0] = 0
    square = WIDE(h) ** 2
    return matrix / square, weights.astype(WIDE), (values / square, vectors / root[:, None], vectors.T * root)


def draw_problem(rng):
    ndim = int(rng.choice([1, 2, 3], p=[0.25, 0.5, 0.25]))
    allowed = OPEN if rng.random() < 0.5 else SIDES
    sides = tuple(allowed[rng.integers(len(allowed))] for _ in range(ndim))
    centering = str(rng.choice(["vertex", "cell"]))
    least = [3 if each == "periodic" else 2 for each in sides]
    shape = tuple(int(np.exp(rng.uniform(np.log(low), np.log(LARGEST[ndim])))) for low in least)
    spread = rng.choice([0.0, 0.0, 0.5, 2.0])
    size = 10.0 ** rng.choice([0, -2, rng.uniform(-6, 6)])
    spacing = tuple(float(size * 10.0 ** rng.uniform(-spread, spread)) for _ in range(ndim))
    tiny = [0.0, 1e-300, 1e-100, 1e-30, 10.0 ** rng.uniform(-20, 0), 10.0 ** rng.uniform(-20, 2), 10.0 ** rng.uniform(0, 12)]
    reaction = float(tiny[rng.integers(len(tiny))])
    some = rng.random() < (0.3 if allowed is SIDES else 0.1)
    values = tuple(tuple(rng.standard_normal(2) * some) for _ in sides)
    return Problem(shape, spacing, sides, values, centering, reaction)


def draw_source(rng, problem, dtype):
    grid = np.meshgrid(*(np.linspace(0, 1, n) for n in problem.shape), indexing="ij")
    f = {
        "rough": lambda: rng.standard_normal(problem.shape),
        "smooth": lambda: functools.reduce(np.multiply, [np.cos(rng.integers(1, 4) * x + rng.uniform(0, 6)) for x in grid]),
        "point": lambda: (np.arange(math.prod(problem.shape)) == rng.integers(math.prod(problem.shape))).reshape(problem.shape),
        "constant": lambda: np.full(problem.shape, rng.standard_normal()),
        "zero": lambda: np.zeros(problem.shape),
    }[str(rng.choice(["rough", "smooth", "point", "constant", "zero"], p=[0.45, 0.35, 0.1, 0.07, 0.03]))]()
    if not problem.closed_by_dirichlet and rng.random() < 0.8:
        f = balanced(problem, f.astype(float))
    return f * 2.0 ** rng.choice(
        [0, 0, rng.integers(-27, 28), rng.integers(-100, 101) if dtype == np.float32 else rng.integers(-250, 251)]
    )


def balanced(problem, f):
    """Return about f, of mean exactly zero: multiples of a power of two, one of them adapted."""
    unit, weights = 2.0 ** (np.frexp(np.abs(f).max())[1] - 6), problem.weights.astype(float)
    whole = 8 * np.rint(f / unit)
    place = np.unravel_index(np.argmax(weights), f.shape)
    whole[place] -= (weights * whole).sum() / weights[place]
    return whole * unit


def draw_options(rng, dtype):
    rtols = [None, None, 1e-3, 1e-6, 1e-10 if dtype == np.float64 else 1e-5, "discretization"]
    slots, options = {"cycle": str(rng.choice(["V", "V", "W", "F"]))}, {"rtol": rtols[rng.integers(len(rtols))]}
    if rng.random() < 0.3:
        slots["smoother"] = str(rng.choice(SLOWER))
    if options["rtol"] != "discretization":
        options["start"] = str(rng.choice(["fmg", "fmg", "zero"]))
        if rng.random() < 0.25 and slots["cycle"] != "F" and slots.get("smoother") not in ("chebyshev", "gauss-seidel"):
            options["accelerate"] = "cg"
        elif dtype == np.float64 and rng.random() < 0.3:
            options["precision"] = "mixed"
    if rng.random() < 0.5:
        options["compatibility"] = "project"
    if rng.random() < 0.2:
        options["threads"] = 1
    return slots, options


def norm(array):
    return float(np.sqrt((array * array).sum()))


def check(problem, f, options, solution):
    """Hold a part that has converged against the exact solution, and its residual against the tolerance."""
    eps = float(np.finfo(f.dtype).eps)
    b, u = problem.folded(f), solution.u.astype(WIDE)
    singular = not problem.closed_by_dirichlet and problem.reaction == 0
    whole = norm(b - problem.mean(b) if singular else b)
    largest = 2 * float(problem.eigenvalues.max())
    rounding = 8 * eps * (largest * norm(u) + norm(b))
    rtol = options["rtol"]
    target = {None: 1e-8 if f.dtype == np.float64 else 1e-4, "discretization": 0.5}.get(rtol, rtol) * whole
    r = b - problem.apply(u)
    residual = norm(r - problem.mean(r) if singular else r)
    assert residual <= 1.01 * target + rounding, ("residual", residual, target, rounding)

    wanted, constant = problem.exact(b)
    mean = problem.mean(u) if not problem.closed_by_dirichlet else WIDE(0)
    smallest = float(problem.eigenvalues.ravel()[1:].min() if not problem.closed_by_dirichlet else problem.eigenvalues.min())
    size = max(float(np.abs(u).max()), float(np.abs(wanted).max()))
    if rtol != "discretization":
        per_point = (1.01 * target + 8 * eps * (largest * norm(u - mean) + whole)) / smallest
        error = norm(u - mean - wanted)
        allowed = 3 * per_point + 10 * eps * size * math.sqrt(u.size)
        assert error <= allowed, ("error", error, allowed, norm(wanted))
    if not problem.closed_by_dirichlet:
        digits = max(1e-11, 50 * eps)
        kept = digits * float(np.abs(wanted).max()) + 200 * eps * abs(float(constant))
        folded = problem.reaction and any(map(any, problem.values))
        spread = problem.mean(np.abs(b)) * eps / problem.reaction if folded else 0
        loose = 1.01 * target / math.sqrt(u.size) / problem.reaction if problem.reaction > smallest * 1e-3 else 0
        assert abs(float(mean - constant)) <= kept + 4 * float(spread) + loose, ("mean", float(mean), float(constant))


def tried(number):
    """Solve a random problem; return what came of it."""
    rng = generator(f"random problem {number}")
    problem = draw_problem(rng)
    dtype = np.dtype(rng.choice([np.float64, np.float64, np.float32]))
    slots, options = draw_options(rng, dtype)
    f = np.stack([draw_source(rng, problem, dtype) for _ in range(rng.choice([1, 1, 1, 3]))]).astype(dtype)
    what = f"number {number}: {problem}, {dtype}, {slots}, {options}, {len(f)} sources"
    f = f[0] if len(f) == 1 else f
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            shape, arguments = problem.arguments
            cycle = unigrid.StencilCycle(unigrid.Poisson(shape, **arguments), **slots)
            solution = cycle.solve(f, **options)
    except (ValueError, TypeError, unigrid.ConvergenceError) as error:
        if len(str(error).splitlines()) != 1:
            raise AssertionError(f"not one line: {error!r}; {what}") from error
        if not isinstance(error, unigrid.ConvergenceError):
            return f"{type(error).__name__}: {error}", what
        solution = error.solution
    except Exception as error:
        raise AssertionError(f"{error!r}; {what}") from error
    parts = solution.parts or (solution,)
    for source, part in zip(f.reshape(-1, *problem.shape), parts, strict=True):
        if part.converged:
            try:
                check(problem, source, options, part)
            except AssertionError as error:
                raise AssertionError(f"{error.args[0]}; {part.message} {what}") from None
    return ("converged" if solution.converged else solution.message), what


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("strips", [False, True], ids=["whole", "strips"])
def test_what_converged_is_right(workers, strips, use_threads, monkeypatch):
    use_threads(workers)
    if strips:
        monkeypatch.setattr(fused, "STRIP_BYTES", 1)
        monkeypatch.setattr(fused, "STRIP_ROWS", 8)
    first = COUNT // 4 * (2 * (workers > 1) + strips)
    outcomes = [tried(number)[0] for number in range(first, first + COUNT // 4)]
    assert outcomes.count("converged") > 0.7 * len(outcomes)
