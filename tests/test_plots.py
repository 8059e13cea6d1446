"""Pictures hold the data they are given, at the right places, and say what they show."""

import os
import subprocess
import sys

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Polygon

import unigrid
from unigrid import Poisson, Reason, Solution, StencilCycle, plots
from unigrid.files import FileError


def texts(axes):
    return [text.get_text() for text in axes.texts]


def legend_of(axes_or_figure):
    legend = axes_or_figure.get_legend() if hasattr(axes_or_figure, "get_legend") else axes_or_figure.legends[0]
    return [text.get_text() for text in legend.get_texts()]


def overlaps(boxes):
    return [(a, b) for number, a in enumerate(boxes) for b in boxes[:number] if a.overlaps(b)]


def run_of(*residuals, nested=False):
    return Solution(None, True, Reason.CONVERGED, len(residuals) - 1, residuals, nested_start=nested)


def test_a_curve():
    problem = Poisson(10, lengths=2.0)
    u = np.arange(10.0)
    axes = plots.plot_solution(u, problem, label="height (m)").axes[0]
    assert np.array_equal(axes.lines[0].get_xdata(), problem.coordinates()[0])
    assert np.array_equal(axes.lines[0].get_ydata(), u)
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("x", "height (m)")


def test_an_image_lies_at_its_coordinates():
    problem = Poisson((6, 4), lengths=(7.0, 2.5))
    u = np.random.default_rng(0).random(problem.shape)
    panel, bar = plots.plot_solution(u, problem).axes
    image = panel.images[0]
    assert np.array_equal(image.get_array(), u.T)  # x, the first index, to the right
    assert image.origin == "lower"
    assert image.get_extent() == pytest.approx([0.5, 6.5, 0.25, 2.25])  # pixels around the unknowns
    assert panel.get_xlim() == (0, 7)
    assert panel.get_ylim() == pytest.approx((0, 2.5))
    assert (panel.get_xlabel(), panel.get_ylabel(), bar.get_ylabel()) == ("x", "y", "u")
    box = panel.get_window_extent()
    assert box.width / box.height == pytest.approx(7 / 2.5, rel=0.01)


def test_a_picture_shows_row_0_on_top():
    u = np.random.default_rng(0).random((5, 9))
    panel = plots.plot_solution(u, picture=True).axes[0]
    assert np.array_equal(panel.images[0].get_array(), u)
    assert panel.get_ylim() == (4.5, -0.5)
    assert (panel.get_xlabel(), panel.get_ylabel()) == ("axis 1", "axis 0")


def test_three_slices_share_scale_and_color_bar():
    problem = Poisson((5, 7, 9), lengths=(6.0, 8.0, 10.0))
    u = np.random.default_rng(0).random(problem.shape)
    *panels, bar = plots.plot_solution(u, problem).axes
    expected = [u[:, :, 4].T, u[:, 3, :].T, u[2].T]
    for panel, values in zip(panels, expected, strict=True):
        assert np.array_equal(panel.images[0].get_array(), values)
        assert panel.images[0].get_clim() == (u.min(), u.max())
    assert [panel.get_title() for panel in panels] == ["z = 5", "y = 4", "x = 3"]
    assert [panel.get_xlabel() + panel.get_ylabel() for panel in panels] == ["xy", "xz", "yz"]
    inches = [panel.get_window_extent().width / (panel.get_xlim()[1] - panel.get_xlim()[0]) for panel in panels]
    assert inches == pytest.approx([inches[0]] * 3)
    assert bar.get_ylabel() == "u"


@pytest.mark.parametrize(
    ("low", "high", "cmap", "limits"),
    [
        (0.0, 2.0, plots.SEQUENTIAL, (0.0, 2.0)),
        (-1.0, 2.0, plots.DIVERGING, (-2.0, 2.0)),
        (-3.0, 2.0, plots.DIVERGING, (-3.0, 3.0)),
        (-0.01, 2.0, plots.SEQUENTIAL, (-0.01, 2.0)),  # a trace of the other sign is no reason to waste half the colors
        (-3.0, -1.0, plots.SEQUENTIAL, (-3.0, -1.0)),
    ],
)
def test_signed_values_get_a_diverging_map_about_zero(low, high, cmap, limits):
    u = np.linspace(low, high, 12).reshape(3, 4)
    image = plots.plot_solution(u).axes[0].images[0]
    assert image.get_cmap().name == cmap
    assert image.get_clim() == pytest.approx(limits)


@pytest.mark.parametrize("value", [0.0, 3.0, np.nan])
def test_constant_and_missing_values_draw(value, tmp_path):
    plots.save(plots.plot_solution(np.full((3, 4), value)), tmp_path / "u.png")


