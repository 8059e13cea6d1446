"""Pictures of symbols show the values of the analysis, mark the low frequencies, and name the kind of filter."""

import numpy as np
import pytest

import unigrid
from unigrid import plots
from unigrid.analysis import FourierAnalysis, network_symbols
from unigrid.plots import symbols

PROBLEM = unigrid.Poisson((31, 31))


def analyses(*smoothers, problem=PROBLEM):
    unsmoothed = {"pre": 0, "post": 0}
    return [FourierAnalysis(problem, **({"smoother": smoother} if smoother else unsmoothed)) for smoother in smoothers]


def values_of(axes):
    return np.asarray(axes.images[0].get_array())


def test_a_panel_shows_what_a_step_leaves_of_every_wave():
    (axes, bar) = symbols.plot_smoothing(*analyses(unigrid.Jacobi(0.8))).axes
    theta = np.linspace(-np.pi, np.pi, symbols.RESOLUTION + 1)
    middle = (theta[:-1] + theta[1:]) / 2
    upward, across = np.cos(middle)[:, None], np.cos(middle)[None, :]
    assert values_of(axes) == pytest.approx(np.abs(1 - 0.4 * (2 - upward - across)), abs=1e-12)
    assert axes.images[0].get_extent() == pytest.approx([-np.pi, np.pi, -np.pi, np.pi])
    assert axes.images[0].get_clim() == (0.0, 1.0)
    assert (axes.get_title(), axes.get_xlabel()) == ("Jacobi(0.8)", "μ = 0.600")
    assert bar.get_ylabel() == "|S(θ)|, amplification per step"


