"""Weights in safetensors files: names without wrappers, values bit by bit, and what is said of what does not fit."""

import json
import struct
import sys

import numpy as np
import pytest
import torch
from torch import nn

from unigrid.conv.weights import clean_state_dict, load_clean_state_dict, load_weights, save_weights, unwrap
from unigrid.files import FileError

KEYS = [
    "0.weight",
    "0.bias",
    "1.weight",
    "1.bias",
    "1.running_mean",
    "1.running_var",
    "1.num_batches_tracked",
    "3.weight",
    "3.bias",
]


def make_model(seed=0, classes=4):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.Flatten(), nn.Linear(20, classes))
    model[1].running_mean.normal_()
    model[1].num_batches_tracked.fill_(seed + 7)
    return model


def compiled(module):
    return torch.compile(module, backend="eager")  # compiles nothing before it is called


class Distributed(nn.parallel.DistributedDataParallel):
    """DistributedDataParallel without a process group: it holds the module as the real one does."""

    def __init__(self, module):
        nn.Module.__init__(self)
        self.module = module


WRAPPERS = {
    "bare": lambda model: model,
    "compiled": compiled,
    "parallel": nn.DataParallel,
    "distributed": Distributed,
    "compiled parallel": lambda model: compiled(nn.DataParallel(model)),
    "distributed compiled": lambda model: Distributed(compiled(model)),
    "three deep": lambda model: compiled(Distributed(compiled(model))),
}


def bits(tensor):
    return tensor.detach().contiguous().flatten().view(torch.uint8).numpy().tobytes()


def assert_same(first, second):
    assert list(first) == list(second)
    for key, value in first.items():
        assert (value.dtype, value.shape) == (second[key].dtype, second[key].shape)
        assert bits(value) == bits(second[key]), key


def read_by_hand(path):
    """The safetensors format, from its description: 8 bytes of length, a JSON header, the numbers."""
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    return header.pop("__metadata__", None), header, content[8 + length :]


def one_line(error):
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_wrappers_leave_no_trace_in_the_names(wrapper):
    model = make_model()
    wrapped = WRAPPERS[wrapper](model)
    assert unwrap(wrapped) is model
    assert list(clean_state_dict(wrapped)) == KEYS
    for key, value in clean_state_dict(wrapped).items():
        assert value.data_ptr() == model.state_dict()[key].data_ptr()


def test_parts_compiled_on_their_own_have_clean_names_too():
    model = make_model()
    clean = list(model.state_dict())
    model[0] = compiled(model[0])
    model[3] = nn.DataParallel(compiled(model[3]))
    assert "3.module._orig_mod.weight" in model.state_dict()
    assert sorted(clean_state_dict(compiled(model))) == sorted(clean)
    assert unwrap(nn.DataParallel(model)) is model
    load_clean_state_dict(compiled(model), make_model(seed=1).state_dict())
    assert bits(model[3].module.weight) == bits(make_model(seed=1)[3].weight)


class Named(nn.Module):
    """A user's module with submodules of unlucky names."""

    def __init__(self):
        super().__init__()
        self.module = nn.Linear(2, 3)
        self._orig_mod = nn.Sequential(nn.Linear(3, 2))
        self.rest = nn.ModuleDict({"module": nn.Linear(1, 1)})


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_submodules_that_are_called_like_wrappers_keep_their_names(wrapper):
    model = Named()
    wanted = {f"{name}.{kind}" for name in ("module", "_orig_mod.0", "rest.module") for kind in ("weight", "bias")}
    assert unwrap(WRAPPERS[wrapper](model)) is model
    assert set(clean_state_dict(WRAPPERS[wrapper](model))) == wanted


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_what_is_saved_is_loaded_bit_by_bit(tmp_path, dtype, memory_format):
    model = make_model().to(dtype=dtype, memory_format=memory_format)
    save_weights(model, tmp_path / "model.safetensors")
    other = make_model(seed=1).to(dtype=dtype, memory_format=memory_format)
    load_weights(other, tmp_path / "model.safetensors")
    assert_same(model.state_dict(), other.state_dict())
    assert other[0].weight.is_contiguous(memory_format=memory_format)
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.safetensors"]


@pytest.mark.parametrize("kept", [torch.complex64, torch.complex128])
@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
def test_complex_weights_are_saved_and_loaded(tmp_path, dtype, kept):
    torch.manual_seed(0)
    model, other = nn.Linear(3, 2, dtype=dtype), nn.Linear(3, 2, dtype=kept)
    with torch.no_grad():
        model.weight.copy_(model.weight.conj())
    save_weights(model, tmp_path / "w.safetensors")
    load_weights(other, tmp_path / "w.safetensors")
    for name, value in model.state_dict().items():
        assert torch.equal(other.state_dict()[name], value.to(kept))


def test_the_file_has_the_documented_format(tmp_path):
    model = make_model().to(memory_format=torch.channels_last)
    save_weights(compiled(model), tmp_path / "model.safetensors", {"model": "mgnet", "classes": "4"})
    metadata, header, numbers = read_by_hand(tmp_path / "model.safetensors")
    assert metadata == {"model": "mgnet", "classes": "4"}
    assert sorted(header) == sorted(KEYS)
    assert header["1.num_batches_tracked"]["dtype"] == "I64"
    entry = header["0.weight"]
    assert (entry["dtype"], entry["shape"]) == ("F32", [5, 3, 3, 3])
    values = np.frombuffer(numbers[slice(*entry["data_offsets"])], "<f4").reshape(entry["shape"])
    assert np.array_equal(values, model[0].weight.detach().numpy())


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_weights_go_from_any_wrapper_into_any_other(tmp_path, wrapper):
    model = make_model()
    save_weights(WRAPPERS[wrapper](model), tmp_path / "model.safetensors", {"seed": "0"})
    for target in (lambda other: other, compiled, nn.DataParallel):
        other = make_model(seed=1)
        assert load_weights(target(other), tmp_path / "model.safetensors") == {"seed": "0"}
        assert_same(model.state_dict(), other.state_dict())
    other = make_model(seed=1)
    load_weights(WRAPPERS[wrapper](other), tmp_path / "model.safetensors")
    assert_same(model.state_dict(), other.state_dict())


