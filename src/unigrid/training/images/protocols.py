"""Training protocols: the published ones and our own. Always report a result with the label of its protocol.

    paper    120 epochs, SGD with momentum 0.9, batch 128, rate 0.1 divided by 10 every 30 epochs, Kaiming initialization
    course   the same with weight decay 5e-4, random crop (pad 4) and flip
    code     300 epochs, rate times 0.1 every 50 epochs, weight decay 5e-4, crop and flip, PyTorch's initialization
    fast     our own: Nesterov momentum, one cycle of the rate, label smoothing, a moving average of the weights, bfloat16,
             compiled where that pays, and at test time the mean over an image and its mirror image
    muon     fast, but the kernels of convolutions learn by Muon, at the rate 0.05 for any batch

`benchmarks/tuning/recipe.py` measures on validation images what a choice changes; its record is
benchmarks/results/amd-epyc-avx512-2c/recipe.json, one seed so far. Muon instead of SGD: 81.3 for 78.2 % after 4 epochs of
45,000 images, 75.8 for 65.2 % after 4 of 12,000, for 5 % more CPU time; its rate 0.1 gives the same as 0.05, 0.02 costs 2.1
points. Not taken: images that grow from 16 pixels, 2.4 points less for 18 % less CPU time; a first layer that whitens, 0.5
points more in the short trial, 0.6 less in the long one; weight decay 0.02, 0.8 less.

Source: J. He & J. Xu, MgNet (2019), section 6, for paper; the authors' course notes and released code. `fast` follows what
speed records on CIFAR do: L. Smith & N. Topin, arXiv:1708.07120 (one cycle); K. Jordan, arXiv:2404.00498 (airbench).
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, final

from ...conv.configuration import normalize_counts
from ...messages import checked_count, checked_number, choose, entries_of, nearest, plain_number, shown
from ..data.augmentation import Augmentation
from ..data.mixing import Mixing

SCHEDULES = ("steps", "one-cycle", "cosine")
OPTIMIZERS = ("sgd", "adamw", "muon")
# PyTorch's defaults, where they are not chosen; rates in proportion to the batch are for SGD.
ADAMW = {"learning_rate": 1e-3, "weight_decay": 1e-2, "nesterov": False, "scale_rate": False}
CLASS_WEIGHTS = ("equal", "balanced")
INITIALIZATIONS = ("own", "pytorch", "kaiming", "identity")
STEP_OF_SIZES = 4  # pixels
GROWING = 0.75  # of the epochs
MOST = 1e38  # of a rate: float32 ends there
RATE_BATCH = 128  # the batch size to which a scaled learning rate refers


@final
@dataclass(frozen=True)
class ImageProtocol:
    """How a network is trained on images. `unigrid.training.Protocol` is another name of this class.

    Parameters
    ----------
    name : str
    epochs, batch_size : int
    learning_rate : float
        The highest rate of the schedule. With `scale_rate` it refers to a batch of 128 and is proportional to the batch size.
    optimizer : "sgd", "adamw" or "muon"
        PyTorch's; `momentum` is the first beta of AdamW. `with_choices(optimizer="adamw")` takes PyTorch's learning rate, 1e-3
        for every batch size, and weight decay, 0.01, unless these are chosen as well. "muon" is Muon for the kernels of
        convolutions and SGD for all other weights, both at the same rate.
    schedule : "steps", "one-cycle" or "cosine"
        The rate is multiplied by `decay` every `decay_every` epochs; or it rises linearly over the fraction `warmup` of all
        steps, and then falls linearly to zero; or it falls from the first step on as half a cosine, to zero, as PyTorch's
        CosineAnnealingLR does step by step.
    momentum, nesterov, weight_decay, label_smoothing
        As in PyTorch's SGD and cross entropy.
    clip_grad : float
        The largest norm of the gradient of all weights, to which longer ones are shortened; 0: none are.
    class_weights : "equal", "balanced", or one number > 0 per class
        Weights of the classes, in their order, in the cross entropy, as PyTorch's `weight`; "balanced": n / (k n_c) for the
        n_c of n training images in class c of k, as in scikit-learn.
    decay_norms : bool
        Whether batch norms and biases decay as well, as they do in the published protocols.
    pad, flip, cutout : int, bool, int
        See `Augmentation`. `flip` is whether images may be mirrored, in training and at test time alike; they never are where
        the data forbid it (`ImageData.flip`), as a mirrored image has another label there.
    mixup, cutmix : float
        See `Mixing`; the usual values are 0.2 and 1, 0: none.
    initialization : "own", "pytorch", "kaiming" or "identity"
        The initial weights: the model's own, PyTorch's default, Kaiming's normal distribution in convolutions, or the model's
        own but for 3x3 convolutions, whose first outputs are their inputs.
    average : float
        Decay per step of the moving average of weights that is evaluated in place of the weights; 0: none. After n steps
        the decay is at most (1 + n) / (10 + n), so that the average of a short run does not depend on its first weights.
    mixed_precision : bool
        Whether convolutions compute in bfloat16 (weights stay float32). Unless it is passed explicitly, `train` sets it to
        False where the device has no instructions for it.
    accelerated : bool
        channels_last memory, and `torch.compile` where it pays.
    drop_last : bool
        Whether an epoch leaves out the images that fill no whole batch (other ones in each epoch).
    test_flip : bool
        Whether the logits of an image and its mirror image are averaged at test time, if images may be mirrored.
    patience : int
        Training ends after so many epochs without a higher validation accuracy, and the weights of the best epoch are the ones
        that are returned and tested. 0: it goes through all epochs, and the last weights are.
    stratify : bool
        Whether a validation set that is split off has the same share of every class, up to one image.
    whitening : bool
        Whether the first convolution begins with the kernels that make patches of the training images uncorrelated.
    first_size : int
        The shorter side of the training images in the first epoch, in pixels, to which they are made smaller after all other
        changes; it grows in steps of 4 to their own over three quarters of the epochs. 0: their own from the start.
    sync_batch_norm : bool
        Whether batch norms of several processes that train together take mean and variance over the whole batch, as one
        process does, or each over its own share. That costs a message of every norm, forwards and backwards.
    """

    name: str
    epochs: int
    batch_size: int = 128
    learning_rate: float = 0.1
    scale_rate: bool = False
    schedule: str = "steps"
    decay_every: int = 30
    decay: float = 0.1
    warmup: float = 0.2
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 0.0
    decay_norms: bool = True
    label_smoothing: float = 0.0
    pad: int = 0
    flip: bool = False
    cutout: int = 0
    initialization: str = "pytorch"
    average: float = 0.0
    mixed_precision: bool = False
    accelerated: bool = False
    drop_last: bool = False
    test_flip: bool = False
    optimizer: str = "sgd"
    clip_grad: float = 0.0
    class_weights: str | tuple[float, ...] = "equal"
    mixup: float = 0.0
    cutmix: float = 0.0
    patience: int = 0
    stratify: bool = False
    sync_batch_norm: bool = False
    whitening: bool = False
    first_size: int = 0

    def __post_init__(self) -> None:
        choose(self.schedule, SCHEDULES, "schedule")
        choose(self.initialization, INITIALIZATIONS, "initialization")
        choose(self.optimizer, OPTIMIZERS, "optimizer")
        object.__setattr__(self, "class_weights", _class_weights(self.class_weights))
        for name in ("patience", "first_size"):
            object.__setattr__(self, name, checked_count(name, getattr(self, name), 0))
        normalize_counts(self, ("epochs", "batch_size", "decay_every"))
        for name in ("learning_rate", "decay"):
            checked_number(name, getattr(self, name), "a number > 0", lambda value: value > 0)
        for name in ("momentum", "label_smoothing", "average", "warmup"):
            checked_number(name, getattr(self, name), "a number from 0 to less than 1", lambda value: 0 <= value < 1)
        for name in ("weight_decay", "clip_grad"):
            checked_number(name, getattr(self, name), "a number >= 0")
        for name in ("learning_rate", "decay", "weight_decay"):  # beyond it float32 overflows in one step
            checked_number(name, getattr(self, name), f"a number, at most {MOST:g}", lambda value: value <= MOST)
        _ = self.mixing  # a Mixing checks its own fields
        for field in dataclasses.fields(self):
            if isinstance(field.default, float):  # as a checkpoint holds it
                object.__setattr__(self, field.name, float(plain_number(getattr(self, field.name)) or 0))
        for field in dataclasses.fields(self):
            if isinstance(field.default, bool) and not isinstance(getattr(self, field.name), bool):
                raise ValueError(f"{field.name} must be True or False, got {shown(getattr(self, field.name))}")
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov=True needs a momentum > 0, got 0")
        if self.nesterov and self.optimizer == "adamw":
            raise ValueError(f"nesterov=True is for optimizer='sgd' or 'muon', got {self.optimizer!r}; leave it out")
        changes = self.augmentation(True)  # an Augmentation checks its own fields
        for name in ("pad", "cutout"):
            object.__setattr__(self, name, getattr(changes, name))

    def augmentation(self, flips: bool) -> Augmentation:
        """Return the augmentation of the images; `flips`: whether a mirrored image keeps its label."""
        return Augmentation(self.pad, self.flip and flips, self.cutout)

    @property
    def mixing(self) -> Mixing:
        """How training images are mixed with others."""
        return Mixing(self.mixup, self.cutmix)

    def averages_mirrored(self, flips: bool) -> bool:
        """Whether answers at test time are means over an image and its mirror image; `flips` as in `augmentation`."""
        return self.test_flip and self.augmentation(flips).flip

    def rate(self, step: int, steps_per_epoch: int) -> float:
        """Return the learning rate of a step, counted from 0."""
        peak = self.learning_rate * (self.batch_size / RATE_BATCH if self.scale_rate else 1)
        if self.schedule == "steps":
            return peak * self.decay ** (step // steps_per_epoch // self.decay_every)
        total = self.epochs * steps_per_epoch
        if self.schedule == "cosine":
            return peak * (1 + math.cos(math.pi * step / total)) / 2
        rising = self.warmup * total
        position = step + 0.5  # the middle of the step, so that no step has rate zero
        return peak * min(position / rising if rising else 1.0, (total - position) / (total - rising))

    def size_in_epoch(self, epoch: int, size: tuple[int, int]) -> tuple[int, int]:
        """Return height and width of the training images in an epoch, counted from 0, for images of that size."""
        short, growing = min(size), GROWING * (self.epochs - 1)
        if not self.first_size or epoch >= growing:
            return size
        grown = self.first_size + (short - self.first_size) * epoch / growing
        side = min(max(round(grown / STEP_OF_SIZES) * STEP_OF_SIZES, self.first_size), short)
        height, width = (round(extent * side / short) for extent in size)
        return height, width

    @property
    def label(self) -> str:
        """The name, and the fields that differ from the protocol of that name: a result has to be reported with it."""
        own, original = dataclasses.asdict(self), PROTOCOLS.get(self.name)
        before = dataclasses.asdict(original) if original else own
        changes = [f"{name}={value}" for name, value in own.items() if value != before[name]]
        return f"{self.name}, changed: {', '.join(changes)}" if changes else self.name

    def with_choices(self, **choices: Any) -> ImageProtocol:
        """Return the protocol with other choices; None leaves a field as it is.

        The name stays the same; `label` lists the changes. Raises TypeError for an unknown field, and ValueError for a value
        that is not allowed, or for test_flip=True where flip is False.
        """
        known = [field.name for field in dataclasses.fields(self) if field.name != "name"]
        for name in choices:
            if name not in known:
                raise TypeError(f"a protocol has no {name!r}; it has {', '.join(known)}{nearest(name, known)}")
        given = {name: value for name, value in choices.items() if value is not None}
        if given.get("optimizer") == "adamw" != self.optimizer:
            given = {**ADAMW, **given}
        changed = dataclasses.replace(self, **given)
        if choices.get("test_flip") and not changed.flip:
            raise ValueError(
                "test_flip=True averages over mirror images, but flip=False: no image may be mirrored; pass flip=True too"
            )
        return changed


def _class_weights(value: Any) -> str | tuple[float, ...]:
    """Return weights of classes as the name of a choice or a tuple of floats. Raises ValueError."""
    if isinstance(value, str):
        return choose(value, CLASS_WEIGHTS, "class_weights (or one number per class)")
    weights = entries_of(value) or (value,)
    return tuple(
        checked_number(f"class_weights[{number}]", weight, "a number > 0", lambda value: value > 0)
        for number, weight in enumerate(weights)
    )


_FAST = ImageProtocol(
    "fast", 30, learning_rate=0.1, scale_rate=True, schedule="one-cycle", nesterov=True, weight_decay=5e-4,
    decay_norms=False, label_smoothing=0.1, pad=2, flip=True, initialization="own", average=0.99, mixed_precision=True,
    accelerated=True, drop_last=True, test_flip=True,
)  # fmt: skip
_PUBLISHED = {"pad": 4, "flip": True, "weight_decay": 5e-4}
PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        ImageProtocol("paper", 120, initialization="kaiming"),
        ImageProtocol("course", 120, initialization="kaiming", **_PUBLISHED),  # type: ignore[arg-type]
        ImageProtocol("code", 300, decay_every=50, **_PUBLISHED),  # type: ignore[arg-type]
        _FAST,
        dataclasses.replace(_FAST, name="muon", optimizer="muon", learning_rate=0.05, scale_rate=False),
    )
}


def protocol_named(protocol: str | ImageProtocol) -> ImageProtocol:
    """Return the protocol of that name, or the given one. Raises ValueError for an unknown name, with the nearest."""
    return protocol if isinstance(protocol, ImageProtocol) else PROTOCOLS[choose(protocol, PROTOCOLS, "protocol")]
