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
from PIL import Image

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
    assert numbers["largest step at the rim, cloned"] < 0.2 * numbers["largest step at the rim, pasted"]
    random = np.random.default_rng(0)
    source, target = random.random((14, 19, 3)), random.random((14, 19, 3))
    mask = np.zeros((14, 19), bool)
    mask[3:10, 4:15] = True
    u = example.clone(source, target, mask).u
    np.testing.assert_array_equal(u[~mask], target[~mask])
    for channel in range(3):
        drawn = source[..., channel]
        f = (4 * drawn - sum(np.roll(drawn, step, axis) for axis in (0, 1) for step in (-1, 1)))[3:10, 4:15]
        expected = five_point_solve(f, target[2:11, 3:16, channel], (1.0, 1.0))
        np.testing.assert_allclose(u[3:10, 4:15, channel], expected, atol=1e-7)
    assert example.inside([(-0.503, -2.003), (-0.503, -1.003), (0.497, -1.003), (0.497, -2.003)], (200, 300)).sum() == 140 * 128


def check_filling_a_hole_in_an_elevation_map(example: ModuleType, numbers: dict[str, float]) -> None:
    assert numbers["RMS error smoothed (m)"] < 0.7 * numbers["RMS error measured (m)"]
    assert numbers["RMS error in the voids (m)"] < 0.3 * numbers["RMS error in the voids, filled with the mean (m)"]
    elevation, spacing = np.random.default_rng(0).uniform(200, 1000, (30, 40)), (93.0, 74.0)
    cut = elevation.copy()
    cut[5:18, 9:33] = np.nan
    filled = example.fill(cut, spacing).u
    expected = five_point_solve(np.zeros((13, 24)), cut[4:19, 8:34], spacing)
    np.testing.assert_allclose(filled[5:18, 9:33], expected, rtol=1e-6)
    smoothed = example.smooth(cut, spacing, 200.0).u
    known = ~np.isnan(cut)
    assert smoothed[known].mean() == pytest.approx(elevation[known].mean(), rel=1e-7)  # nothing is lost through the rim
    assert smoothed[known].std() < 0.5 * elevation[known].std()


def check_electrodes(example: ModuleType, numbers: dict[str, float]) -> None:
    assert numbers["given and taken current differ by"] < 1e-7
    assert numbers["power over current times voltage"] == pytest.approx(1.0, abs=1e-7)
    n = 200  # a ring of water between two cylinders: the current is 2 pi / log(radii)
    x, y = np.meshgrid(*[(np.arange(n) + 0.5) / n - 0.5] * 2, indexing="ij")
    radius = np.hypot(x, y)
    inner, outer = radius < 0.12, (radius > 0.4) & (radius < 0.45)
    water = radius < 0.45
    u = example.potential(water, [(inner, 3.0), (outer, 1.0)], (1.0, 1.0)).u
    flow = example.current(inner, *example.fluxes(u, water, (1.0, 1.0)), (1.0, 1.0))
    assert flow == pytest.approx(2 * 2 * np.pi / np.log(0.4 / 0.12), rel=0.02)
    wet = water & ~inner & ~outer
    np.testing.assert_allclose(u[wet], 3 - 2 * np.log(radius[wet] / 0.12) / np.log(0.4 / 0.12), atol=0.06)


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


def check_eigenmodes_of_a_drum(example: ModuleType, numbers: dict[str, float]) -> None:
    assert numbers["iterations"] <= 30
    assert numbers["relative error of the third, 2 pi^2"] < 1e-4
    assert numbers["largest relative error"] < 1e-3
    assert numbers["the first after as many iterations without the cycle"] > 2 * numbers["first eigenvalue"]
    example.CELLS = 24
    mask = example.drum()
    found = example.modes(mask, True, 60)[0]
    matrix = unigrid.Poisson(mask.shape, spacing=1 / 24, mask=mask).matrix().toarray()[np.ix_(mask.ravel(), mask.ravel())]
    np.testing.assert_allclose(found, np.linalg.eigvalsh(matrix)[: example.MODES], rtol=1e-6)


def check_finding_a_conductivity(example: ModuleType, numbers: dict[str, float]) -> None:
    assert numbers["and in the end"] < 1.0 < numbers["misfit over that of the noise, at first"]
    assert numbers["relative error of log k"] < 0.45
    assert numbers["found in the middle of the disk, where k is 5"] > 3.5
    assert numbers["found in the middle of the bar, where k is 0.2"] < 0.3


