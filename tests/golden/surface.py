"""What users see of unigrid, as text: public names with their signatures, and the help of the command line."""

from __future__ import annotations

import contextlib
import enum
import importlib
import inspect
import io
import os
import re
import sys
from typing import Any

import unigrid

MODULES = ("analysis", "conv", "equivalence", "plots", "pretrained", "report", "training")  # those that have an __all__
COLUMNS = "100"


def api() -> str:
    """Return one line per public name, method and property, sorted."""
    lines = [line for name in unigrid.__all__ for line in _described(f"unigrid.{name}", getattr(unigrid, name))]
    for module in MODULES:
        loaded = importlib.import_module(f"unigrid.{module}")
        lines += [f"unigrid.{module}.{name}" for name in getattr(loaded, "__all__", [])]
    return "\n".join(sorted(lines)) + "\n"


def _described(name: str, value: Any) -> list[str]:
    if not inspect.isclass(value):
        return [name + _signature(value)]
    if issubclass(value, enum.Enum):
        return [name, *(f"{name}.{member.name}" for member in value)]
    return [name + _signature(value), *(f"{name}.{line}" for line in _members(value))]


def _members(owner: type) -> list[str]:
    found = []
    for name in dir(owner):
        homes = [base for base in owner.__mro__ if name in vars(base) and base.__module__.startswith("unigrid")]
        if name.startswith("_") or not homes:
            continue
        member = inspect.getattr_static(owner, name)
        if isinstance(member, (staticmethod, classmethod)) or inspect.isfunction(member):
            found.append(name + _signature(getattr(owner, name)))
        else:
            found.append(f"{name}: {'property' if isinstance(member, property) else 'attribute'}")
    return found


def _signature(value: Any) -> str:
    """Return the parameters and their defaults; annotations are left out, as they may be said more exactly at any time."""
    signature = inspect.signature(value)
    bare = [parameter.replace(annotation=inspect.Parameter.empty) for parameter in signature.parameters.values()]
    text = str(signature.replace(parameters=bare, return_annotation=inspect.Signature.empty))
    return re.sub(r" at 0x[0-9a-f]+", "", text)


def command_line_help() -> str:
    """Return the help of `unigrid` and of each of its commands, 100 columns wide."""
    from unigrid import cli

    texts = [_help([])] + [_help([command]) for command in cli.COMMANDS]
    version = "{}.{}".format(*sys.version_info)  # argparse words some lines differently from version to version
    return "\n".join([f"Python {version}\n", *texts])


def _help(command: list[str]) -> str:
    from unigrid import cli

    shown, before = io.StringIO(), dict(os.environ)
    os.environ.update(COLUMNS=COLUMNS, NO_COLOR="1")
    try:
        with contextlib.redirect_stdout(shown):
            assert cli.main([*command, "--help"]) == 0
    finally:
        os.environ.clear()
        os.environ.update(before)
    return f"$ {' '.join(['unigrid', *command, '--help'])}\n\n{shown.getvalue()}"
