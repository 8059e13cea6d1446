"""The equivalences between forms of networks, each with the cases it is tried on."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from operator import call
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ...conv.classifier import Classifier
from ...conv.mgnet import MgNet
from ...conv.plain import PlainNet
from ...conv.residual import ResNet
from ...stencil.cycle import StencilCycle
from ...stencil.problem import Poisson
from ..data_space import to_feature_form, to_residual_form
from ..plain import pooling_as_restriction, to_plain_residual_form
from ..sharing import share_operators, unshare_operators
from ..sigma import from_sigma_form, to_sigma_form
from ..unet import UNet, from_unet, name_in_mgnet, to_unet
from .claim import Case, Claim, Side

SIZES = ((16, 16), (13, 18), (32, 32))
EVEN_SIZES = ((16, 16), (12, 18), (32, 32))
BATCH = 3
STATISTICS = ("running_mean", "running_var")
Network = TypeVar("Network", bound=nn.Module)
Convert = Callable[[Any], Any]
Cases = Callable[[int], Iterator[Case]]
Makers = Mapping[str, Callable[[], Any]]  # random networks, by name


def random_network(make: Callable[[], Network]) -> Network:
    """Return a network in float64 whose norms and biases have random values: 0 and 1 would hide mistakes.

    Convolutions are random already. Gains and running variances are 0.5 to 1.5; biases and means are normal, biases mostly
    positive, so that few channels die behind their ReLU.
    """
    network = make().double()
    for name, value in network.state_dict().items():
        if not value.is_floating_point() or value.ndim > 1:
            continue
        if name.endswith((".weight", ".running_var", ".scale")):
            value.uniform_(0.5, 1.5)
        else:
            value.normal_(0.2 if name.endswith(".bias") else 0.0, 0.3)
    if isinstance(network, Classifier):
        nn.init.normal_(network.head.weight)
    return network


# ------------------------------------------------------------------------------------------------------------ the networks

WIDTHS: dict[str, dict[str, Any]] = {
    "equal channels": {"features": 5},
    "unequal channels": {"features": (4, 6, 5), "data": (6, 5, 7)},
}
RESIDUAL: dict[str, dict[str, Any]] = {
    "equal channels": {"blocks": (2, 2), "channels": 5},
    "unequal channels": {"blocks": (3, 1, 2), "channels": (4, 6, 5)},
}
PLAIN: dict[str, dict[str, Any]] = {
    "equal channels": {"steps": (2, 2), "channels": 5},
    "unequal channels": {"steps": (3, 2, 1), "channels": (4, 6, 5)},
}


def _mgnets(also: str = "", **choices: Any) -> Makers:
    """Return MgNets with and without Pi, with equal and with unequal channels of features and data."""
    return {
        f"{also}{pi}, {width}": partial(MgNet, **{"steps": (2, 1, 2), "state_transfer": transfer, **WIDTHS[width], **choices})
        for (pi, transfer), width in itertools.product({"Pi": "convolution", "no Pi": "zero"}.items(), WIDTHS)
    }


def _resnets(also: str = "", **choices: Any) -> Makers:
    return {f"{also}{name}": partial(ResNet, **shape, **choices) for name, shape in RESIDUAL.items()}


PLAIN_NETWORKS: Makers = {
    f"{pooling} pooling, {'norm' if norm else 'bias'}, {name}": partial(PlainNet, pooling=pooling, norm=norm, **shape)
    for (name, shape), pooling, norm in itertools.product(PLAIN.items(), ("max", "average"), (True, False))
}
ONE_OPERATOR: Makers = {"one A for all levels": partial(MgNet, steps=(2, 1, 2), features=5, operator_sharing="global")}


def _converted(convert: Convert, makers: Makers) -> Makers:
    def made(make: Callable[[], Any]) -> Any:
        return convert(make())

    return {name: partial(made, make) for name, make in makers.items()}


# ------------------------------------------------------------------------------------------------------- compared outputs


def statistics(network: nn.Module, without: str = "nothing") -> list[Tensor]:
    """Return the running statistics of all norms, in order, except those whose name contains `without`."""
    return [value for name, value in network.named_buffers() if name.endswith(STATISTICS) and without not in name]


def _of_levels(of: str, network: Any, images: Tensor) -> list[Tensor]:
    """Return the `features` or the `residual` of every level, and the statistics of the cycle's norms but Pi's."""
    levels = network.cycle.trace(network.theta(images))[1]
    return [*(getattr(level, of) for level in levels), *statistics(network.cycle, without="state_transfer")]


def _logits_and_levels(network: Any, images: Tensor, of: str = "features", activated: bool = False) -> list[Tensor]:
    """Return the logits of the last level's features or residual, these on every level, perhaps activated, and statistics."""
    levels = [getattr(level, of) for level in network.cycle.trace(network.theta(images))[1]]
    shown = map(torch.relu, levels) if activated else levels
    return [network.forward_head(levels[-1]), *shown, *statistics(network)]


