"""Every example runs, saves its figure, and computes what an independent oracle computes."""

from __future__ import annotations

import csv
import importlib.util
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import scipy.sparse.linalg
from matplotlib import image

import unigrid

EXAMPLES = Path(__file__).parents[1] / "examples"
Checks = Callable[[ModuleType, dict[str, float]], None]


def load(name: str) -> ModuleType:
    specification = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def five_point_solve(f: np.ndarray, frame: np.ndarray, spacing: tuple[float, float]) -> np.ndarray:
    """Solve -Laplace u = f inside a frame of values point by point and directly: shares no code with unigrid."""
    rows, columns = f.shape
    matrix, b = scipy.sparse.lil_array((f.size, f.size)), f.copy()
    for i in range(rows):
        for j in range(columns):
            own = i * columns + j
            matrix[own, own] = sum(2 / h**2 for h in spacing)
            for down, right, h in ((-1, 0, spacing[0]), (1, 0, spacing[0]), (0, -1, spacing[1]), (0, 1, spacing[1])):
                if 0 <= i + down < rows and 0 <= j + right < columns:
                    matrix[own, own + down * columns + right] = -1 / h**2
                else:
                    b[i, j] += frame[i + 1 + down, j + 1 + right] / h**2
    return scipy.sparse.linalg.spsolve(matrix.tocsc(), b.ravel()).reshape(f.shape)


def check_seamless_cloning(example: ModuleType, numbers: dict[str, float]) -> None:
    assert numbers["unknowns"] == 3 * (example.HEIGHT - 2) * (example.WIDTH - 2)
    assert numbers["largest step at the rim, cloned"] < 0.2 * numbers["largest step at the rim, pasted"]
    random = np.random.default_rng(0)
    source, target = random.random((14, 19, 3)), random.random((14, 19, 3))
    solution = example.clone(source, target)
    assert solution.u.shape == (3, 12, 17)
    assert len(solution.parts) == 3
    for channel, u in enumerate(solution.u):
        drawn = np.pad(source[..., channel], 1)
        f = (4 * drawn - sum(np.roll(drawn, step, axis) for axis in (0, 1) for step in (-1, 1)))[2:-2, 2:-2]
        expected = five_point_solve(f, target[..., channel], (1.0, 1.0))
        np.testing.assert_allclose(u, expected, atol=1e-7)


def check_filling_a_hole_in_an_elevation_map(example: ModuleType, numbers: dict[str, float]) -> None:
    rows, columns = example.HOLE
    assert numbers["unknowns"] == (rows.stop - rows.start) * (columns.stop - columns.start)
    assert numbers["RMS error (m)"] < 0.5 * numbers["RMS error of a flat filling (m)"] < 0.5 * numbers["range of the truth (m)"]
    elevation = np.random.default_rng(0).uniform(200, 1000, (30, 40))
    hole, spacing = (slice(5, 18), slice(9, 33)), (93.0, 74.0)
    cut = elevation.copy()
    cut[hole] = np.nan
    frame = cut[4:19, 8:34]
    expected = five_point_solve(np.zeros((13, 24)), frame, spacing)
    np.testing.assert_allclose(example.fill(cut, hole, spacing).u, expected, rtol=1e-6)


def check_pressure_projection(example: ModuleType, numbers: dict[str, float]) -> None:
    assert numbers["largest divergence before"] > 0.1
    assert numbers["largest divergence after"] < 1e-7 * numbers["largest divergence before"]
    random, n = np.random.default_rng(0), example.CELLS
    u, v = random.standard_normal((2, n, n))
    cycle = unigrid.StencilCycle(unigrid.Poisson((n, n), boundary="periodic", centering="cell"))
    (new_u, new_v), p = example.project(cycle, u, v)
    before, after = (np.linalg.norm(example.divergence(*field)) for field in ((u, v), (new_u, new_v)))
    assert after <= 1e-8 * before * (1 + 1e-6)
    np.testing.assert_allclose(example.vorticity(new_u, new_v), example.vorticity(u, v), atol=1e-9 * n)
    waves = 2 * n * np.sin(np.pi * np.fft.fftfreq(n))
    symbol = waves[:, None] ** 2 + waves[None, :] ** 2
    symbol[0, 0] = np.inf
    expected = np.fft.ifft2(np.fft.fft2(-example.divergence(u, v)) / symbol).real
    np.testing.assert_allclose(p, expected, atol=1e-7 * np.abs(expected).max())


