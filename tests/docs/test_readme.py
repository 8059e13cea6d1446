"""README: its code runs, its commands are understood, and its links lead somewhere."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXT, flags=re.MULTILINE | re.DOTALL)


@pytest.mark.system
def test_the_code_runs() -> None:
    pytest.importorskip("torch")
    code = "\n".join(blocks("python"))
    names: dict[str, object] = {}
    exec(compile(code, "README.md", "exec"), names)
    assert names["solution"].converged
    assert names["solution"].u.shape == (1023, 700)


def test_the_commands_are_understood() -> None:
    from unigrid.cli import _parsers, main

    parser, _ = _parsers()
    lines = [line for block in blocks("sh") for line in block.splitlines() if line.startswith("unigrid ")]
    assert len(lines) >= 2
    for line in lines:
        parser.parse_args(shlex.split(line)[1:])
    assert main(["no-such-command"]) == 2  # so a command that is not there would show


def test_the_links_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", TEXT)
    assert {"docs/tutorials/index.md", "docs/how-to/index.md", "docs/explanation/index.md", "docs/reference/index.md"} <= set(
        links
    )
    assert not [link for link in links if "://" not in link and not (ROOT / link).exists()]


def test_installed_extras_are_there() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    named = [name for found in re.findall(r"\.\[([\w,-]+)\]", TEXT) for name in found.split(",")]
    assert named
    assert set(named) <= set(extras)
