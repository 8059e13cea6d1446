"""The CPU backend: compiled loops (`compiled`), spread over threads, behind functions and classes that take NumPy arrays."""

from ..workspace import copy as copy
from .compiled.arguments import ConstantStencil as ConstantStencil
from .compiled.arguments import SeparableTables as SeparableTables
from .compiled.arguments import SymmetricStencil as SymmetricStencil
from .primitives import add_separable as add_separable
from .primitives import apply as apply
from .primitives import convert as convert
from .primitives import correct as correct
from .primitives import correlate as correlate
from .primitives import limits as limits
from .primitives import norm as norm
from .primitives import norm_and_blocks as norm_and_blocks
from .primitives import relax_color as relax_color
from .primitives import relax_lexicographic as relax_lexicographic
from .primitives import residual as residual
from .primitives import residual_norm as residual_norm
from .primitives import restate as restate
from .primitives import semi_iterate as semi_iterate
from .primitives import weighted_inner as weighted_inner
from .primitives import weighted_sum as weighted_sum
from .primitives import writable as writable
from .primitives import zeros_like as zeros_like
