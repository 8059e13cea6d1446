"""Curves of training show the numbers of the log, distinguish runs and splits, and mark failures."""

import math

import numpy as np
import pytest
from matplotlib.figure import Figure

from unigrid import plots

LOSSES = [2.1, 1.6, 1.3, 1.2]
TRAINING = [0.25, 0.40, 0.52, 0.58]
VALIDATION = [0.30, 0.41, 0.47, 0.5125]
RATES = [0.1, 0.08, 0.04, 0.0]
UNSEEN = [2.0, 1.7, 1.5, 1.6]


def history(**changes):
    """Return rows of four epochs; a keyword replaces a column, None leaves it out."""
    columns = {"train_loss": LOSSES, "train_accuracy": TRAINING, "validation_accuracy": VALIDATION, "learning_rate": RATES}
    columns = {key: values for key, values in {**columns, **changes}.items() if values is not None}
    return [{"epoch": 1 + number, **{key: values[number] for key, values in columns.items()}} for number in range(4)]


def curves(axes):
    return [line for line in axes.lines if len(line.get_xdata()) > 1 and line.get_linestyle() != ":"]


def stars(axes):
    return [(line.get_xdata()[0], line.get_ydata()[0]) for line in axes.lines if line.get_marker() == "*"]


def test_the_panels_hold_the_columns_over_the_epochs():
    loss, accuracy, rate = plots.plot_training(history()).axes
    expected = [(loss, [LOSSES]), (accuracy, 100 * np.array([TRAINING, VALIDATION])), (rate, [RATES])]
    for panel, columns in expected:
        assert [list(line.get_xdata()) for line in curves(panel)] == [[1, 2, 3, 4]] * len(columns)
        for line, column in zip(curves(panel), columns, strict=True):
            assert line.get_ydata() == pytest.approx(column)
    assert [panel.get_ylabel() for panel in (loss, accuracy, rate)] == ["training loss", "accuracy (%)", "learning rate"]
    assert [panel.get_xlabel() for panel in (loss, accuracy, rate)] == ["", "", "epoch"]
    assert loss.get_shared_x_axes().joined(loss, rate)
    assert rate.get_window_extent().height < 0.5 * loss.get_window_extent().height


def test_training_and_validation_differ_in_color_and_in_line_style(legend_of):
    accuracy = plots.plot_training(history()).axes[1]
    training, validation = curves(accuracy)
    assert (training.get_linestyle(), validation.get_linestyle()) == ("-", "--")
    assert training.get_color() != validation.get_color()
    assert {training.get_color(), validation.get_color()} <= set(plots.COLORS)
    assert legend_of(accuracy) == ["training 58.0 %", "validation 51.2 %"]
    shown = [(line.get_color(), line.get_linestyle()) for line in accuracy.get_legend().get_lines()]
    assert shown == [(line.get_color(), line.get_linestyle()) for line in (training, validation)]


def test_the_loss_on_the_validation_set_is_drawn_where_it_was_measured(legend_of):
    figure = plots.plot_training(history(validation_loss=UNSEEN))
    loss, accuracy, _ = figure.axes
    training, validation = curves(loss)
    assert training.get_ydata() == pytest.approx(LOSSES)
    assert validation.get_ydata() == pytest.approx(UNSEEN)
    looks = [(line.get_color(), line.get_linestyle()) for line in (training, validation)]
    assert looks == [(line.get_color(), line.get_linestyle()) for line in curves(accuracy)]  # one legend serves both
    assert loss.get_ylabel() == "loss"
    alone = Figure().subplots(1, 2)
    plots.draw_loss(alone[0], history(validation_loss=UNSEEN))
    plots.draw_loss(alone[1], {"a": history(validation_loss=UNSEEN)})
    assert legend_of(alone[0]) == ["training", "validation"]
    assert legend_of(alone[1]) == ["a", "training", "validation"]


def test_a_small_loss_on_the_validation_set_makes_the_scale_logarithmic_too():
    assert plots.plot_training(history(validation_loss=[2.0, 0.5, 0.1, 0.05])).axes[0].get_yscale() == "log"


