"""Parts of training in several processes, one by one, in one process."""

import copy

import pytest
import torch
from torch import nn

from unigrid import machine, torchrun
from unigrid.stencil.kernels.cpu import threads
from unigrid.training import Protocol
from unigrid.training.images import loss
from unigrid.training.images.setup import check_shares
from unigrid.training.images.synchronized import synchronized
from unigrid.training.runs import folders, logs
from unigrid.training.runs.processes import AGREED, ALONE, Processes, ProcessGroup, is_shown_elsewhere
from unigrid.training.runs.randomness import Streams

CPU = torch.device("cpu")


@pytest.mark.parametrize("count", [8, 7, 2, 1])
@pytest.mark.parametrize("world", [1, 2, 3, 5])
def test_shares_are_the_batch(count, world):
    batch = torch.arange(10, 10 + count)
    shares = [ProcessGroup(rank, world).share(batch) for rank in range(world)]
    assert torch.equal(torch.cat(shares), batch)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    before = [ProcessGroup(rank, world).share(batch, 1)[:-1] for rank in range(world)]
    assert torch.equal(torch.cat([each for each, share in zip(before, shares, strict=True) if len(share)]), batch.roll(1))
    assert ALONE.share(batch) is batch


@pytest.mark.parametrize("weights", [None, torch.tensor([1.0, 2.0, 5.0], dtype=torch.float64)])
@pytest.mark.parametrize("mixed", [False, True])
def test_losses_of_shares_add_up_to_that_of_the_batch(weights, mixed):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(7, 3, generator=generator, dtype=torch.float64)
    labels, every = torch.arange(7) % 3, torch.rand(7, generator=generator, dtype=torch.float64) if mixed else None
    wanted = loss.mixed_cross_entropy(logits, labels, every, weights, 0.1)
    total = 0
    for rank in range(3):
        group = ProcessGroup(rank, 3)
        own, shares = group.share(labels, int(mixed)), None if every is None else group.share(every)
        part = loss.total_weight(own, shares, weights).double() / loss.total_weight(labels, every, weights)
        total += part * loss.mixed_cross_entropy(group.share(logits), own, shares, weights, 0.1)
    torch.testing.assert_close(total, wanted, rtol=0, atol=1e-15)


class Twins(Processes):
    """One of two processes of which the other has the same values."""

    def whole(self, rows, count):
        return rows.repeat(2, 1)

    def total(self, values):
        return 2 * values


@pytest.mark.parametrize(
    ("norm", "shape"),
    [
        (nn.BatchNorm1d(3), (4, 3)),
        (nn.BatchNorm1d(3, affine=False), (4, 3, 5)),
        (nn.BatchNorm2d(3, momentum=None), (4, 3, 5, 2)),
        (nn.BatchNorm2d(3, track_running_stats=False), (1, 3, 1, 1)),
        (nn.BatchNorm3d(3, eps=0.1, momentum=0.3), (2, 3, 2, 2, 2)),
    ],
)
def test_synchronized_norms_are_those_of_the_batch_of_all(norm, shape):
    generator = torch.Generator().manual_seed(1)
    values, weights = (torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2))
    norm = norm.double()
    for parameter in norm.parameters():
        nn.init.uniform_(parameter, 0.5, 2, generator=generator)
    whole = copy.deepcopy(norm)
    one, all_ = values.clone().requires_grad_(), torch.cat([values, values]).requires_grad_()
    for _ in range(2):
        wanted = whole(all_)
        with synchronized(norm, Twins(world=2)):
            found = norm(one)
        assert type(norm) is type(whole)
        torch.testing.assert_close(found, wanted[: len(values)], rtol=0, atol=1e-12)
    (found * weights).sum().backward()
    (wanted * torch.cat([weights, weights])).sum().backward()
    torch.testing.assert_close(one.grad, all_.grad[: len(values)], rtol=0, atol=1e-12)
    for parameter, other in zip(norm.parameters(), whole.parameters(), strict=True):  # its gradients are added up by DDP
        torch.testing.assert_close(2 * parameter.grad, other.grad, rtol=0, atol=1e-12)
    for name, value in whole.named_buffers():
        torch.testing.assert_close(norm.get_buffer(name), value, rtol=0, atol=1e-12)
    norm.eval(), whole.eval()
    with synchronized(norm, Twins(world=2)):
        torch.testing.assert_close(norm(torch.cat([values, values])), whole(torch.cat([values, values])), rtol=0, atol=1e-12)


def test_synchronized_norms_keep_the_digits_of_a_small_variance():
    values = 1000 + torch.randn(64, 1, 4, 4, generator=torch.Generator().manual_seed(2))
    norm = nn.BatchNorm2d(1)
    with synchronized(norm, Twins(world=2)):
        found = norm(values)
    exact = values.double()
    wanted = (exact - exact.mean()) / (exact.var(correction=0) + norm.eps).sqrt()
    torch.testing.assert_close(found.double(), wanted, rtol=0, atol=5e-4)  # from sums of squares: 0.1


