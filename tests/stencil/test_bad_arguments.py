"""Arguments that cannot be: each is refused in one line, which names what came and what is allowed."""

import numpy as np
import pytest
from tiers import named

import unigrid

D = unigrid.Dirichlet


def one_line(error):
    text = str(error.value)
    assert text
    assert "\n" not in text
    return text


F = np.ones((9, 8))
BAD_ARGUMENTS = [
    ({"maxiter": 0}, ValueError, "maxiter must be an integer >= 1, got 0"),
    ({"maxiter": -3}, ValueError, "maxiter"),
    ({"maxiter": 2.5}, ValueError, "maxiter"),
    ({"maxiter": True}, ValueError, "maxiter"),
    ({"maxiter": "many"}, ValueError, "maxiter"),
    ({"rtol": -1e-8}, ValueError, "rtol must be a finite number >= 0 or None"),
    ({"rtol": np.nan}, ValueError, "rtol"),
    ({"rtol": np.inf}, ValueError, "rtol"),
    ({"rtol": "tight"}, ValueError, "rtol"),
    ({"atol": -1.0}, ValueError, "atol must be a finite number >= 0, got -1.0"),
    ({"atol": np.nan}, ValueError, "atol"),
    ({"atol": None}, (TypeError, ValueError), "atol|NoneType"),
    ({"pre": -1}, ValueError, "pre must be an integer >= 0, got -1"),
    ({"post": 1.5}, ValueError, "post"),
    ({"pre": 0, "post": 0}, ValueError, "without smoothing"),
    ({"cycle": "X"}, ValueError, "'V', 'W', 'F'"),
    ({"cycle": 7}, (TypeError, ValueError), "'V', 'W', 'F'"),
    ({"smoother": 3}, TypeError, "smoother must be one of 'jacobi'"),
    ({"smoother": unigrid.RedBlack}, TypeError, "smoother"),
    ({"restriction": 3}, TypeError, "restriction"),
    ({"restriction": unigrid.Linear}, TypeError, "restriction"),
    ({"prolongation": object()}, TypeError, "prolongation"),
    ({"lengths": (1, 2, 3)}, ValueError, "got 3 for 2 axes"),
    ({"lengths": 0.0}, ValueError, "lengths must be finite and > 0"),
    ({"lengths": (1, -2)}, ValueError, "lengths"),
    ({"spacing": np.nan}, ValueError, "spacing"),
    ({"spacing": "wide"}, ValueError, "spacing"),
    ({"lengths": 1.0, "spacing": 1.0}, ValueError, "not both"),
    ({"reaction": -1e6}, ValueError, r"reaction = -k\^2, down to -1e\+06, makes waves of k h"),
    ({"reaction": np.nan}, ValueError, "reaction"),
    ({"reaction": "c"}, ValueError, "reaction"),
    ({"coefficients": np.ones((9, 8))}, TypeError, "solve has no argument 'coefficients'"),
    ({"u0": np.ones((8, 9))}, ValueError, r"u0 must have the shape of f, \(9, 8\), got \(8, 9\)"),
    ({"u0": 1.0}, ValueError, "u0 must have the shape of f"),
    ({"u0": np.ones((9, 8), complex)}, TypeError, "u0 must be an array of real numbers"),
    ({"boundary": 3}, TypeError, "boundary must be 'dirichlet'"),
    ({"boundary": ["dirichlet"]}, ValueError, "boundary has 1 entries for 2 axes"),
    ({"boundary": [("dirichlet",) * 3, "dirichlet"]}, ValueError, "axis 0 must be one entry or a .low, high. pair, got 3"),
    ({"boundary": ["neumann", ("periodic", "neumann")]}, ValueError, "axis 1 is periodic on one side alone"),
    ({"boundary": ["neumann", 4]}, TypeError, "axis 1"),
    ({"boundary": D(np.ones(5))}, ValueError, r"low boundary value of axis 0 must be a number or an array of shape \(8,\)"),
    ({"boundary": D("warm")}, TypeError, "real numbers"),
    ({"boundary": D(1j)}, TypeError, "real numbers"),
    ({"boundary": [D(np.full(8, 1j)), "dirichlet"]}, TypeError, "real numbers"),
    ({"omega": 1.2}, TypeError, "omega"),
    ({"rtoll": 1e-3}, TypeError, "rtoll"),
]


@pytest.mark.parametrize(("arguments", "error", "words"), BAD_ARGUMENTS, ids=lambda value: named(value)[:40])
def test_a_bad_argument_is_refused_in_one_line(arguments, error, words):
    with pytest.raises(error, match=words) as raised:
        unigrid.solve(F, **arguments)
    one_line(raised)


