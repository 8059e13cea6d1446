"""Arrays by name from MATLAB, HDF5 and NetCDF files."""

import numpy as np
import pytest
import scipy.io

from unigrid.files import FileError, read_array, read_field


@pytest.fixture
def array(rng):
    return rng.standard_normal((6, 5))


@pytest.fixture
def h5py():
    return pytest.importorskip("h5py")


def netcdf3(path, array, x, **attributes):
    with scipy.io.netcdf_file(path, "w") as file:
        for name, size in zip("xy", array.shape, strict=True):
            file.createDimension(name, size)
        file.createVariable("x", "d", ("x",))[:] = x
        file.createVariable("y", "d", ("y",))[:] = 0.5 * np.arange(array.shape[1])
        f = file.createVariable("f", array.dtype.char, ("x", "y"))
        f[:] = array
        for name, value in attributes.items():
            setattr(f, name, value)


@pytest.mark.parametrize("kind", [float, np.float32, np.int16, bool])
def test_matlab(tmp_path, array, kind):
    scipy.io.savemat(tmp_path / "a.mat", {"f": (10 * array).astype(kind), "title": "no numbers"})
    assert np.array_equal(read_array(tmp_path / "a.mat"), (10 * array).astype(kind))


def test_a_vector_of_matlab_is_one_axis(tmp_path):
    scipy.io.savemat(tmp_path / "a.mat", {"row": np.ones((1, 7)), "column": np.ones((7, 1))})
    assert read_array(tmp_path / "a.mat", "row").shape == read_array(tmp_path / "a.mat", "column").shape == (7,)
    with pytest.raises(FileError, match="holds 2 arrays, row, column; choose one with --array"):
        read_array(tmp_path / "a.mat")
    with pytest.raises(FileError, match="did you mean 'column'"):
        read_array(tmp_path / "a.mat", "colum")


def test_netcdf_brings_its_spacing(tmp_path, array):
    netcdf3(tmp_path / "a.nc", array, 2.0 * np.arange(6))
    field = read_field(tmp_path / "a.nc")
    assert np.array_equal(field.values, array)
    assert field.spacing == (2.0, 0.5)


def test_netcdf_packed_with_missing_values(tmp_path):
    packed = np.arange(12, dtype=np.int16).reshape(4, 3)
    netcdf3(tmp_path / "a.nc", packed, np.arange(4.0)[::-1], scale_factor=0.5, add_offset=1.0, missing_value=np.int16(7))
    expected = 0.5 * packed + 1.0
    expected[2, 1] = np.nan
    field = read_field(tmp_path / "a.nc", "f")
    assert np.array_equal(field.values, expected, equal_nan=True)
    assert field.spacing == (1.0, 0.5)


def test_netcdf_with_uneven_coordinates_is_refused(tmp_path, array):
    netcdf3(tmp_path / "a.nc", array, np.arange(6.0) ** 2)
    with pytest.raises(FileError, match="coordinate x is not evenly spaced: its steps are 1 to 9"):
        read_field(tmp_path / "a.nc")


@pytest.mark.parametrize("x", [[0, 2, 1, 3, 4, 5], [0, 1, 1, 2, 3, 4]])
def test_netcdf_with_coordinates_out_of_order_is_refused(tmp_path, array, x):
    netcdf3(tmp_path / "a.nc", array, np.array(x, float))
    with pytest.raises(FileError, match="coordinate x neither rises nor falls all along"):
        read_field(tmp_path / "a.nc")


@pytest.mark.parametrize("ending", [".mat", ".nc", ".h5", ".hdf5"])
@pytest.mark.parametrize("content", [b"no such format", b"\x89HDF\r\n\x1a\n", b"CDF\x01 and no more", bytes(300)])
def test_damaged_files_are_one_line(tmp_path, ending, content):
    path = tmp_path / f"a{ending}"
    path.write_bytes(content)
    with pytest.raises(FileError) as error:
        read_array(path)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


def test_hdf5(tmp_path, array, h5py):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["group/f"] = array
        file["group/title"] = "no numbers"
        file["scalar"] = 3.0
    assert np.array_equal(read_array(tmp_path / "a.h5"), array)
    assert np.array_equal(read_array(tmp_path / "a.h5", "group/f"), array)


def test_matlab_7_3_stores_the_transpose(tmp_path, array, h5py):
    with h5py.File(tmp_path / "a.mat", "w", userblock_size=512) as file:
        file["f"] = array.T
        file["f"].attrs["MATLAB_class"] = np.bytes_("double")
        file["s"] = np.arange(3, dtype=np.uint16)
        file["s"].attrs["MATLAB_class"] = np.bytes_("char")
    with open(tmp_path / "a.mat", "r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64")
    assert np.array_equal(read_array(tmp_path / "a.mat"), array)


@pytest.mark.parametrize("fill", [None, 7.0])
def test_netcdf_4(tmp_path, array, h5py, fill):
    array[2, 3] = 7.0
    with h5py.File(tmp_path / "a.nc", "w") as file:
        file["f"], file["x"], file["y"] = array, 3.0 * np.arange(6), np.arange(5)
        for number, name in enumerate("xy"):
            file[name].make_scale(name)
            file["f"].dims[number].attach_scale(file[name])
        if fill is not None:
            file["f"].attrs["_FillValue"] = np.array([fill])
    field = read_field(tmp_path / "a.nc")
    assert np.array_equal(field.values, np.where(array == fill, np.nan, array), equal_nan=True)
    assert field.spacing == (3.0, 1.0)


def test_without_h5py_the_way_to_it_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    (tmp_path / "a.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    with pytest.raises(FileError, match=r"needs h5py: pip install 'unigrid\[io\]'"):
        read_array(tmp_path / "a.h5")
