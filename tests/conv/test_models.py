"""Every named model: names, gradients, the first loss, fitting a batch; precisions, layouts, copies; features and head."""

import copy
import io
import math
import pickle
import shutil
import sys

import pytest
import torch
import torch.fx
from tiers import pack
from torch.nn import functional

from unigrid.conv import MgNet, PlainNet, ResNet, create_model, list_models, named_model
from unigrid.conv.models import configuration_of, from_configuration
from unigrid.conv.weights import load_weights, save_weights

SMALL = {
    "mgnet": lambda: MgNet(features=8),
    "mgnet-steps": lambda: MgNet(features=8, data=6, operator_sharing="step", extractor_sharing="step", steps=(2, 3)),
    "mgnet-global": lambda: create_model("mgnet-8-shared", state_transfer="channelwise"),
    "mgnet-V": lambda: MgNet(features=8, cycle="V", extractor_sharing="scaled", semi_iteration="chebyshev"),
    "mgnet-multi-step": lambda: MgNet(features=8, semi_iteration="multi-step", padding="circular", extractor="bottleneck"),
    "resnet": lambda: ResNet(channels=8, extractor_sharing="level"),
    "sigma": lambda: ResNet(channels=8, form="sigma", operator_sharing="level"),
    "pre-act": lambda: ResNet(channels=8, form="pre-act", operator_sharing="level", extractor_sharing="level"),
    "plain": lambda: PlainNet(steps=(1, 2, 1), channels=(4, 6, 8), norm=False),
}  # fmt: skip


def in_channels(name):
    return named_model(name).config.in_channels


def size(name):
    return 16 if name == "plain-vgg11" else 8  # five levels, or four


def test_the_names():
    """Those that the documentation promises are there, and each name is its model's own."""
    promised = {f"mgnet-{c}-{sharing}" for c in (16, 32, 64, 128, 256, 512) for sharing in ("Bl", "Bli")}
    promised |= {
        f"{stem}resnet{depth}{s}" for stem in ("", "preact-") for depth in (18, 34) for s in ("", "-Al", "-Bl", "-AlBl")
    }
    promised |= {"sigma-resnet18", "mg-resnet18", "mgnet-mnist-64", "plain-lenet", "plain-vgg11"}
    assert promised <= set(list_models())
    assert len(set(list_models())) == len(list_models())
    for name in list_models():
        model = named_model(name)
        assert model.name == name
        assert model.summary
        assert model.source
        assert all(60 < accuracy < 100 for accuracy in model.published.values())


def test_published_accuracies_are_the_sources():
    """CIFAR-10 and CIFAR-100 of the MgNet papers; sharing in residual networks on CIFAR-100: none, A, B, both."""
    published = {
        "mgnet-paper-256-pi0": {"cifar10": 92.02, "cifar100": 68.29},
        "mgnet-paper-256-pi1": {"cifar10": 93.04, "cifar100": 72.32},
        "mgnet-paper-256-512-pi1": {"cifar10": 93.20, "cifar100": 72.42},
        "mgnet-256-Bl": {"cifar10": 96.00, "cifar100": 79.67},
        "mgnet-256-Bli": {"cifar100": 80.0},
        "mgnet-256-Bli-8222": {"cifar100": 81.42},
        "mgnet-512-Bl": {"cifar100": 81.12},
        "mgnet-256-shared": {"cifar100": 76.62},
        "mgnet-128-shared": {"cifar100": 73.04},
    }
    shared = {
        "resnet18": (74.45, 74.46, 72.78, 72.56),
        "preact-resnet18": (74.33, 74.51, 72.67, 72.81),
        "resnet34": (77.20, 77.24, 75.31, 74.79),
        "preact-resnet34": (77.25, 77.40, 75.36, 75.82),
    }
    for name, accuracies in shared.items():
        published |= {f"{name}{s}": {"cifar100": a} for s, a in zip(("", "-Al", "-Bl", "-AlBl"), accuracies, strict=True)}
    assert {name: named_model(name).published for name in list_models() if named_model(name).published} == published


