"""A reader of pages: it checks that they are well-formed and need nothing from elsewhere, and returns what is in them."""

import re
from html.parser import HTMLParser
from importlib.util import find_spec
from types import SimpleNamespace

import pytest

collect_ignore_glob = [] if find_spec("jinja2") else ["test_*.py"]

VOID = {"meta", "link", "img", "br"}
DRAWN = {"path", "use", "image", "rect", "g", "defs", "svg", "style", "clippath", "line", "circle", "polygon"}


class Reader(HTMLParser):
    """Elements with their attributes in order, and their texts. Raises AssertionError for tags that do not close."""

    def __init__(self):
        super().__init__()
        self.elements, self.texts, self.open = [], [], []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "script"):
            self.texts.append(data)


@pytest.fixture
def undrawn(monkeypatch):
    """Figures are made, but not drawn, which takes most of the time of a page."""
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", lambda figure, file, **options: file.write("<svg></svg>"))


@pytest.fixture
def read():
    """read(page) -> .elements, .text, .tags, .pictures: after the checks that every page has to pass."""

    def read(page):
        reader = Reader()
        reader.feed(page.html)
        reader.close()
        assert not reader.open
        names = [name for name, _ in reader.elements]
        assert not {"script", "iframe", "object", "form", "base", "embed"} & set(names)
        for name, attributes in reader.elements:
            assert not [key for key in attributes if key.startswith("on")], attributes
            for key in ("src", "href", "xlink:href", "action", "srcset"):
                assert re.match(r"data:|#", attributes.get(key) or "#"), (name, key, attributes[key][:50])
        assert "url(http" not in page.html
        identifiers = [attributes["id"] for _, attributes in reader.elements if "id" in attributes]
        assert len(identifiers) == len(set(identifiers))
        targets = {attributes["href"][1:] for name, attributes in reader.elements if name == "a"}
        assert targets <= set(identifiers)
        assert all(attributes.get("alt") for name, attributes in reader.elements if name == "img")
        labels = [attributes.get("aria-label") for _, attributes in reader.elements if attributes.get("role") == "img"]
        assert all(labels)
        assert names.count("svg") == len(labels)
        assert names.count("h1") == 1
        assert all("scope" in attributes for name, attributes in reader.elements if name == "th")
        text = " ".join(" ".join(reader.texts).split())
        tags = [name for name in names if name not in DRAWN]
        return SimpleNamespace(elements=reader.elements, text=text, tags=tags, pictures=names.count("img"))

    return read
