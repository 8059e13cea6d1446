"""unigrid: one multigrid cycle, for partial differential equations and for convolutional networks.

`unigrid.solve(f)` solves Poisson's equation; `unigrid.cycle` is the algorithm. Names load when they are first used, so that
importing unigrid costs nothing and never imports torch or matplotlib.
"""

from __future__ import annotations

import importlib
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from .version import __version__ as __version__

_HOMES = {
    "cycle": [
        "Level", "MultigridCycle", "Operator", "Prolongation", "Restriction", "SlotLevel", "Smoother", "StateTransfer", "Steps",
    ],
    "solution": ["ConvergenceError", "Reason", "Solution"],
    "domains.cycle": ["DomainCycle"],
    "domains.problem": ["DomainProblem"],
    "stencil.galerkin": ["GalerkinCycle"],
    "stencil.scaled": ["ScaledCycle"],
    "stencil.grid": ["Dirichlet", "Neumann", "Periodic", "Robin"],
    "stencil.operator": ["StencilOperator"],
    "stencil.nonlinear": ["FASCycle", "NewtonCycle"],
    "stencil.problem": ["Poisson"],
    "stencil.reaction": ["Nonlinear"],
    "stencil.recognition": ["from_matrix"],
    "stencil.relaxation": ["Lines", "Points"],
    "stencil.cycle": ["StencilCycle"],
    "stencil.smoothers": ["Chebyshev", "GaussSeidel", "Jacobi", "RedBlack", "Smoothing"],
    "stencil.transfers": [
        "CellAverage", "Constant", "Cubic", "FullWeighting", "HalfWeighting", "Injection", "Linear", "TransferRecipe",
    ],
    "stencil.learned": ["LearnedSmoother"],
    "stencil.kernels.cpu.threads": ["get_num_threads", "set_num_threads"],
    "stencil.solve": ["clear_cache", "solve"],
    "stencil.solving": ["SolveOptions"],
    "tensors.layer": ["PoissonLayer"],
    "conv.levels": ["ConvCycle"],
    "conv.mgnet": ["MgNet", "MgNetConfig"],
    "conv.models": ["create_model", "list_models"],
    "pretrained": ["list_pretrained"],
    "training.images.pretrained": ["load_pretrained"],
    "training.images.result": ["TrainResult"],
    "training.images.train": ["train"],
    "training.solvers.net": ["PoissonNet"],
    "training.solvers.result": ["PoissonResult"],
    "training.solvers.train": ["train_solver"],
}  # fmt: skip
_MODULES = (
    "analysis", "conv", "cycle", "equivalence", "iterate", "plots", "pretrained", "report", "solution", "stencil", "training",
)  # fmt: skip
_LEARNED = ("conv", "equivalence", "tensors", "training")  # what needs torch
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}
_USABLE = [name for name, home in _HOME_OF.items() if home.split(".")[0] not in _LEARNED or find_spec("torch")]
__all__ = sorted(_USABLE)  # without torch, a star import gives what works without

if TYPE_CHECKING:
    from . import analysis as analysis
    from . import conv as conv
    from . import cycle as cycle
    from . import equivalence as equivalence
    from . import iterate as iterate
    from . import plots as plots
    from . import pretrained as pretrained
    from . import report as report
    from . import solution as solution
    from . import stencil as stencil
    from . import training as training
    from .conv.levels import ConvCycle as ConvCycle
    from .conv.mgnet import MgNet as MgNet
    from .conv.mgnet import MgNetConfig as MgNetConfig
    from .conv.models import create_model as create_model
    from .conv.models import list_models as list_models
    from .cycle import Level as Level
    from .cycle import MultigridCycle as MultigridCycle
    from .cycle import Operator as Operator
    from .cycle import Prolongation as Prolongation
    from .cycle import Restriction as Restriction
    from .cycle import SlotLevel as SlotLevel
    from .cycle import Smoother as Smoother
    from .cycle import StateTransfer as StateTransfer
    from .cycle import Steps as Steps
    from .domains.cycle import DomainCycle as DomainCycle
    from .domains.problem import DomainProblem as DomainProblem
    from .pretrained import list_pretrained as list_pretrained
    from .solution import ConvergenceError as ConvergenceError
    from .solution import Reason as Reason
    from .solution import Solution as Solution
    from .stencil.cycle import StencilCycle as StencilCycle
    from .stencil.galerkin import GalerkinCycle as GalerkinCycle
    from .stencil.grid import Dirichlet as Dirichlet
    from .stencil.grid import Neumann as Neumann
    from .stencil.grid import Periodic as Periodic
    from .stencil.grid import Robin as Robin
    from .stencil.kernels.cpu.threads import get_num_threads as get_num_threads
    from .stencil.kernels.cpu.threads import set_num_threads as set_num_threads
    from .stencil.learned import LearnedSmoother as LearnedSmoother
    from .stencil.nonlinear import FASCycle as FASCycle
    from .stencil.nonlinear import NewtonCycle as NewtonCycle
    from .stencil.operator import StencilOperator as StencilOperator
    from .stencil.problem import Poisson as Poisson
    from .stencil.reaction import Nonlinear as Nonlinear
    from .stencil.recognition import from_matrix as from_matrix
    from .stencil.relaxation import Lines as Lines
    from .stencil.relaxation import Points as Points
    from .stencil.scaled import ScaledCycle as ScaledCycle
    from .stencil.smoothers import Chebyshev as Chebyshev
    from .stencil.smoothers import GaussSeidel as GaussSeidel
    from .stencil.smoothers import Jacobi as Jacobi
    from .stencil.smoothers import RedBlack as RedBlack
    from .stencil.smoothers import Smoothing as Smoothing
    from .stencil.solve import clear_cache as clear_cache
    from .stencil.solve import solve as solve
    from .stencil.solving import SolveOptions as SolveOptions
    from .stencil.transfers import CellAverage as CellAverage
    from .stencil.transfers import Constant as Constant
    from .stencil.transfers import Cubic as Cubic
    from .stencil.transfers import FullWeighting as FullWeighting
    from .stencil.transfers import HalfWeighting as HalfWeighting
    from .stencil.transfers import Injection as Injection
    from .stencil.transfers import Linear as Linear
    from .stencil.transfers import TransferRecipe as TransferRecipe
    from .tensors.layer import PoissonLayer as PoissonLayer
    from .training.images.pretrained import load_pretrained as load_pretrained
    from .training.images.result import TrainResult as TrainResult
    from .training.images.train import train as train
    from .training.solvers.net import PoissonNet as PoissonNet
    from .training.solvers.result import PoissonResult as PoissonResult
    from .training.solvers.train import train_solver as train_solver


def _module(home: str, name: str) -> Any:
    """Import a module of unigrid; where torch is missing, say what installs it."""
    try:
        return importlib.import_module(f"{__name__}.{home}")
    except ModuleNotFoundError as error:
        if error.name != "torch" or home.split(".")[0] not in _LEARNED:
            raise
        raise ImportError(f"unigrid.{name} needs torch: pip install 'unigrid[learn]'", name="torch") from None


if not TYPE_CHECKING:  # type checkers know the names above, and must see that there are no others

    def __getattr__(name: str) -> Any:
        if name in _HOME_OF:
            value = getattr(_module(_HOME_OF[name], name), name)
            globals()[name] = value
            return value
        if name in _MODULES:
            return _module(name, name)
        from .messages import nearest

        raise AttributeError(f"module 'unigrid' has no attribute {name!r}{nearest(name, __all__)}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
