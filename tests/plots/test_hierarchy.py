"""The hierarchy shows every grid, and the path of the cycle through them."""

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.patches import FancyArrowPatch, Polygon
from tiers import pack

from unigrid import GalerkinCycle, Poisson, StencilCycle, plots

pytestmark = pytest.mark.usefixtures("deep")


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
def test_the_path_of_each_cycle(kind, path, texts):
    cycle = StencilCycle(Poisson((31, 31)), cycle=kind)
    assert len(cycle.levels) == 4
    axes = plots.plot_hierarchy(cycle).axes[0]
    assert drawn_path(axes) == path
    arrows = [patch for patch in axes.patches if isinstance(patch, FancyArrowPatch)]
    colors = [to_hex(arrow.get_edgecolor()).upper() for arrow in arrows]
    steps = np.diff(path)
    assert colors == [plots.DOWN if step > 0 else plots.UP for step in steps]
    assert plots.DOWN != plots.UP
    assert [line.get_marker() for line in axes.lines] == ["s" if level == 3 else "o" for level in path]
    assert f"one {kind}(3,2)-cycle" in texts(axes)


def test_the_table_of_grids(texts):
    axes = plots.plot_hierarchy(StencilCycle(Poisson((63, 31)))).axes[0]
    shown = texts(axes)
    for text in ("63 × 31", "31 × 15", "15 × 7", "1,953", "465", "105", "level", "grid", "unknowns"):
        assert text in shown


def test_a_cycle_without_smoothing_on_the_way_up_has_open_dots_there(legend_of):
    axes = plots.plot_hierarchy(StencilCycle(Poisson((31, 31)), post=0)).axes[0]
    filled = [to_hex(line.get_markerfacecolor()) == "#000000" for line in axes.lines]
    assert filled == [True, True, True, True, False, False, False]
    assert "no smoothing" in legend_of(axes)


@pytest.mark.parametrize(("kind", "shape"), [("W", (1023, 1023)), ("F", (1023, 1023)), ("V", (2**17,))])
def test_long_paths_are_shortened_with_a_note(kind, shape, texts):
    cycle = StencilCycle(Poisson(shape), cycle=kind)
    most = plots.MOST_LEVELS[kind]
    assert len(cycle.levels) > most
    axes = plots.plot_hierarchy(cycle).axes[0]
    sweeps = "2,2" if len(shape) == 1 else "3,2"
    assert f"one {kind}({sweeps})-cycle, drawn with {most} of {len(cycle.levels)} levels" in texts(axes)
    assert max(drawn_path(axes)) == most - 1
    assert f"{cycle.levels[-1].problem.grid.size:,}" in texts(axes)  # the coarsest is always there


@pack
@pytest.mark.parametrize("shape", [(3,), (500,), (2, 2), (300, 500), (40, 50, 60), (255, 255, 255)])
@pytest.mark.parametrize("kind", ["V", "W", "F"])
def test_nothing_in_the_hierarchy_overlaps(shape, kind, overlaps):
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


def test_another_cycle_is_refused():
    with pytest.raises(TypeError, match=r"of a unigrid\.StencilCycle, got GalerkinCycle"):
        plots.plot_hierarchy(GalerkinCycle(Poisson((31, 31))))
