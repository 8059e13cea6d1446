"""Arrays in files: reads what users bring, writes so that a file is either whole or not there.

Reading: .npy, .npz, .csv, pictures. Writing: .npy, .npz, .csv. Every fault of a file is a `FileError` of one line.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from .messages import choose, nearest, printable

Array = NDArray[Any]
NAME_BYTES = 255  # the longest name of a file on most systems
PICTURES = (".png", ".pdf", ".svg")  # what figures are written to
# Pictures that are read, whatever their content shows them to be.
IMAGES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif", ".webp", ".pgm", ".ppm", ".pfm")


class FileError(ValueError):
    """A file that cannot be read or written; the text is one line, without control characters, and begins with the path."""

    def __init__(self, text: str) -> None:
        super().__init__(printable(text))


@contextlib.contextmanager
def os_errors(path: Path, fault: str, kind: type[FileError] = FileError) -> Iterator[None]:
    """Raise an error of the operating system as a `FileError`: the path, the fault, and the system's reason."""
    try:
        yield
    except OSError as error:
        raise kind(f"{path}: {fault} ({error.strerror or error})") from None


def expanded(path: str | os.PathLike[str]) -> Path:
    """Return a path of the user, "~" at its beginning replaced by the home folder, as a shell does where it sees one."""
    return Path(os.path.expanduser(path))


def read_array(path: str | os.PathLike[str], name: str | None = None) -> Array:
    """Return the array in a file, chosen by the file's ending.

    Parameters
    ----------
    path : path
        .npy; .npz; .csv: numbers separated by commas, semicolons or white space, one line of column names is skipped, a
        single row or column becomes one axis; pictures (`IMAGES`): gray values from 0 (black) to 1, those of floats as stored,
        row 0 on top, transparency ignored.
    name : str, optional
        Which array of an .npz file; may be left out where there is only one.

    Raises
    ------
    FileError
        For a file that is missing, empty, truncated, not of the format of its ending, or of an unknown ending.
    """
    path = expanded(path)
    if is_folder(path):
        raise FileError(f"{path}: is a directory, give a file")
    reader = _READERS[_ending(path, _READERS)]
    if name is not None and reader is not _read_npz:
        raise FileError(f"{path}: only an .npz file holds arrays by name, so {name!r} cannot be asked of it")
    check_readable(path)
    try:
        array = _read_npz(path, name) if reader is _read_npz else reader(path)
    except FileError:
        raise
    except MemoryError:
        raise FileError(f"{path}: the array does not fit into memory, or the file is damaged") from None
    except Exception as error:  # whatever a damaged file makes the libraries raise, it is the file's fault, not the program's
        raise FileError(f"{path}: not a readable {path.suffix} file ({one_line(error)})") from None
    if array.size == 0:
        raise FileError(f"{path}: the array is empty, shape {array.shape}")
    return array


def write_array(path: str | os.PathLike[str], array: Array, name: str = "u") -> None:
    """Write an array to .npy, .npz (under `name`) or .csv (at most two axes), by the path's ending and all at once."""
    path = checked_output(path, ndim=array.ndim)
    with atomic_output(path) as file:
        if path.suffix.lower() == ".npy":
            np.save(file, array)
        elif path.suffix.lower() == ".npz":
            np.savez(file, **{name: array})  # type: ignore[arg-type]
        else:
            np.savetxt(file, array, delimiter=",", fmt="%.9g" if array.dtype == np.float32 else "%.17g")


def checked_output(path: str | os.PathLike[str], endings: tuple[str, ...] = (".npy", ".npz", ".csv"), ndim: int = 1) -> Path:
    """Return the path if a file can be written there; raise FileError otherwise. To be asked before any long work."""
    path = expanded(path)
    if _ending(path, endings) == ".csv" and ndim > 2:
        raise FileError(f"{path}: .csv holds at most 2 axes, the array has {ndim}; take .npy or .npz")
    if is_folder(path):
        raise FileError(f"{path}: is a directory, give a file name")
    if not is_folder(path.parent):
        raise FileError(f"{path}: there is no directory {path.parent}")
    if not os.access(path.parent, os.W_OK):
        raise FileError(f"{path}: the directory {path.parent} cannot be written to")
    return path


