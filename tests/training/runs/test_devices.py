"""Where to compute: devices by name, those that are not there, when compiling and bfloat16 pay, and a compiled run."""

import dataclasses
import functools
import shutil
import sys

import numpy as np
import pytest
import torch
from torch import nn

import unigrid
from unigrid.training import Protocol
from unigrid.training.data.datasets import ImageData, Split
from unigrid.training.images import loop
from unigrid.training.runs import checkpoint, devices
from unigrid.training.runs.devices import bfloat16_pays, compiling_pays, device_named

CPU = torch.device("cpu")


@pytest.fixture
def gpus(monkeypatch):
    """gpus(2): torch finds two of them. gpus(0): none."""

    def found(count):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)

    return found


def test_auto_takes_a_gpu_where_there_is_one(gpus):
    gpus(0)
    assert device_named("auto") == CPU
    gpus(1)
    assert device_named("auto").type == "cuda"


def test_devices_by_name_and_as_they_are(gpus):
    gpus(2)
    assert device_named("cpu") == device_named(CPU) == CPU
    assert device_named("cuda") == torch.device("cuda")
    assert device_named("cuda:1") == torch.device("cuda", 1)


@pytest.mark.parametrize("name", ["cuda", "cuda:0", torch.device("cuda")])
def test_a_gpu_that_is_not_there(gpus, monkeypatch, name):
    gpus(0)
    monkeypatch.setattr(torch.version, "cuda", None)
    with pytest.raises(ValueError, match=r"no GPU is there \(torch .* is a build without CUDA\); take device='cpu' or 'auto'"):
        device_named(name)
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    with pytest.raises(ValueError, match=rf"device '{name}': .* is built for CUDA, but finds no GPU"):
        device_named(name)


def test_a_gpu_beyond_the_last(gpus):
    gpus(2)
    with pytest.raises(ValueError, match="device 'cuda:2': there are 2 GPUs, counted from 0"):
        device_named("cuda:2")


def test_apples_device(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert device_named("mps").type == "mps"
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(ValueError, match=r"device 'mps': torch .* finds no such device here; take 'cpu' or 'auto'"):
        device_named("mps")


@pytest.mark.parametrize("name", ["gpu", "cpuu", "", "cuda:x"])
def test_an_unknown_device(name):
    with pytest.raises(
        ValueError, match=f"unknown device '{name}'; allowed: auto, cpu, cuda, cuda:0, cuda:1, ..., mps"
    ) as error:
        device_named(name)
    assert "\n" not in str(error.value)


@pytest.fixture
def machine(monkeypatch):
    """machine("linux", ["g++"]): the system, and the compilers that it has."""

    def found(platform, compilers):
        monkeypatch.setattr(sys, "platform", platform)
        monkeypatch.setattr(shutil, "which", lambda name: name if name in compilers else None)

    return found


@pytest.mark.parametrize("compiler", ["c++", "g++", "clang++"])
def test_compiling_pays_on_a_cpu_for_long_runs_alone(machine, compiler):
    machine("linux", [compiler])
    enough = devices.COMPILE_FROM
    assert enough > 100_000, "half a minute of compiling is half a minute of training"
    assert compiling_pays(CPU, enough)
    assert not compiling_pays(CPU, enough - 1)


@pytest.mark.parametrize(
    ("platform", "compilers"), [("linux", []), ("linux", ["gfortran"]), ("darwin", ["clang++"]), ("win32", ["g++"])]
)
def test_without_a_compiler_or_elsewhere_nothing_is_compiled_on_the_cpu(machine, platform, compilers):
    machine(platform, compilers)
    assert not compiling_pays(CPU, 10**9)


def test_compiling_pays_on_a_gpu_where_triton_exists(machine):
    machine("linux", [])
    assert compiling_pays(torch.device("cuda"), 1)
    machine("win32", ["g++"])
    assert not compiling_pays(torch.device("cuda"), 10**9)


def test_nothing_is_compiled_for_apples_device(machine):
    machine("linux", ["g++"])
    assert not compiling_pays(torch.device("mps"), 10**9)


@pytest.mark.parametrize(("tiles", "vectors"), [(True, False), (False, True), (False, False)])
def test_bfloat16_pays_on_a_cpu_with_instructions_for_it(monkeypatch, tiles, vectors):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: tiles, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: vectors, raising=False)
    assert bfloat16_pays(CPU) == (tiles or vectors)
    assert not bfloat16_pays(torch.device("mps"))


