"""Fixtures for equivalences: torch, one thread, and networks in which every number matters."""

from importlib.util import find_spec

import pytest

collect_ignore_glob = [] if find_spec("torch") else ["test_*.py"]


@pytest.fixture(autouse=True)
def seeded():
    """Seed torch; one thread, for the networks here are tiny."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(5)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def randomized():
    """randomized(network) -> the network in float64, in eval mode, with nothing left at 0 or 1."""
    from unigrid.equivalence.claims.networks import random_network

    return lambda network: random_network(lambda: network).eval()
