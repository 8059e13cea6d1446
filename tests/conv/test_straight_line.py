"""MgNet against a second implementation: the equations of the released algorithm in a straight line.

It takes its numbers from the state_dict, by names that follow from what is shared; nothing of the package's cycle or slots
runs in it. Whatever it never reads must not be there.
"""

import itertools
import math
import random

import pytest
import torch
from tiers import pack
from torch.nn import functional

from unigrid.conv import ACTIVATIONS, MgNet
from unigrid.conv.mgnet import CHOICES

TOLERANCE = {torch.float32: 1e-6, torch.float64: 1e-12}

SIGMA = {
    "relu": lambda x: x * (x > 0),
    "leaky-relu": lambda x: torch.where(x > 0, x, 0.01 * x),
    "elu": lambda x: torch.where(x > 0, x, torch.exp(x) - 1),
    "selu": lambda x: 1.0507009873554805 * torch.where(x > 0, x, 1.6732632423543772 * (torch.exp(x) - 1)),
    "gelu": lambda x: x * (1 + torch.erf(x / math.sqrt(2))) / 2,
    "silu": lambda x: x / (1 + torch.exp(-x)),
    "mish": lambda x: x * torch.tanh(torch.log(1 + torch.exp(x))),
    "softplus": lambda x: torch.log(1 + torch.exp(x)),
    "tanh": lambda x: (torch.exp(x) - torch.exp(-x)) / (torch.exp(x) + torch.exp(-x)),
    "sigmoid": lambda x: 1 / (1 + torch.exp(-x)),
    "identity": lambda x: x,
}