@pytest.mark.parametrize(
    ("argument", "given", "meant"),
    [
        ("smoother", "redblack", "red-black"),
        ("smoother", "Jacobi", "jacobi"),
        ("smoother", "gauss_seidel", "gauss-seidel"),
        ("smoother", "chebychev", "chebyshev"),
        ("smoother", "CHEBYSHEV", "chebyshev"),
        ("restriction", "full_weighting", "full-weighting"),
        ("restriction", "inject", "injection"),
        ("prolongation", "Linear", "linear"),
        ("prolongation", "bilinear", "linear"),
        ("cycle", "v", "V"),
        ("cycle", "w", "W"),
        ("start", "FMG", "fmg"),
        ("start", "zeros", "zero"),
        ("accelerate", "CG", "cg"),
        ("compatibility", "projct", "project"),
        ("centering", "vertices", "vertex"),
        ("centering", "Cell", "cell"),
        ("boundary", "dirchlet", "dirichlet"),
        ("boundary", "von neumann", "neumann"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(argument, given, meant):
    with pytest.raises(ValueError, match=f"did you mean '{meant}'") as error:
        unigrid.solve(F, **{argument: given})
    text = one_line(error)
    assert repr(given) in text
    assert argument in text


@pytest.mark.parametrize(("name", "meant"), [("FFT", "fft"), ("drect", "direct")])
def test_an_unknown_coarsest_is_answered_with_the_nearest(name, meant):
    with pytest.raises(ValueError, match=f"did you mean '{meant}'"):
        unigrid.StencilCycle(unigrid.Poisson(9), coarsest=name)


@pytest.mark.parametrize(
    "f",
    [np.float64(1.0), np.ones((0,)), np.ones((3, 0)), np.ones((2, 2, 2, 2)), []],
    ids=["scalar", "empty", "empty axis", "four axes", "list"],
)
def test_an_f_of_no_usable_shape_is_refused_in_one_line(f):
    with pytest.raises(ValueError, match="f must have 1, 2 or 3 axes") as error:
        unigrid.solve(f)
    one_line(error)


@pytest.mark.parametrize(
    ("shape", "boundary", "centering"),
    [
        ((1,), "neumann", "vertex"),
        ((5, 1), ["periodic", "neumann"], "vertex"),
        ((5, 1, 5), "neumann", "vertex"),
    ],
)
def test_axes_too_short_for_their_sides_are_refused_in_one_line(shape, boundary, centering):
    with pytest.raises(ValueError, match=r"axis \d has \d unknowns?, but .* needs at least \d") as error:
        unigrid.solve(np.ones(shape), boundary=boundary, centering=centering)
    one_line(error)


@pytest.mark.parametrize("shape", [(8, 9), (9, 9), (8,), (9, 8, 1), (72,)], ids=str)
def test_a_prepared_cycle_refuses_an_f_of_another_shape(shape):
    cycle = unigrid.StencilCycle(unigrid.Poisson((9, 8)))
    with pytest.raises(ValueError, match=r"f must have shape \(9, 8\)") as error:
        cycle.solve(np.ones(shape))
    one_line(error)
    with pytest.raises(ValueError, match=r"\(9, 8\)"):
        unigrid.solve(np.ones(shape), cycle=cycle)


@pytest.mark.parametrize(
    "arguments",
    [{"smoother": "jacobi"}, {"lengths": 2.0}, {"boundary": "neumann"}, {"pre": 1}, {"reaction": 1.0}, {"centering": "cell"}],
    ids=str,
)
def test_a_prepared_cycle_takes_no_slot_and_no_problem_beside_it(arguments):
    cycle = unigrid.StencilCycle(unigrid.Poisson((9, 8)))
    with pytest.raises(ValueError, match=next(iter(arguments))) as error:
        unigrid.solve(F, cycle=cycle, **arguments)
    one_line(error)


def test_one_cycle_refuses_arrays_of_another_shape():
    cycle = unigrid.StencilCycle(unigrid.Poisson((20, 20)))
    with pytest.raises(ValueError, match=r"\(20, 20\)"):
        cycle(np.ones((20, 19)))
    with pytest.raises(ValueError, match=r"\(20, 20\)"):
        cycle(np.ones((20, 20)), np.ones((19, 20)))


@pytest.mark.parametrize("dtype", [int, complex, object, np.float16])
def test_one_cycle_refuses_arrays_of_another_type(dtype):
    with pytest.raises(TypeError, match="float32 or float64"):
        unigrid.StencilCycle(unigrid.Poisson((20, 20)))(np.ones((20, 20), dtype))


@pytest.mark.parametrize("omega", [0, -1.0, np.nan, np.inf, "fast", None])
@pytest.mark.parametrize("smoother", [unigrid.RedBlack, unigrid.Jacobi, unigrid.GaussSeidel])
def test_an_omega_without_meaning_is_refused_in_one_line(smoother, omega):
    with pytest.raises(ValueError, match="omega must be a finite number > 0") as error:
        smoother(omega=omega)
    one_line(error)


@pytest.mark.parametrize(
    "arguments",
    [{"degree": 0}, {"degree": 1.5}, {"degree": True}, {"interval": (0.0, 1.0)}, {"interval": (2.0, 1.0)}, {"interval": (1,)}],
    ids=str,
)
def test_chebyshev_refuses_a_degree_or_interval_without_meaning(arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        unigrid.Chebyshev(**arguments)


@pytest.mark.parametrize("omega", [(), (1.0,), (1.0, 1.1, 1.2), (1.0, -1.0), (1.0, None)], ids=str)
def test_red_black_refuses_omegas_that_are_not_two_for_each_sweep(omega):
    with pytest.raises(ValueError, match="omega must be") as error:
        unigrid.RedBlack(omega)
    one_line(error)


def test_red_black_refuses_another_color():
    with pytest.raises(ValueError, match="'red' or 'black'"):
        unigrid.RedBlack(first="green")