def test_any_width_has_a_name():
    model = create_model("mgnet-7-Bli", num_classes=4, in_channels=2)
    assert model(torch.zeros(2, 2, 8, 8)).shape == (2, 4)
    assert named_model("mgnet-7-Bli").config.channels_of_features == (7, 7, 7, 7)
    assert model.config.extractor_sharing == "step"
    assert create_model("mgnet-6-shared").config.operator_sharing == "global"


def test_fields_vary_a_named_model():
    narrow = create_model("mgnet-64-Bli", features=4, num_classes=7, activation="gelu")
    assert narrow.config == MgNet(features=4, extractor_sharing="step", num_classes=7, activation="gelu").config
    assert create_model("mgnet-16-Bl", steps=(1, 1)).config == MgNet(features=16, steps=(1, 1)).config
    assert create_model("mgnet-16-Bl", steps=(1, 1), features=(4, 8)).config == MgNet(features=(4, 8), steps=(1, 1)).config
    assert MgNet(MgNet(features=8).config, features=4).config == MgNet(features=4).config


@pack
@pytest.mark.parametrize("name", list_models())
def test_every_parameter_of_every_named_model_has_a_gradient(narrow, name):
    for classes in (10, 100):
        model = narrow(name, num_classes=classes)
        images = torch.randn(8, in_channels(name), size(name), size(name))
        loss = functional.cross_entropy(model(images), torch.randint(classes, (8,)))
        assert loss.item() == pytest.approx(math.log(classes), rel=0.1)
    loss.backward()
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert torch.isfinite(parameter.grad).all(), parameter_name
        assert parameter.grad.any(), parameter_name


@pytest.mark.parametrize("name", ["mgnet-256-Bl", "mgnet-paper-256-pi1", "mgnet-64-Bl-V", "resnet18", "plain-vgg11"])
@torch.no_grad()
def test_the_first_loss_at_full_width(name):
    images, labels = torch.randn(16, 3, 16, 16), torch.randint(100, (16,))
    loss = functional.cross_entropy(create_model(name, num_classes=100).train()(images), labels)
    assert loss.item() == pytest.approx(math.log(100), rel=0.1)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # torch's compiler warns of torch
@pytest.mark.skipif(
    shutil.which("c++") is None or sys.platform == "win32", reason="torch.compile needs a C++ compiler, here c++"
)
@pytest.mark.parametrize("family", ["mgnet", "resnet"])
def test_a_compiled_model_is_the_same_function(family):
    # Not 4: compiled, the 1x1 convolution of stride 2 is channels last, and backward, with fewer than 8 channels and without
    # AVX-512, torch 2.13's writes beyond its memory.
    model = MgNet(features=4, steps=(1, 1)) if family == "mgnet" else ResNet(channels=8, blocks=(1, 1))
    images = torch.randn(4, 3, 8, 8)
    eager = copy.deepcopy(model)
    compiled = torch.compile(model)
    logits = compiled(images), eager(images)
    torch.testing.assert_close(logits[0], logits[1], rtol=1e-5, atol=1e-5)
    for found in logits:
        functional.cross_entropy(found, torch.tensor([0, 1, 2, 3])).backward()
    for ours, theirs in zip(model.parameters(), eager.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-5)


@pack
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("family", SMALL)
def test_precisions(family, dtype):
    """Forward and backward in each; float32 and bfloat16 are near the float64 of the same weights."""
    model, exact = SMALL[family]().to(dtype).eval(), SMALL[family]().double().eval()
    exact.load_state_dict(model.state_dict())
    images = torch.randn(8, 3, 8, 8).to(dtype)
    logits = model(images)
    assert logits.dtype == dtype
    wanted = exact(images.double())
    tolerance = {torch.float32: 1e-5, torch.float64: 0, torch.bfloat16: 0.05}[dtype]
    assert (logits.double() - wanted).abs().max() <= tolerance * wanted.abs().max()
    functional.cross_entropy(model.train()(images), torch.arange(8)).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad.dtype == dtype
        assert torch.isfinite(parameter.grad).all(), name


