"""The page of a solve."""

import math
import re

import numpy as np
import pytest

import unigrid
from unigrid import report
from unigrid.solution import Reason, Solution, stacked

undrawn = pytest.mark.usefixtures("undrawn")
HOSTILE = '"><img src=x onerror=alert(1)><script>alert(2)</script>{{ 7 * 7 }}</title></style>'


@pytest.fixture(scope="module")
def profile():
    cycle = unigrid.StencilCycle(unigrid.Poisson((31, 24), boundary=["neumann", "dirichlet"]))
    return cycle, cycle.profile(np.random.default_rng(0).standard_normal((31, 24)), start="zero")


@undrawn
def test_the_page_has_the_numbers_of_the_solve(profile, read):
    cycle, measured = profile
    solution = measured.solution
    page = read(report.of_solution(solution, cycle, profile=measured, title="A plate", rtol=1e-8))
    assert f"Solved in {solution.iterations} iterations." in page.text
    for residual in solution.residuals:
        assert f"{residual:.4e}" in page.text
    for shape in cycle.shapes:
        assert f"{shape[0]} x {shape[1]} {math.prod(shape):,}" in page.text
    assert f"Values from {solution.u.min():.4g} to {solution.u.max():.4g}" in page.text
    digits = -math.log10(solution.rate)
    assert f"multiplied the residual by {solution.rate:.2g} on average, {digits:.1f} decimal digits" in page.text
    shares = [level.total / measured.seconds for level in measured.levels]
    assert f"{100 * shares[0]:.1f} %" in page.text
    assert "neumann:neumann" in page.text
    assert "What to do" not in page.text


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(12,), (9, 8), (5, 4, 3)], ids=str)
def test_grids_of_every_number_of_axes(shape, read):
    u = np.arange(math.prod(shape), dtype=np.float64).reshape(shape)
    found = read(
        report.of_solution(Solution(u, True, Reason.CONVERGED, 1, (1.0, 1e-9)), unigrid.StencilCycle(unigrid.Poisson(shape)))
    )
    pictures = [attributes["aria-label"] for _, attributes in found.elements if attributes.get("role") == "img"]
    assert len(pictures) == (4 if len(shape) == 3 else 2)
    assert sum(f"u at {' x '.join(map(str, shape))} unknowns" in text for text in pictures) == len(pictures) - 1


@undrawn
def test_a_failure_comes_with_what_to_do(read):
    residuals = (1.0, 0.5, 0.25, 0.125)
    found = read(report.of_solution(Solution(np.ones(5), False, Reason.MAXITER, 3, residuals, "maxiter: at 3"), rtol=1e-3))
    assert "Not solved: the limit of 3 iterations was reached. At 3 What to do" in found.text
    assert Reason.MAXITER.text in found.text
    assert "about 7 more iterations: maxiter=10" in found.text  # 0.125 / 2^7 < 1e-3 < 0.125 / 2^6
    stuck = Solution(np.ones(5), False, Reason.STAGNATED, 3, (1.0, 1e-3, 2e-9, 3e-9), "stagnated: there")
    assert "The smallest residual of this run is 2.0e-09 of the first one" in read(report.of_solution(stuck)).text


@undrawn
def test_no_iterate_and_no_residual(read):
    found = read(report.of_solution(Solution(None, False, Reason.NONFINITE, 0, (math.nan,), "nonfinite: at once")))
    assert "There is no finite iterate to show" in found.text
    zero = Solution(np.zeros(5), True, Reason.CONVERGED, 0, (0.0,), "converged: b is 0")
    assert "Solved in 0 iterations" in read(report.of_solution(zero)).text


@undrawn
def test_several_right_hand_sides(read):
    parts = [
        Solution(np.ones((3, 3)) * n, n < 2, Reason.CONVERGED if n < 2 else Reason.DIVERGED, 1, (2.0, 1.0)) for n in range(4)
    ]
    found = read(report.of_solution(stacked(parts, np.stack([part.u for part in parts]).reshape(2, 2, 3, 3))))
    assert "The first of 4 solutions: u at 3 x 3 unknowns" in found.text
    assert found.text.count("diverged") == 3  # twice in the table, once in the title
    assert "5.00e-01" in found.text


