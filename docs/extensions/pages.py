"""Generated pages: their folder, and the little reStructuredText that they share."""

from collections.abc import Iterable, Mapping
from pathlib import Path

GENERATED = Path(__file__).parents[1] / "reference" / "generated"


def write(folder: str, pages: Mapping[str, str]) -> None:
    """Write pages in a folder, remove others, and leave what is the same, which then is not read again."""
    place = GENERATED / folder
    place.mkdir(parents=True, exist_ok=True)
    for path in set(place.glob("*.rst")) - {place / name for name in pages}:
        path.unlink()
    for name, text in pages.items():
        path = place / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def heading(text: str, line: str = "=") -> str:
    return f"{text}\n{line * len(text)}"


def toctree(pages: Iterable[str], hidden: bool = False) -> str:
    entries = "\n".join(f"   {page}" for page in pages)
    return f".. toctree::\n   :maxdepth: 1\n{'   :hidden:' if hidden else ''}\n\n{entries}"