def check_learning_to_denoise(example: ModuleType, numbers: dict[str, float]) -> None:
    assert numbers["noisy, dB"] + 4 < numbers["smoothed by one screening, dB"] < numbers["smoothed but for edges, dB"] - 1
    assert 0.3 < numbers["learned screening c"] < 3


def check_sensitivity_of_a_temperature(example: ModuleType, numbers: dict[str, float]) -> None:
    assert numbers["gradient of one cell"] == pytest.approx(numbers["the same by differences"], rel=1e-4)
    assert numbers["part of the sensitivity in the metal"] > 0.9


def check_bratu(example: ModuleType, numbers: dict[str, float]) -> None:
    largest = [numbers[f"largest u, lambda {strength}"] for strength in ("1", "5", "6.8")]
    np.testing.assert_allclose(largest, (0.0781, 0.557, 1.325), rtol=2e-3)
    assert numbers["largest u, lambda 5, hot"] > 2 * numbers["largest u, lambda 5"]
    assert max(numbers["cycles at 6.8"], numbers["Newton steps at 6.8"]) <= 8
    assert numbers["residual left beyond the fold"] > 1e-3
    h = 1 / (example.UNKNOWNS + 1)
    bump = np.sin(np.pi * h * np.arange(1, example.UNKNOWNS + 1))
    hot = example.follow((5.0,), "newton", 3 * np.outer(bump, bump))[0].u
    rim = np.pad(hot, 1)
    laplace = (4 * hot - rim[:-2, 1:-1] - rim[2:, 1:-1] - rim[1:-1, :-2] - rim[1:-1, 2:]) / h**2
    np.testing.assert_allclose(laplace, 5 * np.exp(hot), atol=1e-4)


def check_heat_equation_over_time(example: ModuleType, numbers: dict[str, float]) -> None:
    assert numbers["most iterations of a step"] <= 6
    assert numbers["heat lost, of all"] < 1e-6
    assert numbers["lowest temperature"] > -1e-6
    assert 0.34 < numbers["highest temperature at the end"] < 1.0  # the mean is 0.32
    assert numbers["error in the decay of a mode"] < 1e-4
    assert example.error_of_a_mode(10) > 10 * numbers["error in the decay of a mode"]
    example.CELLS = (20, 30)
    a, start = np.where(example.walls(), example.WALL, 1.0), np.random.default_rng(0).random((20, 30))
    problem = unigrid.Poisson((20, 30), boundary="neumann", centering="cell", lengths=example.LENGTHS, coefficient=a)
    u, one, at, dt = start.ravel(), scipy.sparse.eye_array(600), 0.0, 1e-3
    for number, (now, stepped, _) in enumerate(example.stepped(problem, start, 20, dt)):
        A, at = problem.matrix(), at + dt
        new, old = (one + dt * A, one) if number < 2 else (one + dt / 2 * A, one - dt / 2 * A)
        u = scipy.sparse.linalg.spsolve(new.tocsc(), old @ u)
        assert now == pytest.approx(at)
        np.testing.assert_allclose(stepped.ravel(), u, atol=1e-6)
        dt *= 2 if number % example.GROWTH_EVERY == example.GROWTH_EVERY - 1 else 1


def check_heat_in_a_cylinder(example: ModuleType, numbers: dict[str, float]) -> None:
    assert numbers["iterations"] <= 8
    assert numbers["largest error"] < 3e-4
    assert numbers["heat given off over heat taken up"] == pytest.approx(1, rel=1e-6)
    assert 0.9 < numbers["efficiency"] / numbers["efficiency of a thin fin"] < 1
    example.BIOT = 1e-3  # of a thin fin: nearly one temperature in a section
    radial, along = np.full(8, 1 / 8), np.full(200, example.LENGTH / 200)
    u = example.temperature(radial, along)[1].u
    m, z = np.sqrt(2e-3), (np.arange(200) + 0.5) * example.LENGTH / 200
    np.testing.assert_allclose(u, np.cosh(m * (example.LENGTH - z)) / np.cosh(m * example.LENGTH) * np.ones((8, 1)), atol=1e-3)


def check_flow_around_a_cylinder(example: ModuleType, numbers: dict[str, float]) -> None:
    assert numbers["iterations"] <= 8
    assert numbers["error with an open side at r = 8"] < 1e-3 < 1e-2 < numbers["error with u = 0 at r = 8"]
    example.blown = lambda theta: 0.0 * theta  # the textbook's flow: u = cos(theta) / r, whatever the outer radius
    for far in (3.0, 20.0):
        problem, solution = example.disturbance(far, is_open=True)
        r, theta = problem.coordinates()
        np.testing.assert_allclose(solution.u, np.cos(theta) / (1 + r), atol=5e-4)


