"""Residual and plain networks against straight-line versions of the original papers, and the identities between them."""

import itertools

import pytest
import torch
from tiers import pack
from torch.nn import functional

from unigrid.conv import ConvLevel, ConvOperator, Extraction, FeatureExtraction, MgNet, PlainNet, ResNet
from unigrid.conv.residual import CarriedResidual, PreActBlock, ResidualSteps
from unigrid.cycle import MultigridCycle, SlotLevel

TOLERANCE = {torch.float32: 1e-6, torch.float64: 1e-12}
FORMS = ("resnet", "sigma", "pre-act")
SHARINGS = tuple(itertools.product(("step", "level"), repeat=2))


class StraightLine:
    """He, Zhang, Ren & Sun, level by level, block by block. `unread`: the names of the weights that it has not read."""

    def __init__(self, model):
        self.config, self.weights = model.config, model.state_dict()
        self.unread = {name for name in self.weights if not name.endswith("num_batches_tracked")}

    def read(self, name):
        self.unread.discard(name)
        return self.weights[name]

    def conv(self, name, x, stride=1):
        kernel = self.read(name)
        return functional.conv2d(x, kernel, stride=stride, padding=kernel.shape[-1] // 2)

    def norm(self, name, x):
        mean, variance, weight, bias = (
            self.read(f"{name}.{part}").reshape(1, -1, 1, 1) for part in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / torch.sqrt(variance + 1e-5) * weight + bias

    def second(self, level, block):
        """Return the name of A: the second convolution of a block. Block 0 of a level l > 0 is the one that halves the grid."""
        inside = self.config.blocks[level] - (1 if level else 0)
        if self.config.operator_sharing == "level" and inside:
            return f"cycle.levels.{level}.operator.steps.0.weight"
        if level and block == 0:
            return f"cycle.levels.{level - 1}.restriction.operator.weight"
        return f"cycle.levels.{level}.operator.steps.{block - (1 if level else 0)}.weight"

    def first(self, level, block, x):
        """Return B x: the first convolution of a block."""
        inside = self.config.blocks[level] - (1 if level else 0)
        shared = self.config.extractor_sharing == "level" and inside
        own = f"cycle.levels.{level}.smoother.blocks.0.extractor.weight"
        if level and block == 0:
            entrance = f"cycle.levels.{level - 1}.restriction.block.extractor"
            if shared:
                return self.conv(own, self.conv(f"{entrance}.lift.weight", x, stride=2))
            return self.conv(f"{entrance}.weight", x, stride=2)
        if shared:
            return self.conv(own, x)
        return self.conv(f"cycle.levels.{level}.smoother.blocks.{block - (1 if level else 0)}.extractor.weight", x)

    def block(self, level, block, x):
        halves = level > 0 and block == 0
        name = f"cycle.levels.{level}.smoother.blocks.{block - (1 if level else 0)}"
        if halves:
            name = f"cycle.levels.{level - 1}.restriction.block"
        if self.config.form == "pre-act":
            activated = torch.relu(self.norm(f"{name}.first_norm", x))
            shortcut = self.conv(f"{name}.shortcut.weight", activated, stride=2) if halves else x
            inner = torch.relu(self.norm(f"{name}.second_norm", self.first(level, block, activated)))
            return shortcut + self.conv(self.second(level, block), inner)
        if self.config.form == "sigma":
            x = torch.relu(x)
        inner = torch.relu(self.norm(f"{name}.first_norm", self.first(level, block, x)))
        outer = self.norm(f"{name}.second_norm", self.conv(self.second(level, block), inner))
        if halves:
            x = self.norm(f"{name}.shortcut.1", self.conv(f"{name}.shortcut.0.weight", x, stride=2))
        return x + outer if self.config.form == "sigma" else torch.relu(x + outer)

    def logits(self, images):
        if self.config.form == "pre-act":
            x = self.conv("theta.weight", images)
        else:
            x = self.norm("theta.1", self.conv("theta.0.weight", images))
            x = torch.relu(x) if self.config.form == "resnet" else x
        for level, blocks in enumerate(self.config.blocks):
            for block in range(blocks):
                x = self.block(level, block, x)
        if self.config.form == "pre-act":
            x = self.norm("head_norm.0", x)
        pooled = torch.relu(x).sum(dim=(2, 3)) / (x.shape[2] * x.shape[3])
        return pooled @ self.read("head.weight").T + self.read("head.bias")


def assert_close(found, wanted, tolerance=None):
    assert wanted.abs().max() > 0
    assert (found - wanted).abs().max() / wanted.abs().max() <= (tolerance or TOLERANCE[found.dtype])


@pytest.fixture
def resnet(randomize):
    """resnet(form, (A, B), dtype, blocks): a small residual network in eval mode, every number of it random."""

    def make(form, sharing=("step", "step"), dtype=torch.float64, blocks=(2, 2, 2, 2)):
        sharings = {"operator_sharing": sharing[0], "extractor_sharing": sharing[1]}
        model = ResNet(form=form, blocks=blocks, channels=(4, 6, 8, 10)[: len(blocks)], **sharings)
        return randomize(model).to(dtype).eval()

    return make


@pack
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("sharing", SHARINGS, ids="A a {0[0]}, B a {0[1]}".format)
@pytest.mark.parametrize("blocks", [(2, 2, 2, 2), (3, 4, 6, 3), (1, 1, 2)], ids=str)
@pytest.mark.parametrize("form", FORMS)
@torch.no_grad()
def test_residual_networks_equal_the_straight_line(resnet, form, blocks, sharing, dtype):
    model = resnet(form, sharing, dtype, blocks)
    images = torch.randn(2, 3, 16, 16, dtype=dtype)
    straight = StraightLine(model)
    assert_close(model(images), straight.logits(images))
    assert not straight.unread


@torch.no_grad()
def test_odd_sizes(resnet):
    images = torch.randn(2, 3, 13, 18, dtype=torch.float64)
    for form in FORMS:
        model = resnet(form)
        assert_close(model(images), StraightLine(model).logits(images))


@pytest.mark.parametrize("sharing", SHARINGS, ids="A a {0[0]}, B a {0[1]}".format)
@pytest.mark.parametrize("mode", ["eval", "train"])
def test_sigma_resnet_is_resnet_in_another_variable(resnet, sharing, mode):
    """The same weights by name: logits and gradients agree, and sigma of each level's features is ResNet's."""
    original, other = resnet("resnet", sharing), resnet("sigma", sharing)
    other.load_state_dict(original.state_dict())
    images = torch.randn(4, 3, 16, 16, dtype=torch.float64)
    getattr(original, mode)(), getattr(other, mode)()
    results = [model(images) for model in (original, other)]
    assert_close(results[1], results[0])
    for result in results:
        functional.cross_entropy(result, torch.tensor([0, 3, 3, 9])).backward()
    for ours, theirs in zip(other.parameters(), original.parameters(), strict=True):
        assert_close(ours.grad, theirs.grad, 1e-10)
    levels = [model.eval().forward_intermediates(images)[1] for model in (original, other)]
    for ours, theirs in zip(levels[1], levels[0], strict=True):
        assert_close(torch.relu(ours.features), theirs.features)


def test_mg_resnet_shares_a_in_each_level(resnet):
    model = resnet("sigma", ("level", "step"), blocks=(3, 3))
    first, second = model.cycle.levels
    assert [len(level.operator.steps) for level in (first, second)] == [1, 1]
    assert first.restriction.operator is second.operator.steps[0]
    assert len({id(block.extractor) for block in first.smoother.blocks}) == 3


def test_b_versions_share_b_in_each_level(resnet):
    for form in FORMS:
        model = resnet(form, ("step", "level"), blocks=(3, 3))
        first, second = model.cycle.levels
        assert len({id(block.extractor) for block in first.smoother.blocks}) == 1
        assert first.restriction.block.extractor.extractor is second.smoother.blocks[0].extractor
        assert len(first.operator.steps) == 3


@pytest.mark.parametrize("steps", [1, 2, 4])
@torch.no_grad()
def test_with_one_a_a_level_mgnet_is_a_pre_activation_resnet(randomize, steps):
    """r = f - A u obeys r <- r - A sigma BN B sigma BN r, in the same numbers, written out and by ResNet's own blocks."""
    mgnet = randomize(MgNet(steps=(steps, 1), features=5, data=7, extractor_sharing="step")).double().eval()
    level = mgnet.cycle.levels[0]
    f = torch.randn(2, 7, 9, 9, dtype=torch.float64)
    explained = level.operator.residual(f, level.smoother(level.operator, f, None))

    def norm(module, x):
        column = (1, -1, 1, 1)
        scaled = (x - module.running_mean.reshape(column)) / torch.sqrt(module.running_var.reshape(column) + 1e-5)
        return scaled * module.weight.reshape(column) + module.bias.reshape(column)

    A, r = level.operator.convolution.weight, f
    for step in level.smoother.steps:
        inner = functional.conv2d(torch.relu(norm(step.data_norm, r)), step.convolution.weight, padding=1)
        r = r - functional.conv2d(torch.relu(norm(step.feature_norm, inner)), A, padding=1)
    assert_close(explained, r)

    blocks = []
    for step in level.smoother.steps:
        block = PreActBlock(step.convolution, (7, 5), torch.nn.Identity(), step.activation)
        block.first_norm, block.second_norm = step.data_norm, step.feature_norm
        blocks.append(block.eval())
    negative = torch.nn.Conv2d(5, 7, 3, padding=1, bias=False).double()
    negative.weight.copy_(-A)  # the sign absorbed
    assert_close(ResidualSteps(blocks)(CarriedResidual([negative]), f, None), explained)


@torch.no_grad()
def test_with_an_a_for_each_step_it_is_not(randomize):
    """A control: the identity needs A shared in the level."""
    level = randomize(MgNet(steps=(3, 1), features=5, operator_sharing="step")).double().eval().cycle.levels[0]
    f = torch.randn(2, 5, 9, 9, dtype=torch.float64)
    last = level.operator.steps[-1].convolution
    r = f
    for step in level.smoother.steps:
        r = r - last(step(r))
    explained = level.operator.residual(f, level.smoother(level.operator, f, None))
    assert (explained - r).abs().max() > 1e-3


def test_a_step_of_a_plain_network_is_a_residual_step(randomize):
    """sigma chi = id - xi sigma eta on sigma(f): eta = [id, -id] (chi - id), xi [X, Y] = -(X - Y), in the argument of sigma."""
    f = torch.randn(2, 4, 6, 6, dtype=torch.float64).relu()
    chi = torch.nn.Conv2d(4, 4, 3, padding=1, bias=False).double()
    identity = torch.zeros_like(chi.weight)
    identity[range(4), range(4), 1, 1] = 1
    eta = torch.cat((chi.weight - identity, identity - chi.weight))
    both = torch.relu(functional.conv2d(f, eta, padding=1))
    xi = -(both[:, :4] - both[:, 4:])
    net = PlainNet(steps=(2,), channels=4, norm=False).double()
    with torch.no_grad():
        net.cycle.levels[0].smoother.steps[0][0].weight.copy_(chi.weight)
        net.cycle.levels[0].smoother.steps[0][0].bias.zero_()
        assert_close(net.cycle(f), torch.relu(f - xi))


@pytest.mark.parametrize("pooling", ["max", "average"])
@pytest.mark.parametrize("norm", [True, False], ids=["norm", "bias"])
@pytest.mark.parametrize("size", [8, 11], ids=["even", "odd"])
@torch.no_grad()
def test_plain_networks_equal_the_straight_line(randomize, pooling, norm, size):
    model = PlainNet(steps=(2, 1, 2), channels=(4, 6, 5), kernel=5, pooling=pooling, norm=norm, activation="tanh")
    model = randomize(model).double().eval()
    weights = dict(model.state_dict())
    x = torch.randn(2, 3, size, size, dtype=torch.float64)
    found = model(x)
    for level, count in enumerate((1, 1, 2)):  # theta is the first of the first level's two
        names = [f"cycle.levels.{level}.smoother.steps.{step}" for step in range(count)]
        for name in ["theta", *names] if level == 0 else names:
            bias = None if norm else weights.pop(f"{name}.0.bias")
            x = functional.conv2d(x, weights.pop(f"{name}.0.weight"), bias, padding=2)
            if norm:
                weights.pop(f"{name}.1.num_batches_tracked")
                kinds = ("running_mean", "running_var", "weight", "bias")
                mean, variance, weight, shift = (weights.pop(f"{name}.1.{kind}").reshape(1, -1, 1, 1) for kind in kinds)
                x = (x - mean) / torch.sqrt(variance + 1e-5) * weight + shift
            x = torch.tanh(x)
        if level < 2:
            cells = [
                [x[..., i : i + 2, j : j + 2].flatten(2) for j in range(0, x.shape[-1], 2)] for i in range(0, x.shape[-2], 2)
            ]
            pool = (lambda cell: cell.max(dim=2).values) if pooling == "max" else (lambda cell: cell.mean(dim=2))
            x = torch.stack([torch.stack([pool(cell) for cell in row], dim=2) for row in cells], dim=2)
    wanted = x.mean(dim=(2, 3)) @ weights.pop("head.weight").T + weights.pop("head.bias")
    assert_close(found, wanted)
    assert not weights


FAMILIES = {
    "mgnet": lambda: MgNet(features=4),
    "mgnet-V": lambda: MgNet(features=4, cycle="V"),
    "resnet": lambda: ResNet(channels=4),
    "pre-act": lambda: ResNet(channels=4, form="pre-act"),
    "sigma": lambda: ResNet(channels=4, form="sigma"),
    "plain": lambda: PlainNet(steps=(1, 1, 1, 1), channels=4),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_runs_through_the_one_cycle(family, monkeypatch):
    calls = []

    def spy(owner, name):
        original = getattr(owner, name)

        def called(self, *given, **named):
            calls.append(name)
            return original(self, *given, **named)

        monkeypatch.setattr(owner, name, called)

    spy(MultigridCycle, "cycle")
    spy(SlotLevel, "descend")
    spy(SlotLevel, "ascend")
    FAMILIES[family]()(torch.zeros(2, 3, 8, 8))
    assert calls == ["cycle", "descend"] * 4 + ["ascend"] * 3
    assert not {"descend", "ascend"} & set(vars(ConvLevel))


def test_slots_by_hand_make_the_same_level(randomize):
    """The docstring's formula u <- u + ReLU(BN(B ReLU(BN(f - A u)))), of parts that the test makes itself."""
    convolutions = [torch.nn.Conv2d(4, 4, 3, padding=1, bias=False) for _ in range(2)]
    norms = torch.nn.BatchNorm2d(4), torch.nn.BatchNorm2d(4)
    level = ConvLevel(ConvOperator(convolutions[0]), FeatureExtraction([Extraction(convolutions[1], norms, torch.nn.ReLU())]))
    f, u = torch.randn(2, 2, 4, 6, 6)
    found, coarse, start = level.descend(f, u, None)
    wanted = u + torch.relu(norms[1](convolutions[1](torch.relu(norms[0](f - convolutions[0](u))))))
    torch.testing.assert_close(found, wanted)
    assert coarse is None
    assert start is None
