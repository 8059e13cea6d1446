"""The equivalences between forms of networks, each with the cases it is tried on."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ..conv.classifier import Classifier
from ..conv.mgnet import MgNet
from ..conv.plain import PlainNet, PoolingRestriction
from ..conv.residual import ResNet
from ..stencil.hierarchy import StencilCycle
from ..stencil.problem import Poisson
from .claims import Case, Claim, Side
from .networks import to_feature_form, to_residual_form
from .plain import pooling_as_restriction, to_plain_residual_form
from .sharing import share_operators, unshare_operators
from .sigma import from_sigma_form, to_sigma_form
from .unet import UNet, from_unet, name_in_mgnet, to_unet

SIZES = ((16, 16), (13, 18), (32, 32))
EVEN_SIZES = ((16, 16), (12, 18), (32, 32))
BATCH = 3
STATISTICS = ("running_mean", "running_var")
Network = TypeVar("Network", bound=nn.Module)
Convert = Callable[[Any], Any]
Makers = Mapping[str, Callable[[], Any]]  # networks to be drawn, by what is particular about them
ONE_OPERATOR: Makers = {"one A for all levels": partial(MgNet, steps=(2, 1, 2), features=5, operator_sharing="global")}


def random_network(make: Callable[[], Network]) -> Network:
    """Return a network in float64 with nothing left at a value, 0 or 1, that would hide a mistake.

    Convolutions are random already. Gains and running variances are 0.5 to 1.5; biases and means normal, biases mostly above 0,
    that few channels die behind their ReLU.
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


def statistics(network: nn.Module, without: str = "nothing") -> list[Tensor]:
    """Return the running statistics of all norms, in order, but for those whose name contains `without`."""
    return [value for name, value in network.named_buffers() if name.endswith(STATISTICS) and without not in name]


def _cases(
    seed: int,
    makers: Makers,
    sides: Callable[[Any], tuple[Side, Side]],
    sizes: Sequence[tuple[int, int]] = SIZES,
) -> Iterator[Case]:
    """Yield every network in every size, as in evaluation and as in training."""
    for kind, make in makers.items():
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            left, right = sides(random_network(make))
            images = {size: torch.randn(BATCH, 3, *size, dtype=torch.float64) for size in sizes}
        for size, training in itertools.product(sizes, (False, True)):
            name = f"{kind}, {size[0]} x {size[1]}, {'training' if training else 'evaluation'}, seed {seed}"
            yield Case(name, left, right, (images[size],), training)


def _mgnets(**choices: Any) -> Makers:
    """Return MgNets with Pi and without, with equal and with unequal channels of features and data."""
    channels: dict[str, dict[str, Any]] = {
        "equal channels": {"features": 5},
        "unequal channels": {"features": (4, 6, 5), "data": (6, 5, 7)},
    }
    transfers = {"Pi": "convolution", "no Pi": "zero"}
    return {
        f"{pi}, {width}": partial(MgNet, **{"steps": (2, 1, 2), "state_transfer": transfers[pi], **channels[width], **choices})
        for pi, width in itertools.product(transfers, channels)
    }


def _resnets(**choices: Any) -> Makers:
    """Return residual networks that differ in channels and blocks."""
    shapes: dict[str, dict[str, Any]] = {
        "equal channels": {"blocks": (2, 2), "channels": 5},
        "unequal channels": {"blocks": (3, 1, 2), "channels": (4, 6, 5)},
    }
    return {name: partial(ResNet, **shape, **choices) for name, shape in shapes.items()}


def _plain_networks() -> Makers:
    """Return plain networks of both kinds of pooling, with norms and with biases."""
    shapes: dict[str, dict[str, Any]] = {
        "equal channels": {"steps": (2, 2), "channels": 5},
        "unequal channels": {"steps": (3, 2, 1), "channels": (4, 6, 5)},
    }
    return {
        f"{pooling} pooling, {'norm' if norm else 'bias'}, {name}": partial(PlainNet, pooling=pooling, norm=norm, **shape)
        for (name, shape), pooling, norm in itertools.product(shapes.items(), ("max", "average"), (True, False))
    }


def _also(name: str, makers: Makers) -> Makers:
    return {f"{name}, {kind}": make for kind, make in makers.items()}


# ----------------------------------------------------------------------------------------------- one function for each claim


