"""unigrid: one multigrid cycle, for partial differential equations and for convolutional networks.

`unigrid.solve(f)` solves Poisson's equation; `unigrid.cycle` is the algorithm. Names load when they are first used, so that
importing unigrid costs nothing and never imports torch or matplotlib.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .version import __version__ as __version__

_HOMES = {
    "cycle": [
        "Level", "MultigridCycle", "Operator", "Prolongation", "Restriction", "SlotLevel", "Smoother", "StateTransfer", "Steps",
    ],
    "solution": ["ConvergenceError", "Reason", "Solution"],
    "stencil.boundary": ["Dirichlet", "Neumann", "Periodic"],
    "stencil.operator": ["StencilOperator"],
    "stencil.problem": ["Poisson"],
    "stencil.hierarchy": ["StencilCycle"],
    "stencil.smoothers": ["Chebyshev", "GaussSeidel", "Jacobi", "RedBlack"],
    "stencil.transfers": [
        "CellAverage", "Constant", "Cubic", "FullWeighting", "HalfWeighting", "Injection", "Linear", "TransferRecipe",
    ],
    "stencil.kernels.threads": ["get_num_threads", "set_num_threads"],
    "stencil.solve": ["solve"],
}  # fmt: skip
_MODULES = ("cycle", "iterate", "plots", "solution", "stencil")
_LEARNED = ("ConvCycle", "MgNet", "create_model", "list_models", "train")
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}
__all__ = sorted(_HOME_OF)

if TYPE_CHECKING:
    from . import cycle as cycle
    from . import iterate as iterate
    from . import plots as plots
    from . import solution as solution
    from . import stencil as stencil
    from .cycle import Level as Level
    from .cycle import MultigridCycle as MultigridCycle
    from .cycle import Operator as Operator
    from .cycle import Prolongation as Prolongation
    from .cycle import Restriction as Restriction
    from .cycle import SlotLevel as SlotLevel
    from .cycle import Smoother as Smoother
    from .cycle import StateTransfer as StateTransfer
    from .cycle import Steps as Steps
    from .solution import ConvergenceError as ConvergenceError
    from .solution import Reason as Reason
    from .solution import Solution as Solution
    from .stencil.boundary import Dirichlet as Dirichlet
    from .stencil.boundary import Neumann as Neumann
    from .stencil.boundary import Periodic as Periodic
    from .stencil.hierarchy import StencilCycle as StencilCycle
    from .stencil.kernels.threads import get_num_threads as get_num_threads
    from .stencil.kernels.threads import set_num_threads as set_num_threads
    from .stencil.operator import StencilOperator as StencilOperator
    from .stencil.problem import Poisson as Poisson
    from .stencil.smoothers import Chebyshev as Chebyshev
    from .stencil.smoothers import GaussSeidel as GaussSeidel
    from .stencil.smoothers import Jacobi as Jacobi
    from .stencil.smoothers import RedBlack as RedBlack
    from .stencil.solve import solve as solve
    from .stencil.transfers import CellAverage as CellAverage
    from .stencil.transfers import Constant as Constant
    from .stencil.transfers import Cubic as Cubic
    from .stencil.transfers import FullWeighting as FullWeighting
    from .stencil.transfers import HalfWeighting as HalfWeighting
    from .stencil.transfers import Injection as Injection
    from .stencil.transfers import Linear as Linear
    from .stencil.transfers import TransferRecipe as TransferRecipe


if not TYPE_CHECKING:  # type checkers know the names above, and must see that there are no others

    def __getattr__(name: str) -> Any:
        if name in _HOME_OF:
            value = getattr(importlib.import_module(f"{__name__}.{_HOME_OF[name]}"), name)
            globals()[name] = value
            return value
        if name in _MODULES:
            return importlib.import_module(f"{__name__}.{name}")
        if name in _LEARNED:
            raise AttributeError(
                f"unigrid.{name} belongs to the learned backend, which this version does not hold yet; it will need torch: "
                "pip install 'unigrid[learn]'"
            )
        from .messages import nearest

        raise AttributeError(f"module 'unigrid' has no attribute {name!r}{nearest(name, __all__)}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
