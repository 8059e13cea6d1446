"""Coefficients that cannot be: each is refused in one line, which names what came, where, and what is allowed."""

import numpy as np
import pytest
from tiers import named

import unigrid

F = np.ones((8, 9))
A = 1.0 + np.arange(72.0).reshape(8, 9)
FACES = np.ones((9, 9)), np.ones((8, 10))


def at(value, place=(2, 3)):
    return np.where((np.indices(A.shape) == np.array(place)[:, None, None]).all(axis=0), value, A)


def raising(x, y):
    raise KeyError("depth")


BAD = [
    (0, ValueError, "coefficient must be a finite number > 0, got 0"),
    (-2.0, ValueError, "got -2.0"),
    (np.nan, ValueError, "got nan"),
    (np.inf, ValueError, "got inf"),
    (10**400, ValueError, "got an integer of about 401 digits"),
    (1e300, ValueError, r"coefficient / spacing\^2 of axis 0 is 1e\+300 / 0.111\^2, too far from 1; choose other units"),
    (True, TypeError, r"coefficient must be a number, one per axis, an array of f's shape \(8, 9\).*got True"),
    ("2", TypeError, "a function of the coordinates; got '2'"),
    ({0: 1.0}, TypeError, "got {0: 1.0}"),
    (2j, TypeError, "real numbers"),
    (A + 0j, TypeError, "real numbers .*complex128"),
    (A.astype(object), TypeError, "real numbers .*object"),
    (np.full(A.shape, "a"), TypeError, "real numbers .*<U1"),
    (np.ma.masked_greater(A, 5), TypeError, r"has masked values.*coefficient\.filled"),
    (at(0.0), ValueError, r"coefficient must be > 0 everywhere, but coefficient\[2, 3\] is 0"),
    (at(-1.0), ValueError, r"coefficient\[2, 3\] is -1"),
    (at(np.nan), ValueError, r"coefficient must be finite, but coefficient\[2, 3\] is nan"),
    (at(-np.inf), ValueError, r"coefficient\[2, 3\] is -inf"),
    (at(5e-324), ValueError, r"must be from 1e-100 to 1e\+100 everywhere, but coefficient\[2, 3\] is 4.94066e-324"),
    (at(1e308), ValueError, r"coefficient\[2, 3\] is 1e\+308"),
    (A > 5, ValueError, r"coefficient\[0, 0\] is 0"),
    (A.T, ValueError, r"an array of f's shape \(8, 9\).*got an array of shape \(9, 8\)"),
    (A[0], ValueError, r"got an array of shape \(9,\)"),
    (A[..., None], ValueError, r"got an array of shape \(8, 9, 1\)"),
    (np.zeros(0), ValueError, r"got an array of shape \(0,\)"),
    ((1.0, 2.0, 3.0), ValueError, r"one per axis.*got an array of shape \(3,\)"),
    ((1.0, -2.0), ValueError, "coefficient must be a finite number > 0, got -2.0"),
    ((1.0, "2"), TypeError, r"coefficient\[1\] must be a number > 0, an array at the faces or a function.*got '2'"),
    ((None, 1.0), TypeError, r"coefficient\[0\] must be a number.*got None"),
    ([[1.0, 2.0], [3.0]], ValueError, "its rows of one length"),
    (FACES[::-1], ValueError, r"coefficient\[0\], at the faces of axis 0, must have shape \(9, 9\), got \(8, 10\)"),
    ((FACES[0], np.zeros((8, 10))), ValueError, r"coefficient\[1\] must be > 0 everywhere, but coefficient\[1\]\[0, 0\] is 0"),
    ((FACES[0], 2.0), ValueError, "has arrays and numbers side by side.*the same kind for every axis"),
    (FACES[:1], ValueError, r"got an array of shape \(1, 9, 9\)"),
    (lambda x: x, ValueError, "failed with TypeError: .*takes 1 positional argument but 2 were given; it is called with"),
    (lambda x, y: 1.0 if x > 0.5 else 2.0, ValueError, r"truth value.*of shapes \(9, 1\) and \(1, 9\), so numpy.where takes"),
    (raising, ValueError, "failed with KeyError: 'depth'"),
    (lambda x, y: None, TypeError, r"coefficient\(\.\.\.\) must be an array of real numbers.*object"),
    (lambda x, y: "wet", TypeError, "real numbers.*<U3"),
    (lambda x, y: (1.0, 2.0), ValueError, r"must return values that broadcast to \(9, 9\), got shape \(2,\)"),
    (lambda x, y: np.ones((9, 8)), ValueError, r"broadcast to \(9, 9\), got shape \(9, 8\)"),
    (lambda x, y: np.where(x + y > 1.9, np.nan, 1.0), ValueError, r"coefficient\(\.\.\.\)\[8, 8\] is nan"),
    (lambda x, y: x - 0.3 + 0 * y, ValueError, r"must be > 0 everywhere, but coefficient\(\.\.\.\)\[0, 0\] is -0.24"),
]


