"""Compilation by numba, with an on-disk cache that depends on every file of this folder.

A kernel's machine code contains the functions that it calls, from whichever file. Numba's own cache goes by the file of the
outermost function alone. Here it goes by a hash of all sources: a change anywhere in the folder recompiles every kernel in it,
and a copy of the folder with other time stamps recompiles none.
"""

import hashlib
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
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


SOURCES = _hash_of_sources()


class _FolderCache(FunctionCache):
    """Numba's cache of a function on disk, stamped with the hash of the folder instead of one file's time and size."""

    def __init__(self, function):
        super().__init__(function)
        self._cache_file = IndexDataCacheFile(self._cache_path, self._impl.filename_base, SOURCES)


def compiled(**options):
    """Return a decorator that compiles a function for each combination of argument types, and caches the result on disk."""

    def decorate(function):
        dispatcher = numba.njit(**options)(function)
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
