"""A PoissonLayer in DistributedDataParallel, in two processes: gradients are the means over both."""

import subprocess
import sys

import pytest

torch = pytest.importorskip("torch")

import unigrid  # noqa: E402

WORKER = """
import sys, torch, unigrid
from torch.nn.parallel import DistributedDataParallel
rank, folder = int(sys.argv[1]), sys.argv[2]
torch.set_num_threads(1)
torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
given = torch.load(f"{folder}/given.pt")
start = 1.0 + rank  # those of the first process are sent to the other
layer = unigrid.PoissonLayer((9, 8), reaction=start, coefficient=start, learn_reaction=True, learn_coefficient=True, rtol=1e-12)
parallel = DistributedDataParallel(layer)
optimizer = torch.optim.SGD(parallel.parameters(), 1.0)
steps = []
for f in given:
    optimizer.zero_grad()
    parallel(f.chunk(2)[rank]).square().mean().backward()
    optimizer.step()
    steps.append([(each.grad.clone(), each.detach().clone()) for each in layer.parameters()])
torch.save(steps, f"{folder}/steps{rank}.pt")
torch.distributed.destroy_process_group()
"""


@pytest.mark.system
def test_two_processes_take_the_steps_of_one(tmp_path):
    given = torch.randn(3, 4, 9, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.save(list(given), tmp_path / "given.pt")
    commands = [[sys.executable, "-c", WORKER, str(rank), str(tmp_path)] for rank in range(2)]
    workers = [subprocess.Popen(each, stderr=subprocess.PIPE, text=True) for each in commands]
    try:
        errors = [each.communicate(timeout=120)[1] for each in workers]
    finally:
        for each in workers:
            each.kill()
    assert [each.returncode for each in workers] == [0, 0], errors
    layer = unigrid.PoissonLayer((9, 8), reaction=1.0, learn_reaction=True, learn_coefficient=True, rtol=1e-12)
    optimizer = torch.optim.SGD(layer.parameters(), 1.0)
    both = [torch.load(tmp_path / f"steps{rank}.pt") for rank in range(2)]
    for f, *steps in zip(given, *both, strict=True):
        optimizer.zero_grad()
        layer(f).square().mean().backward()
        optimizer.step()
        for own, *others in zip(layer.parameters(), *steps, strict=True):
            for grad, value in others:
                assert torch.allclose(grad, own.grad, rtol=1e-8, atol=0.0)
                assert torch.allclose(value, own, rtol=1e-8, atol=0.0)
