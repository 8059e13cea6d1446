"""Random numbers of a run: its own, whatever else draws; and the user's stay as they are."""

import contextlib
import random
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from few_images import few_images
from torch import nn

import unigrid
from unigrid.training import Protocol, load_trained
from unigrid.training.runs import checkpoint
from unigrid.training.runs.randomness import Streams, draws, undisturbed

CPU = torch.device("cpu")
PLAIN = Protocol("plain", 2, batch_size=8, learning_rate=0.05)


def drawn():
    """Numbers of every generator of the process. The odd counts leave a second normal number behind."""
    return [random.random(), random.gauss(0, 1), np.random.randn(3).tolist(), torch.rand(2).tolist(), torch.randn(1).item()]


@contextlib.contextmanager
def kept():
    """The generators of the process must be where they were. What they draw next is compared, not their states."""
    after = {}
    with undisturbed(CPU):
        random.seed(1)
        np.random.seed(1)
        torch.manual_seed(1)
        drawn()
        after["wanted"] = drawn()
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    drawn()
    yield
    assert drawn() == after["wanted"]


def test_streams_depend_on_the_seed_alone():
    for state in (3, 4):
        torch.manual_seed(state)
        np.random.seed(state)
        random.seed(state)
        with Streams(7, CPU).in_place():
            numbers = [random.random(), torch.rand(2).tolist(), np.random.random()]
        assert numbers[:2] == [random.Random(7).random(), torch.rand(2, generator=torch.Generator().manual_seed(7)).tolist()]
        assert numbers[2] == np.random.RandomState(np.random.MT19937(7)).random()
    with Streams(8, CPU).in_place():
        assert random.random() != numbers[0]


@pytest.mark.parametrize("error", [None, ZeroDivisionError, KeyboardInterrupt])
def test_the_users_generators_stay(error):
    streams = Streams(0, CPU)
    with kept(), contextlib.suppress(ZeroDivisionError, KeyboardInterrupt), streams.in_place():
        drawn()
        if error:
            raise error


def test_a_generator_of_another_kind_that_the_user_set_in_numpy_stays():
    bits = np.random.mtrand.get_bit_generator()
    own = np.random.PCG64(5)
    with undisturbed(CPU):
        np.random.set_bit_generator(own)
        wanted = np.random.Generator(np.random.PCG64(5)).bit_generator.random_raw(2).tolist()
        with Streams(0, CPU).in_place():
            first = np.random.random()
        assert np.random.mtrand.get_bit_generator() is own
        assert own.random_raw(2).tolist() == wanted
    assert np.random.mtrand.get_bit_generator() is bits
    with Streams(0, CPU).in_place():
        assert np.random.random() == first


def test_streams_go_on_in_pieces_and_from_a_checkpoint(tmp_path):
    whole, parts = Streams(0, CPU), Streams(0, CPU)
    with whole.in_place():
        wanted = [drawn() for _ in range(3)]
    with parts.in_place():
        numbers = [drawn()]
    drawn()
    with parts.in_place():
        numbers.append(drawn())
    restored = Streams(99, CPU)
    restored.restore(checkpoint.load(checkpoint.save(tmp_path, {"random": parts.plain()}, 1))["random"])
    with restored.in_place():
        numbers.append(drawn())
    assert numbers == wanted


class Own(nn.Conv2d):
    pass


@pytest.mark.parametrize("name", ["mgnet-4-Bl", "resnet18", "mgnet-64-Bl-V", "preact-resnet18", "mgnet-paper-256-pi0"])
def test_networks_of_the_package_draw_nothing(name):
    with torch.device("meta"):
        assert not draws(unigrid.create_model(name))


def test_what_may_draw_is_known():
    hooked = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    assert not draws(hooked)
    hooked[0].register_forward_hook(lambda *_: None)
    parts = (nn.Dropout2d(0.1), nn.RReLU(), nn.LSTM(3, 3), Own(3, 4, 3), nn.FractionalMaxPool2d(2, 3), nn.AlphaDropout(0.1))
    for network in (hooked, *(nn.Sequential(nn.Linear(3, 3), part) for part in parts)):
        assert draws(network)


class Noisy(nn.Module):
    """A network that draws from all generators of the process in every step."""

    def __init__(self):
        super().__init__()
        with undisturbed(CPU):
            torch.manual_seed(0)
            self.layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Dropout(0.4), nn.AdaptiveAvgPool2d(1), nn.Flatten())
            self.head = nn.Linear(4, 3)

    def forward(self, images):
        if self.training:
            images = images + 0.1 * torch.rand(1) + random.uniform(0, 0.1) + np.random.uniform(0, 0.1)
        return self.head(self.layers(images))


MODELS = {"by name": lambda: "mgnet-4-Bl", "configuration": lambda: unigrid.MgNetConfig(steps=(1,), features=3), "own": Noisy}


def train(model, **choices):
    data = few_images(40, noise=100, spread=60)
    return unigrid.train(data, MODELS[model](), PLAIN, device="cpu", progress=False, **choices)


def weights(result):
    return [value.clone() for value in result.model.state_dict().values()]


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.system
@pytest.mark.parametrize("model", MODELS)
def test_a_run_neither_changes_the_users_numbers_nor_depends_on_them(tmp_path, model):
    torch.manual_seed(5)
    with kept():
        result = train(model, out=tmp_path, validation=8)
    random.seed(9)
    np.random.seed(9)
    torch.manual_seed(9)
    assert same(weights(train(model, validation=8, callback=lambda row: drawn())), weights(result))
    if model != "own":
        with kept():
            load_trained(tmp_path, device="cpu")


@pytest.mark.system
@pytest.mark.parametrize("model", MODELS)
def test_runs_in_threads_are_those_of_their_seeds(one_thread, model):
    alone = [weights(train(model, seed=seed)) for seed in range(3)]
    together = threading.Barrier(3, timeout=60)

    def run(seed):
        torch.set_num_threads(1)
        return weights(train(model, seed=seed, callback=lambda row: together.wait()))  # all are in their loops at once

    with kept(), ThreadPoolExecutor(3) as pool:
        for one, other in zip(pool.map(run, range(3)), alone, strict=True):
            assert same(one, other)
    assert not same(alone[0], alone[1])


@pytest.mark.system
def test_a_network_that_draws_from_everywhere_goes_on_bit_for_bit(tmp_path):
    def stop(row):
        drawn()
        raise StopIteration

    whole = train("own", epochs=3, out=tmp_path / "whole")
    train("own", epochs=3, out=tmp_path / "parts", callback=stop)
    assert same(weights(train("own", epochs=3, out=tmp_path / "parts", resume=True)), weights(whole))
