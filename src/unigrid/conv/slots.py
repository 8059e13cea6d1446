"""The slots of the learned backend, each a small `nn.Module`: operators A, extraction S, pooling R and Pi, unpooling P.

Data f and features u are tensors (batch, channels, height, width). A maps features to data, B maps data to features.
A module that several slots use is registered in one of them alone; the others hold it as `Borrowed`, so that `state_dict`
holds every value once.

Source: J. He & J. Xu, MgNet, Sci. China Math. 62 (2019), algorithm 3, and the authors' released code, which adds the batch
norms of every step and the activations of the transfers.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple, final

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..cycle import Operator, Prolongation, Restriction, Smoother, StateTransfer


class Borrowed(NamedTuple):
    """A module that another one owns: used, but not registered a second time.

    The borrower refers to the module itself: if the owner's module is replaced, the borrowers must be given the new one, too.
    `DataParallel` does not replicate borrowed modules; `DistributedDataParallel` needs no replicas.
    """

    module: nn.Module


Part = nn.Module | Borrowed


def hold(owner: nn.Module, name: str, part: Part) -> None:
    """Set `owner.name`: registered if it is a module, only referred to if it is borrowed."""
    if isinstance(part, Borrowed):
        object.__setattr__(owner, name, part.module)
    else:
        setattr(owner, name, part)


# ---------------------------------------------------------------------------------------------------------------- A


@final
class ConvOperator(nn.Module, Operator):
    """A u = xi * u, or xi sigma eta u: features to data.

    Parameters
    ----------
    convolution : nn.Module or Borrowed
        Features (n, c_u, h, w) to data (n, c_f, h, w).
    norm : nn.Module, optional
        A batch norm of A' u' on the coarse side of a transfer (the call); the residual f - A u has none.
    """

    convolution: nn.Module

    def __init__(self, convolution: Part, norm: nn.Module | None = None) -> None:
        super().__init__()
        hold(self, "convolution", convolution)
        self.norm = norm

    def forward(self, u: Tensor) -> Tensor:
        data: Tensor = self.convolution(u)
        return data if self.norm is None else self.norm(data)

    def residual(self, f: Tensor, u: Tensor | None) -> Tensor:
        return f if u is None else f - self.convolution(u)


@final
class UnusedOperator(nn.Module, Operator):
    """A where it is only ever applied to the zero state: it has no weights, as no data would train them."""

    def forward(self, u: Tensor) -> Tensor:
        raise ValueError("this A has no weights, as its level is entered with u = 0; start the cycle with u=None")


@final
class StepOperators(nn.Module, Operator):
    """A different A^(l,i) in every smoothing step.

    In a transfer, A is the last step's on the fine side (`residual`), and the first step's on the coarse side (the call).
    """

    steps: Sequence[ConvOperator | UnusedOperator]

    def __init__(self, steps: Sequence[ConvOperator | UnusedOperator]) -> None:
        super().__init__()
        self.steps = nn.ModuleList(steps)  # type: ignore[assignment]

    def forward(self, u: Tensor) -> Tensor:
        return self.steps[0](u)

    def residual(self, f: Tensor, u: Tensor | None) -> Tensor:
        return self.steps[-1].residual(f, u)


def operator_of_step(operator: Operator, step: int) -> Operator:
    """Return A^(l,i): the level's operator, unless it has one for every step."""
    return operator.steps[step] if isinstance(operator, StepOperators) else operator


# ---------------------------------------------------------------------------------------------------------------- B


@final
class Bottleneck(nn.Module):
    """B = 1x1, 3x3, 1x1, with fewer channels between; batch norm and activation after the first two.

    Each step has norms of its own, even where the convolutions are shared.
    """

    narrow: nn.Module
    between: nn.Module
    widen: nn.Module
    first_norm: nn.Module
    second_norm: nn.Module

    def __init__(self, convolutions: tuple[Part, Part, Part], norms: tuple[Part, Part], activation: nn.Module) -> None:
        super().__init__()
        for name, part in zip(("narrow", "between", "widen"), convolutions, strict=True):
            hold(self, name, part)
        for name, part in zip(("first_norm", "second_norm"), norms, strict=True):
            hold(self, name, part)
        self.activation = activation

    def forward(self, data: Tensor) -> Tensor:
        thin = self.activation(self.first_norm(self.narrow(data)))
        return self.widen(self.activation(self.second_norm(self.between(thin))))


