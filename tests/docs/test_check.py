"""docs/check.py finds each kind of fault, and nothing in a page without any."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
SEARCH = """<title>s</title><main><ul id="search-results"></ul></main><script>
if (location.search.includes("prolongation"))
    document.querySelector("ul").innerHTML = "<li><a href='a.html'>A</a></li>"
</script>"""
FAULTS = {
    "scrolls": ("<div style='width: 2000px'>wide</div>", "scrolls sideways"),
    "untyped": ("<span class='math'>\\(x\\)</span>", "not typeset"),
    "blind": ("<img src='data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAA='>", "no alternative text"),
    "path": ("<img alt='a/b.png' src='data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAA='>", "no alternative text"),
    "empty": ("<img alt='a' src='none.png'>", "request failed"),
    "console": ("<script>console.error('broken')</script>", "broken"),
    "script": ("<script>nothing.there()</script>", "nothing is not defined"),
}


@pytest.fixture(scope="module")
def check() -> ModuleType:
    specification = importlib.util.spec_from_file_location("check_of_docs", ROOT / "docs" / "check.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def site(folder: Path, pages: dict[str, str]) -> Path:
    for name, text in {"index": "<a href='search.html'>search</a>", "search": SEARCH, **pages}.items():
        head = "" if text.startswith("<title>") else "<title>t</title>"
        (folder / f"{name}.html").write_text(f"<!doctype html><html lang='en'>{head}<main>{text}</main></html>")
    return folder


def test_dead_links(check: ModuleType, tmp_path: Path) -> None:
    good = "<a href='b.html#there'>b</a> <a href='https://example.org/x'>out</a> <a href='#top' id='top'>up</a>"
    folder = site(tmp_path, {"a": good, "b": "<p id='there'>text</p>"})
    assert list(check.dead_links(folder)) == []
    site(tmp_path, {"a": "<a href='b.html#gone'>b</a> <a href='c.html'>c</a>", "b": "text"})
    found = list(check.dead_links(folder))
    assert found == [
        "a.html: links to b.html#gone, a place that is not there",
        "a.html: links to c.html, which is not there",
    ]


def test_a_folder_that_is_no_site_is_refused(check: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        check.main([str(tmp_path)])
    assert "build the site first" in capsys.readouterr().err


@pytest.mark.system
def test_faults_in_a_browser(check: ModuleType, tmp_path: Path) -> None:
    pytest.importorskip("playwright")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("needs chromium")
    folder = site(tmp_path, {"a": "<p>nothing wrong</p>", **{name: text for name, (text, _) in FAULTS.items()}})
    found = list(check.faults_in_chromium(folder, chromium))
    for name, (_, expected) in FAULTS.items():
        for width in check.WIDTHS:
            assert any(fault.startswith(f"{name}.html at {width}") and expected in fault for fault in found), (name, found)
    assert not [fault for fault in found if fault.startswith(("a.html", "index.html", "search"))]
    (folder / "search.html").write_text(SEARCH.replace("prolongation", "other"))
    assert any("prolongation is not found" in fault for fault in check.faults_in_chromium(folder, chromium))
