"""The public names with their signatures, and the help of the command line, are those recorded."""

import sys

import pytest
from golden import surface
from golden.record import API, HELP

pytest.importorskip("torch")


def test_the_public_interface_is_that_recorded():
    found, wanted = surface.api().splitlines(), API.read_text(encoding="utf-8").splitlines()
    assert found == wanted, "where the change is meant: python tests/golden/record.py api"


def test_the_help_is_that_recorded():
    wanted = HELP.read_text(encoding="utf-8")
    version = "Python {}.{}".format(*sys.version_info)
    if not wanted.startswith(f"{version}\n"):
        pytest.skip(f"argparse words some lines by version; recorded with {wanted.splitlines()[0]}")
    assert surface.command_line_help().splitlines() == wanted.splitlines(), (
        "where the change is meant: python tests/golden/record.py help"
    )
