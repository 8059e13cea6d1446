"""The number of threads of torch for networks too small for more than one."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import torch

_LOCK = threading.Lock()
_inside, _before = 0, 1


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one thread: on small grids, synchronizing several costs more than they gain.

    The number is that of the process and of the calling thread. Of several callers in here, each puts back what the first one
    found.
    """
    global _inside, _before
    with _LOCK:
        _before = _before if _inside else torch.get_num_threads()
        _inside += 1
        torch.set_num_threads(1)
    try:
        yield
    finally:
        with _LOCK:
            _inside -= 1
            torch.set_num_threads(_before)