def test_the_model_keeps_its_precision(tmp_path):
    save_weights(make_model().double(), tmp_path / "model.safetensors")
    other = make_model(seed=1)
    assert load_weights(other, tmp_path / "model.safetensors") == {}
    assert_same(make_model().state_dict(), other.state_dict())


def test_shared_and_sliced_tensors_are_written_whole(tmp_path):
    first, second = nn.Linear(3, 3), nn.Linear(3, 3)
    second.weight = first.weight
    flat = torch.arange(6.0)
    first.bias = nn.Parameter(flat[3:])
    save_weights(nn.ModuleList([first, second]), tmp_path / "tied.safetensors")
    other = nn.ModuleList([nn.Linear(3, 3), nn.Linear(3, 3)])
    load_weights(other, tmp_path / "tied.safetensors")
    assert torch.equal(other[0].weight, first.weight)
    assert torch.equal(other[1].weight, first.weight)
    assert other[0].bias.tolist() == [3, 4, 5]


def test_another_model_is_refused_name_by_name(tmp_path):
    save_weights(make_model(classes=10), tmp_path / "ten.safetensors")
    four = make_model(seed=1)
    before = {key: value.clone() for key, value in four.state_dict().items()}
    with pytest.raises(FileError) as error:
        load_weights(four, tmp_path / "ten.safetensors")
    text = one_line(error)
    assert text.startswith(f"{tmp_path / 'ten.safetensors'}: ")
    assert "2 of other shape: 3.weight came with shape (10, 20), wanted is (4, 20), 3.bias came with" in text
    assert "missing" not in text
    assert_same(before, four.state_dict())


def test_missing_and_unexpected_names_are_listed(tmp_path):
    save_weights(nn.ModuleDict({"a": nn.Linear(2, 2)}), tmp_path / "a.safetensors")
    model = nn.ModuleDict({"b": nn.Linear(2, 2, bias=False)})
    with pytest.raises(FileError, match=r"these 2 tensors do not fit the model's 1 ") as error:
        load_weights(model, tmp_path / "a.safetensors")
    assert one_line(error).endswith("1 missing: b.weight; 2 unexpected: a.bias, a.weight")


def test_of_many_names_some_are_listed(tmp_path):
    save_weights(nn.ModuleList([nn.Linear(1, 1, bias=False) for _ in range(40)]), tmp_path / "m.safetensors")
    with pytest.raises(FileError, match=r"40 unexpected: [0-9]+\.weight, .* and 35 more"):
        load_weights(nn.ReLU(), tmp_path / "m.safetensors")


def test_a_load_that_fits_in_all_but_the_last_name_changes_nothing():
    model = make_model()
    state = dict(make_model(seed=1).state_dict())
    del state["3.bias"]
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(ValueError, match=r"1 missing: 3\.bias"):
        load_clean_state_dict(model, state)
    assert_same(before, model.state_dict())


@pytest.mark.parametrize("kept", [0, 5, 8, 100, 600, -1])
def test_truncated_files_are_one_line(tmp_path, kept):
    path = tmp_path / "model.safetensors"
    save_weights(make_model(), path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(FileError, match="the file is empty" if kept == 0 else r"not a readable \.safetensors file") as error:
        load_weights(make_model(), path)
    assert one_line(error).startswith(str(path))


def test_files_that_are_not_there_or_something_else(tmp_path):
    save_weights(make_model(), tmp_path / "model.safetensors")
    (tmp_path / "text.safetensors").write_text("weights, you said?")
    for name, text in {
        "modle.safetensors": r"no such file; did you mean 'model\.safetensors'",
        "text.safetensors": "not a readable",
        ".": "is a directory",
    }.items():
        with pytest.raises(FileError, match=text) as error:
            load_weights(make_model(), tmp_path / name)
        one_line(error)
    for name, text in {
        "model.pt": r"unknown file ending '\.pt'; allowed: '\.safetensors'",
        "nowhere/model.safetensors": "there is no directory",
    }.items():
        with pytest.raises(FileError, match=text) as error:
            save_weights(make_model(), tmp_path / name)
        one_line(error)


def test_a_full_disk_leaves_the_old_weights(tmp_path, monkeypatch):
    path = tmp_path / "model.safetensors"
    save_weights(make_model(), path)
    before = path.read_bytes()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(FileError, match="No space left on device"):
        save_weights(make_model(seed=1), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_without_safetensors_the_error_names_the_command_that_installs_it(tmp_path, monkeypatch):
    save_weights(make_model(), tmp_path / "model.safetensors")
    for name in ("safetensors", "safetensors.torch"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r"pip install 'unigrid\[learn\]'"):
        save_weights(make_model(), tmp_path / "other.safetensors")
    with pytest.raises(ImportError, match=r"pip install 'unigrid\[learn\]'"):
        load_weights(make_model(), tmp_path / "model.safetensors")


def test_metadata_are_strings(tmp_path):
    with pytest.raises(TypeError, match=r"got 'epochs': 3; write str\(...\) around it"):
        save_weights(make_model(), tmp_path / "model.safetensors", {"epochs": 3})
    assert not list(tmp_path.iterdir())