class StraightLine:
    """The algorithm, step by step. `unread` holds the names of the weights that it has not read."""

    def __init__(self, model, training=False):
        self.config, self.training = model.config, training
        self.weights = dict(model.state_dict())
        self.unread = {name for name in self.weights if not name.endswith("num_batches_tracked")}
        if training:
            self.unread -= {name for name in self.unread if name.endswith(("running_mean", "running_var"))}
        self.sigma = SIGMA[self.config.activation]

    def read(self, name):
        self.unread.discard(name)
        return self.weights[name]

    # What the letters mean

    def padded(self, x):
        """Return x with one more value on every side."""
        if self.config.padding == "zeros":
            return functional.pad(x, (1, 1, 1, 1))
        x = torch.cat((x[..., -1:, :], x, x[..., :1, :]), dim=-2)
        return torch.cat((x[..., -1:], x, x[..., :1]), dim=-1)

    def conv(self, name, x, stride=1):
        return functional.conv2d(self.padded(x), self.read(f"{name}.weight"), stride=stride)

    def norm(self, name, x):
        column = (1, -1, 1, 1)
        if self.training:
            mean = x.mean(dim=(0, 2, 3), keepdim=True)
            variance = ((x - mean) ** 2).mean(dim=(0, 2, 3), keepdim=True)
        else:
            mean = self.read(f"{name}.running_mean").reshape(column)
            variance = self.read(f"{name}.running_var").reshape(column)
        weight, bias = self.read(f"{name}.weight").reshape(column), self.read(f"{name}.bias").reshape(column)
        return (x - mean) / torch.sqrt(variance + 1e-5) * weight + bias

    def A(self, level, step, u):
        """Return A^(l,i) u."""
        sharing = self.config.operator_sharing
        if sharing == "step":
            name = f"cycle.levels.{level}.operator.steps.{step}.convolution"
        elif sharing == "global":  # on the first level that has any use of A
            held = [n for n in self.weights if ".operator." in n and ".convolution." in n]
            name = held[0][: held[0].index(".convolution.")] + ".convolution"
        else:
            name = f"cycle.levels.{level}.operator.convolution"
        if self.config.operator == "linear":
            return self.conv(name, u)
        return self.conv(f"{name}.2", self.sigma(self.conv(f"{name}.0", u)))

    def residual(self, level, step, f, u):
        return f if u is None else f - self.A(level, step, u)

    def B(self, slot, level, place, r):
        """Return alpha sigma BN B sigma BN r; `place` is where its own weights stand in the smoother: "0", or "1.0"."""
        here = f"cycle.levels.{level}.{slot}.steps."
        first = here + ("0.0" if "." in place else "0")
        very_first = "cycle.levels.0.smoother.steps." + ("0.0" if "." in place else "0")
        sharing = self.config.extractor_sharing
        name = {"step": here + place, "level": first, "scaled": first, "global": very_first}[sharing] + ".convolution"
        norms = {"step": here + place, "level": first, "none": None}[self.config.norms]
        if norms:
            r = self.norm(f"{norms}.data_norm", r)
        r = self.sigma(r)
        if self.config.extractor == "convolution":
            r = self.conv(name, r)
        else:
            r = functional.conv2d(r, self.read(f"{name}.narrow.weight"))
            if norms:
                r = self.norm(f"{norms}.convolution.first_norm", r)
            r = self.conv(f"{name}.between", self.sigma(r))
            if norms:
                r = self.norm(f"{norms}.convolution.second_norm", r)
            r = functional.conv2d(self.sigma(r), self.read(f"{name}.widen.weight"))
        if norms:
            r = self.norm(f"{norms}.feature_norm", r)
        r = self.sigma(r)
        return self.read(f"{here}{place}.scale") * r if sharing == "scaled" else r

    def after(self, name, x):
        """Return sigma BN x, as far as the configuration has them."""
        if self.config.transfer_norms:
            x = self.norm(f"{name}.norm", x)
        return self.sigma(x) if self.config.transfer_activation else x

    def R(self, level, r):
        owner = 0 if self.config.restriction_sharing == "global" else level
        r = self.conv(f"cycle.levels.{owner}.restriction.convolution", r, stride=2)
        return self.after(f"cycle.levels.{level}.restriction", r)

    def Pi(self, level, u):
        owner = 0 if self.config.state_transfer_sharing == "global" else level
        name = f"cycle.levels.{owner}.state_transfer.convolution"
        if self.config.state_transfer == "channelwise":
            kernel = self.read(f"{name}.convolution.weight")
            u = torch.cat([functional.conv2d(self.padded(u[:, c : c + 1]), kernel, stride=2) for c in range(u.shape[1])], dim=1)
        else:
            u = self.conv(name, u, stride=2)
        return self.after(f"cycle.levels.{level}.state_transfer", u)

    def P(self, level, e, size):
        """Return the transpose of the convolution with stride 2: zeros between the values, then the kernel turned around."""
        name = f"cycle.levels.{level}.prolongation"
        spread = e.new_zeros(*e.shape[:2], *size)
        spread[:, :, ::2, ::2] = e
        kernel = self.read(f"{name}.convolution.weight").flip(2, 3).transpose(0, 1)
        fine = functional.conv2d(self.padded(spread), kernel)
        return self.norm(f"{name}.norm", fine) if self.config.transfer_norms else fine

    # The algorithm

    def smooth(self, slot, level, f, u):
        steps = range(self.config.steps[level])
        if self.config.semi_iteration == "multi-step":
            return self.smooth_multi_step(slot, level, f, u)
        history = [u]
        for i in steps:
            new = self.B(slot, level, f"{i}", self.residual(level, i, f, history[-1]))
            if history[-1] is not None:
                new = history[-1] + new
            if self.config.semi_iteration == "chebyshev" and i > 0:
                w = self.read(f"cycle.levels.{level}.{slot}.weights")[i - 1]
                new = w * new + (0 if history[-2] is None else (1 - w) * history[-2])
            history.append(new)
        return history[-1]

    def smooth_multi_step(self, slot, level, f, u):
        history = [u]
        for i in range(self.config.steps[level]):
            alpha = [1.0]
            if i > 0:
                e = torch.exp(self.read(f"cycle.levels.{level}.{slot}.logits.{i - 1}"))
                alpha = e / e.sum()
            total = 0
            for j in range(i + 1):
                new = self.B(slot, level, f"{i}.{j}", self.residual(level, i, f, history[j]))
                total = total + alpha[j] * (new if history[j] is None else history[j] + new)
            history.append(total)
        return history[-1]

    def theta(self, images):
        f = self.conv("theta.0", images)
        return self.sigma(f if self.config.norms == "none" else self.norm("theta.1", f))

    def features(self, images):
        f, u = self.theta(images), None
        levels = len(self.config.steps)
        left = []  # f, u and the start of the next level, of every level left on the way down
        for level in range(levels - 1):
            u = self.smooth("smoother", level, f, u)
            pooled = self.R(level, self.residual(level, self.config.steps[level] - 1, f, u))
            if self.config.state_transfer == "zero":
                start = None
            else:
                start = self.Pi(level, u)
                data = self.A(level + 1, 0, start)
                if self.config.operator_norm:
                    first = "steps.0." if self.config.operator_sharing == "step" else ""
                    data = self.norm(f"cycle.levels.{level + 1}.operator.{first}norm", data)
                pooled = pooled + data
            left.append((f, u, start))
            f, u = pooled, start
        u = self.smooth("smoother", levels - 1, f, u)
        if self.config.cycle == "V":
            for level in reversed(range(levels - 1)):
                f, before, start = left[level]
                e = u if start is None else u - start
                u = self.smooth("post_smoother", level, f, before + self.P(level, e, before.shape[2:]))
        return u

    def logits(self, features):
        count = features.shape[2] * features.shape[3]
        pooled = features.sum(dim=(2, 3)) / count
        return pooled @ self.read("head.weight").T + self.read("head.bias")


