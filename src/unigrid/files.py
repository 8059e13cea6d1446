"""Arrays in files: reads what users bring, writes so that a file is either whole or not there.

Reading: .npy, .npz, .csv, .mat, HDF5, NetCDF, pictures. Writing: .npy, .npz, .csv, .vti. With .gz behind, too. "-" is the
standard input and output. Every fault of a file is a `FileError` of one line.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from . import containers
from .messages import choose, nearest, printable
from .tables import UNSTATED, ContentError, Field, TableFormat, read_table
from .vti import Lattice, write_vti

Array = NDArray[Any]
Reader = Callable[[BinaryIO, str | None, TableFormat], Field]
STREAM = "-"  # the standard input or output in place of a path
NAMED = (".npz", ".mat", ".h5", ".hdf5", ".nc")  # formats that hold arrays by name
STARTS = (b"\x93NUMPY", ".npy"), (b"PK", ".npz")
NAME_BYTES = 255  # the longest name of a file on most systems
PICTURES = (".png", ".pdf", ".svg")  # what figures are written to
PAGES = (".html", ".htm")  # reports
ARRAYS = (".npy", ".npz", ".csv", ".vti")  # and arrays
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


def read_array(path: str | os.PathLike[str], name: str | None = None, form: TableFormat = UNSTATED) -> Array:
    """Return the array in a file, as `read_field` does."""
    return read_field(path, name, form).values


def read_field(path: str | os.PathLike[str], name: str | None = None, form: TableFormat = UNSTATED) -> Field:
    """Return the array in a file, chosen by the file's ending, and the spacing of its grid where the file has it.

    Parameters
    ----------
    path : path
        .npy; .npz; .csv: a table of numbers, see `tables`; .mat; .h5, .hdf5; .nc; pictures (`IMAGES`): gray values from 0
        (black) to 1, those of floats as stored, row 0 on top, transparency ignored. Also compressed, .gz behind, but for
        pictures; "-" is the standard input: .npy, .npz or a table, which their first bytes show.
    name : str, optional
        Which array of a file that holds several by name; may be left out where there is only one.
    form : TableFormat
        What is known about a text table.

    Raises
    ------
    FileError
        For a file that is missing, empty, truncated, not of the format of its ending, or of an unknown ending; for a table that
        can be read in two ways.
    """
    with _opened(path) as (file, label, ending):
        if name is not None and ending not in NAMED:
            raise FileError(f"{label}: only {', '.join(NAMED)} hold arrays by name, so {name!r} cannot be asked of it")
        try:
            field = _READERS[ending](file, name, form)
        except FileError:
            raise
        except ContentError as error:
            raise FileError(f"{label}: {error}") from None
        except MemoryError:
            raise FileError(f"{label}: the array does not fit into memory, or the file is damaged") from None
        except Exception as error:  # a damaged file makes the libraries raise anything; the fault is the file's
            raise FileError(f"{label}: not a readable {ending} file ({one_line(error)})") from None
    if field.values.size == 0:
        raise FileError(f"{label}: the array is empty, shape {field.values.shape}")
    return field


@contextlib.contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[tuple[BinaryIO, str, str]]:
    """Open a file for reading, decompressed; yield its name in messages and the ending that selects its reader, too."""
    if os.fspath(path) == STREAM:
        content = sys.stdin.buffer.read() if sys.stdin else b""
        if not content:
            raise FileError("standard input: is empty")
        yield io.BytesIO(content), "standard input", next((end for start, end in STARTS if content.startswith(start)), ".csv")
        return
    path = expanded(path)
    if is_folder(path):
        raise FileError(f"{path}: is a directory, give a file")
    ending = _ending(_inner(path), _READERS)
    check_readable(path)
    with os_errors(path, "cannot be read"), open(path, "rb") if _inner(path) == path else gzip.open(path) as file:
        yield file, str(path), ending  # type: ignore[misc]


def write_array(path: str | os.PathLike[str], array: Array, name: str = "u", lattice: Lattice | None = None) -> None:
    """Write an array by the path's ending, all at once: .npy, .npz (under `name`), .csv (at most two axes), .vti.

    .npy.gz and .csv.gz are compressed. "-" is the standard output, as .npy. `lattice` has the points of the array's last
    axes, which .vti stores.
    """
    if os.fspath(path) == STREAM:
        content = io.BytesIO()  # a pipe has no position, which NumPy asks for
        np.save(content, array)
        sys.stdout.buffer.write(content.getbuffer())
        sys.stdout.buffer.flush()
        return
    path = checked_output(path, ndim=array.ndim)
    with atomic_output(path) as target, _compressed(path, target) as file:
        ending = _ending(_inner(path), ARRAYS)
        if ending == ".npy":
            np.save(file, array)
        elif ending == ".npz":
            np.savez(file, **{name: array})  # type: ignore[arg-type]
        elif ending == ".vti":
            write_vti(file, array, name, lattice or Lattice((0.0,) * array.ndim, (1.0,) * array.ndim))
        else:  # all digits, and an exponent, which no reader takes for an index or a name
            np.savetxt(file, array, delimiter=",", fmt="%.8e" if array.dtype == np.float32 else "%.16e")


def _inner(path: Path) -> Path:
    """Return the path without .gz."""
    return path.with_suffix("") if path.suffix.lower() == ".gz" else path


def _compressed(path: Path, file: BinaryIO) -> contextlib.AbstractContextManager[Any]:
    if path.suffix.lower() != ".gz":
        return contextlib.nullcontext(file)
    return gzip.GzipFile(_inner(path).name, "wb", fileobj=file)


def checked_output(path: str | os.PathLike[str], endings: tuple[str, ...] = ARRAYS, ndim: int = 1) -> Path:
    """Return the path if a file can be written there; raise FileError otherwise. To be asked before any long work."""
    path = expanded(path)
    ending = _ending(_inner(path) if endings == ARRAYS else path, endings)
    if ending == ".csv" and ndim > 2:
        raise FileError(f"{path}: .csv holds at most 2 axes, the array has {ndim}; take .npy or .npz")
    if _inner(path) != path and ending not in (".npy", ".csv"):
        raise FileError(f"{path}: only .npy and .csv are written with .gz behind")
    if is_folder(path):
        raise FileError(f"{path}: is a directory, give a file name")
    if not is_folder(path.parent):
        raise FileError(f"{path}: there is no directory {path.parent}")
    folder = Path(os.path.realpath(path)).parent  # that of the file behind a link
    if not os.access(folder, os.W_OK):
        raise FileError(f"{path}: the directory {folder} cannot be written to")
    return path


def require_writable(path: Path) -> Path:
    """Return the path; raise FileError where a read-only file is."""
    if path.exists() and not path.stat().st_mode & 0o222:  # not os.access: a superuser may write to it all the same
        raise FileError(f"{path}: is read-only; remove it, or give another name")
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
    """Open a file that takes its name when all is on the disk; an error, Ctrl-C or power cut leaves what was there before.

    A link stays a link, to a new file, and a file that is replaced leaves its permissions to the new one.
    """
    target = Path(os.path.realpath(path))
    mark = f".{os.getpid()}.tmp"
    name = target.name if len(os.fsencode(target.name)) + len(mark) < NAME_BYTES else target.name[: NAME_BYTES // 5]
    temporary = target.with_name(f".{name}{mark}")
    try:
        with os_errors(path, "cannot be written"):
            with open(temporary, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            if target.exists():
                shutil.copymode(target, temporary)
            os.replace(temporary, target)
            _sync_folder(target.parent)
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


def _read_npy(file: BinaryIO) -> Array:
    if file.read(6) != b"\x93NUMPY":  # np.load would otherwise try zip files and pickles, and complain of those
        raise ValueError("it does not begin as one")
    file.seek(0)
    array: Array = np.load(file, allow_pickle=False)
    return array


def _read_picture(file: BinaryIO) -> Array:
    from .pictures import gray, read

    return gray(read(Path(file.name)))


def _anonymous(read: Callable[[BinaryIO], Array]) -> Reader:
    """Return the reader of a format that holds one array, without a name."""
    return lambda file, name, form: Field(read(file))


def _named(read: Callable[[BinaryIO, str | None], Field]) -> Reader:
    """Return the reader of a format that holds arrays by name."""
    return lambda file, name, form: read(file, name)


_READERS: dict[str, Reader] = {
    ".npy": _anonymous(_read_npy),
    ".npz": _named(containers.read_npz),
    ".csv": lambda file, name, form: read_table(file.read(), form),
    ".mat": _named(containers.read_mat),
    ".h5": _named(containers.read_hdf5),
    ".hdf5": _named(containers.read_hdf5),
    ".nc": _named(containers.read_netcdf),
    **dict.fromkeys(IMAGES, _anonymous(_read_picture)),
}
READABLE = tuple(_READERS)
