"""The setup of a run on images: training and validation images, protocol, seed, device."""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ...conv.classifier import Classifier
from ...conv.models import configuration_of
from ...conv.weights import unwrap
from ...messages import plain_number, shown
from ..data.augmentation import Augmentation, Pipeline
from ..data.datasets import ImageData, Split
from ..runs.processes import ALONE, Processes
from .evaluation import Evaluation, evaluate_model
from .loss import weights_of_classes
from .protocols import ImageProtocol


@dataclass(frozen=True, eq=False)
class Setup:
    """The data, split for training and validation, the protocol, the seed and the device of one run."""

    data: ImageData
    train: Split
    validation: Split | None
    protocol: ImageProtocol
    seed: int
    device: torch.device

    @property
    def steps_per_epoch(self) -> int:
        """The number of batches per epoch. A last batch of one image is left out: batch norm needs at least two."""
        return _batches(len(self.train), self.protocol)[0]

    @property
    def memory_format(self) -> torch.memory_format:
        """The order of images and weights in memory; channels last is not part of the published protocols."""
        return torch.channels_last if self.protocol.accelerated else torch.contiguous_format

    def pipeline(self, images: Tensor, dtype: torch.dtype, augmentation: Augmentation | None = None) -> Pipeline:
        """Return images ready for batches on the device."""
        return Pipeline(images, self.data.mean, self.data.std, augmentation, self.device, dtype, self.memory_format)

    def evaluate(self, model: nn.Module, images: Pipeline, labels: Tensor, processes: Processes = ALONE) -> Evaluation:
        """Evaluate a model as the protocol does."""
        flip = self.protocol.averages_mirrored(self.data.flip)
        return evaluate_model(model, images, labels, flip, self.protocol.mixed_precision, processes)

    def configuration(self, network: nn.Module, subset: int | None, validation: float) -> dict[str, Any]:
        """Return the description of a run in plain values."""
        data, bare = self.data, unwrap(network)
        return {
            "model": configuration_of(bare) if isinstance(bare, Classifier) else {"kind": f"custom {type(bare).__name__}"},
            "dataset": {
                "name": data.name,
                "classes": list(data.classes),
                "shape": list(data.shape),
                "mean": list(data.mean),
                "std": list(data.std),
                "flip": data.flip,
                "synthetic": data.synthetic,
                "training_images": len(self.train),
                "fingerprint": _fingerprint(self.train),
            },
            "protocol": dataclasses.asdict(self.protocol),
            "seed": self.seed,
            "subset": None if subset is None else plain_number(subset),
            "validation": plain_number(validation) if data.validation is None else _fingerprint(data.validation),
        }


def _fingerprint(split: Split) -> str:
    """Return a hash of all labels and of the first images."""
    return hashlib.sha256(split.labels.cpu().numpy().tobytes() + split.images[:64].cpu().numpy().tobytes()).hexdigest()


def _batches(images: int, protocol: ImageProtocol) -> tuple[int, int]:
    """Return the number of batches per epoch, and of images in the last."""
    whole, rest = divmod(images, protocol.batch_size)
    if whole and (protocol.drop_last or rest <= 1):
        return whole, protocol.batch_size
    return whole + 1, rest


def check_shares(network: nn.Module, images: int, protocol: ImageProtocol, processes: Processes) -> None:
    """Raise ValueError where the smallest batch of an epoch has too few images for a share in every process."""
    _, smallest = _batches(images, protocol)
    normed = any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in network.modules())
    least = 2 if normed and not protocol.sync_batch_norm else 1
    if processes.world > 1 and smallest < least * processes.world:
        raise ValueError(
            f"images in the last batch of an epoch: {smallest}, too few for {processes.world} processes, each needs {least}; "
            f"take fewer processes, another batch size, at least {least * processes.world}, or leave that batch out by "
            "drop_last=True (--set drop_last=true)"
        )


def training_splits(
    data: ImageData, protocol: ImageProtocol, subset: int | None, validation: float, seed: int
) -> tuple[Split, Split | None]:
    """Return the training and the validation images, drawn with the seed.

    Raises ValueError where they make no batch, or do not have what the protocol needs.
    """
    weights_of_classes(protocol, data.train.labels, len(data.classes))
    if protocol.first_size > min(data.shape[1:]):
        raise ValueError(
            f"first_size={protocol.first_size} is larger than the images, {data.shape[1]} x {data.shape[2]} pixels"
        )
    training = data.train if subset is None else data.train.subset(subset)
    if data.validation is not None and validation != 0:
        raise ValueError(
            f"the data have a validation set of {len(data.validation)} images; leave validation out, got {validation!r}"
        )
    count = _validation_count(len(training), validation)
    if protocol.patience and data.validation is None and count == 0:
        raise ValueError(f"patience={protocol.patience} needs validation images; give their number or share, validation=0.1")
    if protocol.batch_size > len(training) - count:
        raise ValueError(
            f"batch_size {protocol.batch_size} is larger than the {len(training) - count} training images; take a smaller one"
        )
    if count == 0:
        return training, data.validation
    order = torch.randperm(len(training), generator=torch.Generator().manual_seed(seed))
    if protocol.stratify:
        order = _stratified(training.labels.cpu()[order], order, count)
    return training.subset(order[count:].sort().values), training.subset(order[:count].sort().values)


def _stratified(labels: Tensor, order: Tensor, count: int) -> Tensor:
    """Return the order with `count` images first that lie evenly spaced in it once it is sorted by their labels."""
    by_label = order[labels.argsort(stable=True)]
    chosen = torch.zeros(len(order), dtype=torch.bool)
    chosen[(2 * torch.arange(count) + 1) * len(order) // (2 * count)] = True
    return torch.cat([by_label[chosen], by_label[~chosen]])


def _validation_count(images: int, validation: float) -> int:
    """Return the number of validation images. Raises ValueError where no others are left, or for no whole number."""
    share = plain_number(validation)
    if share is not None and 0 <= share < images:
        count = round(share * images) if share < 1 else int(share)
        if count == share or (share < 1 and 0 < count < images):
            return count
    raise ValueError(f"validation must be a count or a share of the {images} training images, got {shown(validation)}")
