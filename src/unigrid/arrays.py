"""The gate between arrays of other libraries and the solver: array type in, array type out.

What a source f may be, and what u comes back as:

=====================================================  ===============================================================
f                                                      u
=====================================================  ===============================================================
numpy.ndarray float32, float64                         the same; nothing is converted
ndarray float16; integers, bool                        ndarray float32; float64
list, tuple, number, anything with ``__array__``       ndarray
complex ndarray                                        complex ndarray: two real problems, the Solution's `parts`
torch.Tensor                                           tensor, with gradients (`unigrid.tensors`)
array with ``__array_namespace__`` (JAX, ...)          an array of that library, on the CPU
cupy.ndarray                                           the same, on its GPU: by torch where that has CUDA, else by the host
xarray.DataArray                                       DataArray with the same dimensions and coordinates
pandas.Series, DataFrame                               the same, with the same labels
=====================================================  ===============================================================

Coordinates of a DataArray, and numeric labels of pandas objects, are where the unknowns are: where neither `spacing` nor
`lengths` is given, `spacing` is taken from them, and irregular ones are refused. A prepared cycle keeps its own grid.
Attributes, such as units of f, are not copied, as those of u are others; they are under `xarray.set_options(keep_attrs=True)`.

Each of `parts`, and the u that a callback gets, is of f's kind too; of a DataFrame's batch, a Series. A callback gets an array
of NumPy for a tensor that is solved for by NumPy's kernels.

`u0`, `reaction`, `coefficient`, `mask` and values of sides may be what f may be, but real, and tensors only beside a tensor. A
DataArray's are brought to the order of f's dimensions; other coordinates, or other labels of pandas objects, are refused.

Refused, with the way out: masked and missing values, longdouble, objects, text, categories, times, sparse matrices, arrays with
units, tensors without numbers; arrays other than CuPy's in the memory of a GPU where torch has no CUDA; complex f beside values
on sides, or beside a Nonlinear reaction. A `reaction` that has `__array__` or `__dlpack__` and nothing else is taken for no
number. Arguments that are arrays of CuPy are copied to the host.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from .device_arrays import CPU, as_tensor, device_of, on_host
from .iterate import raise_unless_converged
from .messages import refuse_lost_gradient, shown
from .solution import Solution, stacked
from .stencil.grid import Dirichlet, Neumann, Periodic, Robin, real_array, refuse_picture

Solver = Callable[..., Solution]
Back = Callable[[Any], Any]
ALIGNED = ("u0", "reaction", "coefficient", "mask", "outside")  # arguments of f's shape
CONDITIONS = (Dirichlet, Neumann, Robin, Periodic)
PLAIN = (str, bool, int, float)  # which hold nothing else
PRECISION = 1e-6  # of distances between coordinates, besides that of their numbers
COMPLEX = "complex numbers are solved as two real problems"


def rebuilt(value: Any, leaf: Callable[[Any], Any]) -> Any:
    """Return a value, its sequences, dictionaries and conditions on sides made anew of `leaf` of what is in them."""
    if value is None or type(value) in PLAIN:  # most keywords of most calls
        return value
    if type(value) in (list, tuple):
        return type(value)([rebuilt(each, leaf) for each in value])
    if type(value) is dict:
        return {name: rebuilt(each, leaf) for name, each in value.items()}
    if isinstance(value, CONDITIONS):
        return type(value)(*(rebuilt(each, leaf) for each in vars(value).values()))
    return leaf(value)


def library_of(value: Any) -> str:
    """Return the name of the library that a value's type, or one of its bases, comes from; "" for Python's and NumPy's own."""
    for base in type(value).__mro__:
        library = base.__module__.partition(".")[0]
        if library in ("torch", "xarray", "pandas", "scipy", "cupy"):
            return library
    return ""


def solve_any(solver: Solver, f: Any, options: dict[str, Any]) -> Solution:
    """Return `solver(f, **options)` for a source of any kind, u as an array of the same kind."""
    library = library_of(f)
    if library == "torch":
        return _solve_tensor(solver, f, options)
    if library in ("", "cupy") and (on_gpu := as_tensor(f)) is not None:
        return _solve_on_gpu(solver, *on_gpu, options)
    f, back, own = _opened(f, library, options)
    if isinstance(f, np.ndarray) and f.dtype.kind == "c":
        solution = _solve_complex(solver, f, own)
    else:
        solution = solver(f, **_watched(own, back))
    return _given_back(solution, back)


