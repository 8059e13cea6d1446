"""`unigrid equivalence`: the table, JSON, and an exit code that says whether all holds."""

import pytest

from unigrid import cli
from unigrid.cli import equivalence as module
from unigrid.equivalence import Case, Claim, Side
from unigrid.equivalence import report as package_report


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    monkeypatch.setitem(cli.COMMANDS, "equivalence", module)


@pytest.fixture
def claims(monkeypatch):
    """claims(2.0): in place of all claims, one of a value that should be 1; what is compared takes no time."""
    import importlib

    import torch

    home = importlib.import_module("unigrid.equivalence.claims.report")

    def replace(value):
        def cases(seed):
            sides = (Side(None, lambda _, number=number: torch.tensor([number])) for number in (1.0, value))
            return [Case(f"seed {seed}", *sides, ())]

        monkeypatch.setattr(home, "CLAIMS", (Claim("one is one", "always", "a number", cases),))

    return replace


def test_the_table(command, claims):
    claims(1.0)
    printed = command("equivalence")
    assert printed.code == 0
    assert printed.err == ""
    assert printed.out == f"{package_report()}\n"
    assert "all 1 equivalences hold" in printed.out
    assert "float64, 3 seeds" in printed.out


@pytest.mark.parametrize("value", [1.1, float("nan")])
def test_what_fails_is_said_by_the_exit_code(command, claims, value, loads):
    claims(value)
    printed = command("equivalence")
    assert printed.code == 1
    assert "1 of 1 equivalences FAIL" in printed.out
    printed = command("equivalence --json")
    assert printed.code == 1
    assert loads(printed.out)["passed"] is False


def test_json(command, claims, loads):
    claims(1.0)
    printed = command("equivalence --json --seeds 4,7")
    facts = loads(printed.out)
    assert printed.code == 0
    assert facts["seeds"] == [4, 7]
    assert facts["passed"] is True
    assert facts["rows"] == [
        {
            "claim": "one is one", "conditions": "always", "compared": "a number", "cases": 2, "difference": 0.0,
            "tolerance": 1e-12, "passed": True,
        }
    ]  # fmt: skip
    assert "torch" in facts["versions"]


def test_one_seed(command, claims, loads):
    claims(1.0)
    assert loads(command("equivalence --seeds 3 --json").out)["seeds"] == [3]


def test_wrong_options(refused, claims):
    claims(1.0)
    refused("equivalence --seeds two", "'two' is not a whole number")
    refused("equivalence --sedes 3", "did you mean '--seeds'")


def test_without_torch(refused, monkeypatch):
    monkeypatch.setattr("unigrid.cli.options.find_spec", lambda name: None)
    refused("equivalence", "this needs torch and safetensors: pip install 'unigrid[learn]'")