_logits_and_activated_levels = partial(_logits_and_levels, activated=True)


def _logits(network: nn.Module, images: Tensor) -> list[Tensor]:
    """Return logits and statistics, these in the order of their names in MgNet."""
    logits: Tensor = network(images)
    name_of = name_in_mgnet if isinstance(network, UNet) else str
    named = {name_of(name): value for name, value in network.named_buffers() if name.endswith(STATISTICS)}
    return [logits, *(named[name] for name in sorted(named))]


# --------------------------------------------------------------------------------------------------------------- the cases


def _cases(
    makers: Makers, convert: Convert, left: Callable[..., Any], right: Callable[..., Any] | None = None, sizes: Any = SIZES
) -> Cases:
    """Return the cases of a conversion: every network in every size, as in evaluation and as in training."""

    def cases(seed: int) -> Iterator[Case]:
        for kind, make in makers.items():
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                network = random_network(make)
                sides = Side(network, left), Side(convert(network), right or left)
                images = {size: torch.randn(BATCH, 3, *size, dtype=torch.float64) for size in sizes}
            for size, training in itertools.product(sizes, (False, True)):
                name = f"{kind}, {size[0]} x {size[1]}, {'training' if training else 'evaluation'}, seed {seed}"
                yield Case(name, *sides, (images[size],), training)

    return cases


def _all_of(*cases: Cases) -> Cases:
    return lambda seed: itertools.chain.from_iterable(each(seed) for each in cases)


def _with_cycle(convert: Convert, network: Network) -> Network:
    """Return a copy of the network with the converted cycle in it."""
    other = copy.deepcopy(network)
    other.cycle = convert(network)
    return other


def _with_restriction(plain: PlainNet) -> PlainNet:
    """Return the network with `pooling_as_restriction` in place of its average pooling."""
    other = copy.deepcopy(plain)
    for level, channels in zip(other.cycle.levels[:-1], (4, 6), strict=False):
        level.restriction = pooling_as_restriction(channels).double()  # type: ignore[attr-defined]
    return other.train(plain.training)


def _poolings(seed: int) -> Iterator[Case]:
    """Yield the fixed kernel beside average pooling, and beside the restriction of cells."""
    for height, width in EVEN_SIZES:
        generator = torch.Generator().manual_seed(seed)
        data = torch.randn(BATCH, 5, height, width, dtype=torch.float64, generator=generator)
        right = Side(pooling_as_restriction(5).double(), call)
        cells = StencilCycle(Poisson((height, width), centering="cell"), restriction="cell-average", prolongation="constant")
        for name, left in ("AvgPool2d(2)", Side(nn.AvgPool2d(2), call)), ("cell average", Side(cells, _restricted_cells)):
            yield Case(f"{name}, {height} x {width}, seed {seed}", left, right, (data,))


def _restricted_cells(cycle: StencilCycle, data: Tensor) -> Tensor:
    restrict = cycle.levels[0].restriction
    planes = [torch.from_numpy(restrict(plane)) for plane in data.flatten(0, 1).numpy()]
    return torch.stack(planes).reshape(*data.shape[:2], *planes[0].shape)


A_OF_LEVEL: dict[str, Any] = {"operator_sharing": "level"}
PRE_ACT: dict[str, Any] = {"form": "pre-act", **A_OF_LEVEL}
SIGMA: dict[str, Any] = {"form": "sigma", **A_OF_LEVEL}
SHARED: Sequence[Makers] = (_mgnets(), _resnets(**SIGMA))
POOLED: Makers = {"in a network": partial(PlainNet, steps=(2, 1), channels=(4, 6), pooling="average")}

