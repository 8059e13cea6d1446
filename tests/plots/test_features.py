"""The picture of the levels holds what the model holds there, and the model is left as it was."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from unigrid import plots

torch = pytest.importorskip("torch")
conv = pytest.importorskip("unigrid.conv")


@pytest.fixture
def model():
    torch.manual_seed(0)
    return conv.MgNet(features=(6, 8), data=(5, 7), steps=(2, 1)).eval()


@pytest.fixture
def image():
    return torch.randn(3, 16, 16, generator=torch.Generator().manual_seed(1))


def panels_of(figure):
    """Return the picture, the panels data, features, residual of each level, and the color bar."""
    picture, *panels, bar = figure.axes
    return picture, [panels[at : at + 3] for at in range(0, len(panels), 3)], bar


def shown(panel):
    return np.array([image.get_array() for image in panel.images])


def strongest(values, count):
    order = sorted(range(len(values)), key=lambda channel: -np.linalg.norm(values[channel]))
    return order[:count]


def test_every_level_shows_its_strongest_channels(model, image):
    _, levels, _ = panels_of(plots.plot_levels(model, image, channels=3))
    with torch.no_grad():
        _, states = model.forward_intermediates(image[None])
        weights = [level.operator.convolution.weight for level in model.cycle.levels]
        residuals = [
            state.data - torch.nn.functional.conv2d(state.features, weight, padding=1)
            for state, weight in zip(states, weights, strict=True)
        ]
    for number, (row, state, residual) in enumerate(zip(levels, states, residuals, strict=True)):
        f, u, r = (values[0].numpy() for values in (state.data, state.features, residual))
        of_data, of_features = strongest(f, 3), strongest(u, 3)
        assert shown(row[0]) == pytest.approx(f[of_data])
        assert shown(row[1]) == pytest.approx(u[of_features])
        assert shown(row[2]) == pytest.approx(r[of_data], abs=1e-6)
        side = 16 // 2**number
        assert row[0].get_ylabel() == f"level {number}:  {side} × {side}"
        assert row[0].get_xlabel().startswith(f"channels {', '.join(map(str, of_data))} of {len(f)}\ncolors to ±")
        assert row[1].get_xlabel().startswith(f"channels {', '.join(map(str, of_features))} of {len(u)}\n")
        part = np.linalg.norm(r) / np.linalg.norm(f)
        assert f"= {part:.2g}" in row[2].get_xlabel()
    titles = [panel.get_title() for panel in levels[0]]
    assert titles == ["data  $f$", "features  $u$", "residual  $f - A u$"]


def test_colors_are_symmetric_and_data_and_residual_share_them(model, image):
    _, levels, bar = panels_of(plots.plot_levels(model, image))
    for row in levels:
        limits = []
        for panel in row:
            (limit,) = {drawn.get_clim() for drawn in panel.images}
            assert limit[0] == -limit[1]
            assert {drawn.get_cmap().name for drawn in panel.images} == {plots.DIVERGING}
            assert min(panel.images[0].cmap(panel.images[0].norm(0.0))[:3]) > 0.95
            limits.append(limit[1])
        assert limits[0] == limits[2]
        assert limits[0] == pytest.approx(np.quantile(np.abs([shown(row[0]), shown(row[2])]), 0.99))
        assert limits[1] == pytest.approx(np.quantile(np.abs(shown(row[1])), 0.99))
        assert row[0].get_xlabel().endswith(f"±{limits[0]:.2g}")
    assert [label.get_text() for label in bar.get_yticklabels()] == ["−", "0", "+"]
    assert bar.get_ylim() == (-1, 1)


def test_the_model_is_left_as_it_was(model, image):
    model.train()
    model.cycle.levels[0].eval()
    modes = [module.training for module in model.modules()]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    gradients_kept = []
    model.theta.register_forward_hook(lambda *_: gradients_kept.append(torch.is_grad_enabled()))
    plots.plot_levels(model, image)
    assert gradients_kept == [False]
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_model_that_fails_is_left_in_its_mode(model):
    model.train()
    with pytest.raises(ValueError, match="takes"):
        plots.plot_levels(model, torch.zeros(1, 16, 16))
    assert all(module.training for module in model.modules())


def test_the_picture_is_the_image_or_what_is_given_for_it(model, image):
    picture = panels_of(plots.plot_levels(model, image))[0]
    values = image.numpy().transpose(1, 2, 0)
    assert shown(picture)[0] == pytest.approx((values - values.min()) / (values.max() - values.min()), abs=1e-6)
    given = np.arange(16 * 16 * 3, dtype=np.uint8).reshape(16, 16, 3)
    picture = panels_of(plots.plot_levels(model, image, picture=given))[0]
    assert np.array_equal(shown(picture)[0], given)
    assert picture.get_title() == "image"


@pytest.mark.parametrize(("dtype", "limit"), [(np.uint8, 255), (np.float64, 1)])
def test_a_gray_picture_is_drawn_in_gray(dtype, limit):
    given = np.ones((8, 8), dtype=dtype)
    figure = plots.plot_levels(conv.MgNet(features=4, steps=(1,), in_channels=1), torch.zeros(1, 8, 8), picture=given)
    drawn = figure.axes[0].images[0]
    assert (drawn.get_cmap().name, drawn.get_clim()) == ("gray", (0, limit))
    assert np.array_equal(drawn.get_array(), given)


def test_one_channel_and_constant_images_draw_in_gray():
    figure = plots.plot_levels(conv.MgNet(features=4, steps=(1,), in_channels=1), torch.full((1, 1, 8, 8), 7.0))
    assert np.array_equal(figure.axes[0].images[0].get_array(), np.zeros((8, 8)))


def test_a_level_without_operator_has_a_note(texts):
    figure = plots.plot_levels(conv.MgNet(features=4, steps=(2, 1), state_transfer="zero"), torch.rand(3, 8, 8))
    _, levels, _ = panels_of(figure)
    assert [len(panel.images) for panel in levels[1]] == [4, 4, 0]
    assert texts(levels[1][2]) == ["no $A$ on this level"]
    assert texts(levels[0][2]) == []


def test_a_residual_network_shows_its_residual_once(texts):
    model = conv.ResNet(channels=(4, 6), blocks=(1, 2)).eval()
    image = torch.rand(3, 8, 8)
    _, levels, _ = panels_of(plots.plot_levels(model, image))
    with torch.no_grad():
        features = model.forward_features(image[None])[0].numpy()
    assert [texts(row[1]) for row in levels] == [["the state is\nthe residual"]] * 2
    data = shown(levels[1][0])
    assert shown(levels[1][2]).shape == data.shape
    assert all(any(np.allclose(drawn, channel, atol=1e-6) for channel in features) for drawn in shown(levels[1][2]))


def test_steps_that_narrow_the_data_show_channels_of_their_own():
    model = conv.PlainNet(steps=(1, 1), channels=(8, 2)).eval()
    image = torch.rand(3, 8, 8)
    _, levels, _ = panels_of(plots.plot_levels(model, image, channels=4))
    with torch.no_grad():
        features = model.forward_features(image[None])[0].numpy()
    order = strongest(features, 4)
    assert shown(levels[1][2]) == pytest.approx(features[order], abs=1e-6)
    assert levels[1][2].get_xlabel().startswith(f"channels {', '.join(map(str, order))} of 2\n")


def test_bfloat16_draws(model, image):
    figure = plots.plot_levels(model.to(torch.bfloat16), image)
    assert shown(figure.axes[1]).dtype == np.float64
    assert np.isfinite(shown(figure.axes[1])).all()


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(16, 16), (32, 16), (16, 80)])
@pytest.mark.parametrize("steps", [(1,), (2, 2, 1)])
def test_nothing_overlaps(shape, steps, overlaps):
    figure = plots.plot_levels(conv.MgNet(features=12, steps=steps), torch.rand(3, *shape), channels=9)
    figure.draw_without_rendering()
    panels = figure.axes[:-1]
    written = [text for panel in panels for text in (panel.title, panel.xaxis.label, panel.yaxis.label) if text.get_text()]
    boxes = [text.get_window_extent() for text in written]
    boxes += [panel.get_window_extent() for panel in panels if panel.images] + [figure.axes[-1].get_tightbbox()]
    assert len(boxes) > 10
    assert not overlaps(boxes)


def test_channels_alone():
    axes = Figure().subplots()
    values = np.array([[[1.0, -2.0]], [[5.0, 0.0]], [[0.0, 0.5]]])
    plots.draw_channels(axes, values, channels=2)
    assert np.array_equal(shown(axes), values[[1, 0]])
    assert axes.get_xlabel().startswith("channels 1, 0 of 3\n")
    left, right = (drawn.get_extent() for drawn in axes.images)
    assert left[1] < right[0]
    assert (left[1] - left[0]) / (left[2] - left[3]) == pytest.approx(2.0)  # as wide as two square pixels


@pytest.mark.parametrize("values", [np.zeros((2, 3, 3)), np.full((2, 3, 3), np.nan), 3.0 * np.eye(256)[None]])
def test_the_colors_of_any_values_have_a_width(values):
    axes = Figure().subplots()
    plots.draw_channels(axes, values)
    low, high = axes.images[0].get_clim()
    assert high == -low
    assert high == (3.0 if np.any(values > 0) else 1.0)


def test_what_cannot_be_drawn_is_refused(model):
    with pytest.raises(ValueError, match=r"one image of shape .* got shape \(2, 3, 16, 16\)"):
        plots.plot_levels(model, torch.zeros(2, 3, 16, 16))
    with pytest.raises(ValueError, match=r"got shape \(16, 16\)"):
        plots.plot_levels(model, torch.zeros(16, 16))
    with pytest.raises(ValueError, match="channels must be an integer >= 1, got 0"):
        plots.plot_levels(model, torch.zeros(3, 16, 16), channels=0)
    with pytest.raises(TypeError, match="Linear has no forward_intermediates"):
        plots.plot_levels(torch.nn.Linear(3, 3), torch.zeros(3, 16, 16))
    with pytest.raises(ValueError, match=r"an array \(channels, height, width\) can be drawn, got shape \(3, 3\)"):
        plots.draw_channels(Figure().subplots(), np.ones((3, 3)))
