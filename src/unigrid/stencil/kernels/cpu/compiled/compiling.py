"""Compilation by numba, with an on-disk cache that depends on every file of this folder.

A kernel's machine code contains the functions that it calls, from whichever file. Numba's own cache goes by the file of the
outermost function alone. Here it goes by a hash of all sources: a change anywhere in the folder recompiles every kernel in it,
and a copy of the folder with other time stamps recompiles none. A file that is damaged counts as none, where machine code that
has changed would crash the process; a folder that takes no files costs the time to compile, and a warning.

Handlers of signals run in the main thread. One that raises in the middle of numba's work, or solves there, leaves numba broken
or ends the process in LLVM: so numba works in a thread of its own.
"""

import contextlib
import functools
import hashlib
import pickle
import queue
import threading
import uuid
import warnings
from pathlib import Path

import numba
import numpy as np
from numba.core.caching import FunctionCache, NullCache
from numba.core.serialize import dumps

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


class _Files:
    """The compiled signatures of a function, a file for each, which ends with a digest of all that it depends on.

    Numba keeps an index beside numbered files: two processes that compile at once, or a disk that is full halfway, can leave a
    number with the code of another signature.
    """

    def __init__(self, folder, name):
        self._folder, self._name = Path(folder), name

    def load(self, key):
        """Return what was saved, None where there is nothing that is whole and up to date."""
        try:
            content = self._path(key).read_bytes()
        except OSError:
            return None
        data, end = content[: -len(SOURCES)], content[-len(SOURCES) :]
        return pickle.loads(data) if end == self._digest(key, data) else None

    def save(self, key, data):
        """Replace the file at once: another process finds the old one or the new one, whole."""
        data, path = dumps(data), self._path(key)
        unfinished = path.with_suffix(f".{uuid.uuid4().hex[:8]}")
        try:
            unfinished.write_bytes(data + self._digest(key, data))
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)

    def _path(self, key):
        return self._folder / f"{self._name}.{hashlib.sha256(repr(key).encode()).hexdigest()[:16]}.nbc"

    def _digest(self, key, data):
        parts = SOURCES, numba.__version__, repr(key)
        return hashlib.sha256("\0".join(parts).encode() + b"\0" + data).hexdigest().encode()


class _FolderCache(FunctionCache):
    """Numba's cache of a function on disk, in other files; without it, all goes on."""

    def __init__(self, function):
        super().__init__(function)
        self._cache_file = _Files(self._cache_path, self._impl.filename_base)

    def load_overload(self, sig, target_context):
        with contextlib.suppress(Exception):
            return super().load_overload(sig, target_context)

    def save_overload(self, sig, data):
        try:
            super().save_overload(sig, data)
        except OSError as error:
            _warn_of(f"{self._cache_path} ({error.strerror})")


class _NoCache(NullCache):
    """In place of a cache where no folder can be written to."""

    def save_overload(self, sig, cres):
        _warn_of("any folder")


def _warn_of(place):
    warnings.warn(
        f"compiled kernels cannot be kept in {place}: every process compiles them anew, about half a minute. Make room there, "
        "or let the environment variable NUMBA_CACHE_DIR name a folder that can be written to",
        RuntimeWarning,
        stacklevel=2,
    )


def _cache_of(function):
    try:
        return _FolderCache(function)
    except RuntimeError:  # numba finds no folder
        return _NoCache()


def _undisturbed(call):
    """Return the same function, for the main thread in a thread of its own. An interrupt ends the wait, not the call."""

    @functools.wraps(call)
    def anywhere(*arguments):
        if threading.current_thread() is not threading.main_thread():
            return call(*arguments)
        outcome = queue.SimpleQueue()

        def run():
            try:
                outcome.put((call(*arguments), None))
            except BaseException as error:
                outcome.put((None, error))

        threading.Thread(target=run, name="unigrid-compiler").start()
        result, error = outcome.get()
        try:
            if error is not None:
                raise error
        finally:
            del error  # its traceback holds this frame
        return result

    return anywhere


def compiled(**options):
    """Return a decorator that compiles a function for each combination of argument types, and caches the result on disk."""

    def decorate(function):
        dispatcher = numba.njit(**options)(function)
        dispatcher._cache = _cache_of(function)  # what `enable_caching` does, with another cache
        dispatcher.compile = _undisturbed(dispatcher.compile)
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
