"""Array type in, array type out: every kind of source, and what is refused."""

import sys

import numpy as np
import pytest
import scipy.sparse

import unigrid

X, Y = np.arange(1, 10) * 0.1, np.arange(1, 9) * 0.1
F = np.random.default_rng(0).standard_normal((9, 8))


@pytest.fixture(scope="module")
def u():
    return unigrid.solve(F).u


class WithArray:
    """What has `__array__` and nothing else."""

    def __init__(self, array):
        self.array = array

    def __array__(self, dtype=None, copy=None):
        return self.array


class WithDlpack:
    """What has `__dlpack__` and nothing else, on a device."""

    def __init__(self, array, device=(1, 0)):
        self.array, self.device = array, device

    def __dlpack__(self, **options):
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.device


class Foreign(WithArray):
    """An array of another library, by the Python array API's standard."""

    def __array_namespace__(self):
        class Namespace:
            asarray = Foreign

        return Namespace


class Tracer(Foreign):
    """An array without numbers, inside a transform."""

    def __array__(self, dtype=None, copy=None):
        raise TypeError("no concrete value")


class WithUnits(np.ndarray):
    unit = "metre"


@pytest.mark.parametrize("f", [F.tolist(), WithArray(F), WithDlpack(F), np.ma.array(F)], ids=lambda f: type(f).__name__)
def test_what_has_no_type_of_its_own_comes_back_as_an_array(f, u):
    for found in (unigrid.solve(f).u, unigrid.StencilCycle(unigrid.Poisson(F.shape)).solve(f).u):
        assert type(found) is np.ndarray
        assert np.array_equal(found, u)


@pytest.mark.parametrize(
    ("dtype", "wanted"), [("f2", "f4"), ("f4", "f4"), ("i8", "f8"), ("u1", "f8"), (bool, "f8"), (">f8", "f8")]
)
def test_precisions(dtype, wanted):
    f = (10 * F).astype(dtype)
    found = unigrid.solve(f).u
    assert found.dtype == np.dtype(wanted)
    assert np.array_equal(found, unigrid.solve(f.astype(wanted)).u)


def test_an_array_of_another_library_comes_back_as_one(u):
    found = unigrid.solve(Foreign(F)).u
    assert type(found) is Foreign
    assert np.array_equal(found.array, u)


@pytest.mark.parametrize("dtype", [np.complex64, np.complex128])
def test_complex_numbers_are_two_real_problems(dtype):
    f = (F + 2j * F[::-1]).astype(dtype)
    solution = unigrid.solve(f, reaction=1.0, u0=0 * f)
    parts = [unigrid.solve(part.copy(), reaction=1.0, u0=0 * part.copy()) for part in (f.real, f.imag)]
    assert solution.u.dtype == dtype
    assert np.array_equal(solution.u, parts[0].u + 1j * parts[1].u)
    assert solution.residuals[-1] == pytest.approx(np.hypot(parts[0].residuals[-1], parts[1].residuals[-1]))
    with pytest.raises(unigrid.ConvergenceError):
        unigrid.solve(f, maxiter=1, rtol=1e-13)
    assert not unigrid.solve(f, maxiter=1, rtol=1e-13, raise_on_failure=False).converged


REFUSED = [
    (F.astype(np.longdouble), {}, TypeError, "give f.astype"),
    (F.astype(np.clongdouble), {}, TypeError, "give f.astype"),
    (F.astype(object), {}, TypeError, "objects .* give numpy.asarray"),
    (F.astype(str), {}, TypeError, "text"),
    (F.astype("m8[s]"), {}, TypeError, "times"),
    (None, {}, TypeError, "real numbers"),
    ([[1.0], [1.0, 2.0]], {}, ValueError, "rows of one length"),
    (3.0, {}, ValueError, "1, 2 or 3 axes"),
    (np.ma.masked_greater(F, 0.5), {}, TypeError, "filled"),
    (scipy.sparse.csr_array(F), {}, TypeError, "toarray"),
    (F.view(WithUnits), {}, TypeError, "units"),
    (F, {"reaction": F.view(WithUnits)}, TypeError, "reaction carries units"),
    (
        F,
        {"mask": scipy.sparse.csr_array(F)},
        TypeError,
        r"mask must be an array, got a SciPy csr_array; give mask\.toarray\(\)",
    ),
    (WithDlpack(F, (2, 0)), {}, TypeError, "memory of the CPU"),
    (Tracer(F), {}, TypeError, "transform"),
    (F + 1j, {"callback": print}, TypeError, "callback"),
    (F + 1j, {"boundary": unigrid.Dirichlet(1.0)}, TypeError, "f.real and f.imag"),
    (F + 1j, {"boundary": [("dirichlet", unigrid.Neumann(2.0)), "neumann"]}, TypeError, "f.real and f.imag"),
    (F + 1j, {"mask": F > 0, "outside": 2.0}, TypeError, "f.real and f.imag"),
]


@pytest.mark.parametrize(("f", "options", "error", "words"), REFUSED, ids=lambda value: type(value).__name__)
def test_what_is_refused_in_one_line(f, options, error, words):
    with pytest.raises(error, match=words) as caught:
        unigrid.solve(f, **options)
    assert "\n" not in str(caught.value)