def numbers_of(value: Any, name: str) -> Any:
    """Return an argument as what NumPy can read: numbers of pandas and DLPack. Raises TypeError, ValueError."""
    library = library_of(value)
    if library == "torch":
        precision = ".float()" if str(getattr(value, "dtype", "")) == "torch.bfloat16" else ""  # which NumPy lacks
        way_out = f"{name if name.isidentifier() else 'tensor'}.detach().cpu(){precision}.numpy()"
        raise TypeError(f"{name} must be a NumPy array, got a {type(value).__name__}; give {way_out}")
    if np.ma.is_masked(value):
        raise TypeError(f"{name} has masked values, which have no meaning here; fill them first, with {name}.filled(value)")
    _refuse_more_than_numbers(value, library, name)
    if library == "pandas" and hasattr(value, "index"):
        return _pandas_numbers(value, name)
    if library == "cupy":
        return value.get()
    if hasattr(value, "__dlpack__") and not hasattr(value, "__array__"):
        return _from_dlpack(value, name)
    return value


def _refuse_more_than_numbers(value: Any, library: str, name: str) -> None:
    """Raise TypeError for sparse matrices, several arrays in one, and numbers with units."""
    if library == "scipy":
        raise TypeError(f"{name} must be an array, got a SciPy {type(value).__name__}; give {name}.toarray()")
    if library == "xarray" and isinstance(value, sys.modules["xarray"].Dataset):
        raise TypeError(f"{name} must be an array, got an xarray Dataset; choose one of its variables")
    if library == "" and (hasattr(value, "unit") or hasattr(value, "units")):
        kind = type(value).__name__
        raise TypeError(f"{name} carries units, which the solver would lose, got {kind}; give its numbers, {name}.value")


def mapped(function: Callable[[Any], Any], f: Any) -> Any:
    """Return a linear function of an array of any kind, as an array of the same kind."""
    library = library_of(f)
    if library == "torch":
        raise TypeError("f is a tensor, whose gradients only `solve` has; give f.detach().numpy()")
    array, back, _ = _opened(f, library, {})
    if array.dtype.kind == "c":
        raise TypeError(
            f"f must be an array of real numbers, got dtype {array.dtype}; give f.real and f.imag, one after the other"
        )
    return back(function(array))


def _solve_tensor(solver: Solver, f: Any, options: dict[str, Any]) -> Solution:
    from .tensors.solving import solve_tensors

    if f.is_complex():
        import torch

        _refuse_for_complex(solver, options)
        parts = [_solve_tensor(solver, getattr(f, name), _part_of(options, name)) for name in ("real", "imag")]
        return _joined(parts, torch.complex(parts[0].u, parts[1].u), options)
    return solve_tensors(solver, f, options)


def _solve_on_gpu(solver: Solver, f: Any, back: Back, options: dict[str, Any]) -> Solution:
    """Solve for an array that is a tensor in the memory of a GPU."""
    try:
        solution = _solve_tensor(solver, f, _watched(_copied_to_host(options), back))
    except (TypeError, ValueError) as error:  # of what the GPU has no kernels for
        raise type(error)(str(error).replace("f.cpu()", "f.get()")) from None
    refuse_lost_gradient("an argument", solution.u)
    return _given_back(solution, back)


