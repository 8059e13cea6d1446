"""One multigrid cycle for A u = b, the full approximation scheme: on grids of values and on grids of features.

    descend    u  <- S(A, b, u)                     smoothing   = feature extraction
               r' <- R (b - A u)                    restriction = pooling
               u' <- Pi u,   b' <- r' + A' u'       state transfer; Pi = 0 is the correction scheme
    visit      the next level once (V), twice (W), F then V (F); the last level only smooths: a direct solver is a smoother
    ascend     u  <- u + P (u' - Pi u),  then smooth        or, where nothing ascends (MgNet),  u <- u'
    turn       ascend, measure b - A u, and descend for the next cycle: one pass over memory where a level fuses it

The state `u` (solution, features) and the data `b` (right-hand side, image) are dual: A maps the one to the other.
This file names neither numpy nor torch. It calls slots and uses + and -, so whatever has these runs through it.

`None` is the zero state: never stored, read or subtracted. No method of a level changes its arguments, but for one case:
`ascend` may overwrite the u that `descend` of the same level returned.

Source: A. Brandt, Multi-level adaptive solutions to boundary-value problems, Math. Comp. 31 (1977), section 5 (FAS);
J. He & J. Xu, MgNet, Sci. China Math. 62 (2019), algorithms 1 and 3 (the same descent, with convolutions in the slots).
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from operator import index
from typing import Any, final

Array = Any  # whatever has + and -: an ndarray, a tensor
VISITS = {"V": "V", "W": "WW", "F": "FV"}  # the visits to the next level that a visit of each kind makes
MOST_STEPS = 10_000  # of a smoother: more would be a solver, and one that takes days


class Operator(ABC):
    """The slot A: maps a state u to data b (A in A u = b)."""

    @abstractmethod
    def __call__(self, u: Array) -> Array:
        """Return A u."""

    def residual(self, b: Array, u: Array | None) -> Array:
        """Return b - A u: the part of the data that the state does not explain yet."""
        return b if u is None else b - self(u)

    def residual_norm(self, b: Array, u: Array | None) -> float:
        """Return the 2-norm of b - A u."""
        residual = self.residual(b, u)
        return float((residual * residual).sum()) ** 0.5


class Smoother(ABC):
    """The slot S: all its steps u <- u + B (b - A u) at once. It receives its operator at the call and owns none.

    The operator is an `Operator`; a smoother that needs more of it names its backend's operator in its annotation.
    """

    @property
    def cost(self) -> float:
        """Work of one call, in applications of A."""
        return 1

    @abstractmethod
    def __call__(self, operator: Any, b: Array, u: Array | None) -> Array:
        """Return an improved u, always a new array: the argument stays as it is. None stands for zero."""

    def overwrite(self, operator: Any, b: Array, u: Array) -> Array:
        """Return the same, where the argument u is no longer needed and may be overwritten."""
        return self(operator, b, u)

    def adjoint(self) -> "Smoother | None":
        """Return the smoother whose error matrix is the adjoint, in the inner product of A; None where there is none."""
        return None


class Restriction(ABC):
    """The slot R: restricts a residual to the next level (pooling)."""

    @abstractmethod
    def __call__(self, residual: Array) -> Array:
        """Return R r on the coarser level."""


class StateTransfer(ABC):
    """The slot Pi: transfers the state itself to the next level. The correction scheme has no Pi at all."""

    @abstractmethod
    def __call__(self, u: Array) -> Array:
        """Return Pi u on the coarser level."""


class Prolongation(ABC):
    """The slot P: interpolates a correction to the finer level."""

    @abstractmethod
    def __call__(self, correction: Array) -> Array:
        """Return P e on the finer level."""

    def add_to(self, u: Array, correction: Array) -> Array:
        """Return u + P e, where the argument u is no longer needed and may be overwritten."""
        return u + self(correction)


@final
@dataclass(frozen=True)
class Steps(Smoother):
    """A smoother applied `count` times: the nu of V(nu, nu), the nu_l of MgNet with shared B."""

    step: Smoother
    count: int

    def __post_init__(self) -> None:
        if isinstance(self.count, bool) or not 1 <= index(self.count) <= MOST_STEPS:
            raise ValueError(f"count must be an integer from 1 to {MOST_STEPS}; no smoothing at all is a smoother None")
        object.__setattr__(self, "count", index(self.count))

    @property
    def cost(self) -> float:
        """Work of all steps."""
        return self.count * self.step.cost

    def __call__(self, operator: Operator, b: Array, u: Array | None) -> Array:
        return self._continue(operator, b, self.step(operator, b, u), self.count - 1)

    def overwrite(self, operator: Operator, b: Array, u: Array) -> Array:
        return self._continue(operator, b, u, self.count)

    def adjoint(self) -> Smoother | None:
        step = self.step.adjoint()
        return None if step is None else Steps(step, self.count)

    def _continue(self, operator: Operator, b: Array, u: Array, count: int) -> Array:
        for _ in range(count):
            u = self.step.overwrite(operator, b, u)
        return u


Descent = tuple[Array, Array, Array | None]  # the improved u, and the coarse problem: its right-hand side and its start


class Level(ABC):
    """One level of a cycle: its operator, and how a cycle passes through it on the way down and on the way up."""

    operator: Operator
    turns: bool = False  # whether `turn` takes less than its parts

    @abstractmethod
    def descend(self, b: Array, u: Array | None, coarser: "Level | None") -> Descent:
        """Return the improved u and the coarse problem b', u'."""

    @abstractmethod
    def ascend(self, b: Array, u: Array, start: Array | None, coarse: Array) -> Array:
        """Return u, improved by `coarse`, which the coarser levels made of `start`."""

    def ascend_measured(self, b: Array, u: Array, start: Array | None, coarse: Array) -> tuple[float, Array]:
        """Ascend; return the norm of b - A u, and u."""
        u = self.ascend(b, u, start, coarse)
        return self.operator.residual_norm(b, u), u

    def turn(
        self, b: Array, u: Array, start: Array | None, coarse: Array, coarser: "Level", keep: bool
    ) -> tuple[float, Array | None, Descent]:
        """Ascend, measure, and descend for the next cycle.

        Return the norm of b - A u before the descent; that u, which may be None unless it is to be kept; the descent.
        """
        norm, u = self.ascend_measured(b, u, start, coarse)
        return norm, u, self.descend(b, u, coarser)


class SlotLevel(Level):
    """The definition of a level, slot by slot; a fused level equals it to round-off. It declares slots and stores none."""

    smoother: Smoother | None  # None: no smoothing on the way down
    restriction: Restriction  # R;   the coarsest level has none
    state_transfer: StateTransfer | None  # Pi;  None: zero
    prolongation: Prolongation | None  # P;   None: nothing ascends
    post_smoother: Smoother | None  # None: the backslash cycle

    def descend(self, b: Array, u: Array | None, coarser: Level | None) -> Descent:
        if self.smoother is not None:
            u = self.smoother(self.operator, b, u)
        if coarser is None:
            return u, None, None
        residual = self.restriction(self.operator.residual(b, u))
        if self.state_transfer is None or u is None:
            return u, residual, None
        start = self.state_transfer(u)
        return u, residual + coarser.operator(start), start

    def ascend(self, b: Array, u: Array, start: Array | None, coarse: Array) -> Array:
        if self.prolongation is None:
            return coarse
        correction = coarse if start is None else coarse - start
        if u is None:
            u = self.prolongation(correction)
        elif self.smoother is None:  # then u is still the argument of descend
            u = u + self.prolongation(correction)
        else:
            u = self.prolongation.add_to(u, correction)
        return u if self.post_smoother is None else self.post_smoother.overwrite(self.operator, b, u)


class NestedLevel(Level):
    """A level that also takes part in nested iteration, which interpolates solutions, not corrections, to the finer level.

    So here, and only here, boundary values matter: each level folds its own into its right-hand side.
    """

    @abstractmethod
    def right_hand_side(self, f: Array) -> Array:
        """Return b, the source f with this level's boundary values folded in."""

    @abstractmethod
    def nested_restriction(self, f: Array) -> Array:
        """Return the source f restricted to the next level."""

    @abstractmethod
    def nested_prolongation(self, u: Array) -> Array:
        """Return the next level's solution, interpolated to a higher order than the discretization's."""

    def descend_nested(self, b: Array, coarse: Array, coarser: Level) -> Descent:
        """Descend from the next level's solution, interpolated."""
        return self.descend(b, self.nested_prolongation(coarse), coarser)


