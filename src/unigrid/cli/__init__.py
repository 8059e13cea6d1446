"""The `unigrid` command. One module per subcommand; `options` and `monitor` hold their shared input and output.

Exit codes: 0 done; 1 no convergence, training failed, or stdout cannot be written; 2 wrong input (one line on stderr); 130
interrupted.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence

from ..files import FileError
from ..messages import choose, printable
from ..version import __version__
from . import compare, demo, equivalence, evaluate, info, models, predict, report, solve, streams, train
from .options import Parser, UsageError, nearest_option

COMMANDS = {
    "solve": solve, "compare": compare, "train": train, "evaluate": evaluate, "predict": predict, "report": report,
    "models": models, "equivalence": equivalence, "info": info, "demo": demo,
}  # fmt: skip
EPILOG = """\
examples:
  unigrid demo                                           a picture recovered from its Laplacian, a network trained
  unigrid solve f.npy -o u.npy --plot u.png              -Laplace(u) = f, u = 0 on the sides
  unigrid solve f.npy --lengths 3,5 --boundary dirichlet=1:neumann,periodic
  unigrid compare --smoothers red-black,jacobi --cycles V,W --plot history.png
  unigrid train cifar10 --download --model mgnet-32-Bli  a convolutional network through the same cycle
  unigrid train poisson -o runs/smoother                 the smoothers of a solver, trained through the same cycle
  unigrid equivalence                                    solver and network are one: the proofs, run
  unigrid predict runs/cifar10-mgnet-32-Bli-fast cat.jpg what it takes your picture for
  unigrid predict cat.jpg --pretrained mgnet-32-Bli      the same by a trained network that comes with unigrid
  unigrid report runs/cifar10-mgnet-32-Bli-fast          the run as one page: mistakes, features, residuals

`unigrid COMMAND --help` shows all options."""
BEGIN = """\
unigrid: one multigrid cycle, for Poisson's equation and for convolutional networks

where to begin:
  unigrid demo                                    nothing needed: a photograph from its Laplacian, a network trained in a minute
  unigrid solve f.npy -o u.npy --plot u.png       -Laplace(u) = f for an array or a picture, u = 0 on the sides
  unigrid train shapes --epochs 2 -o runs/first   a first network; then `unigrid predict runs/first PICTURE`
  unigrid info                                    versions, cores and devices

  in Python       import unigrid; unigrid.solve(f).u
  to read         the pages tutorials/first-poisson-problem and tutorials/multigrid-for-cnn-people of the documentation
  all commands    unigrid --help; all options of one: unigrid COMMAND --help"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code; only a fault of unigrid itself is raised as an exception."""
    streams.prepare()
    try:
        return _run(list(sys.argv[1:] if argv is None else argv))
    except (UsageError, FileError) as error:
        print(f"unigrid: error: {printable(error)}", file=sys.stderr)
        return 2
    except MemoryError:
        print("unigrid: error: not enough memory", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("unigrid: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of stdout has closed it, as `head` does; flushing the buffer at exit must not fail
        streams.abandon_output()
        return 1
    except streams.OutputError as error:
        streams.abandon_output()
        print(f"unigrid: error: {error}", file=sys.stderr)
        return 1


def _run(argv: list[str]) -> int:
    if not argv:
        print(BEGIN, file=sys.stderr)
        return 2
    parser, parsers = _parsers()
    try:
        if not argv[0].startswith("-"):
            choose(argv[0], COMMANDS, "command")
        arguments, unknown = parser.parse_known_args(_with_negative_values(argv))
        if "operands" in arguments:  # argparse takes those before the first option only
            arguments.operands += [argument for argument in unknown if not argument.startswith("-")]
            unknown = [argument for argument in unknown if argument.startswith("-")]
    except ValueError as error:
        raise UsageError(str(error)) from None
    except SystemExit as done:  # --help and --version
        return int(done.code or 0)
    if unknown:
        hint = nearest_option(unknown[0], parsers[arguments.command])
        raise UsageError(f"{arguments.command} has no option {unknown[0]!r}{hint}")
    arguments.argv = argv
    code: int = arguments.run(arguments)
    sys.stdout.flush()
    return code


def _with_negative_values(argv: list[str]) -> list[str]:
    """Join an option and a negative value after it, "-3,5" or "-1e-3", which argparse would take for another option."""
    joined: list[str] = []
    for argument in argv:
        if joined and re.match(r"-\.?\d", argument) and re.fullmatch(r"--[a-z0-9-]+", joined[-1]):
            joined[-1] += f"={argument}"
        else:
            joined.append(argument)
    return joined


def _parsers() -> tuple[Parser, dict[str, Parser]]:
    description = "One multigrid cycle: for Poisson's equation on boxes in 1-D, 2-D and 3-D, and for convolutional networks."
    parser = Parser(prog="unigrid", description=description, epilog=EPILOG)
    parser.add_argument("--version", action="version", version=f"unigrid {__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    parsers: dict[str, Parser] = {}
    for name, module in COMMANDS.items():
        summary = module.SUMMARY
        parsers[name] = subparsers.add_parser(
            name, help=summary, description=summary[0].upper() + summary[1:] + ".", epilog=module.EPILOG
        )
        module.add_arguments(parsers[name])
        parsers[name].set_defaults(run=module.run)
    return parser, parsers
