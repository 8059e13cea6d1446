"""Arrays by name from files of other programs: MATLAB, HDF5, NetCDF.

MATLAB up to version 7 and NetCDF 3 are read by SciPy; HDF5, NetCDF 4 and MATLAB 7.3, which are HDF5, by h5py.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from .messages import choose
from .tables import ContentError, Field, evenly_spaced

Array = NDArray[Any]
HDF5 = b"\x89HDF\r\n\x1a\n"
MATLAB_NUMBERS = ("double", "single", "logical", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")


def chosen(names: list[str], name: str | None) -> str:
    """Return the name of the wanted array, which may be left out where there is only one. Raises ContentError."""
    if name is None and len(names) != 1:
        found = ", ".join(names) or "none"
        raise ContentError(
            f"holds {len(names)} arrays, {found}; choose one with --array, or as FILE#NAME for --u0 and --boundary"
        )
    try:
        return names[0] if name is None else choose(name, names, "array")
    except ValueError as error:
        raise ContentError(str(error)) from None


def read_npz(file: BinaryIO, name: str | None) -> Field:
    """Return an array of an archive of NumPy's."""
    if file.read(2) != b"PK":
        raise ValueError("it does not begin as one")
    file.seek(0)
    with np.load(file, allow_pickle=False) as archive:
        return Field(archive[chosen(archive.files, name)])


def read_mat(file: BinaryIO, name: str | None) -> Field:
    """Return a matrix of a MATLAB file; a single row or column, which is MATLAB's vector, as one axis."""
    if b"MATLAB 7.3" in file.read(128):
        with _hdf5(file) as content:
            names = [each for each, found in content.items() if _decoded(found.attrs.get("MATLAB_class")) in MATLAB_NUMBERS]
            array = np.asarray(content[chosen(names, name)]).T  # stored by columns
    else:
        from scipy.io import loadmat, whosmat

        file.seek(0)
        wanted = chosen([each for each, _, kind in whosmat(file) if kind in MATLAB_NUMBERS], name)
        file.seek(0)
        array = loadmat(file, variable_names=[wanted])[wanted]
    return Field(array.ravel() if array.ndim == 2 and 1 in array.shape else array)


def read_hdf5(file: BinaryIO, name: str | None) -> Field:
    """Return a data set of an HDF5 file, named by its path."""
    with _hdf5(file) as content:
        found = _datasets(content)
        return Field(_unpacked(found[chosen(list(found), name)]))


def read_netcdf(file: BinaryIO, name: str | None) -> Field:
    """Return a variable of a NetCDF file, with the spacing of its coordinates; missing values become NaN.

    Raises
    ------
    ContentError
        Where a coordinate is not evenly spaced.
    """
    if file.read(3) == b"CDF":
        from scipy.io import netcdf_file

        file.seek(0)
        with netcdf_file(file, mmap=False, maskandscale=True) as content:
            kept = {each: found for each, found in content.variables.items() if found.data.dtype.kind in "iuf"}
            values = {each: _filled(found[:]) for each, found in kept.items() if found.dimensions}
            axes = {each: tuple(content.variables[each].dimensions) for each in values}
    else:
        file.seek(0)
        with _hdf5(file) as content:
            found = {each: dataset for each, dataset in _datasets(content).items() if not _is_bare_dimension(dataset)}
            axes = {each: _dimensions(each, dataset) for each, dataset in found.items()}
            values = {each: _unpacked(dataset) for each, dataset in found.items()}
    wanted = chosen([each for each in values if axes[each] != (each,) and values[each].ndim], name)
    spacing = tuple(_spacing(values, axis) for axis in axes[wanted])
    return Field(values[wanted], spacing if any(spacing) else None)


def _spacing(values: Mapping[str, Array], axis: str) -> float | None:
    """Return the distance of the points along an axis; None without coordinates, or with one alone, or where it is time."""
    if axis not in values or values[axis].size < 2 or axis.rpartition("/")[2].lower() == "time":
        return None
    places, _, h = evenly_spaced(values[axis], axis)
    if not (np.diff(places) == 1).all() and not (np.diff(places) == -1).all():
        raise ContentError(f"coordinate {axis} neither rises nor falls all along")
    return h


@contextlib.contextmanager
def _hdf5(file: BinaryIO) -> Iterator[Any]:
    try:
        h5py = importlib.import_module("h5py")
    except ImportError:
        raise ContentError("is HDF5, which needs h5py: pip install 'unigrid[io]'") from None
    with h5py.File(file, "r") as content:
        yield content


def _datasets(content: Any) -> dict[str, Any]:
    """Return the data sets of numbers that have axes, by path."""
    found: dict[str, Any] = {}

    def visit(name: str, each: Any) -> None:
        if getattr(each, "dtype", None) is not None and each.dtype.kind in "biuf" and each.shape:
            found[name] = each

    content.visititems(visit)
    return found


def _is_bare_dimension(dataset: Any) -> bool:
    """Whether it only declares the length of a dimension, as NetCDF stores one without coordinates."""
    return _decoded(dataset.attrs.get("NAME")).startswith("This is a netCDF dimension but not a netCDF variable")


def _dimensions(name: str, dataset: Any) -> tuple[str, ...]:
    if _decoded(dataset.attrs.get("CLASS")) == "DIMENSION_SCALE":
        return (name,)
    return tuple(axis[0].name.lstrip("/") if len(axis) else "" for axis in dataset.dims)


def _unpacked(dataset: Any) -> Array:
    """Return the values with the scale, offset and missing values that their attributes declare."""
    array, attributes = np.asarray(dataset), dataset.attrs
    values = array
    if "scale_factor" in attributes or "add_offset" in attributes:
        scale, offset = attributes.get("scale_factor", 1.0), attributes.get("add_offset", 0.0)
        values = array * np.ravel(scale)[0] + np.ravel(offset)[0]
    absent = [np.ravel(attributes[name]) for name in ("_FillValue", "missing_value") if name in attributes]
    mask = np.isin(array, np.concatenate(absent)) if absent else np.zeros(array.shape, bool)
    return _filled(np.ma.masked_array(values, mask)) if mask.any() else values


def _filled(values: Array) -> Array:
    """Return an array with NaN in place of masked values."""
    if not np.ma.is_masked(values):
        return np.asarray(values)
    return np.ma.filled(values if values.dtype.kind == "f" else values.astype(np.float64), np.nan)


def _decoded(text: Any) -> str:
    return text.decode("latin-1") if isinstance(text, bytes) else str(text or "")
