"""Open every page of the built site in headless Chromium, from disk, as wide as a phone and as a desktop, and report faults.

    python docs/check.py docs/_build/html

Faults are: errors on the console, requests that fail or leave the disk, mathematics that is not typeset, pages that scroll
sideways, figures that do not load or have no alternative text, dead links, and a search that does not find "prolongation".
It needs Chromium, and playwright to drive it: pip install 'unigrid[docs-check]'.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

WIDTHS = (390, 1280)
SEARCHED = "prolongation"
FAULTS_OF_A_PAGE = """() => {
    const faults = [], shown = node => node.outerHTML.slice(0, 120);
    const root = document.documentElement;
    if (root.scrollWidth > root.clientWidth) {
        const reaches = node => node.getBoundingClientRect().right > root.clientWidth + 1;
        const wide = [...document.querySelectorAll("main *")].filter(reaches);
        faults.push(`scrolls sideways, ${root.scrollWidth} wide: ${wide.slice(0, 2).map(shown).join(" ")}`);
    }
    for (const node of document.querySelectorAll(".math"))
        if (!node.querySelector("mjx-container") || node.querySelector("mjx-merror"))
            faults.push(`not typeset: ${shown(node)}`);
    for (const image of document.querySelectorAll("main img")) {
        if (!image.alt.trim() || /\\.(png|svg|gif)$/.test(image.alt)) faults.push(`no alternative text: ${shown(image)}`);
        if (image.complete && !image.naturalWidth) faults.push(`not loaded: ${shown(image)}`);
    }
    return faults;
}"""


class Links(HTMLParser):
    """The links of a page and the names that links to it may have."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.anchors |= {value for key in ("id", "name") if (value := found.get(key))}
        if tag == "a" and found.get("href"):
            self.links.append(str(found["href"]))


def pages_of(folder: Path) -> list[Path]:
    """Return the pages of a site; what is static belongs to the theme."""
    return [page for page in sorted(folder.rglob("*.html")) if "_static" not in page.relative_to(folder).parts]


def dead_links(folder: Path) -> Iterator[str]:
    """Yield the links between pages that lead nowhere."""
    pages = {page.resolve(): Links(page) for page in pages_of(folder)}
    for page, found in pages.items():
        for link in sorted(set(found.links)):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            if not target.exists():
                yield f"{page.relative_to(folder.resolve())}: links to {link}, which is not there"
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].anchors:
                yield f"{page.relative_to(folder.resolve())}: links to {link}, a place that is not there"


def faults_in_chromium(folder: Path, chromium: str) -> Iterator[str]:
    """Yield what is wrong with the pages as a browser shows them."""
    from playwright.sync_api import Error, sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for width in WIDTHS:
            context = browser.new_context(viewport={"width": width, "height": 900})
            tab, heard = context.new_page(), []
            tab.on("console", lambda message, heard=heard: heard.append(message.text) if message.type == "error" else None)
            tab.on("pageerror", lambda error, heard=heard: heard.append(str(error)))
            tab.on("requestfailed", lambda request, heard=heard: heard.append(f"request failed: {request.url}"))
            tab.on("request", lambda request, heard=heard: heard.extend(_outside(request.url)))
            for page in pages_of(folder):
                name = page.relative_to(folder)
                try:
                    tab.goto(page.resolve().as_uri(), wait_until="load")
                    tab.evaluate("() => window.MathJax?.startup?.promise")
                    found = tab.evaluate(FAULTS_OF_A_PAGE)
                except Error as error:
                    found = [str(error).splitlines()[0]]
                yield from (f"{name} at {width}: {fault}" for fault in [*found, *heard])
                heard.clear()
            tab.goto(f"{(folder / 'search.html').resolve().as_uri()}?q={SEARCHED}")
            try:
                tab.wait_for_selector("#search-results li a", timeout=10_000)
            except Error:
                yield f"search at {width}: {SEARCHED} is not found"
            yield from (f"search at {width}: {fault}" for fault in heard)
            context.close()
        browser.close()


def _outside(url: str) -> list[str]:
    return [] if url.startswith(("file:", "data:", "blob:")) else [f"leaves the disk: {url}"]


def main(argv: list[str] | None = None) -> int:
    """Print the faults of a built site; return 1 if there are any."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, help="the built site")
    folder = parser.parse_args(argv).folder
    if not (folder / "index.html").exists():
        parser.error(f"{folder} has no index.html: build the site first, python -m sphinx docs {folder}")
    faults = list(dead_links(folder))
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    try:
        import playwright  # noqa: F401
    except ImportError:
        print("not opened in a browser: playwright is missing, pip install 'unigrid[docs-check]'")
    else:
        if chromium is None:
            print("not opened in a browser: there is no chromium")
        else:
            faults += faults_in_chromium(folder, chromium)
    for fault in faults:
        print(fault)
    print(f"{len(pages_of(folder))} pages, {len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
