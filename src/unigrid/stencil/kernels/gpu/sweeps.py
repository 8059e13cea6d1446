"""Fused half-cycles of red-black relaxation on a GPU, as `cpu.fused.FusedSweeps` has them for NumPy arrays.

The kernels are in `marches` and `passes`, in Triton; here is what they are called with. A half-cycle of more half-sweeps
than a tile has room for is several passes. No torch is imported: tensors come and are made by their own methods.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from ...grid import Axis
from ..bands import Band
from ..cpu.fused import Sweeps
from .marches import march, relax_tile
from .passes import correct, transfer

Tensor = Any
Move = Callable[[Any], Tensor]  # an array to the device: floating point numbers in the precision of the level
BLOCK = 256
MOST_OF_A_TURN = 10  # half-sweeps: those of the default cycle take all registers that there are
MOST_SWEEPS = 32  # half-sweeps of a smoother: with more, compiling takes long for what nobody needs
MOST_TERMS = 5  # of a row of a restriction along one axis, which halos have room for
MULTIPROCESSORS, PROGRAMS = 132, 8  # of H100 and H200; programs for each that a large grid is cut into


class Tile(NamedTuple):
    """The part of a plane that one program works on.

    rows, half : its rows, and the points of each half of a row; powers of two
    warps : of a program
    most : half-sweeps of one pass
    fewest_planes : of a chunk; even
    """

    rows: int
    half: int
    warps: int
    most: int
    fewest_planes: int


# In float64 no kernel of these spills registers; in 3-D tiles of 32 x 64 points would.
TILES = {2: Tile(1, 128, 4, 8, 16), 3: Tile(32, 16, 8, 2, 16)}
# A step of a march waits for shared memory as often as it has stages, about half a microsecond: on small grids tiles that are
# held as a whole end sooner, though more than half of their points are halo. Not measured, as no GPU was at hand.
WHOLE_TILE, TILED_UP_TO = Tile(32, 32, 16, 8, 0), 1 << 18


class Windows(NamedTuple):
    """A restriction along one axis: coarse point i takes the fine ones from starts[i] on, which may lie beyond an end.

    starts : (count,), increasing
    weights : (count, width)
    """

    starts: NDArray[np.int64]
    weights: NDArray[np.float64]

    @property
    def width(self) -> int:
        """Terms of a row."""
        return self.weights.shape[1]


def windows_of(band: Band) -> Windows | None:
    """Return a restriction by its windows; None where two coarse points have the same."""
    used = band.weights != 0.0
    if not used.any(axis=1).all():
        return None
    first = used.argmax(axis=1)
    width = int((band.weights.shape[1] - used[:, ::-1].argmax(axis=1) - first).max())
    padded = np.pad(band.weights, ((0, 0), (0, width)))
    weights = np.take_along_axis(padded, first[:, None] + np.arange(width), axis=1)
    starts = band.starts + first
    if (np.diff(starts) < 1).any() or starts[0] <= -width:
        return None
    return Windows(starts, weights)


_ONE = Band.identity(1, False)


def _of_three(values: Sequence[Any], missing: Any) -> list[Any]:
    """Return what three axes have, (planes, rows, columns), of one per axis: in 2-D there is one row."""
    return [values[0], missing if len(values) == 2 else values[1], values[-1]]


Three = Callable[[Sequence[Any], Any], list[Any]]


def _in_one_plane(values: Sequence[Any], missing: Any) -> list[Any]:
    """Return the same of a 2-D grid as one plane."""
    return [missing, *values]


def _line(axis: Axis) -> NDArray[np.float64]:
    """Return, at the first, an inner and the last point, the coefficients of the lower and upper neighbor, and the diagonal."""
    n, scale = axis.n, 1.0 / axis.h**2
    low, high, diagonal = np.full(n, scale), np.full(n, scale), np.full(n, 2.0 * scale)
    own, other = (low, high), (high, low)
    for end, place, ghost in zip((0, 1), (0, n - 1), axis.ghosts(), strict=True):
        own[end][place] = 0.0
        if ghost.inward == place:
            diagonal[place] -= scale * ghost.weight
        elif axis.periodic:
            own[end][place] = scale * ghost.weight
        else:
            other[end][place] += scale * ghost.weight
    return np.stack([low, high, diagonal])[:, [0, n // 2, n - 1]]


def coefficients_of(axes: Sequence[Axis], reaction: float, three: Three = _of_three) -> tuple[NDArray[np.float64], bool, bool]:
    """Return the coefficients in the order of `marches`, and its EVEN and MIRRORED."""
    lines = three([_line(axis) for axis in axes], np.zeros((3, 3)))
    sums = reaction + lines[0][2][:, None, None] + lines[1][2][:, None] + lines[2][2]
    table = np.zeros((2, 4, 10))
    table[0, :3, :9], table[1, :3, :9] = 1.0 / sums.reshape(3, 9), sums.reshape(3, 9)
    neighbors = np.stack([line[:2] for line in lines])
    (_, below, last_below), (first_above, above, _) = neighbors[0]
    even, mirrored = bool((table[1, :3] == table[1, 0]).all()), bool(last_below != below or first_above != above)
    return np.concatenate([neighbors.ravel(), table.ravel()]), even, mirrored


@final
@dataclass(frozen=True)
class Pass:
    """One pass over the grid: how u begins, half-sweeps, and what else there is of it; see `marches.march`."""

    reads: bool
    corrects: bool
    color: int
    before: tuple[float, ...]
    norm: bool = False
    after: tuple[float, ...] = ()
    restricts: bool = False
    keeps: bool = False


class Plan(NamedTuple):
    """A pass with all arguments but the arrays: those of the kernel by position and by name, and its tiles."""

    tables: tuple[Any, ...]
    constants: dict[str, Any]
    tiles: tuple[int, int]
    chunks: int


class Outcome(NamedTuple):
    """What a pass leaves: u, the norm of the residual and the restricted one where they are wanted, and the copy of u."""

    u: Tensor
    norm: Tensor | None
    coarse: Tensor
    kept: Tensor | None


class BandTables(NamedTuple):
    """Bands of three axes on a device: places, and weights, of each row; their widths."""

    places: list[Tensor]
    weights: list[Tensor]
    widths: list[int]


def _tables(bands: Sequence[Band], move: Move, three: Three = _of_three) -> BandTables:
    padded = three(list(bands), _ONE)
    places = [move(band.indices.astype(np.int32)) for band in padded]
    return BandTables(places, [move(band.weights) for band in padded], [band.weights.shape[1] for band in padded])


@final
class Transfer:
    """A tensor product of bands on a device, leading axes of its argument being a batch."""

    def __init__(self, bands: Sequence[Band], done: Tensor, move: Move) -> None:
        self._tables, self._done = _tables(bands, move), done
        self.shape, self.source = tuple(band.shape[0] for band in bands), tuple(band.shape[1] for band in bands)

    def __call__(self, u: Tensor) -> Tensor:
        """Return T u."""
        u = u.contiguous()
        batch = u.shape[: u.ndim - len(self.source)]
        out = u.new_empty((*batch, *self.shape))
        sizes = (*_of_three(self.shape, 1), *_of_three(self.source, 1))
        grid = sizes[0] * sizes[1], -(-sizes[2] // BLOCK), math.prod(batch)
        places, weights, widths = self._tables
        transfer[grid](out, u, self._done, *places, *weights, *sizes, *widths, BLOCK=BLOCK)
        return out


@final
class Correction:
    """u + e and b - A (u + e), u in double precision, e and the residual in single precision, in one pass."""

    def __init__(self, axes: Sequence[Axis], reaction: float, move: Move) -> None:
        """`move` keeps double precision."""
        self._shape = tuple(axis.n for axis in axes)
        self._periodic = _of_three([axis.periodic for axis in axes], False)
        self._coefficients = move(coefficients_of(axes, reaction)[0])

    def __call__(self, b: Tensor, u: Tensor | None, e: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the sum, its residual, and the norm of that as a tensor; None stands for u = 0."""
        b, e = b.contiguous(), e.contiguous()
        batch, sizes = b.shape[: b.ndim - len(self._shape)], _of_three(self._shape, 1)
        grid = sizes[0] * sizes[1], -(-sizes[2] // BLOCK), math.prod(batch)
        out, left, sums = b.new_empty(b.shape), e.new_empty(b.shape), b.new_empty(math.prod(grid))
        source = b if u is None else u.contiguous()
        periodic = dict(zip(("PZ", "PY", "PX"), self._periodic, strict=True))
        arrays = out, left, sums, b, source, e, self._coefficients
        correct[grid](*arrays, *sizes, FRESH=u is None, **periodic, NDIM=len(self._shape), BLOCK=BLOCK)
        return out, left, sums.reshape(*batch, -1).sum(-1).sqrt()


class MarchedSweeps:
    """The half-cycles of a level with red-black relaxation, on the device of its tables."""

    default_tile: Tile | None = None

    def __init__(
        self,
        axes: Sequence[Axis],
        coarse_shape: tuple[int, ...],
        reaction: float,
        sweeps: tuple[Sweeps, Sweeps],
        transfers: tuple[Sequence[Band], Sequence[Band]],
        done: Tensor,
        move: Move,
        tile: Tile | None = None,
    ) -> None:
        """`sweeps` of the descent and of the ascent, `transfers` R and P, `done` a flag; see `covers` for what is taken."""
        self.shape, self.coarse_shape = tuple(axis.n for axis in axes), coarse_shape
        self.down, self.up = sweeps
        self._tile, self._done, self._move = tile or self.default_tile or TILES[len(axes)], done, move
        self._periodic = self._three([axis.periodic for axis in axes], False)
        coefficients, self._even, self._mirrored = coefficients_of(axes, reaction, self._three)
        self._coefficients = move(coefficients)
        found = [windows_of(band) for band in self._three(list(transfers[0]), _ONE)]
        self._windows: list[Windows] = [each for each in found if each is not None]
        self._prolongation = _tables(transfers[1], move, self._three)
        self._plans: dict[tuple[Pass, int], Plan] = {}

    @staticmethod
    def _three(values: Sequence[Any], missing: Any) -> list[Any]:
        """Return what planes, rows and columns have, of one per axis."""
        return _of_three(values, missing)

    @staticmethod
    def covers(axes: Sequence[Axis], restriction: Sequence[Band], sweeps: tuple[Sweeps, Sweeps]) -> bool:
        """Whether there are kernels: 2-D and 3-D, periodic axes of even length, transfers whose windows advance."""
        if len(axes) not in TILES or any(axis.n < 2 or (axis.periodic and axis.n % 2) for axis in axes):
            return False
        windows = [windows_of(band) for band in restriction]
        few = max(len(each.omegas) for each in sweeps) <= MOST_SWEEPS
        return few and all(each is not None and each.width <= MOST_TERMS for each in windows)

    @cached_property
    def turns(self) -> bool:
        """Whether ascending and descending again fit into one pass."""
        up, down = self.up, self.down
        together = len(up.omegas) + len(down.omegas)
        alternate = (up.color + len(up.omegas)) % 2 == down.color
        # With cubic interpolation, or coefficients that vary from plane to plane, a turn would spill registers.
        light = max(self._prolongation.widths) <= 2 and self._even and not self._mirrored
        fits = len(self.shape) == 2 and together <= MOST_OF_A_TURN and light
        return fits and len(up.omegas) > 0 and alternate

    def descend(self, b: Tensor, u: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return u after pre-smoothing, and the restricted residual; the given u is not changed."""
        for each in self._passes(u is not None, False, self.down, restricts=True):
            u, _, coarse_b, _ = self._run(each, b, u)
        return u, coarse_b

    def ascend(self, b: Tensor, u: Tensor, correction: Tensor) -> Tensor:
        """Return u + P e after post-smoothing."""
        for each in self._passes(True, True, self.up):
            u = self._run(each, b, u, correction).u
        return u

    def ascend_measured(self, b: Tensor, u: Tensor, correction: Tensor) -> tuple[Tensor, Tensor]:
        """Do the same; return the norm of the residual, as a tensor, and u."""
        for each in self._passes(True, True, self.up, norm=True):
            u, norm, *_ = self._run(each, b, u, correction)
        return norm, u

    def turn(self, b: Tensor, u: Tensor, correction: Tensor, keep: bool) -> tuple[Tensor, Tensor | None, Tensor, Tensor]:
        """Ascend and descend again.

        Return the norm of the residual in between, as a tensor, that u if it is to be kept, u and the restricted residual.
        """
        out, norm, coarse_b, kept = self._run(self._turning(keep), b, u, correction)
        return norm, kept, out, coarse_b

    def all_passes(self) -> list[Pass]:
        """Return the passes of all half-cycles."""
        down = [each for reads in (False, True) for each in self._passes(reads, False, self.down, restricts=True)]
        up = [each for norm in (False, True) for each in self._passes(True, True, self.up, norm=norm)]
        turning = [self._turning(keep) for keep in (False, True)] if self.turns else []
        return list(dict.fromkeys([*down, *up, *turning]))

    def _turning(self, keep: bool) -> Pass:
        return Pass(True, True, self.up.color, self.up.omegas, True, self.down.omegas, True, keep)

    def _passes(self, reads: bool, corrects: bool, sweeps: Sweeps, norm: bool = False, restricts: bool = False) -> list[Pass]:
        """Return the passes of half-sweeps, of as many as fit; what follows them is in the last."""
        most, omegas = self._tile.most, sweeps.omegas
        parts = [omegas[k : k + most] for k in range(0, len(omegas), most)] or [()]
        if restricts and len(self.shape) == 3 and omegas:  # the halo of a restriction is as wide as that of a sweep
            parts.append(())
        passes, color = [], sweeps.color
        for number, part in enumerate(parts):
            is_last = number + 1 == len(parts)
            start = reads or number > 0, corrects and number == 0
            passes.append(Pass(*start, color, part, norm and is_last, (), restricts and is_last))
            color = (color + len(part)) % 2
        return passes

    def _run(self, which: Pass, b: Tensor, u: Tensor | None, correction: Tensor | None = None) -> Outcome:
        """Run a pass."""
        b = b.contiguous()
        batch = b.shape[: b.ndim - len(self.shape)]
        count = math.prod(batch)
        plan = self._plans.get((which, count)) or self._plans.setdefault((which, count), self._plan(which, count))
        grid = plan.tiles[0] * plan.tiles[1], plan.chunks, count
        out = b.new_empty(b.shape)
        coarse = b.new_empty((*batch, *self.coarse_shape)) if which.restricts else out
        kept = b.new_empty(b.shape) if which.keeps else out
        sums = self._done.new_empty((math.prod(grid),), dtype=self._wide) if which.norm else out
        source = b if u is None else u.contiguous()
        e = b if correction is None or not which.corrects else correction.contiguous()
        self._launch(grid, (source, b, e, out, coarse, kept, sums), plan)
        norm = sums.reshape(count, -1).sum(1).sqrt().reshape(batch) if which.norm else None
        return Outcome(out, norm, coarse, kept if which.keeps else None)

    def _launch(self, grid: tuple[int, int, int], arrays: tuple[Tensor, ...], plan: Plan) -> None:
        march[grid](*arrays, self._done, *plan.tables, **plan.constants)

    @cached_property
    def _wide(self) -> Any:
        return self._done.double().dtype

    def _plan(self, which: Pass, count: int) -> Plan:
        """Return a pass over so many right-hand sides, with all its arguments."""
        fine = self._three(self.shape, 1)
        halo, own = self._cut(which)
        tiles = -(-fine[1] // own[1]), -(-fine[2] // own[2])
        owners = [self._owners(axis, own[axis], tiles[axis - 1], which.restricts) for axis in (1, 2)]
        rows, columns = (max(np.diff(each).max(), 1) for each in owners)
        planes = max(self._tile.fewest_planes, -(-fine[0] * math.prod(tiles) * count // (PROGRAMS * MULTIPROCESSORS)))
        planes += planes % 2
        constants = {
            **self._constants(which), "HALO_Y": halo[1], "HALO_X": halo[2], "OWN_Y": own[1], "OWN_X": own[2],
            "COARSE_ROWS": _power_of_two(max(rows, self._tile.rows // 2)),
            "COARSE_COLUMNS": _power_of_two(max(columns, self._tile.half)), "num_warps": self._tile.warps,
        }  # fmt: skip
        return Plan(self._arguments(owners, tiles[1], planes), constants, tiles, -(-fine[0] // planes))

    def _arguments(self, owners: list[list[int]], columns: int, planes: int) -> tuple[Any, ...]:
        """Return the arguments that are no arrays of the grid, `columns` the tiles in a row of them."""
        sizes = *_of_three(self.shape, 1), *_of_three(self.coarse_shape, 1)
        return self._coefficients, *self._bands(owners), *sizes, columns, planes

    def _cut(self, which: Pass) -> tuple[list[int], list[int]]:
        """Return, along each axis, after how many points of a tile its own begin, and how many there are."""
        sweeps, halo, own = len(which.before) + len(which.after), [0, 0, 0], [1, 1, 1]
        for axis, size in ((1, self._tile.rows), (2, 2 * self._tile.half)):
            if size > 1:
                beside = sweeps + (self._windows[axis].width if which.restricts else int(which.norm))
                halo[axis] = beside + beside % 2
                own[axis] = (size - halo[axis] - beside) // 2 * 2
        if min(own) < 1:
            raise ValueError(f"a tile of {self._tile.rows} x {2 * self._tile.half} points has no room for {sweeps} half-sweeps")
        return halo, own

    def _bands(self, owners: list[list[int]]) -> list[Tensor]:
        """Return the tables of P and R, and the coarse points of each tile."""
        move, planes = self._move, self._windows[0]
        finish = np.full(planes.starts[-1] + planes.width + self.shape[0], -1, np.int32)
        finish[planes.starts + planes.width - 1] = np.arange(len(planes.starts))
        integers = [finish, *(each.starts.astype(np.int32) for each in self._windows[1:])]
        weights = [each.weights for each in self._windows]
        tiles = [np.asarray(each, np.int32) for each in owners]
        places, factors, _ = self._prolongation
        return [*places, *factors, *map(move, [*integers, *weights, *tiles])]

    def _constants(self, which: Pass) -> dict[str, Any]:
        """Return the constants of the kernel that do not depend on tiles."""
        (pwz, pwy, pwx), (rwz, rwy, rwx) = self._prolongation.widths, (each.width for each in self._windows)
        pz, py, px = self._periodic
        return {
            "READS": which.reads, "CORRECTS": which.corrects, "COLOR": which.color, "OMEGAS": which.before + which.after,
            "BEFORE": len(which.before), "NORM": which.norm, "SNAPSHOT": which.keeps,
            "AFTER": len(which.after), "RESTRICT": which.restricts,
            "NDIM": len(self.shape), "PZ": pz, "PY": py, "PX": px, "EVEN": self._even, "MIRRORED": self._mirrored,
            "ROWS": self._tile.rows, "HALF": self._tile.half,
            "AHEAD": self._comes_early(which),
            "PWZ": pwz, "PWY": pwy, "PWX": pwx, "RWZ": rwz, "RWY": rwy, "RWX": rwx,
        }  # fmt: skip

    def _comes_early(self, which: Pass) -> bool:
        """Whether there are registers left for a plane that comes one step before it is needed."""
        if len(self.shape) == 3:
            return not which.corrects and not which.norm
        return not which.corrects or math.prod(self._prolongation.widths) <= 4

    def _owners(self, axis: int, own: int, tiles: int, restricts: bool) -> list[int]:
        """Return the first coarse point of each tile along an axis, and their count: it owns those that begin in its part."""
        starts = self._windows[axis].starts
        inner = [int(np.searchsorted(starts, number * own)) for number in range(1, tiles)] if restricts else [0] * (tiles - 1)
        return [0, *inner, len(starts) if restricts else 0]


@final
class TiledSweeps(MarchedSweeps):
    """The same on a small 2-D grid, of which each program holds a tile as a whole."""

    default_tile = WHOLE_TILE
    turns = False  # type: ignore[assignment]

    @staticmethod
    def _three(values: Sequence[Any], missing: Any) -> list[Any]:
        return _in_one_plane(values, missing)

    def _launch(self, grid: tuple[int, int, int], arrays: tuple[Tensor, ...], plan: Plan) -> None:
        *own, _, sums = arrays
        relax_tile[grid](*own, sums, self._done, *plan.tables, **plan.constants)

    def _arguments(self, owners: list[list[int]], columns: int, planes: int) -> tuple[Any, ...]:
        _, *rest = self._bands(owners)
        p_y, p_x, _, pw_y, pw_x, _, *restriction = rest
        return self._coefficients, p_y, p_x, pw_y, pw_x, *restriction, *self.shape, *self.coarse_shape, columns

    def _constants(self, which: Pass) -> dict[str, Any]:
        left_out = {"AFTER", "SNAPSHOT", "NDIM", "PZ", "EVEN", "MIRRORED", "AHEAD", "PWZ", "RWZ"}
        return {name: value for name, value in super()._constants(which).items() if name not in left_out}


def sweeps_for(axes: Sequence[Axis], *arguments: Any) -> MarchedSweeps:
    """Return the half-cycles for a grid; the arguments are those of `MarchedSweeps`."""
    small = len(axes) == 2 and math.prod(axis.n for axis in axes) <= TILED_UP_TO
    return (TiledSweeps if small else MarchedSweeps)(axes, *arguments)


def _power_of_two(count: int) -> int:
    return 1 << (int(count) - 1).bit_length()
