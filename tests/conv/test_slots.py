"""The slots one by one, slots of the user's own, and cycles of other kinds than MgNet's."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from unigrid.conv import (
    Borrowed,
    ChannelwiseConvolution,
    ChebyshevExtraction,
    Classifier,
    ConvCycle,
    ConvLevel,
    ConvOperator,
    ConvProlongation,
    ConvRestriction,
    ConvStateTransfer,
    Extraction,
    FeatureExtraction,
    MgNet,
    MgNetConfig,
    MultiStepExtraction,
    PlainNet,
    ResNet,
    StepOperators,
)
from unigrid.cycle import Operator, Restriction, Smoother


def conv(inputs=4, outputs=4, stride=1):
    return nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)


def extraction(channels=4, **options):
    return Extraction(conv(channels, channels), (nn.BatchNorm2d(channels), nn.BatchNorm2d(channels)), nn.ReLU(), **options)


class Scaled(nn.Module, Smoother):
    """A user's own: u <- u + w tanh(f - A u), one trained number a channel."""

    def __init__(self, channels):
        super().__init__()
        self.scale = nn.Parameter(torch.full((channels, 1, 1), 0.5))

    def forward(self, operator, f, u):
        correction = self.scale * torch.tanh(operator.residual(f, u))
        return correction if u is None else u + correction


class MaxPooling(nn.Module, Restriction):
    def forward(self, residual):
        return functional.max_pool2d(residual, 2, ceil_mode=True)


class Mean(Restriction):
    """No nn.Module at all."""

    def __call__(self, residual):
        return functional.avg_pool2d(residual, 2)


class Laplace(Operator):
    """Neither is this: the five-point stencil, periodic."""

    def __call__(self, u):
        return 4 * u - sum(u.roll(step, axis) for step in (1, -1) for axis in (2, 3))


def test_slots_of_the_users_own_run_and_train():
    levels = [
        ConvLevel(ConvOperator(conv()), Scaled(4), MaxPooling()),
        ConvLevel(ConvOperator(conv()), FeatureExtraction([extraction()])),
    ]
    model = Classifier(
        MgNetConfig(steps=(1, 1), features=4), nn.Sequential(conv(3, 4), nn.BatchNorm2d(4)), ConvCycle(levels), 4
    )
    images, labels = torch.randn(32, 3, 8, 8), torch.randint(10, (32,))
    assert "cycle.levels.0.smoother.scale" in model.state_dict()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    losses, before = [], levels[0].smoother.scale.detach().clone()
    for _ in range(60):
        loss = functional.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]
    assert not torch.equal(levels[0].smoother.scale, before)


def test_slots_need_not_be_modules():
    cycle = ConvCycle([ConvLevel(Laplace(), Scaled(2), Mean()), ConvLevel(Laplace(), Scaled(2))])
    assert list(cycle.state_dict()) == ["levels.0.smoother.scale", "levels.1.smoother.scale"]
    f = torch.randn(1, 2, 8, 8)
    u = 0.5 * torch.tanh(f)
    wanted = 0.5 * torch.tanh(functional.avg_pool2d(f - Laplace()(u), 2))
    torch.testing.assert_close(cycle(f), wanted)


def test_a_user_may_replace_a_slot_of_a_named_network():
    model = MgNet(features=4, state_transfer="zero").eval()
    images = torch.randn(2, 3, 16, 16)
    before = model(images)
    for level in model.cycle.levels[:-1]:
        level.restriction = MaxPooling()
    assert not torch.allclose(model(images), before)
    assert not any("restriction" in name for name, _ in model.named_parameters())


# Visits


class Counting(nn.Module, Smoother):
    """One step of gradient descent that counts how often it was called."""

    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, operator, f, u):
        self.calls += 1
        return 0.1 * f if u is None else u + 0.1 * operator.residual(f, u)


