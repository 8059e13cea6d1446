"""What is no name, function, array or problem is refused in one short line, however large it is; no other library's text."""

import re

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import unigrid  # noqa: E402
from unigrid import analysis, conv  # noqa: E402

F, LARGE, PROBLEM = np.ones((9, 9)), np.ones((100, 100)), unigrid.Poisson((9, 9))
WITH_GRADIENT, HALVED = torch.ones(3, 3, requires_grad=True), torch.ones(3, 3, dtype=torch.bfloat16)
FOREIGN = "ambiguous|inhomogeneous|Can't call|ScalarType|unhashable|cannot be interpreted|copy keyword|Casting"
CALLS = {
    **{
        f"solve({name})": lambda value, n=name: unigrid.solve(F, **{n: value})
        for name in (
            "boundary", "centering", "cycle", "smoothing", "smoother", "restriction", "prolongation", "u0", "start",
            "accelerate", "compatibility", "callback", "precision", "rtol", "lengths", "spacing",
        )
    },
    **{
        f"StencilCycle({name})": lambda value, n=name: unigrid.StencilCycle(PROBLEM, **{n: value})
        for name in ("cycle", "smoothing", "post_smoother", "restriction", "state_transfer", "coarsest")
    },
    "StencilCycle(problem)": unigrid.StencilCycle,
    "RedBlack(first)": lambda value: unigrid.RedBlack(first=value),
    "Dirichlet": lambda value: unigrid.Poisson((9, 9), boundary=unigrid.Dirichlet(value)),
    "lengths and spacing": lambda value: unigrid.Poisson((9, 9), lengths=value, spacing=value),
    "symbol": lambda value: analysis.symbol(value, 0.0),
    "FourierAnalysis(spacing)": lambda value: analysis.FourierAnalysis([[0, -1, 0], [-1, 4, -1], [0, -1, 0]], spacing=value),
    "FourierAnalysis(coarse)": lambda value: analysis.FourierAnalysis(PROBLEM, coarse=value).cycle_factor(),
    "LearnedSmoother": unigrid.LearnedSmoother,
    "MgNetConfig(operator)": lambda value: conv.MgNetConfig(operator=value),
    "MgNetConfig(norms)": lambda value: conv.MgNetConfig(transfer_norms=value),
    "train_solver(problems)": lambda value: unigrid.train_solver(value),
    "train_solver(model)": lambda value: unigrid.train_solver(PROBLEM, value),
    "train_solver(protocol)": lambda value: unigrid.train_solver(PROBLEM, protocol=value),
    "train(protocol)": lambda value: unigrid.train("shapes", protocol=value),
    "train(seed)": lambda value: unigrid.train("shapes", seed=value),
}  # fmt: skip
VALUES = {
    "array": LARGE, "arrays": [LARGE, LARGE, LARGE], "text": "x" * 10**5, "ragged": [[1, 2], [3]], "digits": 10**6000,
    "gradients": WITH_GRADIENT, "bfloat16": HALVED, "list of gradients": [WITH_GRADIENT, WITH_GRADIENT],
    "list of bfloat16": [HALVED, HALVED], "complex": 1j * LARGE,
}  # fmt: skip
RIGHT = {("FourierAnalysis(coarse)", "list of gradients"), ("FourierAnalysis(coarse)", "list of bfloat16")}  # 3x3 stencils


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", CALLS)
def test_large_values_are_refused_in_one_short_line(name):
    for kind, value in VALUES.items():
        if (name, kind) in RIGHT:
            continue
        with pytest.raises((ValueError, TypeError)) as error:
            CALLS[name](value)
        text = str(error.value)
        assert 0 < len(text) < 500, (kind, len(text))
        assert not re.search(f"\n|{FOREIGN}", text), (kind, text)


def test_tensors_are_refused_with_a_way_out_that_works():
    for u0 in (torch.ones(9, 9, requires_grad=True), torch.ones(9, 9, dtype=torch.bfloat16)):
        with pytest.raises(TypeError, match=r"give u0\.detach\(\)\.cpu\(\)") as error:
            unigrid.solve(np.ones((9, 9)), u0=u0)
        way_out = re.search(r"give (\S+)$", str(error.value))[1]
        assert unigrid.solve(np.ones((9, 9)), u0=eval(way_out, {"u0": u0})).converged


def test_stencils_and_kernels_may_be_tensors_but_not_complex():
    stencil = torch.tensor([-1.0, 2.0, -1.0], requires_grad=True)
    assert analysis.symbol(stencil, np.pi) == analysis.symbol([-1, 2, -1], np.pi)
    kernels = torch.zeros(1, 1, 3, 3, dtype=torch.bfloat16)
    assert unigrid.LearnedSmoother(kernels).coefficients.dtype == np.float64
    for bad in (stencil.detach() * 1j, np.array([-1, 2j, -1])):
        with pytest.raises(TypeError, match=r"must be an? (NumPy )?array"):
            analysis.symbol(bad, np.pi)
