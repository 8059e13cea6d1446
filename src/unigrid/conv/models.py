"""Named models: `create_model("mgnet-256-Bl")`; `register_model` adds one.

    mgnet-<channels>-Bl                B^l: one B per level        mgnet-<channels>-Bli    B^(l,i): one B per step
    mgnet-<channels>-shared            one A, B, R and Pi for all levels
    mgnet-paper-...                    the layout of the paper's own table: one A for all levels
    resnet18, preact-resnet34-Al, ...  residual networks; Al, Bl: A^l, B^l shared in a level; mg: sigma-ResNet with A^l

The first three exist for any number of channels. Source of the published figures: see `NamedModel.source`.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import re
from dataclasses import dataclass, field
from typing import Any

import torch

from ..messages import nearest
from .classifier import Classifier
from .configuration import configured
from .mgnet import MgNetConfig
from .plain import PlainConfig
from .residual import ResNetConfig

Config = MgNetConfig | ResNetConfig | PlainConfig
CONFIGS: dict[str, type[Config]] = {kind.__name__: kind for kind in (MgNetConfig, ResNetConfig, PlainConfig)}
MGNET = "He & Xu 2019, arXiv:1901.10415"
RELEASED = "authors' released code, protocol code"
PAPER = f"{MGNET}, protocol paper"
NOTES = f"{MGNET}, and later notes"
SHARED = "He, Chen, Zhang & Xu 2019, arXiv:1911.10428"
_MGNET_NAME = re.compile(r"mgnet-([1-9]\d*)-(Bl|Bli|shared)")


@dataclass(frozen=True)
class NamedModel:
    """A named model: its configuration, and the published results.

    Parameters
    ----------
    config : MgNetConfig, ResNetConfig, PlainConfig, or another with the same interface
    summary, source : str
    published : dict
        Top-1 test accuracy in % by data set, last epoch where both are known.
    """

    name: str
    config: Config
    summary: str
    source: str
    published: dict[str, float] = field(default_factory=dict)

    @property
    def parameters(self) -> int:
        """The number of trained parameters, for the configuration's own channels and classes."""
        with torch.device("meta"):
            return sum(parameter.numel() for parameter in self.config.build().parameters())


def list_models(pattern: str = "*") -> list[str]:
    """Return the names of all listed models that match a pattern with the wildcards * and ?, ignoring case.

    Examples
    --------
    >>> from unigrid import list_models
    >>> list_models("mgnet-256-*")
    ['mgnet-256-Bl', 'mgnet-256-Bli', 'mgnet-256-shared', 'mgnet-256-Bli-8222']
    """
    return [name for name in _LISTED if fnmatch.fnmatchcase(name.lower(), pattern.lower())]


def register_model(model: NamedModel) -> NamedModel:
    """Add a model to those named in `create_model`, `list_models` and on the command line, and return it.

    Its configuration may be of any frozen dataclass with `in_channels`, `num_classes` and `build()`; checkpoints then rebuild
    the model by the name of that class.

    Raises
    ------
    ValueError
        If the name, or the name of another class of configurations, is taken.

    Examples
    --------
    >>> import unigrid
    >>> from unigrid.conv import MgNetConfig, NamedModel, register_model
    >>> config = MgNetConfig(steps=(1, 1), features=8)
    >>> _ = register_model(NamedModel("mgnet-tiny", config, "two levels of 8 channels", "this example"))
    >>> sum(weight.numel() for weight in unigrid.create_model("mgnet-tiny").parameters())
    3874
    """
    kind = type(model.config)
    if model.name in _LISTED or _MGNET_NAME.fullmatch(model.name):
        raise ValueError(f"there is a model {model.name!r} already; all names: unigrid.list_models()")
    if CONFIGS.setdefault(kind.__name__, kind) is not kind:
        raise ValueError(f"another class of configurations is named {kind.__name__}, the name in checkpoints")
    _LISTED[model.name] = model
    return model


def named_model(name: str) -> NamedModel:
    """Return the model of that name. Raises ValueError for an unknown name, with the nearest known one."""
    if name in _LISTED:
        return _LISTED[name]
    pattern = _MGNET_NAME.fullmatch(name)
    if pattern is None:
        raise ValueError(
            f"unknown model {name!r}{nearest(name, _LISTED)}; all names: unigrid.list_models(), or `unigrid models`; "
            "mgnet-<channels>-Bl, -Bli and -shared exist for any number of channels"
        )
    return _mgnet(int(pattern[1]), pattern[2])


def is_named(name: str) -> bool:
    """Whether there is a model of that name."""
    return name in _LISTED or _MGNET_NAME.fullmatch(name) is not None