@pytest.mark.parametrize("family", SMALL)
def test_bfloat16_autocast(family):
    model, images = SMALL[family]().eval(), torch.randn(8, 3, 8, 8)
    with torch.no_grad():
        wanted = model(images)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = model(images).float()
    assert 0 < (found - wanted).abs().max() <= 0.05 * wanted.abs().max()


@pytest.mark.parametrize("family", SMALL)
def test_channels_last_equals_contiguous(family):
    model, images = SMALL[family]().double(), torch.randn(4, 3, 12, 12, dtype=torch.float64)
    last = copy.deepcopy(model).to(memory_format=torch.channels_last)
    logits = model(images), last(images.to(memory_format=torch.channels_last))
    torch.testing.assert_close(logits[1], logits[0], rtol=1e-10, atol=1e-12)
    for found in logits:
        functional.cross_entropy(found, torch.arange(4)).backward()
    for ours, theirs in zip(last.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-8, atol=1e-12)
    features = last.eval().forward_features(images.to(memory_format=torch.channels_last))
    assert features.is_contiguous(memory_format=torch.channels_last)


def borrowers(model):
    """Return the modules, by the place where they are used, that one part borrows from another."""
    found = {}
    for place, module in model.named_modules():
        for name, value in vars(module).items():
            if isinstance(value, torch.nn.Module):
                found[f"{place}.{name}"] = value
    return found


def copies(model, folder):
    yield copy.deepcopy(model)
    yield pickle.loads(pickle.dumps(model))
    rebuilt, file = from_configuration(configuration_of(model)), io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    rebuilt.load_state_dict(torch.load(file, weights_only=True))
    yield rebuilt
    rebuilt = from_configuration(configuration_of(model))
    save_weights(model, folder / "weights.safetensors")
    load_weights(rebuilt, folder / "weights.safetensors")
    yield rebuilt


@pack
@pytest.mark.parametrize("family", SMALL)
@torch.no_grad()
def test_copies_are_the_same_and_share_what_the_model_shares(family, randomize, tmp_path):
    model, images = randomize(SMALL[family]()).eval(), torch.randn(2, 3, 8, 8)
    wanted = model(images)
    for other in copies(model, tmp_path):
        assert torch.equal(other.eval()(images), wanted)
        own = {id(module) for module in other.modules()}
        assert borrowers(other).keys() == borrowers(model).keys()
        assert all(id(module) in own for module in borrowers(other).values())
        for parameter in other.parameters():
            parameter.add_(0.1)
        assert not torch.equal(other(images), wanted)
        assert torch.equal(model(images), wanted)


@pytest.mark.parametrize("family", ["mgnet-global", "resnet", "pre-act"])
def test_some_of_these_do_borrow(family):
    assert borrowers(SMALL[family]())


@pack
@pytest.mark.parametrize("name", list_models())
def test_configurations_are_plain_values_that_rebuild_the_model(name):
    import json

    with torch.device("meta"):
        model = create_model(name, num_classes=12)
        described = json.loads(json.dumps(configuration_of(model)))  # tuples come back as lists
        rebuilt = from_configuration(described)
    assert rebuilt.config == model.config
    assert type(rebuilt) is type(model)
    shapes = [{key: value.shape for key, value in each.state_dict().items()} for each in (model, rebuilt)]
    assert shapes[0] == shapes[1]


# Features, levels and head