def test_the_test_accuracy_is_a_star_at_the_last_epoch(legend_of):
    accuracy = plots.plot_training(history(), test_accuracy=0.493).axes[1]
    assert stars(accuracy) == [(4, pytest.approx(49.3))]
    assert legend_of(accuracy)[-1] == "test 49.3 %"
    assert not stars(plots.plot_training(history()).axes[1])


@pytest.mark.parametrize("column", [None, [None] * 4])
def test_without_validation_there_is_no_trace_of_it(column, legend_of):
    accuracy = plots.plot_training(history(validation_accuracy=column)).axes[1]
    assert len(curves(accuracy)) == 1
    assert legend_of(accuracy) == ["training 58.0 %"]


def test_without_a_learning_rate_there_is_no_panel_for_it():
    panels = plots.plot_training(history(learning_rate=None)).axes
    assert [panel.get_ylabel() for panel in panels] == ["training loss", "accuracy (%)"]
    assert panels[-1].get_xlabel() == "epoch"


def test_an_epoch_that_was_not_validated_leaves_a_gap():
    accuracy = plots.plot_training(history(validation_accuracy=[None, 0.4, None, 0.5])).axes[1]
    assert curves(accuracy)[1].get_ydata() == pytest.approx([math.nan, 40.0, math.nan, 50.0], nan_ok=True)


def test_one_epoch_is_seen():
    figure = plots.plot_training(history()[:1], test_accuracy=0.3)
    figure.draw_without_rendering()
    for panel in figure.axes:
        assert all(line.get_marker() not in ("", "None") for line in panel.lines)
        assert all(float(tick).is_integer() for tick in panel.get_xticks())
    assert [line.get_ydata()[0] for line in figure.axes[1].lines] == pytest.approx([25.0, 30.0, 30.0])


@pytest.mark.parametrize("bad", [math.nan, math.inf, "nan"])
def test_the_first_loss_that_is_not_finite_is_marked(bad, texts):
    loss = plots.plot_training(history(train_loss=[2.0, 5.0, bad, bad])).axes[0]
    assert texts(loss) == ["not finite at epoch 3"]
    (mark,) = [line for line in loss.lines if line.get_linestyle() == ":"]
    assert list(mark.get_xdata()) == [3, 3]
    assert curves(loss)[0].get_ydata() == pytest.approx([2.0, 5.0, math.nan, math.nan], nan_ok=True)


def test_a_loss_that_was_not_measured_is_no_failure(texts):
    loss = plots.plot_training(history(train_loss=[None, 2.0, 1.0, None])).axes[0]
    assert texts(loss) == []
    assert len(loss.lines) == 1


def test_runs_that_fail_together_are_marked_together(texts):
    late, early = history(train_loss=[2.0, 1.0, 1.0, math.nan]), history(train_loss=[2.0, math.nan, 1.0, 1.0])
    loss = plots.plot_training({"a": late, "b": early, "c": early, "d": history()}).axes[0]
    assert texts(loss) == ["not finite at epoch 4: a", "not finite at epoch 2: b; c"]


@pytest.mark.parametrize(
    ("losses", "scale"),
    [
        ([2.0, 1.0, 0.5, 0.21], "linear"),
        ([2.0, 1.0, 0.5, 0.2], "log"),
        ([2.0, 1e4, math.nan, math.nan], "log"),
        ([2.0, 0.1, 0.01, 0.0], "linear"),  # a logarithm cannot show the zero
        ([math.nan] * 4, "linear"),
    ],
)
def test_a_loss_over_decades_gets_a_logarithmic_scale(losses, scale):
    figure = plots.plot_training(history(train_loss=losses))
    assert figure.axes[0].get_yscale() == scale
    figure.draw_without_rendering()
    if scale == "log":
        ticks = [label.get_text() for label in figure.axes[0].get_yticklabels()]
        low, high = figure.axes[0].get_ylim()
        assert len([tick for tick in ticks if low <= float(tick) <= high]) >= 3


@pytest.mark.parametrize(("rates", "scale"), [([0.1, 0.1, 0.01, 0.01], "log"), ([0.1, 0.07, 0.02, 0.001], "linear")])
def test_a_learning_rate_in_steps_is_logarithmic_and_a_smooth_one_is_not(rates, scale):
    assert plots.plot_training(history(learning_rate=rates)).axes[2].get_yscale() == scale