@pytest.mark.parametrize(("shape", "lengths"), [((40, 40), (1, 30)), ((8, 8, 8), (1, 1, 50)), ((8, 8, 8), (9, 1, 1))])
def test_extreme_boxes_stay_readable(shape, lengths):
    figure = plots.plot_solution(1e-5 * np.random.default_rng(0).random(shape), Poisson(shape, lengths=lengths))
    figure.draw_without_rendering()
    width, height = figure.get_size_inches()
    assert 1.5 < width < 14
    assert 1.5 < height < 8
    for panel in figure.axes:
        labels = [label.get_window_extent() for label in panel.get_xticklabels() if label.get_text()]
        assert not overlaps(labels)
    titles = [panel.title.get_window_extent() for panel in figure.axes if panel.get_title()]
    power = figure.axes[-1].yaxis.get_offset_text()
    assert "10^{" in power.get_text()
    assert not overlaps([*titles, power.get_window_extent()])


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(ValueError, match=r"got shape \(1, 1, 1, 1\)"):
        plots.plot_solution(np.ones((1, 1, 1, 1)))
    with pytest.raises(ValueError, match=r"the problem's shape \(3, 3\), got \(4, 3\)"):
        plots.plot_solution(np.ones((4, 3)), Poisson((3, 3)))


def test_history_is_relative_and_gives_the_rate():
    figure = plots.plot_history({"V": run_of(8.0, 2.0, 0.5, 0.125)}, rtol=1e-8)
    axes = figure.axes[0]
    curve, rate, tolerance = axes.lines
    assert np.array_equal(curve.get_ydata(), [1, 0.25, 0.0625, 0.015625])
    assert rate.get_ydata() == pytest.approx(curve.get_ydata())
    assert list(tolerance.get_ydata()) == [1e-8, 1e-8]
    assert axes.get_yscale() == "log"
    assert axes.get_xlabel() == "iteration"
    assert "residual" in axes.get_ylabel()
    assert legend_of(axes) == ["V: factor 0.250", "tolerance 1e-8"]
    assert all(float(tick).is_integer() for tick in axes.get_xticks())


def test_history_fits_the_end_and_leaves_the_nested_start_out():
    _, rate = plots.plot_history({"F": run_of(1.0, 1e-3, 1e-4, 1e-6, 1e-8, nested=True)}).axes[0].lines
    assert list(rate.get_xdata()) == [1, 2, 3, 4]
    assert rate.get_ydata() == pytest.approx([1e-2, 1e-4, 1e-6, 1e-8])


def test_histories_without_a_rate_draw():
    runs = {"exact": run_of(1.0, 0.0), "zero": run_of(0.0), "start": run_of(1.0)}
    figure = plots.plot_history(runs)
    figure.draw_without_rendering()
    assert legend_of(figure.axes[0])[1:] == ["zero", "start"]


def test_many_histories_differ_in_color_or_marker_and_have_the_legend_outside():
    runs = {(smoother, cycle): run_of(1.0, 0.5, 0.1) for smoother in "abcd" for cycle in "VWF"}
    figure = plots.plot_history(runs)
    axes = figure.axes[0]
    looks = {(line.get_color(), line.get_marker(), line.get_linestyle()) for line in axes.lines}
    assert len(axes.lines) == len(looks) == 12
    assert len({line.get_color() for line in axes.lines}) == 4
    figure.draw_without_rendering()
    legend = figure.legends[0].get_window_extent()
    assert not legend.overlaps(axes.get_window_extent())
    assert figure.legends[0].get_texts()[0].get_text() == "a, V: factor 0.200"


def test_twenty_plain_labels_have_twenty_looks():
    axes = plots.plot_history({str(number): run_of(1.0, 0.5) for number in range(20)}).axes[0]
    assert len({(line.get_color(), line.get_marker(), line.get_linestyle()) for line in axes.lines}) == 20


def drawn_path(axes):
    """Return the levels of the arrows' ends, from the markers' heights."""
    heights = sorted({round(float(line.get_ydata()[0]), 6) for line in axes.lines}, reverse=True)
    return [heights.index(round(float(line.get_ydata()[0]), 6)) for line in axes.lines]


