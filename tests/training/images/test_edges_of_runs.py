"""Ways in which a run ends, begins or goes on that once went wrong."""

import dataclasses
import math
import signal
import time

import pytest
import torch
from few_images import few_images
from torch import nn

import unigrid
from unigrid.training import Protocol, TrainingError
from unigrid.training.images import loop
from unigrid.training.runs import checkpoint

PLAIN = Protocol("plain", 2, batch_size=8, learning_rate=0.05)


def make_net():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
    )


def train(model=None, protocol=PLAIN, data=None, **choices):
    return unigrid.train(
        data or few_images(40, noise=100, spread=60), model or make_net(), protocol, device="cpu", progress=False, **choices
    )


@pytest.mark.parametrize(
    "wrap",
    [nn.DataParallel, pytest.param(lambda net: torch.compile(net, backend="eager"), marks=pytest.mark.slow)],
    ids=["parallel", "compiled"],
)
def test_a_wrapped_network_is_tested_with_the_weights_of_its_best_epoch(wrap):
    wrapped, bare = (train(net, validation=8).runs[0] for net in (wrap(make_net()), make_net()))
    assert wrapped.best_test.loss == bare.best_test.loss


def test_ctrl_c_between_the_look_at_the_loss_and_the_end_of_the_step(tmp_path, monkeypatch):
    real, calls = time.perf_counter, []

    def clock():
        calls.append(None)
        if len(calls) == 4:  # the second step has been counted, its loss not looked at
            signal.raise_signal(signal.SIGINT)
        return real()

    with monkeypatch.context() as patch:
        patch.setattr(loop.time, "perf_counter", clock)
        with pytest.raises(KeyboardInterrupt):
            train(out=tmp_path)
    resumed, straight = train(out=tmp_path, resume=True), train()
    assert resumed.history[0]["train_loss"] == straight.history[0]["train_loss"]


def test_ctrl_c_after_the_last_step_of_a_seed_ends_the_call():
    epochs = []

    def interrupt(row):
        epochs.append(row["epoch"])
        if len(epochs) == 2:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(seed=[0, 1], callback=interrupt)
    assert epochs == [1, 2]


def test_a_run_of_several_seeds_with_validation_is_that_of_the_seed_alone():
    config = unigrid.MgNetConfig(steps=(1,), features=3)
    several, single = train(config, seed=[0, 1], validation=8), train(config, seed=1, validation=8)
    assert several.runs[1].test.loss == single.runs[0].test.loss


def test_fewer_epochs_than_are_done_are_refused(tmp_path):
    train(out=tmp_path, epochs=4)
    with pytest.raises(ValueError, match=r"protocol\.epochs: 4 there, 2 now"):
        train(out=tmp_path, epochs=2, resume=True)


def test_a_run_without_a_folder_whose_last_step_breaks_the_weights_is_no_result():
    with pytest.raises(TrainingError):
        train(protocol=dataclasses.replace(PLAIN, momentum=0.0), learning_rate=1e38, epochs=1, batch_size=40)


def test_a_test_loss_that_is_not_finite_is_no_result(tmp_path):
    with pytest.raises(TrainingError):
        train(protocol=dataclasses.replace(PLAIN, momentum=0.0), learning_rate=1e38, epochs=1, batch_size=40, out=tmp_path)


@pytest.mark.parametrize(
    ("wrong", "right"), [("resum", "resume"), ("datadir", "data_dir"), ("sed", "seed"), ("validaton", "validation")]
)
def test_an_unknown_argument_is_answered_with_the_nearest_of_trains_own(wrong, right):
    with pytest.raises(TypeError, match=f"did you mean '{right}'"):
        train(**{wrong: 1})


@pytest.mark.parametrize(
    "field", ["flip", "nesterov", "scale_rate", "decay_norms", "mixed_precision", "accelerated", "drop_last", "test_flip"]
)
def test_a_field_that_is_true_or_false_takes_nothing_else(field):
    with pytest.raises(ValueError, match=f"{field} must be True or False, got 'no'"):
        PLAIN.with_choices(**{field: "no"})


@pytest.mark.parametrize("validation", [0.999, 1.5, 0.001])
def test_a_validation_share_that_leaves_nothing_or_is_no_whole_number_is_refused(validation):
    with pytest.raises(ValueError, match="validation must be"):
        train(validation=validation)


class Lost(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = make_net()

    def forward(self, images):
        return self.net(images) * (math.nan if self.training else 1)


def test_where_no_checkpoint_was_written_none_is_said_to_be_kept(tmp_path):
    with pytest.raises(TrainingError) as error:
        train(Lost(), out=tmp_path)
    assert checkpoint.latest(tmp_path) is None
    assert "is kept" not in str(error.value)


def test_a_last_batch_of_one_image_is_no_crash_in_the_middle_of_the_run():
    train("mgnet-4-Bl", data=few_images(41, noise=100, spread=60), epochs=1)


def test_a_refusal_of_other_shapes_names_the_folder(tmp_path):
    train(out=tmp_path)
    wider = nn.Sequential(
        nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 3)
    )
    with pytest.raises(ValueError, match="of other shape") as error:
        train(wider, out=tmp_path, resume=True)
    assert str(error.value).startswith(f"{tmp_path}")


def test_a_result_of_fewer_epochs_does_not_outlive_the_resumption(tmp_path):
    def stop(row):
        raise StopIteration

    train(out=tmp_path)
    train(out=tmp_path, epochs=4, resume=True, callback=stop)
    assert not (tmp_path / "result.json").exists()


def test_a_network_of_ones_own_starts_from_its_own_weights_and_the_record_says_so():
    model = make_net()
    before = {name: value.clone() for name, value in model.state_dict().items() if value.is_floating_point()}
    result = train(model, "paper", epochs=1, batch_size=8, learning_rate=1e-30)
    assert result.configuration["protocol"]["initialization"] == "own"
    for name, value in model.named_parameters():
        torch.testing.assert_close(value.detach(), before[name])


def test_an_error_within_a_network_of_ones_own_names_the_images(tmp_path):
    flat = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(5, 3))
    with pytest.raises(ValueError, match=r"the model fails on images \(n, 3, \d+, \d+\) of custom: mat1 and mat2"):
        train(flat, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