def _residual_form(seed: int) -> Iterator[Case]:
    makers = {**_mgnets(), **_also("alpha B", _mgnets(extractor_sharing="scaled")), **ONE_OPERATOR}

    def in_feature_space(mgnet: MgNet, images: Tensor) -> list[Any]:
        levels = mgnet.cycle.trace(mgnet.theta(images))[1]
        return [*(level.residual for level in levels), *statistics(mgnet.cycle, without="state_transfer")]

    def in_data_space(network: nn.ModuleDict, images: Tensor) -> list[Any]:
        cycle: Any = network["cycle"]
        r, levels = cycle.trace(network["theta"](images))
        return [*(level.features for level in levels[:-1]), r, *statistics(cycle)]

    def sides(mgnet: MgNet) -> tuple[Side, Side]:
        other = nn.ModuleDict({"theta": copy.deepcopy(mgnet.theta), "cycle": to_residual_form(mgnet)})
        return Side(mgnet, in_feature_space), Side(other, in_data_space)

    return _cases(seed, makers, sides)


def _feature_form(seed: int) -> Iterator[Case]:
    shared = {"form": "pre-act", "operator_sharing": "level"}
    makers = {**_resnets(**shared), **_also("B^l", _resnets(**shared, extractor_sharing="level"))}

    def original(resnet: ResNet, images: Tensor) -> list[Tensor]:
        features, levels = resnet.cycle.trace(resnet.theta(images))
        return [resnet.forward_head(features), *(level.features for level in levels), *statistics(resnet)]

    def as_mgnet(network: ResNet, images: Tensor) -> list[Tensor]:
        levels = network.cycle.trace(network.theta(images))[1]
        logits = network.forward_head(levels[-1].residual)
        return [logits, *(level.residual for level in levels), *statistics(network)]

    def sides(resnet: ResNet) -> tuple[Side, Side]:
        other = copy.deepcopy(resnet)
        other.cycle = to_feature_form(resnet)
        return Side(resnet, original), Side(other, as_mgnet)

    return _cases(seed, makers, sides)


def _activated_levels(resnet: ResNet, images: Tensor) -> list[Tensor]:
    """Return logits, what every level leaves behind its sigma, and statistics."""
    features, levels = resnet.cycle.trace(resnet.theta(images))
    return [resnet.forward_head(features), *(torch.relu(level.features) for level in levels), *statistics(resnet)]


def _sigma_form(seed: int) -> Iterator[Case]:
    makers = {**_resnets(form="resnet"), **_also("A^l", _resnets(form="resnet", operator_sharing="level"))}
    return _cases(seed, makers, _same(to_sigma_form, _activated_levels, _activated_levels))


def _from_sigma_form(seed: int) -> Iterator[Case]:
    makers = _resnets(form="sigma", operator_sharing="level")
    return _cases(seed, makers, _same(from_sigma_form, _activated_levels, _activated_levels))


def _same(convert: Convert, left: Callable[..., Any], right: Callable[..., Any]) -> Callable[[Any], tuple[Side, Side]]:
    return lambda network: (Side(network, left), Side(convert(network), right))


def _plain_residual_form(seed: int) -> Iterator[Case]:
    return _cases(seed, _plain_networks(), _same(to_plain_residual_form, _activated_levels, _activated_levels))


def _logits(network: Classifier, images: Tensor) -> list[Tensor]:
    return [network(images), *statistics(network)]


def _unshared(seed: int) -> Iterator[Case]:
    yield from _cases(seed, _mgnets(), _same(unshare_operators, _logits, _logits))
    yield from _cases(seed, _resnets(operator_sharing="level"), _same(unshare_operators, _logits, _logits))
    yield from _cases(seed, ONE_OPERATOR, _same(lambda mgnet: unshare_operators(mgnet, to="level"), _logits, _logits))


def _shared(seed: int) -> Iterator[Case]:
    for makers in (_mgnets(), _resnets(form="sigma", operator_sharing="level")):
        equal = {name: partial(_made, unshare_operators, make) for name, make in makers.items()}
        yield from _cases(seed, equal, _same(share_operators, _logits, _logits))


def _made(convert: Convert, make: Callable[[], Any]) -> Any:
    return convert(make())


def _pooling(seed: int) -> Iterator[Case]:
    """Yield the fixed kernel beside average pooling, the restriction of cells, and whole networks that pool."""
    for height, width in EVEN_SIZES:
        generator = torch.Generator().manual_seed(seed)
        data = torch.randn(BATCH, 5, height, width, dtype=torch.float64, generator=generator)
        restriction = pooling_as_restriction(5).double()
        problem = Poisson((height, width), centering="cell")
        cells = StencilCycle(problem, restriction="cell-average", prolongation="constant")
        others = {
            "AvgPool2d(2)": Side(nn.AvgPool2d(2), lambda pool, data: pool(data)),
            "PoolingRestriction('average')": Side(PoolingRestriction("average"), lambda pool, data: pool(data)),
            "cell average": Side(cells, _restricted_cells),
        }
        for name, left in others.items():
            right = Side(restriction, lambda module, data: module(data))
            yield Case(f"{name}, {height} x {width}, seed {seed}", left, right, (data,))
    plain = {"in a network": partial(PlainNet, steps=(2, 1), channels=(4, 6), pooling="average")}
    yield from _cases(seed, plain, _same(_with_restriction, _logits, _logits), EVEN_SIZES)


