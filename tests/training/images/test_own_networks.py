"""Networks of one's own in training: what is frozen stays so, what is wrapped is stored bare, what returns more is refused."""

import copy
from typing import NamedTuple

import pytest
import torch
from few_images import few_images
from torch import nn

import unigrid
from unigrid.conv import MgNetConfig
from unigrid.training import Protocol, evaluate_model, load_trained
from unigrid.training.data.augmentation import Pipeline
from unigrid.training.images.averaging import WeightAverage

PLAIN = Protocol("plain", 2, batch_size=8, learning_rate=0.05, momentum=0.9, weight_decay=0.01)
MODEL = MgNetConfig(steps=(1, 1), features=4)


def make_net():
    """A backbone, parts 0 to 3, and a head."""
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        backbone = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5)
        return nn.Sequential(nn.Sequential(*backbone), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))


def train(model, **choices):
    return unigrid.train(few_images(40), model, PLAIN, **{"device": "cpu", "progress": False, **choices})


def changed(model, before):
    """The names of parameters and buffers that are others than before."""
    return {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}


def snapshot(model):
    return copy.deepcopy(model.state_dict())


STATISTICS = {"0.1.running_mean", "0.1.running_var", "0.1.num_batches_tracked"}
BACKBONE = {"0.0.weight", "0.0.bias", "0.1.weight", "0.1.bias"} | STATISTICS
HEAD = {"3.weight", "3.bias"}


def frozen_backbone(net):
    net[0].eval().requires_grad_(False)


def frozen_backbone_of_a_loaded_one(net):
    net.eval()
    net[0].requires_grad_(False)


def frozen_with_a_new_head(net):
    net.eval().requires_grad_(False)
    net[3] = nn.Linear(4, 3)


def statistics_alone(net):
    net[0][1].eval()


def weights_alone(net):
    net[0].requires_grad_(False)


def all_of_it_in_evaluation_mode(net):
    net.eval()


FREEZING = {
    frozen_backbone: HEAD, frozen_backbone_of_a_loaded_one: HEAD, frozen_with_a_new_head: HEAD,
    statistics_alone: BACKBONE - STATISTICS | HEAD, weights_alone: STATISTICS | HEAD,
    all_of_it_in_evaluation_mode: BACKBONE | HEAD,
}  # fmt: skip


@pytest.mark.system
@pytest.mark.parametrize("average", [0.0, 0.5])
@pytest.mark.parametrize("freeze", FREEZING)
def test_what_is_frozen_stays_as_it_is_and_the_rest_learns(freeze, average):
    net = make_net()
    freeze(net)
    before = snapshot(net)
    train(net, average=average, validation=8)
    assert changed(net, before) == FREEZING[freeze]


@pytest.mark.system
@pytest.mark.parametrize(
    "wrap", [nn.DataParallel, lambda net: torch.compile(net, backend="eager")], ids=["parallel", "compiled"]
)
def test_a_wrapper_thaws_nothing(wrap):
    net = make_net()
    frozen_backbone(net)
    before = snapshot(net)
    train(wrap(net))
    assert changed(net, before) == HEAD


@pytest.mark.system
def test_copies_for_several_seeds_are_as_frozen():
    net = make_net()
    frozen_backbone(net)
    before = snapshot(net)
    for run in train(net, seed=[0, 1]).runs:
        assert changed(run.model, before) == HEAD


@pytest.mark.system
def test_dropout_that_is_switched_off_drops_nothing_in_training():
    quiet, without = make_net(), make_net()
    quiet[0][3].eval()
    without[0][3] = nn.Identity()
    assert train(quiet).history[-1]["train_loss"] == train(without).history[-1]["train_loss"]


def test_a_network_that_cannot_learn_is_refused():
    with pytest.raises(ValueError, match=r"all weights of the model Sequential are frozen; call requires_grad_\(True\)"):
        train(make_net().requires_grad_(False))
    with torch.inference_mode():
        net = make_net()
    with pytest.raises(ValueError, match=r"was made in torch\.inference_mode\(\) and cannot be trained; make it outside"):
        train(net)


def test_a_refused_network_keeps_the_mode_of_every_module():
    net = make_net()
    frozen_backbone(net)
    net[3] = nn.Linear(4, 7)
    with pytest.raises(ValueError, match="the model Sequential maps 2 images to"):
        train(net)
    assert [module.training for module in (net, net[0], net[0][1], net[1], net[3])] == [True, False, False, True, True]


# complex weights