def test_bfloat16_does_not_pay_where_torch_cannot_tell(monkeypatch):
    for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"):
        monkeypatch.delattr(torch.cpu, name, raising=False)
    assert not bfloat16_pays(CPU)


@pytest.mark.parametrize("there", [True, False])
def test_bfloat16_on_a_gpu_is_asked_without_emulation(monkeypatch, there):
    asked = []
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **how: asked.append(how) or there)
    assert bfloat16_pays(torch.device("cuda")) is there
    assert asked == [{"including_emulation": False}]


# compiling in a run

PLAIN = Protocol("plain", 2, batch_size=8)


def make_net():
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
    )


def train(model, count, protocol, **choices):
    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.integers(256, size=(count, 3, 8, 8), dtype=np.uint8))
    split = Split(images, torch.arange(count) % 3)
    data = ImageData("custom", split, split, ("a", "b", "c"), (0.4,) * 3, (0.25,) * 3)
    return unigrid.train(data, model, protocol, device="cpu", progress=False, **choices)


def last_state(folder):
    return checkpoint.latest(folder).state


class Behind(nn.Module):
    """Stands in for a compiled network."""

    def __init__(self, inner):
        super().__init__()
        self.inner, self.calls = inner, 0

    def forward(self, images):
        self.calls += 1
        return self.inner(images)


@pytest.mark.parametrize(("accelerated", "pays"), [(True, True), (True, False), (False, True)])
def test_a_network_is_compiled_where_that_pays_and_the_protocol_accelerates(tmp_path, monkeypatch, accelerated, pays):
    asked, made = [], []
    monkeypatch.setattr(loop, "compiling_pays", lambda device, images: asked.append((device.type, images)) or pays)
    monkeypatch.setattr(loop, "compiled", lambda model: made.append(Behind(model)) or made[-1])
    model = make_net()
    protocol = dataclasses.replace(PLAIN, accelerated=accelerated, drop_last=True)
    result = train(model, 30, protocol, out=tmp_path, epochs=3)
    assert asked == ([("cpu", 3 * 3 * 8)] if accelerated else [])
    assert [network.calls for network in made] == ([9] if accelerated and pays else [])
    assert set(last_state(tmp_path)["model"]) == set(make_net().state_dict())
    assert result.model is model
    assert model[0].weight.is_contiguous(memory_format=torch.channels_last) or not accelerated


@pytest.mark.slow
def test_checkpoints_of_a_compiled_network_have_the_bare_names(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "compiling_pays", lambda device, images: True)
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    protocol = dataclasses.replace(PLAIN, accelerated=True, average=0.9)
    result = train(nn.Sequential(nn.Flatten(), nn.Linear(192, 3)), 32, protocol, out=tmp_path, validation=8)
    names = {"1.weight", "1.bias"}
    state = last_state(tmp_path)
    assert set(state["model"]) == set(state["best_weights"]) == set(result.model.state_dict()) == names
    assert set(state["average"]) == {"1.weight", "1.bias"}
    assert set(checkpoint.load(tmp_path / "best.pt")["model"]) == names


def test_a_wrapped_network_is_saved_under_the_bare_names(tmp_path):
    result = train(nn.DataParallel(make_net()), 32, PLAIN, out=tmp_path)
    assert set(last_state(tmp_path)["model"]) == set(make_net().state_dict())
    assert isinstance(result.model, nn.DataParallel)
