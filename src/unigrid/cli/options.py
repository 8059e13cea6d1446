"""Options that several subcommands share, and their translation into arguments of the library."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import importlib
import os
import re
import typing
from collections.abc import Iterator
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NoReturn

from ..files import PAGES, PICTURES, STREAM, FileError, checked_output, expanded, one_line, read_field
from ..iterate import DISCRETIZATION
from ..messages import choose, nearest
from ..tables import UNSTATED, Field, TableFormat
from . import reading

if TYPE_CHECKING:
    from ..cycle import Smoother
    from ..stencil.cycle import StencilCycle
    from ..stencil.galerkin import GalerkinCycle
    from ..stencil.grid import Condition
    from ..stencil.problem import Poisson
    from ..training import TrainedModel

Spacing = tuple[float | None, ...]
SLOTS = {"omega": None, "pre": None, "post": None, "restriction": "full-weighting", "prolongation": "linear"}  # and defaults
SAME_SPACING = 1e-2  # relative difference up to which two spacings may be one, written with few digits


class UsageError(Exception):
    """Wrong input: one line that names what to change."""


class Parser(argparse.ArgumentParser):
    """argparse with full option names only, line breaks of examples kept, and errors as exceptions instead of an exit."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter, **options)

    def error(self, message: str) -> NoReturn:
        raise UsageError(message)


def nearest_option(given: str, parser: argparse.ArgumentParser) -> str:
    """Return "; did you mean ...?" with the parser's option most like the given one, or nothing."""
    return nearest(given.split("=")[0], set(re.findall(r"--[a-z0-9-]+", parser.format_usage())))


@contextlib.contextmanager
def user_errors(prefix: str = "") -> Iterator[None]:
    """Turn errors of the library into a UsageError; only calls that check input of the user belong inside."""
    try:
        yield
    except (ValueError, TypeError, NotImplementedError, ImportError) as error:
        raise UsageError(prefix + one_line(error)) from error


