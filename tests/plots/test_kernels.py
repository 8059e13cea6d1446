"""The picture of the kernels holds the largest weights of every slot, and shared ones once."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from unigrid import plots

torch = pytest.importorskip("torch")
conv = pytest.importorskip("unigrid.conv")


def titles(figure):
    return [axes.get_title() for axes in figure.axes[:-1]]


def panel(figure, title):
    (found,) = [axes for axes in figure.axes if axes.get_title() == title]
    return found


def shown(axes):
    return np.array([image.get_array() for image in axes.images])


def sizes(norms):
    """Return (out, 1, 3, 3) kernels with these norms, different in every place."""
    kernels = np.random.default_rng(0).standard_normal((len(norms), 1, 3, 3))
    return kernels * (np.array(norms) / np.linalg.norm(kernels, axis=(2, 3))[:, 0])[:, None, None, None]


def test_each_slot_shows_its_largest_kernels():
    model = conv.MgNet(features=3, steps=(2, 1))
    kernels = {"operator": sizes(range(1, 10)), "restriction": sizes(range(9, 0, -1))}
    with torch.no_grad():
        for slot, values in kernels.items():
            weight = getattr(model.cycle.levels[0], slot).convolution.weight
            weight.copy_(torch.tensor(values).reshape(weight.shape))
    figure = plots.plot_kernels(model, count=4)
    assert shown(panel(figure, "$A$, level 0")) == pytest.approx(kernels["operator"][[8, 7, 6, 5], 0], abs=1e-6)
    assert shown(panel(figure, "$R$, level 0")) == pytest.approx(kernels["restriction"][[0, 1, 2, 3], 0], abs=1e-6)
    limit = np.abs(kernels["operator"][5:]).max()
    caption = panel(figure, "$A$, level 0").get_xlabel()
    assert caption == f"the 4 largest of 9\ncolors to ±{limit:.2g}"


def test_rows_are_levels_and_columns_slots():
    figure = plots.plot_kernels(conv.MgNet(features=4, steps=(1, 1, 1)))
    assert titles(figure) == [
        "$A$, level 0", "$B$, level 0", "$R$, level 0", r"$\Pi$, level 0",
        "$A$, level 1", "$B$, level 1", "$R$, level 1", r"$\Pi$, level 1",
        "$A$, level 2", "$B$, level 2",
    ]  # fmt: skip
    places = {axes.get_title(): axes.get_position() for axes in figure.axes}
    x = {title: round(place.x0, 9) for title, place in places.items()}
    y = {title: round(place.y0, 9) for title, place in places.items()}
    assert x["$A$, level 0"] == x["$A$, level 2"] < x["$B$, level 1"] < x["$R$, level 0"] < x[r"$\Pi$, level 1"]
    assert y["$A$, level 0"] == y[r"$\Pi$, level 0"] > y["$A$, level 1"] > y["$A$, level 2"]


def test_colors_are_symmetric_and_zero_is_white():
    figure = plots.plot_kernels(conv.MgNet(features=4, steps=(2, 1)))
    for axes in figure.axes[:-1]:
        (limits,) = {image.get_clim() for image in axes.images}
        largest = np.abs(shown(axes)).max()
        assert limits == (-largest, largest)
        image = axes.images[0]
        assert image.get_cmap().name == plots.DIVERGING
        assert min(image.cmap(image.norm(0.0))[:3]) > 0.95
    assert [label.get_text() for label in figure.axes[-1].get_yticklabels()] == ["−", "0", "+"]


def test_the_kernels_of_all_steps_are_counted_together():
    shared = plots.plot_kernels(conv.MgNet(features=4, steps=(3,)))
    stepwise = plots.plot_kernels(conv.MgNet(features=4, steps=(3,), extractor_sharing="step"))
    assert panel(shared, "$B$, level 0").get_xlabel().startswith("all 16\n")
    assert panel(stepwise, "$B$, level 0").get_xlabel().startswith("the 16 largest of 48\n")


def test_what_all_levels_share_is_drawn_once():
    shared = dict.fromkeys(("operator_sharing", "extractor_sharing", "restriction_sharing", "state_transfer_sharing"), "global")
    model = conv.MgNet(features=4, steps=(1, 1, 1), **shared)
    figure = plots.plot_kernels(model)
    assert titles(figure) == [f"{slot}, shared by all levels" for slot in ("$A$", "$B$", "$R$", r"$\Pi$")]
    (weight,) = {id(w): w for w in model.cycle.levels[0].operator.parameters()}.values()
    kernels = weight.detach().numpy().reshape(-1, 3, 3)
    assert len(shown(figure.axes[0])) == 16
    assert np.sort(shown(figure.axes[0]).sum(axis=(1, 2))) == pytest.approx(np.sort(kernels.sum(axis=(1, 2))), abs=1e-6)
    assert figure.get_size_inches()[1] < 3  # no empty rows


def test_kernels_that_some_levels_share_name_these_levels():
    model = conv.MgNet(features=4, steps=(1, 1, 1, 1))
    borrowed = model.cycle.levels[1].operator.convolution
    conv.slots.hold(model.cycle.levels[3].operator, "convolution", conv.Borrowed(borrowed))
    del model.cycle.levels[3].operator._modules["convolution"]
    drawn = titles(plots.plot_kernels(model))
    assert "$A$, shared by levels 1, 3" in drawn
    assert "$A$, level 3" not in drawn


def test_a_single_kernel_is_one():
    figure = plots.plot_kernels(conv.MgNet(features=4, steps=(1, 1), state_transfer="channelwise"))
    axes = panel(figure, r"$\Pi$, level 0")
    assert axes.get_xlabel().startswith("one kernel\n")
    assert shown(axes).shape == (1, 3, 3)


def test_of_a_bottleneck_the_large_kernels_are_shown():
    figure = plots.plot_kernels(conv.MgNet(features=8, steps=(1,), extractor="bottleneck"))
    axes = panel(figure, "$B$, level 0")
    assert shown(axes).shape == (4, 3, 3)
    assert axes.get_xlabel().startswith("all 4\n")


def test_the_way_up_is_drawn_too():
    drawn = titles(plots.plot_kernels(conv.MgNet(features=4, steps=(1, 1), cycle="V")))
    assert "$P$, level 0" in drawn
    assert "$B$ of the way up, level 0" in drawn


def test_the_other_networks_draw_the_slots_that_they_fill():
    residual = titles(plots.plot_kernels(conv.ResNet(channels=(4, 4), blocks=(1, 2))))
    assert residual == [f"${slot}$, level {level}" for level, slot in ((0, "A"), (0, "B"), (0, "R"), (1, "A"), (1, "B"))]
    plain = plots.plot_kernels(conv.PlainNet(steps=(1, 1), channels=(2, 4), kernel=5))
    assert titles(plain) == ["$B$, level 1"]
    assert shown(plain.axes[0]).shape == (8, 5, 5)


@pytest.mark.slow
def test_nothing_overlaps(overlaps):
    figure = plots.plot_kernels(conv.MgNet(features=8, steps=(1, 1, 1), cycle="V"))
    figure.draw_without_rendering()
    panels = figure.axes[:-1]
    boxes = [text.get_window_extent() for axes in panels for text in (axes.title, axes.xaxis.label)]
    boxes += [axes.get_window_extent() for axes in panels] + [figure.axes[-1].get_tightbbox()]
    assert not overlaps(boxes)


def test_kernels_alone():
    axes = Figure().subplots()
    values = np.array([[[[1.0, 0.0], [0.0, 0.0]]], [[[0.0, 3.0], [-4.0, 0.0]]]])
    plots.draw_kernels(axes, values, count=1)
    assert np.array_equal(shown(axes), values[1])
    assert axes.images[0].get_clim() == (-4.0, 4.0)


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(ValueError, match="count must be an integer >= 1, got 0"):
        plots.plot_kernels(conv.MgNet(features=4, steps=(1,)), count=0)
    with pytest.raises(TypeError, match="Linear has no cycle with levels"):
        plots.plot_kernels(torch.nn.Linear(3, 3))
    with pytest.raises(ValueError, match="no slot of this PlainNet has convolution kernels"):
        plots.plot_kernels(conv.PlainNet(steps=(1,), channels=2))
    with pytest.raises(ValueError, match=r"can be drawn, got shape \(3, 3\)"):
        plots.draw_kernels(Figure().subplots(), np.ones((3, 3)))