class MultigridCycle:
    """Levels, finest first, and how they are visited. Mixed into whatever owns the levels."""

    levels: Sequence[Level]
    kind: str  # "V", "W" or "F"

    def cycle(self, b: Array, u: Array | None = None, kind: str | None = None, at: int = 0) -> Array:
        """Return u after one cycle for A u = b from level `at` down."""
        level = self.levels[at]
        if at + 1 == len(self.levels):
            return level.descend(b, u, None)[0]
        descent = level.descend(b, u, self.levels[at + 1])
        return level.ascend(b, *self.below(descent, kind or self.kind, at + 1))

    def below(self, descent: Descent, kind: str, at: int) -> tuple[Array, Array | None, Array]:
        """Visit the levels below a descent; return its u, the coarse start, and the coarse u: the arguments of `ascend`."""
        u, coarse_b, start = descent
        return u, start, self.visit(coarse_b, start, kind, at)

    def visit(self, b: Array, u: Array | None, kind: str, at: int) -> Array:
        """Return u after the cycles that a visit of this kind, from the finer level, makes on level `at`."""
        for each in VISITS[kind]:
            u = self.cycle(b, u, each, at)
        return u

    def nested(self, f: Array, at: int = 0) -> Array:
        """Full multigrid: solve the coarser problem, interpolate its solution, improve it by one cycle."""
        level = self.levels[at]
        if not isinstance(level, NestedLevel):
            raise TypeError(f"nested iteration needs levels that are a NestedLevel, level {at} is a {type(level).__name__}")
        b = level.right_hand_side(f)
        if at + 1 == len(self.levels):
            return self.cycle(b, at=at)
        return level.ascend(b, *self.below(self.descend_nested(f, b, at), self.kind, at + 1))

    def descend_nested(self, f: Array, b: Array, at: int = 0) -> Descent:
        """Full multigrid up to level `at`: solve the coarser problem, interpolate its solution, descend from there."""
        level: Any = self.levels[at]
        coarse = self.nested(level.nested_restriction(f), at + 1)
        return level.descend_nested(b, coarse, self.levels[at + 1])  # type: ignore[no-any-return]

    @property
    def nests(self) -> bool:
        """Whether its levels take part in nested iteration."""
        return len(self.levels) > 0 and all(isinstance(level, NestedLevel) for level in self.levels)

    def visits(self) -> list[int]:
        """Return how often one cycle visits each level: 1, 1, 1.. (V), 1, 2, 4.. (W), 1, 2, 3.. (F)."""
        counts, kinds = [], self.kind
        for _ in self.levels:
            counts.append(len(kinds))
            kinds = "".join(VISITS[kind] for kind in kinds)
        return counts
