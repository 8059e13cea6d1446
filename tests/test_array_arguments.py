"""Arrays of other libraries as arguments beside f, as complex sources, and in batches."""

import numpy as np
import pytest
import scipy.sparse

import unigrid

F = np.random.default_rng(0).standard_normal((9, 9))
C = 1.0 + F**2
CUBE = unigrid.Nonlinear(lambda u: u**3, lambda u: 3 * u**2)


class WithDlpack:
    """What has `__dlpack__` and nothing else."""

    def __init__(self, array):
        self.array = array

    def __dlpack__(self, **options):
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self):
        return 1, 0


def refused(error, words, f, **options):
    with pytest.raises(error, match=words) as caught:
        unigrid.solve(f, **options)
    assert "\n" not in str(caught.value)


class TestComplex:
    """One solve for each part is right where the problem is linear, and its values are zero."""

    @pytest.mark.parametrize("library", ["numpy", "torch"])
    def test_a_nonlinear_reaction_is_refused(self, library):
        f = F + 1j * F if library == "numpy" else pytest.importorskip("torch").tensor(F + 1j * F)
        refused(TypeError, "couples the parts .* real f", f, reaction=CUBE)
        problem = unigrid.Poisson(F.shape, reaction=CUBE)
        for cycle in (unigrid.FASCycle, unigrid.NewtonCycle):
            with pytest.raises(TypeError, match="couples the parts"):
                cycle(problem).solve(f)

    def test_values_of_a_prepared_cycle_are_refused(self):
        cycle = unigrid.StencilCycle(unigrid.Poisson(F.shape, boundary=unigrid.Dirichlet(1.0)))
        for solve in (cycle.solve, lambda f: unigrid.solve(f, cycle=cycle)):
            with pytest.raises(TypeError, match=r"f.real and f.imag"):
                solve(F + 1j * F)

    def test_tensors_beside_a_complex_tensor(self):
        torch = pytest.importorskip("torch")
        f = torch.tensor(F + 2j * F)
        found = unigrid.solve(f, u0=torch.tensor(F + 1j * F, requires_grad=True)).u
        assert np.allclose(found.numpy(), unigrid.solve(F + 2j * F).u, atol=1e-7)
        value = unigrid.Dirichlet(torch.tensor(1.0, requires_grad=True))
        refused(TypeError, r"f.real and f.imag", f, boundary=value)
        zero = unigrid.Dirichlet(torch.tensor(0.0))
        assert torch.allclose(unigrid.solve(f, boundary=zero).u, unigrid.solve(f).u, atol=1e-7)


@pytest.mark.parametrize("name", ["u0", "reaction", "coefficient"])
def test_what_is_no_array_of_numbers_says_what_to_give(name):
    torch = pytest.importorskip("torch")
    for value, error, words in (
        (C.astype(np.longdouble), TypeError, "give numpy.asarray"),
        (C.astype(complex), TypeError, "real"),
        (C.astype(object), TypeError, "give numpy.asarray"),
        (C.astype(str), TypeError, "give numpy.asarray"),
        (np.ma.masked_greater(C, 1.5), TypeError, "filled"),
        (scipy.sparse.csr_array(C), TypeError, "toarray"),
        (torch.tensor(C).bfloat16(), TypeError, r"detach\(\).cpu\(\).float\(\).numpy"),
    ):
        refused(error, words, F, **{name: value})


class OnDevice(WithDlpack):
    """An array of the array API's standard in other memory, whose `__array__` fails as CuPy's."""

    device = 2

    def __array_namespace__(self):
        return np

    def __array__(self, dtype=None, copy=None):
        raise TypeError("Implicit conversion to a NumPy array is not allowed.\nUse get()")

    def __dlpack_device__(self):
        return self.device, 0


class Deleted(OnDevice):
    """An array whose memory is gone."""

    device = 1

    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("Array has been deleted.")


def test_arrays_without_memory_of_the_cpu_are_refused():
    refused(TypeError, "not in the memory of the CPU; give a copy", OnDevice(F))
    refused(TypeError, "has been deleted.*; give it as a NumPy array", Deleted(F))


def test_dlpack_arrays_beside_f():
    found = unigrid.solve(F, u0=WithDlpack(F), boundary=[unigrid.Dirichlet(WithDlpack(F[0])), "dirichlet"])
    assert np.array_equal(found.u, unigrid.solve(F, u0=F, boundary=[unigrid.Dirichlet(F[0]), "dirichlet"]).u)


