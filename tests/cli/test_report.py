"""`unigrid report`, and `unigrid solve --report`: pages with real figures, and what is refused before any work."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("jinja2")


@pytest.fixture
def run(trained, place):
    """A copy of the trained run, in the working folder."""
    return shutil.copytree(trained.folder, place / "run")


@pytest.fixture
def without_jinja2(monkeypatch):
    monkeypatch.setattr("unigrid.report.page.find_spec", lambda name: None)


def test_a_run_becomes_one_small_file_without_a_network(command, run, trained):
    printed = command("report run --device cpu")
    assert (printed.code, printed.err) == (0, "")
    page = Path("run/report.html").read_text()
    assert printed.out == f"Wrote run/report.html, {len(page.encode()):,} bytes; a browser shows it\n"
    assert len(page) < 5e6
    assert "http" not in page.replace("http-equiv", "").replace("http://www.w3.org/", "")
    assert f"{100 * trained.facts['test_accuracy']:.1f} %" in page
    assert page.count("<svg") == 3
    assert "currentColor" in page
    assert page.count('src="data:image/png;base64,') > 50


def test_an_existing_page_is_kept(command, run, refused, loads):
    Path("r.html").write_text("mine")
    refused("report run -o r.html", "r.html: exists; --force replaces it")
    assert Path("r.html").read_text() == "mine"
    printed = command("report run -o r.html --force --images 7 --device cpu --json")
    facts = loads(printed.out)
    assert facts["written"] == ["r.html"]
    assert facts["bytes"] == Path("r.html").stat().st_size
    assert "test picture 7, " in Path("r.html").read_text()


def test_wrong_input_is_refused_in_one_line(run, refused):
    refused("report rum", "rum: no such folder; did you mean 'run'?")
    refused("report run/config.json", "is a file; give the folder of a run")
    refused("report .", "give one of the runs in it: run")
    refused("report run -o r.pdf", "unknown file ending '.pdf'; allowed: '.html', '.htm'")
    refused("report run -o none/r.html", "there is no directory none")
    refused("report run --images 1,x", "'1,x' is not a whole number, or several by comma such as 3,17")
    refused("report run --images 100000", "images must be an integer from 0 to")
    refused("report run --device abacus", "abacus")
    assert not Path("run/report.html").exists()


def test_without_jinja2(run, refused, without_jinja2):
    np.save("f.npy", np.ones((5, 5)))
    for text in ("report run", "solve f.npy --report r.html"):
        refused(text, "a report needs jinja2: pip install 'unigrid[report]'")


def test_a_solve_becomes_a_page(command, refused):
    np.save("f.npy", np.random.default_rng(0).standard_normal((40, 31)))
    printed = command("solve f.npy --lengths 3,2 --report r.html -o u.npy --json")
    facts = json.loads(printed.out)
    assert facts["written"] == ["u.npy", "r.html"]
    page = Path("r.html").read_text()
    for residual in facts["residuals"]:
        assert f"{residual:.4e}" in page
    assert "unigrid solve f.npy --lengths 3,2 --report r.html" in page
    assert "Measured in another solve" in page
    assert page.count("<svg") == 2
    refused("solve f.npy --report r.html", "r.html: exists; --force replaces it")
    refused("solve f.npy --report r.png", "unknown file ending '.png'")
    refused("solve f.npy --report q.html --plot q.html", "unknown file ending '.html'")


def test_a_failure_becomes_a_page_all_the_same(command):
    np.save("f.npy", np.random.default_rng(0).standard_normal((40, 31)))
    np.save("u0.npy", np.ones((40, 31)))
    printed = command("solve f.npy --u0 u0.npy --maxiter 2 --report r.html")
    assert printed.code == 1
    assert "What to do" in Path("r.html").read_text()


def test_a_stack_becomes_a_page(command):
    np.save("f.npy", np.random.default_rng(0).standard_normal((3, 15, 12)))
    assert command("solve f.npy --stack --report r.html").code == 0
    page = Path("r.html").read_text()
    assert "The first of 3 solutions: u at 15 x 12 unknowns" in page
    assert "The time per level was not measured." in page


def test_hostile_names_of_files(command):
    name = '"><img src=x onerror=alert(1)>.npy'
    np.save(name, np.ones((5, 5)))
    assert command(f"solve '{name}' --report r.html").code == 0
    page = Path("r.html").read_text()
    assert "<img" not in page
    assert "&#34;&gt;&lt;img src=x onerror=alert(1)&gt;.npy" in page
