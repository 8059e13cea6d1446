"""What is solved, as a value without tensors: keywords with places for the tensors among them, and the cycles made of both."""

from __future__ import annotations

import ast
import itertools
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from typing import Any, Literal, NamedTuple, final
from weakref import WeakValueDictionary

import numpy as np
from numpy.typing import NDArray

from ..arrays import CONDITIONS, rebuilt
from ..messages import entries_of, plain_number, shown
from ..solution import ConvergenceError, Reason, Solution
from ..stencil.coupled import relative_volumes
from ..stencil.galerkin import GalerkinCycle
from ..stencil.problem import Poisson
from ..stencil.reaction import LocalReaction, Nonlinear
from ..stencil.solving import ProblemCycle, SolveOptions, solve_with

Array = NDArray[np.floating]
Mode = Literal["solution", "inverse", "adjoint"]
KEPT_EQUATIONS = 16
_LIVE: WeakValueDictionary[str, Any] = WeakValueDictionary()
_NUMBERS = itertools.count()
ANY = 1e-30  # in place of values on which neither the grid nor functions depend
KEPT = 4  # cycles of one equation, by the values of its parameters
MOST_ITERATIONS = 50  # of a gradient's solve, at least


class Given(NamedTuple):
    """The place of a tensor: its number among the parameters."""

    number: int


_NAMED = {kind.__name__: kind for kind in (Given, *CONDITIONS)}


def planted(value: Any, is_tensor: Callable[[Any], bool], parameters: list[Any]) -> Any:
    """Return a value with a place for each tensor in it; the tensors are added to the parameters."""

    def leaf(each: Any) -> Any:
        if not is_tensor(each):
            return each
        parameters.append(each)
        return Given(len(parameters) - 1)

    return rebuilt(value, leaf)


def normal(value: Any, name: str, ndim: int, read: Callable[[Any, str], Array]) -> Any:
    """Return a parameter with numbers as floats, and arrays, which `read` makes, in place of what can become one."""
    if isinstance(value, Given):
        return value
    if isinstance(value, CONDITIONS):
        return replace(value, **{each: normal(own, "", ndim, read) for each, own in vars(value).items()})
    is_per_axis = type(value) in (list, tuple) and (name == "boundary" or (name == "coefficient" and len(value) == ndim))
    if is_per_axis and not all(type(each) in (list, tuple) and name == "coefficient" for each in value):
        return tuple(normal(each, "boundary" if name == "boundary" else "", ndim, read) for each in value)
    number = plain_number(value)
    if number is not None:
        return float(number)
    return read(value, name or "a value") if entries_of(value) is not None else value


def filled(value: Any, parameters: Sequence[Any]) -> Any:
    """Return a value with these parameters in their places."""
    return rebuilt(value, lambda each: parameters[each.number] if isinstance(each, Given) else each)


def has_places(value: Any) -> bool:
    """Whether there is a place for a tensor in a value."""
    found: list[Given] = []
    planted(value, lambda each: isinstance(each, Given), found)
    return bool(found)