@pytest.mark.parametrize("kind", ["float16", "bfloat16", "int64", "bool", "float32", "float64"])
def test_precisions_of_tensors(kind):
    torch = pytest.importorskip("torch")
    f = torch.tensor(10 * F).to(getattr(torch, kind))
    wanted = torch.float32 if f.dtype.is_floating_point and kind != "float64" else torch.float64
    found = unigrid.solve(f).u
    assert found.dtype == wanted
    assert np.array_equal(found.numpy(), unigrid.solve(f.to(wanted).numpy()).u)


def test_tensors_without_numbers_are_refused():
    torch = pytest.importorskip("torch")
    refused(TypeError, "'meta'.* give a tensor on the CPU", torch.zeros(9, 9, device="meta"))
    refused(TypeError, "to_dense", torch.tensor(F).to_sparse())


class TestPandas:
    @pytest.fixture
    def pandas(self):
        return pytest.importorskip("pandas")

    def test_text_that_looks_like_numbers_is_refused(self, pandas):
        for dtype in (str, object, "category"):
            refused(TypeError, "give f.astype", pandas.DataFrame(F).astype(dtype))

    def test_labels_of_arguments_are_those_of_f(self, pandas):
        f = pandas.DataFrame(F, index=list("abcdefghi"))
        c = pandas.DataFrame(C, index=f.index)
        assert np.array_equal(unigrid.solve(f, reaction=c).u.to_numpy(), unigrid.solve(F, reaction=C).u)
        refused(ValueError, "reindex_like", f, reaction=c[::-1])
        found = unigrid.solve(f, reaction=c[::-1].reindex_like(f))
        assert np.array_equal(found.u.to_numpy(), unigrid.solve(F, reaction=C).u)

    def test_nullable_types_beside_f(self, pandas):
        whole = pandas.DataFrame(np.arange(81).reshape(9, 9), dtype="Int64")
        found = unigrid.solve(F, u0=whole, reaction=whole)
        assert np.array_equal(found.u, unigrid.solve(F, u0=whole.to_numpy(float), reaction=whole.to_numpy(float)).u)
        for name in ("u0", "reaction", "coefficient"):
            refused(ValueError, f"{name}.fillna", F, **{name: whole.mask(whole == 3)})

    @pytest.mark.parametrize(("options", "axis"), [({"batch_dims": 1}, 1), ({"channels": "last"}, 0)])
    def test_each_of_a_batch_is_a_series(self, pandas, options, axis):
        frame = pandas.DataFrame(F[:4], index=list("abcd"), columns=0.1 * np.arange(1, 10))
        solution = unigrid.solve(frame if axis else frame.T, **options)
        for part, f in zip(solution.parts, F, strict=False):
            assert part.u.index.equals(frame.columns)
            assert np.allclose(part.u.to_numpy(), unigrid.solve(f, spacing=0.1).u, rtol=1e-7)


class TestXarray:
    @pytest.fixture
    def labelled(self):
        xarray = pytest.importorskip("xarray")
        places = {"x": 0.1 * np.arange(9), "y": 0.2 * np.arange(9), "t": ["a", "b", "c"]}
        return xarray.DataArray(np.stack([F, F.T, C]), dims=("t", "x", "y"), coords=places)

    @pytest.mark.parametrize("channels", [False, True])
    def test_each_of_a_batch_has_coordinates(self, labelled, channels):
        seen = []
        f = labelled.transpose("x", "y", "t") if channels else labelled
        options = {"channels": "last"} if channels else {"batch_dims": 1}
        solution = unigrid.solve(f, callback=lambda each: seen.append(each.u), **options)
        for number, part in enumerate(solution.parts):
            wanted = unigrid.solve(labelled[number].drop_vars("t")).u
            assert part.u.coords.equals(wanted.coords)
            assert np.allclose(part.u.values, wanted.values, rtol=1e-7)
            assert np.array_equal(part.u.values, solution.u.isel(t=number).values)
        assert all(each.dims == ("x", "y") for each in seen)

    def test_arrays_of_sides_are_brought_to_the_order_of_f(self, labelled):
        f = labelled.drop_vars("t")
        g = f[0]
        values, transposed = (
            [unigrid.Dirichlet(each), "dirichlet", ("neumann", unigrid.Neumann(0.0))] for each in (g.values, g.T)
        )
        found = unigrid.solve(f, boundary=transposed, spacing=0.1)
        assert np.array_equal(found.u.values, unigrid.solve(f.values, boundary=values, spacing=0.1).u)
        refused(ValueError, "dimensions of f", f, boundary=unigrid.Dirichlet(g.rename(x="z")), spacing=0.1)
