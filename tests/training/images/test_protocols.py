"""Protocols against the published descriptions, typed in from these; the rates of every epoch; what weights start from."""

import copy
import dataclasses
import math
import re

import pytest
import torch
from torch import nn

from unigrid import MgNetConfig, create_model
from unigrid.training import Protocol
from unigrid.training.data.augmentation import Augmentation
from unigrid.training.images.beginning import initialize
from unigrid.training.images.protocols import PROTOCOLS, protocol_named

STEPS = 391  # an epoch of 50,000 images in batches of 128


@pytest.mark.parametrize(
    ("name", "epochs", "every", "decay", "pad", "flip"),
    [("paper", 120, 30, 0.0, 0, False), ("course", 120, 30, 5e-4, 4, True), ("code", 300, 50, 5e-4, 4, True)],
)
def test_the_published_protocols_field_by_field(name, epochs, every, decay, pad, flip):
    protocol = PROTOCOLS[name]
    assert (protocol.name, protocol.epochs, protocol.batch_size) == (name, epochs, 128)
    assert (protocol.momentum, protocol.nesterov, protocol.weight_decay) == (0.9, False, decay)
    assert protocol.decay_norms, "SGD in the published code decays every parameter alike"
    assert protocol.augmentation(True) == Augmentation(pad=pad, flip=flip, cutout=0)
    assert protocol.initialization == ("pytorch" if name == "code" else "kaiming")
    extras = ("label_smoothing", "average", "mixed_precision", "accelerated", "drop_last", "test_flip", "scale_rate")
    assert not any(getattr(protocol, extra) for extra in extras)
    for epoch in range(epochs):
        expected = 0.1 / 10 ** (epoch // every)
        for step in (epoch * STEPS, epoch * STEPS + STEPS - 1):
            assert protocol.rate(step, STEPS) == pytest.approx(expected, rel=1e-12)


def test_the_rates_of_the_paper_at_the_epochs_that_it_names():
    rates = [PROTOCOLS["paper"].rate(epoch * STEPS, STEPS) for epoch in (0, 29, 30, 59, 60, 89, 90, 119)]
    assert rates == pytest.approx([0.1, 0.1, 0.01, 0.01, 1e-3, 1e-3, 1e-4, 1e-4], rel=1e-12)
    assert PROTOCOLS["code"].rate(299 * STEPS, STEPS) == pytest.approx(1e-6, rel=1e-12)


def test_a_rate_in_steps_does_not_depend_on_the_number_of_epochs():
    longer = dataclasses.replace(PROTOCOLS["paper"], epochs=500)
    assert [longer.rate(step, 10) for step in range(1200)] == [PROTOCOLS["paper"].rate(step, 10) for step in range(1200)]


@pytest.mark.parametrize(("epochs", "steps", "warmup"), [(30, 97, 0.2), (1, 1, 0.2), (4, 3, 0.5), (2, 50, 0.0), (3, 7, 0.95)])
def test_one_cycle_rises_linearly_to_its_peak_and_falls_linearly_to_almost_nothing(epochs, steps, warmup):
    protocol = Protocol("own", epochs, learning_rate=0.3, schedule="one-cycle", warmup=warmup)
    total = epochs * steps
    rates = [protocol.rate(step, steps) for step in range(total)]
    assert all(0 < rate <= 0.3 for rate in rates)
    middles = [(step + 0.5) / total for step in range(total)]
    rising = [0.3 * middle / warmup for middle in middles if middle < warmup]
    falling = [0.3 * (1 - middle) / (1 - warmup) for middle in middles if middle >= warmup]
    assert rates == pytest.approx(rising + falling, rel=1e-9)
    assert rates[-1] <= 0.3 / (total * (1 - warmup)) * 0.5 * (1 + 1e-9) or middles[-1] < warmup


def test_fast_peaks_after_its_warmup_at_the_rate_that_belongs_to_its_batch():
    for batch, factor in ((128, 1), (64, 0.5), (512, 4)):
        protocol = PROTOCOLS["fast"].with_choices(batch_size=batch)
        rates = [protocol.rate(step, 100) for step in range(100 * protocol.epochs)]
        peak = rates.index(max(rates))
        assert abs(peak - protocol.warmup * len(rates)) <= 1
        assert max(rates) == pytest.approx(factor * protocol.learning_rate, rel=2e-3)
        assert rates[-1] < 1e-3 * max(rates)
    unscaled = PROTOCOLS["paper"].with_choices(batch_size=512)
    assert unscaled.rate(0, 10) == 0.1


@pytest.mark.parametrize(
    ("field", "value", "text"),
    [
        ("epochs", 0, "epochs must be an integer >= 1, got 0"),
        ("epochs", 2.0, "epochs must be an integer >= 1, got 2.0"),
        ("epochs", True, "epochs must be an integer >= 1, got True"),
        ("batch_size", -3, "batch_size must be an integer >= 1, got -3"),
        ("decay_every", 0, "decay_every must be an integer >= 1, got 0"),
        ("learning_rate", 0, "learning_rate must be a number > 0, got 0"),
        ("learning_rate", math.inf, "learning_rate must be a number > 0, got inf"),
        ("learning_rate", math.nan, "learning_rate must be a number > 0, got nan"),
        ("learning_rate", "0.1", "learning_rate must be a number > 0, got '0.1'"),
        ("decay", -0.1, "decay must be a number > 0, got -0.1"),
        ("momentum", 1, "momentum must be a number from 0 to less than 1, got 1"),
        ("label_smoothing", -0.1, "label_smoothing must be a number from 0 to less than 1, got -0.1"),
        ("average", 1.0, "average must be a number from 0 to less than 1, got 1.0"),
        ("warmup", 1, "warmup must be a number from 0 to less than 1, got 1"),
        ("weight_decay", -1e-4, "weight_decay must be a number >= 0, got -0.0001"),
        ("learning_rate", 1e300, "learning_rate must be a number, at most 1e+38, got 1e+300"),
        ("weight_decay", 1e39, "weight_decay must be a number, at most 1e+38, got 1e+39"),
        ("epochs", 10**30, "epochs must be an integer from 1 to 1000000, got 1000000000000000000000000000000"),
        ("cutout", 10**30, "cutout must be a whole number of pixels >= 0 and at most 10,000, got 1"),
        ("pad", -1, "pad must be a whole number of pixels >= 0, got -1"),
        ("cutout", 2.5, "cutout must be a whole number of pixels >= 0, got 2.5"),
        ("schedule", "one-cicle", "unknown schedule 'one-cicle'; allowed: 'steps', 'one-cycle', 'cosine'; did you mean"),
        ("initialization", "kaming", "did you mean 'kaiming'?"),
    ],
)
def test_a_value_that_is_not_allowed_is_named_with_what_is(field, value, text):
    with pytest.raises(ValueError, match=re.escape(text)) as error:
        PROTOCOLS["paper"].with_choices(**{field: value})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "field", ["flip", "nesterov", "scale_rate", "decay_norms", "mixed_precision", "accelerated", "drop_last", "test_flip"]
)
def test_a_field_that_is_true_or_false_takes_nothing_else(field):
    for value in ("no", 1, 0.0):
        with pytest.raises(ValueError, match=f"{field} must be True or False, got {value!r}"):
            PROTOCOLS["paper"].with_choices(**{field: value})


