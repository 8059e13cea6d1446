"""Grids on the command line and in tables: 1023^2, 100x357."""

from __future__ import annotations

import argparse

Shape = tuple[int, ...]


def parse_shapes(text: str) -> list[Shape]:
    """Return the shapes of a list such as "63^2,100x357,31^3". Raises argparse.ArgumentTypeError for anything else."""
    return [_parse_shape(part) for part in text.split(",")]


def _parse_shape(text: str) -> Shape:
    n, power, ndim = text.partition("^")
    try:
        shape = (int(n),) * int(ndim) if power else tuple(map(int, text.split("x")))
    except ValueError:
        shape = ()
    if not 1 <= len(shape) <= 3 or min(shape) < 1:
        raise argparse.ArgumentTypeError(f"a grid is written as 1023^2 or 100x357, got {text!r}")
    return shape


def parse_threads(text: str) -> list[int]:
    """Return the numbers of a list such as "1,2". Raises argparse.ArgumentTypeError for anything else."""
    try:
        counts = [int(part) for part in text.split(",")]
    except ValueError:
        counts = [0]
    if min(counts) < 1:
        raise argparse.ArgumentTypeError(f"numbers of threads are written as 1,2, got {text!r}")
    return counts


def title_of(shape: Shape) -> str:
    """Return 1023^2 for a square or cube, 100 x 357 for other boxes."""
    return f"{shape[0]}^{len(shape)}" if len(set(shape)) == 1 else " x ".join(map(str, shape))