def check_groundwater(example: ModuleType, numbers: dict[str, float]) -> None:
    assert numbers["iterations"] <= 9
    assert numbers["flow differs between sections by at most"] < 1e-6
    assert numbers["harmonic mean"] < numbers["effective permeability"] < numbers["arithmetic mean"]
    layers = np.where(np.arange(example.CELLS[1]) < 40, 1.0, 1e3) * np.ones(example.CELLS)  # in series: the flow is known
    h = example.LENGTHS[1] / example.CELLS[1]
    right = example.flow(layers, example.head(layers).u)
    np.testing.assert_allclose(right, 1.0 / (40 * h + (example.CELLS[1] - 40) * h / 1e3), rtol=1e-6)


def check_custom_smoother(example: ModuleType, numbers: dict[str, float]) -> None:
    own, jacobi, chebyshev, red_black = numbers.values()
    assert own == pytest.approx(chebyshev, rel=1e-3)  # the same polynomial, written twice
    assert red_black < own < jacobi < 0.2
    random = np.random.default_rng(0)
    f = random.standard_normal((31, 31))
    slots = {"smoother": example.Richardson(), "restriction": example.Weighting(), "prolongation": example.Interpolation()}
    solution = unigrid.solve(f, pre=1, post=1, rtol=1e-11, **slots)
    expected = five_point_solve(f, np.zeros((33, 33)), (1 / 32, 1 / 32))
    np.testing.assert_allclose(solution.u, expected, atol=1e-9 * np.abs(expected).max())
    coarse, fine = random.standard_normal((7, 7)), random.standard_normal((15, 15))
    interpolated, restricted = slots["prolongation"](coarse), slots["restriction"](fine)
    assert np.sum(interpolated * fine) == pytest.approx(4 * np.sum(coarse * restricted), rel=1e-12)  # each other's adjoint


LEARNED = {"training_mgnet_on_cifar10", "from_solver_to_classifier"}  # need torch and small arguments: tests of their own
PICTURES = ("training", "confusion", "levels", "kernels")
needs_torch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="needs torch: pip install 'unigrid[learn]'")

CHECKS: dict[str, Checks] = {
    name.removeprefix("check_"): check for name, check in list(globals().items()) if name.startswith("check_")
}


def test_every_example_is_checked() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.py")} == set(CHECKS) | LEARNED


def assert_something_is_drawn(path: Path) -> None:
    picture = image.imread(path)
    assert picture.shape[0] > 300
    assert picture[..., :3].std() > 0.05


@pytest.mark.parametrize("name", CHECKS)
def test_example(name: str, tmp_path: Path) -> None:
    example = load(name)
    numbers = example.main(tmp_path / "figure.png")
    assert_something_is_drawn(tmp_path / "figure.png")
    assert all(np.isfinite(value) for value in numbers.values())
    CHECKS[name](example, numbers)