@pytest.mark.parametrize(
    ("kind", "path"),
    [
        ("V", [0, 1, 2, 3, 2, 1, 0]),
        ("W", [0, 1, 2, 3, 2, 3, 2, 1, 2, 3, 2, 3, 2, 1, 0]),
        ("F", [0, 1, 2, 3, 2, 3, 2, 1, 2, 3, 2, 1, 0]),
    ],
)
def test_the_path_of_each_cycle(kind, path):
    cycle = StencilCycle(Poisson((31, 31)), cycle=kind)
    assert len(cycle.levels) == 4
    axes = plots.plot_hierarchy(cycle).axes[0]
    assert drawn_path(axes) == path
    arrows = [patch for patch in axes.patches if isinstance(patch, FancyArrowPatch)]
    colors = [to_hex(arrow.get_edgecolor()).upper() for arrow in arrows]
    steps = np.diff(path)
    assert colors == [plots.DOWN if step > 0 else plots.UP for step in steps]
    assert [line.get_marker() for line in axes.lines] == ["s" if level == 3 else "o" for level in path]
    assert f"one {kind}(2,2)-cycle" in texts(axes)


def test_the_table_of_grids():
    axes = plots.plot_hierarchy(StencilCycle(Poisson((63, 31)))).axes[0]
    shown = texts(axes)
    for text in ("63 × 31", "31 × 15", "15 × 7", "1,953", "465", "105", "level", "grid", "unknowns"):
        assert text in shown


def test_a_cycle_without_smoothing_on_the_way_up_has_open_dots_there():
    axes = plots.plot_hierarchy(StencilCycle(Poisson((31, 31)), post=0)).axes[0]
    filled = [to_hex(line.get_markerfacecolor()) == "#000000" for line in axes.lines]
    assert filled == [True, True, True, True, False, False, False]
    assert "no smoothing" in legend_of(axes)


@pytest.mark.parametrize(("kind", "shape"), [("W", (1023, 1023)), ("F", (1023, 1023)), ("V", (2**17,))])
def test_long_paths_are_shortened_and_say_so(kind, shape):
    cycle = StencilCycle(Poisson(shape), cycle=kind)
    most = plots.MOST_LEVELS[kind]
    assert len(cycle.levels) > most
    axes = plots.plot_hierarchy(cycle).axes[0]
    assert f"one {kind}(2,2)-cycle, drawn with {most} of {len(cycle.levels)} levels" in texts(axes)
    assert max(drawn_path(axes)) == most - 1
    assert f"{cycle.levels[-1].problem.grid.size:,}" in texts(axes)  # the coarsest is always there


@pytest.mark.parametrize("shape", [(3,), (500,), (2, 2), (300, 500), (40, 50, 60), (255, 255, 255)])
@pytest.mark.parametrize("kind", ["V", "W", "F"])
def test_nothing_in_the_hierarchy_overlaps(shape, kind):
    figure = plots.plot_hierarchy(StencilCycle(Poisson(shape), cycle=kind))
    figure.draw_without_rendering()
    axes = figure.axes[0]
    boxes = [text.get_window_extent() for text in axes.texts] + [axes.get_legend().get_window_extent()]
    boxes += [line.get_window_extent() for line in axes.lines]
    grids = [patch.get_window_extent() for patch in axes.patches if isinstance(patch, Polygon)]
    assert not [box for box in boxes if box.count_overlaps(grids)]
    assert not overlaps(boxes)
    full = figure.bbox
    assert all(full.x0 <= box.x0 and box.x1 <= full.x1 and full.y0 <= box.y0 and box.y1 <= full.y1 for box in boxes)


@pytest.mark.parametrize(("ending", "magic"), [("png", b"\x89PNG"), ("pdf", b"%PDF"), ("svg", b"<?xml"), ("PNG", b"\x89PNG")])
def test_save(tmp_path, ending, magic):
    path = tmp_path / f"figure.{ending}"
    plots.save(plots.plot_solution(np.arange(5.0)), path)
    assert path.read_bytes().startswith(magic)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_save_refuses_other_endings(tmp_path):
    with pytest.raises(FileError, match=r"unknown file ending '\.gif'; allowed: '\.png', '\.pdf', '\.svg'"):
        plots.save(Figure(), tmp_path / "figure.gif")


def test_no_display_and_no_global_state_are_touched():
    program = (
        f"import sys; sys.path.insert(0, {os.path.dirname(os.path.dirname(unigrid.__file__))!r}); import numpy as np;"
        "from unigrid import plots; plots.plot_solution(np.ones((4, 4))); assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_a_real_run_end_to_end(tmp_path):
    f = np.random.default_rng(0).standard_normal((30, 50))
    problem = Poisson(f.shape)
    cycle = StencilCycle(problem)
    solution = cycle.solve(f)
    for figure in (plots.plot_solution(solution.u, problem), plots.plot_history({"V": solution}), plots.plot_hierarchy(cycle)):
        assert isinstance(figure, Figure)
        plots.save(figure, tmp_path / "figure.png")
    assert isinstance(unigrid.plots, type(plots))
