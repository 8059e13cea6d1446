"""`kernels.of` returns the backend of an array, which has all primitives; other types are refused by name."""

import numpy as np
import pytest

from unigrid.stencil import kernels


def test_numpy_arrays_have_a_backend_with_all_primitives():
    backend = kernels.of(np.ones(3))
    primitives = [name for name in vars(kernels.Backend) if not name.startswith("_")]
    assert len(primitives) == 19
    assert all(callable(getattr(backend, name)) for name in primitives)


@pytest.mark.parametrize(("array", "kind"), [([1.0, 2.0], "builtins.list"), (None, "builtins.NoneType")])
def test_other_arrays_are_refused(array, kind):
    with pytest.raises(TypeError, match=f"no kernels for arrays of type {kind}; supported: numpy.ndarray, torch.Tensor"):
        kernels.of(array)
