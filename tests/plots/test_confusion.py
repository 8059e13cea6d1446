"""A confusion matrix shows the counts that it is given, and the shares that follow from them."""

import itertools

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from unigrid import plots

PETS = [[7, 3, 0], [1, 8, 1], [0, 5, 15]]
NAMES = ["cat", "dog", "goldfish"]


def random_matrix(classes, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 5, (classes, classes)) + np.diag(rng.integers(20, 40, classes))


def labels(axis):
    return [label.get_text() for label in axis.get_ticklabels()]


def test_colors_are_shares_of_the_true_class_and_numbers_are_counts():
    figure = plots.plot_confusion(PETS, NAMES)
    axes, bar = figure.axes
    image = axes.images[0]
    assert np.asarray(image.get_array()) == pytest.approx(np.array([[0.7, 0.3, 0], [0.1, 0.8, 0.1], [0, 0.25, 0.75]]))
    assert image.get_clim() == (0, 1)
    written = {text.get_position(): text.get_text() for text in axes.texts}
    assert written == {(j, i): str(PETS[i][j]) for i in range(3) for j in range(3) if PETS[i][j]}
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted class", "true class")
    assert labels(axes.xaxis) == labels(axes.yaxis) == NAMES
    assert axes.get_title() == "accuracy 75.0 % of 40 images"
    figure.draw_without_rendering()
    assert bar.get_ylabel() == "share of the true class (%)"
    assert labels(bar.yaxis)[-1] == "100"


def test_classes_without_names_go_by_their_number():
    axes = plots.plot_confusion(PETS).axes[0]
    assert labels(axes.xaxis) == labels(axes.yaxis) == ["0", "1", "2"]


def test_more_is_darker_and_nothing_is_nearly_white():
    image = plots.plot_confusion(PETS).axes[0].images[0]
    shades = [sum(image.cmap(image.norm(share))[:3]) / 3 for share in np.linspace(0, 1, 21)]
    assert shades[0] > 0.95
    assert np.all(np.diff(shades) < 0)
    assert shades[0] - shades[1] > 0.08  # 5 per cent are already seen


def test_numbers_can_be_read_on_their_color():
    for share in range(0, 101, 4):
        axes = Figure().subplots()
        image = plots.draw_confusion(axes, [[share, 100 - share], [0, 1]])
        for text in axes.texts:
            column, row = text.get_position()
            background = luminance(image.cmap(image.norm(image.get_array()[row, column]))[:3])
            dark, bright = sorted([background, luminance(to_rgb(text.get_color()))])
            assert (bright + 0.05) / (dark + 0.05) > 3.5, share


def luminance(color):
    """Relative luminance of an sRGB color, as the contrast ratio of WCAG 2 takes it."""
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in color]
    return np.dot([0.2126, 0.7152, 0.0722], linear)


def test_a_class_without_images_is_gray_and_confuses_nothing():
    matrix = [[0, 0], [1, 3]]
    axes = plots.plot_confusion(matrix).axes[0]
    values = np.ma.filled(axes.images[0].get_array(), np.nan)
    assert np.isnan(values[0]).all()
    assert values[1] == pytest.approx([0.25, 0.75])
    assert to_rgb(axes.get_facecolor()) == (0.9, 0.9, 0.9)
    assert plots.most_confused(matrix) == [(1, 0, 0.25)]


def test_twelve_classes_have_numbers_and_thirteen_a_list_of_the_worst_pairs(texts):
    assert len(plots.plot_confusion(random_matrix(12)).axes[0].texts) > 100
    matrix, names = random_matrix(13), [f"class {number}" for number in range(13)]
    axes, beside, _ = plots.plot_confusion(matrix, names).axes
    assert texts(axes) == []
    assert labels(axes.xaxis) == names
    worst = plots.most_confused(matrix)
    head, *rest = texts(beside)
    assert head == "most often taken for another\n(share of the true class)"
    assert rest[::2] == [f"{100 * share:.0f} %" for _, _, share in worst]
    assert rest[1::2] == [f"class {true} → class {predicted}" for true, predicted, _ in worst]


def test_a_hundred_classes_are_numbered_and_the_worst_pairs_named(texts, overlaps):
    matrix, names = random_matrix(100), [f"a class with a long name {number}" for number in range(100)]
    matrix[52, 59] = 400
    figure = plots.plot_confusion(matrix, names)
    axes, beside, bar = figure.axes
    figure.draw_without_rendering()
    assert labels(axes.xaxis)[:3] in (["0", "10", "20"], ["−10", "0", "10"])
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("number of the predicted class", "number of the true class")
    assert texts(beside)[2] == "a class with a long name 52 (52) → a class with a long name 59 (59)"
    boxes = [text.get_window_extent() for text in [*beside.texts, bar.yaxis.label]]
    assert not overlaps(boxes)
    assert not any(box.overlaps(axes.get_window_extent()) for box in boxes)


def test_a_perfect_matrix_has_no_worst_pairs(texts):
    figure = plots.plot_confusion(np.diag([3] * 20))
    assert figure.axes[0].get_title() == "accuracy 100.0 % of 60 images"
    assert texts(figure.axes[1]) == ["no image was taken for another"]


def test_most_confused_is_sorted_by_share_not_by_count():
    matrix = [[900, 100, 0], [0, 6, 4], [2, 0, 8]]
    assert plots.most_confused(matrix) == [(1, 2, 0.4), (2, 0, 0.2), (0, 1, 0.1)]
    assert plots.most_confused(matrix, count=1) == [(1, 2, 0.4)]


@pytest.mark.slow
def test_names_of_twenty_classes_do_not_overlap():
    names = [f"aquarium fish {number}" for number in range(20)]
    figure = plots.plot_confusion(random_matrix(20), names)
    figure.draw_without_rendering()
    heights = [label.get_window_extent() for label in figure.axes[0].get_yticklabels()]
    assert all(below.y1 <= above.y0 + 1 for above, below in itertools.pairwise(heights))


def test_counts_given_as_floats_are_drawn_as_counts(texts):
    assert texts(plots.plot_confusion(np.array(PETS, dtype=float)).axes[0])[0] == "7"


@pytest.mark.parametrize(
    ("matrix", "classes", "message"),
    [
        (np.ones((2, 3)), None, r"a confusion matrix has shape \(classes, classes\), got \(2, 3\)"),
        (np.ones((0, 0)), None, r"got \(0, 0\)"),
        ([[0.5, 0.5], [0, 1]], None, "holds counts, whole numbers >= 0; give the counts"),
        ([[1, -1], [0, 1]], None, "holds counts"),
        ([[1, np.nan], [0, 1]], None, "holds counts"),
        ([["1", "2"], ["0", "1"]], None, "holds counts"),
        (np.zeros((2, 2)), None, "counts no image"),
        (PETS, ["cat", "dog"], "the matrix has 3 classes, but there are 2 names"),
    ],
)
def test_what_is_no_confusion_matrix_is_refused(matrix, classes, message):
    with pytest.raises(ValueError, match=message):
        plots.plot_confusion(matrix, classes)