@pytest.mark.parametrize("family", SMALL)
@torch.no_grad()
def test_the_parts_of_the_forward_pass_make_the_whole(family, randomize):
    model, images = randomize(SMALL[family]()).eval(), torch.randn(2, 3, 12, 12)
    features = model.forward_features(images)
    assert torch.equal(model.forward_head(features), model(images))
    pooled = model.forward_head(features, pre_logits=True)
    assert pooled.shape == (2, model.num_features)
    assert torch.equal(model.head(pooled), model(images))
    found, levels = model.forward_intermediates(images)
    assert torch.equal(found, features)
    assert len(levels) == len(model.cycle.levels)
    assert torch.equal(levels[0].data, model.theta(images))
    assert [level.features.shape[-1] for level in levels] == [12, 6, 3, 2][: len(levels)]
    at = 0 if family == "mgnet-V" else -1
    assert torch.equal(levels[at].features, features)


@pytest.mark.parametrize("sharing", ["level", "global", "step"])
@torch.no_grad()
def test_features_data_and_residual_of_every_level(sharing, randomize):
    model = randomize(MgNet(steps=(2, 3, 1), features=4, operator_sharing=sharing)).double().eval()
    images = torch.randn(2, 3, 12, 12, dtype=torch.float64)
    _, states = model.forward_intermediates(images)
    for at, state in enumerate(states):
        held = model.cycle.levels[at].operator
        last, first = (held.steps[-1], held.steps[0]) if sharing == "step" else (held, held)
        explained = functional.conv2d(state.features, last.convolution.weight, padding=1)
        torch.testing.assert_close(state.residual, state.data - explained, rtol=1e-12, atol=1e-12)
        if at:
            finer = model.cycle.levels[at - 1]
            start = finer.state_transfer(states[at - 1].features)
            data = finer.restriction(states[at - 1].residual)
            data = data + functional.conv2d(start, first.convolution.weight, padding=1)
            torch.testing.assert_close(state.data, data, rtol=1e-12, atol=1e-12)


@torch.no_grad()
def test_a_v_cycle_is_traced_on_its_way_up(randomize):
    model = randomize(MgNet(steps=(1, 2, 1), features=4, cycle="V")).double().eval()
    images = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    features, states = model.forward_intermediates(images)
    f = model.theta(images)
    levels = model.cycle.levels
    down, data, start = levels[0].descend(f, None, levels[1])
    coarse_down, coarsest_data, coarsest_start = levels[1].descend(data, start, levels[2])
    coarsest = levels[2].smoother(levels[2].operator, coarsest_data, coarsest_start)
    up = coarse_down + levels[1].prolongation(coarsest - coarsest_start)
    up = levels[1].post_smoother(levels[1].operator, data, up)
    final = levels[0].post_smoother(levels[0].operator, f, down + levels[0].prolongation(up - start))
    for found, wanted in zip((states[2], states[1], states[0]), (coarsest, up, final), strict=True):
        torch.testing.assert_close(found.features, wanted, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(features, final, rtol=1e-12, atol=1e-12)
    explained = functional.conv2d(final, levels[0].operator.convolution.weight, padding=1)
    torch.testing.assert_close(states[0].residual, f - explained, rtol=1e-12, atol=1e-12)


@torch.no_grad()
def test_where_a_is_never_applied_there_is_no_residual():
    _, states = MgNet(steps=(2, 1), features=4, state_transfer="zero").eval().forward_intermediates(torch.randn(1, 3, 8, 8))
    assert states[0].residual.shape == states[0].data.shape
    assert states[1].residual is None


@torch.no_grad()
def test_in_residual_networks_the_features_of_a_level_are_its_residual():
    _, states = ResNet(channels=4).eval().forward_intermediates(torch.randn(1, 3, 8, 8))
    for state in states:
        assert torch.equal(state.residual, state.features)


@pytest.mark.parametrize("family", SMALL)
def test_a_new_head_for_other_classes(family):
    model = SMALL[family]().double()
    images = torch.randn(4, 3, 8, 8, dtype=torch.float64)
    before = {name: value.clone() for name, value in model.state_dict().items() if not name.startswith("head.")}
    model.reset_classifier(100)
    assert model.num_classes == model.config.num_classes == 100
    assert all(torch.equal(model.state_dict()[name], value) for name, value in before.items())
    logits = model(images)
    assert logits.shape == (4, 100)
    assert logits.dtype == torch.float64
    assert functional.cross_entropy(logits, torch.arange(4)).item() == pytest.approx(math.log(100), rel=0.1)
    assert configuration_of(model)["num_classes"] == 100


def test_the_same_seed_makes_the_same_model():
    models = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        models.append(create_model("mgnet-16-Bl"))
    first, second, third = (model.state_dict() for model in models)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["theta.0.weight"], third["theta.0.weight"])


