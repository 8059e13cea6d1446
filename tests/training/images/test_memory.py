"""Memory of an evaluation: batches are sized by it and halved where it does not suffice; a trained run is never lost to it."""

import json

import numpy as np
import pytest
import torch
from few_images import few_images
from torch import nn

import unigrid
from unigrid.training import Protocol, evaluate_model, load_trained
from unigrid.training.data.augmentation import Pipeline
from unigrid.training.images.evaluation import in_batches, is_out_of_memory

ERRORS = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to ..."),
    RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8589934592 bytes."),
    RuntimeError("MPS backend out of memory (MPS allocated: 8.00 GB, max allowed: 9.07 GB)"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    MemoryError(),
]
OTHERS = [RuntimeError("mat1 and mat2 shapes cannot be multiplied"), ValueError("out of memory"), RuntimeError("memory format")]


class Memory:
    """Suffices for batches of that many images."""

    def __init__(self, images, error):
        self.images, self.error, self.batches = images, error, []

    def compute(self, start, stop):
        if stop - start > self.images:
            raise self.error
        self.batches.append(stop - start)
        return list(range(start, stop))


@pytest.mark.parametrize("error", ERRORS, ids=range(len(ERRORS)))
@pytest.mark.parametrize("images", [1, 2, 60, 499, 10_000])
def test_a_batch_for_which_memory_does_not_suffice_is_halved(images, error):
    memory = Memory(images, error)
    results = in_batches(memory.compute, 1003, 3 * 32 * 32)
    assert [number for part in results for number in part] == list(range(1003))
    assert max(memory.batches) > min(images, 500) // 2 - 1
    assert len(memory.batches) <= 2 * 1003 / min(images, 500) + 2


@pytest.mark.parametrize("error", ERRORS, ids=range(len(ERRORS)))
def test_no_memory_for_one_image_is_an_error(error):
    assert is_out_of_memory(error)
    with pytest.raises(MemoryError, match="memory does not suffice for one image"):
        in_batches(Memory(0, error).compute, 7, 3)


@pytest.mark.parametrize("error", OTHERS, ids=range(len(OTHERS)))
def test_other_errors_are_raised_at_once(error):
    assert not is_out_of_memory(error)
    memory = Memory(0, error)
    with pytest.raises(type(error), match=str(error)):
        in_batches(memory.compute, 7, 3)


class Counting(nn.Module):
    def __init__(self):
        super().__init__()
        self.values = []

    def forward(self, images):
        self.values.append(images.shape)
        return images.mean((2, 3))[:, :1] * torch.ones(2)


@pytest.mark.parametrize(
    ("shape", "batch"),
    [((3, 224, 224), 10), ((1, 28, 28), 500), ((3, 32, 32), 500), ((1, 1, 1500), 500), ((200, 32, 32), 7), ((3, 64, 48), 166)],
)
def test_batches_take_the_memory_of_500_cifar_images(shape, batch):
    images = torch.zeros(1, *shape, dtype=torch.uint8).expand(502, *shape)
    model, channels = Counting(), shape[0]
    pipeline = Pipeline(images[: 3 * batch + 2], [0.5] * channels, [0.5] * channels)
    evaluate_model(model, pipeline, torch.zeros(len(pipeline), dtype=torch.long))
    assert max(len(each) if isinstance(each, list) else each[0] for each in model.values) == min(batch, len(pipeline))


PLAIN = Protocol("plain", 2, batch_size=8, learning_rate=0.05)


class Hungry(nn.Module):
    """A network with memory for so many images, outside of training."""

    def __init__(self, most):
        super().__init__()
        self.most, self.head = most, nn.Linear(3, 3)
        nn.init.eye_(self.head.weight)

    def forward(self, images):
        if self.ready and not self.training and len(images) > self.most and images.any():
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")
        return self.head(images.mean((2, 3)))

    ready = False


def train(most, **choices):
    torch.manual_seed(0)
    model = Hungry(most)
    model.ready = True
    return unigrid.train(few_images(40), model, PLAIN, device="cpu", progress=False, **choices)


@pytest.mark.system
def test_a_test_in_small_batches_is_the_same_test(tmp_path):
    one, other = train(1000).runs[0].test, train(3, out=tmp_path).runs[0].test
    assert (one.accuracy, one.confusion.tolist()) == (other.accuracy, other.confusion.tolist())
    assert one.loss == pytest.approx(other.loss, rel=1e-6)


@pytest.mark.system
@pytest.mark.parametrize("folder", ["run", None])
def test_a_trained_run_outlives_a_test_without_memory(tmp_path, folder, capsys):
    out = None if folder is None else tmp_path / folder
    whole = train(1000)
    for resume in (False, True) if out else (False,):
        result = train(0, out=out, resume=resume)
        assert (result.runs[0].reason, result.test_accuracy, len(result.history)) == ("completed", None, 2)
        assert str(result) == "completed after 2 epochs; the test set was not read"
        assert "memory does not suffice" in capsys.readouterr().err
        for name, value in whole.model.state_dict().items():
            assert torch.equal(value, result.model.state_dict()[name])
    if out:
        assert json.loads((out / "result.json").read_text())["test_accuracy"] is None
        assert load_trained(out, "cpu", Hungry(1000)).evaluate(few_images(40)).count == 20
        assert train(1000, out=out, resume=True).test_accuracy == whole.test_accuracy


@pytest.mark.system
def test_predictions_are_halved_too(tmp_path):
    train(1000, out=tmp_path)
    model = Hungry(2)
    trained = load_trained(tmp_path, "cpu", model)
    pictures = [np.full((8, 8, 3), value, np.uint8) for value in range(0, 250, 50)]
    wanted = trained.predict(pictures)
    model.ready = True
    assert trained.predict(pictures) == wanted
