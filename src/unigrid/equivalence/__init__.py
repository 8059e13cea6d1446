"""The dictionary between multigrid and networks, as functions: each converts one object into the other, weights included.

    stencils of a hierarchy   convolutions in the same slots     to_conv             to_stencil
    MgNet in feature space    pre-act ResNet in data space       to_residual_form    to_feature_form
    ResNet                    sigma-ResNet                       to_sigma_form       from_sigma_form
    plain network             sigma-ResNet with a fixed A        to_plain_residual_form
    one A per level           one A per step                     unshare_operators   share_operators
    average pooling           restriction with a fixed kernel    pooling_as_restriction
    V-cycle MgNet             U-Net, written out                 to_unet             from_unet

`report()` runs all of them on random networks, in training and in evaluation mode, and measures by how much the two sides
differ. Importing this needs torch: pip install 'unigrid[learn]'.

Source: J. He & J. Xu, MgNet, Sci. China Math. 62 (2019), section 4, arXiv:1901.10415; J. He, Y. Chen, L. Zhang, J. Xu,
Constrained linear data-feature mapping, arXiv:1911.10428.
"""

from .arrays import to_stencil as to_stencil
from .claims.claim import Case as Case
from .claims.claim import Claim as Claim
from .claims.claim import Side as Side
from .claims.report import CLAIMS as CLAIMS
from .claims.report import Report as Report
from .claims.report import Row as Row
from .claims.report import report as report
from .data_space import to_feature_form as to_feature_form
from .data_space import to_residual_form as to_residual_form
from .plain import pooling_as_restriction as pooling_as_restriction
from .plain import to_plain_residual_form as to_plain_residual_form
from .sharing import share_operators as share_operators
from .sharing import unshare_operators as unshare_operators
from .sigma import from_sigma_form as from_sigma_form
from .sigma import to_sigma_form as to_sigma_form
from .stencils import to_conv as to_conv
from .unet import UNet as UNet
from .unet import from_unet as from_unet
from .unet import to_unet as to_unet
