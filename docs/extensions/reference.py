"""The reference of the Python interface: a page per public name, made of what `unigrid` lists, so that none can be missing."""

import importlib
import inspect
import re
from functools import cache
from pathlib import Path
from types import ModuleType

from docutils import nodes
from pages import heading, toctree, write
from sphinx.application import Sphinx

import unigrid

EXAMPLES = Path(__file__).parents[1] / "reference" / "examples.txt"  # of names whose docstring has none
SECTIONS = {  # where each name of the package is listed; the key is the beginning of its home
    "Solving": (
        "stencil.solve",
        "stencil.problem",
        "stencil.grid",
        "stencil.reaction",
        "stencil.recognition",
        "stencil.solving",
        "solution",
    ),
    "Cycles": ("stencil.cycle", "stencil.galerkin", "stencil.nonlinear", "domains", "conv.levels"),
    "Smoothers": ("stencil.smoothers", "stencil.relaxation", "stencil.learned"),
    "Transfers": ("stencil.transfers",),
    "Networks and training": ("conv", "training", "tensors", "pretrained"),
    "The algorithm and its slots": ("cycle",),
    "Operators and threads": ("stencil.operator", "stencil.kernels"),
    "Further names": ("",),
}
TITLES = {
    "analysis": "Fourier analysis", "equivalence": "The equivalences", "plots": "Figures", "conv": "Networks",
    "training": "Training", "report": "Reports", "pretrained": "Trained networks",
}  # fmt: skip
INNER = ("cycle", "iterate", "solution", "stencil")  # whose public names are those of the package
MODULES = {name: TITLES.get(name, name) for name in unigrid._MODULES if name not in INNER}


def home(name: str) -> str:
    """Return the section in which a public name is listed."""
    module = unigrid._HOME_OF[name]
    fitting = [(len(begin), title) for title, begins in SECTIONS.items() for begin in begins if module.startswith(begin)]
    return max(fitting)[1]


def names_of(module: ModuleType) -> list[str]:
    """Return the public names of a module: those of `__all__`, or all that it has from its own package."""
    if hasattr(module, "__all__"):
        return list(module.__all__)
    found = [(name, getattr(module, name)) for name in dir(module) if not name.startswith("_")]
    return [name for name, value in found if getattr(value, "__module__", "").startswith("unigrid.") or name.isupper()]


@cache
def targets() -> dict[str, str]:
    """Return the documented name of each public object, by its bare name and by that of its home."""
    found: dict[str, str] = {}
    for module in MODULES:
        loaded = importlib.import_module(f"unigrid.{module}")
        found |= {name: f"unigrid.{module}.{name}" for name in names_of(loaded)}
    return found | {name: f"unigrid.{name}" for name in unigrid._HOME_OF}


def link(code: str) -> str | None:
    """Return the role that links a name, or None where it is no public name.

    >>> link("unigrid.solve"), link("StencilCycle.solve"), link("x + y")
    (':py:obj:`~unigrid.solve`', ':py:obj:`StencilCycle.solve <unigrid.StencilCycle.solve>`', None)
    """
    match = re.fullmatch(
        r"(?:unigrid\.)?(?:(?:analysis|conv|equivalence|plots|pretrained|report|training)\.)?(\w+)(?:\.(\w+))?", code
    )
    if match is None or match[1] not in targets() or match[1] == "cycle":
        return None
    target = targets()[match[1]]
    if match[2] is None:
        return f":py:obj:`~{target}`"
    member = inspect.getattr_static(value_of(target), match[2], None)
    is_described = inspect.isroutine(member) or isinstance(member, (property, staticmethod, classmethod))
    return f":py:obj:`{code} <{target}{f'.{match[2]}' if is_described else ''}>`"  # fields are in the text of their class


def value_of(target: str) -> object:
    """Return the object of a documented name."""
    module, _, name = target.rpartition(".")
    return getattr(importlib.import_module(module), name)


# --- pages ------------------------------------------------------------------------------------------------------------