NETWORK_CLAIMS = (
    Claim(
        "MgNet's down-sweep in data space is a pre-act ResNet: r <- r - A B r, for r = f - A u",
        "A linear, no norm, one per level or for all; B^l, alpha_i B^l; any Pi (it cancels), c_u, c_f; norms in both modes",
        "residual of every level; statistics of the norms",
        _cases(
            {**_mgnets(), **_mgnets("alpha B, ", extractor_sharing="scaled"), **ONE_OPERATOR},
            partial(_with_cycle, to_residual_form), partial(_of_levels, "residual"), partial(_of_levels, "features"),
        ),
    ),
    Claim(
        "a pre-act ResNet with one A per level is MgNet without Pi, its block of stride 2 a nonlinear R",
        "form 'pre-act', A^l; B^l or B^(l,i); from u = 0",
        "logits; residual of every level; statistics",
        _cases(
            {**_resnets(**PRE_ACT), **_resnets("B^l, ", **PRE_ACT, extractor_sharing="level")},
            partial(_with_cycle, to_feature_form), _logits_and_levels, partial(_logits_and_levels, of="residual"),
        ),
    ),
    Claim(
        "ResNet is sigma-ResNet (with A^l: Mg-ResNet) in the argument of its outer sigma",
        "form 'resnet', any channels; A of each step, or A^l",
        "logits; sigma of every level's state; statistics",
        _cases(
            {**_resnets(form="resnet"), **_resnets("A^l, ", form="resnet", **A_OF_LEVEL)},
            to_sigma_form, _logits_and_activated_levels,
        ),
    ),
    Claim(
        "sigma-ResNet is ResNet: the way back",
        "form 'sigma', A^l",
        "logits; sigma of every level's state; statistics",
        _cases(_resnets(**SIGMA), from_sigma_form, _logits_and_activated_levels),
    ),
    Claim(
        "a plain step chi sigma(g) is sigma(g) - xi sigma eta sigma(g), xi fixed, eta = [id, -id] (chi - id)",
        "sigma = ReLU; steps that keep the channels, the others are in R; max or average pooling; chi with norm or bias",
        "logits; data of every level; statistics",
        _cases(PLAIN_NETWORKS, to_plain_residual_form, _logits_and_activated_levels),
    ),
    Claim(
        "a network with shared A is one with an A for each step (or level), all equal",
        "MgNet, any Pi, c_u, c_f; ResNet with A^l; one A for all levels",
        "logits; statistics",
        _all_of(
            _cases({**_mgnets(), **_resnets("ResNet, ", **A_OF_LEVEL)}, unshare_operators, _logits),
            _cases(ONE_OPERATOR, partial(unshare_operators, to="level"), _logits),
        ),
    ),
    Claim(
        "a network with an A for each step is one with A^l",
        "A equal within each level, to the last bit",
        "logits; statistics",
        _all_of(*(_cases(_converted(unshare_operators, makers), share_operators, _logits) for makers in SHARED)),
    ),
    Claim(
        "average pooling is restriction with the fixed kernel 1/4 [1 1; 1 1]",
        "2 x 2, even sizes; cells for the grid",
        "AvgPool2d, cell-average restriction of StencilCycle, logits of a plain network",
        _all_of(_poolings, _cases(POOLED, _with_restriction, _logits, sizes=EVEN_SIZES)),
    ),
    Claim(
        "MgNet with a way up is a U-Net of encoder, decoder and skip connections, written out",
        "cycle='V', linear A^l, B^l or B^(l,i), any Pi, c_u, c_f, also odd sizes",
        "logits; statistics",
        _cases(
            {**_mgnets(cycle="V"), **_mgnets("B^(l,i), ", cycle="V", extractor_sharing="step")}, to_unet, _logits
        ),
    ),
    Claim(
        "such a U-Net is MgNet with a way up: the way back",
        "as above",
        "logits; statistics",
        _cases(_converted(to_unet, _mgnets(cycle="V")), from_unet, _logits),
    ),
)  # fmt: skip