def test_nesterov_needs_a_momentum():
    with pytest.raises(ValueError, match="nesterov=True needs a momentum > 0, got 0"):
        PROTOCOLS["fast"].with_choices(momentum=0.0)


def test_choices_replace_fields_and_none_leaves_them():
    changed = PROTOCOLS["fast"].with_choices(epochs=3, batch_size=None, nesterov=False, average=0.0)
    assert changed == dataclasses.replace(PROTOCOLS["fast"], epochs=3, nesterov=False, average=0.0)
    assert PROTOCOLS["fast"].epochs != 3


def test_an_unknown_field_is_answered_with_the_nearest():
    with pytest.raises(TypeError, match=r"a protocol has no 'weight_deca'; it has epochs, .*; did you mean 'weight_decay'\?"):
        PROTOCOLS["fast"].with_choices(weight_deca=0.1)


def test_muon_is_fast_but_for_the_optimizer_and_its_rate():
    fast, muon = PROTOCOLS["fast"], PROTOCOLS["muon"]
    changed = {"name": "muon", "optimizer": "muon", "learning_rate": 0.05, "scale_rate": False}
    assert muon == dataclasses.replace(fast, **changed)
    assert max(muon.with_choices(batch_size=512).rate(step, 10) for step in range(300)) == pytest.approx(0.05, rel=1e-2)


def test_protocols_by_name():
    assert protocol_named("code") is PROTOCOLS["code"]
    own = Protocol("own", 3)
    assert protocol_named(own) is own
    with pytest.raises(ValueError, match=r"unknown protocol 'papper'; allowed: 'paper', .*; did you mean 'paper'\?"):
        protocol_named("papper")
    assert all(name == protocol.name for name, protocol in PROTOCOLS.items())
    with pytest.raises(dataclasses.FrozenInstanceError):
        own.epochs = 4


def test_images_are_mirrored_only_where_protocol_and_data_both_allow_it():
    assert [PROTOCOLS[name].augmentation(flips).flip for name in ("course", "paper") for flips in (True, False)] == [
        True, False, False, False
    ]  # fmt: skip