def check_heat_in_a_composite(example: ModuleType, numbers: dict[str, float]) -> None:
    assert numbers["iterations"] <= 12
    assert numbers["layers, difference from resistances in series"] < 1e-9
    assert numbers["heat entering over heat leaving"] == pytest.approx(1, rel=1e-6)
    assert numbers["model of strips"] < numbers["W/(m2 K) with studs"] < numbers["model of layers of one temperature"]
    resistance = 1 / 25 + 0.1 / 0.8 + 0.15 / 0.035 + 0.0125 / 0.25 + 1 / 7.7
    assert numbers["W/(m2 K) without studs"] == pytest.approx(1 / resistance, rel=1e-12)


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


def check_depth_from_normals(example: ModuleType, numbers: dict[str, float]) -> None:
    assert numbers["RMS error (m)"] < 0.01 * numbers["relief (m)"]
    assert numbers["RMS error (m)"] < 0.3 * numbers["RMS error of slopes added up (m)"]
    random = np.random.default_rng(0)
    known, (p, q) = np.ones((9, 11), bool), random.standard_normal((2, 9, 11))
    known[3:6, 4:6] = known[:2, :3] = False
    number = np.cumsum(known).reshape(known.shape) - 1
    rows, wanted = [], []  # one equation per face: the difference of z over it is the slope there
    for axis, slope in ((0, p), (1, q)):
        for at in np.argwhere(known):
            to = at + np.eye(2, dtype=int)[axis]
            if to[axis] < known.shape[axis] and known[tuple(to)]:
                rows.append(np.zeros(known.sum()))
                rows[-1][number[tuple(to)]], rows[-1][number[tuple(at)]] = 1 / example.SPACING, -1 / example.SPACING
                wanted.append((slope[tuple(at)] + slope[tuple(to)]) / 2)
    expected = np.linalg.lstsq(np.array(rows), np.array(wanted))[0]
    found = example.integrate(p, q, known).u[known]
    np.testing.assert_allclose(found - found.mean(), expected - expected.mean(), atol=1e-6 * np.abs(expected).max())
    flat = example.photographs(np.zeros((4, 5)))
    (down, right), lit = example.slopes(flat)
    assert lit.all()
    assert max(np.abs(down).max(), np.abs(right).max()) < 0.2


def check_features_of_a_photograph(example: ModuleType, numbers: dict[str, float]) -> None:
    assert numbers["error of the recovered photograph"] < 0.2
    assert numbers["part of the data left by level 0"] < 0.3
    f = np.random.default_rng(0).standard_normal((48, 48))
    cycle = example.solver(f.shape)
    states = example.descend(cycle, f)
    np.testing.assert_allclose(example.ascend(cycle, states)[0], cycle(f), atol=1e-12)  # one V-cycle, taken apart
    A = cycle.problem.matrix()
    np.testing.assert_allclose(states[0][2].ravel(), f.ravel() - A @ states[0][1].ravel(), atol=1e-12)