def test_axis_0_is_drawn_to_the_right_and_the_box_follows_the_coarsening():
    problem = unigrid.Poisson((31, 31), spacing=(1.0, 4.0))
    axes = symbols.plot_smoothing(*analyses(unigrid.Jacobi(0.5), problem=problem)).axes[0]
    values = values_of(axes)
    middle = symbols.RESOLUTION // 2
    assert values[middle, -1] < 0.2 < 0.9 < values[-1, middle]  # axis 0, of the small spacing, is smoothed
    (box,) = axes.patches
    assert (box.get_x(), box.get_width()) == pytest.approx((-np.pi / 2, np.pi))
    assert (box.get_y(), box.get_height()) == pytest.approx((-np.pi, 2 * np.pi))
    assert [label.get_text() for label in axes.get_xticklabels()] == ["−π", "θ₀", "π"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["−π", "θ₁", "π"]


def test_names_are_short_and_may_be_given():
    many = analyses(unigrid.RedBlack(1.1, first="black"), unigrid.GaussSeidel(1.0, backward=True), unigrid.Chebyshev(3), None)
    found = [axes.get_title() for axes in symbols.plot_smoothing(*many).axes[:4]]
    assert found == ["RedBlack(1.1, first='black')", "GaussSeidel(1.0, backward=True)", "Chebyshev(3)", "None"]
    assert symbols.plot_smoothing(*many[:1], labels=["mine"]).axes[0].get_title() == "mine"


def test_a_smoother_that_amplifies_widens_the_scale():
    figure = symbols.plot_smoothing(*analyses(unigrid.Jacobi(1.5), unigrid.Jacobi(0.8)))
    assert {axes.images[0].get_clim()[1] for axes in figure.axes[:2]} == {values_of(figure.axes[0]).max()}
    assert values_of(figure.axes[0]).max() == pytest.approx(2.0, abs=1e-2)


def test_in_one_dimension_lines_are_drawn(legend_of):
    problem = unigrid.Poisson((31,))
    figure = symbols.plot_smoothing(*analyses(unigrid.Jacobi(2 / 3), unigrid.RedBlack(1.0), problem=problem), labels=["a", "b"])
    (axes,) = figure.axes
    theta, values = axes.lines[0].get_data()
    assert values == pytest.approx(np.abs(1 - 2 / 3 * (1 - np.cos(theta))), abs=1e-12)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a, μ = 0.333", "b, μ = 0.125"]


@pytest.mark.slow
def test_nothing_overlaps(overlaps):
    pictures = [symbols.plot_smoothing(*analyses(*[unigrid.Jacobi(0.8), unigrid.RedBlack(1.0)] * 3))]
    if pytest.importorskip("torch"):
        pictures.append(symbols.plot_symbols(unigrid.MgNet(features=4)))
    for figure in pictures:
        figure.draw_without_rendering()
        panels = figure.axes[:-1]
        boxes = [axes.get_window_extent() for axes in panels] + [figure.axes[-1].get_tightbbox()]
        boxes += [text.get_window_extent() for axes in panels for text in (axes.title, axes.xaxis.label)]
        boxes += [label.get_window_extent() for axes in panels for label in axes.get_yticklabels()]
        assert not overlaps(boxes)
        assert figure.get_tightbbox().x1 <= figure.get_size_inches()[0]


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(ValueError, match="got none"):
        symbols.plot_smoothing()
    with pytest.raises(ValueError, match=r"got analyses of \[3\] axes"):
        symbols.plot_smoothing(*analyses(unigrid.Jacobi(), problem=unigrid.Poisson((7, 7, 7))))
    with pytest.raises(ValueError, match=r"got analyses of \[1, 2\] axes"):
        symbols.plot_smoothing(*analyses(None), *analyses(None, problem=unigrid.Poisson((7,))))
    with pytest.raises(ValueError, match="1 analyses need as many labels, got 2"):
        symbols.plot_smoothing(*analyses(None), labels=["a", "b"])


class TestNetworks:
    """The A^l stand above the B^l, a column a level."""

    @pytest.fixture(autouse=True)
    def needs_torch(self):
        self.torch = pytest.importorskip("torch")

    def with_kernels(self, model, **kernels):
        """Put one 3x3 kernel into every pair of channels of these slots."""
        with self.torch.no_grad():
            for name, kernel in kernels.items():
                slot, at = name.split("_")
                level = model.cycle.levels[int(at)]
                part = level.operator.convolution if slot == "A" else level.smoother.steps[0].convolution
                part.weight.copy_(self.torch.tensor(kernel, dtype=self.torch.float32).expand_as(part.weight))
        return model

    def test_rows_are_slots_and_columns_levels(self):
        blur, laplace = np.outer([1, 2, 1], [1, 2, 1]) / 16, [[0, -1, 0], [-1, 4, -1], [0, -1, 0]]
        model = self.with_kernels(unigrid.MgNet(features=2, steps=(1, 1)), A_0=laplace, B_0=blur, A_1=blur, B_1=laplace)
        figure = symbols.plot_symbols(model)
        titles = ["$A$, level 0: high-pass", "$B$, level 0: low-pass", "$A$, level 1: low-pass", "$B$, level 1: high-pass"]
        panels = dict(zip(titles, figure.axes, strict=False))
        assert [axes.get_title() for axes in figure.axes[:-1]] == titles
        places = {title: axes.get_position() for title, axes in panels.items()}
        assert places[titles[0]].y0 == places[titles[2]].y0 > places[titles[1]].y0 == places[titles[3]].y0
        assert places[titles[0]].x0 == places[titles[1]].x0 < places[titles[2]].x0
        blurred = network_symbols(model)[1]
        assert panels[titles[1]].get_xlabel() == f"{blurred.low_share:.1%} of the energy low\nlargest 1"

    def test_images_have_axis_0_upward(self):
        derivative = np.array([[0, 0, 0], [0, 0, 0], [0, 1, 0]]) - np.array([[0, 1, 0], [0, 0, 0], [0, 0, 0]])
        model = self.with_kernels(unigrid.MgNet(features=2, steps=(1,)), B_0=derivative)
        axes = symbols.plot_symbols(model).axes[0]
        theta = (np.arange(symbols.RESOLUTION) + 0.5) * 2 * np.pi / symbols.RESOLUTION - np.pi
        expected = np.abs(np.sin(theta))[:, None] * np.ones(symbols.RESOLUTION)
        assert values_of(axes) == pytest.approx(expected / expected.max(), abs=1e-6)
        assert [label.get_text() for label in axes.get_yticklabels()] == ["−π", "θ₀", "π"]

    def test_what_levels_share_is_drawn_once(self):
        model = unigrid.MgNet(features=4, steps=(1, 1, 1), operator_sharing="global", norms="none")
        titles = [axes.get_title() for axes in symbols.plot_symbols(model).axes[:-1]]
        assert titles[0] == "$A$, levels 0, 1, 2: mixed"
        assert sorted(title[:12] for title in titles[1:]) == ["$B$, level 0", "$B$, level 1", "$B$, level 2"]

    def test_it_is_written_as_any_other_picture(self, tmp_path):
        plots.save(symbols.plot_symbols(unigrid.MgNet(features=4)), tmp_path / "symbols.png")
        assert (tmp_path / "symbols.png").stat().st_size > 10_000
