"""A history holds the residuals that it is given, relative to the first, and the rate."""

import numpy as np
import pytest

from unigrid import plots


def test_history_is_relative_and_gives_the_rate(legend_of, run_of):
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


def test_history_fits_the_end_and_leaves_the_nested_start_out(run_of):
    _, rate = plots.plot_history({"F": run_of(1.0, 1e-3, 1e-4, 1e-6, 1e-8, nested=True)}).axes[0].lines
    assert list(rate.get_xdata()) == [1, 2, 3, 4]
    assert rate.get_ydata() == pytest.approx([1e-2, 1e-4, 1e-6, 1e-8])


def test_histories_without_a_rate_draw(legend_of, run_of):
    runs = {"exact": run_of(1.0, 0.0), "zero": run_of(0.0), "start": run_of(1.0)}
    figure = plots.plot_history(runs)
    figure.draw_without_rendering()
    assert legend_of(figure.axes[0])[1:] == ["zero", "start"]


def test_many_histories_differ_in_color_or_marker_and_have_the_legend_outside(overlaps, run_of):
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


def test_twenty_plain_labels_have_twenty_looks(run_of):
    axes = plots.plot_history({str(number): run_of(1.0, 0.5) for number in range(20)}).axes[0]
    assert len({(line.get_color(), line.get_marker(), line.get_linestyle()) for line in axes.lines}) == 20
