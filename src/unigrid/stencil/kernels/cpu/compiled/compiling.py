"""Compilation by numba, with an on-disk cache that depends on every file of this folder.

A kernel's machine code contains the functions that it calls, from whichever file. Numba's own cache goes by the file of the
outermost function alone. Here it goes by a hash of all sources: a change anywhere in the folder recompiles every kernel in it,
and a copy of the folder with other time stamps recompiles none. A file that is damaged, or that another process or version
has written, counts as missing: machine code is never run unless it is what was compiled. Without a place for the cache, or
space in it, kernels are compiled in every process.
"""

import contextlib
import hashlib
import pickle
from pathlib import Path

import numba
import numpy as np
from numba.core.caching import FunctionCache, IndexDataCacheFile

# Not "fast": NaN and infinity must survive, or nothing could detect them.
LOOPS = {"nogil": True, "error_model": "numpy", "fastmath": {"contract", "reassoc", "nsz", "arcp"}}
# Sums keep the order in which they are written, wherever the compiler places them: a grid cut into parts gives the same
# numbers. And nothing is allocated, so views need no reference counts (_nrt); on short rows counting took half of the time.
ORDERED = {**LOOPS, "fastmath": {"contract", "nsz"}, "_nrt": False}


def _hash_of_sources():
    digest = hashlib.sha256(numba.__version__.encode())
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.digest()


SOURCES = _hash_of_sources()


class _CheckedFile(IndexDataCacheFile):
    """The files of a function's cache: an index, and the code of each signature; each begins with a mark and a checksum."""

    MARK = pickle.dumps("checked")  # where numba itself, and so an older unigrid, expects a version of numba: none it takes

    def load(self, key):
        owner, code = super().load(key) or (None, None)
        return code if owner == key else None  # two processes may have given one name to the code of two signatures

    def save(self, key, code):
        super().save(key, (key, code))

    def _load_index(self):
        try:
            return self._read(self._index_path)
        except OSError:
            return {}

    def _save_index(self, overloads):
        with self._open_for_write(self._index_path) as file:
            file.write(self._dump(overloads))

    def _load_data(self, name):
        return self._read(self._data_path(name))

    def _read(self, path):
        whole = Path(path).read_bytes()
        content = whole[len(self._head(b"")) :]
        if not whole.startswith(self._head(content)):
            raise OSError(f"{path} is damaged, or of other sources")
        return pickle.loads(content)

    def _dump(self, value):
        content = super()._dump(value)
        return self._head(content) + content

    def _head(self, content):
        return self.MARK + hashlib.blake2b(content, key=self._source_stamp, digest_size=16).digest()


class _FolderCache(FunctionCache):
    """Numba's cache of a function on disk, stamped with the hash of the folder instead of one file's time and size."""

    def __init__(self, function):
        super().__init__(function)
        self._cache_file = _CheckedFile(self._cache_path, self._impl.filename_base, SOURCES)

    def save_overload(self, signature, code):
        with contextlib.suppress(OSError):  # a full disk
            super().save_overload(signature, code)


def compiled(**options):
    """Return a decorator that compiles a function for each combination of argument types, and caches the result on disk."""

    def decorate(function):
        dispatcher = numba.njit(**options)(function)
        with contextlib.suppress(RuntimeError):  # nowhere to write
            dispatcher._cache = _FolderCache(function)  # what `enable_caching` does, with another cache
        return dispatcher

    return decorate


kernel = compiled(**ORDERED)
inlined = compiled(**ORDERED, forceinline=True)  # saves passing a dozen numbers; a constant argument stays a constant


def specialized(kernel, *examples):
    """Return the kernel compiled for arguments of the examples' types, to be called without numba's search for it.

    The search takes 0.3 microseconds per named tuple. Whoever skips it must pass arguments of exactly these types, arrays being
    C-contiguous and writable.
    """
    key = kernel, _kind(examples)
    if key not in _specialized:
        signature = tuple(numba.typeof(example) for example in examples)
        kernel.compile(signature)
        _specialized[key] = kernel.overloads[signature].entry_point
    return _specialized[key]


_specialized = {}  # by kernel and kind of arguments: finding numba's types of all arguments takes a millisecond


def _kind(example):
    """Return what the numba type of an argument depends on."""
    if isinstance(example, np.ndarray):
        return example.dtype, example.ndim, example.flags.c_contiguous, example.flags.writeable
    return (type(example), *map(_kind, example)) if isinstance(example, tuple) else type(example)