@final
@dataclass(frozen=True, eq=False)
class Equation:
    """An equation with parameters, and how it is solved.

    ndim : how many axes the problem has; axes of f before them are a batch
    problem_options : keywords of `Poisson`, with places
    cycle_of : from the problem to its cycle
    options : of the solve
    """

    ndim: int
    problem_options: dict[str, Any]
    cycle_of: Callable[[Poisson], ProblemCycle]
    options: SolveOptions
    made: list[tuple[list[Array], ProblemCycle]] = field(default_factory=list)

    @property
    def gradient_options(self) -> SolveOptions:
        """The options of a gradient's solve: as the solve's, but that the right-hand side may have any mean and size."""
        options = self.options
        rtol = options.gradient_rtol
        if rtol is None and not options.is_one_pass and options.rtol:
            rtol = options.rtol  # type: ignore[assignment]
        return SolveOptions(
            rtol=rtol,
            maxiter=max(options.maxiter, MOST_ITERATIONS),
            compatibility="project",
            precision=options.precision,
            threads=options.threads,
            backend=options.backend,
        )

    def learns(self, *names: str) -> bool:
        """Whether a tensor is among these keywords."""
        return any(has_places(self.problem_options[name]) for name in names)

    def problem(self, shape: Sequence[int], parameters: Sequence[Any]) -> Poisson:
        """Return the discrete problem on a grid, parameters as arrays."""
        return Poisson(tuple(map(int, shape[-self.ndim :])), **filled(self.problem_options, parameters))

    def stand_in(self, shape: Sequence[int], count: int) -> Poisson:
        """Return a problem on the grid, with its faces where coefficients are functions; `count`: of parameters."""
        names = ("lengths", "spacing", "centering", "boundary")
        options = {name: filled(self.problem_options[name], [ANY] * count) for name in names}
        coefficient = self.problem_options["coefficient"]
        own = {} if has_places(coefficient) else {"coefficient": coefficient}
        return Poisson(tuple(shape[-self.ndim :]), **options, **own)

    def refuse_gradients(self) -> None:
        """Raise NotImplementedError where the solution has no derivative here."""
        options = self.problem_options
        for wrong, what, way_out in (
            (options["order"] == 4, "order=4", "give order=2"),
            (self.nonlinear and "boundary" not in options, "this cycle", "give unigrid.solve the keywords of its problem"),
        ):
            if wrong:
                raise NotImplementedError(f"there are no gradients through a solve with {what}; {way_out}, or f.detach()")

    @property
    def nonlinear(self) -> Nonlinear | None:
        """The reaction g(u), where it is not linear."""
        reaction = self.problem_options["reaction"]
        return reaction if type(reaction).__name__ == "Nonlinear" else None

    def linearized(self, count: int) -> Equation:
        """Return the equation for small changes of u, with g'(u) as a parameter after these `count`."""
        return replace(
            self, problem_options={**self.problem_options, "reaction": Given(count)}, cycle_of=GalerkinCycle, made=[]
        )

    def cycle(self, shape: Sequence[int], parameters: Sequence[Array]) -> ProblemCycle:
        """Return the cycle for a grid and for parameters as arrays; that of values used before is kept."""
        if "boundary" not in self.problem_options:  # of a cycle, which brings its problem, and looks at the shape itself
            return self.made[0][1]
        for values, cycle in self.made:
            if cycle.problem.shape == tuple(shape[-self.ndim :]) and all(map(np.array_equal, values, parameters)):
                return cycle
        cycle = self.cycle_of(self.problem(shape, parameters))
        self.made.insert(0, ([np.array(each) for each in parameters], cycle))
        del self.made[KEPT:]
        return cycle

    def slope(self, u: Array) -> Array:
        """Return g'(u)."""
        assert self.nonlinear is not None
        return LocalReaction.on(u.shape, self.nonlinear, None).derivative(u)

    def solved(self, mode: Mode, f: Array, parameters: Sequence[Array]) -> Solution:
        """Return the solution, or A^-1 f or A^-T f, homogeneous on the sides."""
        cycle = self.cycle(f.shape, parameters)
        if mode == "solution":
            return solve_with(cycle, f, self.options)
        return _solved_for_gradient(homogeneous(cycle), f, self.gradient_options, mode == "adjoint")


def key_of(equation: Equation, slots: dict[str, Any]) -> str:
    """Return an equation as a string that `equation_of` reads. Raises TypeError for arrays, functions and objects."""
    options = {name: getattr(equation.options, name) for name in SolveOptions.__dataclass_fields__}
    return _text((equation.ndim, equation.problem_options, slots, options))


def live_key(value: Equation | Bound) -> str:
    """Return a string by which `living` finds this object as long as it lives."""
    for key, each in _LIVE.items():
        if each is value:
            return key
    key = f"live {next(_NUMBERS)}"
    _LIVE[key] = value
    return key


def living(key: str) -> Any:
    """Return the object of a key. Raises RuntimeError where it is gone."""
    if key not in _LIVE:
        raise RuntimeError("this graph was recorded with a solve that no longer exists; record it anew")
    return _LIVE[key]


def equation_of(key: str) -> Equation:
    """Return the equation that a string stands for."""
    return living(key) if key.startswith("live") else _read(key)