@pytest.mark.parametrize(
    ("images", "choices", "world", "words"),
    [
        (16, {}, 4, None),
        (16, {}, 5, "epoch: 8, too few for 5 processes, each needs 2"),
        (19, {}, 2, "epoch: 3, too few for 2 processes, each needs 2"),
        (19, {}, 1, None),
        (17, {}, 4, None),  # a last batch of one image is left out anyway
        (19, {"drop_last": True}, 4, None),
        (19, {"sync_batch_norm": True}, 3, None),
        (19, {"sync_batch_norm": True}, 4, "each needs 1; take fewer processes, another batch size, at least 4"),
    ],
)
def test_batches_that_are_too_small(images, choices, world, words):
    protocol = Protocol("plain", 1, batch_size=8).with_choices(**choices)
    if words is None:
        check_shares(nn.BatchNorm2d(3), images, protocol, Processes(world=world))
        return
    with pytest.raises(ValueError, match=words):
        check_shares(nn.BatchNorm2d(3), images, protocol, Processes(world=world))


def test_without_norms_one_image_is_enough():
    check_shares(nn.Linear(3, 3), 20, Protocol("plain", 1, batch_size=8), Processes(world=4))


def test_processes_draw_numbers_of_their_own():
    numbers = {}
    for rank, step in ((0, 0), (0, 5), (1, 0), (1, 5), (2, 0)):
        streams = Streams(3, CPU)
        streams.branch(rank, step)
        with streams.in_place():
            numbers[rank, step] = torch.rand(3).tolist()
    assert numbers[0, 0] == numbers[0, 5] == torch.rand(3, generator=torch.Generator().manual_seed(3)).tolist()
    assert len({tuple(each) for each in numbers.values()}) == 4


@pytest.fixture
def started(monkeypatch):
    """started(**values): environment variables as torchrun sets them."""

    def start(**values):
        given = {
            "RANK": 1, "LOCAL_RANK": 1, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "GROUP_WORLD_SIZE": 1, "MASTER_ADDR": "host",
            "MASTER_PORT": 1, "TORCHELASTIC_RUN_ID": "none", "TORCHELASTIC_RESTART_COUNT": 0,
            "TORCHELASTIC_ERROR_FILE": "logs/none_a/attempt_0/1/error.json", **values,
        }  # fmt: skip
        for name, value in given.items():
            monkeypatch.setenv(name, str(value))

    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "TORCHELASTIC_RUN_ID", "TORCHELASTIC_ERROR_FILE"):
        monkeypatch.delenv(name, raising=False)
    return start


def test_what_torchrun_tells(started):
    assert (torchrun.rank_of_several(), torchrun.local_rank(), torchrun.attempt(), torchrun.command()) == (
        None,
        None,
        None,
        ["unigrid"],
    )
    started()
    assert (torchrun.rank_of_several(), torchrun.local_rank()) == (1, 1)
    assert torchrun.command() == ["torchrun", "--nproc-per-node=2", "-m", "unigrid"]
    started(GROUP_WORLD_SIZE=3)
    assert torchrun.command() == ["torchrun", "--nnodes=3", "...", "--nproc-per-node=2", "-m", "unigrid"]
    started(WORLD_SIZE=1, RANK=0, TORCHELASTIC_RESTART_COUNT=2, GROUP_WORLD_SIZE=2)
    assert torchrun.rank_of_several() is None


def test_cores_are_divided_among_the_processes_of_a_machine(started, monkeypatch):
    monkeypatch.setattr(machine, "usable_cores", lambda: 7)
    monkeypatch.delenv(threads.ENVIRONMENT_VARIABLE, raising=False)
    assert machine.cores_of_process() == threads._default_threads() == 7
    for processes, cores in ((2, 3), (7, 1), (9, 1)):
        started(LOCAL_WORLD_SIZE=processes)
        assert machine.cores_of_process() == threads._default_threads() == cores
    for openmp, processes, wanted in (("1", 2, 3), ("2", 2, 8), ("1", 1, 8)):  # torchrun sets 1 for several processes alone
        started(LOCAL_WORLD_SIZE=processes)
        monkeypatch.setenv("OMP_NUM_THREADS", openmp)
        assert machine.threads_of_process(8) == wanted
    monkeypatch.setenv(threads.ENVIRONMENT_VARIABLE, "5")
    assert threads._default_threads() == machine.threads_of_process(8) == 5


def test_only_a_restart_by_the_same_torchrun_goes_on_unasked(started, tmp_path):
    def again(restarts, name):
        started(TORCHELASTIC_RESTART_COUNT=restarts, TORCHELASTIC_ERROR_FILE=f"logs/{name}/attempt_{restarts}/0/error.json")
        return folders.is_restarted(tmp_path)

    assert not folders.is_restarted(tmp_path)
    logs.write_run_facts(tmp_path, {})
    assert not again(1, "none_a")  # the run was not started by torchrun
    logs.write_run_facts(tmp_path, {})
    assert not again(1, "none_a")  # by the same process
    assert again(2, "none_a")
    assert not again(2, "none_b")
    assert not folders.is_restarted(None)
    (tmp_path / logs.FACTS).write_text("{}")
    assert not again(3, "none_a")


def test_an_error_of_all_is_shown_once(started):
    error = ValueError("x")
    error.add_note(AGREED)
    assert not is_shown_elsewhere(error)
    started()
    assert is_shown_elsewhere(error)
    assert not is_shown_elsewhere(ValueError("x"))
    started(RANK=0)
    assert not is_shown_elsewhere(error)