def _copied_to_host(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options without arrays of CuPy."""
    return rebuilt(options, lambda each: each.get() if library_of(each) == "cupy" else each)  # type: ignore[no-any-return]


def _solve_complex(solver: Solver, f: np.ndarray, options: dict[str, Any]) -> Solution:
    _refuse_for_complex(solver, options)
    parts = [solver(getattr(f, name).copy(), **_part_of(options, name)) for name in ("real", "imag")]
    return _joined(parts, parts[0].u + 1j * parts[1].u, options)


def _refuse_for_complex(solver: Solver, options: dict[str, Any]) -> None:
    """Raise TypeError where u of a complex f is not one real problem for each part, with the same options."""
    if options.get("callback") is not None:
        raise TypeError(f"{COMPLEX}, which a callback cannot watch as one; leave out callback, or solve for each part")
    problem = getattr(getattr(solver, "__self__", options.get("cycle")), "problem", None)
    if type(options.get("reaction")).__name__ == "Nonlinear" or getattr(problem, "nonlinear", None) is not None:
        raise TypeError("a Nonlinear reaction couples the parts of a complex u, which no cycle solves; give a real f")
    if _has_values(options) or (problem is not None and np.any(problem.rhs(np.zeros(problem.shape)))):
        raise TypeError(f"{COMPLEX}, and values on sides or outside belong to one of them; solve for f.real and f.imag")


def _part_of(options: dict[str, Any], name: str) -> dict[str, Any]:
    """Return the options for the real or the imaginary part of u."""
    own = options | {"raise_on_failure": False}
    if own.get("u0") is not None:
        own["u0"] = getattr(_read(_detached(own["u0"]), "u0"), name)
    return own


def _detached(value: Any) -> Any:
    return value.detach().to_dense().cdouble().resolve_conj().cpu().numpy() if library_of(value) == "torch" else value


def _is_zero(value: Any) -> bool:
    return not np.any(np.asarray(_detached(value)))


def _has_values(options: dict[str, Any]) -> bool:
    """Whether values on sides, outside of a mask or at fixed points are given."""
    outside = options.get("outside")
    is_zero = outside is None or isinstance(outside, str) or _is_zero(outside)
    sides = options.get("boundary")
    entries = list(sides) if isinstance(sides, (tuple, list)) else [sides]
    flat = [each for entry in entries for each in (entry if isinstance(entry, (tuple, list)) else [entry])]
    given = any(not _is_zero(getattr(side, "value", 0.0)) for side in flat)
    return given or not is_zero or options.get("fixed") is not None


def _joined(parts: list[Solution], u: Any, options: dict[str, Any]) -> Solution:
    solution = stacked(parts, u)
    return raise_unless_converged(solution) if options.get("raise_on_failure", True) else solution


def _opened(f: Any, library: str, options: dict[str, Any]) -> tuple[Any, Back, dict[str, Any]]:
    """Return f as NumPy, how u becomes what f was, and the options, with what f tells of the grid."""
    _refuse_more_than_numbers(f, library, "f")
    if library == "xarray" and isinstance(f, sys.modules["xarray"].DataArray):
        return _of_xarray(f, options)
    if library == "pandas":
        return _of_pandas(f, options)
    if isinstance(f, np.ndarray):
        refuse_picture(f, options.get("channels"))
        return _plain(f), _as_it_is, options
    if library == "cupy":
        array, back = on_host(f)
        return _opened(array, "", _copied_to_host(options))[0], back, _copied_to_host(options)
    if hasattr(f, "__array_namespace__"):
        return _of_namespace(f, options)
    if hasattr(f, "__dlpack__") and not hasattr(f, "__array__"):
        return _plain(_from_dlpack(f)), _as_it_is, options
    refuse_picture(f, options.get("channels"))
    return _plain(_read(f)), _as_it_is, options


def _read(f: Any, name: str = "f") -> np.ndarray:
    """Return what NumPy makes of a list, a number, or what has `__array__`. Raises TypeError or ValueError."""
    f = numbers_of(f, name)
    try:
        return np.asarray(f)
    except Exception as error:  # rows of different lengths, tensors among the entries, an `__array__` that fails
        kind = ValueError if isinstance(error, ValueError) else TypeError
        raise kind(f"{name} must be an array of real numbers, its rows of one length, got {shown(f)}") from None


def _plain(f: np.ndarray) -> np.ndarray:
    """Return an array of float32, float64, complex64 or complex128, without what a subclass adds. Raises TypeError."""
    if f.dtype.kind == "f" and f.dtype.itemsize > 8:
        raise TypeError(f"f must be float32 or float64, got {f.dtype}, which no kernel has; give f.astype(float)")
    if f.dtype.kind == "c":
        if f.dtype.itemsize > 16:
            raise TypeError(f"f must be complex64 or complex128, got {f.dtype}; give f.astype(complex)")
        return np.asarray(f)
    if f.dtype.kind in "OSUmMV":
        reason = {"m": "times", "M": "times", "O": "objects", "V": "records"}.get(f.dtype.kind, "text")
        raise TypeError(f"f must be an array of real numbers, got {reason} of dtype {f.dtype}; give numpy.asarray(f, float)")
    return np.asarray(real_array(f, "f"))


def _as_it_is(u: Any) -> Any:
    return u


def _refuse_other_memory(f: Any, name: str) -> None:
    if device_of(f) != CPU:
        raise TypeError(f"{name}, a {type(f).__name__}, is not in the memory of the CPU; give a copy that is")


def _from_dlpack(f: Any, name: str = "f") -> np.ndarray:
    _refuse_other_memory(f, name)
    try:
        return np.from_dlpack(f)
    except Exception as error:
        reason = f"{name}, a {type(f).__name__}, cannot be read by NumPy ({_line(error)})"
        raise TypeError(f"{reason}; give it as a NumPy array") from None


def _of_namespace(f: Any, options: dict[str, Any]) -> tuple[Any, Back, dict[str, Any]]:
    """Open an array of the Python array API's standard."""
    namespace = f.__array_namespace__()
    kind = type(f).__name__
    _refuse_other_memory(f, "f")
    try:
        array = np.asarray(f) if hasattr(f, "__array__") else _from_dlpack(f)
    except Exception as error:
        if "Tracer" in kind:
            reason = f"f stands for an array inside a transform ({kind}), and has no numbers"
            raise TypeError(f"{reason}; call the solver outside, or by jax.pure_callback ({_line(error)})") from None
        raise TypeError(f"f, a {kind}, cannot be read by NumPy ({_line(error)}); give it as a NumPy array") from None
    if array.dtype.kind == "V":  # bfloat16, which NumPy does not have
        array = array.astype(np.float32)
    return _plain(array), namespace.asarray, options


def _line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:120]