@lru_cache(KEPT_EQUATIONS)
def _read(key: str) -> Equation:
    from ..stencil.solve import prepared_cycle

    ndim, problem_options, slots, options = _value(ast.literal_eval(key))
    cycle_of = partial(prepared_cycle, cycle=slots.pop("cycle"), slots=slots)
    chosen = SolveOptions(**options)
    return Equation(ndim, problem_options, cycle_of, chosen)


def _text(value: Any) -> str:
    """Return the Python literal for a value: of sequences, conditions and places a tuple with a name first."""
    if value is None or isinstance(value, bool | str):
        return repr(value)
    if isinstance(value, int | float):  # of a symbolic one, hex alone takes the value
        return f"('Number', {float(value).hex()!r})"
    if type(value) is dict:
        return f"{{{', '.join(f'{name!r}: {_text(each)}' for name, each in value.items())}}}"
    if isinstance(value, tuple(_NAMED.values())):
        parts = (value.number,) if isinstance(value, Given) else vars(value).values()
        return f"({type(value).__name__!r}, {''.join(f'{_text(each)}, ' for each in parts)})"
    if type(value) in (list, tuple):
        return f"('', {''.join(f'{_text(each)}, ' for each in value)})"
    raise TypeError(f"{shown(value)} has no place in a graph")


def _value(literal: Any) -> Any:
    """Return the value of a literal made by `_text`."""
    if type(literal) is dict:
        return {name: _value(each) for name, each in literal.items()}
    if type(literal) is not tuple:
        return literal
    kind, entries = literal[0], tuple(map(_value, literal[1:]))
    if kind == "Number":
        number = float.fromhex(entries[0])
        return int(number) if number.is_integer() else number
    return entries if kind == "" else _NAMED[kind](*entries)


@final
@dataclass(frozen=True, eq=False)
class Bound:
    """An equation with the values of its parameters."""

    equation: Equation
    parameters: list[Array]


def homogeneous(cycle: ProblemCycle) -> ProblemCycle:
    """Return the cycle of the problem whose given values are all zero."""
    problem = cycle.problem
    if problem.homogeneous or (problem.domain is None and not any(v.any() for pair in problem.side_values for v in pair)):
        return cycle
    zero = np.zeros(())
    other = copy(problem)
    domain = problem.domain and replace(problem.domain, values=np.zeros_like(problem.domain.values))
    vars(other).update(side_values=((zero, zero),) * problem.grid.ndim, domain=domain)
    vars(other).pop("homogeneous", None)
    return cycle.rebound(other)


def _solved_for_gradient(cycle: ProblemCycle, f: Array, options: SolveOptions, is_adjoint: bool) -> Solution:
    """Return A^-1 f, or A^-T f = W A^-1 W^-1 f, with W the volumes, in whose product A is symmetric."""
    scale = relative_volumes(cycle.problem.grid) if is_adjoint else None
    f = f if scale is None else (f / scale).astype(f.dtype)
    try:
        solution = solve_with(cycle, f, options)
    except ConvergenceError as error:
        solution = replace(error.solution, message=f"The solve for a gradient: {error.solution.message}")
        raise ConvergenceError(solution) from None
    except ValueError:  # numbers that a norm does not hold: of gradients, any may come
        solution = _solved_anyhow(cycle, f, options)
    return solution if scale is None else replace(solution, u=(solution.u * scale).astype(f.dtype))


def _solved_anyhow(cycle: ProblemCycle, f: Array, options: SolveOptions) -> Solution:
    """Return NaN for each right-hand side that is not finite, else the solution for a scaled one."""
    shape = cycle.problem.shape
    parts = f.reshape(-1, *shape)
    u, solution = np.full_like(parts, np.nan), None
    for own, part in zip(u, parts, strict=True):
        size = float(np.abs(part).max())
        if np.isfinite(size):
            scale = np.float64(size) or 1.0
            solution = solve_with(cycle, (part / scale).astype(f.dtype), options)
            own[...] = (solution.u * scale).astype(f.dtype)
    ended = solution or Solution(u, True, Reason.CONVERGED, 0, (0.0,))
    return replace(ended, u=u.reshape(f.shape))
