"""A demonstration on real input: what `unigrid demo` shows. Each part solves something, writes a figure, returns its report.

The first part takes a photograph's Laplacian f = -Laplace_h(photograph) and the photograph's outermost pixels, and solves for
all pixels within. The photograph itself is the exact solution of the discrete problem, so its difference from u is the
solver's error and nothing else.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from .files import FileError, read_array

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from .solution import Solution
    from .stencil.hierarchy import StencilCycle

Array = NDArray[np.float64]
PHOTOGRAPH = "grace_hopper.jpg"  # Rear Admiral Grace Hopper, U.S. Navy, public domain; comes with matplotlib
SHOWN_PERCENTILE = 99.0  # of |f|: beyond it the color scale is cut, for a few edges would leave nothing else to see


class Timer(Protocol):
    """What measures the parts: seconds by name."""

    seconds: dict[str, float]

    def measure(self, name: str) -> AbstractContextManager[None]: ...


Part = Callable[[Path, Timer], list[str]]


class Recovered(NamedTuple):
    """A photograph and what came of its Laplacian."""

    photograph: Array  # the pixels within, gray values from 0 to 1
    f: Array
    cycle: StencilCycle
    solution: Solution

    @property
    def error(self) -> Array:
        """|u - photograph|."""
        return np.abs(self.solution.u - self.photograph)


def folder(path: str | os.PathLike[str]) -> Path:
    """Return a folder to write to, made if missing. Raises FileError."""
    directory = Path(path)
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"{directory}: cannot be made a folder ({error.strerror})") from None
    return directory


def photograph_part(directory: Path, timer: Timer) -> list[str]:
    """Recover the photograph from its Laplacian, write unigrid-demo.png, return the lines of the report."""
    from . import plots

    recovered = recover(read_array(sample_photograph()), timer)
    path = directory / "unigrid-demo.png"
    plots.save(draw(recovered), path)
    cycle, solution = recovered.cycle, recovered.solution
    rows, columns = recovered.f.shape
    return [
        f"A photograph of {rows + 2} x {columns + 2} pixels, recovered from its Laplacian and its outermost pixels:",
        f"  problem        -Laplace(u) = f, {cycle.problem.grid.size:,} unknowns, Dirichlet",
        f"  cycle          {cycle.kind}({cycle.pre},{cycle.post}), {cycle.smoother!r}, {len(cycle.levels)} levels",
        f"  iterations     {solution.iterations}, the first of them full multigrid",
        f"  residual       {solution.residuals[-1] / solution.residuals[0]:.1e} of the initial one ({solution.reason})",
        f"  factor         {solution.rate:.3f} an iteration",
        f"  largest error  {recovered.error.max():.1e}, gray values being 0 to 1",
        f"  seconds        {timer.seconds['setup']:.3f} to set up, {timer.seconds['solve']:.3f} to solve",
        f"Wrote {path}",
    ]


PARTS: tuple[Part, ...] = (photograph_part,)


def sample_photograph() -> Path:
    """Return where matplotlib keeps its sample photograph. Raises FileError where it was installed without."""
    from matplotlib.cbook import get_sample_data

    path = Path(get_sample_data(PHOTOGRAPH, asfileobj=False))
    if not path.is_file():
        raise FileError(f"{PHOTOGRAPH}: this matplotlib came without its sample data; install it from PyPI")
    return path


def recover(pixels: Array, timer: Timer) -> Recovered:
    """Take the Laplacian of the pixels (spacing 1), forget all but the outermost, and solve for them."""
    from .stencil.boundary import Dirichlet
    from .stencil.hierarchy import StencilCycle
    from .stencil.problem import Poisson

    f = minus_laplacian(pixels)
    sides = [
        (Dirichlet(pixels[0, 1:-1]), Dirichlet(pixels[-1, 1:-1])),
        (Dirichlet(pixels[1:-1, 0]), Dirichlet(pixels[1:-1, -1])),
    ]
    with timer.measure("setup"):
        cycle = StencilCycle(Poisson(f.shape, spacing=1.0, boundary=sides))
    with timer.measure("solve"):
        solution = cycle.solve(f)
    return Recovered(pixels[1:-1, 1:-1], f, cycle, solution)


def minus_laplacian(pixels: Array) -> Array:
    """Return 4 times each inner pixel less its four neighbors."""
    return 4 * pixels[1:-1, 1:-1] - pixels[:-2, 1:-1] - pixels[2:, 1:-1] - pixels[1:-1, :-2] - pixels[1:-1, 2:]


def draw(recovered: Recovered) -> Figure:
    """Return the figure: f, u, the photograph and the error above, the history and the hierarchy below."""
    from matplotlib.figure import Figure

    from . import plots

    figure = Figure(figsize=(14.0, 8.6), layout="constrained")
    cycle, solution = recovered.cycle, recovered.solution
    figure.suptitle(
        f"A photograph recovered from its Laplacian: {cycle.problem.grid.size:,} unknowns, {solution.iterations} iterations, "
        f"largest error {recovered.error.max():.0e}".replace("e-0", "e-")
    )
    (above,), (below,) = figure.subfigures(2, 1, squeeze=False, height_ratios=(3.6, 5.0))
    limit = float(np.percentile(np.abs(recovered.f), SHOWN_PERCENTILE))
    shown: list[tuple[Any, str, dict[str, Any]]] = [
        (recovered.photograph, "photograph", {"label": "gray value", "cmap": "gray"}),
        (recovered.f, r"source $f = -\Delta$ photograph", {"label": "f", "limit": limit}),
        (solution.u, r"solution $u$ of $-\Delta u = f$", {"label": "gray value", "cmap": "gray"}),
        (recovered.error, "error", {"label": "|u - photograph|"}),
    ]
    for number, (axes, (values, title, options)) in enumerate(zip(above.subplots(1, 4), shown, strict=True)):
        plots.draw_image(axes, values, picture=True, **options)
        axes.set(title=title, xlabel="column", ylabel="" if number else "row")
    left, right = below.subfigures(1, 2, width_ratios=(5.0, 9.0))
    axes = left.subplots()
    plots.draw_history(axes, {f"{cycle.kind}({cycle.pre},{cycle.post})": solution})
    axes.set_title("residuals")
    plots.draw_hierarchy(right.subplots(), cycle)
    return figure