def create_model(
    name: str,
    num_classes: int | None = None,
    in_channels: int | None = None,
    *,
    pretrained: str | None = None,
    **choices: Any,
) -> Classifier:
    """Return a new model, untrained unless `pretrained` names the data set of weights that come with the package.

    Parameters
    ----------
    name : str
        One of `list_models()`, or `mgnet-<channels>-Bl`, `-Bli` or `-shared` with any number of channels.
    num_classes : int, optional
        Default 10, or the number that the trained weights are for.
    in_channels : int, optional
        Of the images; by default the number that the model was published with: 1 for the MNIST model, 3 for all others.
    pretrained : str, optional
        "cifar10" or another data set on which `unigrid.list_pretrained()` has weights of this model. The images must be
        normalized as in training: `unigrid.load_pretrained` does so itself, and its `configuration` has mean and deviation.
    **choices
        Fields of the model's configuration, to vary it.

    Raises
    ------
    ValueError, TypeError
        For an unknown name or field, with the nearest; for a model without trained weights, and for another number of classes
        or another field than theirs.
    FileError
        For trained weights that are damaged.

    Examples
    --------
    >>> import torch, unigrid
    >>> model = unigrid.create_model("mgnet-16-Bli", num_classes=100, activation="gelu")
    >>> model(torch.zeros(1, 3, 32, 32)).shape
    torch.Size([1, 100])
    >>> unigrid.create_model("mgnet-32-Bli", pretrained="cifar10").num_classes
    10
    """
    counts = {"num_classes": num_classes, "in_channels": in_channels}
    given = {**choices, **{field: count for field, count in counts.items() if count is not None}}
    if pretrained is not None:
        from .pretrained import pretrained_model

        return pretrained_model(name, pretrained, given)
    config = named_model(name).config
    return configured(type(config), config, {"num_classes": 10, **given}).build()


def configuration_of(model: Classifier) -> dict[str, Any]:
    """Return the configuration, from which `from_configuration` rebuilds the model untrained, as plain values."""
    return {"kind": type(model.config).__name__, **dataclasses.asdict(model.config)}


def from_configuration(configuration: dict[str, Any]) -> Classifier:
    """Return the untrained model that `configuration_of` describes. Raises ValueError for an unknown kind."""
    fields = dict(configuration)
    kind = fields.pop("kind", None)
    if kind not in CONFIGS:
        raise ValueError(f"a model of kind {kind!r} cannot be rebuilt; known kinds: {', '.join(CONFIGS)}")
    return configured(CONFIGS[kind], None, fields).build()


# The published figures, as the sources print them; CIFAR-10 first.
_BL = {256: {"cifar10": 96.00, "cifar100": 79.67}, 512: {"cifar100": 81.12}}
_BLI = {256: {"cifar100": 80.0}}
_ONE = {256: {"cifar100": 76.62}, 128: {"cifar100": 73.04}}
_SLOTS = ("operator", "extractor", "restriction", "state_transfer")
_VERSIONS: dict[str, tuple[str, dict[int, dict[str, float]], dict[str, Any]]] = {
    "Bl": ("B^l: one B per level", _BL, {}),
    "Bli": ("B^(l,i): one B per smoothing step", _BLI, {"extractor_sharing": "step"}),
    "shared": ("one A, B, R and Pi for all levels", _ONE, {f"{slot}_sharing": "global" for slot in _SLOTS}),
}


def _mgnet(channels: int, sharing: str) -> NamedModel:
    summary, published, choices = _VERSIONS[sharing]
    config = MgNetConfig(features=channels, **choices)
    return NamedModel(f"mgnet-{channels}-{sharing}", config, f"MgNet, {summary}", RELEASED, published.get(channels, {}))


def _paper_layout(features: int, data: int, state_transfer: str, **published: float) -> NamedModel:
    number = {"zero": 0, "convolution": 1, "channelwise": 2}[state_transfer]
    widths = f"{features}" if features == data else f"{features}-{data}"
    config = MgNetConfig(
        features=features, data=data, operator_sharing="global", extractor_sharing="step", state_transfer=state_transfer
    )
    summary = f"MgNet as the paper tabulates it: one A, B^(l,i), c_u = {features}, c_f = {data}, Pi_{number}"
    return NamedModel(f"mgnet-paper-{widths}-pi{number}", config, summary, PAPER, published)