@undrawn
def test_many_iterations_keep_the_table_short(read):
    residuals = tuple(0.99**n for n in range(1001))
    found = read(report.of_solution(Solution(np.ones(4), False, Reason.MAXITER, 1000, residuals)))
    assert "941 iterations in the middle are left out" in found.text
    assert found.tags.count("tr") < 100


@undrawn
def test_hostile_texts_are_texts(read):
    solution = Solution(np.ones((4, 4)), False, Reason.DIVERGED, 1, (1.0, 2.0), f"diverged: {HOSTILE}")
    cycle = unigrid.StencilCycle(unigrid.Poisson((4, 4)))
    plain = read(report.of_solution(solution, cycle, title="f", details={"a": "b"}))
    found = read(report.of_solution(solution, cycle, title=HOSTILE, details={HOSTILE: HOSTILE + "\u202e" + "\x1b"}))
    assert found.tags == plain.tags
    assert found.text.count(HOSTILE) == 5 - 1  # title, heading, message, name and value; one of them shortened
    assert "\u202e" not in report.of_solution(solution, cycle, title="\u202etxt.exe").html
    long = report.of_solution(solution, cycle, title="x" * 10**6, details={"y" * 10**6: "z" * 10**6})
    assert len(long.html) < 200_000


@undrawn
def test_other_arrays(read):
    torch = pytest.importorskip("torch")
    solution = unigrid.solve(torch.ones(9, 9, dtype=torch.float64))
    assert "u at 9 x 9 unknowns" in read(report.of_solution(solution)).text
    wave = unigrid.solve(np.ones((9, 9)) * (1 + 2j))
    assert "its real part" in read(report.of_solution(wave)).text


@undrawn
def test_other_cycles(read):
    cycle = unigrid.GalerkinCycle(unigrid.Poisson((15, 15), coefficient=np.linspace(1, 2, 225).reshape(15, 15)))
    found = read(report.of_solution(cycle.solve(np.ones((15, 15))), cycle))
    assert "The time per level was not measured." in found.text
    assert "black box multigrid" in found.text


@pytest.mark.slow
def test_long_curves_are_drawn_as_pixels(read):
    noise = np.random.default_rng(0).standard_normal(200_000)
    page = report.of_solution(Solution(noise, True, Reason.CONVERGED, 1, (1.0, 0.1)))
    assert len(page.html) < 500_000


@undrawn
def test_a_page_is_saved_whole_and_shows_itself(tmp_path):
    page = report.of_solution(Solution(np.ones(3), True, Reason.CONVERGED, 1, (1.0, 0.1)), title="ü \udcff")
    page.save(tmp_path / "r.html")
    assert (tmp_path / "r.html").read_text(encoding="utf-8") == page.html
    assert page.html.startswith("<!DOCTYPE html>")
    assert "ü \\udcff" in page.html
    with pytest.raises(unigrid.files.FileError, match=r"unknown file ending '.pdf'; allowed: '.html', '.htm'"):
        page.save(tmp_path / "r.pdf")
    assert re.match(r'<iframe srcdoc="&lt;!DOCTYPE html&gt;', page._repr_html_())


def test_what_is_no_solution_is_refused():
    with pytest.raises(TypeError, match=r"must be what unigrid.solve\(f\) returns, a Solution, got ndarray of shape \(3,\)"):
        report.of_solution(np.ones(3))
    cycle = unigrid.StencilCycle(unigrid.Poisson((4, 4)))
    with pytest.raises(ValueError, match=r"u must have the problem's shape \(4, 4\), got \(5, 5\)"):
        report.of_solution(unigrid.solve(np.ones((5, 5))), cycle)


@undrawn
def test_without_jinja2_the_command_that_installs_it_is_named(monkeypatch):
    monkeypatch.setattr("unigrid.report.page.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"a report needs jinja2: pip install 'unigrid\[report\]'"):
        report.of_solution(Solution(np.ones(3), True, Reason.CONVERGED, 1, (1.0, 0.1)))
    with pytest.raises(ImportError, match="a report needs jinja2"):
        report.of_run("nowhere")
