"""The processes that train one network together: one alone, or a group of `torch.distributed`, as torchrun starts them.

A step of training is the same step for any number of processes. Each computes a share of the batch, and the gradient of

    loss = sum over processes of fraction * mean over the share        fraction = weight of the share / weight of the batch

is what DistributedDataParallel makes of world * fraction * mean, as it averages over the `world` processes. Whatever else is
counted or decided is agreed on: sums are over all processes, a signal to one of them stops all, an error in one is raised in
all. The first process writes. For one process alone, every operation here is the identity.

Source: S. Li et al., PyTorch distributed, VLDB 13 (2020), arXiv:2006.15704.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import re
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ...conv.weights import unwrap
from ...files import one_line
from ...machine import threads_of_process
from ...torchrun import has_agent_store, local_rank, rank_of_several
from .devices import device_named

T = TypeVar("T")
BROKEN = re.compile(r"gloo|nccl|connection (closed|reset|refused)|broken pipe", re.IGNORECASE)
# Threads of gloo need the interpreter's lock once more after the last message, to free its tensor. Waited for by a destructor
# that holds the lock, such as that of a DistributedDataParallel, they would wait forever, and the end of Python aborts them.
IDLE = 0.05  # seconds
PORT, PATIENCE = "unigrid-port", 300  # a key of torchrun's store; seconds
AGREED = "raised in all processes of the group"


@dataclass(frozen=True)
class Processes:
    """One process, alone."""

    rank: int = 0
    world: int = 1
    overlap: int = 0  # images of a share that belong to the one before, and are there to be mixed with

    @property
    def is_writer(self) -> bool:
        """Whether this is the process that writes files, progress and messages."""
        return self.rank == 0

    def span(self, count: int) -> tuple[int, int]:
        """Return the range of this process among `count` entries; the ranges of two differ by one at most in length."""
        return count * self.rank // self.world, count * (self.rank + 1) // self.world

    def share(self, batch: Tensor, overlap: int = 0) -> Tensor:
        """Return this process's part of a batch, and before it the last `overlap` entries of the part before, cyclically."""
        return batch

    def total(self, values: Tensor) -> Tensor:
        """Return the sum over all processes."""
        return values

    def whole(self, rows: Tensor, count: int) -> Tensor:
        """Return all of `count` rows, of which every process passes those of its span."""
        return rows

    def any(self, here: bool) -> bool:
        """Whether it is so in any process."""
        return here

    def gathered(self, value: T) -> list[T]:
        """Return the values of all processes, which are sent as pickles."""
        return [value]

    def together(self, call: Callable[[], T]) -> T:
        """Return what a call returns in this process; an exception in any of them is raised in all."""
        return call()

    def by_writer(self, call: Callable[[], T]) -> T:
        """Return what a call returns that the writer alone makes, or raise what it raises."""
        return call()

    def first_on_machine(self, call: Callable[[], T]) -> T:
        """Return what a call returns, which one process of each machine makes before the others: they find what it stored."""
        return call()

    def device(self, name: str | torch.device) -> torch.device:
        """Return the device of this process, as `device_named`: of several GPUs, one each."""
        return device_named(name)

    def parallel(self, model: nn.Module) -> nn.Module:
        """Return the model to be trained, whose gradients are means over the processes, and its weights those of the writer."""
        return model

    def equalize(self, model: nn.Module) -> None:
        """Take over what the batch norms of the writer have counted."""

    def lost(self, error: RuntimeError) -> bool:
        """Whether it is the error with which torch reports that another process is gone."""
        return False


ALONE = Processes()


@dataclass(frozen=True)
class ProcessGroup(Processes):
    """The processes of the group of `torch.distributed`."""

    control: Any = None  # a group of gloo, for what is on the CPU

    def share(self, batch: Tensor, overlap: int = 0) -> Tensor:
        start, stop = self.span(len(batch))
        return batch[torch.arange(start - overlap, stop, device=batch.device) % len(batch)]

    def total(self, values: Tensor) -> Tensor:
        values = values.clone()
        dist.all_reduce(values, group=self._of(values))
        return values

    def whole(self, rows: Tensor, count: int) -> Tensor:
        start, stop = self.span(count)
        every = rows.new_zeros(count, *rows.shape[1:])
        every[start:stop] = rows[: stop - start]
        return self.total(every)

    def any(self, here: bool) -> bool:
        return bool(self.total(torch.tensor(int(here))))

    def gathered(self, value: T) -> list[T]:
        values: list[Any] = [None] * self.world
        dist.all_gather_object(values, value, group=self.control)
        return values

    def together(self, call: Callable[[], T]) -> T:
        result, error = None, None
        try:
            result = call()
        except Exception as failure:
            error = failure
        errors = self.gathered(None if error is None else _sendable(error, self.rank))
        raised = error or next((each for each in errors if each is not None), None)
        if raised is not None:
            raised.add_note(AGREED)
            raise raised
        return result  # type: ignore[return-value]

    def by_writer(self, call: Callable[[], T]) -> T:
        box = [self.together(lambda: call() if self.is_writer else None)]
        dist.broadcast_object_list(box, src=0, group=self.control)
        return box[0]  # type: ignore[return-value]

    def first_on_machine(self, call: Callable[[], T]) -> T:
        number = local_rank()
        first = (self.rank if number is None else number) == 0
        result = self.together(lambda: call() if first else None)
        return self.together(lambda: result if first else call())  # type: ignore[return-value]

    def device(self, name: str | torch.device) -> torch.device:
        place = self.together(lambda: _own_device(device_named(name)))
        users = self.gathered((socket.gethostname(), str(place)))
        if place.type == "cuda" and len(set(users)) < len(users):
            raise ValueError(
                f"several of the {self.world} processes would share {place}; take device 'cuda' or 'auto', and start as many "
                f"processes as there are GPUs, {torch.cuda.device_count()} on this machine (--nproc-per-node)"
            )
        return place

    def parallel(self, model: nn.Module) -> nn.Module:
        if isinstance(model, DistributedDataParallel):  # with options of its owner, such as find_unused_parameters
            return model
        bare = unwrap(model)
        return DistributedDataParallel(bare, process_group=self._of(next(bare.parameters())))

    def equalize(self, model: nn.Module) -> None:
        for buffer in model.buffers():
            dist.broadcast(buffer, src=0, group=self._of(buffer))

    def lost(self, error: RuntimeError) -> bool:
        named = isinstance(error, dist.DistError) or BROKEN.search(str(error)) is not None
        return named and not isinstance(error, torch.OutOfMemoryError)

    def _of(self, values: Tensor) -> Any:
        return self.control if values.device.type == "cpu" else None