# MgNet's other choices, each a single step away from mgnet-64-Bl.
_VARIANTS: list[tuple[str, str, dict[str, Any]]] = [
    ("chebyshev", "Chebyshev semi-iteration, the counterpart of LM-ResNet", {"semi_iteration": "chebyshev"}),
    ("multistep", "multi-step, the counterpart of DenseNet", {"semi_iteration": "multi-step"}),
    ("bottleneck", "B a bottleneck, 1x1, 3x3, 1x1", {"extractor": "bottleneck"}),
    ("scaled", "B^(l,i) = alpha_i B^l", {"extractor_sharing": "scaled"}),
    ("nonlinear", "A = xi sigma eta", {"operator": "nonlinear"}),
    ("V", "a V-cycle, its up-sweep trained: a U-shaped network", {"cycle": "V"}),
]
_FORMS = {
    "resnet": ("resnet", "ResNet"),
    "pre-act": ("preact-resnet", "pre-act ResNet"),
    "sigma": ("sigma-resnet", "sigma-ResNet"),
}
_DEPTHS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}
_SHARINGS = {"": ("step", "step"), "-Al": ("level", "step"), "-Bl": ("step", "level"), "-AlBl": ("level", "level")}
_SHARED_CIFAR100 = {
    "resnet18": 74.45, "resnet18-Al": 74.46, "resnet18-Bl": 72.78, "resnet18-AlBl": 72.56,
    "preact-resnet18": 74.33, "preact-resnet18-Al": 74.51, "preact-resnet18-Bl": 72.67, "preact-resnet18-AlBl": 72.81,
    "resnet34": 77.20, "resnet34-Al": 77.24, "resnet34-Bl": 75.31, "resnet34-AlBl": 74.79,
    "preact-resnet34": 77.25, "preact-resnet34-Al": 77.40, "preact-resnet34-Bl": 75.36, "preact-resnet34-AlBl": 75.82,
}  # fmt: skip


def _residual(form: str, depth: int, shared: str) -> NamedModel:
    stem, label = _FORMS[form]
    name = f"{stem}{depth}{shared}"
    if form == "sigma" and shared == "-Al":
        name, label = f"mg-resnet{depth}", "Mg-ResNet: sigma-ResNet"
    operator_sharing, extractor_sharing = _SHARINGS[shared]
    config = ResNetConfig(_DEPTHS[depth], form=form, operator_sharing=operator_sharing, extractor_sharing=extractor_sharing)
    what = {"": "", "-Al": ", one A per level", "-Bl": ", one B per level", "-AlBl": ", one A and one B per level"}[shared]
    published = {"cifar100": _SHARED_CIFAR100[name]} if name in _SHARED_CIFAR100 else {}
    return NamedModel(name, config, f"{label}-{depth}{what}", SHARED if published else MGNET, published)


def _all() -> list[NamedModel]:
    models = [_mgnet(channels, sharing) for sharing in ("Bl", "Bli") for channels in (16, 32, 64, 128, 256, 512)]
    models += [_mgnet(channels, "shared") for channels in (128, 256)]
    wide = MgNetConfig(steps=(8, 2, 2, 2), features=256, extractor_sharing="step")
    models.append(NamedModel("mgnet-256-Bli-8222", wide, "MgNet, B^(l,i), nu = [8, 2, 2, 2]", RELEASED, {"cifar100": 81.42}))
    models += [
        _paper_layout(256, 256, "zero", cifar10=92.02, cifar100=68.29),
        _paper_layout(256, 256, "convolution", cifar10=93.04, cifar100=72.32),
        _paper_layout(256, 512, "convolution", cifar10=93.20, cifar100=72.42),
        _paper_layout(256, 512, "channelwise"),
    ]
    mnist = MgNetConfig(operator_sharing="global", extractor_sharing="step", operator_norm=True, in_channels=1)
    models.append(NamedModel("mgnet-mnist-64", mnist, "MgNet for MNIST: one A, B^(l,i), three batch norms per transfer", MGNET))
    models += [
        NamedModel(f"mgnet-64-Bl-{name}", MgNetConfig(features=64, **choices), f"MgNet, B^l, {summary}", NOTES)
        for name, summary, choices in _VARIANTS
    ]
    for form in ("resnet", "pre-act"):
        models += [_residual(form, depth, shared) for depth in _DEPTHS for shared in _SHARINGS]
    models += [_residual("sigma", depth, shared) for depth in _DEPTHS for shared in ("", "-Al")]
    lenet = PlainConfig((1, 1), (6, 16), kernel=5, pooling="average", norm=False, activation="tanh")
    models += [
        NamedModel("plain-lenet", lenet, "LeNet's two convolutions, average pooling, linear head", MGNET),
        NamedModel("plain-vgg11", PlainConfig(), "VGG-11's convolutions, max pooling, linear head", "arXiv:1409.1556"),
    ]
    return models


_LISTED: dict[str, NamedModel] = {model.name: model for model in _all()}