@final
class Extraction(nn.Module):
    """Feature extraction B, the update of u from a residual: `scale * sigma(norm(B sigma(norm(r))))`.

    Parameters
    ----------
    convolution : nn.Module or Borrowed
        B, data (n, c_f, h, w) to features (n, c_u, h, w).
    norms : pair of nn.Module or Borrowed
        Of the residual, and of B's result.
    activation : nn.Module
    scaled : bool
        Whether there is a trained scale, the alpha_i of B^(l,i) = alpha_i B^l. The batch norm would undo it further in.
    """

    data_norm: nn.Module
    convolution: nn.Module
    feature_norm: nn.Module

    def __init__(self, convolution: Part, norms: tuple[Part, Part], activation: nn.Module, scaled: bool = False) -> None:
        super().__init__()
        hold(self, "data_norm", norms[0])
        hold(self, "convolution", convolution)
        hold(self, "feature_norm", norms[1])
        self.activation = activation
        self.scale = nn.Parameter(torch.ones(())) if scaled else None

    def forward(self, residual: Tensor) -> Tensor:
        data = self.activation(self.data_norm(residual))
        features: Tensor = self.activation(self.feature_norm(self.convolution(data)))
        return features if self.scale is None else self.scale * features


class _Extractions(nn.Module, Smoother):
    """Smoothing steps, one for each given extraction."""

    def __init__(self, steps: Sequence[Extraction]) -> None:
        super().__init__()
        self.steps = nn.ModuleList(steps)

    @property
    def cost(self) -> float:
        return len(self.steps)


@final
class FeatureExtraction(_Extractions):
    """Smoothing steps u <- u + B^i (f - A u), one for each given extraction."""

    def forward(self, operator: Operator, f: Tensor, u: Tensor | None) -> Tensor:
        for number, extract in enumerate(self.steps):
            u = _add(u, extract(operator_of_step(operator, number).residual(f, u)))
        return u  # type: ignore[return-value]


@final
class ChebyshevExtraction(_Extractions):
    """Semi-iteration u^i = w^i (u^(i-1) + B^i (f - A u^(i-1))) + (1 - w^i) u^(i-2), with trained w, 1 at first.

    The first step has no step before it and no w. The counterpart of LM-ResNet.
    """

    def __init__(self, steps: Sequence[Extraction]) -> None:
        super().__init__(steps)
        self.weights = nn.Parameter(torch.ones(len(steps) - 1)) if len(steps) > 1 else None

    def forward(self, operator: Operator, f: Tensor, u: Tensor | None) -> Tensor:
        before: Tensor | None = None
        for number, extract in enumerate(self.steps):
            improved = _add(u, extract(operator_of_step(operator, number).residual(f, u)))
            if number and self.weights is not None:
                weight = self.weights[number - 1]
                improved = weight * improved if before is None else weight * improved + (1 - weight) * before
            before, u = u, improved
        return u  # type: ignore[return-value]


@final
class MultiStepExtraction(nn.Module, Smoother):
    """u^i = sum_{j<i} alpha_j^i (u^j + B_j^i (f - A u^j)), alpha >= 0 with sum 1 (a softmax), equal at first.

    Step i has i extractions, one for each state before it. The counterpart of DenseNet.
    """

    def __init__(self, steps: Sequence[Sequence[Extraction]]) -> None:
        super().__init__()
        self.steps: Sequence[nn.ModuleList] = nn.ModuleList(nn.ModuleList(extractions) for extractions in steps)  # type: ignore[assignment]
        self.logits = nn.ParameterList(torch.zeros(len(extractions)) for extractions in steps[1:])

    @property
    def cost(self) -> float:
        return sum(len(extractions) for extractions in self.steps)

    def forward(self, operator: Operator, f: Tensor, u: Tensor | None) -> Tensor:
        states: list[Tensor | None] = [u]
        residuals: list[Tensor] = []
        for number, extractions in enumerate(self.steps):
            if isinstance(operator, StepOperators):  # with another A, the residuals of all states are others
                residuals = []
            A = operator_of_step(operator, number)
            residuals += [A.residual(f, state) for state in states[len(residuals) :]]
            known = zip(states, residuals, extractions, strict=True)
            proposals = [_add(state, extract(residual)) for state, residual, extract in known]
            alphas = torch.softmax(self.logits[number - 1], dim=0) if number else [1.0]
            mixed = [alphas[at] * proposal for at, proposal in enumerate(proposals)]  # torch.fx iterates over no tensor
            states.append(functools.reduce(torch.add, mixed))
        return states[-1]  # type: ignore[return-value]