@contextlib.contextmanager
def joined() -> Iterator[Processes]:
    """Yield the processes that train together: those of the process group, which is made where torchrun has started several.

    A group of the user's own stays; its backend is gloo or nccl. One made here has both, and ends with the context. Meanwhile,
    torch has the cores of the machine divided among its processes, in place of the one thread that torchrun sets, or as many
    threads as UNIGRID_NUM_THREADS or OMP_NUM_THREADS name.
    """
    if dist.is_available() and dist.is_initialized():
        yield _group()
    elif rank_of_several() is not None:
        threads = torch.get_num_threads()
        torch.set_num_threads(threads_of_process(threads))
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        store, rank, world = _meeting_place()
        dist.init_process_group(backend, store=store, rank=rank, world_size=world)
        try:
            yield _group()
        finally:
            time.sleep(IDLE)
            dist.destroy_process_group()
            _groups.clear()
            torch.set_num_threads(threads)
    else:
        yield ALONE


def _meeting_place() -> tuple[Any, int, int]:
    """Return a new store in which these processes find each other, the number of this one, and how many they are.

    In that of torchrun, processes after a restart find the addresses of those before it (torch 2.13, every rendezvous). The
    first process makes a store each time; its port in torchrun's may be an old one, at which nobody listens any more.
    """
    from torch.distributed.rendezvous import rendezvous  # not in every build of torch

    known, rank, world = next(rendezvous("env://"))  # type: ignore[no-untyped-call]
    if not has_agent_store():
        return known, rank, world
    host, late = os.environ["MASTER_ADDR"], time.monotonic() + PATIENCE
    if rank == 0:
        store = dist.TCPStore(host, 0, world, is_master=True, wait_for_workers=False)  # type: ignore[attr-defined]
        known.set(PORT, str(store.port))
        return store, rank, world
    while True:
        port = int(known.get(PORT))
        try:
            socket.create_connection((host, port), timeout=5).close()
        except OSError:
            if time.monotonic() > late:
                raise
            time.sleep(0.05)
        else:
            return dist.TCPStore(host, port, world, is_master=False), rank, world  # type: ignore[attr-defined]


_groups: list[Any] = []  # the last group, and that of gloo made beside it


def _group() -> ProcessGroup:
    if not _groups or _groups[0] is not dist.group.WORLD:
        _groups[:] = dist.group.WORLD, dist.new_group(backend="gloo")
    return ProcessGroup(dist.get_rank(), dist.get_world_size(), 1, _groups[1])


def is_shown_elsewhere(error: BaseException) -> bool:
    """Whether an error is raised in all processes, of which another one shows it."""
    return bool(rank_of_several()) and AGREED in getattr(error, "__notes__", ())


def _own_device(place: torch.device) -> torch.device:
    """Return the GPU of this process where any would do. Raises ValueError where there are fewer than processes."""
    if place.type != "cuda" or place.index is not None:
        return place
    number = local_rank()
    return device_named(f"cuda:{torch.cuda.current_device() if number is None else number}")


def _sendable(error: Exception, rank: int) -> Exception:
    """Return an error as other processes can raise it, with the process in its text if it is not the first."""
    where = f"process {rank} on {socket.gethostname()}: " if rank else ""
    try:
        copied: Exception = pickle.loads(pickle.dumps(error))
    except Exception:  # an exception class of which pickle knows no more than its arguments
        copied = RuntimeError(f"{type(error).__name__}: {one_line(error)}")
    if where and copied.args:
        copied.args = (f"{where}{copied.args[0]}", *copied.args[1:])
    return copied
