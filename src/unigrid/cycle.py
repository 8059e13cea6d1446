"""One multigrid cycle for A u = f, the full approximation scheme: on grids of values and on grids of features.

    descend    u  <- S(A, f, u)                     smoothing   = feature extraction
               r' <- R (f - A u)                    restriction = pooling
               u' <- Pi u,   f' <- r' + A' u'       state transfer; Pi = 0 is the correction scheme
    visit      the next level once (V), twice (W), F then V (F); the last level only smooths: a direct solver is a smoother
    ascend     u  <- u + P (u' - Pi u),  then smooth        or, where nothing ascends (MgNet),  u <- u'

The state `u` (solution, features) and the data `f` (right-hand side, image) are dual: A carries the one to the other.
This file names neither numpy nor torch. It calls slots and uses + and -, so whatever has these runs through it.

`None` is the zero state: never stored, read or subtracted. No leg changes what it is given, but `ascend` may overwrite the
u which `descend` of the same level returned.

Source: A. Brandt, Multi-level adaptive solutions to boundary-value problems, Math. Comp. 31 (1977), section 5 (FAS);
J. He & J. Xu, MgNet, Sci. China Math. 62 (2019), algorithms 1 and 3 (the same descent, with convolutions in the slots).
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, final

Array = Any  # whatever has + and -: an ndarray, a tensor
VISITS = {"V": "V", "W": "WW", "F": "FV"}  # how a visit of each kind visits the next level


class Operator(ABC):
    """The slot A: carries a state to the data that it explains."""

    @abstractmethod
    def __call__(self, u: Array) -> Array:
        """Return A u."""

    def residual(self, f: Array, u: Array | None) -> Array:
        """Return f - A u: what of the data the state does not explain yet."""
        return f if u is None else f - self(u)


class Smoother(ABC):
    """The slot S: all its steps u <- u + B (f - A u) at once. It is handed its operator at the call and owns none.

    The operator is an `Operator`; a smoother that needs more of it may ask for its backend's, in its annotation.
    """

    @property
    def cost(self) -> float:
        """Work of one call, in applications of A."""
        return 1

    @abstractmethod
    def __call__(self, operator: Any, f: Array, u: Array | None) -> Array:
        """Return an improved u, always a new array: the u that came in stays as it is. None stands for zero."""

    def overwrite(self, operator: Any, f: Array, u: Array) -> Array:
        """Return what the call returns, where the u that came in is no longer needed and may be written over."""
        return self(operator, f, u)

    def adjoint(self) -> "Smoother | None":
        """Return the smoother whose error matrix is the adjoint, in the inner product of A; None where there is none."""
        return None


class Restriction(ABC):
    """The slot R: carries a residual to the next level (pooling)."""

    @abstractmethod
    def __call__(self, residual: Array) -> Array:
        """Return R r on the coarser level."""


class StateTransfer(ABC):
    """The slot Pi: carries the state itself to the next level. Classical correction: no Pi at all."""

    @abstractmethod
    def __call__(self, u: Array) -> Array:
        """Return Pi u on the coarser level."""


class Prolongation(ABC):
    """The slot P: carries a correction back to the finer level."""

    @abstractmethod
    def __call__(self, correction: Array) -> Array:
        """Return P e on the finer level."""

    def add_to(self, u: Array, correction: Array) -> Array:
        """Return u + P e, where the u that came in is no longer needed and may be written over."""
        return u + self(correction)


@final
class Steps(Smoother):
    """A smoother applied `count` times: the nu of V(nu, nu), the nu_l of MgNet with shared B."""

    def __init__(self, step: Smoother, count: int) -> None:
        if count < 1:
            raise ValueError(f"count must be >= 1, got {count!r}; no smoothing at all is a smoother None")
        self.step, self.count = step, count

    @property
    def cost(self) -> float:
        """Work of all steps."""
        return self.count * self.step.cost

    def __call__(self, operator: Operator, f: Array, u: Array | None) -> Array:
        return self._continue(operator, f, self.step(operator, f, u), self.count - 1)

    def overwrite(self, operator: Operator, f: Array, u: Array) -> Array:
        return self._continue(operator, f, u, self.count)

    def adjoint(self) -> Smoother | None:
        step = self.step.adjoint()
        return None if step is None else Steps(step, self.count)

    def _continue(self, operator: Operator, f: Array, u: Array, count: int) -> Array:
        for _ in range(count):
            u = self.step.overwrite(operator, f, u)
        return u


class Level(ABC):
    """One level of a cycle: its operator, and the two legs that pass through it."""

    operator: Operator

    @abstractmethod
    def descend(self, f: Array, u: Array | None, coarser: "Level | None") -> tuple[Array, Array, Array | None]:
        """Return the improved u and the coarse problem f', u'."""

    @abstractmethod
    def ascend(self, f: Array, u: Array, start: Array | None, coarse: Array) -> Array:
        """Return u, improved by what the coarser levels made of `start`."""


class SlotLevel(Level):
    """The definition of a level, slot by slot; a fused level equals it to round-off. It declares slots and stores none."""

    smoother: Smoother | None  # None: no smoothing on the way down
    restriction: Restriction  # R;   the coarsest level has none
    state_transfer: StateTransfer | None  # Pi;  None: zero
    prolongation: Prolongation | None  # P;   None: nothing ascends
    post_smoother: Smoother | None  # None: the backslash cycle

    def descend(self, f: Array, u: Array | None, coarser: Level | None) -> tuple[Array, Array, Array | None]:
        if self.smoother is not None:
            u = self.smoother(self.operator, f, u)
        if coarser is None:
            return u, None, None
        residual = self.restriction(self.operator.residual(f, u))
        if self.state_transfer is None or u is None:
            return u, residual, None
        start = self.state_transfer(u)
        return u, residual + coarser.operator(start), start

    def ascend(self, f: Array, u: Array, start: Array | None, coarse: Array) -> Array:
        if self.prolongation is None:
            return coarse
        correction = coarse if start is None else coarse - start
        if u is None:
            u = self.prolongation(correction)
        elif self.smoother is None:  # then u is still the one that descend was given
            u = u + self.prolongation(correction)
        else:
            u = self.prolongation.add_to(u, correction)
        return u if self.post_smoother is None else self.post_smoother.overwrite(self.operator, f, u)


class NestedLevel(Level):
    """A level that also takes part in nested iteration, which carries solutions, not corrections, to the finer level.

    So here, and only here, boundary values matter: each level folds its own into its right-hand side.
    """

    @abstractmethod
    def right_hand_side(self, f: Array) -> Array:
        """Return b, the source f with this level's boundary values folded in."""

    @abstractmethod
    def nested_restriction(self, f: Array) -> Array:
        """Return the source f as the next level sees it."""

    @abstractmethod
    def nested_prolongation(self, u: Array) -> Array:
        """Return the next level's solution, interpolated to a higher order than the discretization's."""

    def descend_nested(self, f: Array, coarse: Array, coarser: Level) -> tuple[Array, Array, Array | None]:
        """Descend from the next level's solution, interpolated."""
        return self.descend(f, self.nested_prolongation(coarse), coarser)