# Labelled arrays


def _of_xarray(f: Any, options: dict[str, Any]) -> tuple[Any, Back, dict[str, Any]]:
    own = options | {name: _aligned(options[name], f, name) for name in (*ALIGNED, "boundary") if name in options}

    def labels() -> dict[str, np.ndarray | None]:
        variables = f.coords.variables
        return {str(name): variables[name].values if name in variables else None for name in f.dims}

    def back(u: Any) -> Any:
        others = f.dims[-1:] if options.get("channels") else f.dims[: f.ndim - u.ndim]
        alike = f if u.ndim == f.ndim else f.isel(dict.fromkeys(others, 0), drop=True)
        found = alike.__array_wrap__(u)  # NumPy's protocol: u with dimensions, coordinates and name, a sixth of copy's time
        if sys.modules["xarray"].get_options()["keep_attrs"] is True:
            found.attrs = f.attrs
        return found

    return _plain(np.asarray(f.values)), back, _with_spacing(own, labels)


def _aligned(value: Any, f: Any, name: str) -> Any:
    """Return an argument's arrays with their dimensions in the order of f's. Raises ValueError where coordinates differ."""
    if name == "boundary" or (name in ALIGNED and isinstance(value, (tuple, list))):
        return _in_order(value, f, name)
    if name not in ALIGNED or library_of(value) != "xarray" or not hasattr(value, "coords"):
        return value
    for dim in f.dims:
        if dim in f.coords and dim in value.coords and not np.array_equal(f.coords[dim].values, value.coords[dim].values):
            raise ValueError(
                f"{name} and f have different coordinates along {dim!r}; bring them to one grid, by .interp_like(f)"
            )
    return _in_order(value, f, name)


def _in_order(value: Any, f: Any, name: str) -> Any:
    """Return a DataArray, or those of a sequence or a side, as arrays with the order of f's dimensions."""

    def leaf(each: Any) -> Any:
        if library_of(each) != "xarray" or not hasattr(each, "dims") or hasattr(each, "data_vars"):
            return each
        if not set(each.dims) <= set(f.dims):
            raise ValueError(f"{name} must have the dimensions of f, {f.dims}, got {each.dims}; rename them, by .rename")
        return each.transpose(*(dim for dim in f.dims if dim in each.dims)).values

    return rebuilt(value, leaf)


def _of_pandas(f: Any, options: dict[str, Any]) -> tuple[Any, Back, dict[str, Any]]:
    if not hasattr(f, "index"):
        return np.asarray(f), _as_it_is, options
    axes = {"index": f.index} | ({"columns": f.columns} if f.ndim == 2 else {})
    for name in ALIGNED:
        _refuse_other_labels(options.get(name), f, name)

    def back(u: Any) -> Any:
        if f.ndim == u.ndim:
            return type(f)(u, **axes, **({} if f.ndim == 2 else {"name": f.name}))
        return type(f.iloc[:, 0])(u, index=f.index if options.get("channels") else f.columns)  # one of a batch of 1-D sources

    return (
        _plain(_pandas_numbers(f, "f")),
        back,
        _with_spacing(options, lambda: {name: _labels(axis) for name, axis in axes.items()}),
    )


