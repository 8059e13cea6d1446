"""A page: a template filled with facts. All text is escaped, whatever it came from."""

from __future__ import annotations

import dataclasses
import datetime
import html
import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, final

from ..files import PAGES, atomic_output, checked_output, require_writable
from ..machine import cpu_name, versions
from ..messages import printable

MISSING = "a report needs jinja2: pip install 'unigrid[report]'"
LONGEST_NAME, LONGEST_VALUE = 80, 400  # characters of a name, such as that of a class, and of another text


@final
@dataclass(frozen=True, repr=False)
class Page:
    """A report as one HTML document, `html`. In a notebook it shows itself."""

    html: str

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the page to a file that ends with .html, all at once. Raises FileError."""
        with atomic_output(require_writable(checked_output(path, PAGES))) as file:
            file.write(self.html.encode())

    def _repr_html_(self) -> str:
        return f'<iframe srcdoc="{html.escape(self.html)}" title="report" style="width:100%;height:80vh;border:0"></iframe>'

    def __repr__(self) -> str:
        return f"Page({len(self.html.encode()):,} bytes; .save('report.html') writes it)"


@dataclass(frozen=True)
class Table:
    """Names and values, side by side."""

    title: str
    rows: tuple[tuple[str, str], ...]


def table(title: str, values: Mapping[str, Any]) -> Table:
    """Return a table of plain values, nested ones written out; None and what is long is left out or shortened."""
    rows = ((shortened(str(name), LONGEST_NAME), _text(value)) for name, value in values.items() if value is not None)
    return Table(title, tuple(rows))


def surroundings(packages: Mapping[str, Any] | None = None, **others: Any) -> Table:
    """Return the table of versions and machine: those of a run, or those of this process."""
    here = {**versions(), "processor": cpu_name()} if packages is None else dict(packages)
    return table("Versions and machine", {**here, **others})


def shortened(text: str, longest: int = LONGEST_VALUE) -> str:
    """Return a text of at most so many characters."""
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Mapping):
        return shortened("; ".join(f"{name}: {_text(item)}" for name, item in value.items()))
    if isinstance(value, (list, tuple)):
        return shortened(", ".join(map(_text, value)))
    return shortened(str(value))


def require_jinja2() -> None:
    """Raise ImportError, with the command that installs it, where jinja2 is missing."""
    if find_spec("jinja2") is None:
        raise ImportError(MISSING, name="jinja2")


def render(template: str, facts: Any) -> Page:
    """Return the page of a template and the fields of a dataclass."""
    require_jinja2()
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("unigrid.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, finalize=_visible,
    )  # fmt: skip
    fields = {field.name: getattr(facts, field.name) for field in dataclasses.fields(facts)}
    made = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    return Page(environment.get_template(template).render(**fields, made=made, version=versions()["unigrid"]))


def _visible(value: Any) -> Any:
    """Return a text with its control characters escaped: those that turn the direction of writing would reorder the page."""
    return printable(value) if type(value) is str else value
