"""Domains of many shapes, and problems on them solved directly: what the tests of masks compare with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.ndimage
import scipy.sparse
import scipy.sparse.linalg
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components

Truth = NDArray[np.bool_]


def _squared_radius(n: int) -> Any:
    x, y = np.meshgrid(*[(np.arange(n) + 0.5) / n] * 2, indexing="ij")
    return (x - 0.5) ** 2 + (y - 0.5) ** 2


def disc(n: int) -> Truth:
    return _squared_radius(n) < 0.16


def annulus(n: int) -> Truth:
    r = _squared_radius(n)
    return (r < 0.2) & (r > 0.03)


def slits(n: int) -> Truth:
    mask = np.ones((n, n), bool)
    mask[n // 4, : 3 * n // 4] = mask[n // 2, n // 4 :] = mask[3 * n // 4, : 3 * n // 4] = False
    return mask


def corridors(n: int) -> Truth:
    """A comb of corridors one pixel wide."""
    mask = np.zeros((n, n), bool)
    mask[::2] = mask[:, n // 2] = True
    return mask


def letters(n: int) -> Truth:
    """An E, an H and an O, strokes a twelfth wide."""
    rows = ["#####.#...#.#####", "#.....#...#.#...#", "#####.#####.#...#", "#.....#...#.#...#", "#####.#...#.#####"]
    drawn = np.array([[each == "#" for each in row] for row in rows])
    return drawn[np.ix_(np.arange(n) * 5 // n, np.arange(n) * 17 // n)]


def blobs(n: int) -> Truth:
    smooth = scipy.ndimage.gaussian_filter(np.random.default_rng(n).standard_normal((n, n)), max(n / 40, 1.5))
    return smooth > -0.3 * smooth.std()


def many(n: int) -> Truth:
    """Rooms without doors."""
    mask = np.ones((n, n), bool)
    mask[::7], mask[:, ::11] = False, False
    return mask


def noise(n: int) -> Truth:
    return np.random.default_rng(n).random((n, n)) < 0.8


def half(n: int) -> Truth:
    return np.random.default_rng(n).random((n, n)) < 0.5


def one(n: int) -> Truth:
    mask = np.zeros((n, n), bool)
    mask[n // 2, n // 3] = True
    return mask


def everywhere(n: int) -> Truth:
    return np.ones((n, n), bool)


SHAPES: list[Callable[[int], Truth]] = [disc, annulus, slits, corridors, letters, blobs, many, noise, half, one]


def direct(box: Any, f: Any, unknown: Truth, given: Truth, values: Any) -> tuple[Any, Any]:
    """Return u, and the component of each unknown (see below), of a problem on a domain.

    `box` is the problem without a domain. Its matrix, times the volumes, is w_ij (u_i - u_j) + s_i u_i: on the domain, w_ij is
    dropped where j is neither an unknown nor given. Components that no value holds count from 1, and f and u lose their means.
    """
    volumes = box.weights.ravel()
    whole = scipy.sparse.csr_array(scipy.sparse.diags_array(volumes) @ box.matrix())
    sums = whole @ np.ones(whole.shape[0])
    excess = np.where(np.abs(sums) > 1e-9 * np.abs(whole.diagonal()), sums, 0.0)
    couplings = scipy.sparse.diags_array(whole.diagonal()) - whole
    inside, held = np.flatnonzero(unknown), np.flatnonzero(given)
    among, to_values = couplings[inside][:, inside], couplings[inside][:, held]
    kept = np.asarray(among.sum(axis=1)).ravel()
    springs = excess[inside] + np.asarray(to_values.sum(axis=1)).ravel()
    matrix = scipy.sparse.diags_array(kept + springs) - among
    b = volumes[inside] * f[unknown] + to_values @ values.ravel()[held]
    count, labels = connected_components(among, directed=False)
    free = np.bincount(labels, springs, count) == 0.0
    sizes = np.bincount(labels, volumes[inside], count)
    b = b - volumes[inside] * np.where(free, np.bincount(labels, b, count) / sizes, 0.0)[labels]
    first = np.unique(labels, return_index=True)[1]
    pins = np.zeros(inside.size)
    pins[first[free]] = kept.max(initial=0.0) or 1.0
    u = scipy.sparse.linalg.spsolve(scipy.sparse.csc_array(matrix + scipy.sparse.diags_array(pins)), b)
    u = u - np.where(free, np.bincount(labels, volumes[inside] * u, count) / sizes, 0.0)[labels]
    result, parts = np.where(given, values, 0.0), np.zeros(unknown.shape, int)
    result[unknown], parts[unknown] = u, np.where(free[labels], labels + 1, 0)
    return result, parts
