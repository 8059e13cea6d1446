"""The learned backend: convolutions in the slots of the cycle, trained. MgNet, and the networks that share its frame.

    slots       A, B, R, Pi and P as small modules               levels      ConvLevel and ConvCycle: the cycle as a network
    classifier  theta, cycle and head                            mgnet       MgNet: its configuration and its slots
    residual    ResNet and its relatives in the same slots       plain       LeNet and VGG types in the same slots
    models      the registry of named models                     weights     safetensors
    convolutions  the convolutions of a network by slot          pretrained  models with weights that come with the package

Importing it needs torch: pip install 'unigrid[learn]'.
"""

from .classifier import ACTIVATIONS as ACTIVATIONS
from .classifier import Classifier as Classifier
from .levels import ConvCycle as ConvCycle
from .levels import ConvLevel as ConvLevel
from .levels import LevelState as LevelState
from .mgnet import MgNet as MgNet
from .mgnet import MgNetConfig as MgNetConfig
from .models import NamedModel as NamedModel
from .models import create_model as create_model
from .models import list_models as list_models
from .models import named_model as named_model
from .models import register_model as register_model
from .plain import PlainConfig as PlainConfig
from .plain import PlainNet as PlainNet
from .residual import ResNet as ResNet
from .residual import ResNetConfig as ResNetConfig
from .slots import Borrowed as Borrowed
from .slots import Bottleneck as Bottleneck
from .slots import ChannelwiseConvolution as ChannelwiseConvolution
from .slots import ChebyshevExtraction as ChebyshevExtraction
from .slots import ConvOperator as ConvOperator
from .slots import ConvProlongation as ConvProlongation
from .slots import ConvRestriction as ConvRestriction
from .slots import ConvStateTransfer as ConvStateTransfer
from .slots import Extraction as Extraction
from .slots import FeatureExtraction as FeatureExtraction
from .slots import MultiStepExtraction as MultiStepExtraction
from .slots import StepOperators as StepOperators
