"""Fixtures for models: one thread, a seed, and models in which every number matters."""

import importlib.util
import zlib

import pytest

HAS_TORCH = importlib.util.find_spec("torch") is not None
collect_ignore_glob = [] if HAS_TORCH else ["test_*.py"]


def pytest_report_header():
    return None if HAS_TORCH else "tests/conv is left out: torch is not installed (pip install 'unigrid[learn]')"


@pytest.fixture(autouse=True)
def seeded(request):
    """Seed torch from the test's own name; one thread, for the models here are tiny."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(zlib.crc32(request.node.nodeid.encode()))
    yield
    torch.set_num_threads(before)


@pytest.fixture
def randomize():
    """randomize(model) -> the model, with nothing left at a value (0, 1) that would hide a mistake."""
    import torch

    @torch.no_grad()
    def change(model):
        for name, value in model.state_dict().items():
            if name.endswith("running_var"):
                value.uniform_(0.5, 1.5)
            elif not value.is_floating_point() or value.ndim > 1:  # counters; convolutions are random already
                continue
            elif name.endswith((".weight", ".scale", ".weights")):
                value.uniform_(0.5, 1.5)
            else:  # means, biases, logits
                value.normal_(std=0.3)
        torch.nn.init.normal_(model.head.weight)
        return model

    return change


@pytest.fixture
def narrow():
    """narrow(name, wide=False, **choices) -> a named model with few channels, from 4 or from 16 up, and all else as it is."""
    from unigrid.conv import named_model

    widths = {6: (6, 12), 16: (4, 16), 32: (4, 16), 64: (4, 16), 128: (6, 20), 256: (8, 24), 512: (10, 32)}

    def shrink(name, wide=False, **choices):
        config = named_model(name).config
        fields = {key: getattr(config, key) for key in config.__dataclass_fields__}
        for key in {"features", "data", "channels"} & fields.keys():
            if isinstance(fields[key], tuple):
                fields[key] = tuple(widths[width][wide] for width in fields[key])
            elif fields[key] is not None:
                fields[key] = widths[fields[key]][wide]
        return type(config)(**{**fields, **choices}).build()

    return shrink