def assert_close(found, wanted, context=""):
    error = (found - wanted).abs().max() / wanted.abs().max()
    assert error <= TOLERANCE[found.dtype], f"{context}: relative error {error:.2g}"


@pytest.fixture
def check(randomize):
    """check(dtype, size, **fields): a small MgNet with these choices equals the straight line."""

    @torch.no_grad()
    def run(dtype=torch.float64, size=(8, 8), **fields):
        choices = {"steps": (2, 1, 2), "features": 4, "num_classes": 5, **fields}
        for _ in range(20):  # some few channels are all dead behind their ReLU, and zeros would compare nothing
            model = randomize(MgNet(**choices)).to(dtype).eval()
            straight = StraightLine(model)
            images = torch.randn(2, model.config.in_channels, *size, dtype=dtype)
            features = straight.features(images)
            if features.any():
                break
        assert_close(model.forward_features(images), features, str(fields))
        assert_close(model(images), straight.logits(features), str(fields))
        assert not straight.unread, f"{fields}: weights that nothing reads"

    return run


@pack
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("extractor_sharing", CHOICES["extractor_sharing"])
@pytest.mark.parametrize("operator_sharing", CHOICES["operator_sharing"])
def test_all_sharing_modes(check, operator_sharing, extractor_sharing, dtype):
    """All combinations of what A, B, R and Pi share, with each kind of Pi."""
    more = ("restriction_sharing", "state_transfer_sharing", "state_transfer")
    for values in itertools.product(*(CHOICES[name] for name in more)):
        choices = dict(zip(more, values, strict=True))
        check(dtype, operator_sharing=operator_sharing, extractor_sharing=extractor_sharing, **choices)


ONE_AT_A_TIME = {
    "default": {},
    "four levels": {"steps": (2, 2, 2, 2), "size": (16, 16)},
    "one level": {"steps": (3,)},
    "one step": {"steps": (1,)},
    "one step a level": {"steps": (1, 1, 1)},
    "many steps": {"steps": (5, 3)},
    "norms of a level": {"norms": "level"},
    "no norms": {"norms": "none"},
    "no norms at all": {"norms": "none", "transfer_norms": False, "transfer_activation": False},
    "no transfer norms": {"transfer_norms": False},
    "no transfer activation": {"transfer_activation": False},
    "operator norm": {"operator_norm": True},
    "operator norm, one A": {"operator_norm": True, "operator_sharing": "global"},
    "operator norm, A of each step": {"operator_norm": True, "operator_sharing": "step"},
    "nonlinear A": {"operator": "nonlinear"},
    "nonlinear A of each step": {"operator": "nonlinear", "operator_sharing": "step"},
    "nonlinear A, one for all": {"operator": "nonlinear", "operator_sharing": "global"},
    "bottleneck": {"extractor": "bottleneck", "features": 8},
    "bottleneck of each step": {"extractor": "bottleneck", "features": 8, "extractor_sharing": "step"},
    "bottleneck without norms": {"extractor": "bottleneck", "features": 8, "norms": "none"},
    "Chebyshev": {"semi_iteration": "chebyshev", "steps": (3, 1, 4)},
    "multi-step": {"semi_iteration": "multi-step", "steps": (3, 1, 2)},
    "multi-step, A and B of each step": {
        "semi_iteration": "multi-step", "steps": (3, 2), "operator_sharing": "step", "extractor_sharing": "step",
    },
    "multi-step, scaled": {"semi_iteration": "multi-step", "steps": (3, 2), "extractor_sharing": "scaled"},
    "V": {"cycle": "V"},
    "V, Pi zero": {"cycle": "V", "state_transfer": "zero"},
    "V, A of each step": {"cycle": "V", "operator_sharing": "step", "steps": (3, 2, 2)},
    "V, one B": {"cycle": "V", "extractor_sharing": "global"},
    "V, scaled": {"cycle": "V", "extractor_sharing": "scaled"},
    "V, norms of a level": {"cycle": "V", "norms": "level"},
    "V without transfer norms": {"cycle": "V", "transfer_norms": False},
    "V, Chebyshev": {"cycle": "V", "semi_iteration": "chebyshev", "steps": (3, 2, 2)},
    "V, multi-step": {"cycle": "V", "semi_iteration": "multi-step", "steps": (2, 2, 2)},
    "V, odd sizes": {"cycle": "V", "steps": (1, 2, 1, 1), "size": (13, 10)},
    "V, other channels": {"cycle": "V", "features": (4, 6, 8), "data": (6, 5, 4)},
    "circular": {"padding": "circular"},
    "circular, channelwise": {"padding": "circular", "state_transfer": "channelwise"},
    "circular V": {"padding": "circular", "cycle": "V"},
    "circular, odd sizes": {"padding": "circular", "size": (9, 13)},
    "more data than features": {"data": 7},
    "more features than data": {"features": 6, "data": 3},
    "other channels on each level": {"features": (4, 6, 8), "data": (8, 5, 7)},
    "28 x 28": {"steps": (1, 2, 1, 1), "size": (28, 28)},
    "smallest images": {"size": (4, 4)},
    "oblong": {"size": (8, 14)},
    "a gray image": {"in_channels": 1},
    "the MNIST layout": {
        "operator_sharing": "global", "extractor_sharing": "step", "operator_norm": True, "in_channels": 1, "size": (14, 14),
    },
}  # fmt: skip