class Spectral(nn.Module):
    """A complex weight for every frequency of the images, in front of a linear layer."""

    def __init__(self, dtype=torch.complex64):
        super().__init__()
        self.filter = nn.Parameter(torch.ones(8, 5, dtype=dtype))
        self.head = nn.Linear(192, 3, dtype=dtype.to_real())

    def forward(self, images):
        return self.head(torch.fft.irfft2(torch.fft.rfft2(images) * self.filter, images.shape[2:]).flatten(1))


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128, torch.float32])
def test_every_number_is_averaged_and_every_count_is_copied(dtype):
    net = nn.Module()
    net.weight = nn.Parameter(torch.tensor([3, 5]).to(dtype), requires_grad=False)
    net.register_buffer("buffer", torch.tensor([2, 7]).to(dtype))
    net.register_buffer("count", torch.tensor(2))
    net.register_buffer("mask", torch.tensor([0, -torch.inf]))
    average = WeightAverage(net, 0.75)
    with torch.no_grad():
        net.weight += 4
        net.buffer -= 4
        net.count += 4
    average.update(1000)
    assert torch.equal(average.module.weight, torch.tensor([4, 6]).to(dtype))
    assert torch.equal(average.module.buffer, torch.tensor([1, 6]).to(dtype))
    assert average.module.count == 6
    assert average.module.mask.tolist() == [0, -torch.inf]


@pytest.mark.system
@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
def test_a_network_with_complex_weights_is_trained_and_loaded(dtype, tmp_path):
    result = train(Spectral(dtype), average=0.9, out=tmp_path)
    trained = load_trained(tmp_path, device="cpu", model=Spectral(dtype))
    assert torch.equal(trained.model.filter, result.model.filter)
    assert trained.evaluate(few_images(40)).loss == result.runs[0].test.loss


# wrapped networks


@pytest.mark.system
@pytest.mark.parametrize(
    "wrap",
    [
        nn.DataParallel, lambda net: torch.compile(net, backend="eager"),
        lambda net: nn.DataParallel(torch.compile(net, backend="eager")),
    ],
    ids=["parallel", "compiled", "both"],
)  # fmt: skip
def test_a_wrapped_network_is_stored_as_what_it_is(wrap, tmp_path):
    torch.manual_seed(0)
    result = train(wrap(MgNetConfig(steps=(1, 1), features=4, num_classes=3).build()), out=tmp_path)
    assert result.configuration["model"]["kind"] == "MgNetConfig"
    trained = load_trained(tmp_path, device="cpu")
    assert trained.evaluate(few_images(40)).loss == pytest.approx(result.runs[0].test.loss, rel=1e-6)
    own = train(wrap(make_net()), epochs=1)
    assert own.configuration["model"] == {"kind": "custom Sequential"}


# answers that are no logits


class Outputs(NamedTuple):
    logits: torch.Tensor
    auxiliary: torch.Tensor


class Answers(nn.Module):
    """A network that returns something else than its logits, in one mode or the other."""

    def __init__(self, answer, training):
        super().__init__()
        self.net, self.answer, self.mode = make_net(), answer, training

    def forward(self, images):
        logits = self.net(images)
        return self.answer(logits) if self.training is self.mode else logits


ANSWERS = {
    "a tuple": lambda logits: (logits, logits), "a Outputs": lambda logits: Outputs(logits, logits),
    "a dict": lambda logits: {"logits": logits}, "a list": lambda logits: [logits],
    r"\(\d, 6\)": lambda logits: logits.repeat(1, 2),
}  # fmt: skip


@pytest.mark.system
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("came", ANSWERS)
def test_a_network_whose_answer_is_not_its_logits_is_refused(came, training, tmp_path):
    mode = "training" if training else "evaluation"
    net = Answers(ANSWERS[came], training)
    with pytest.raises(
        ValueError, match=rf"the model Answers maps \d images to {came} in {mode} mode, and \(\d, 3\) is needed"
    ):
        train(net, out=tmp_path)
    assert not list(tmp_path.glob("*.pt"))


def test_an_evaluation_refuses_it_too():
    images = Pipeline(few_images(40).test.images, (0.4,) * 3, (0.25,) * 3)
    with pytest.raises(
        ValueError, match=r"maps 20 images to a tuple in evaluation mode.*a module that returns its logits alone"
    ):
        evaluate_model(Answers(ANSWERS["a tuple"], False), images, few_images(40).test.labels)


# gradients, wherever training is called


@pytest.mark.system
@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode], ids=lambda context: context.__name__)
@pytest.mark.parametrize("of_ones_own", [True, False])
def test_training_is_the_same_where_gradients_are_switched_off(context, of_ones_own):
    expected = train(make_net() if of_ones_own else MODEL, validation=8)
    net = make_net() if of_ones_own else MODEL
    with context():
        found = train(net, validation=8, callback=lambda row: None)
        assert not torch.is_grad_enabled()
    rows = [[{**row, "seconds": 0, "images_per_second": 0} for row in result.history] for result in (found, expected)]
    assert rows[0] == rows[1]
    assert found.runs[0].test.loss == expected.runs[0].test.loss


@pytest.mark.system
@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode], ids=lambda context: context.__name__)
def test_a_solver_is_trained_there_too(context):
    expected = unigrid.train_solver(epochs=1, steps=5).factor
    with context():
        assert unigrid.train_solver(epochs=1, steps=5).factor == expected
        assert unigrid.train("poisson", epochs=1, steps=5).factor == expected
