"""A grid array is drawn with its values at the right places and with labels."""

import numpy as np
import pytest

from unigrid import Poisson, plots


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


@pytest.mark.slow
@pytest.mark.parametrize(("shape", "lengths"), [((40, 40), (1, 30)), ((8, 8, 8), (1, 1, 50)), ((8, 8, 8), (9, 1, 1))])
def test_extreme_boxes_stay_readable(shape, lengths, overlaps):
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


@pytest.mark.parametrize("centering", ["vertex", "cell"])
def test_a_stretched_grid_is_drawn_to_scale(centering):
    widths = np.array([1.0, 2.0, 4.0, 8.0])
    sides = ["periodic" if centering == "vertex" else "neumann", "neumann"]
    problem = Poisson((4, 3), spacing=[widths, 0.5], boundary=sides, centering=centering)
    figure = plots.plot_solution(np.arange(12.0).reshape(4, 3), problem)
    mesh = figure.axes[0].collections[0]
    edges = mesh.get_coordinates()[0, :, 0]
    wanted = [0, 1, 3, 7, 15] if centering == "cell" else [-4.0, 0.5, 2.0, 5.0, 11.0]
    assert np.allclose(edges, wanted)
    assert np.array_equal(mesh.get_array().ravel(), np.arange(12.0).reshape(4, 3).T.ravel())
    plots.plot_solution(np.zeros((4, 3, 2)), Poisson((4, 3, 2), spacing=[widths, 1, 1], centering="cell"))
    plots.plot_solution(np.zeros(4), Poisson(4, spacing=[widths], centering="cell"))