class MultigridCycle:
    """Levels, finest first, and how they are visited. Mixed into whatever owns the levels."""

    levels: Sequence[Level]
    kind: str  # "V", "W" or "F"

    def cycle(self, f: Array, u: Array | None = None, kind: str | None = None, at: int = 0) -> Array:
        """Return u after one cycle for A u = f from level `at` down."""
        level, coarser = self.levels[at], self.levels[at + 1] if at + 1 < len(self.levels) else None
        u, coarse_f, start = level.descend(f, u, coarser)
        if coarser is None:
            return u
        return level.ascend(f, u, start, self.visit(coarse_f, start, kind or self.kind, at + 1))

    def visit(self, f: Array, u: Array | None, kind: str, at: int) -> Array:
        """Return what the cycles of a visit from the finer level, of this kind, make of u on level `at`."""
        for each in VISITS[kind]:
            u = self.cycle(f, u, each, at)
        return u

    def nested(self, f: Array, at: int = 0) -> Array:
        """Full multigrid: solve the coarser problem, interpolate its solution, improve it by one cycle."""
        level = self.levels[at]
        if not isinstance(level, NestedLevel):
            raise TypeError(f"nested iteration needs levels that are a NestedLevel, level {at} is a {type(level).__name__}")
        b = level.right_hand_side(f)
        if at + 1 == len(self.levels):
            return self.cycle(b, at=at)
        coarse = self.nested(level.nested_restriction(f), at + 1)
        u, coarse_f, start = level.descend_nested(b, coarse, self.levels[at + 1])
        return level.ascend(b, u, start, self.visit(coarse_f, start, self.kind, at + 1))

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
