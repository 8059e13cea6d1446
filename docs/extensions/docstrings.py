"""Docstrings as reStructuredText: they are written as plain text, with equations indented and names in single backticks.

What is between single backticks links to the reference where it is a public name, and is code elsewhere; what is indented
stays as it is laid out; stars and bars are those of the mathematics; `Source:` becomes the last section.
"""

import re
from collections.abc import Iterable, Iterator

import reference

CODE = re.compile(r"(``.+?``|`[^`]+`)")
UNDERLINE = re.compile(r"-{3,}")


def process(app, what, name, value, options, lines: list[str]) -> None:
    """Rewrite the lines of a docstring in place, before napoleon reads its sections."""
    lines[:] = rewritten(lines)


def rewritten(lines: Iterable[str]) -> list[str]:
    r"""Return a docstring as reStructuredText, its source at the end.

    >>> rewritten(["u with |u| = 1:", "", "    A u = b", "", "Source: A. Brandt (1977).", "", "See `solve` and `x*y`s."])
    ... # doctest: +NORMALIZE_WHITESPACE
    ['u with \\|u\\| = 1:', '', '::', '', '    A u = b', '', 'See :py:obj:`~unigrid.solve` and ``x*y``\\ s.',
     '', 'References', '----------', 'A. Brandt (1977).', '']
    """
    body: list[str] = []
    source: list[str] = []
    last, state = 0, "prose"
    for paragraph in paragraphs(lines):
        first = paragraph[0]
        indent = len(first) - len(first.lstrip())
        if state == "literal" and indent <= last:
            state = "prose"
        if first.lstrip().startswith(">>>") or state == "literal":
            body += [*paragraph, ""]
        elif indent > last and body and not is_heading(paragraph):
            body += [*([] if body[-2].endswith("::") else [" " * last + "::", ""]), *paragraph, ""]
            state = "literal"
        elif first.startswith("Source: "):
            source = [*prose([first.removeprefix("Source: "), *paragraph[1:]]), ""]
        else:
            body += [*prose(paragraph), ""]
            last = len(paragraph[-1]) - len(paragraph[-1].lstrip())
            state = "literal" if paragraph[-1].endswith("::") else "prose"
    return [*body, *(["References", "----------", *source] if source else [])]


def paragraphs(lines: Iterable[str]) -> Iterator[list[str]]:
    """Yield the runs of lines between blank ones."""
    paragraph: list[str] = []
    for line in [*lines, ""]:
        if line.strip():
            paragraph.append(line)
        elif paragraph:
            yield paragraph
            paragraph = []


def is_heading(paragraph: list[str]) -> bool:
    """Whether a section begins here."""
    return len(paragraph) > 1 and bool(UNDERLINE.fullmatch(paragraph[1].strip()))


def prose(paragraph: list[str]) -> list[str]:
    """Return lines of text with code marked as such, and no accidental markup; lines of a doctest are left as they are."""
    doctest = next((number for number, line in enumerate(paragraph) if line.lstrip().startswith(">>>")), len(paragraph))
    parts = CODE.split("\n".join(paragraph[:doctest]))
    text = "".join(marked(part, behind[:1]) for part, behind in zip(parts, [*parts[1:], ""], strict=True))
    return [*text.splitlines(), *paragraph[doctest:]]


def marked(part: str, behind: str) -> str:
    """Return a part of a line, code or text; what is behind code and belongs to its word, as a plural s, needs a separator."""
    if not part.startswith("`"):
        text = re.sub(r"([*|])", r"\\\1", part)
        return re.sub(r"(\w)_(?=\W|$)", r"\1\_", text)
    code = " ".join(part.strip("`").split())
    written = part if part.startswith("``") else reference.link(code) or f"``{code}``"
    return written + "\\ " * behind.isalnum()


def setup(app) -> dict[str, bool]:
    app.connect("autodoc-process-docstring", process, priority=400)
    return {"parallel_read_safe": True}
