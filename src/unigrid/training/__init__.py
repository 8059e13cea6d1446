"""Training: data sets, protocols, the loop, checkpoints, logs.

    datasets, archives, download, shapes    labelled images, published ones or one's own
    augmentation                            batches, made on the device
    protocols                               how a network is trained, as published and as we do it best
    loop                                    the training loop           train          `unigrid.train`
    runs                                    what every run does alike   evaluation     what a network says of images
    checkpoint, logs                        what a run leaves behind
    inference                               a checkpoint at work: `load_trained`
    poisson, poisson_net, poisson_loss      multigrid that learns its smoothers

Importing it needs torch: pip install 'unigrid[learn]'.
"""

from .augmentation import Augmentation as Augmentation
from .checkpoint import CheckpointError as CheckpointError
from .datasets import DatasetError as DatasetError
from .datasets import ImageData as ImageData
from .datasets import Split as Split
from .datasets import load as load
from .evaluation import Evaluation as Evaluation
from .evaluation import evaluate_model as evaluate_model
from .inference import Prediction as Prediction
from .inference import TrainedModel as TrainedModel
from .inference import load_trained as load_trained
from .loop import TrainingError as TrainingError
from .poisson import PoissonProtocol as PoissonProtocol
from .poisson import PoissonResult as PoissonResult
from .poisson import anisotropic as anisotropic
from .poisson_net import PoissonNet as PoissonNet
from .poisson_net import PoissonNetConfig as PoissonNetConfig
from .protocols import PROTOCOLS as PROTOCOLS
from .protocols import Protocol as Protocol
from .result import SeedRun as SeedRun
from .result import TrainResult as TrainResult
from .train import train as train