def _add(u: Tensor | None, correction: Tensor) -> Tensor:
    return correction if u is None else u + correction


# ------------------------------------------------------------------------------------------------------- R, Pi and P


class _Pooling(nn.Module):
    """sigma(norm(convolution)), the convolution with stride 2: the common part of R and Pi."""

    convolution: nn.Module

    def __init__(self, convolution: Part, norm: nn.Module | None, activation: nn.Module | None) -> None:
        super().__init__()
        hold(self, "convolution", convolution)
        self.norm = norm
        self.activation = activation

    def forward(self, fine: Tensor) -> Tensor:
        coarse: Tensor = self.convolution(fine)
        if self.norm is not None:
            coarse = self.norm(coarse)
        return coarse if self.activation is None else self.activation(coarse)


@final
class ConvRestriction(_Pooling, Restriction):
    """R: pools the residual, data (n, c_f, h, w) to data (n, c_f', h/2, w/2), an odd size rounded up."""


@final
class ConvStateTransfer(_Pooling, StateTransfer):
    """Pi: pools the features, (n, c_u, h, w) to (n, c_u', h/2, w/2), an odd size rounded up."""


@final
class ChannelwiseConvolution(nn.Module):
    """One single-channel 3x3 kernel with stride 2, the same for every channel: nine weights in all (the Pi_2 of the paper)."""

    def __init__(self, padding_mode: str) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(1, 1, 3, stride=2, bias=False)
        self.padding_mode = "constant" if padding_mode == "zeros" else padding_mode

    def forward(self, u: Tensor) -> Tensor:
        channels = u.shape[1]
        padded = functional.pad(u, (1, 1, 1, 1), mode=self.padding_mode)
        return functional.conv2d(padded, self.convolution.weight.expand(channels, 1, 3, 3), stride=2, groups=channels)


@final
class ConvProlongation(nn.Module, Prolongation):
    """P: the transpose of a 3x3 convolution with stride 2, then a batch norm; a correction has a sign, so no activation.

    `coarse` and `fine` are the channels of the correction and of the state that it corrects.
    """

    def __init__(self, coarse: int, fine: int, norm: nn.Module | None, padding_mode: str) -> None:
        super().__init__()
        self.periodic = padding_mode == "circular"
        self.convolution = nn.ConvTranspose2d(coarse, fine, 3, stride=2, padding=0 if self.periodic else 1, bias=False)
        self.norm = norm

    def forward(self, correction: Tensor) -> Tensor:
        return self._onto((2 * correction.shape[-2], 2 * correction.shape[-1]), correction)

    def add_to(self, u: Tensor, correction: Tensor) -> Tensor:
        """Return u + P e on u's own grid, whose size need not be even."""
        return u + self._onto((u.shape[-2], u.shape[-1]), correction)

    def _onto(self, size: tuple[int, int], correction: Tensor) -> Tensor:
        if self.periodic:
            fine = _folded(_folded(self.convolution(correction), -2, size[0]), -1, size[1])
        else:
            fine = self.convolution(correction, output_size=list(size))
        return fine if self.norm is None else self.norm(fine)


def _folded(values: Tensor, axis: int, size: int) -> Tensor:
    """Return the values of a periodic axis, those beyond either end added at the other: one before, one or none after."""
    count = values.shape[axis] - 1 - size
    before, within, after = (values.narrow(axis, *part) for part in ((0, 1), (1, size), (1 + size, count)))
    within = torch.cat([within.narrow(axis, 0, size - 1), within.narrow(axis, size - 1, 1) + before], dim=axis)
    return torch.cat([within.narrow(axis, 0, count) + after, within.narrow(axis, count, size - count)], dim=axis)