@pytest.mark.parametrize("test_flip", [True, False])
@pytest.mark.parametrize("flips", [True, False])
@pytest.mark.parametrize("flip", [True, False])
def test_mirror_images_are_averaged_only_where_training_may_mirror(flip, flips, test_flip):
    protocol = dataclasses.replace(PROTOCOLS["paper"], flip=flip, test_flip=test_flip)
    assert protocol.averages_mirrored(flips) == (flip and flips and test_flip)


def test_mirroring_in_tests_alone_is_refused():
    for change in ({"test_flip": True}, {"test_flip": True, "flip": False}):
        with pytest.raises(ValueError, match=r"test_flip=True .*flip=False: no image may be mirrored; pass flip=True too"):
            PROTOCOLS["paper"].with_choices(**change)
    assert PROTOCOLS["paper"].with_choices(test_flip=True, flip=True).averages_mirrored(True)
    assert not PROTOCOLS["fast"].with_choices(flip=False).averages_mirrored(True)


def _convolutions(model):
    return [(name, module) for name, module in model.named_modules() if isinstance(module, nn.Conv2d)]


def _assert_deviation(weight, expected):
    """Of n normal or uniform numbers the standard deviation is right within 5 / sqrt(2 n), practically always."""
    weight = weight.detach()
    assert weight.numel() > 500
    assert float(weight.std()) == pytest.approx(expected, rel=5 / math.sqrt(2 * weight.numel()))
    assert abs(float(weight.mean())) < 5 * expected / math.sqrt(weight.numel())


def _is_uniform(weight):
    """A uniform number is never beyond sqrt(3) deviations; of 500 normal ones some always are."""
    weight = weight.detach()
    return float(weight.abs().max()) <= 1.15 * math.sqrt(3) * float(weight.std())


@pytest.mark.parametrize("name", ["mgnet-16-Bl", "mgnet-16-Bli"])
def test_kaiming_draws_convolutions_from_the_normal_distribution_by_fan_out(name):
    torch.manual_seed(3)
    model = create_model(name)
    initialize(model, "kaiming")
    convolutions = [module for _, module in _convolutions(model) if module.weight.numel() > 500]
    assert len(convolutions) > 10
    for module in convolutions:
        _assert_deviation(module.weight, math.sqrt(2 / (module.out_channels * 9)))
        assert not _is_uniform(module.weight)


def test_kaiming_goes_by_the_outputs_not_the_inputs():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(4, 64, 5), nn.Conv2d(64, 4, 1))
    initialize(model, "kaiming")
    _assert_deviation(model[0].weight, math.sqrt(2 / (64 * 25)))


def test_pytorch_draws_convolutions_from_its_uniform_distribution_by_fan_in():
    torch.manual_seed(4)
    model = nn.Sequential(create_model("mgnet-16-Bl"), nn.Conv2d(4, 64, 5), nn.ConvTranspose2d(16, 32, 3))
    initialize(model, "pytorch")
    convolutions = [module for _, module in _convolutions(model) if module.weight.numel() > 500]
    for module in convolutions:
        _assert_deviation(module.weight, 1 / math.sqrt(3 * module.in_channels * module.kernel_size[0] ** 2))
        assert _is_uniform(module.weight)
    assert _is_uniform(model[2].weight)


@pytest.mark.parametrize("kind", ["kaiming", "pytorch"])
def test_head_and_norms_begin_as_in_pytorch(kind):
    torch.manual_seed(5)
    model = create_model("mgnet-64-Bl", num_classes=50)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(7.0)
    initialize(model, kind)
    assert not any(bool((parameter == 7).any()) for parameter in model.parameters())
    _assert_deviation(model.head.weight, 1 / math.sqrt(3 * 64))
    assert _is_uniform(model.head.weight)
    assert 0 < float(model.head.bias.detach().abs().max()) <= 1 / 8
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    assert norms
    assert all(bool((norm.weight == 1).all() and (norm.bias == 0).all()) for norm in norms)


def test_own_leaves_the_weights_of_the_model():
    model = create_model("mgnet-4-Bl")
    before = copy.deepcopy(model.state_dict())
    initialize(model, "own")
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_initialization_follows_the_seed():
    drawn = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        model = MgNetConfig(steps=(1, 1), features=4).build()
        initialize(model, "kaiming")
        drawn.append(model.theta[0].weight.detach() if isinstance(model.theta, nn.Sequential) else model.head.weight.detach())
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_a_changed_protocol_says_so_and_keeps_its_name():
    paper = PROTOCOLS["paper"]
    assert paper.label == "paper"
    assert paper.with_choices(epochs=1, weight_decay=0.1).label == "paper, changed: epochs=1, weight_decay=0.1"
    assert Protocol("mine", 3).label == "mine"
    with pytest.raises(TypeError, match="a protocol has no 'name'"):
        paper.with_choices(name="code")
