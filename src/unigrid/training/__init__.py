"""Training: on labelled images, and on Poisson problems.

    data       data sets, published ones or one's own; their files; augmentation
    runs       what runs of either kind share: their course, checkpoints, logs, folders, random numbers, devices
    images     `unigrid.train`: protocols, the loop, evaluation, loading of trained networks (`load_trained`)
    solvers    `unigrid.train_solver`: multigrid with trained smoothers; the only part that imports the stencil backend, and
               loaded when one of its names is used

Importing it needs torch: pip install 'unigrid[learn]'.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .data.augmentation import Augmentation as Augmentation
from .data.datasets import DatasetError as DatasetError
from .data.datasets import ImageData as ImageData
from .data.datasets import Split as Split
from .data.datasets import load as load
from .images.evaluation import Evaluation as Evaluation
from .images.evaluation import evaluate_model as evaluate_model
from .images.inference import Prediction as Prediction
from .images.inference import TrainedModel as TrainedModel
from .images.inference import load_trained as load_trained
from .images.protocols import PROTOCOLS as PROTOCOLS
from .images.protocols import ImageProtocol as ImageProtocol
from .images.result import SeedRun as SeedRun
from .images.result import TrainResult as TrainResult
from .images.train import train as train
from .runs.checkpoint import CheckpointError as CheckpointError
from .runs.run import TrainingError as TrainingError

Protocol = ImageProtocol  # its name until there were two kinds

_SOLVERS = {
    "PoissonNet": "net", "PoissonNetConfig": "net", "PoissonProtocol": "protocols", "PoissonResult": "result",
    "anisotropic": "problems", "train_solver": "train",
}  # fmt: skip

if TYPE_CHECKING:
    from .solvers.net import PoissonNet as PoissonNet
    from .solvers.net import PoissonNetConfig as PoissonNetConfig
    from .solvers.problems import anisotropic as anisotropic
    from .solvers.protocols import PoissonProtocol as PoissonProtocol
    from .solvers.result import PoissonResult as PoissonResult
    from .solvers.train import train_solver as train_solver
else:

    def __getattr__(name: str) -> Any:
        if name not in _SOLVERS:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(f".solvers.{_SOLVERS[name]}", __name__), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_SOLVERS})