@pytest.mark.parametrize(("kind", "visits"), [("V", [1, 1, 1, 1]), ("W", [1, 2, 4, 8]), ("F", [1, 2, 3, 4])])
def test_every_kind_of_cycle_visits_its_levels_as_often_as_stated(kind, visits):
    levels = [ConvLevel(Laplace(), Counting(), Mean(), prolongation=ConvProlongation(2, 2, None, "circular")) for _ in range(3)]
    cycle = ConvCycle([*levels, ConvLevel(Laplace(), Counting())], kind)
    assert cycle.visits() == visits
    cycle(torch.randn(1, 2, 16, 16))
    assert [level.smoother.calls for level in cycle.levels] == visits


@pytest.mark.parametrize("start", [False, True], ids=["from zero", "from a start"])
@torch.no_grad()
def test_a_w_cycle_of_three_levels_by_hand(start):
    A = [ConvOperator(conv()) for _ in range(3)]
    S = [FeatureExtraction([extraction(), extraction()]) for _ in range(3)]
    post = [FeatureExtraction([extraction()]) for _ in range(2)]
    R = [ConvRestriction(conv(stride=2), None, None) for _ in range(2)]
    Pi = [ConvStateTransfer(conv(stride=2), None, nn.ReLU()) for _ in range(2)]
    P = [ConvProlongation(4, 4, nn.BatchNorm2d(4), "zeros") for _ in range(2)]
    levels = [ConvLevel(A[at], S[at], R[at], Pi[at], P[at], post[at]) for at in range(2)]
    cycle = ConvCycle([*levels, ConvLevel(A[2], S[2])], "W").double().eval()
    f = torch.randn(2, 4, 8, 8, dtype=torch.float64)
    u0 = torch.randn_like(f) if start else None

    def residual(at, f, u):
        return f - functional.conv2d(u, A[at].convolution.weight, padding=1)

    fine = S[0](A[0], f, u0)
    first = Pi[0](fine)
    f1 = R[0](residual(0, f, fine)) + A[1](first)
    u1 = first
    for _ in range(2):
        u1 = S[1](A[1], f1, u1)
        second = Pi[1](u1)
        f2 = R[1](residual(1, f1, u1)) + A[2](second)
        u2 = second
        for _ in range(2):
            u2 = S[2](A[2], f2, u2)
        u1 = post[1](A[1], f1, u1 + P[1](u2 - second))
    wanted = post[0](A[0], f, fine + P[0](u1 - first))
    torch.testing.assert_close(cycle(f, u0), wanted, rtol=1e-12, atol=1e-12)
    found, states = cycle.trace(f, u0)
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(states[2].features, u2, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(states[1].data, f1, rtol=1e-12, atol=1e-12)


def test_no_leg_changes_what_it_was_given():
    for model in (MgNet(features=4, cycle="V"), ResNet(channels=4), PlainNet(steps=(2, 2), channels=4)):
        f, u = torch.randn(2, 2, 4, 8, 8)
        kept = f.clone(), u.clone()
        model.cycle(f, u)
        assert torch.equal(f, kept[0])
        assert torch.equal(u, kept[1])


# One by one


def test_a_step_operator_is_the_last_on_the_fine_side_and_the_first_on_the_coarse():
    operator = StepOperators([ConvOperator(conv()) for _ in range(3)])
    f, u = torch.randn(2, 1, 4, 6, 6)
    torch.testing.assert_close(operator.residual(f, u), f - operator.steps[2].convolution(u))
    torch.testing.assert_close(operator(u), operator.steps[0].convolution(u))
    assert operator.residual(f, None) is f


def test_the_norm_of_an_operator_is_not_in_the_residual():
    operator = ConvOperator(conv(), nn.BatchNorm2d(4))
    f, u = torch.randn(2, 2, 4, 6, 6)
    torch.testing.assert_close(operator.residual(f, u), f - operator.convolution(u))
    torch.testing.assert_close(operator(u), operator.norm(operator.convolution(u)))


def test_the_scale_of_an_extraction_stands_outside_the_norm():
    scaled = extraction(scaled=True).double()
    r = torch.randn(2, 4, 6, 6, dtype=torch.float64)
    before = scaled(r).detach()
    with torch.no_grad():
        scaled.scale.fill_(3)
    torch.testing.assert_close(scaled(r), 3 * before)
    assert extraction().scale is None


def test_semi_iterations_begin_as_what_their_formulas_say():
    """Chebyshev with w = 1 is plain smoothing; multi-step with alpha = (0, .., 0, 1) is, and equal alphas average."""
    steps = [extraction() for _ in range(3)]
    operator, f, u = ConvOperator(conv()), *torch.randn(2, 2, 4, 6, 6)
    plain = FeatureExtraction(steps)(operator, f, u)
    chebyshev = ChebyshevExtraction(steps)
    torch.testing.assert_close(chebyshev(operator, f, u), plain)
    multi = MultiStepExtraction([[steps[number]] * (number + 1) for number in range(3)])
    first = FeatureExtraction(steps[:1])(operator, f, u)
    average = (u + steps[1](operator.residual(f, u)) + first + steps[1](operator.residual(f, first))) / 2
    torch.testing.assert_close(MultiStepExtraction([[steps[0]], [steps[1]] * 2])(operator, f, u), average)
    with torch.no_grad():
        for logits in multi.logits:
            logits[-1] = 100
    torch.testing.assert_close(multi(operator, f, u), plain)
    assert (FeatureExtraction(steps).cost, chebyshev.cost, multi.cost) == (3, 3, 6)


@pytest.mark.parametrize("sizes", [(8, 8), (7, 10), (1, 5)], ids=str)
@pytest.mark.parametrize("padding", ["zeros", "circular"])
def test_p_is_the_transpose_of_a_convolution_with_stride_2(padding, sizes):
    prolongation = ConvProlongation(5, 3, None, padding).double()
    fine = torch.randn(1, 3, *sizes, dtype=torch.float64)
    mode = {"zeros": "constant"}.get(padding, padding)
    restricted = functional.conv2d(functional.pad(fine, (1, 1, 1, 1), mode=mode), prolongation.convolution.weight, stride=2)
    coarse = torch.randn_like(restricted)
    transposed = prolongation.add_to(torch.zeros_like(fine), coarse)
    torch.testing.assert_close((transposed * fine).sum(), (restricted * coarse).sum(), rtol=1e-12, atol=1e-12)
    if sizes == (8, 8):
        torch.testing.assert_close(prolongation(coarse), transposed)


@pytest.mark.parametrize("padding", ["zeros", "circular"])
def test_the_channelwise_convolution_treats_every_channel_alike(padding):
    one = ChannelwiseConvolution(padding)
    assert sum(parameter.numel() for parameter in one.parameters()) == 9
    u = torch.randn(2, 5, 7, 8)
    order = torch.tensor([3, 1, 4, 0, 2])
    torch.testing.assert_close(one(u[:, order]), one(u)[:, order])
    assert one(u).shape == (2, 5, 4, 4)


@torch.no_grad()
def test_with_circular_padding_a_shifted_image_has_shifted_features():
    model = MgNet(steps=(2, 1, 2), features=4, padding="circular", cycle="V").double().eval()
    images = torch.randn(1, 3, 16, 16, dtype=torch.float64)
    features = model.forward_features(images)
    shifted = model.forward_features(images.roll((4, 8), dims=(2, 3)))
    torch.testing.assert_close(shifted, features.roll((4, 8), dims=(2, 3)), rtol=1e-10, atol=1e-12)


def test_what_is_borrowed_is_used_and_not_stored():
    shared = conv()
    owner, borrower = ConvOperator(shared), ConvOperator(Borrowed(shared))
    u = torch.randn(1, 4, 6, 6)
    assert torch.equal(owner(u), borrower(u))
    assert not list(borrower.parameters())
    both = nn.ModuleList([owner, borrower]).double()
    assert borrower(u.double()).dtype == torch.float64
    assert list(both.state_dict()) == ["0.convolution.weight"]