@pack
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("name", ONE_AT_A_TIME)
def test_every_choice_by_itself(check, name, dtype):
    check(dtype, **ONE_AT_A_TIME[name])


@pack
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation(check, activation, dtype):
    check(dtype, activation=activation)


@pytest.mark.slow
def test_a_sample_of_all_combinations(check):
    """Of the full product of all choices, 250 at random."""
    drawn, run = random.Random(4), 0
    flags = dict.fromkeys(("transfer_norms", "transfer_activation", "operator_norm"), (True, False))
    fields = {**{name: tuple(allowed) for name, allowed in CHOICES.items()}, **flags}
    while run < 250:
        choices = {name: drawn.choice(allowed) for name, allowed in fields.items()}
        if choices["operator_norm"] and choices["state_transfer"] == "zero":
            continue  # refused: it would never be used
        check(features=8, data=drawn.choice((6, 8)), steps=drawn.choice(((2, 1), (1, 3), (2, 2, 1))), **choices)
        run += 1


@pytest.mark.parametrize("choices", [{}, {"extractor_sharing": "step"}, {"cycle": "V"}, {"norms": "level"}], ids=str)
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_in_training_norms_take_the_statistics_of_the_batch(randomize, choices, dtype):
    model = randomize(MgNet(steps=(2, 2, 2), features=4, **choices)).to(dtype).train()
    images = torch.randn(8, 3, 16, 16, dtype=dtype)
    straight = StraightLine(model, training=True)
    with torch.no_grad():
        wanted = straight.logits(straight.features(images))
        error = (model(images) - wanted).abs().max() / wanted.abs().max()
    assert error <= {torch.float32: 1e-5, torch.float64: 1e-12}[dtype]  # dividing by small variances costs a digit
    assert not straight.unread


def test_running_statistics_move_by_a_tenth_toward_the_batch(randomize):
    model = randomize(MgNet(features=4)).double().train()
    images = torch.randn(8, 3, 16, 16, dtype=torch.float64)
    before = model.theta[1].running_mean.clone()
    model(images)
    batch = functional.conv2d(images, model.theta[0].weight, padding=1).mean(dim=(0, 2, 3))
    torch.testing.assert_close(model.theta[1].running_mean, 0.9 * before + 0.1 * batch, rtol=1e-12, atol=1e-12)


def test_the_straight_line_sees_a_changed_weight(randomize):
    """A control: any one weight changed by a thousandth is noticed."""
    model = randomize(MgNet(steps=(2, 2), features=4, extractor_sharing="scaled")).double().eval()
    images = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    straight = StraightLine(model)
    for name, value in straight.weights.items():
        if name.endswith("num_batches_tracked"):
            continue
        changed = dict(straight.weights)
        changed[name] = value * 1.001
        straight.weights, kept = changed, straight.weights
        with torch.no_grad():
            difference = straight.logits(straight.features(images)) - model(images)
        assert difference.abs().max() > 1e-9, name
        straight.weights = kept