def is_folder(path: Path) -> bool:
    """Whether there is a folder of that name. Raises FileError for a path that the system refuses, such as a longer name."""
    with os_errors(path, "cannot be looked for"):
        return path.is_dir()


def make_folder(path: str | os.PathLike[str]) -> Path:
    """Return a folder to write to, made with those above it if it is missing. Raises FileError."""
    folder = expanded(path)
    with os_errors(folder, "the folder cannot be made"):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextlib.contextmanager
def atomic_output(path: Path) -> Iterator[BinaryIO]:
    """Open a file that takes its name when all is on the disk; an error, Ctrl-C or power cut leaves what was there before."""
    mark = f".{os.getpid()}.tmp"
    name = path.name if len(os.fsencode(path.name)) + len(mark) < NAME_BYTES else path.name[: NAME_BYTES // 5]
    temporary = path.with_name(f".{name}{mark}")
    try:
        with os_errors(path, "cannot be written"):
            with open(temporary, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
            _sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Write the names in a folder to the disk too, where the system can; without it a power cut may undo a replacement."""
    with contextlib.suppress(OSError):  # Windows opens no folders, some network disks sync none; the file itself is synced
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _ending(path: Path, allowed: Any) -> str:
    try:
        return choose(path.suffix.lower(), allowed, "file ending")
    except ValueError as error:
        raise FileError(f"{path}: {error}") from None


def check_readable(path: Path) -> None:
    """Raise FileError for a file that is missing, empty or may not be read; a missing one's nearest neighbor is named."""
    with os_errors(path, "cannot be read"):
        missing = not path.exists()
    if missing:
        beside = os.listdir(path.parent) if path.parent.is_dir() else []
        raise FileError(f"{path}: no such file{nearest(path.name, beside)}")
    if not os.access(path, os.R_OK):
        raise FileError(f"{path}: permission to read it is denied")
    if path.is_file() and path.stat().st_size == 0:
        raise FileError(f"{path}: the file is empty")


def one_line(error: object) -> str:
    """Return the text of an exception on one line; its type where it has no text."""
    return " ".join(str(error).split()) or type(error).__name__


def _read_npy(path: Path) -> Array:
    with open(path, "rb") as file:
        if file.read(6) != b"\x93NUMPY":  # np.load would otherwise try zip files and pickles, and complain of those
            raise ValueError("it does not begin as one")
    array: Array = np.load(path, allow_pickle=False)
    return array


def _read_npz(path: Path, name: str | None = None) -> Array:
    with open(path, "rb") as file:
        if file.read(2) != b"PK":
            raise ValueError("it does not begin as one")
        file.seek(0)
        with np.load(file, allow_pickle=False) as archive:
            array: Array = archive[_chosen(path, archive.files, name)]
    return array


def _chosen(path: Path, names: list[str], name: str | None) -> str:
    if name is None and len(names) != 1:
        raise FileError(f"{path}: holds {len(names)} arrays, {', '.join(names) or 'none'}; choose one with --array")
    try:
        return names[0] if name is None else choose(name, names, "array")
    except ValueError as error:
        raise FileError(f"{path}: {error}") from None


def _read_csv(path: Path) -> Array:
    lines = [line for line in path.read_text("utf-8-sig").splitlines() if line.split("#")[0].strip()]
    delimiter = next((mark for mark in (",", ";") if any(mark in line for line in lines)), None)
    if lines and not any(_is_number(field) for field in lines[0].split(delimiter)):
        del lines[0]  # names of columns
    if not lines:
        raise FileError(f"{path}: holds no numbers")
    try:
        return np.atleast_1d(np.loadtxt(lines, delimiter=delimiter))
    except ValueError as error:
        raise FileError(
            f"{path}: {one_line(error).split(';')[0].rstrip('.')} (rows are counted without header and blanks)"
        ) from None


def _is_number(field: str) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True


def _read_picture(path: Path) -> Array:
    from .pictures import gray, read

    return gray(read(path))


_READERS: dict[str, Callable[[Path], Array]] = {
    ".npy": _read_npy,
    ".npz": _read_npz,
    ".csv": _read_csv,
    **dict.fromkeys(IMAGES, _read_picture),
}
