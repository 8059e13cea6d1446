"""The machine and the versions beside every measured number."""

import doctest
import importlib.metadata
import os
import platform

import pytest

import unigrid
from unigrid import machine


def test_versions_are_those_of_the_installed_packages():
    found = machine.versions(["numpy", "no-such-package"])
    assert found == {
        "unigrid": unigrid.__version__,
        "python": platform.python_version(),
        "numpy": importlib.metadata.version("numpy"),
        "no-such-package": None,
    }
    assert tuple(machine.versions())[2:] == machine.PACKAGES


def test_the_processor_has_a_name_and_cores():
    assert machine.cpu_name()
    assert 1 <= machine.usable_cores() <= os.cpu_count()


def test_without_proc_the_processor_still_has_a_name(monkeypatch):
    def missing(path):
        raise OSError

    monkeypatch.setattr("pathlib.Path.read_text", missing)
    assert machine.cpu_name() == (platform.processor() or platform.machine())


def test_the_examples_run():
    assert doctest.testmod(machine).failed == 0


@pytest.mark.parametrize("name", ["LOCAL_WORLD_SIZE", "MPI_LOCALNRANKS", "OMPI_COMM_WORLD_LOCAL_SIZE"])
def test_launchers_divide_the_cores_of_a_machine(name, monkeypatch):
    for each in machine.LOCAL_SIZES:
        monkeypatch.delenv(each, raising=False)
    monkeypatch.setattr(machine, "usable_cores", lambda: 12)
    assert machine.cores_of_process() == 12
    for processes, cores in (("1", 12), ("5", 2), ("40", 1), ("many", 12)):
        monkeypatch.setenv(name, processes)
        assert machine.cores_of_process() == cores
