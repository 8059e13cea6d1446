"""Reading what users bring and writing whole files."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unigrid.files import FileError, atomic_output, checked_output, make_folder, read_array, write_array
from unigrid.pictures import LUMINANCE


@pytest.fixture
def array():
    return np.random.default_rng(3).standard_normal((7, 5))


def one_line(error: pytest.ExceptionInfo) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize("ending", [".npy", ".npz", ".csv", ".NPY"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_what_is_written_is_read_back_bit_by_bit(tmp_path, array, ending, dtype):
    array = array.astype(dtype)
    path = tmp_path / f"u{ending}"
    write_array(path, array)
    back = read_array(path).astype(dtype)
    assert np.array_equal(back, array)
    assert os.listdir(tmp_path) == [path.name]


def test_written_files_have_ordinary_permissions(tmp_path, array):
    write_array(tmp_path / "u.npy", array)
    (tmp_path / "other").touch()
    assert (tmp_path / "u.npy").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_three_axes_in_a_text_file_are_refused(tmp_path):
    with pytest.raises(FileError, match=r"\.csv holds at most 2 axes"):
        write_array(tmp_path / "u.csv", np.ones((2, 3, 4)))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1,2\n3,4\n", [[1, 2], [3, 4]]),
        ("1 2\n3\t4", [[1, 2], [3, 4]]),
        ("1;2\n3;4", [[1, 2], [3, 4]]),
        ("x,y\n1,2\n3,4\n", [[1, 2], [3, 4]]),
        ("# a comment\nleft right\n\n1 2\n3 4\n\n", [[1, 2], [3, 4]]),
        ("\ufeff1,2\n3,4", [[1, 2], [3, 4]]),
        ("value\n1\n2\n3\n", [1, 2, 3]),
        ("1,2,3\n", [1, 2, 3]),
        ("5", [5]),
    ],
)
def test_text_files(tmp_path, text, expected):
    (tmp_path / "f.csv").write_text(text, encoding="utf-8")
    assert np.array_equal(read_array(tmp_path / "f.csv"), np.array(expected, dtype=float))


def test_archives_by_name(tmp_path, array):
    path = tmp_path / "f.npz"
    np.savez(path, source=array, mask=array > 0)
    assert np.array_equal(read_array(path, "source"), array)
    with pytest.raises(FileError, match="holds 2 arrays, source, mask; choose one with --array"):
        read_array(path)
    with pytest.raises(FileError, match="did you mean 'source'"):
        read_array(path, "sorce")
    write_array(tmp_path / "u.npy", array)
    with pytest.raises(FileError, match=r"only an \.npz file holds arrays by name"):
        read_array(tmp_path / "u.npy", "source")


def test_pictures_become_gray_values(tmp_path):
    red, white = (255, 0, 0), (255, 255, 255)
    picture = Image.new("RGB", (3, 2), white)
    picture.putpixel((2, 0), red)  # column 2, row 0
    picture.save(tmp_path / "f.png")
    gray = read_array(tmp_path / "f.png")
    assert gray.shape == (2, 3)
    assert gray[0, 2] == pytest.approx(LUMINANCE[0])
    assert gray[1, 2] == pytest.approx(1.0)


def test_pictures_of_16_bits_keep_them(tmp_path):
    values = np.array([[0, 257], [40000, 65535]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "f.png")
    assert read_array(tmp_path / "f.png") == pytest.approx(values / 65535, abs=1e-12)


def test_a_jpeg(tmp_path):
    Image.new("L", (9, 4), 128).save(tmp_path / "f.jpg")
    assert read_array(tmp_path / "f.jpg") == pytest.approx(np.full((4, 9), 128 / 255), abs=0.01)


BAD = {
    "empty.npy": (b"", "the file is empty"),
    "empty.csv": (b"", "the file is empty"),
    "blank.csv": (b"\n\n  \n", "holds no numbers"),
    "header.csv": (b"x,y\n", "holds no numbers"),
    "words.csv": (b"1,2\n3,four\n", "could not convert string 'four'"),
    "ragged.csv": (b"1,2\n3\n", "number of columns changed from 2 to 1"),
    "hole.csv": (b"1,2,3\n1,,3\n", "could not convert string ''"),
    "binary.csv": (b"\x93NUMPY\xff\xfe\x00", "not a readable .csv file"),
    "text.npy": (b"1 2 3\n", "not a readable .npy file"),
    "magic.npy": (b"\x93NUMPY\x01\x00", "not a readable .npy file"),
    "text.npz": (b"1 2 3\n", "not a readable .npz file"),
    "cut.npz": (b"PK\x03\x04 and no more", "not a readable .npz file"),
    "text.png": (b"not a picture", "not a picture, or of a format that is not read; convert it to one of PNG, JPEG"),
    "text.jpg": (b"not a picture", "not a picture, or of a format that is not read; convert it to one of PNG, JPEG"),
    "f.txt": (b"1 2 3\n", "unknown file ending '.txt'; allowed: '.npy'"),
    "f.npx": (b"1 2 3\n", "did you mean '.npz'"),
    "noending": (b"1 2 3\n", "unknown file ending ''"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_one_line(tmp_path, name):
    content, text = BAD[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(FileError) as error:
        read_array(tmp_path / name)
    assert text in one_line(error)
    assert str(tmp_path / name) in one_line(error)


@pytest.mark.parametrize("kept", [7, 60, 200])
@pytest.mark.parametrize("ending", [".npy", ".npz", ".png"])
def test_truncated_files(tmp_path, array, ending, kept):
    path = tmp_path / f"f{ending}"
    if ending == ".png":
        Image.fromarray((255 * np.random.default_rng(0).random((40, 40))).astype(np.uint8)).save(path)
    else:
        write_array(path, array)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(FileError, match="not a readable" if kept > 7 or ending != ".png" else "not a picture"):
        read_array(path)


def test_pickles_are_never_loaded(tmp_path):
    np.save(tmp_path / "f.npy", np.array([{"a": 1}, None], dtype=object), allow_pickle=True)
    with pytest.raises(FileError, match="not a readable"):
        read_array(tmp_path / "f.npy")


def test_missing_files_and_folders(tmp_path, array):
    write_array(tmp_path / "source.npy", array)
    with pytest.raises(FileError, match=r"no such file; did you mean 'source\.npy'"):
        read_array(tmp_path / "sorce.npy")
    with pytest.raises(FileError, match="no such file"):
        read_array(tmp_path / "nowhere" / "f.npy")
    with pytest.raises(FileError, match="is a directory"):
        read_array(tmp_path)
    (tmp_path / "f.npy").mkdir()
    with pytest.raises(FileError, match="is a directory"):
        read_array(tmp_path / "f.npy")
    with pytest.raises(FileError, match="is a directory"):
        checked_output(tmp_path / "f.npy")
    with pytest.raises(FileError, match="there is no directory"):
        checked_output(tmp_path / "nowhere" / "u.npy")


def test_an_array_without_elements(tmp_path):
    np.save(tmp_path / "f.npy", np.empty((0, 3)))
    with pytest.raises(FileError, match=r"the array is empty, shape \(0, 3\)"):
        read_array(tmp_path / "f.npy")


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_write_leaves_the_old_file(tmp_path, error):
    path = tmp_path / "u.npy"
    path.write_bytes(b"old")

    def write():
        with atomic_output(path) as file:
            file.write(b"half of the n")
            raise error

    with pytest.raises(error):
        write()
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["u.npy"]


def test_a_full_disk_is_one_line(tmp_path):
    def write():
        with atomic_output(tmp_path / "u.npy"):
            raise OSError(28, "No space left on device")

    with pytest.raises(FileError, match=r"cannot be written .No space left on device"):
        write()
    assert not list(Path(tmp_path).iterdir())


@pytest.mark.parametrize("stem", ["u" * 240, "u" * 251, "\u5834" * 83, "\U0001f600" * 62], ids=["240", "251", "249", "248"])
def test_names_as_long_as_the_system_takes(tmp_path, array, stem):
    """In bytes; the file that is written first has a longer name where that fits."""
    path = tmp_path / f"{stem}.npy"
    write_array(path, array)
    write_array(path, 2 * array)
    assert np.array_equal(read_array(path), 2 * array)
    assert os.listdir(tmp_path) == [path.name]


LONG = {"ascii": "u" * 256, "in bytes": "\u5834" * 90, "folder": "u" * 300 + "/u", "path": "/".join(["u" * 99] * 60)}


@pytest.mark.parametrize("kind", LONG)
@pytest.mark.parametrize("use", [checked_output, read_array, make_folder, lambda path: write_array(path, np.ones(3))])
def test_longer_names_are_one_line(tmp_path, kind, use):
    name = LONG[kind] + ".npy"
    with pytest.raises(FileError) as error:
        use(tmp_path / name)
    assert one_line(error).startswith(f"{tmp_path / name}: ")
    assert "ame too long" in one_line(error)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", [str, Path])
def test_the_home_folder_is_where_tilde_points(tmp_path, monkeypatch, array, kind):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert make_folder(kind("~/made/here")) == tmp_path / "made" / "here"
    write_array(kind("~/made/u.npy"), array)
    assert np.array_equal(read_array(kind("~/made/u.npy")), array)
    assert checked_output(kind("~/v.npy")) == tmp_path / "v.npy"
    assert checked_output(kind("u~.npy")) == Path("u~.npy")
    with pytest.raises(FileError, match="no_such_user"):
        checked_output(kind("~no_such_user/u.npy"))