def _restricted_cells(cycle: StencilCycle, data: Tensor) -> Tensor:
    restrict = cycle.levels[0].restriction
    planes = [torch.from_numpy(restrict(plane)) for plane in data.flatten(0, 1).numpy()]
    return torch.stack(planes).reshape(*data.shape[:2], *planes[0].shape)


def _with_restriction(plain: PlainNet) -> PlainNet:
    """Return the network with `pooling_as_restriction` in place of its average pooling."""
    other = copy.deepcopy(plain)
    for level, channels in zip(other.cycle.levels[:-1], (4, 6), strict=False):
        level.restriction = pooling_as_restriction(channels).double()  # type: ignore[attr-defined]
    return other.train(plain.training)


def _unet(seed: int) -> Iterator[Case]:
    makers = {**_mgnets(cycle="V"), **_also("B^(l,i)", _mgnets(cycle="V", extractor_sharing="step"))}
    return _cases(seed, makers, _same(to_unet, _logits_by_name, _logits_by_name))


def _logits_by_name(network: nn.Module, images: Tensor) -> list[Tensor]:
    """Return logits and statistics, these in the order of the names that they have in MgNet."""
    logits: Tensor = network(images)
    name_of = name_in_mgnet if isinstance(network, UNet) else str
    named = {name_of(name): value for name, value in network.named_buffers() if name.endswith(STATISTICS)}
    return [logits, *(named[name] for name in sorted(named))]


def _from_unet(seed: int) -> Iterator[Case]:
    makers = {name: partial(_made, to_unet, make) for name, make in _mgnets(cycle="V").items()}
    return _cases(seed, makers, _same(from_unet, _logits_by_name, _logits_by_name))


NETWORK_CLAIMS = (
    Claim(
        "MgNet's down-sweep in data space is a pre-act ResNet: r <- r - A B r, for r = f - A u",
        "A linear, without norm, one a level or for all; B^l, alpha_i B^l; any Pi (it cancels), c_u, c_f, norms in both modes",
        "residual of every level; statistics of the norms",
        _residual_form,
    ),
    Claim(
        "a pre-act ResNet with one A a level is MgNet without Pi, its block of stride 2 a nonlinear R",
        "form 'pre-act', A^l; B^l or B^(l,i); from u = 0",
        "logits; residual of every level; statistics",
        _feature_form,
    ),
    Claim(
        "ResNet is sigma-ResNet (with A^l: Mg-ResNet) in the argument of its outer sigma",
        "form 'resnet', any channels; A of each step, or A^l",
        "logits; sigma of every level's state; statistics",
        _sigma_form,
    ),
    Claim(
        "sigma-ResNet is ResNet: the way back",
        "form 'sigma', A^l",
        "logits; sigma of every level's state; statistics",
        _from_sigma_form,
    ),
    Claim(
        "a plain step chi sigma(g) is sigma(g) - xi sigma eta sigma(g), xi fixed, eta = [id, -id] (chi - id)",
        "sigma = ReLU; steps that keep the channels, the others are in R; max or average pooling; chi with norm or bias",
        "logits; data of every level; statistics",
        _plain_residual_form,
    ),
    Claim(
        "a network with shared A is one with an A for each step (or level), all equal",
        "MgNet, any Pi, c_u, c_f; ResNet with A^l; one A for all levels",
        "logits; statistics",
        _unshared,
    ),
    Claim(
        "a network with an A for each step is one with A^l",
        "A equal within each level, to the last bit",
        "logits; statistics",
        _shared,
    ),
    Claim(
        "average pooling is restriction with the fixed kernel 1/4 [1 1; 1 1]",
        "2 x 2, even sizes; cells for the grid",
        "AvgPool2d, cell-average restriction of StencilCycle, logits of a plain network",
        _pooling,
    ),
    Claim(
        "MgNet with a way up is a U-Net of encoder, decoder and skip connections, written out",
        "cycle='V', linear A^l, B^l or B^(l,i), any Pi, c_u, c_f, also odd sizes",
        "logits; statistics",
        _unet,
    ),
    Claim("such a U-Net is MgNet with a way up: the way back", "as above", "logits; statistics", _from_unet),
)