def _entries(text: str, kind: type, what: str) -> list[Any]:
    try:
        return [kind(entry) for entry in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not {what}") from None


def numbers(text: str) -> float | list[float]:
    """Return "3" as a number and "3,5" as one per axis."""
    values = _entries(text, float, "a number, or numbers separated by commas such as 3,5")
    return values[0] if len(values) == 1 else values


def numbers_or_files(text: str) -> float | list[float] | list[float | str]:
    """Return "3,dx.npy" as a number and the name of a file."""
    parts = [part.strip() for part in text.split(",")]
    if not any(reading.names_file(part) for part in parts):
        return numbers(text)
    return [part if reading.names_file(part) else _entries(part, float, "a number, nor a file")[0] for part in parts]


def shape(text: str) -> tuple[int, ...]:
    """Return "255,127" as a shape."""
    return tuple(_entries(text, int, "a shape such as 255,127"))


def names(text: str) -> list[str]:
    """Return "a,b" as a list without repetitions."""
    return list(dict.fromkeys(entry.strip() for entry in text.split(",")))


def seeds(text: str) -> int | list[int]:
    """Return "3" as a number and "0,1,2" as a list of them."""
    values = _entries(text, int, "a whole number, or several by comma such as 0,1,2")
    return values[0] if len(values) == 1 else values


def counts(text: str) -> list[int]:
    """Return "3,17" as a list."""
    return _entries(text, int, "a whole number, or several by comma such as 3,17")


def size(text: str) -> tuple[int, ...]:
    """Return "64" as (64,) and "48,64" as (48, 64)."""
    return tuple(_entries(text, int, "a number of pixels, or height and width such as 48,64"))


def count_or_path(text: str) -> float | str:
    """Return a number, or the path that the text is otherwise."""
    try:
        return float(text)
    except ValueError:
        return text


def assignment(text: str) -> tuple[str, str]:
    """Return "name=value" as (name, value)."""
    name, equals, value = (part.strip() for part in text.partition("="))
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form NAME=VALUE, such as label_smoothing=0.2")
    return name.replace("-", "_"), value


def field_value(name: str, text: str, kind: type) -> Any:
    """Return the text as a value of that kind. Raises ValueError."""
    if kind is bool:
        return choose(text.lower(), ("true", "false"), f"value of {name}") == "true"
    if typing.get_args(kind):  # a word, or numbers
        try:
            return tuple(map(float, text.split(",")))
        except ValueError:
            return text
    try:
        return kind(text)
    except ValueError:
        wanted = "an integer" if kind is int else "a number"
        raise ValueError(f"--set {name}={text}: {name} must be {wanted}") from None


def choices(arguments: argparse.Namespace, named: tuple[str, ...], what: str, *configurations: type) -> dict[str, Any]:
    """Return the fields of the configurations to change: those of the options `named` that were given, and of each --set.

    Raises ValueError. A changed protocol keeps its name.
    """
    hints = [typing.get_type_hints(configuration) for configuration in configurations]
    kinds = {name: kind for found in hints for name, kind in found.items() if name != "name"}
    changed = {name: value for name in named if (value := getattr(arguments, name)) is not None}
    for name, text in arguments.set:
        kind = kinds[choose(name, kinds, what)]
        if name in changed:
            raise ValueError(f"--set {name}={text}: {name} is given twice")
        changed[name] = field_value(name, text, kind)
    return changed


def add_problem_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("problem")
    group.add_argument("--lengths", type=numbers, metavar="L[,L..]", help="length of the box, one for all axes or one per axis")
    group.add_argument(
        "--spacing", type=numbers_or_files, metavar="H[,H..]",
        help="distance of the unknowns instead of lengths; an entry may be a file, with the distances of consecutive grid "
        "lines, or the lengths of the cells",
    )  # fmt: skip
    group.add_argument(
        "--boundary", default="dirichlet", metavar="B",
        help="dirichlet, neumann or periodic; axes separated by ',', low and high side by ':', values after '=' "
        "(dirichlet=1.5:neumann=left.npy,periodic), numbers, files or FILE#NAME; one entry serves all axes; neumann is the "
        "outward normal derivative, robin=alpha=value is a du/dn + alpha u = value; default dirichlet",
    )  # fmt: skip
    group.add_argument("--centering", default="vertex", metavar="C", help="vertex (default) or cell")
    group.add_argument(
        "--reaction", default="0", metavar="c", help="c in -div(a grad u) + c u = f: a number (default 0), or a file"
    )
    group.add_argument(
        "--compatibility", default="error", metavar="WHAT",
        help="when no side is dirichlet and f has a mean: error (default), or project it out",
    )  # fmt: skip
    group.add_argument("--array", metavar="NAME", help="which array of an .npz, .mat, .h5 or .nc file")
    reading.add_table_options(parser)


def _tolerance(text: str) -> float | str:
    """Return a number, or the word for one pass."""
    try:
        return text if text == DISCRETIZATION else float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a number or {DISCRETIZATION!r}, got {text!r}") from None


def numeric(rtol: float | str | None) -> float | None:
    """Return the number that a picture can show."""
    return None if isinstance(rtol, str) else rtol


def add_stopping_options(parser: argparse.ArgumentParser, start: str) -> None:
    group = parser.add_argument_group("stopping")
    group.add_argument(
        "--rtol",
        type=_tolerance,
        help="stop at ||b - A u|| <= rtol ||b||; default 1e-8 (float32: 1e-4), or what rounding allows; 'discretization': one "
        "pass of full multigrid, as exact as the discretization",
    )
    group.add_argument("--atol", type=float, default=0.0, help="or at ||b - A u|| <= atol; default 0")
    group.add_argument("--maxiter", type=int, default=50, metavar="N", help="most iterations, default 50")
    group.add_argument("--start", default=start, help=f"fmg (full multigrid) or zero; default {start}")


def add_coefficient_options(parser: argparse.ArgumentParser) -> Any:
    """Add the options, and return their group."""
    group = parser.add_argument_group("coefficients and domains of any shape")
    group.add_argument(
        "--coefficient", metavar="a",
        help="a > 0: a number, one per axis (2,0.1), a file with a at the unknowns, or one per axis with a at its faces; "
        "default 1",
    )  # fmt: skip
    group.add_argument("--mask", metavar="FILE", help="where u is unknown: an array of 0 and 1, or a picture, light there")
    group.add_argument(
        "--outside", metavar="u",
        help="u outside of --mask: a number (default 0), or a file; or natural: no flux crosses the rim, and u is 0 outside",
    )  # fmt: skip
    group.add_argument("--fixed", metavar="FILE", help="u at points inside, such as electrodes: an array, NaN elsewhere")
    return group


def add_transfer_options(group: Any) -> None:
    group.add_argument(
        "--pre", type=int, metavar="N",
        help="smoothing steps before the correction, default 2; for red-black, without --pre, --post and --omega, tuned ones",
    )  # fmt: skip
    group.add_argument("--post", type=int, metavar="N", help="the same after it")
    group.add_argument(
        "--restriction", default="full-weighting", metavar="NAME",
        help="full-weighting (default), half-weighting, injection, cell-average",
    )  # fmt: skip
    group.add_argument("--prolongation", default="linear", metavar="NAME", help="linear (default), constant, cubic")


def add_run_options(parser: argparse.ArgumentParser) -> Any:
    group = parser.add_argument_group("output")
    group.add_argument("--plot", metavar="FILE", help="picture of the outcome: .png, .pdf or .svg")
    add_force_option(group)
    group.add_argument("--json", action="store_true", help="print one JSON object instead of the report")
    group.add_argument("--threads", type=int, metavar="N", help="cores for large grids; default all, or UNIGRID_NUM_THREADS")
    return group


def add_force_option(group: Any) -> None:
    group.add_argument("--force", action="store_true", help="replace output files that exist")


def add_data_options(parser: Any) -> None:
    parser.add_argument(
        "--data-dir", metavar="DIR", help="folder that holds the data; default UNIGRID_DATA, or unigrid in the user's cache"
    )
    parser.add_argument("--download", action="store_true", help="fetch data that are missing from their own site")


def names_pretrained(text: str) -> bool:
    """Whether a text is no path that exists, but the name of a trained network that comes with unigrid."""
    from ..pretrained import MARK, having_weights

    return not os.path.exists(text) and bool(having_weights(text.partition(MARK)[0]))


def add_pretrained_option(parser: Any) -> None:
    parser.add_argument(
        "--pretrained", metavar="NAME",
        help="instead of CHECKPOINT: a trained network that comes with unigrid, MODEL or MODEL@DATASET of `unigrid models`",
    )  # fmt: skip


def trained_network(checkpoint: str | None = None, pretrained: str | None = None, device: str = "auto") -> TrainedModel:
    """Return the network of a checkpoint or of a name, one of which is given. Raises UsageError and FileError."""
    from ..training import load_trained
    from ..training.images.pretrained import load_pretrained

    if pretrained is None and checkpoint is not None:
        return load_trained(checkpoint, device)
    if pretrained is None or checkpoint is not None:
        wrong = "neither is given" if pretrained is None else f"got {checkpoint} and {pretrained}"
        raise UsageError(f"give CHECKPOINT, or --pretrained NAME instead of it; {wrong}")
    return load_pretrained(pretrained, device=device)


def add_device_option(parser: Any) -> None:
    parser.add_argument("--device", default="auto", metavar="D", help="auto (default: a GPU if there is one), cpu, cuda, ...")


def check_outputs(
    *pictures: str | None, array: str | None = None, page: str | None = None, source: str | None = None, replace: bool
) -> None:
    """Check before any work that pictures, array and page can be written after it, apart from each other and from the source.

    Files that exist are refused, unless they are to be replaced.
    """
    paths = [checked_output(array)] if array not in (None, STREAM) else []
    paths += [checked_output(path, PICTURES) for path in pictures if path]
    paths += [checked_output(page, PAGES)] if page else []
    for number, path in enumerate(paths):
        if source and path.exists() and expanded(source).exists() and path.samefile(expanded(source)):
            raise FileError(f"{path}: is the input, which is never written over")
        if path in paths[:number]:
            raise FileError(f"{path}: is named for two outputs")
        if os.path.lexists(path) and not replace:
            raise FileError(f"{path}: exists; --force replaces it, or give another name")


def load_learned() -> None:
    """Raise UsageError, with the command that installs them, if packages of the learned backend are missing."""
    missing = [name for name in ("torch", "safetensors") if find_spec(name) is None]
    if missing:
        raise UsageError(f"this needs {' and '.join(missing)}: pip install 'unigrid[learn]'")


def load_kernels(threads: int | None = None) -> None:
    """Import the solver and set --threads. Raises UsageError if the environment of the process forbids it."""
    with user_errors():  # a wrong UNIGRID_NUM_THREADS shows here
        importlib.import_module("unigrid.stencil.solve")
        from ..stencil.kernels.cpu.threads import set_num_threads

        if threads is not None:
            set_num_threads(threads)


def source_of(arguments: argparse.Namespace, stacked: bool = False) -> Field:
    """Return f from a file, checked; its axis 0 counts sources if they are stacked. Raises UsageError or FileError."""
    field = read_field(arguments.rhs, arguments.array, reading.format_of(arguments))
    with user_errors(f"{arguments.rhs}: "):
        from ..stencil.grid import finite_array, refuse_picture

        refuse_picture(field.values)
        axes = field.values.ndim - stacked
        if not 1 <= axes <= 3:
            hint = "; --stack, if axis 0 counts several" if axes == 4 and not stacked else ""
            raise ValueError(f"f must have 1, 2 or 3 axes, got shape {field.values.shape}{' with --stack' * stacked}{hint}")
        return Field(finite_array(field.values, "f"), field.spacing and field.spacing[stacked:])


def describe_problem(problem: Poisson) -> dict[str, Any]:
    """Return a problem as plain values."""
    return {
        "shape": problem.shape,
        "unknowns": problem.grid.size,
        "lengths": problem.lengths,
        "spacing": [list(axis.distances) if axis.distances else axis.h for axis in problem.box.axes],
        "boundary": [":".join(pair) for pair in problem.sides],
        "centering": problem.grid.axes[0].centering,
        "reaction": problem.reaction,
    }


def problem_of(arguments: argparse.Namespace, unknowns: tuple[int, ...], stored: Spacing | None = None) -> Poisson:
    """Return the problem that the options describe; `stored` is the spacing in the file of f. Raises UsageError."""
    import numpy as np

    from ..stencil.problem import Poisson

    given = {name: getattr(arguments, name) for name in ("lengths", "spacing", "centering")}
    free = given["lengths"] is None and given["spacing"] is None
    if stored and free:
        if None in stored:
            raise UsageError(f"{arguments.rhs} has no spacing for axis {stored.index(None)}; give --spacing or --lengths")
        given["spacing"] = list(stored)
    with user_errors():
        given["spacing"] = reading.spacing_of(given["spacing"], reading.format_of(arguments))
        boundary = boundary_of(arguments.boundary, len(unknowns), reading.format_of(arguments))
        given["order"] = getattr(arguments, "order", 2)
        problem = Poisson(unknowns, boundary=boundary, **given, **reading.coefficients_of(arguments))
    for axis, (h, own) in enumerate(zip(problem.spacing, stored or (), strict=False)):
        if own is not None and max(abs(np.ravel(h) - own)) > SAME_SPACING * own:
            by_option = f"{h:g}" if np.ndim(h) == 0 else f"from {min(h):g} to {max(h):g}"
            raise UsageError(
                f"along axis {axis} the points in {arguments.rhs} are {own:g} apart, by --lengths or --spacing {by_option}; "
                "leave the option out, or correct it"
            )
    return problem


def cycle_of(problem: Poisson, kind: str, smoother: Smoother | str | None, arguments: argparse.Namespace) -> StencilCycle:
    """Return the cycle that a solve with these options does. Raises UsageError."""
    from ..stencil.cycle import StencilCycle

    slots = {name: getattr(arguments, name) for name in ("pre", "post", "restriction", "prolongation")}
    with user_errors():
        cycle = StencilCycle(problem, cycle=kind.upper(), smoother=smoother, **slots)
        return cycle.for_one_pass() if arguments.rtol == DISCRETIZATION else cycle


def refuse_slots(arguments: argparse.Namespace) -> None:
    """Raise UsageError for options that coefficients that vary have no room for."""
    for name, default in SLOTS.items():
        if getattr(arguments, name, default) != default:
            raise UsageError(f"coefficients that vary bring their own slots; leave out --{name}")


def galerkin_cycle_of(problem: Poisson, kind: str, smoother: str, arguments: argparse.Namespace) -> GalerkinCycle:
    """Return the cycle for coefficients that vary. Raises UsageError, also for options that it has no room for."""
    from ..stencil.galerkin import GalerkinCycle

    refuse_slots(arguments)
    with user_errors():
        return GalerkinCycle(problem, cycle=kind if kind == "auto" else kind.upper(), smoother=smoother)


def boundary_of(text: str, ndim: int, form: TableFormat = UNSTATED) -> list[tuple[Condition, Condition]]:
    """Return the conditions of --boundary on `ndim` axes: a (low, high) pair each. Raises ValueError and FileError."""
    entries = text.split(",")
    if len(entries) not in (1, ndim):
        raise ValueError(
            f"--boundary {text!r} names {len(entries)} axes, f has {ndim}; give one entry for all axes or one per axis "
            "(',' separates axes, ':' the low from the high side)"
        )
    form = dataclasses.replace(form, columns=None)  # those of f
    pairs = [_axis_of(entry, form) for entry in entries]
    return pairs * ndim if len(pairs) == 1 else pairs


def _axis_of(text: str, form: TableFormat) -> tuple[Condition, Condition]:
    sides = text.split(":")
    if len(sides) > 2:
        raise ValueError(f"--boundary {text!r} names {len(sides)} sides; an axis has two, low:high")
    return _side_of(sides[0], form), _side_of(sides[-1], form)


def _side_of(text: str, form: TableFormat) -> Condition:
    from ..stencil.grid import NAMES, Dirichlet, Neumann, Periodic, Robin

    name, equals, value = (part.strip() for part in text.partition("="))
    if choose(name.lower(), (*NAMES, "robin"), "boundary condition") == "robin":
        alpha, _, value = value.partition("=")
        with user_errors(f"--boundary {text!r}: "):
            return Robin(*(reading.number_or_array(part, "robin=", form) for part in (alpha, value or "0")))
    kind = NAMES[name.lower()]
    if not equals:
        return kind()
    if kind is Periodic:
        raise ValueError(f"--boundary {text!r}: a periodic axis has no value")
    with user_errors(f"--boundary {text!r}: "):
        given = reading.number_or_array(value, f"{name}=", form)
    return Dirichlet(given) if kind is Dirichlet else Neumann(given)


def smoother_of(name: str, omega: float | None) -> Smoother | str | None:
    """Return the smoother of that name, with that omega; without one the name itself, and None for "tuned", the default.

    "tuned" has an omega for each half-sweep; with a single one it is red-black. Raises ValueError.
    """
    from ..stencil.smoothers import SMOOTHERS

    choose(name, ("tuned", *SMOOTHERS), "smoother")
    if omega is None:
        return None if name == "tuned" else name
    kind: Any = SMOOTHERS["red-black" if name == "tuned" else name]
    if not hasattr(kind(), "omega"):
        raise ValueError(f"smoother {name!r} has no omega")
    return kind(omega=omega)  # type: ignore[no-any-return]
