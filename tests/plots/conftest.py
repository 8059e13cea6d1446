"""Fixtures that read texts, legends and overlaps off a figure."""

import pytest

from unigrid import Reason, Solution


@pytest.fixture
def texts():
    """texts(axes) -> the texts written into the axes."""
    return lambda axes: [text.get_text() for text in axes.texts]


@pytest.fixture
def legend_of():
    """legend_of(axes or figure) -> the texts of its legend."""

    def read(axes_or_figure):
        legend = axes_or_figure.get_legend() if hasattr(axes_or_figure, "get_legend") else axes_or_figure.legends[0]
        return [text.get_text() for text in legend.get_texts()]

    return read


@pytest.fixture
def overlaps():
    """overlaps(boxes) -> the pairs of them that overlap."""
    return lambda boxes: [(a, b) for number, a in enumerate(boxes) for b in boxes[:number] if a.overlaps(b)]


@pytest.fixture
def run_of():
    """run_of(8.0, 2.0, nested=False) -> a Solution with these residuals."""

    def make(*residuals, nested=False):
        return Solution(None, True, Reason.CONVERGED, len(residuals) - 1, residuals, nested_start=nested)

    return make
