"""The machine and the versions beside every measured number."""

import doctest
import importlib.metadata
import os
import platform

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


def test_the_machine_is_described_without_its_name():
    found = machine.machine()
    assert found["processor"] == machine.cpu_name() != ""
    assert 1 <= found["cores"] <= os.cpu_count()
    assert found["system"] == platform.system()
    assert platform.node() not in found.values()


def test_memory_is_left_out_where_the_system_does_not_report_it(monkeypatch):
    if machine.memory_gib() is not None:
        pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        assert abs(machine.machine()["memory_gib"] - pages / 2**30) <= 0.5
    monkeypatch.setattr(os, "sysconf_names", {})
    assert "memory_gib" not in machine.machine()


def test_without_proc_the_processor_still_has_a_name(monkeypatch):
    def missing(path):
        raise OSError

    monkeypatch.setattr("pathlib.Path.read_text", missing)
    assert machine.cpu_name() == (platform.processor() or platform.machine())


def test_the_examples_run():
    assert doctest.testmod(machine).failed == 0
