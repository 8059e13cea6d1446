"""The reference of the command line: a page per command, made of its parser, so that no option can be missing."""

import argparse
import re
from collections.abc import Iterator

from pages import heading, toctree, write
from sphinx.application import Sphinx

from unigrid.cli import COMMANDS, EPILOG, _parsers

WIDTH = 76  # characters of a usage


def write_pages(app: Sphinx) -> None:
    """Write the page of each command, and the one that lists them."""
    _, parsers = _parsers()
    written = {f"unigrid-{name}.rst": page_of(parser) for name, parser in parsers.items()}
    write("command_line", {**written, "index.rst": index(parsers)})


def index(parsers: dict[str, argparse.ArgumentParser]) -> str:
    """Return the page that lists the commands."""
    rows = [f"   * - :doc:`unigrid {name} <unigrid-{name}>`\n     - {sentence(COMMANDS[name].SUMMARY)}" for name in parsers]
    table = ".. list-table::\n   :widths: 25 75\n\n" + "\n".join(rows)
    text = "Installed with the package, as ``unigrid`` and as ``python -m unigrid``."
    tree = toctree([f"unigrid-{name}" for name in parsers], hidden=True)
    return "\n\n".join([heading("Command line"), text, table, literal(EPILOG), tree]) + "\n"


def page_of(parser: argparse.ArgumentParser) -> str:
    """Return the page of a command: how it is called, its options by group, and its examples."""
    parts = [heading(parser.prog), f".. program:: {parser.prog}", escaped(parser.description or "")]
    usage = argparse.HelpFormatter(parser.prog, width=WIDTH)
    usage.add_usage(parser.usage, parser._actions, parser._mutually_exclusive_groups, prefix="")
    parts.append(literal(usage.format_help().rstrip()))
    for group in parser._action_groups:
        options = list(options_of(group, parser))
        if options:
            title = {"positional arguments": "Arguments", "options": "Options"}.get(group.title or "", group.title or "")
            parts += [heading(title[0].upper() + title[1:], "-"), escaped(group.description or ""), *options]
    if parser.epilog:
        parts += [heading("Files and examples", "-"), literal(parser.epilog)]
    return "\n\n".join(part for part in parts if part) + "\n"


def options_of(group: argparse._ArgumentGroup, parser: argparse.ArgumentParser) -> Iterator[str]:
    """Yield each option of a group as a directive."""
    formatter = parser._get_formatter()
    for action in group._group_actions:
        value = (
            ""
            if action.nargs == 0
            else f" {formatter._format_args(action, formatter._get_default_metavar_for_optional(action))}"
        )
        names = ", ".join(f"{name}{value}" for name in action.option_strings) or value.strip()
        text = "" if action.help is None else escaped(formatter._expand_help(action))
        yield f".. option:: {names}\n\n   {text}"


def sentence(text: str) -> str:
    return escaped(text[0].upper() + text[1:]) + "."


def escaped(text: str) -> str:
    """Return text of a help as reStructuredText: no accidental markup."""
    return re.sub(r"([*|`])", r"\\\1", re.sub(r"(\w)_(?=\W|$)", r"\1\\_", text))


def literal(text: str) -> str:
    return ".. code-block:: text\n\n" + "\n".join(f"   {line}".rstrip() for line in text.splitlines())


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("builder-inited", write_pages, priority=100)
    return {"parallel_read_safe": True}
