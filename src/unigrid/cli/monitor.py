"""Output of the commands: progress bar, one line per iteration or epoch, note of compilation, text and JSON."""

from __future__ import annotations

import contextlib
import functools
import json
import math
import os
import shutil
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import IO, TYPE_CHECKING, Any

from ..files import expanded
from ..machine import versions
from ..messages import printable
from ..solution import Solution

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Watch = Callable[[Solution], None]
Facts = dict[str, Any]  # the outcome of a command, from which text and JSON are rendered
TOP = 5  # likeliest classes among which the right one is counted
COMPILING = "unigrid: compiling kernels for this machine (once; takes a few seconds) ..."


@contextlib.contextmanager
def progress_bar(target: Callable[[float], float]) -> Iterator[Watch | None]:
    """Yield a callback that moves a bar on stderr, or None where stderr is no terminal.

    The bar measures the decimal digits gained relative to those required, which grow evenly to the end, unlike iterations
    relative to `maxiter`. `target(initial residual)` is the residual that is required.
    """
    if not sys.stderr.isatty():
        yield None
        return
    from tqdm import tqdm

    form = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}{postfix}"
    columns, rows = shutil.get_terminal_size()  # tqdm's own guess shows no bar on a terminal without a size
    options = {"ncols": min(columns, 100), "nrows": rows, "bar_format": form}
    with tqdm(total=1.0, desc="solving", leave=False, file=sys.stderr, **options) as bar:

        def watch(solution: Solution) -> None:
            bar.set_postfix_str(f"iteration {solution.iterations}, residual {_relative(solution):.1e}", refresh=False)
            bar.update(max(0.0, _gained(solution, target(solution.residuals[0])) - bar.n))
            bar.refresh()

        yield watch


def _relative(solution: Solution) -> float:
    first = solution.residuals[0]
    return solution.residuals[-1] / first if first > 0 else math.nan


def _gained(solution: Solution, target: float) -> float:
    """Return the part of the required digits that is gained, from 0 to 1."""
    first, last = solution.residuals[0], solution.residuals[-1]
    if last <= target:
        return 1.0
    if not 0 < target < first:
        return 0.0
    return min(max(math.log(first / last) / math.log(first / target), 0.0), 1.0)


def line_per_iteration(stream: IO[str]) -> Watch:
    """Return a callback that prints iteration, residual, relative residual and factor; the first call prints the start, too."""

    def watch(solution: Solution) -> None:
        residuals = solution.residuals
        if len(residuals) == 2:
            print(f"{'iteration':>9}  {'residual':>11}  {'relative':>11}  factor", file=stream)
            print(f"{0:9}  {residuals[0]:11.4e}  {1.0:11.4e}", file=stream)
        factor = residuals[-1] / residuals[-2] if residuals[-2] > 0 else math.nan
        row = f"{solution.iterations:9}  {residuals[-1]:11.4e}  {_relative(solution):11.4e}  {factor:.4f}"
        print(row, file=stream, flush=True)

    return watch


def line_per_epoch(stream: IO[str]) -> Callable[[dict[str, Any]], None]:
    """Return a callback that prints the row of an epoch, and a header before the first one of each run."""
    before = math.inf

    def show(row: dict[str, Any]) -> None:
        nonlocal before
        if row["epoch"] <= before:  # not only the first: with several seeds, one run follows another
            print("epoch    loss  accuracy %  validation %  images/s  seconds", file=stream)
        before = row["epoch"]
        accuracy = row.get("validation_accuracy")
        held_out = "-" if accuracy is None else f"{100 * accuracy:.2f}"
        print(
            f"{row['epoch']:5}  {row['train_loss']:6.4f}  {100 * row['train_accuracy']:10.2f}  "
            f"{held_out:>12}  {row['images_per_second']:8.0f}  {row['seconds']:7.1f}", file=stream, flush=True,
        )  # fmt: skip

    return show


class Stopwatch:
    """Seconds of wall time by name; compilation of kernels is counted separately."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {"compile": 0.0}

    @contextlib.contextmanager
    def measure(self, name: str) -> Iterator[None]:
        """Add the time of the block to `name`, except for the compilation of kernels within."""
        compiled, begin = self.seconds["compile"], time.perf_counter()
        yield
        taken = time.perf_counter() - begin - (self.seconds["compile"] - compiled)
        self.seconds[name] = self.seconds.get(name, 0.0) + max(taken, 0.0)


@contextlib.contextmanager
def announced_compilation(stopwatch: Stopwatch) -> Iterator[None]:
    """Announce on stderr that kernels are compiled, unless the cache holds them, and measure how long that takes."""
    from numba.core import event

    class Listener(event.Listener):  # type: ignore[misc]
        depth = 0  # a kernel compiles those that it calls

        def on_start(self, event: Any) -> None:
            if self.depth == 0:
                self.begin = time.perf_counter()
                if stopwatch.seconds["compile"] == 0.0:
                    print(COMPILING, file=sys.stderr, flush=True)
            self.depth += 1

        def on_end(self, event: Any) -> None:
            self.depth -= 1
            if self.depth == 0:
                stopwatch.seconds["compile"] += time.perf_counter() - self.begin

    @functools.cache  # numba forgets which warnings were shown
    def show(text: str) -> None:
        print(f"unigrid: {text}", file=sys.stderr, flush=True)

    with event.install_listener("numba:compile", Listener()), warnings.catch_warnings():
        warnings.showwarning = lambda message, *_: show(str(message))  # type: ignore[assignment]
        yield


def show(facts: Facts, as_json: bool, lines: Callable[[Facts], list[str]], stream: IO[str] | None = None) -> None:
    """Print the outcome of a command: as one JSON object, with the versions of packages, or as the lines that render it."""
    print(json_text({**facts, "versions": versions()}) if as_json else as_text(lines(facts)), file=stream)


def as_text(lines: Iterable[str]) -> str:
    """Return lines as a text to print; what would command the terminal is escaped, whoever wrote it."""
    return "\n".join(map(printable, lines))


def files_in(folder: str) -> str:
    """Return the line of a report that lists the files of a run."""
    return f"In {folder}{os.sep}: {', '.join(sorted(os.listdir(folder)))}"


def per_class(rows: list[Facts]) -> list[str]:
    """Return a table of precision, recall, f1 and number of images by class; nothing without rows."""
    width = max((len(row["class"]) for row in rows), default=0)
    lines = [
        f"{row['class']:<{width}}  {100 * row['precision']:9.2f}  {100 * row['recall']:6.2f}  {100 * row['f1']:6.2f}  "
        f"{row['support']:6}"
        for row in rows
    ]
    return [f"{'class':<{width}}  precision  recall      f1  images", *lines] if rows else []


def save_figures(*wanted: tuple[str | None, Callable[[Any], Figure]]) -> list[str]:
    """Save the figures that have a path, each drawn by a function of the module `plots`; return the paths."""
    given = [(path, draw) for path, draw in wanted if path]
    if given:
        from .. import plots  # which imports matplotlib
        from ..plots.style import write

        for path, draw in given:
            write(draw(plots), expanded(path))
    return [path for path, _ in given]


def json_text(facts: Facts) -> str:
    """Return a JSON object with one entry per line; null stands for NaN and infinity, which JSON lacks."""
    entries = (f"  {json.dumps(name)}: {json.dumps(plain(value), allow_nan=False)}" for name, value in facts.items())
    return "{\n" + ",\n".join(entries) + "\n}"


def plain(value: Any) -> Any:
    """Return nested values with None in place of NaN and infinity."""
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
