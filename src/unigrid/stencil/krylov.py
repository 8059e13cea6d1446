"""SciPy's Krylov methods, preconditioned by one cycle, as iterations of the driver.

SciPy's functions keep control until they end, and call back once per iteration. So one runs in a thread of its own, which waits
in each callback: the driver takes one iterate after the other, measures its true residual, and stops when it will.
"""

from __future__ import annotations

import inspect
import queue
import threading
from collections.abc import Callable
from contextvars import copy_context
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from ..iterate import Iteration, System
from .iterations import Run
from .scipy_operators import SciPySystem

Array = NDArray[np.floating]
NEEDED = ("x0", "maxiter", "M", "callback")


class _Stop(BaseException):
    """Ends a method from within its callback."""


def method_of(accelerate: str | Callable[..., Any]) -> Callable[..., Any]:
    """Return SciPy's function of a name, or the function itself. Raises TypeError where it has other arguments."""
    if isinstance(accelerate, str):
        import scipy.sparse.linalg

        return _tfqmr if accelerate == "tfqmr" else getattr(scipy.sparse.linalg, accelerate)  # type: ignore[no-any-return]
    parameters = inspect.signature(accelerate).parameters
    missing = [name for name in NEEDED if name not in parameters and not (name == "M" and "M1" in parameters)]
    if missing:
        raise TypeError(
            f"accelerate, {getattr(accelerate, '__name__', 'a function')}, has no argument {', '.join(missing)}; it must be "
            "one of SciPy's iterative solvers, or take the same: (A, b, x0=, rtol=, atol=, maxiter=, M=, callback=)"
        )
    return accelerate


def _tfqmr(A: Any, b: Array, *, x0: Any, rtol: float, atol: float, maxiter: int, M: Any, callback: Callable[..., None]) -> Any:
    """Run TFQMR on A M y = b - A x0, with u = x0 + M y.

    Given M, SciPy's applies it to A and not to b, and ends at another u: measured at 0.056 ||b||, as a success.
    """
    from scipy.sparse.linalg import tfqmr

    start = np.zeros_like(b) if x0 is None else x0
    own = {"rtol": rtol, "atol": atol, "maxiter": maxiter}
    return tfqmr(A @ M, b - A @ start, callback=lambda y: callback(start + M @ y), **own)


@final
class Krylov(Iteration):
    """One iteration is what the method calls back for: of lgmres and gcrotmk, many applications of M."""

    def __init__(
        self, method: Callable[..., Any], linear: SciPySystem, run: Run, system: System, nested: Callable[[], Array]
    ) -> None:
        self._method, self._linear, self._run, self._system, self._nested = method, linear, run, system, nested
        self.nested_start = run.nested

    def start(self, u: Array | None) -> None:
        self._u = u
        self._worker: _Worker | None = None
        self._begins = self.nested_start

    def step(self, look_ahead: bool) -> float:
        if self._begins:
            self._u, self._begins = self._nested(), False
        else:
            self._worker = self._worker or _Worker(self._call(self._u))
            found = self._worker.next()
            if found is not None:
                u = found.reshape(self._run.b.shape).astype(self._run.b.dtype)
                self._u = self._run.problem.centered(u)
        return self._system.residual_norm(self._u)

    def current(self) -> Array | None:
        return self._u

    @property
    def state(self) -> Array | None:
        return self._u

    def _call(self, start: Array | None) -> Callable[[Callable[[Array], None]], Any]:
        """Return the call of the method, to be given its callback. It never ends by its own tolerance."""
        method, (A, M, scale), b = self._method, self._linear, self._run.b
        from scipy.sparse import eye_array
        from scipy.sparse.linalg import aslinearoperator

        parameters = inspect.signature(method).parameters
        options: dict[str, Any] = {"x0": None if start is None else start.ravel().astype(np.float64), "maxiter": 10**6}
        options |= {"M": M} if "M" in parameters else {"M1": M, "M2": aslinearoperator(eye_array(*M.shape))}
        options |= {name: value for name, value in (("rtol", 0.0), ("atol", 0.0), ("callback_type", "x")) if name in parameters}
        right = scale * b.ravel().astype(np.float64)
        return lambda callback: method(A, right, callback=callback, **options)


class _Worker:
    """A method in a thread, which goes on from one callback to the next when it is asked to."""

    def __init__(self, call: Callable[[Callable[[Array], None]], Any]) -> None:
        self._wanted: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._found: queue.SimpleQueue[Array | BaseException | None] = queue.SimpleQueue()
        self._ended = False
        context, arguments = copy_context(), (call, self._wanted, self._found)
        threading.Thread(target=context.run, args=(_run, *arguments), name="unigrid-krylov", daemon=True).start()

    def next(self) -> Array | None:
        """Return the next iterate; None where the method has ended. Raises what it raised, as a ValueError."""
        if self._ended:
            return None
        self._wanted.put(True)
        found = self._found.get()
        if isinstance(found, Exception):
            raise ValueError(f"the function of accelerate failed with {type(found).__name__}: {found}") from found
        if isinstance(found, BaseException):
            raise found
        self._ended = found is None
        return found

    def __del__(self) -> None:
        self._wanted.put(False)


def _run(
    call: Callable[[Callable[[Array], None]], Any],
    wanted: queue.SimpleQueue[bool],
    found: queue.SimpleQueue[Array | BaseException | None],
) -> None:
    """Call a method, one iteration for each that is wanted."""

    def callback(x: Array) -> None:
        found.put(np.array(x))
        if not wanted.get():
            raise _Stop

    try:
        if wanted.get():
            with np.errstate(all="ignore"):
                call(callback)
            found.put(None)
    except _Stop:
        pass
    except BaseException as error:
        found.put(error)
