"""The examples in the gallery: each is run as a script that is told where to write its figure, and that figure is shown."""

import re
import shutil
from pathlib import Path
from typing import Any

from docutils import nodes
from PIL import Image
from sphinx.application import Sphinx
from sphinx_gallery.scrapers import figure_rst

EXAMPLES = Path(__file__).parents[2] / "examples"
FOLDER = Path(__file__).parents[1] / "_build" / "pictures"
ENDINGS = (".png", ".gif")
OTHER_ARGUMENTS = {"training_mgnet_on_cifar10": ["shapes", "3"]}  # data that need no download, and epochs


def output_of(source: str | Path) -> Path:
    """Return where an example writes: a picture, or a folder of pictures and of what it trained."""
    stem = Path(source).stem
    return FOLDER / stem / ("" if stem == "training_mgnet_on_cifar10" else f"{stem}.png")


class Arguments:
    """The command line of an example, an empty folder of its own."""

    def __call__(self, gallery_conf: dict[str, Any], script_vars: dict[str, Any]) -> list[str]:
        path = output_of(script_vars["src_file"])
        folder = FOLDER / path.stem
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return [str(path), *OTHER_ARGUMENTS.get(path.stem, [])]

    def __repr__(self) -> str:
        return "Arguments"  # sphinx compares configurations by it


class Scraper:
    """Takes what an example has written since it was last asked; the figure of the page is named by its title."""

    def __call__(self, block: Any, block_vars: dict[str, Any], gallery_conf: dict[str, Any]) -> str:
        folder = FOLDER / Path(block_vars["src_file"]).stem
        # An animation comes last, as the first picture is shown in the gallery.
        found = sorted(
            (path for path in folder.glob("*") if path.suffix in ENDINGS),
            key=lambda path: (path.suffix == ".gif", path.stat().st_mtime),
        )
        shown = []
        for source, number in zip(found, block_vars["image_path_iterator"], strict=False):
            target = Path(number).with_suffix(source.suffix)
            if source.suffix == ".gif":
                shutil.copy(source, target)
            else:
                _save_small(source, target)
            source.unlink()
            shown.append(str(target))
        return figure_rst(shown, gallery_conf["src_dir"], _description(block_vars["src_file"])) if shown else ""

    def __repr__(self) -> str:
        return "Scraper"


def amend(app: Sphinx, doctree: nodes.document) -> None:
    """Give small pictures of examples the titles as alternative texts, which they lack; indented equations are no code."""
    for block in doctree.findall(nodes.literal_block):
        if "language" not in block:
            block["language"] = "none"
    for image in doctree.findall(nodes.image):
        match = re.search(r"sphx_glr_(\w+)_thumb\.", image.get("uri", ""))
        if match and not image.get("alt"):
            image["alt"] = _description(EXAMPLES / f"{match[1]}.py")


def _save_small(source: Path, target: Path) -> None:
    """Save a picture with 256 colors, which figures of maps do not show, where that takes less."""
    shutil.copy(source, target)
    with Image.open(source) as picture:
        small = picture.convert("RGB").quantize(256, dither=Image.Dither.NONE)
        small.save(target, optimize=True)
    if target.stat().st_size > source.stat().st_size:
        shutil.copy(source, target)


def _description(source: str | Path) -> str:
    """Return the title of an example and its first sentence: the text in place of its pictures."""
    title, sentence = Path(source).read_text(encoding="utf-8").removeprefix('"""').split("\n\n")[:2]
    return f"{title.splitlines()[0]}: {' '.join(sentence.split())}".replace("`", "")


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("doctree-read", amend)
    return {"parallel_read_safe": True}