@needs_torch
def test_training_mgnet_on_cifar10(tmp_path: Path) -> None:
    """In small, on synthetic pictures; run again, it goes on where it stopped, which is at the end."""
    example = load("training_mgnet_on_cifar10")
    small = {"dataset": "shapes", "model": "mgnet-4-Bl", "epochs": 2, "subset": 400}
    numbers = example.main(tmp_path / "new" / "folder", **small)
    assert numbers["training images"] == 360
    assert numbers["epochs"] == 2
    assert numbers["parameters"] == sum(weight.numel() for weight in unigrid.create_model("mgnet-4-Bl").parameters())
    for name in PICTURES:
        assert_something_is_drawn(tmp_path / "new" / "folder" / f"{name}.png")
    assert example.main(tmp_path / "new" / "folder", **small) == numbers
    with open(tmp_path / "new" / "folder" / "run" / "log.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert numbers["validation accuracy (%)"] == pytest.approx(100 * float(rows[-1]["validation_accuracy"]))
    assert 0 <= numbers["test accuracy (%)"] <= 100


@needs_torch
def test_the_network_sees_normalized_images() -> None:
    example, data = load("training_mgnet_on_cifar10"), unigrid.training.load("shapes")
    values = example.normalized(data, data.train.images).numpy()
    np.testing.assert_allclose(values.mean(axis=(0, 2, 3)), 0, atol=1e-3)
    np.testing.assert_allclose(values.std(axis=(0, 2, 3)), 1, atol=1e-3)


@needs_torch
def test_without_cifar10_the_example_says_what_gets_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("UNIGRID_DATA", str(tmp_path / "empty"))
    monkeypatch.setattr(sys, "argv", ["training_mgnet_on_cifar10.py", str(tmp_path / "output")])
    with pytest.raises(SystemExit, match="`unigrid train cifar10 --download`"):
        runpy.run_path(str(EXAMPLES / "training_mgnet_on_cifar10.py"), run_name="__main__")
    assert list(tmp_path.iterdir()) == []


def correlated(values: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Return sum_d kernel(d) values(x + d) over the nine neighbors on a torus."""
    return sum(weight * np.roll(values, (1 - i, 1 - j), (0, 1)) for (i, j), weight in np.ndenumerate(kernel))


def down_the_grids(f: np.ndarray, kernel: np.ndarray, levels: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return f and u of every level: u <- u + kernel * D^-1 (f - A u), then all is weighted and every other point kept."""
    weighting, states, u = np.outer([1, 2, 1], [1, 2, 1]) / 16, [], np.zeros_like(f)
    for level in range(levels):
        laplacian = np.array([[0, -1, 0], [-1, 4, -1], [0, -1, 0]]) / 4**level
        u = u + correlated((f - correlated(u, laplacian)) * 4**level / 4, kernel)
        states.append((f, u))
        residual, u = (correlated(values, weighting)[::2, ::2] for values in (f - correlated(u, laplacian), u))
        f = residual + correlated(u, laplacian / 4)
    return states


@needs_torch
def test_from_solver_to_classifier(tmp_path: Path) -> None:
    """In small. What the bars compare: the textbook's V(1,1), damped Jacobi, has the factor 0.36 = 0.6^2; chance is 10 %."""
    example = load("from_solver_to_classifier")
    numbers = example.main(tmp_path / "figure.png", channels=8, stages=1, epochs=4, subset=1000)
    assert_something_is_drawn(tmp_path / "figure.png")
    assert numbers["largest difference of solver and network, relative"] < 1e-13
    assert numbers["largest difference of 8 channels and 8 solvers, relative"] < 1e-13
    assert numbers["factor of damped Jacobi"] == pytest.approx(0.36, abs=0.02)
    assert numbers["factor of the same as a network"] == pytest.approx(numbers["factor of damped Jacobi"], rel=1e-4)
    assert numbers["factor when trained"] < 0.1
    assert numbers["factor when trained, on 200 x 300"] < 0.4 * numbers["factor of damped Jacobi on 200 x 300"] < 0.2
    assert 14 < numbers["test accuracy (%)"] <= 100


@needs_torch
def test_the_solver_of_the_story_solves() -> None:
    example, data = load("from_solver_to_classifier"), unigrid.training.load("shapes")
    f = example.pictures_as_sources(data, 2)[1]
    gray = data.test.images[1].numpy().mean(axis=0) / 255
    np.testing.assert_allclose(f, gray - gray.mean(), atol=1e-14)
    waves = (2 * np.sin(np.pi * np.fft.fftfreq(32))) ** 2
    symbol = waves[:, None] + waves[None, :]
    symbol[0, 0] = np.inf
    expected = np.fft.ifft2(np.fft.fft2(f) / symbol).real
    solution, iterates = example.iterate(f, cycle=example.jacobi_cycle())
    np.testing.assert_allclose(solution.u, expected, atol=1e-8 * np.abs(expected).max())
    assert len(iterates) == solution.iterations
    np.testing.assert_array_equal(iterates[-1], solution.u)


@needs_torch
def test_channels_side_by_side_are_solvers() -> None:
    """With a smoother that has no symmetry, so that a kernel turned round would show."""
    import torch

    example, random, channels = load("from_solver_to_classifier"), np.random.default_rng(0), 3
    kernel, sources = random.standard_normal((3, 3)), random.standard_normal((channels, 32, 32))
    net = unigrid.PoissonNet(symmetric=False)
    net.pre.data = torch.from_numpy(kernel)[None, None]
    cycle = example.way_down(net)
    wide = example.widened(cycle, channels, **example.LINEAR)
    with torch.no_grad():
        _, levels = wide.cycle.trace(torch.from_numpy(sources)[None])
    for channel, f in enumerate(sources):
        for level, wanted in zip(levels, down_the_grids(f, kernel, example.LEVELS), strict=True):
            for found, values in zip((level.data, level.features), wanted, strict=True):
                np.testing.assert_allclose(found[0, channel], values, atol=1e-12 * np.abs(values).max())
    levels[-1].features[0, 1] *= 1.01
    assert example.largest_difference(levels, cycle, sources) > 1e-3  # so what the story prints would tell


@needs_torch
def test_the_classifier_starts_from_the_solvers() -> None:
    import torch

    example = load("from_solver_to_classifier")
    cycle = example.way_down(unigrid.PoissonNet())
    solvers, classifier = example.widened(cycle, 4, **example.LINEAR).cycle.levels, example.classifier(cycle, 4).cycle.levels
    norms = [module for level in classifier for module in level.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert len(norms) == 2 * example.LEVELS + 2 * (example.LEVELS - 1)
    for before, after in zip(solvers, classifier, strict=True):
        for old, new in zip(example.convolutions(before), example.convolutions(after), strict=True):
            noise = (new.weight - old.weight).detach()
            assert 0.7 * example.NOISE < noise.std() < 1.3 * example.NOISE
            assert abs(noise).max() < 6 * example.NOISE