def test_runs_share_nothing_but_line_styles(legend_of):
    runs = {"mgnet": history(), "resnet": history(validation_accuracy=TRAINING, train_accuracy=None)}
    figure = plots.plot_training(runs, test_accuracy={"resnet": 0.5})
    accuracy = figure.axes[1]
    looks = [(line.get_color(), line.get_linestyle()) for line in curves(accuracy)]
    first, second = plots.COLORS[:2]
    assert looks == [(first, "-"), (first, "--"), (second, "-"), (second, "--")]
    assert curves(accuracy)[3].get_ydata() == pytest.approx(100 * np.array(TRAINING))
    assert stars(accuracy) == [(4, 50.0)]
    assert legend_of(accuracy) == [
        "mgnet: validation 51.2 %", "resnet: validation 58.0 %, test 50.0 %", "training", "validation", "test",
    ]  # fmt: skip


def test_the_training_accuracy_stands_in_for_the_others(legend_of):
    accuracy = plots.plot_training({"a": history(validation_accuracy=None), "b": [{"epoch": 1}]}).axes[1]
    assert legend_of(accuracy) == ["a: training 58.0 %", "b: training not measured", "training"]


def test_several_seeds_share_their_model_s_color_and_the_legend_stands_outside(legend_of):
    runs = {(model, f"seed {seed}"): history() for model in ("mgnet", "resnet") for seed in range(3)}
    figure = plots.plot_training(runs, test_accuracy=dict.fromkeys(runs, 0.5))
    colors = [line.get_color() for line in curves(figure.axes[0])]
    assert colors == [plots.COLORS[0]] * 3 + [plots.COLORS[1]] * 3
    assert len({(line.get_color(), line.get_marker()) for line in curves(figure.axes[0])}) == 6
    assert legend_of(figure)[4] == "resnet, seed 1: validation 51.2 %, test 50.0 %"
    figure.draw_without_rendering()
    legend = figure.legends[0].get_window_extent()
    assert not any(legend.overlaps(panel.get_window_extent()) for panel in figure.axes)
    assert not any(panel.get_legend() for panel in figure.axes)


def test_the_panels_alone(legend_of):
    loss, accuracy, rate = Figure().subplots(1, 3)
    runs = {"a": history(), "b": history()}
    plots.draw_loss(loss, runs)
    plots.draw_accuracy(accuracy, history(), test_accuracy=0.5)
    plots.draw_learning_rate(rate, history())
    assert legend_of(loss) == ["a", "b", "training"]
    assert legend_of(accuracy) == ["training 58.0 %", "validation 51.2 %", "test 50.0 %"]
    assert curves(rate)[0].get_ydata() == pytest.approx(RATES)
    assert [axes.get_xlabel() for axes in (loss, accuracy, rate)] == ["epoch"] * 3


def test_a_long_history_has_few_markers():
    rows = [{"epoch": 1 + number, "train_loss": 2.0 - number / 200, "train_accuracy": number / 300} for number in range(300)]
    line = plots.plot_training(rows).axes[0].lines[0]
    assert len(line.get_xdata()) == 300
    assert 6 <= 300 / line.get_markevery() <= 20


@pytest.mark.parametrize(
    ("histories", "test_accuracy", "message"),
    [
        ([], None, "no epochs to draw"),
        ({}, None, "no run to draw"),
        ({"a": history(), "b": []}, None, "run 'b': no epochs to draw"),
        ([{"epoch": 1}, {"step": 2}], None, "row 1 has no 'epoch'; it has 'step'"),
        (history(train_accuracy=[25, 40, 52, 58]), None, "an accuracy is a part of 1, got 25.0; divide percentages by 100"),
        (history(), 49.3, "test_accuracy must be a part of 1 .*, got 49.3"),
        ({"a": history()}, 0.5, "test_accuracy must be a mapping with the labels of histories, got 0.5"),
        (history(), {"a": 0.5}, "test_accuracy must be a number"),
        ({"mgnet": history()}, {"resnet": 0.5}, "test_accuracy has 'resnet', which histories has not; it has 'mgnet'"),
    ],
)
def test_what_is_no_history_is_refused(histories, test_accuracy, message):
    with pytest.raises(ValueError, match=message):
        plots.plot_training(histories, test_accuracy=test_accuracy)
