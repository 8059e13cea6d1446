"""Pictures: solutions, histories of residuals, hierarchies; training runs, confusion matrices, features and kernels.

Every `plot_` function returns a `matplotlib.figure.Figure` that belongs to no window and no global state, so that it works
without a display and in threads; `save` writes it. A `draw_` function draws the same into given axes.
"""

from .confusion import draw_confusion, most_confused, plot_confusion
from .features import draw_channels, plot_levels
from .hierarchy import MOST_LEVELS, draw_hierarchy, plot_hierarchy
from .history import draw_history, plot_history, relative_residuals
from .kernels import draw_kernels, plot_kernels
from .solutions import draw_image, plot_solution
from .style import COLORS, DIVERGING, DOWN, MARKERS, SEQUENTIAL, STYLES, UP, save
from .symbols import draw_symbol, plot_smoothing, plot_symbols
from .training import draw_accuracy, draw_learning_rate, draw_loss, plot_training

__all__ = [
    "COLORS", "DIVERGING", "DOWN", "MARKERS", "MOST_LEVELS", "SEQUENTIAL", "STYLES", "UP", "draw_accuracy", "draw_channels",
    "draw_confusion", "draw_hierarchy", "draw_history", "draw_image", "draw_kernels", "draw_learning_rate", "draw_loss",
    "draw_symbol", "most_confused", "plot_confusion", "plot_hierarchy", "plot_history", "plot_kernels",
    "plot_levels", "plot_smoothing", "plot_solution", "plot_symbols", "plot_training", "relative_residuals", "save",
]  # fmt: skip