def test_flow_past_obstacles(tmp_path: Path) -> None:
    """In small: no divergence, nothing through pillars, and the projection of a direct solve."""
    example = load("flow_past_obstacles")
    example.PER_DIAMETER, example.H, example.CELLS = 4, 1 / 4, (96, 32)
    numbers = example.main(tmp_path / "figure.png", steps=20)
    assert_something_is_drawn(tmp_path / "figure.png")
    assert numbers["flow out over flow in"] == pytest.approx(1, rel=1e-5)
    assert numbers["largest divergence"] < 1e-3
    water, random = example.pillars(), np.random.default_rng(0)
    faces = example.open_faces(water)
    w = random.standard_normal(faces[0].shape) * faces[0], random.standard_normal(faces[1].shape) * faces[1]
    (u, v), _ = example.project(example.projection(water), w, water, rtol=1e-10)
    assert np.abs(example.divergence(u, v) * water).max() < 1e-7
    assert not u[~faces[0]].any()
    assert not v[~faces[1]].any()
    inside = np.flatnonzero(water)
    matrix = unigrid.Poisson(
        water.shape,
        spacing=0.25,
        boundary=[("neumann", "dirichlet"), "neumann"],
        centering="cell",
        mask=water,
        outside="natural",
    ).matrix()
    p = np.zeros(water.size)
    p[inside] = scipy.sparse.linalg.spsolve(matrix.tocsc()[inside][:, inside], -example.divergence(*w).ravel()[inside])
    p = p.reshape(water.shape)
    np.testing.assert_allclose(u[1:-1], w[0][1:-1] - np.diff(p, axis=0) * 4 * faces[0][1:-1], atol=1e-6)
    uniform = np.ones((97, 32)), np.zeros((96, 33))
    assert max(np.abs(rate).max() for rate in example.rates(*uniform)) == 0.0


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="needs torch: pip install 'unigrid[learn]'")
def test_kernels_before_and_after_training(tmp_path: Path) -> None:
    example = load("kernels_before_and_after_training")
    numbers = example.main(tmp_path / "figure.png", epochs=1, n=31)
    assert_something_is_drawn(tmp_path / "figure.png")
    before, after, before_wood, after_wood = numbers.values()
    assert before == pytest.approx(0.36, abs=0.02)  # the textbook's V(1,1) with Jacobi of 0.8
    assert after < 0.5 * before
    assert after_wood < 0.7 * before_wood
    damping = example.damping(unigrid.PoissonNet(), unigrid.Poisson((31, 31)))
    theta = np.linspace(-np.pi, np.pi, example.RESOLUTION, endpoint=False) + np.pi / example.RESOLUTION
    jacobi = 1 - 0.8 * (1 - (np.cos(theta)[:, None] + np.cos(theta)) / 2)
    np.testing.assert_allclose(damping, jacobi**2, atol=1e-12)


NEED_TORCH = {"finding_a_conductivity", "learning_to_denoise", "sensitivity_of_a_temperature"}
SMALLER = {  # tests of their own, with arguments that make them short
    "fine_tuning_on_two_classes", "flow_past_obstacles", "from_solver_to_classifier", "kernels_before_and_after_training",
    "training_mgnet_on_cifar10",
}  # fmt: skip
PICTURES = ("training", "confusion", "levels", "kernels")
needs_torch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="needs torch: pip install 'unigrid[learn]'")

CHECKS: dict[str, Checks] = {
    name.removeprefix("check_"): check for name, check in list(globals().items()) if name.startswith("check_")
}


def test_every_example_is_checked() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.py")} == set(CHECKS) | SMALLER


def assert_something_is_drawn(path: Path) -> None:
    picture = image.imread(path)
    assert picture.shape[0] > 300
    assert picture[..., :3].std() > 0.05


@pytest.mark.parametrize("name", CHECKS)
def test_example(name: str, tmp_path: Path) -> None:
    if name in NEED_TORCH:
        pytest.importorskip("torch")
    example = load(name)
    numbers = example.main(tmp_path / "figure.png")
    assert_something_is_drawn(tmp_path / "figure.png")
    assert all(np.isfinite(value) for value in numbers.values())
    CHECKS[name](example, numbers)


def test_the_animation_has_a_picture_for_each_step(tmp_path: Path) -> None:
    example = load("heat_equation_over_time")
    example.CELLS, example.STEPS = (32, 48), 6
    example.main(tmp_path / "heat.png")
    with Image.open(tmp_path / "heat.gif") as animation:
        assert animation.n_frames == 6


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
def test_fine_tuning_on_two_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In small: the trained network is well above chance, 50 %, where the untrained one is not."""
    example = load("fine_tuning_on_two_classes")
    monkeypatch.setattr(example, "VALIDATION", 20)
    monkeypatch.setattr(example, "TEST", 200)
    numbers = example.main(tmp_path / "figure.png", epochs=16, test_flip=False)
    assert_something_is_drawn(tmp_path / "figure.png")
    assert numbers["test accuracy from CIFAR-100 (%)"] > 60
    assert numbers["test accuracy from random weights (%)"] < numbers["test accuracy from CIFAR-100 (%)"] - 8


@needs_torch
def test_scratches_are_straight_and_cracks_are_not() -> None:
    example, random = load("fine_tuning_on_two_classes"), np.random.default_rng(0)
    for is_crack in (False, True):
        for _ in range(5):
            points = example.line(random, is_crack)
            off_line = np.linalg.svd(points - points.mean(axis=0), compute_uv=False)[1]
            assert (off_line > 1) == is_crack
    images, labels = example.pictures(6, 0)
    assert (images.shape, images.dtype, labels.tolist()) == ((6, 32, 32, 3), np.uint8, [0, 1] * 3)


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