@pytest.mark.parametrize(("coefficient", "error", "words"), BAD, ids=lambda value: named(value)[:40])
def test_a_bad_coefficient_is_refused_in_one_line(coefficient, error, words):
    with pytest.raises(error, match=words) as raised:
        unigrid.solve(F, coefficient=coefficient)
    assert "\n" not in str(raised.value)


def test_a_tensor_is_refused_with_the_way_to_an_array():
    torch = pytest.importorskip("torch")
    for given in (torch.tensor(A), (torch.ones(9, 9), torch.ones(8, 10)), lambda x, y: torch.tensor(x + y)):
        with pytest.raises(TypeError, match=r"must be a NumPy array, got a Tensor; give .*\.detach\(\)\.cpu\(\)\.numpy\(\)"):
            unigrid.solve(F, coefficient=given)


class Arrays:
    """What other libraries' arrays are to NumPy."""

    def __array__(self, dtype=None, copy=None):
        return A.copy()


GOOD = {
    "lists": A.tolist(),
    "tuples": tuple(map(tuple, A.tolist())),
    "rows": list(A),
    "other arrays": Arrays(),
    "integers": A.astype(int),
    "big endian": A.astype(">f8"),
    "column-major": np.asfortranarray(A),
    "backwards": A[::-1, ::-1].copy()[::-1, ::-1],
    "read-only": np.broadcast_to(A, A.shape),
    "no mask": np.ma.masked_array(A, mask=False),
}


@pytest.mark.parametrize("given", GOOD.values(), ids=GOOD)
def test_arrays_of_any_make_are_the_same_coefficient(given):
    assert np.array_equal(unigrid.solve(F, coefficient=given).u, unigrid.solve(F, coefficient=A).u)


@pytest.mark.parametrize("given", [np.array([2.0, 3.0]), [2, 3], (np.float32(2), np.array(3))], ids=str)
def test_numbers_of_any_make_are_one_per_axis(given):
    assert np.array_equal(unigrid.solve(F, coefficient=given).u, unigrid.solve(F, coefficient=(2.0, 3.0)).u)


def test_two_rows_are_no_entries_of_two_axes():
    a = [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]
    f = np.ones((2, 3))
    assert np.array_equal(unigrid.solve(f, coefficient=a).u, unigrid.solve(f, coefficient=np.array(a)).u)


def test_a_number_that_requires_grad_is_refused_beside_an_array():
    torch = pytest.importorskip("torch")
    number = torch.tensor(2.0, requires_grad=True)
    for options in ({"reaction": number}, {"coefficient": number}, {"boundary": unigrid.Dirichlet(number)}):
        with pytest.raises(TypeError, match="requires grad"):
            unigrid.solve(np.ones((9, 9)), **options)
    assert unigrid.solve(np.ones((9, 9)), reaction=number.detach()).converged