class TestXarray:
    @pytest.fixture
    def labelled(self):
        xarray = pytest.importorskip("xarray")
        return xarray.DataArray(F, dims=("x", "y"), coords={"x": X, "y": Y}, attrs={"units": "K"}, name="heat")

    def test_coordinates_are_kept_and_units_of_f_are_not(self, labelled, u):
        found = unigrid.solve(labelled).u
        assert type(found) is type(labelled)
        assert found.dims == ("x", "y")
        assert found.coords.equals(labelled.coords)
        assert found.attrs == {}
        assert labelled.attrs == {"units": "K"}
        with sys.modules["xarray"].set_options(keep_attrs=True):
            kept = unigrid.solve(labelled).u
        kept.attrs["made"] = "new"
        assert kept.attrs == {"units": "K", "made": "new"}
        assert labelled.attrs == {"units": "K"}
        assert abs(found.values - u).max() < 1e-9

    def test_the_spacing_is_that_of_coordinates(self, labelled):
        own = labelled.assign_coords(x=3 * X[::-1], y=5 * Y)  # which may decrease
        assert np.allclose(unigrid.solve(own).u.values, unigrid.solve(F, spacing=[0.3, 0.5]).u, rtol=1e-8)
        assert np.array_equal(unigrid.solve(own, spacing=0.1).u.values, unigrid.solve(F, spacing=0.1).u)
        assert np.array_equal(unigrid.solve(own, lengths=(1, 2)).u.values, unigrid.solve(F, lengths=(1, 2)).u)
        single = own.assign_coords(x=(1e3 + 0.01 * np.arange(9)).astype("f4"), y=0.01 * np.arange(8))
        assert unigrid.solve(single).converged  # regular but for the last digits of float32

    def test_every_cycle_gives_them_back(self, labelled):
        for cycle in (unigrid.StencilCycle, unigrid.GalerkinCycle):
            found = cycle(unigrid.Poisson(F.shape)).solve(labelled, raise_on_failure=True).u
            assert found.coords.equals(labelled.coords)
        assert unigrid.Poisson(F.shape).rhs(labelled).coords.equals(labelled.coords)

    def test_a_variable_has_no_coordinates_and_is_an_array(self, labelled, u):
        assert np.array_equal(unigrid.solve(labelled.variable).u, u)

    def test_a_callback_sees_them(self, labelled):
        seen = []
        unigrid.solve(labelled, callback=lambda solution: seen.append(solution.u))
        assert seen
        assert all(each.dims == ("x", "y") for each in seen)

    def test_arguments_are_brought_to_the_order_of_f(self, labelled):
        c = abs(labelled)
        found = unigrid.solve(labelled, reaction=c.T, u0=labelled.T, coefficient=(1 + c).T).u
        wanted = unigrid.solve(labelled, reaction=c.values, u0=F, coefficient=1 + c.values).u
        assert np.array_equal(found, wanted)

    def test_what_is_refused(self, labelled):
        pandas = pytest.importorskip("pandas")
        cases = [
            (labelled.assign_coords(x=X**2), {}, "not regular"),
            (labelled.drop_vars("x"), {}, "none along x; give spacing"),
            (labelled.assign_coords(x=pandas.date_range("2020", periods=9)), {}, "no numbers"),
            (labelled[:1], {}, "one coordinate along x"),
            (labelled.to_dataset(), {}, "choose one of its variables"),
            (labelled, {"u0": labelled.assign_coords(x=2 * X)}, "different coordinates along 'x'"),
            (labelled, {"reaction": labelled.rename(x="z")}, "must have the dimensions of f"),
        ]
        for f, options, words in cases:
            with pytest.raises((TypeError, ValueError), match=words):
                unigrid.solve(f, **options)


class TestPandas:
    def test_labels_are_kept(self, u):
        pandas = pytest.importorskip("pandas")
        frame = pandas.DataFrame(F, columns=list("abcdefgh"))
        found = unigrid.solve(frame).u
        assert type(found) is type(frame)
        assert list(found.columns) == list("abcdefgh")
        assert np.array_equal(found.to_numpy(), u)
        series = pandas.Series(F[:, 0], index=2 * X, name="heat")
        found = unigrid.solve(series).u
        assert found.name == "heat"
        assert found.index.equals(series.index)
        assert np.array_equal(found.to_numpy(), unigrid.solve(F[:, 0].copy(), spacing=0.2).u)

    def test_numeric_labels_are_coordinates(self):
        pandas = pytest.importorskip("pandas")
        found = unigrid.solve(pandas.DataFrame(F, index=3 * X, columns=5 * Y)).u
        assert np.allclose(found.to_numpy(), unigrid.solve(F, spacing=[0.3, 0.5]).u, rtol=1e-8)
        with pytest.raises(ValueError, match="none along columns; give spacing"):
            unigrid.solve(pandas.DataFrame(F, index=X))

    def test_nullable_types(self):
        pandas = pytest.importorskip("pandas")
        whole = pandas.Series([1, 2, 3], dtype="Int64")
        assert np.array_equal(unigrid.solve(whole).u.to_numpy(), unigrid.solve(np.array([1.0, 2.0, 3.0])).u)
        for missing in (pandas.Series([1, None, 3], dtype="Int64"), pandas.Series([1.0, np.nan])):
            with pytest.raises(ValueError, match="fillna"):
                unigrid.solve(missing)
        with pytest.raises(TypeError, match="must hold real numbers"):
            unigrid.solve(pandas.DataFrame({"a": ["x", "y"]}))