# traced by torch.fx, as feature extractors and quantization do


def fed(name):
    """Images of odd and even sides; circular padding needs even ones."""
    return torch.randn(2, 3, 16 if "multi-step" in name or "circular" in name else 17, 16)


TRACED = {**SMALL, "mgnet-V-circular": lambda: MgNet(features=8, cycle="V", padding="circular")}


@pytest.mark.parametrize("name", TRACED)
def test_a_traced_model_is_the_same_function_of_the_same_weights(name):
    torch.manual_seed(0)
    model, images = TRACED[name]().eval(), fed(name)
    traced = torch.fx.symbolic_trace(model)
    assert torch.equal(traced(images), model(images))
    assert {id(weight) for weight in traced.parameters()} == {id(weight) for weight in model.parameters()}
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.1)  # no number was traced as a constant
    assert torch.equal(traced(images), model(images))
    traced.train(), model.train()
    assert torch.equal(traced(images), model(images))


def test_a_traced_model_takes_other_sizes_and_refuses_what_the_model_refuses():
    model = SMALL["mgnet"]().eval()
    copied = pickle.loads(pickle.dumps(torch.fx.symbolic_trace(model)))
    for sides in ((8, 8), (33, 20)):
        images = torch.randn(3, 3, *sides)
        assert torch.equal(copied(images), model(images))
    for images, error in (
        (torch.zeros(2, 4, 8, 8), ValueError), (torch.zeros(2, 3, 7, 8), ValueError),
        (torch.zeros(2, 3, 8, 8, dtype=torch.uint8), TypeError),
    ):  # fmt: skip
        refusals = []
        for refusing in (model, copied):
            with pytest.raises(error) as refused:
                refusing(images)
            refusals.append(str(refused.value))
        assert refusals[0] == refusals[1]


def test_features_of_a_level_are_extracted_from_the_graph():
    model, images = SMALL["mgnet"]().eval(), torch.randn(2, 3, 16, 16)
    graph = torch.fx.symbolic_trace(model).graph
    transfers = [node for node in graph.nodes if node.target == "cycle.levels.0.state_transfer.convolution"]
    graph.erase_node(next(node for node in graph.nodes if node.op == "output"))
    graph.output(transfers[0].args[0])
    graph.eliminate_dead_code()
    extracted = torch.fx.GraphModule(model, graph)(images)
    assert torch.equal(extracted, model.forward_intermediates(images)[1][0].features)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["mgnet", "pre-act", "plain"])
def test_a_model_is_quantized_to_eight_bits(name):
    quantize_fx = pytest.importorskip("torch.ao.quantization.quantize_fx")
    if "x86" not in torch.backends.quantized.supported_engines:
        pytest.skip("without the engine of this processor")
    torch.manual_seed(0)
    model, images = SMALL[name]().eval(), torch.randn(4, 3, 16, 16)
    observed = quantize_fx.prepare_fx(copy.deepcopy(model), torch.ao.quantization.get_default_qconfig_mapping("x86"), (images,))
    observed(images)
    rounded = quantize_fx.convert_fx(observed)
    assert any(weight.is_quantized for weight in _tensors(rounded.state_dict().values()))
    logits = model(images)
    assert (rounded(images) - logits).abs().max() < 0.1 * logits.abs().max()


def _tensors(values):
    return [value for value in values if isinstance(value, torch.Tensor)]