def write_pages(app: Sphinx) -> None:
    """Write the page of every public name and of every public module, and the index of them all."""
    examples = examples_by_name()
    written = {f"{target}.rst": page_of(target, examples) for target in sorted(set(targets().values()))}
    write("api", {**written, **{f"{module}.rst": page_of_module(module) for module in MODULES}, "index.rst": index()})


def examples_by_name() -> dict[str, str]:
    """Return the examples of names whose docstring has none: paragraphs after a line `Name:`."""
    parts = re.split(r"^([\w.]+):\n", EXAMPLES.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    return {f"unigrid.{name}": text.strip() for name, text in zip(parts[::2], parts[1::2], strict=True)}


def page_of(target: str, examples: dict[str, str]) -> str:
    """Return the page of a class, function or constant."""
    value = value_of(target)
    parts = [heading(target.removeprefix("unigrid."))]
    if inspect.isclass(value):
        parts.append(f".. autoclass:: {target}\n   :members:\n   :show-inheritance:")
    elif inspect.isroutine(value):
        parts.append(f".. autofunction:: {target}")
    else:
        parts.append(f".. py:data:: {target}\n   :value: {constant(value)}")
    if target in examples:
        parts += [".. rubric:: Examples", examples[target]]
    parts.append(f".. minigallery:: {target}\n   :add-heading: In the gallery\n   :heading-level: -")
    return "\n\n".join(parts) + "\n"


def constant(value: object) -> str:
    """Return a constant as it is shown: of a table its keys."""
    return f"a table of {', '.join(map(str, value))}" if isinstance(value, dict) else repr(value)


def page_of_module(module: str) -> str:
    """Return the page of a public module: its text, and a table of its names."""
    loaded = importlib.import_module(f"unigrid.{module}")
    listed = sorted({targets()[name] for name in names_of(loaded) if name in targets()})
    name = f"unigrid.{module}"
    return "\n\n".join([heading(MODULES[module]), f".. automodule:: {name}\n   :no-members:", table(listed)]) + "\n"


def index() -> str:
    """Return the page that lists all public names."""
    parts = [heading("Python interface"), "``import unigrid`` has these names; each loads when it is first used."]
    for title in SECTIONS:
        if listed := [f"unigrid.{name}" for name in unigrid._HOME_OF if home(name) == title]:
            parts += [heading(title, "-"), table(listed)]
    parts += [heading("Modules", "-"), "Further names are in modules of the package.", toctree(MODULES)]
    return "\n\n".join(parts) + "\n"


def table(listed: list[str]) -> str:
    """Return a table of names with the first sentence of each, and the hidden tree of their pages."""
    rows = [f"   * - :py:obj:`~{target}`\n     - {first_sentence(value_of(target))}" for target in listed]
    return ".. list-table::\n   :widths: 30 70\n\n" + "\n".join(rows) + "\n\n" + toctree(listed, hidden=True)


def first_sentence(value: object) -> str:
    """Return the beginning of a docstring, up to the first full stop, on one line."""
    import docstrings

    if not callable(value):
        return "A constant."
    paragraph = next(docstrings.paragraphs((inspect.getdoc(value) or "").splitlines()), [""])
    text = " ".join(line.strip() for line in docstrings.prose(paragraph))
    return re.split(r"(?<=[^.\s]{2}[.:])\s|(?<=\))\.\s", text)[0].rstrip(":.") + "."


# --- links ------------------------------------------------------------------------------------------------------------


def resolve(app: Sphinx, env, node, content) -> nodes.Node | None:
    """Link what annotations name by its home, such as `unigrid.stencil.problem.Poisson`; leave what is not public as text."""
    target = node.get("reftarget", "")
    if node.get("refdomain") != "py":
        return None
    found = link(target.rpartition(".")[2]) if not target.startswith("unigrid.") or "." in target else None
    bare = target.rpartition(".")[2]
    if found and bare in targets() and targets()[bare] != target:
        return env.get_domain("py").resolve_xref(env, node["refdoc"], app.builder, "obj", targets()[bare], node, content)
    is_written_by_hand = target.startswith("unigrid") and node.get("refexplicit", False)
    return None if is_written_by_hand else content


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("builder-inited", write_pages, priority=100)
    app.connect("missing-reference", resolve)
    return {"parallel_read_safe": True}