def _refuse_other_labels(value: Any, f: Any, name: str) -> None:
    """Raise ValueError for an argument that has f's shape and other labels, or f's in another order."""
    if library_of(value) != "pandas" or getattr(value, "shape", None) != f.shape or not hasattr(value, "index"):
        return
    if not all(own.equals(others) for own, others in zip(value.axes, f.axes, strict=True)):
        raise ValueError(f"{name} and f have different labels; give {name}.reindex_like(f), or {name}.to_numpy()")


def _pandas_numbers(f: Any, name: str) -> np.ndarray:
    """Return the numbers of a Series or DataFrame. Raises ValueError for missing ones, and TypeError for what are none."""
    dtypes = set(f.dtypes.values) if f.ndim == 2 else {f.dtype}
    wrong = [each for each in dtypes if each.kind not in "biufcmM"]  # text that looks like numbers too
    if wrong:
        raise TypeError(f"{name} must hold real numbers, got dtype {wrong[0]}; give {name}.astype(float)")
    native = all(isinstance(each, np.dtype) for each in dtypes)
    array = f.to_numpy() if native else None
    if (array is None or not np.isfinite(array).all()) and f.isna().to_numpy().any():
        raise ValueError(f"{name} has missing values; fill them first, by {name}.fillna(value) or {name}.interpolate()")
    return f.to_numpy(dtype=float) if array is None else array  # type: ignore[no-any-return]


def _labels(axis: Any) -> np.ndarray | None:
    """Return labels that are coordinates; None for names, and for numbers that pandas gave by itself."""
    numbered = type(axis).__name__ == "RangeIndex" and axis.start == 0 and axis.step == 1
    values = np.asarray(axis)
    return None if numbered or values.dtype.kind not in "iufmM" else values


def _with_spacing(options: dict[str, Any], labels_of: Callable[[], Mapping[str, np.ndarray | None]]) -> dict[str, Any]:
    """Return the options with the spacing of coordinates, where they have none of their own. Raises ValueError."""
    own_grid = any(options.get(name) is not None for name in ("spacing", "lengths"))
    if own_grid or "boundary" not in options or hasattr(options.get("cycle"), "problem"):
        return options
    batch_dims = options.get("batch_dims", 0)
    end = -1 if options.get("channels") else None
    labels = dict(list(labels_of().items())[batch_dims if type(batch_dims) is int else 0 : end])
    known = {name: values for name, values in labels.items() if values is not None}
    if not known:
        return options
    missing = [name for name in labels if name not in known]
    if missing:
        raise ValueError(f"f has coordinates along {', '.join(known)} and none along {', '.join(missing)}; give spacing")
    return options | {"spacing": [_distance(name, values) for name, values in known.items()]}


def _distance(name: str, values: np.ndarray) -> float:
    """Return the distance of regular coordinates. Raises ValueError for others."""
    if values.dtype.kind not in "iuf":
        raise ValueError(f"coordinates along {name} are no numbers ({values.dtype}); give spacing or lengths")
    if len(values) < 2:
        raise ValueError(f"one coordinate along {name} does not tell a distance; give spacing or lengths")
    steps = values[1:].astype(float) - values[:-1]
    h, eps = float(steps.mean()), float(np.finfo(values.dtype).eps) if values.dtype.kind == "f" else 0.0
    allowed = PRECISION * abs(h) + 4.0 * eps * max(abs(float(values[0])), abs(float(values[-1])))
    if not math.isfinite(h) or h == 0.0 or max(float(steps.max()) - h, h - float(steps.min())) > allowed:
        raise ValueError(
            f"coordinates along {name} are not regular, {steps.min():.6g} to {steps.max():.6g} apart; give spacing, which "
            "takes distances too, and ends at the sides"
        )
    return abs(h)


# The way back


def _watched(options: dict[str, Any], back: Back) -> dict[str, Any]:
    callback = options.get("callback")
    if callback is None or back is _as_it_is:
        return options
    return options | {"callback": lambda solution: callback(_given_back(solution, back))}


def _given_back(solution: Solution, back: Back) -> Solution:
    if back is _as_it_is:
        return solution
    return replace(solution, u=back(solution.u), parts=tuple(_given_back(part, back) for part in solution.parts))
