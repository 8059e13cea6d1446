"""`unigrid report`: a training run as one HTML page; and the page that `unigrid solve --report` writes."""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
from typing import TYPE_CHECKING

from ..files import atomic_output, expanded
from . import options
from .monitor import Facts, show
from .options import user_errors

if TYPE_CHECKING:
    from ..report import Page
    from ..stencil.profile import Profile
    from .solve import Run

SUMMARY = "show a training run as one HTML page"
NAME = "report.html"
EPILOG = """\
examples:
  unigrid report runs/cifar10-mgnet-32-Bli-fast
  unigrid report runs/cifar10-mgnet-32-Bli-fast -o report.html --images 3,17
  unigrid report runs/photos-mgnet-32-Bl-fast --dataset photos/ --force
  unigrid solve f.npy --report solution.html              the page of a solve

The page needs no other file and no network. It has a summary, the curves, the confusion matrix with the pictures behind each
cell, features and residuals level by level, kernels, scores by class, settings and versions. The test set of a finished run is
classified again for it; what is missing, such as the data, is stated on the page."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="RUN", help="folder of a run of `unigrid train`, or of the runs of several seeds")
    parser.add_argument("-o", "--output", metavar="FILE", help=f"the page, .html; default {NAME} in that folder")
    options.add_force_option(parser)
    parser.add_argument("--dataset", metavar="NAME|PATH", help="default the one it was trained on; or pictures of your own")
    options.add_data_options(parser)
    options.add_device_option(parser)
    parser.add_argument(
        "--images", type=options.counts, metavar="N[,N..]",
        help="test pictures whose features and residuals are shown, from 0; default a sure answer, a mistake, a doubtful one",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the report")


def run(arguments: argparse.Namespace) -> int:
    options.load_learned()
    require_jinja2()
    from ..report import of_run, records

    records.read(arguments.folder)  # a wrong folder is the first thing to name
    path = arguments.output or os.path.join(arguments.folder, NAME)
    options.check_outputs(page=path, replace=arguments.force)
    with user_errors():
        page = of_run(
            arguments.folder, dataset=arguments.dataset, data_dir=arguments.data_dir, download=arguments.download,
            device=arguments.device, images=arguments.images,
        )  # fmt: skip
    _write(page, path)
    facts = {"run": arguments.folder, "bytes": len(page.html.encode()), "written": [path]}
    show(facts, arguments.json, report)
    return 0


def report(facts: Facts) -> list[str]:
    """Return the lines of the report."""
    return [f"Wrote {path}, {facts['bytes']:,} bytes; a browser shows it" for path in facts["written"]]


def require_jinja2() -> None:
    """Raise UsageError, with the command that installs it, where jinja2 is missing."""
    from ..report import page

    with user_errors():
        page.require_jinja2()


def write_solve(ended: Run, rtol: float | None, picture: bool) -> str:
    """Write the page of a finished solve, and return its path. The levels are timed in another solve."""
    from ..report import of_solution

    arguments = ended.arguments
    details = {
        "command": shlex.join(["unigrid", *arguments.argv]), "numbers": str(ended.f.dtype),
        **{f"{name}, seconds": round(seconds, 4) for name, seconds in ended.seconds.items() if seconds > 1e-3},
    }  # fmt: skip
    page = of_solution(
        ended.solution, ended.cycle, profile=_profile(ended), title=arguments.rhs, rtol=rtol, picture=picture, details=details,
    )  # fmt: skip
    _write(page, arguments.report)
    return str(arguments.report)


def _profile(ended: Run) -> Profile | None:
    """Return the time of every level; None for cycles without a clock, or where memory does not suffice for another solve."""
    from ..stencil.cycle import StencilCycle
    from ..stencil.galerkin import GalerkinCycle
    from ..stencil.profile import profile_visits
    from .solve import solve_options

    cycle, options = ended.cycle, {"raise_on_failure": False, "u0": ended.u0, **solve_options(ended.arguments)}
    with contextlib.suppress(MemoryError):
        if isinstance(cycle, StencilCycle) and not ended.arguments.stack:
            return cycle.profile(ended.f, **options)
        if isinstance(cycle, GalerkinCycle) and not ended.arguments.stack:
            return profile_visits(cycle, ended.f, **options)
    return None


def _write(page: Page, path: str) -> None:
    """Write a page in place of a file that was checked, a read-only one too."""
    with atomic_output(expanded(path)) as file:
        file.write(page.html.encode())
